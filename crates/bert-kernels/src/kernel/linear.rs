//! The affine map and its gradients.

use rayon::prelude::*;

use super::{
    matrix::{Matrix, product, transpose},
    simd::simd,
};

/// Rows a task sums.
const ROWS: usize = 64;

/// `out = x weight + bias`.
pub(crate) fn forward(
    x: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    [rows, from, to]: [usize; 3],
    out: &mut [f32],
) {
    product(Matrix::new(x, rows, from, from), Matrix::new(weight, from, to, to), bias, out);
}

/// `out = grad weight^T`; `transposed` is memory for the transpose, which costs less than products of columns.
pub(crate) fn backward_x(
    grad: &[f32],
    weight: &[f32],
    [rows, from, to]: [usize; 3],
    transposed: &mut [f32],
    out: &mut [f32],
) {
    transpose(weight, to, transposed);
    product(Matrix::new(grad, rows, to, to), Matrix::new(transposed, to, from, from), None, out);
}

/// `out = x^T grad`.
pub(crate) fn backward_weight(
    x: &[f32],
    grad: &[f32],
    [rows, from, to]: [usize; 3],
    out: &mut [f32],
) {
    product(
        Matrix::new(x, rows, from, from).transposed(),
        Matrix::new(grad, rows, to, to),
        None,
        out,
    );
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
