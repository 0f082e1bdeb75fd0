//! What a classifier says of texts.

use burn::tensor::Device;

use crate::{
    error::Result, evaluate::predict_logits, examples::Example, metrics::argmax,
    text_classifier::TextClassifier,
};

/// The answer for one text.
#[derive(Debug, Clone, PartialEq)]
pub struct Prediction {
    /// The id of the most probable label.
    pub label: u32,
    /// One a label, by id; they sum to 1.
    pub probabilities: Vec<f64>,
}

impl Prediction {
    pub(crate) fn new(logits: &[f32]) -> Self {
        Self { label: argmax(logits), probabilities: softmax(logits) }
    }
}

impl TextClassifier {
    /// Classifies texts, and counts those that were cut to `max_length` tokens.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    pub fn predict(
        &self,
        examples: &[Example],
        max_length: usize,
        batch_size: usize,
        device: &Device,
    ) -> Result<(Vec<Prediction>, usize)> {
        let (encodings, truncated) = self.encode(examples, max_length)?;
        let logits = predict_logits(&self.model, &encodings, batch_size, device);
        Ok((logits.iter().map(|logits| Prediction::new(logits)).collect(), truncated))
    }
}

/// `exp(x) / sum exp(x)`, in double precision.
pub(crate) fn softmax(logits: &[f32]) -> Vec<f64> {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers: Vec<f64> = logits.iter().map(|logit| f64::from(logit - largest).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.into_iter().map(|power| power / sum).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn softmax_by_hand() {
        // 1 / (1 + 3), 3 / (1 + 3), far from zero as well.
        for shift in [0.0, 500.0] {
            let probabilities = softmax(&[shift, shift + 3f32.ln()]);
            assert!(
                (probabilities[0] - 0.25).abs() < 1e-5 && (probabilities[1] - 0.75).abs() < 1e-5
            );
        }
    }
}
