//! Gaussian error linear units on flex.

use burn::backend::{
    Autodiff, Backend, Dispatch, Flex, TensorMetadata,
    autodiff::{
        checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
        grads::Gradients,
        ops::{Backward, Ops, OpsKind},
    },
    backend_extension,
    flex::FlexTensor,
    tensor::FloatTensor,
};
use burn::tensor::Tensor;

use super::{contiguous, output, slice};
use crate::kernel::gelu;

/// [`gelu`](crate::gelu()) on flex.
pub(crate) fn gelu(x: Tensor<2>) -> Tensor<2> {
    Tensor::from_dispatch(<Dispatch as Gelu>::gelu(x.into_dispatch()))
}

/// A backend with exact Gaussian error linear units.
#[backend_extension(Flex, Autodiff)]
pub trait Gelu: Backend {
    /// `x Phi(x)`.
    fn gelu(x: FloatTensor<Self>) -> FloatTensor<Self>;
}

impl Gelu for Flex {
    fn gelu(x: FlexTensor) -> FlexTensor {
        forward(&contiguous(x))
    }
}

impl<C: CheckpointStrategy> Gelu for Autodiff<Flex, C> {
    fn gelu(x: FloatTensor<Self>) -> FloatTensor<Self> {
        let prepared = GeluBackward.prepare::<C>([x.node()]).compute_bound().stateful();
        let x = contiguous(x.into_primitive());
        let out = forward(&x);
        match prepared {
            OpsKind::Tracked(prepared) => prepared.finish(x, out),
            OpsKind::UnTracked(prepared) => prepared.finish(out),
        }
    }
}

fn forward(x: &FlexTensor) -> FlexTensor {
    output(x.shape().dims::<2>(), |out| gelu::forward(slice(x), out))
}

#[derive(Debug)]
struct GeluBackward;

impl Backward<Flex, 1> for GeluBackward {
    type State = FlexTensor;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let mut grad = contiguous(grads.consume::<Flex>(&ops.node));
        if let [Some(node)] = ops.parents {
            gelu::backward(slice(&ops.state), grad.storage_mut());
            grads.register::<Flex>(node.id, grad);
        }
    }
}
