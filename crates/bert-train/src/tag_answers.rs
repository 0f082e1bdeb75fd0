//! What logits say of the tags of words.

use crate::{
    data_set::WordTags,
    evaluate::cross_entropy,
    labels::LabelMap,
    metrics::{TagCounts, TaggingMetrics, argmax},
};

/// The right tags of some sentences, and those that a model gives them.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TagAnswers<'a> {
    pub(crate) gold: Vec<Vec<&'a str>>,
    pub(crate) predicted: Vec<Vec<&'a str>>,
    /// The mean over words.
    loss: f64,
}

impl<'a> TagAnswers<'a> {
    /// Those of sentences with the logits of each one's tokens, one behind the other.
    ///
    /// A word that was cut off is answered with `O`, and has no loss.
    pub(crate) fn new<'r>(
        rows: impl Iterator<Item = (&'r WordTags, &'r [f32])>,
        labels: &'a LabelMap,
    ) -> Self {
        let name = |tag: u32| labels.name(tag).unwrap_or("O");
        let width = labels.len();
        let (mut gold, mut predicted, mut loss, mut answered) = (vec![], vec![], 0.0, 0usize);
        for (row, logits) in rows {
            let mut answers = vec!["O"; row.tags.len()];
            for ((answer, tag), first) in answers.iter_mut().zip(&row.tags).zip(&row.first_tokens) {
                if let Some(token) = first {
                    let logits = &logits[token * width..(token + 1) * width];
                    *answer = name(argmax(logits));
                    loss += cross_entropy(logits, *tag);
                    answered += 1;
                }
            }
            gold.push(row.tags.iter().map(|tag| name(*tag)).collect());
            predicted.push(answers);
        }
        Self { gold, predicted, loss: loss / answered.max(1) as f64 }
    }

    /// What each sentence adds to the scores.
    pub(crate) fn counts(&self) -> Vec<TagCounts> {
        let sentences = self.gold.iter().zip(&self.predicted);
        sentences.map(|(gold, predicted)| TagCounts::new(gold, predicted)).collect()
    }

    /// How good the answers are.
    pub(crate) fn metrics(&self) -> TaggingMetrics {
        TaggingMetrics::new(&self.gold, &self.predicted, self.loss)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn words_that_were_cut_off_are_answered_with_o() {
        let labels = LabelMap::of_model(&["B-M", "O"].map(String::from)).unwrap();
        let row = WordTags { tags: vec![1, 0, 0], first_tokens: vec![Some(1), Some(2), None] };
        // [CLS], a word that is O, one that is B-M by two to one, and [SEP].
        let logits = [9.0, 9.0, -1.0, 2.0, 2f32.ln(), 0.0, 9.0, 9.0];
        let answers = TagAnswers::new([(&row, &logits[..])].into_iter(), &labels);
        assert_eq!(answers.gold, [["O", "B-M", "B-M"]]);
        assert_eq!(answers.predicted, [["O", "B-M", "O"]]);
        // ln(1 + e^-3) and ln(3/2), over two words.
        let expected = ((-3f64).exp().ln_1p() + 1.5f64.ln()) / 2.0;
        let metrics = answers.metrics();
        assert!((metrics.loss - expected).abs() < 1e-7, "{metrics:?}");
        // One span is found of two, none is wrong.
        assert!((metrics.f1 - 2.0 / 3.0).abs() < 1e-12 && (metrics.precision - 1.0).abs() < 1e-12);
    }
}
