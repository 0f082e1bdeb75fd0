//! The weighted sum of several tensors.

use burn::tensor::Tensor;

/// `sum over i of weights[i] states[i]`.
///
/// # Shapes
/// - `weights`: `[states]`
/// - `states`: tensors `[tokens, width]`, the shape of the output
///
/// # Panics
/// When there are no states, more or fewer than weights, or shapes differ.
pub fn mixture(weights: Tensor<1>, states: Vec<Tensor<2>>) -> Tensor<2> {
    let [expected] = weights.dims();
    assert_eq!(states.len(), expected, "mixture: one state a weight is expected");
    let sum = states.into_iter().enumerate().fold(None, |sum: Option<Tensor<2>>, (index, x)| {
        #[cfg(feature = "flex")]
        if crate::flex::is_fast(&x) {
            return Some(crate::flex::mixture::add_scaled(sum, x, weights.clone(), index));
        }
        let term = x * weights.clone().narrow(0, index, 1).unsqueeze();
        Some(match sum {
            Some(sum) => sum + term,
            None => term,
        })
    });
    sum.expect("mixture: at least one state is expected") // INVARIANT: see `# Panics`
}
