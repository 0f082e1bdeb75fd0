//! What is learned of the words: a task embedding, and which rows of the table.

use std::{fmt, path::Path, str::FromStr};

use bert_core::BertConfig;
use bert_heads::TaskEmbeddingKind;
use serde::{Deserialize, Serialize};

use crate::error::Error;

/// What is learned of the words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct WordConfig {
    /// The map of the word embeddings that is learned for the task; without one, they go in as they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task_embedding: Option<TaskEmbeddingKind>,
    /// Which rows of the table of word embeddings are trained.
    pub train_embeddings: TrainEmbeddings,
}

/// Which word embeddings are trained. Positions, token types and their norm are trained with each of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TrainEmbeddings {
    /// All of them.
    #[default]
    All,
    /// Those of words that were added to the vocabulary; the others keep every bit.
    New,
    /// None: every word keeps every bit.
    None,
}

impl TrainEmbeddings {
    /// Every choice, in the order of their descriptions.
    pub const ALL: [Self; 3] = [Self::All, Self::New, Self::None];

    /// How many words of the model in `dir`, from the first, are not trained; `None` where all are.
    pub(crate) fn frozen_words(
        self,
        config: &BertConfig,
        dir: &Path,
    ) -> crate::Result<Option<usize>> {
        let (all, base) = (config.vocab_size, config.base_vocab_size()?);
        match self {
            Self::All => Ok(None),
            Self::New if base == all => Err(Error::NoNewWords { path: dir.into() }),
            Self::New => Ok(Some(base)),
            Self::None => Ok(Some(all)),
        }
    }
}

impl fmt::Display for TrainEmbeddings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::All => "all",
            Self::New => "new",
            Self::None => "none",
        })
    }
}

/// A name that stands for no choice of word embeddings.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown choice of word embeddings {0:?}: expected all, new or none")]
pub struct ParseTrainEmbeddingsError(String);

impl FromStr for TrainEmbeddings {
    type Err = ParseTrainEmbeddingsError;

    fn from_str(name: &str) -> Result<Self, ParseTrainEmbeddingsError> {
        Self::ALL
            .into_iter()
            .find(|choice| choice.to_string() == name)
            .ok_or_else(|| ParseTrainEmbeddingsError(name.to_owned()))
    }
}
