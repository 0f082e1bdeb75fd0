//! The weighted sum of several tensors on flex, one of them at a time.

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

use super::{Optional, contiguous, output, slice};
use crate::kernel::mixture;

/// `sum + weights[index] x`.
pub(crate) fn add_scaled(
    sum: Option<Tensor<2>>,
    x: Tensor<2>,
    weights: Tensor<1>,
    index: usize,
) -> Tensor<2> {
    let (x, weights) = (x.into_dispatch(), weights.into_dispatch());
    Tensor::from_dispatch(<Dispatch as Mixture>::add_scaled(Optional::new(sum), x, weights, index))
}

/// A backend with weighted sums.
#[backend_extension(Flex, Autodiff)]
pub trait Mixture: Backend {
    /// `sum + weights[index] x`.
    fn add_scaled(
        #[extension_type] sum: Optional<Self>,
        x: FloatTensor<Self>,
        weights: FloatTensor<Self>,
        index: usize,
    ) -> FloatTensor<Self>;
}

impl Mixture for Flex {
    fn add_scaled(
        sum: Optional<Flex>,
        x: FlexTensor,
        weights: FlexTensor,
        index: usize,
    ) -> FlexTensor {
        let weights = contiguous(weights);
        forward(sum.into_option(), &contiguous(x), slice(&weights)[index])
    }
}

impl<C: CheckpointStrategy> Mixture for Autodiff<Flex, C> {
    fn add_scaled(
        sum: Optional<Self>,
        x: FloatTensor<Self>,
        weights: FloatTensor<Self>,
        index: usize,
    ) -> FloatTensor<Self> {
        let nodes = [sum.node(), x.node(), weights.node()];
        let prepared = MixtureBackward.prepare::<C>(nodes).compute_bound().stateful();
        let (x, weights) = (contiguous(x.into_primitive()), contiguous(weights.into_primitive()));
        let factor = slice(&weights)[index];
        let sum = sum.into_option().map(|sum| sum.into_primitive());
        let out = forward(sum, &x, factor);
        match prepared {
            OpsKind::Tracked(prepared) => {
                let [count] = weights.shape().dims();
                prepared.finish(State { x, factor, index, count }, out)
            }
            OpsKind::UnTracked(prepared) => prepared.finish(out),
        }
    }
}

fn forward(sum: Option<FlexTensor>, x: &FlexTensor, factor: f32) -> FlexTensor {
    let shape: [usize; 2] = x.shape().dims();
    let Some(sum) = sum else {
        return output(shape, |out| mixture::forward(false, factor, slice(x), out));
    };
    assert_eq!(sum.shape().dims(), shape, "mixture: the states must have one shape");
    let mut sum = contiguous(sum);
    mixture::forward(true, factor, slice(x), sum.storage_mut());
    sum
}

#[derive(Debug, Clone)]
struct State {
    x: FlexTensor,
    factor: f32,
    index: usize,
    /// The number of weights.
    count: usize,
}

#[derive(Debug)]
struct MixtureBackward;

impl Backward<Flex, 3> for MixtureBackward {
    type State = State;

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = contiguous(grads.consume::<Flex>(&ops.node));
        let State { x, factor, index, count } = ops.state;
        let [node_sum, node_x, node_weights] = ops.parents;
        let mut grad_factor = 0.0;
        let grad_x = output(x.shape().dims::<2>(), |grad_x| {
            grad_factor = mixture::backward(factor, slice(&x), slice(&grad), grad_x);
        });
        if let Some(node) = node_x {
            grads.register::<Flex>(node.id, grad_x);
        }
        if let Some(node) = node_weights {
            grads.register::<Flex>(node.id, output([count], |out| out[index] = grad_factor));
        }
        if let Some(node) = node_sum {
            grads.register::<Flex>(node.id, grad);
        }
    }
}
