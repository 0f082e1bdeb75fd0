//! What a task asks of a text.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The forms of tasks that a model of several may have; names in run files begin with `pair-` where a row has two texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TaskForm {
    /// One label a text.
    Classify,
    /// Any number of labels a text.
    MultiLabel,
    /// One label of an ordered set a text.
    Ordinal,
    /// A number a text.
    Regress,
    /// One label a pair of texts.
    PairClassify,
    /// Any number of labels a pair of texts.
    PairMultiLabel,
    /// One label of an ordered set a pair of texts.
    PairOrdinal,
    /// A number a pair of texts.
    PairRegress,
    /// One tag a word.
    Tag,
    /// The part of the second text that answers the first.
    Span,
}

/// What an answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AnswerKind {
    Label,
    LabelSet,
    Rank,
    Number,
    Tags,
    Part,
}

impl TaskForm {
    /// The texts of a row.
    pub fn texts(self) -> usize {
        match self {
            Self::Classify | Self::MultiLabel | Self::Ordinal | Self::Regress | Self::Tag => 1,
            Self::PairClassify
            | Self::PairMultiLabel
            | Self::PairOrdinal
            | Self::PairRegress
            | Self::Span => 2,
        }
    }

    pub(crate) fn answer(self) -> AnswerKind {
        match self {
            Self::Classify | Self::PairClassify => AnswerKind::Label,
            Self::MultiLabel | Self::PairMultiLabel => AnswerKind::LabelSet,
            Self::Ordinal | Self::PairOrdinal => AnswerKind::Rank,
            Self::Regress | Self::PairRegress => AnswerKind::Number,
            Self::Tag => AnswerKind::Tags,
            Self::Span => AnswerKind::Part,
        }
    }

    /// Whether every token is answered, so that nothing is pooled.
    pub fn is_of_tokens(self) -> bool {
        matches!(self, Self::Tag | Self::Span)
    }

    /// The scores that such a task may be judged by; the first is the one that it is judged by unasked.
    pub fn metrics(self) -> &'static [&'static str] {
        match self.answer() {
            AnswerKind::Label => &["accuracy", "f1_macro", "f1_micro", "f1", "matthews"],
            AnswerKind::LabelSet => &["f1_micro", "f1_macro", "accuracy"],
            AnswerKind::Rank => &["kappa", "accuracy", "mean_absolute_error"],
            AnswerKind::Number => &["spearman", "pearson", "mean_squared_error"],
            AnswerKind::Tags => &["f1", "precision", "recall", "accuracy"],
            AnswerKind::Part => &["f1", "exact_match"],
        }
    }

    /// The same with as many texts as a row of the data has.
    pub(crate) fn with_texts(self, texts: usize) -> Self {
        match (self, texts) {
            (Self::Classify | Self::PairClassify, 2) => Self::PairClassify,
            (Self::MultiLabel | Self::PairMultiLabel, 2) => Self::PairMultiLabel,
            (Self::Ordinal | Self::PairOrdinal, 2) => Self::PairOrdinal,
            (Self::Regress | Self::PairRegress, 2) => Self::PairRegress,
            (Self::Classify | Self::PairClassify, _) => Self::Classify,
            (Self::MultiLabel | Self::PairMultiLabel, _) => Self::MultiLabel,
            (Self::Ordinal | Self::PairOrdinal, _) => Self::Ordinal,
            (Self::Regress | Self::PairRegress, _) => Self::Regress,
            (Self::Tag | Self::Span, _) => self,
        }
    }
}

impl fmt::Display for TaskForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Classify => "classify",
            Self::MultiLabel => "multi-label",
            Self::Ordinal => "ordinal",
            Self::Regress => "regress",
            Self::PairClassify => "pair-classify",
            Self::PairMultiLabel => "pair-multi-label",
            Self::PairOrdinal => "pair-ordinal",
            Self::PairRegress => "pair-regress",
            Self::Tag => "tag",
            Self::Span => "span",
        })
    }
}
