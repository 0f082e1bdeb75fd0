//! Cross-entropy for a span of each text: where it starts, and where it ends.

use bert_kernels::Sequences;
use burn::tensor::{Int, Tensor, TensorData, activation::log_softmax};

/// What the logit of a place without a token is: its exponential is zero.
const HIDDEN: f32 = -1e30;

/// The mean of `-log P(start)` and `-log P(end)`, each a softmax over the tokens of its own text.
///
/// It is the loss of Hugging Face's `BertForQuestionAnswering`.
///
/// # Source
/// Devlin et al. (arXiv:1810.04805), section 4.2.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SpanCrossEntropy;

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
        let weights = spans.iter().map(|span| if span.is_some() { 1.0f32 } else { 0.0 });
        let weights: Vec<f32> = weights.flat_map(|weight| [weight; 2]).collect();
        let weights = Tensor::<3>::from_data(TensorData::new(weights, [rows, 1, 2]), &device);
        let counted = spans.iter().flatten().count().max(1);
        let log_probabilities = log_softmax(sequences.pad_with(logits, HIDDEN), 1);
        (log_probabilities.gather(1, places) * weights).sum() / (-2.0 * counted as f64)
    }
}
