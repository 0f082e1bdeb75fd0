//! A product through few dimensions on flex: what is dropped of the input is drawn again on the way back.

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
    dropout::Dropout,
    kernel::{dropout, linear, low_rank::add_product},
    precision::Precision,
};

/// [`low_rank`](crate::low_rank()) on flex.
pub(crate) fn low_rank(
    y: Tensor<2>,
    x: Tensor<2>,
    a: Tensor<2>,
    b: Tensor<2>,
    scale: f64,
    drop: Option<Dropout>,
) -> Tensor<2> {
    Tensor::from_dispatch(<Dispatch as LowRank>::low_rank(
        y.into_dispatch(),
        x.into_dispatch(),
        a.into_dispatch(),
        b.into_dispatch(),
        scale,
        drop,
    ))
}

/// A backend with products through few dimensions.
#[backend_extension(Flex, Autodiff)]
pub trait LowRank: Backend {
    /// `y + scale dropout(x) a b`.
    fn low_rank(
        y: FloatTensor<Self>,
        x: FloatTensor<Self>,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        scale: f64,
        drop: Option<Dropout>,
    ) -> FloatTensor<Self>;
}

impl LowRank for Flex {
    fn low_rank(
        y: FlexTensor,
        x: FlexTensor,
        a: FlexTensor,
        b: FlexTensor,
        scale: f64,
        drop: Option<Dropout>,
    ) -> FlexTensor {
        let pass = Pass { x: contiguous(x), a: contiguous(a), b: contiguous(b), scale, drop };
        pass.forward(y).0
    }
}

impl<C: CheckpointStrategy> LowRank for Autodiff<Flex, C> {
    fn low_rank(
        y: FloatTensor<Self>,
        x: FloatTensor<Self>,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        scale: f64,
        drop: Option<Dropout>,
    ) -> FloatTensor<Self> {
        let nodes = [y.node(), x.node(), a.node(), b.node()];
        let prepared = LowRankBackward.prepare::<C>(nodes).compute_bound().stateful();
        let [x, a, b] = [x, a, b].map(|tensor| contiguous(tensor.into_primitive()));
        let pass = Pass { x, a, b, scale, drop };
        let (out, narrow) = pass.forward(y.into_primitive());
        match prepared {
            OpsKind::Tracked(prepared) => prepared.finish((pass, narrow), out),
            OpsKind::UnTracked(prepared) => prepared.finish(out),
        }
    }
}

/// All but `y`, without gaps.
#[derive(Debug, Clone)]
struct Pass {
    x: FlexTensor,
    a: FlexTensor,
    b: FlexTensor,
    scale: f64,
    drop: Option<Dropout>,
}

impl Pass {
    /// The number of rows, the width of `x`, the rank, the width of the output.
    fn extents(&self) -> [usize; 4] {
        let ([rows, width], [from, rank], [inner, to]) =
            (self.x.shape().dims(), self.a.shape().dims(), self.b.shape().dims());
        assert_eq!(width, from, "low_rank: the width of x must be the number of rows of a");
        assert_eq!(rank, inner, "low_rank: the width of a must be the number of rows of b");
        [rows, from, rank, to]
    }

    /// The output, and `scale dropout(x) a`.
    fn forward(&self, y: FlexTensor) -> (FlexTensor, Vec<f32>) {
        let [rows, from, rank, to] = self.extents();
        assert_eq!(y.shape().dims(), [rows, to], "low_rank: y must have the shape of x a b");
        let mut narrow = vec![0.0; rows * rank];
        let x = self.dropped();
        let extents = [rows, from, rank];
        linear::forward(Precision::Float32, slice(&x), slice(&self.a), None, extents, &mut narrow);
        self.rescale(&mut narrow);
        let mut y = contiguous(y);
        add_product(&narrow, slice(&self.b), rank, y.storage_mut());
        (y, narrow)
    }

    fn dropped(&self) -> FlexTensor {
        let mut x = self.x.clone();
        if let Some(drop) = &self.drop {
            let [_, width] = x.shape().dims();
            dropout::apply(x.storage_mut(), width, drop);
        }
        x
    }

    fn rescale(&self, narrow: &mut [f32]) {
        narrow.iter_mut().for_each(|value| *value *= self.scale as f32);
    }
}

#[derive(Debug)]
struct LowRankBackward;

impl Backward<Flex, 4> for LowRankBackward {
    type State = (Pass, Vec<f32>);

    fn backward(self, ops: Ops<Self::State, 4>, grads: &mut Gradients, _: &mut Checkpointer) {
        const PRECISION: Precision = Precision::Float32;
        let grad = contiguous(grads.consume::<Flex>(&ops.node));
        let ([node_y, node_x, node_a, node_b], (pass, narrow)) = (ops.parents, ops.state);
        let [rows, from, rank, to] = pass.extents();
        if let Some(node) = node_b {
            let b = output([rank, to], |out| {
                linear::backward_weight(PRECISION, &narrow, slice(&grad), [rows, rank, to], out);
            });
            grads.register::<Flex>(node.id, b);
        }
        // The gradient of `dropout(x) a`, in the memory of what it gave.
        let (mut narrow, mut transposed) = (narrow, vec![0.0; to * rank]);
        let b = slice(&pass.b);
        let extents = [rows, rank, to];
        linear::backward_x(PRECISION, slice(&grad), b, extents, &mut transposed, &mut narrow);
        pass.rescale(&mut narrow);
        if let Some(node) = node_y {
            grads.register::<Flex>(node.id, grad);
        }
        let extents = [rows, from, rank];
        if let Some(node) = node_a {
            let x = pass.dropped();
            let a = output([from, rank], |out| {
                linear::backward_weight(PRECISION, slice(&x), &narrow, extents, out);
            });
            grads.register::<Flex>(node.id, a);
        }
        if let Some(node) = node_x {
            let mut transposed = vec![0.0; rank * from];
            let x = output([rows, from], |out| {
                let a = slice(&pass.a);
                linear::backward_x(PRECISION, &narrow, a, extents, &mut transposed, out);
                if let Some(drop) = &pass.drop {
                    dropout::apply(out, from, drop);
                }
            });
            grads.register::<Flex>(node.id, x);
        }
    }
}
