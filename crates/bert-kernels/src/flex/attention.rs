//! Attention on flex.

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
    attention::{AttentionOptions, check_lengths},
    kernel::attention::Plan,
    sequences::Sequences,
};

/// [`attention`](crate::attention()) on flex, without bias and rotation.
pub(crate) fn attention(
    query: Tensor<2>,
    key: Tensor<2>,
    value: Tensor<2>,
    queries: &Sequences,
    keys: &Sequences,
    options: &AttentionOptions,
) -> Tensor<2> {
    let [_, width] = query.dims();
    let num_heads = options.num_heads;
    assert!(
        num_heads > 0 && width.is_multiple_of(num_heads),
        "attention: the width {width} is no multiple of {num_heads} heads"
    );
    check_lengths(queries, keys);
    let plan = Plan {
        queries: queries.clone(),
        keys: keys.clone(),
        num_heads,
        width,
        drop: options.dropout,
        window: options.window,
    };
    let inputs = [query, key, value].map(Tensor::into_dispatch);
    let [query, key, value] = inputs;
    Tensor::from_dispatch(<Dispatch as Attention>::attention(query, key, value, plan))
}

/// A backend with attention.
#[backend_extension(Flex, Autodiff)]
pub trait Attention: Backend {
    /// `dropout(softmax(query key^T / sqrt(head_size))) value` for each head of each sequence.
    fn attention(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        plan: Plan,
    ) -> FloatTensor<Self>;
}

impl Attention for Flex {
    fn attention(query: FlexTensor, key: FlexTensor, value: FlexTensor, plan: Plan) -> FlexTensor {
        forward([&contiguous(query), &contiguous(key), &contiguous(value)], &plan)
    }
}

impl<C: CheckpointStrategy> Attention for Autodiff<Flex, C> {
    fn attention(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        plan: Plan,
    ) -> FloatTensor<Self> {
        let nodes = [query.node(), key.node(), value.node()];
        let prepared = AttentionBackward.prepare::<C>(nodes).compute_bound().stateful();
        let inputs = [query, key, value].map(|x| contiguous(x.into_primitive()));
        let out = forward(inputs.each_ref(), &plan);
        match prepared {
            OpsKind::Tracked(prepared) => prepared.finish((inputs, plan), out),
            OpsKind::UnTracked(prepared) => prepared.finish(out),
        }
    }
}

fn forward(inputs: [&FlexTensor; 3], plan: &Plan) -> FlexTensor {
    let [queries, keys] = [&plan.queries, &plan.keys].map(|rows| [rows.tokens(), plan.width]);
    for (input, shape) in inputs.into_iter().zip([queries, keys, keys]) {
        assert_eq!(
            input.shape().dims(),
            shape,
            "attention: query, key and value must be [tokens, width]"
        );
    }
    let [query, key, value] = inputs.map(slice);
    output(queries, |out| plan.forward(query, key, value, out))
}

#[derive(Debug)]
struct AttentionBackward;

impl Backward<Flex, 3> for AttentionBackward {
    type State = ([FlexTensor; 3], Plan);

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = contiguous(grads.consume::<Flex>(&ops.node));
        let (inputs, plan) = ops.state;
        let [queries, keys] = [&plan.queries, &plan.keys].map(|rows| [rows.tokens(), plan.width]);
        let (mut grad_key, mut grad_value) = (output(keys, |_| {}), output(keys, |_| {}));
        let grad_query = output(queries, |grad_query| {
            let outputs = [grad_query, grad_key.storage_mut(), grad_value.storage_mut()];
            plan.backward(inputs.each_ref().map(slice), slice(&grad), outputs);
        });
        drop((inputs, grad));
        for (node, grad) in ops.parents.into_iter().zip([grad_query, grad_key, grad_value]) {
            if let Some(node) = node {
                grads.register::<Flex>(node.id, grad);
            }
        }
    }
}
