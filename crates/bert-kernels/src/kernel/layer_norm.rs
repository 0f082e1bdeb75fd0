//! Layer normalisation of a residual sum, with dropout, and its gradients.

use rayon::prelude::*;

use super::{
    dropout::{draw, factor, row_bits},
    linear::add_rows,
    simd::{dot, simd, sum},
};
use crate::dropout::Dropout;

/// Rows a task works at.
const ROWS: usize = 64;

/// What is normalised: rows of `dropout(x) + residual`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sum<'a> {
    pub(crate) x: &'a [f32],
    pub(crate) residual: Option<&'a [f32]>,
    pub(crate) drop: Option<Dropout>,
}

/// `out = normalised weight + bias`; fills `normalised` and `scales`, the inverse deviation of each row, unless empty.
pub(crate) fn forward(
    sum: Sum,
    weight: &[f32],
    bias: &[f32],
    epsilon: f32,
    out: &mut [f32],
    normalised: &mut [f32],
    scales: &mut [f32],
) {
    let width = weight.len();
    let keep = !normalised.is_empty();
    let block = |out: &mut [f32], normalised: &mut [f32], scales: &mut [f32], first: usize| {
        let mut bits = vec![0; row_bits(width)];
        for (index, out) in out.chunks_mut(width).enumerate() {
            let row = first + index;
            let range = row * width..(row + 1) * width;
            match &sum.drop {
                Some(drop) => {
                    draw(drop, width, 0, row, [0, 0], &mut bits);
                    dropped(
                        &sum.x[range.clone()],
                        &bits,
                        drop.threshold() as u16,
                        drop.scale(),
                        out,
                    );
                }
                None => out.copy_from_slice(&sum.x[range.clone()]),
            }
            if let Some(residual) = sum.residual {
                add_rows(&residual[range], out);
            }
            let normalised =
                if keep { &mut normalised[index * width..][..width] } else { &mut [][..] };
            let scale = normalise(weight, bias, epsilon, out, normalised);
            if keep {
                scales[index] = scale;
            }
        }
    };
    if keep {
        out.par_chunks_mut(ROWS * width)
            .zip(normalised.par_chunks_mut(ROWS * width))
            .zip(scales.par_chunks_mut(ROWS))
            .enumerate()
            .for_each(|(index, ((out, normalised), scales))| {
                block(out, normalised, scales, index * ROWS)
            });
    } else {
        out.par_chunks_mut(ROWS * width)
            .enumerate()
            .for_each(|(index, out)| block(out, &mut [], &mut [], index * ROWS));
    }
}

simd! {
    fn dropped(x: &[f32], bits: &[u16], threshold: u16, scale: f32, out: &mut [f32]) {
        for ((out, x), bits) in out.iter_mut().zip(x).zip(bits) {
            *out = x * factor(*bits, threshold, scale);
        }
    }
}

simd! {
    /// Normalises a row in place and returns its inverse deviation.
    fn normalise(weight: &[f32], bias: &[f32], epsilon: f32, row: &mut [f32], normalised: &mut [f32]) -> f32 {
        let inverse = 1.0 / row.len() as f32;
        let mean = sum(row, |x| x) * inverse;
        let variance = sum(row, |x| (x - mean) * (x - mean)) * inverse;
        let scale = 1.0 / (variance + epsilon).sqrt();
        if normalised.is_empty() {
            for ((x, weight), bias) in row.iter_mut().zip(weight).zip(bias) {
                *x = (*x - mean) * scale * weight + bias;
            }
        } else {
            for (((x, weight), bias), normalised) in row.iter_mut().zip(weight).zip(bias).zip(normalised) {
                *normalised = (*x - mean) * scale;
                *x = *normalised * weight + bias;
            }
        }
        scale
    }
}

/// Turns `grad` into the gradient of the sum, writes that of `x` to `grad_x` unless that is empty, and the
/// gradients of `weight` and `bias`.
pub(crate) fn backward(
    grad: &mut [f32],
    normalised: &[f32],
    scales: &[f32],
    weight: &[f32],
    drop: Option<Dropout>,
    grad_x: &mut [f32],
    [grad_weight, grad_bias]: [&mut [f32]; 2],
) {
    let width = weight.len();
    let apart = !grad_x.is_empty();
    let mut partial = vec![0.0; scales.len().div_ceil(ROWS) * 2 * width];
    let block = |grad: &mut [f32], grad_x: &mut [f32], partial: &mut [f32], first: usize| {
        let (weights, biases) = partial.split_at_mut(width);
        let mut bits = vec![0; row_bits(width)];
        for (index, grad) in grad.chunks_mut(width).enumerate() {
            let row = first + index;
            let normalised = &normalised[row * width..][..width];
            denormalise(normalised, scales[row], weight, grad, weights, biases);
            if !apart {
                continue;
            }
            let grad_x = &mut grad_x[index * width..][..width];
            match &drop {
                Some(drop) => {
                    draw(drop, width, 0, row, [0, 0], &mut bits);
                    dropped(grad, &bits, drop.threshold() as u16, drop.scale(), grad_x);
                }
                None => grad_x.copy_from_slice(grad),
            }
        }
    };
    let blocks =
        grad.par_chunks_mut(ROWS * width).zip(partial.par_chunks_mut(2 * width)).enumerate();
    if apart {
        blocks.zip(grad_x.par_chunks_mut(ROWS * width)).for_each(
            |((index, (grad, partial)), grad_x)| block(grad, grad_x, partial, index * ROWS),
        );
    } else {
        blocks.for_each(|(index, (grad, partial))| block(grad, &mut [], partial, index * ROWS));
    }
    grad_weight.fill(0.0);
    grad_bias.fill(0.0);
    for partial in partial.chunks(2 * width) {
        add_rows(&partial[..width], grad_weight);
        add_rows(&partial[width..], grad_bias);
    }
}

simd! {
    /// With `g = grad weight`: `grad = scale (g - mean(g) - normalised mean(g normalised))`.
    fn denormalise(
        normalised: &[f32],
        scale: f32,
        weight: &[f32],
        grad: &mut [f32],
        weights: &mut [f32],
        biases: &mut [f32],
    ) {
        let inverse = 1.0 / grad.len() as f32;
        for (((grad, n), w), (weights, biases)) in
            grad.iter_mut().zip(normalised).zip(weight).zip(weights.iter_mut().zip(biases))
        {
            *weights += *grad * n;
            *biases += *grad;
            *grad *= w;
        }
        let mean = sum(grad, |grad| grad) * inverse;
        let slope = dot(grad, normalised) * inverse;
        for (grad, normalised) in grad.iter_mut().zip(normalised) {
            *grad = scale * (*grad - mean - normalised * slope);
        }
    }
}
