//! A scaled tensor on top of a sum, and its gradients.

use rayon::prelude::*;

use super::simd::{dot, multiply_add, simd};

/// Numbers a task works at.
const BLOCK: usize = 1 << 14;

/// `sum = factor x`, plus what it held before if `add`.
pub(crate) fn forward(add: bool, factor: f32, x: &[f32], sum: &mut [f32]) {
    sum.par_chunks_mut(BLOCK)
        .zip(x.par_chunks(BLOCK))
        .for_each(|(sum, x)| forward_block(add, factor, x, sum));
}

simd! {
    fn forward_block(add: bool, factor: f32, x: &[f32], sum: &mut [f32]) {
        if add {
            for (sum, x) in sum.iter_mut().zip(x) {
                *sum = multiply_add::<FMA>(factor, *x, *sum);
            }
        } else {
            for (sum, x) in sum.iter_mut().zip(x) {
                *sum = factor * x;
            }
        }
    }
}

/// `grad_x = factor grad`; returns the gradient of `factor`.
pub(crate) fn backward(factor: f32, x: &[f32], grad: &[f32], grad_x: &mut [f32]) -> f32 {
    let partial: Vec<f32> = grad_x
        .par_chunks_mut(BLOCK)
        .zip(x.par_chunks(BLOCK).zip(grad.par_chunks(BLOCK)))
        .map(|(grad_x, (x, grad))| backward_block(factor, x, grad, grad_x))
        .collect();
    partial.into_iter().map(f64::from).sum::<f64>() as f32
}

simd! {
    fn backward_block(factor: f32, x: &[f32], grad: &[f32], grad_x: &mut [f32]) -> f32 {
        for (grad_x, grad) in grad_x.iter_mut().zip(grad) {
            *grad_x = factor * grad;
        }
        dot(x, grad)
    }
}
