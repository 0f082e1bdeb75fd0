//! The tokens that stand for no word.

/// A token with a part of its own in BERT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpecialToken {
    /// `[PAD]`: fills a batch.
    Pad,
    /// `[UNK]`: a word that the vocabulary cannot spell.
    Unk,
    /// `[CLS]`: begins every text.
    Cls,
    /// `[SEP]`: ends every text.
    Sep,
    /// `[MASK]`: a word to be guessed.
    Mask,
}

impl SpecialToken {
    /// All of them, in the order in which vocabularies usually begin.
    pub const ALL: [Self; 5] = [Self::Pad, Self::Unk, Self::Cls, Self::Sep, Self::Mask];

    /// How BERT's vocabulary spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pad => "[PAD]",
            Self::Unk => "[UNK]",
            Self::Cls => "[CLS]",
            Self::Sep => "[SEP]",
            Self::Mask => "[MASK]",
        }
    }

    /// Its key in `tokenizer_config.json` and `special_tokens_map.json`.
    pub(super) const fn key(self) -> &'static str {
        match self {
            Self::Pad => "pad_token",
            Self::Unk => "unk_token",
            Self::Cls => "cls_token",
            Self::Sep => "sep_token",
            Self::Mask => "mask_token",
        }
    }
}
