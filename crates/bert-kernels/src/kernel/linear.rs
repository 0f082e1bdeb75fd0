//! The affine map and its gradients.

use rayon::prelude::*;

use super::{
    bf16,
    matrix::{self, Matrix, transpose},
    simd::simd,
};
use crate::precision::Precision;

/// Rows a task sums.
const ROWS: usize = 64;

/// `out = x weight + bias`.
pub(crate) fn forward(
    precision: Precision,
    x: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    [rows, from, to]: [usize; 3],
    out: &mut [f32],
) {
    let (x, weight) = (Matrix::new(x, rows, from, from), Matrix::new(weight, from, to, to));
    product(precision, x, weight, bias, out);
}

/// `out = grad weight^T`; `transposed` is memory for the transpose, which costs less than float32 products of columns.
pub(crate) fn backward_x(
    precision: Precision,
    grad: &[f32],
    weight: &[f32],
    [rows, from, to]: [usize; 3],
    transposed: &mut [f32],
    out: &mut [f32],
) {
    let grad = Matrix::new(grad, rows, to, to);
    let weight = match precision {
        Precision::Float32 => {
            transpose(weight, to, transposed);
            Matrix::new(transposed, to, from, from)
        }
        Precision::Bfloat16 => Matrix::new(weight, from, to, to).transposed(),
    };
    product(precision, grad, weight, None, out);
}

/// `out = x^T grad`.
pub(crate) fn backward_weight(
    precision: Precision,
    x: &[f32],
    grad: &[f32],
    [rows, from, to]: [usize; 3],
    out: &mut [f32],
) {
    let (x, grad) = (Matrix::new(x, rows, from, from), Matrix::new(grad, rows, to, to));
    product(precision, x.transposed(), grad, None, out);
}

/// `out = lhs rhs + bias`.
fn product(precision: Precision, lhs: Matrix, rhs: Matrix, bias: Option<&[f32]>, out: &mut [f32]) {
    match precision {
        Precision::Float32 => matrix::product(lhs, rhs, bias, out),
        Precision::Bfloat16 => bf16::product(lhs, rhs, bias, out),
    }
}

/// `out` = the sum of the rows of `grad`.
pub(crate) fn backward_bias(grad: &[f32], out: &mut [f32]) {
    let width = out.len();
    let mut partial = vec![0.0; grad.len().div_ceil(ROWS * width) * width];
    partial
        .par_chunks_mut(width)
        .zip(grad.par_chunks(ROWS * width))
        .for_each(|(sum, rows)| add_rows(rows, sum));
    out.fill(0.0);
    add_rows(&partial, out);
}

simd! {
    /// Adds rows, in order, to `sum`.
    pub(crate) fn add_rows(rows: &[f32], sum: &mut [f32]) {
        for row in rows.chunks_exact(sum.len()) {
            for (sum, x) in sum.iter_mut().zip(row) {
                *sum += x;
            }
        }
    }
}
