//! The affine map on flat activations.

use burn::tensor::Tensor;

/// `x weight + bias`.
///
/// # Shapes
/// - `x`: `[tokens, in]`
/// - `weight`: `[in, out]`
/// - `bias`: `[out]`
/// - output: `[tokens, out]`
pub fn linear(x: Tensor<2>, weight: Tensor<2>, bias: Option<Tensor<1>>) -> Tensor<2> {
    #[cfg(feature = "flex")]
    if crate::flex::is_fast(&x) {
        return crate::flex::linear::linear(x, weight, bias);
    }
    let product = x.matmul(weight);
    match bias {
        Some(bias) => product + bias.unsqueeze(),
        None => product,
    }
}
