//! Rows of a table.

use burn::tensor::{Int, Tensor};

/// The rows of `weight` at `ids`.
///
/// # Shapes
/// - `weight`: `[rows, hidden]`
/// - `ids`: `[tokens]`
/// - output: `[tokens, hidden]`
///
/// # Panics
/// When an id is not below the number of rows (on backends that check).
pub fn embedding(weight: Tensor<2>, ids: Tensor<1, Int>) -> Tensor<2> {
    #[cfg(feature = "flex")]
    if crate::flex::is_fast(&weight) {
        return crate::flex::embedding::embedding(weight, ids);
    }
    weight.select(0, ids)
}
