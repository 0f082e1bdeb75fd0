//! Layer normalisation of a residual sum on flex.

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
use crate::{
    dropout::Dropout,
    kernel::layer_norm::{self, Sum},
};

/// [`layer_norm`](crate::layer_norm()) on flex.
pub(crate) fn layer_norm(
    x: Tensor<2>,
    residual: Option<Tensor<2>>,
    drop: Option<Dropout>,
    weight: Tensor<1>,
    bias: Tensor<1>,
    epsilon: f64,
) -> Tensor<2> {
    Tensor::from_dispatch(<Dispatch as LayerNorm>::layer_norm(
        x.into_dispatch(),
        Optional::new(residual),
        drop,
        weight.into_dispatch(),
        bias.into_dispatch(),
        epsilon,
    ))
}

/// A backend with layer normalisation of a residual sum.
#[backend_extension(Flex, Autodiff)]
pub trait LayerNorm: Backend {
    /// `weight (s - mean(s)) / sqrt(variance(s) + epsilon) + bias` with `s = dropout(x) + residual`.
    fn layer_norm(
        x: FloatTensor<Self>,
        #[extension_type] residual: Optional<Self>,
        drop: Option<Dropout>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        epsilon: f64,
    ) -> FloatTensor<Self>;
}

impl LayerNorm for Flex {
    fn layer_norm(
        x: FlexTensor,
        residual: Optional<Flex>,
        drop: Option<Dropout>,
        weight: FlexTensor,
        bias: FlexTensor,
        epsilon: f64,
    ) -> FlexTensor {
        let residual = residual.into_option();
        Forward { x, residual, drop, weight, bias, epsilon }.run(&mut [], &mut []).0
    }
}

impl<C: CheckpointStrategy> LayerNorm for Autodiff<Flex, C> {
    fn layer_norm(
        x: FloatTensor<Self>,
        residual: Optional<Self>,
        drop: Option<Dropout>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        epsilon: f64,
    ) -> FloatTensor<Self> {
        let nodes = [x.node(), residual.node(), weight.node(), bias.node()];
        let prepared = LayerNormBackward.prepare::<C>(nodes).compute_bound().stateful();
        let [rows, width] = x.shape().dims();
        let forward = Forward {
            x: x.into_primitive(),
            residual: residual.into_option().map(|residual| residual.into_primitive()),
            drop,
            weight: weight.into_primitive(),
            bias: bias.into_primitive(),
            epsilon,
        };
        match prepared {
            OpsKind::Tracked(prepared) => {
                let mut scales = vec![0.0; rows];
                let mut result = None;
                let normalised = output([rows, width], |normalised| {
                    result = Some(forward.run(normalised, &mut scales))
                });
                let (out, weight) = result.expect("the forward pass has run"); // INVARIANT: `output` calls it.
                prepared.finish(State { normalised, scales, weight, drop }, out)
            }
            OpsKind::UnTracked(prepared) => prepared.finish(forward.run(&mut [], &mut []).0),
        }
    }
}

struct Forward {
    x: FlexTensor,
    residual: Option<FlexTensor>,
    drop: Option<Dropout>,
    weight: FlexTensor,
    bias: FlexTensor,
    epsilon: f64,
}

impl Forward {
    /// The output, and the weight without gaps; fills what the backward pass needs unless that is empty.
    fn run(self, normalised: &mut [f32], scales: &mut [f32]) -> (FlexTensor, FlexTensor) {
        let [rows, width] = self.x.shape().dims();
        let (x, residual) = (contiguous(self.x), self.residual.map(contiguous));
        let (weight, bias) = (contiguous(self.weight), contiguous(self.bias));
        let extents = [slice(&weight).len(), slice(&bias).len()];
        assert_eq!(extents, [width; 2], "layer_norm: weight and bias must have the width of x");
        let sum = Sum { x: slice(&x), residual: residual.as_ref().map(slice), drop: self.drop };
        let same = sum.residual.is_none_or(|residual| residual.len() == sum.x.len());
        assert!(same, "layer_norm: the residual must have the shape of x");
        let out = output([rows, width], |out| {
            let epsilon = self.epsilon as f32;
            layer_norm::forward(
                sum,
                slice(&weight),
                slice(&bias),
                epsilon,
                out,
                normalised,
                scales,
            );
        });
        (out, weight)
    }
}

#[derive(Debug, Clone)]
struct State {
    normalised: FlexTensor,
    scales: Vec<f32>,
    weight: FlexTensor,
    drop: Option<Dropout>,
}

#[derive(Debug)]
struct LayerNormBackward;

impl Backward<Flex, 4> for LayerNormBackward {
    type State = State;

    fn backward(self, ops: Ops<Self::State, 4>, grads: &mut Gradients, _: &mut Checkpointer) {
        let mut grad = contiguous(grads.consume::<Flex>(&ops.node));
        let [node_x, node_residual, node_weight, node_bias] = ops.parents;
        let State { normalised, scales, weight, drop } = ops.state;
        let shape @ [_, width] = grad.shape().dims();
        let (mut grad_weight, mut grad_bias) = (vec![0.0; width], vec![0.0; width]);
        let mut run = |grad_x: &mut [f32]| {
            let grads = [&mut grad_weight[..], &mut grad_bias[..]];
            let (normalised, weight) = (slice(&normalised), slice(&weight));
            layer_norm::backward(
                grad.storage_mut(),
                normalised,
                &scales,
                weight,
                drop,
                grad_x,
                grads,
            );
        };
        // Without dropout, and without a gradient for x, one gradient serves both.
        let grad_x = match drop {
            Some(_) if node_x.is_some() => Some(output(shape, run)),
            _ => {
                run(&mut []);
                None
            }
        };
        if let Some(node) = node_weight {
            grads.register::<Flex>(
                node.id,
                output([width], |out| out.copy_from_slice(&grad_weight)),
            );
        }
        if let Some(node) = node_bias {
            grads.register::<Flex>(node.id, output([width], |out| out.copy_from_slice(&grad_bias)));
        }
        if let Some(node) = node_x {
            grads.register::<Flex>(node.id, grad_x.unwrap_or_else(|| grad.clone()));
        }
        if let Some(node) = node_residual {
            grads.register::<Flex>(node.id, grad);
        }
    }
}
