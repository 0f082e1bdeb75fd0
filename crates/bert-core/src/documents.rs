//! Which tokens of a packed batch become the vector of each text.

use std::sync::Arc;

use bert_kernels::Sequences;
use burn::tensor::{Int, Tensor};

use crate::tokenizer::Encoding;

/// The texts of a batch: of which sequences each is made, and which of their tokens are pooled.
///
/// A text is one sequence, or several windows that overlap. A token of two windows is pooled from one of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Documents {
    /// The tokens that are pooled, by their place in the batch; `None` where all are.
    picked: Option<Arc<[usize]>>,
    /// Where the pooled tokens of each text lie, one behind the other.
    pub tokens: Sequences,
    /// Where the sequences of each text lie.
    pub windows: Sequences,
}

impl Documents {
    /// Texts of one sequence each, of which all tokens are pooled.
    pub fn of_sequences(sequences: &Sequences) -> Self {
        Self { picked: None, tokens: sequences.clone(), windows: sequences.first_tokens() }
    }

    /// The texts of a batch that is packed from these encodings.
    ///
    /// # Panics
    /// When there is no encoding, or one is empty.
    pub fn of_encodings<'a>(encodings: impl IntoIterator<Item = &'a Encoding>) -> Self {
        let (mut picked, mut tokens, mut windows, mut start) = (vec![], vec![], vec![], 0);
        for encoding in encodings {
            let before = picked.len();
            picked.extend(encoding.pooled().map(|place| start + place));
            tokens.push(picked.len() - before);
            windows.push(encoding.windows.len().max(1));
            start += encoding.input_ids.len();
        }
        let picked = (picked.len() < start).then(|| picked.into());
        Self::new(picked, &tokens, &windows)
    }

    /// Texts whose pooled tokens lie one behind the other, so many a text, and their first tokens likewise, one a sequence.
    ///
    /// # Panics
    /// When there is no text, or one has no token or no sequence.
    pub fn of_lengths(tokens: &[usize], windows: &[usize]) -> Self {
        Self::new(None, tokens, windows)
    }

    fn new(picked: Option<Arc<[usize]>>, tokens: &[usize], windows: &[usize]) -> Self {
        Self {
            picked,
            tokens: Sequences::from_lengths(tokens),
            windows: Sequences::from_lengths(windows),
        }
    }

    /// Whether a text is made of several sequences.
    pub fn have_windows(&self) -> bool {
        self.windows.tokens() > self.windows.len()
    }

    /// The rows of the tokens that are pooled.
    ///
    /// # Shapes
    /// `[tokens of the batch, width]` to `[pooled tokens, width]`
    pub fn pick(&self, rows: Tensor<2>) -> Tensor<2> {
        match &self.picked {
            None => rows,
            Some(picked) => {
                let places: Vec<i64> = picked.iter().map(|place| *place as i64).collect();
                let places = Tensor::<1, Int>::from_data(places.as_slice(), &rows.device());
                rows.select(0, places)
            }
        }
    }

    /// The mean over the sequences of each text.
    ///
    /// # Shapes
    /// `[sequences, width]` to `[texts, width]`
    pub fn mean_of_windows(&self, rows: Tensor<2>) -> Tensor<2> {
        if !self.have_windows() {
            return rows;
        }
        let shares: Vec<f32> =
            self.windows.ranges().map(|range| 1.0 / range.len() as f32).collect();
        let shares = Tensor::<1>::from_data(shares.as_slice(), &rows.device());
        let sums: Tensor<2> = self.windows.pad(rows).sum_dim(1).squeeze_dim(1);
        sums * shares.unsqueeze_dim(1)
    }
}
