//! Adversarial training: each text's words are moved the way that makes its loss grow fastest.

use burn::tensor::{Tensor, TensorData};

/// What is added to the word embeddings of each text: `epsilon * g / |g|`, with the gradient `g` of the loss over all tokens of
/// the text. A text without a gradient is left as it is.
///
/// Each text has a norm of its own, so that what is added does not hang on the other texts of its batch, nor on how many
/// there are.
///
/// # Shapes
/// - `gradient`: `[tokens, hidden_size]`, text by text
/// - `lengths`: the tokens of each text
/// - output: `[tokens, hidden_size]`
///
/// # Source
/// Miyato, Dai, Goodfellow: "Adversarial Training Methods for Semi-Supervised Text Classification" (arXiv:1605.07725),
/// section 3. There, embeddings are normalised first; here, BERT's own normalisation comes right behind them. Code that
/// moves rows of the table instead moves a word alike in all texts of a batch, by one norm over all of them.
pub(crate) fn adverse_shift(gradient: Tensor<2>, lengths: &[usize], epsilon: f64) -> Tensor<2> {
    let squares = (gradient.clone() * gradient.clone()).sum_dim(1).into_data();
    let mut squares = squares.iter::<f64>();
    let factors = lengths.iter().flat_map(|length| {
        let norm = squares.by_ref().take(*length).sum::<f64>().sqrt();
        let factor = if norm == 0.0 { 0.0 } else { epsilon / norm };
        std::iter::repeat_n(factor as f32, *length)
    });
    let factors: Vec<f32> = factors.collect();
    let factors = TensorData::new(factors, [gradient.dims()[0], 1]);
    let device = gradient.device();
    gradient * Tensor::from_data(factors, &device)
}

#[cfg(all(test, feature = "flex"))]
#[allow(clippy::unwrap_used)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    #[test]
    fn each_text_is_moved_by_epsilon() {
        let device = Device::flex();
        // |(3, 0, 0, 4)| = 5; a text without gradient; |(0, 2)| = 2.
        let gradient = [[3.0, 0.0], [0.0, 4.0], [0.0, 0.0], [0.0, -2.0]];
        let gradient = Tensor::<2>::from_data(gradient, &device);
        let shift = adverse_shift(gradient, &[2, 1, 1], 0.5).into_data();
        let expected = [0.3, 0.0, 0.0, 0.4, 0.0, 0.0, 0.0, -0.5];
        for (got, expected) in shift.iter::<f32>().zip(expected) {
            assert!((got - expected).abs() < 1e-6, "{got} {expected}");
        }
        // What is no number does not vanish, so that the run ends by it.
        let gradient = Tensor::<2>::from_data([[f32::NAN, 1.0]], &device);
        assert!(adverse_shift(gradient, &[1], 0.5).into_data().iter::<f32>().all(f32::is_nan));
    }
}
