//! Gradients of several losses: added up, and held against each other.

use std::collections::HashSet;

use bert_kernels::dot_product;
use burn::{
    module::{Module, ModuleVisitor, Param, ParamId},
    optim::GradientsParams,
    tensor::Tensor,
};

/// The dot products of some gradients with each other: `gram[i][j] = g_i . g_j`.
#[derive(Debug, Clone, PartialEq)]
pub struct Gram(pub Vec<Vec<f64>>);

impl Gram {
    /// The number of gradients.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The norm of a gradient.
    pub fn norm(&self, index: usize) -> f64 {
        self.0[index][index].sqrt()
    }

    /// The cosine of the angle between two gradients, from -1 to 1; 0 where one of them is zero.
    pub fn cosine(&self, a: usize, b: usize) -> f64 {
        let norms = self.norm(a) * self.norm(b);
        if norms > 0.0 { (self.0[a][b] / norms).clamp(-1.0, 1.0) } else { 0.0 }
    }
}

/// The dot products of `gradients` over the parameters of `model` that are `shared`; a parameter without a gradient counts as
/// zero.
pub(crate) fn gram<M: Module>(
    model: &M,
    gradients: &[GradientsParams],
    shared: &HashSet<ParamId>,
) -> Gram {
    struct DotProducts<'a> {
        gradients: &'a [GradientsParams],
        shared: &'a HashSet<ParamId>,
        sums: Vec<Vec<f64>>,
    }
    impl ModuleVisitor for DotProducts<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if !self.shared.contains(&param.id) {
                return;
            }
            let own: Vec<Option<Tensor<D>>> =
                self.gradients.iter().map(|gradients| gradients.get(param.id)).collect();
            for (i, a) in own.iter().enumerate() {
                for (j, b) in own.iter().enumerate().skip(i) {
                    if let (Some(a), Some(b)) = (a, b) {
                        self.sums[i][j] += dot_product(a.clone(), b.clone());
                    }
                }
            }
        }
    }
    let count = gradients.len();
    let mut products = DotProducts { gradients, shared, sums: vec![vec![0.0; count]; count] };
    model.visit(&mut products);
    let upper = products.sums;
    Gram((0..count).map(|i| (0..count).map(|j| upper[i.min(j)][i.max(j)]).collect()).collect())
}

/// Adds `other`, each parameter's gradient times a factor, to `sum`.
pub(crate) fn add<M: Module>(
    model: &M,
    sum: &mut GradientsParams,
    other: GradientsParams,
    factor: impl Fn(&ParamId) -> f64,
) {
    struct Add<'a, F> {
        sum: &'a mut GradientsParams,
        other: GradientsParams,
        factor: F,
    }
    impl<F: Fn(&ParamId) -> f64> ModuleVisitor for Add<'_, F> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let Some(gradient) = self.other.remove::<D>(param.id) else { return };
            let factor = (self.factor)(&param.id);
            let gradient = if factor == 1.0 { gradient } else { gradient * factor };
            let gradient = match self.sum.remove::<D>(param.id) {
                Some(sum) => sum + gradient,
                None => gradient,
            };
            self.sum.register(param.id, gradient);
        }
    }
    model.visit(&mut Add { sum, other, factor });
}
