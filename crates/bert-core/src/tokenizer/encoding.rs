//! One text as the model reads it.

use std::ops::Range;

/// One text, or pair of texts, in tokens. All vectors have one element a token, `[CLS]` and
/// `[SEP]` among them; there is no padding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoding {
    /// Rows of the word embedding.
    pub input_ids: Vec<u32>,
    /// 0 up to the first `[SEP]`, 1 for the second text of a pair.
    pub token_type_ids: Vec<u32>,
    /// The tokens as the vocabulary spells them.
    pub tokens: Vec<String>,
    /// Where the token lies in its text, in characters: start, and one past the end. `(0, 0)`
    /// for `[CLS]` and `[SEP]`.
    pub offsets: Vec<(usize, usize)>,
    /// The index of the token's word in its text; `None` for `[CLS]` and `[SEP]`.
    pub word_ids: Vec<Option<u32>>,
    /// True for the `[CLS]` and `[SEP]` that the tokenizer put around the text.
    pub special_tokens_mask: Vec<bool>,
    /// Whether the text was longer.
    pub truncated: bool,
    /// The windows that a long text is read in, one behind the other; none where all tokens are
    /// read together.
    pub windows: Vec<Window>,
}

/// A stretch of a long text that the encoder reads by itself, with special tokens of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// The number of its tokens.
    pub length: usize,
    /// Its tokens, by place, that are pooled from it and from no window that overlaps it; its
    /// special tokens are pooled besides.
    pub own: Range<usize>,
}

impl Encoding {
    /// These tokens of it, by place, as one sequence.
    ///
    /// # Panics
    /// When there is no such place.
    pub fn select(&self, places: &[usize]) -> Self {
        Self {
            input_ids: places.iter().map(|place| self.input_ids[*place]).collect(),
            token_type_ids: places.iter().map(|place| self.token_type_ids[*place]).collect(),
            tokens: places.iter().map(|place| self.tokens[*place].clone()).collect(),
            offsets: places.iter().map(|place| self.offsets[*place]).collect(),
            word_ids: places.iter().map(|place| self.word_ids[*place]).collect(),
            special_tokens_mask: places
                .iter()
                .map(|place| self.special_tokens_mask[*place])
                .collect(),
            truncated: self.truncated,
            windows: vec![],
        }
    }

    /// The length of each sequence that the encoder reads.
    pub fn sequence_lengths(&self) -> Vec<usize> {
        match &self.windows[..] {
            [] => vec![self.input_ids.len()],
            windows => windows.iter().map(|window| window.length).collect(),
        }
    }

    /// The places of the tokens that are pooled, in order: each token of the text once, and every
    /// special token.
    pub fn pooled(&self) -> impl Iterator<Item = usize> {
        let mut windows = self.windows.iter();
        let (mut start, mut end, mut own) = (0, 0, 0..0);
        (0..self.input_ids.len()).filter(move |place| {
            if *place == end {
                start = end;
                (end, own) = match windows.next() {
                    Some(window) => (start + window.length, window.own.clone()),
                    None => (usize::MAX, 0..usize::MAX),
                };
            }
            own.contains(&(place - start)) || self.special_tokens_mask[*place]
        })
    }

    pub(super) fn new(encoding: &tokenizers::Encoding, truncated: bool) -> Self {
        Self {
            input_ids: encoding.get_ids().into(),
            token_type_ids: encoding.get_type_ids().into(),
            tokens: encoding.get_tokens().into(),
            offsets: encoding.get_offsets().into(),
            word_ids: encoding.get_word_ids().into(),
            special_tokens_mask: encoding
                .get_special_tokens_mask()
                .iter()
                .map(|m| *m == 1)
                .collect(),
            truncated,
            windows: vec![],
        }
    }
}
