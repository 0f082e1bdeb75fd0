//! Gaussian error linear units.

use burn::tensor::Tensor;

/// `x Phi(x)` with the exact distribution function of the standard normal, and the exact gradient.
///
/// Burn's own `gelu` is not used: its gradient is that of the tanh approximation on several backends.
///
/// # Source
/// Hendrycks, Gimpel: "Gaussian Error Linear Units" (arXiv:1606.08415).
pub fn gelu(x: Tensor<2>) -> Tensor<2> {
    #[cfg(feature = "flex")]
    if crate::flex::is_fast(&x) {
        return crate::flex::gelu::gelu(x);
    }
    let phi = (x.clone() * std::f64::consts::FRAC_1_SQRT_2).erf() + 1.0;
    x * phi * 0.5
}

/// The tanh approximation of [`gelu`] that some checkpoints were trained with (`gelu_new`).
///
/// # Source
/// Section 2 of arXiv:1606.08415: `0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))`.
pub fn gelu_new(x: Tensor<2>) -> Tensor<2> {
    let cube = x.clone() * x.clone() * x.clone();
    let inner = (x.clone() + cube * 0.044_715) * (2.0 / std::f64::consts::PI).sqrt();
    x * (inner.tanh() + 1.0) * 0.5
}
