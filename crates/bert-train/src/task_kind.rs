//! What a model answers.

use serde::{Deserialize, Serialize};

/// The kinds of tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TaskKind {
    /// One label a text.
    #[default]
    Classify,
    /// One tag a word.
    Tag,
}

impl TaskKind {
    /// Hugging Face's model for the task.
    pub(crate) fn architecture(self) -> &'static str {
        match self {
            Self::Classify => "BertForSequenceClassification",
            Self::Tag => "BertForTokenClassification",
        }
    }

    /// What such a model is, in words.
    pub(crate) fn model(self) -> &'static str {
        match self {
            Self::Classify => "classifier of texts",
            Self::Tag => "tagger of words",
        }
    }
}
