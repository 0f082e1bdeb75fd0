//! What a run keeps as it is.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// The part of a model that a run keeps as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Freeze {
    /// The encoder with its embeddings: it runs once over all texts, without dropout, and what is trained after it (layer mixture,
    /// pooling, head) learns from the hidden states that are kept.
    Encoder,
}

impl fmt::Display for Freeze {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Encoder => f.pad("encoder"),
        }
    }
}

/// A name that stands for no part of a model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown part {0:?}: expected encoder")]
pub struct ParseFreezeError(String);

impl FromStr for Freeze {
    type Err = ParseFreezeError;

    fn from_str(name: &str) -> Result<Self, ParseFreezeError> {
        match name {
            "encoder" => Ok(Self::Encoder),
            _ => Err(ParseFreezeError(name.to_owned())),
        }
    }
}
