//! Labelled texts, ready for the encoder.

use bert_core::Encoding;
use bert_kernels::Sequences;

use crate::{hidden_states::HiddenStates, labels::LabelMap};

/// Encoded texts with what they are to be answered with, in file order.
///
/// `L` is what a row is answered with: for a classifier of texts the id of the label, where a text has one.
#[derive(Debug, Clone)]
pub struct DataSet<L = Option<u32>> {
    /// One a row.
    pub encodings: Vec<Encoding>,
    /// One a row.
    pub labels: Vec<L>,
    /// What an encoder that the model has frozen gives for the rows, where it was computed once for all: the encodings are not
    /// run again.
    pub states: Option<HiddenStates>,
}

/// The tags of a sentence's words, and the tokens that answer for them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WordTags {
    /// The id of each word's tag.
    pub tags: Vec<u32>,
    /// Where among the sentence's tokens each word has its first piece; a word that was cut off has none.
    pub first_tokens: Vec<Option<usize>>,
}

/// Sentences to measure a tagger on: what a span is, the names of the tags tell.
#[derive(Debug, Clone)]
pub struct TaggedSet {
    /// The sentences.
    pub rows: DataSet<WordTags>,
    /// The tags by id.
    pub labels: LabelMap,
}

impl<L> DataSet<L> {
    /// The number of rows.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// The number of tokens of each row, over all its windows.
    pub fn lengths(&self) -> Vec<usize> {
        self.encodings.iter().map(|encoding| encoding.input_ids.len()).collect()
    }

    /// The number of rows that are longer than what is read of them.
    pub fn cut_rows(&self) -> usize {
        self.encodings.iter().filter(|encoding| encoding.truncated).count()
    }

    /// The encodings of some rows.
    pub(crate) fn encodings_of<'a>(
        &'a self,
        rows: &'a [usize],
    ) -> impl Iterator<Item = &'a Encoding> {
        rows.iter().map(|row| &self.encodings[*row])
    }
}

impl<L> Default for DataSet<L> {
    fn default() -> Self {
        Self { encodings: vec![], labels: vec![], states: None }
    }
}

impl WordTags {
    /// The tags of words that were encoded: `tags` has one a word.
    pub fn new(tags: Vec<u32>, encoding: &Encoding) -> Self {
        let mut first_tokens = vec![None; tags.len()];
        for (token, word) in encoding.word_ids.iter().enumerate() {
            let place = word.and_then(|word| first_tokens.get_mut(word as usize));
            if let Some(first @ None) = place {
                *first = Some(token);
            }
        }
        Self { tags, first_tokens }
    }

    /// What each token of a batch is answered with: a word's first piece with its tag, all others with nothing.
    pub(crate) fn of_tokens<'a>(
        rows: impl IntoIterator<Item = &'a Self>,
        sequences: &Sequences,
    ) -> Vec<Option<u32>> {
        let mut targets = vec![None; sequences.tokens()];
        for (range, row) in sequences.ranges().zip(rows) {
            for (tag, first) in row.tags.iter().zip(&row.first_tokens) {
                if let Some(first) = first {
                    targets[range.start + first] = Some(*tag);
                }
            }
        }
        targets
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_piece_of_each_word_answers_for_it() {
        // [CLS] play ##ing (no piece) mov ##ie ! [SEP], and a last word that was cut off
        let word_ids = vec![None, Some(0), Some(0), Some(2), Some(2), Some(2), None];
        let encoding = Encoding {
            input_ids: vec![0; 7],
            token_type_ids: vec![0; 7],
            tokens: vec![String::new(); 7],
            offsets: vec![(0, 0); 7],
            word_ids,
            special_tokens_mask: vec![false; 7],
            truncated: true,
            windows: vec![],
        };
        let words = WordTags::new(vec![4, 3, 2, 1], &encoding);
        assert_eq!(words.first_tokens, [Some(1), None, Some(3), None]);
    }
}
