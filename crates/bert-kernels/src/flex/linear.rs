//! The affine map on flex.

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
use crate::{kernel::linear, precision::Precision};

/// [`linear`](crate::linear()) on flex.
pub(crate) fn linear(x: Tensor<2>, weight: Tensor<2>, bias: Option<Tensor<1>>) -> Tensor<2> {
    let bias = Optional::new(bias);
    Tensor::from_dispatch(<Dispatch as Linear>::linear(
        x.into_dispatch(),
        weight.into_dispatch(),
        bias,
    ))
}

/// A backend with the affine map.
#[backend_extension(Flex, Autodiff)]
pub trait Linear: Backend {
    /// `x weight + bias`.
    fn linear(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        #[extension_type] bias: Optional<Self>,
    ) -> FloatTensor<Self>;
}

impl Linear for Flex {
    fn linear(x: FlexTensor, weight: FlexTensor, bias: Optional<Flex>) -> FlexTensor {
        let bias = bias.into_option().map(contiguous);
        forward(&contiguous(x), &contiguous(weight), bias.as_ref())
    }
}

impl<C: CheckpointStrategy> Linear for Autodiff<Flex, C> {
    fn linear(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: Optional<Self>,
    ) -> FloatTensor<Self> {
        let nodes = [x.node(), weight.node(), bias.node()];
        let prepared = LinearBackward.prepare::<C>(nodes).compute_bound().stateful();
        // The gradient of x needs no x: where the weight is frozen, nobody does.
        let is_frozen = !weight.is_tracked();
        let (x, weight) = (contiguous(x.into_primitive()), contiguous(weight.into_primitive()));
        let bias = bias.into_option().map(|bias| contiguous(bias.into_primitive()));
        let out = forward(&x, &weight, bias.as_ref());
        match prepared {
            OpsKind::Tracked(prepared) => prepared.finish(((!is_frozen).then_some(x), weight), out),
            OpsKind::UnTracked(prepared) => prepared.finish(out),
        }
    }
}

fn extents(x: &FlexTensor, weight: &FlexTensor) -> [usize; 3] {
    let ([rows, width], [from, to]) = (x.shape().dims(), weight.shape().dims());
    assert_eq!(width, from, "linear: the width of x must be the number of rows of the weight");
    [rows, from, to]
}

fn forward(x: &FlexTensor, weight: &FlexTensor, bias: Option<&FlexTensor>) -> FlexTensor {
    let extents @ [rows, _, to] = extents(x, weight);
    let bias = bias.map(slice);
    assert!(
        bias.is_none_or(|bias| bias.len() == to),
        "linear: the bias must have one number a column"
    );
    let precision = Precision::current();
    output([rows, to], |out| {
        linear::forward(precision, slice(x), slice(weight), bias, extents, out)
    })
}

#[derive(Debug)]
struct LinearBackward;

impl Backward<Flex, 3> for LinearBackward {
    /// x where the weight learns, and the weight.
    type State = (Option<FlexTensor>, FlexTensor);

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = contiguous(grads.consume::<Flex>(&ops.node));
        let ([node_x, node_weight, node_bias], (x, weight)) = (ops.parents, ops.state);
        let ([rows, _], [from, to]) = (grad.shape().dims(), weight.shape().dims());
        let (precision, extents) = (Precision::current(), [rows, from, to]);
        if let Some(node) = node_bias {
            let bias = output([to], |out| linear::backward_bias(slice(&grad), out));
            grads.register::<Flex>(node.id, bias);
        }
        if let (Some(node), Some(x)) = (node_weight, x) {
            let weight = output([from, to], |out| {
                linear::backward_weight(precision, slice(&x), slice(&grad), extents, out)
            });
            grads.register::<Flex>(node.id, weight);
        }
        if let Some(node) = node_x {
            let mut transposed = output([to, from], |_| {});
            let x = output([rows, from], |out| {
                let (grad, weight) = (slice(&grad), slice(&weight));
                let transposed = transposed.storage_mut();
                linear::backward_x(precision, grad, weight, extents, transposed, out);
            });
            grads.register::<Flex>(node.id, x);
        }
    }
}
