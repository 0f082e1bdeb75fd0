//! Sums over the tokens of each sequence, weighted by a softmax, and their gradients.
//!
//! A task is a sequence. Nothing of the size of the scores is kept: the backward pass takes the exponentials again.

use rayon::prelude::*;

use super::simd::{dot, exp, simd};
use crate::sequences::Sequences;

/// `out` = for each sequence the sum of its rows of `x`, weighted by the softmax of its rows of `scores`, which have the
/// width of `x` or one column.
///
/// `norms` gets for each sequence the largest score of each column, then the inverse sum of the exponentials.
pub(crate) fn forward(
    sequences: &Sequences,
    [x, scores]: [&[f32]; 2],
    [out, norms]: [&mut [f32]; 2],
) {
    let (width, columns) = (out.len() / sequences.len(), norms.len() / 2 / sequences.len());
    out.par_chunks_mut(width).zip(norms.par_chunks_mut(2 * columns)).enumerate().for_each(
        |(index, (out, norms))| {
            let tokens = sequences.range(index);
            let x = &x[tokens.start * width..tokens.end * width];
            let scores = &scores[tokens.start * columns..tokens.end * columns];
            let (largest, sums) = norms.split_at_mut(columns);
            pool(x, scores, out, largest, sums);
        },
    );
}

simd! {
    fn pool(x: &[f32], scores: &[f32], out: &mut [f32], largest: &mut [f32], sums: &mut [f32]) {
        let (width, columns) = (out.len(), sums.len());
        largest.fill(f32::NEG_INFINITY);
        for scores in scores.chunks_exact(columns) {
            for (largest, score) in largest.iter_mut().zip(scores) {
                *largest = if *score > *largest { *score } else { *largest };
            }
        }
        out.fill(0.0);
        sums.fill(0.0);
        for (x, scores) in x.chunks_exact(width).zip(scores.chunks_exact(columns)) {
            if columns == 1 {
                let weight = exp::<FMA>(scores[0] - largest[0]);
                sums[0] += weight;
                for (out, x) in out.iter_mut().zip(x) {
                    *out += weight * x;
                }
            } else {
                let inputs = x.iter().zip(scores).zip(largest.iter());
                for (((x, score), largest), (out, sum)) in inputs.zip(out.iter_mut().zip(sums.iter_mut())) {
                    let weight = exp::<FMA>(score - largest);
                    *sum += weight;
                    *out += weight * x;
                }
            }
        }
        for sum in sums.iter_mut() {
            *sum = 1.0 / *sum;
        }
        if columns == 1 {
            for out in out {
                *out *= sums[0];
            }
        } else {
            for (out, inverse) in out.iter_mut().zip(sums) {
                *out *= *inverse;
            }
        }
    }
}

/// What [`forward`] has read and written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pass<'a> {
    pub(crate) x: &'a [f32],
    pub(crate) scores: &'a [f32],
    pub(crate) out: &'a [f32],
    pub(crate) norms: &'a [f32],
}

/// The gradients of `x` and, unless that is empty, of the scores.
pub(crate) fn backward(
    sequences: &Sequences,
    pass: Pass,
    grad: &[f32],
    grad_x: &mut [f32],
    grad_scores: &mut [f32],
) {
    let Pass { x, scores, out, norms } = pass;
    let (width, columns) = (out.len() / sequences.len(), norms.len() / 2 / sequences.len());
    let grads = by_sequence(grad_x, sequences, width).into_par_iter().zip(by_sequence(
        grad_scores,
        sequences,
        columns,
    ));
    grads.enumerate().for_each(|(index, (grad_x, grad_scores))| {
        let tokens = sequences.range(index);
        let pass = Pass {
            x: &x[tokens.start * width..tokens.end * width],
            scores: &scores[tokens.start * columns..tokens.end * columns],
            out: &out[index * width..][..width],
            norms: &norms[index * 2 * columns..][..2 * columns],
        };
        pool_backward(pass, &grad[index * width..][..width], grad_x, grad_scores);
    });
}

/// The rows of each sequence; none of them where `x` is empty.
fn by_sequence<'a>(
    mut x: &'a mut [f32],
    sequences: &Sequences,
    width: usize,
) -> Vec<&'a mut [f32]> {
    let lengths = sequences.ranges().map(|tokens| tokens.len() * width);
    lengths.filter_map(|length| x.split_off_mut(..length.min(x.len()))).collect()
}

simd! {
    /// With `w` the weights: `grad_x = w grad` and `grad_scores = w grad (x - out)`, the latter summed over the columns
    /// that share a weight.
    fn pool_backward(pass: Pass, grad: &[f32], grad_x: &mut [f32], grad_scores: &mut [f32]) {
        let (width, columns) = (grad.len(), pass.norms.len() / 2);
        let (largest, inverses) = pass.norms.split_at(columns);
        let rows = pass.x.chunks_exact(width).zip(pass.scores.chunks_exact(columns));
        let wanted = !grad_scores.is_empty();
        let mean = if columns == 1 && wanted { dot(grad, pass.out) } else { 0.0 };
        for (row, ((x, scores), grad_x)) in rows.zip(grad_x.chunks_exact_mut(width)).enumerate() {
            if columns == 1 {
                let weight = exp::<FMA>(scores[0] - largest[0]) * inverses[0];
                for (grad_x, grad) in grad_x.iter_mut().zip(grad) {
                    *grad_x = weight * grad;
                }
                if wanted {
                    grad_scores[row] = weight * (dot(grad, x) - mean);
                }
                continue;
            }
            let weights = scores.iter().zip(largest).zip(inverses);
            for (((score, largest), inverse), (grad_x, grad)) in weights.zip(grad_x.iter_mut().zip(grad)) {
                *grad_x = exp::<FMA>(score - largest) * inverse * grad;
            }
            if wanted {
                let grad_scores = &mut grad_scores[row * columns..][..columns];
                let inputs = grad_x.iter().zip(x).zip(pass.out);
                for (grad, ((grad_x, x), out)) in grad_scores.iter_mut().zip(inputs) {
                    *grad = grad_x * (x - out);
                }
            }
        }
    }
}
