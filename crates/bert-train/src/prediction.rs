//! What a classifier says of texts.

use bert_core::EncoderInput;
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
        let predictions = logits
            .iter()
            .map(|logits| Prediction { label: argmax(logits), probabilities: softmax(logits) });
        Ok((predictions.collect(), truncated))
    }
}

/// How much a token counts in a text's vector.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenWeight {
    /// The token as the vocabulary has it, [CLS] and [SEP] among them.
    pub token: String,
    /// The mean of its weights over the dimensions; over a text they sum to 1.
    pub weight: f32,
}

impl TextClassifier {
    /// How much each token of a text counts in the pooled vector, cut to `max_length` tokens.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    pub fn token_weights(
        &self,
        example: &Example,
        max_length: usize,
        device: &Device,
    ) -> Result<Vec<TokenWeight>> {
        let (encodings, _) = self.encode(std::slice::from_ref(example), max_length)?;
        let input = EncoderInput::new(&encodings, device);
        let means = self.model.pooling_weights(&input).mean_dim(1).into_data();
        let tokens = encodings.into_iter().flat_map(|encoding| encoding.tokens);
        let weighted = tokens.zip(means.iter::<f32>());
        Ok(weighted.map(|(token, weight)| TokenWeight { token, weight }).collect())
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
