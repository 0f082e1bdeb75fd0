//! Dropout on flex.

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

use super::contiguous;
use crate::{dropout::Dropout, kernel::dropout};

/// [`dropout`](crate::dropout()) on flex.
pub(crate) fn dropout(x: Tensor<2>, drop: Dropout) -> Tensor<2> {
    Tensor::from_dispatch(<Dispatch as Drop>::dropout(x.into_dispatch(), drop))
}

/// A backend with dropout.
#[backend_extension(Flex, Autodiff)]
pub trait Drop: Backend {
    /// Drops elements and scales the others.
    fn dropout(x: FloatTensor<Self>, drop: Dropout) -> FloatTensor<Self>;
}

impl Drop for Flex {
    fn dropout(x: FlexTensor, drop: Dropout) -> FlexTensor {
        let [_, width] = x.shape().dims();
        let mut x = contiguous(x);
        dropout::apply(x.storage_mut(), width, &drop);
        x
    }
}

impl<C: CheckpointStrategy> Drop for Autodiff<Flex, C> {
    fn dropout(x: FloatTensor<Self>, drop: Dropout) -> FloatTensor<Self> {
        let prepared = DropBackward.prepare::<C>([x.node()]).compute_bound().stateful();
        let out = Flex::dropout(x.into_primitive(), drop);
        match prepared {
            OpsKind::Tracked(prepared) => prepared.finish(drop, out),
            OpsKind::UnTracked(prepared) => prepared.finish(out),
        }
    }
}

#[derive(Debug)]
struct DropBackward;

impl Backward<Flex, 1> for DropBackward {
    type State = Dropout;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<Flex>(&ops.node);
        if let [Some(node)] = ops.parents {
            grads.register::<Flex>(node.id, Flex::dropout(grad, ops.state));
        }
    }
}
