//! Cross-entropy for a span of each text: where it starts, and where it ends.

use bert_kernels::Sequences;
use burn::tensor::{Device, Int, Tensor, TensorData, activation::log_softmax};

use crate::divergence::softmax_terms;

/// What the logit of a place without a token is: its exponential is zero.
const HIDDEN: f32 = -1e30;

/// The mean of `-log P(start)` and `-log P(end)`, each a softmax over the tokens of its own text.
///
/// It is the loss of Hugging Face's `BertForQuestionAnswering`. Label smoothing `s` moves the share `s` of the target to all
/// tokens of the text evenly.
///
/// # Source
/// Devlin et al. (arXiv:1810.04805), section 4.2.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct SpanCrossEntropy {
    /// The share of the target that is spread over all tokens of the text, in `[0, 1]`.
    pub label_smoothing: f64,
}

impl SpanCrossEntropy {
    /// The loss; texts without a span do not count, and where no text has one the loss is 0.
    ///
    /// A span is its first and its last token, counted from the text's [CLS]: a question without an answer has its span
    /// there, `(0, 0)`.
    ///
    /// # Shapes
    /// - `logits`: `[tokens, 2]`, start and end
    /// - `spans`: one a sequence
    /// - output: `[1]`
    ///
    /// # Panics
    /// When the number of spans does not fit, or a span lies beyond its text.
    pub fn forward(
        &self,
        logits: Tensor<2>,
        sequences: &Sequences,
        spans: &[Option<(usize, usize)>],
    ) -> Tensor<1> {
        let rows = sequences.len();
        assert_eq!(logits.dims()[1], 2, "span cross-entropy: start and end are expected");
        assert_eq!(spans.len(), rows, "span cross-entropy: one span a sequence is expected");
        for (span, range) in spans.iter().zip(sequences.ranges()) {
            if let Some((start, end)) = span {
                assert!(
                    *start.max(end) < range.len(),
                    "span cross-entropy: the span {start} to {end} lies beyond its {} tokens",
                    range.len()
                );
            }
        }

        let device = logits.device();
        let places = spans.iter().map(|span| span.unwrap_or((0, 0)));
        let places: Vec<i64> = places.flat_map(|(start, end)| [start as i64, end as i64]).collect();
        let places = Tensor::<3, Int>::from_data(TensorData::new(places, [rows, 1, 2]), &device);
        let counted = spans.iter().flatten().count().max(1);
        let log_probabilities = log_softmax(sequences.pad_with(logits, HIDDEN), 1);
        let target_terms =
            log_probabilities.clone().gather(1, places) * row_weights(spans, &device);
        let mut sum = target_terms.sum() * (self.label_smoothing - 1.0);
        if self.label_smoothing > 0.0 {
            let length = sequences.max_length();
            let ranges = sequences.ranges().zip(spans);
            let shares = ranges.flat_map(|(range, span)| {
                let share = if span.is_some() { 1.0 / range.len() as f32 } else { 0.0 };
                (0..length).map(move |place| if place < range.len() { share } else { 0.0 })
            });
            let shares = TensorData::new(shares.collect::<Vec<f32>>(), [rows, length, 1]);
            let spread = log_probabilities * Tensor::from_data(shares, &device);
            sum = sum - spread.sum() * self.label_smoothing;
        }
        sum / (2.0 * counted as f64)
    }

    /// How far two answers to the same texts lie apart: the mean over the texts that have a span, and over start and end, of
    /// `(KL(p || q) + KL(q || p)) / 2`, where `p` and `q` are the softmaxes over the tokens of the text.
    ///
    /// # Shapes
    /// - `one`, `other`: `[tokens, 2]`, start and end
    /// - `spans`: one a sequence
    /// - output: `[1]`
    ///
    /// # Panics
    /// When the number of spans does not fit, or the shapes differ.
    pub fn divergence(
        &self,
        one: Tensor<2>,
        other: Tensor<2>,
        sequences: &Sequences,
        spans: &[Option<(usize, usize)>],
    ) -> Tensor<1> {
        let weights = row_weights(spans, &one.device());
        let counted = spans.iter().flatten().count().max(1);
        let [one, other] = [one, other].map(|logits| sequences.pad_with(logits, HIDDEN));
        (softmax_terms(one, other, 1) * weights).sum() / (2.0 * counted as f64)
    }
}

/// 1 where a text has a span and 0 where it has none, `[rows, 1, 2]`.
fn row_weights(spans: &[Option<(usize, usize)>], device: &Device) -> Tensor<3> {
    let weights = spans.iter().map(|span| if span.is_some() { 1.0f32 } else { 0.0 });
    let weights: Vec<f32> = weights.flat_map(|weight| [weight; 2]).collect();
    Tensor::from_data(TensorData::new(weights, [spans.len(), 1, 2]), device)
}
