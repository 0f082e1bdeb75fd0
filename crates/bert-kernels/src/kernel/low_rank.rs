//! The wide half of a product through few dimensions.

use rayon::prelude::*;

use super::simd::{multiply_add, simd};

/// Rows a task works at.
const ROWS: usize = 64;

/// `out += narrow b`, for few columns of `narrow`.
pub(crate) fn add_product(narrow: &[f32], b: &[f32], rank: usize, out: &mut [f32]) {
    let width = b.len() / rank;
    out.par_chunks_mut(ROWS * width)
        .zip(narrow.par_chunks(ROWS * rank))
        .for_each(|(out, narrow)| add_rows(narrow, b, rank, out));
}

simd! {
    fn add_rows(narrow: &[f32], b: &[f32], rank: usize, out: &mut [f32]) {
        let width = b.len() / rank;
        for (out, factors) in out.chunks_exact_mut(width).zip(narrow.chunks_exact(rank)) {
            for (factor, row) in factors.iter().zip(b.chunks_exact(width)) {
                for (out, b) in out.iter_mut().zip(row) {
                    *out = multiply_add::<FMA>(*factor, *b, *out);
                }
            }
        }
    }
}
