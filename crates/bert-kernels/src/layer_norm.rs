//! Layer normalisation of a residual sum.

use burn::tensor::Tensor;

use crate::dropout::{Dropout, dropout};

/// Normalises each row of `dropout(x) + residual` to mean 0 and variance 1, then scales and shifts it.
///
/// The variance is the biased one, and `epsilon` is added to it under the root.
///
/// # Shapes
/// - `x`, `residual`, output: `[tokens, hidden]`
/// - `weight`, `bias`: `[hidden]`
///
/// # Source
/// Ba, Kiros, Hinton: "Layer Normalization" (arXiv:1607.06450).
pub fn layer_norm(
    x: Tensor<2>,
    residual: Option<Tensor<2>>,
    drop: Option<Dropout>,
    weight: Tensor<1>,
    bias: Tensor<1>,
    epsilon: f64,
) -> Tensor<2> {
    #[cfg(feature = "flex")]
    if crate::flex::is_fast(&x) {
        return crate::flex::layer_norm::layer_norm(x, residual, drop, weight, bias, epsilon);
    }
    let x = dropout(x, drop);
    let sum = match residual {
        Some(residual) => x + residual,
        None => x,
    };
    let centred = sum.clone() - sum.mean_dim(1);
    let variance = (centred.clone() * centred.clone()).mean_dim(1);
    centred / (variance + epsilon).sqrt() * weight.unsqueeze() + bias.unsqueeze()
}
