//! Gaussian error linear units and their derivative.

use rayon::prelude::*;

use super::simd::{normal_tail, simd};

/// Numbers a task works at.
const BLOCK: usize = 1 << 14;

/// `out = x Phi(x)`.
pub(crate) fn forward(x: &[f32], out: &mut [f32]) {
    out.par_chunks_mut(BLOCK).zip(x.par_chunks(BLOCK)).for_each(|(out, x)| forward_block(x, out));
}

/// Multiplies `grad` with the derivative of `x Phi(x)`, which is `Phi(x) + x phi(x)`.
pub(crate) fn backward(x: &[f32], grad: &mut [f32]) {
    grad.par_chunks_mut(BLOCK)
        .zip(x.par_chunks(BLOCK))
        .for_each(|(grad, x)| backward_block(x, grad));
}

simd! {
    fn forward_block(x: &[f32], out: &mut [f32]) {
        for (out, x) in out.iter_mut().zip(x) {
            let (tail, _) = normal_tail::<FMA>(*x);
            *out = x * if *x < 0.0 { tail } else { 1.0 - tail };
        }
    }
}

simd! {
    fn backward_block(x: &[f32], grad: &mut [f32]) {
        // 1 / sqrt(2 pi)
        const DENSITY: f32 = 0.398_942_3;
        for (grad, x) in grad.iter_mut().zip(x) {
            let (tail, power) = normal_tail::<FMA>(*x);
            let phi = if *x < 0.0 { tail } else { 1.0 - tail };
            *grad *= phi + x * DENSITY * power;
        }
    }
}
