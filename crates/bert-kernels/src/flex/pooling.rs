//! Pooling over the tokens of each sequence on flex.

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
use crate::{
    kernel::pooling::{self, Pass},
    sequences::Sequences,
};

/// [`softmax_pooling`](crate::softmax_pooling()) on flex.
pub(crate) fn softmax_pooling(x: Tensor<2>, scores: Tensor<2>, sequences: Sequences) -> Tensor<2> {
    let (x, scores) = (x.into_dispatch(), scores.into_dispatch());
    Tensor::from_dispatch(<Dispatch as Pooling>::softmax_pooling(x, scores, sequences))
}

/// A backend with pooling that is weighted by a softmax.
#[backend_extension(Flex, Autodiff)]
pub trait Pooling: Backend {
    /// For each sequence the sum of its rows of `x`, weighted by the softmax of its rows of `scores`.
    fn softmax_pooling(
        x: FloatTensor<Self>,
        scores: FloatTensor<Self>,
        sequences: Sequences,
    ) -> FloatTensor<Self>;
}

impl Pooling for Flex {
    fn softmax_pooling(x: FlexTensor, scores: FlexTensor, sequences: Sequences) -> FlexTensor {
        forward(&contiguous(x), &contiguous(scores), &sequences).0
    }
}

impl<C: CheckpointStrategy> Pooling for Autodiff<Flex, C> {
    fn softmax_pooling(
        x: FloatTensor<Self>,
        scores: FloatTensor<Self>,
        sequences: Sequences,
    ) -> FloatTensor<Self> {
        let nodes = [x.node(), scores.node()];
        let prepared = PoolingBackward.prepare::<C>(nodes).compute_bound().stateful();
        let (x, scores) = (contiguous(x.into_primitive()), contiguous(scores.into_primitive()));
        let (out, norms) = forward(&x, &scores, &sequences);
        match prepared {
            OpsKind::Tracked(prepared) => {
                prepared.finish(State { x, scores, out: out.clone(), norms, sequences }, out)
            }
            OpsKind::UnTracked(prepared) => prepared.finish(out),
        }
    }
}

/// The output, and what it was normalised with.
fn forward(x: &FlexTensor, scores: &FlexTensor, sequences: &Sequences) -> (FlexTensor, Vec<f32>) {
    let ([_, width], [_, columns]) = (x.shape().dims(), scores.shape().dims::<2>());
    let mut norms = vec![0.0; sequences.len() * 2 * columns];
    let out = output([sequences.len(), width], |out| {
        pooling::forward(sequences, [slice(x), slice(scores)], [out, &mut norms])
    });
    (out, norms)
}

#[derive(Debug, Clone)]
struct State {
    x: FlexTensor,
    scores: FlexTensor,
    out: FlexTensor,
    norms: Vec<f32>,
    sequences: Sequences,
}

#[derive(Debug)]
struct PoolingBackward;

impl Backward<Flex, 2> for PoolingBackward {
    type State = State;

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = contiguous(grads.consume::<Flex>(&ops.node));
        let State { x, scores, out, norms, sequences } = ops.state;
        let [node_x, node_scores] = ops.parents;
        // Where the weights are fixed, as those of a mean, their gradient is left out.
        let [rows, columns] = if node_scores.is_some() { scores.shape().dims() } else { [0, 0] };
        let mut grad_scores = output([rows, columns], |_| {});
        let grad_x = output(x.shape().dims::<2>(), |grad_x| {
            let pass =
                Pass { x: slice(&x), scores: slice(&scores), out: slice(&out), norms: &norms };
            let grad_scores = grad_scores.storage_mut();
            pooling::backward(&sequences, pass, slice(&grad), grad_x, grad_scores);
        });
        for (node, grad) in [(node_x, grad_x), (node_scores, grad_scores)] {
            if let Some(node) = node {
                grads.register::<Flex>(node.id, grad);
            }
        }
    }
}
