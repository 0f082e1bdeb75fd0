//! Rows of a table on flex.

use burn::backend::{
    Autodiff, Backend, Dispatch, Flex, TensorMetadata,
    autodiff::{
        checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
        grads::Gradients,
        ops::{Backward, Ops, OpsKind},
    },
    backend_extension,
    flex::FlexTensor,
    tensor::{FloatTensor, IntTensor},
};
use burn::tensor::{DType, Int, Tensor};

use super::{contiguous, output, slice};
use crate::kernel::embedding;

/// [`embedding`](crate::embedding()) on flex.
pub(crate) fn embedding(weight: Tensor<2>, ids: Tensor<1, Int>) -> Tensor<2> {
    Tensor::from_dispatch(<Dispatch as Embedding>::rows(
        weight.into_dispatch(),
        ids.into_dispatch(),
    ))
}

/// A backend with embeddings.
#[backend_extension(Flex, Autodiff)]
pub trait Embedding: Backend {
    /// The rows of `weight` at `ids`.
    fn rows(weight: FloatTensor<Self>, ids: IntTensor<Self>) -> FloatTensor<Self>;
}

impl Embedding for Flex {
    fn rows(weight: FlexTensor, ids: FlexTensor) -> FlexTensor {
        let weight = contiguous(weight);
        forward(&weight, &indices(&weight, ids))
    }
}

impl<C: CheckpointStrategy> Embedding for Autodiff<Flex, C> {
    fn rows(weight: FloatTensor<Self>, ids: IntTensor<Self>) -> FloatTensor<Self> {
        let prepared = EmbeddingBackward.prepare::<C>([weight.node()]).compute_bound().stateful();
        let weight = contiguous(weight.into_primitive());
        let ids = indices(&weight, ids);
        let out = forward(&weight, &ids);
        match prepared {
            OpsKind::Tracked(prepared) => prepared.finish((weight.shape().dims(), ids), out),
            OpsKind::UnTracked(prepared) => prepared.finish(out),
        }
    }
}

/// The ids, each of which is a row of `weight`.
fn indices(weight: &FlexTensor, ids: FlexTensor) -> Vec<usize> {
    let [rows, _] = weight.shape().dims();
    let ids = contiguous(ids);
    let ids: Vec<i64> = match ids.dtype() {
        DType::I64 => ids.as_slice::<i64>().map(<[i64]>::to_vec),
        _ => ids.as_slice::<i32>().map(|ids| ids.iter().map(|id| i64::from(*id)).collect()),
    }
    .expect("integers of 32 or 64 bits"); // INVARIANT: flex makes integer tensors of no other types by itself.
    ids.into_iter()
        .map(|id| match usize::try_from(id) {
            Ok(row) if row < rows => row,
            _ => panic!("embedding: the id {id} is no row of a table of {rows} rows"), // INVARIANT: checked against the vocabulary on loading
        })
        .collect()
}

fn forward(weight: &FlexTensor, ids: &[usize]) -> FlexTensor {
    let [_, width] = weight.shape().dims();
    output([ids.len(), width], |out| embedding::forward(slice(weight), ids, width, out))
}

#[derive(Debug)]
struct EmbeddingBackward;

impl Backward<Flex, 1> for EmbeddingBackward {
    type State = ([usize; 2], Vec<usize>);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = contiguous(grads.consume::<Flex>(&ops.node));
        let (shape @ [_, width], ids) = ops.state;
        if let [Some(node)] = ops.parents {
            let grad = output(shape, |out| embedding::backward(slice(&grad), &ids, width, out));
            grads.register::<Flex>(node.id, grad);
        }
    }
}
