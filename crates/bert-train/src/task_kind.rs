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
    /// Several tasks.
    MultiTask,
}

impl TaskKind {
    /// Hugging Face's model for the task.
    pub(crate) fn architecture(self) -> &'static str {
        match self {
            Self::Classify => "BertForSequenceClassification",
            Self::Tag => "BertForTokenClassification",
            Self::MultiTask => "model that `bert train` wrote for several tasks",
        }
    }

    /// What such a model is, in words.
    pub(crate) fn model(self) -> &'static str {
        match self {
            Self::Classify => "classifier of texts",
            Self::Tag => "tagger of words",
            Self::MultiTask => "model of several tasks",
        }
    }
}
