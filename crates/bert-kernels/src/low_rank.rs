//! A product through few dimensions, added to another map of the same input.

use burn::tensor::Tensor;

use crate::dropout::{Dropout, dropout};

/// `y + scale dropout(x) a b`.
///
/// # Shapes
/// - `y`, output: `[tokens, out]`
/// - `x`: `[tokens, in]`
/// - `a`: `[in, rank]`
/// - `b`: `[rank, out]`
pub fn low_rank(
    y: Tensor<2>,
    x: Tensor<2>,
    a: Tensor<2>,
    b: Tensor<2>,
    scale: f64,
    drop: Option<Dropout>,
) -> Tensor<2> {
    #[cfg(feature = "flex")]
    if crate::flex::is_fast(&y) {
        return crate::flex::low_rank::low_rank(y, x, a, b, scale, drop);
    }
    y + (dropout(x, drop).matmul(a) * scale).matmul(b)
}
