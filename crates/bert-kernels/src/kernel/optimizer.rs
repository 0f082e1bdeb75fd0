//! One pass over a parameter, and the sum of squares of a gradient.

use rayon::prelude::*;

use super::simd::{multiply_add, simd};
use crate::optimizer::Step;

/// Numbers a task works at.
const BLOCK: usize = 1 << 14;

/// The numbers of a step in single precision.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Factors {
    gradient_scale: f32,
    beta_1: f32,
    beta_2: f32,
    /// `1 - beta_1` and `1 - beta_2`, rounded only once.
    rest_1: f32,
    rest_2: f32,
    rate: f32,
    root: f32,
    epsilon: f32,
    decay: f32,
}

impl From<&Step> for Factors {
    fn from(step: &Step) -> Self {
        Self {
            gradient_scale: step.gradient_scale as f32,
            beta_1: step.beta_1 as f32,
            beta_2: step.beta_2 as f32,
            rest_1: (1.0 - step.beta_1) as f32,
            rest_2: (1.0 - step.beta_2) as f32,
            rate: step.rate as f32,
            root: step.root as f32,
            epsilon: step.epsilon as f32,
            decay: step.decay as f32,
        }
    }
}

/// Steps `weight`; `grad` is only read.
pub(crate) fn adamw_in_place(
    step: Factors,
    weight: &mut [f32],
    grad: &[f32],
    moment_1: &mut [f32],
    moment_2: &mut [f32],
) {
    weight
        .par_chunks_mut(BLOCK)
        .zip(grad.par_chunks(BLOCK))
        .zip(moment_1.par_chunks_mut(BLOCK).zip(moment_2.par_chunks_mut(BLOCK)))
        .for_each(|((weight, grad), (m, v))| in_place(step, weight, grad, m, v));
}

/// Writes the new weights over `grad`.
pub(crate) fn adamw_into_gradient(
    step: Factors,
    weight: &[f32],
    grad: &mut [f32],
    moment_1: &mut [f32],
    moment_2: &mut [f32],
) {
    grad.par_chunks_mut(BLOCK)
        .zip(weight.par_chunks(BLOCK))
        .zip(moment_1.par_chunks_mut(BLOCK).zip(moment_2.par_chunks_mut(BLOCK)))
        .for_each(|((grad, weight), (m, v))| into_gradient(step, weight, grad, m, v));
}

simd! {
    fn in_place(step: Factors, weight: &mut [f32], grad: &[f32], m: &mut [f32], v: &mut [f32]) {
        for ((weight, grad), (m, v)) in weight.iter_mut().zip(grad).zip(m.iter_mut().zip(v)) {
            *weight = element::<FMA>(&step, *weight, *grad, m, v);
        }
    }
}

simd! {
    fn into_gradient(step: Factors, weight: &[f32], grad: &mut [f32], m: &mut [f32], v: &mut [f32]) {
        for ((weight, grad), (m, v)) in weight.iter().zip(grad).zip(m.iter_mut().zip(v)) {
            *grad = element::<FMA>(&step, *weight, *grad, m, v);
        }
    }
}

/// The new weight of one element, whose moments are moved on.
#[inline(always)]
fn element<const FMA: bool>(
    step: &Factors,
    weight: f32,
    grad: f32,
    m: &mut f32,
    v: &mut f32,
) -> f32 {
    let grad = grad * step.gradient_scale;
    *m = multiply_add::<FMA>(step.beta_1, *m, step.rest_1 * grad);
    *v = multiply_add::<FMA>(step.beta_2, *v, step.rest_2 * grad * grad);
    let deviation = v.sqrt() * step.root + step.epsilon;
    weight * step.decay - step.rate * *m / deviation
}

/// The sum of products, element by element, in double precision.
pub(crate) fn dot_product(x: &[f32], y: &[f32]) -> f64 {
    let partial: Vec<f64> =
        x.par_chunks(BLOCK).zip(y.par_chunks(BLOCK)).map(|(x, y)| products(x, y)).collect();
    partial.into_iter().sum()
}

simd! {
    fn products(x: &[f32], y: &[f32]) -> f64 {
        const WIDE: usize = 8;
        let mut lanes = [0.0; WIDE];
        let ((x, x_rest), (y, y_rest)) = (x.as_chunks::<WIDE>(), y.as_chunks::<WIDE>());
        for (x, y) in x.iter().zip(y) {
            for (lane, (x, y)) in lanes.iter_mut().zip(x.iter().zip(y)) {
                *lane += f64::from(*x) * f64::from(*y);
            }
        }
        for (lane, (x, y)) in lanes.iter_mut().zip(x_rest.iter().zip(y_rest)) {
            *lane += f64::from(*x) * f64::from(*y);
        }
        lanes.iter().sum()
    }
}
