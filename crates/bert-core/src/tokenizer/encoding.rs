//! One text as the model reads it.

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
}

impl Encoding {
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
        }
    }
}
