//! Task embeddings: a map of the word embeddings that each task learns for itself.

use std::{fmt, str::FromStr};

use bert_core::initialise;
use bert_kernels::linear;
use burn::{
    module::{Module, Param},
    nn::{Linear, LinearConfig},
    tensor::{Device, Tensor},
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The task embeddings by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskEmbeddingKind {
    /// `x + x D + b`, with a full matrix.
    Full,
    /// `x + x A B + b`, through `rank` dimensions.
    LowRank {
        /// The width between the two matrices, from 1.
        rank: usize,
    },
    /// `x + x * d + b`, a factor a dimension.
    Diagonal,
    /// `x + b`.
    Additive,
}

impl fmt::Display for TaskEmbeddingKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.pad("full"),
            Self::LowRank { rank } => f.pad(&format!("low-rank={rank}")),
            Self::Diagonal => f.pad("diagonal"),
            Self::Additive => f.pad("additive"),
        }
    }
}

/// A name that no task embedding has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown task embedding {0:?}: expected full, low-rank=R (R from 1, for example low-rank=16), diagonal or additive"
)]
pub struct ParseTaskEmbeddingError(String);

impl FromStr for TaskEmbeddingKind {
    type Err = ParseTaskEmbeddingError;

    fn from_str(name: &str) -> Result<Self, ParseTaskEmbeddingError> {
        let rank = |rank: &str| rank.parse().ok().filter(|rank| *rank > 0);
        match (name, name.strip_prefix("low-rank=").and_then(rank)) {
            ("full", _) => Ok(Self::Full),
            (_, Some(rank)) => Ok(Self::LowRank { rank }),
            ("diagonal", _) => Ok(Self::Diagonal),
            ("additive", _) => Ok(Self::Additive),
            _ => Err(ParseTaskEmbeddingError(name.to_owned())),
        }
    }
}

impl Serialize for TaskEmbeddingKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TaskEmbeddingKind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        name.parse().map_err(serde::de::Error::custom)
    }
}

/// A map of the word embeddings, before positions, token types and normalisation come in.
///
/// What is stored is the difference to the identity and a bias, all 0 at the start: training begins with the
/// pre-trained model, and weight decay pulls back to it. The map is the same for every word, so that
/// [`fold`](Self::fold) turns it into an ordinary table of word embeddings.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)] // INVARIANT: one task embedding a task, so that its size does not matter.
pub enum TaskEmbedding {
    /// See [`TaskEmbeddingKind::Full`].
    Full(FullTaskEmbedding),
    /// See [`TaskEmbeddingKind::LowRank`].
    LowRank(LowRankTaskEmbedding),
    /// See [`TaskEmbeddingKind::Diagonal`].
    Diagonal(DiagonalTaskEmbedding),
    /// See [`TaskEmbeddingKind::Additive`].
    Additive(AdditiveTaskEmbedding),
}

/// `x + x D + b`.
#[derive(Module, Debug)]
pub struct FullTaskEmbedding {
    /// `[hidden_size, hidden_size]` and `[hidden_size]`
    pub delta: Linear,
}

/// `x + x A B + b`.
#[derive(Module, Debug)]
pub struct LowRankTaskEmbedding {
    /// `[hidden_size, rank]`, normal(0.02) at the start
    pub a: Linear,
    /// `[rank, hidden_size]` and `[hidden_size]`, 0 at the start
    pub b: Linear,
}

/// `x + x * d + b`.
#[derive(Module, Debug)]
pub struct DiagonalTaskEmbedding {
    /// `[hidden_size]`
    pub delta: Param<Tensor<1>>,
    /// `[hidden_size]`
    pub bias: Param<Tensor<1>>,
}

/// `x + b`.
#[derive(Module, Debug)]
pub struct AdditiveTaskEmbedding {
    /// `[hidden_size]`
    pub bias: Param<Tensor<1>>,
}

impl TaskEmbedding {
    /// A task embedding that still is the identity; what is random in it is drawn from `seed`.
    pub fn new(kind: TaskEmbeddingKind, hidden_size: usize, seed: u64, device: &Device) -> Self {
        const STD: f64 = 0.02;
        let zeros = || Param::from_tensor(Tensor::zeros([hidden_size], device));
        let zero_map = |inputs: usize| Linear {
            weight: Param::from_tensor(Tensor::zeros([inputs, hidden_size], device)),
            bias: Some(zeros()),
        };
        match kind {
            TaskEmbeddingKind::Full => {
                Self::Full(FullTaskEmbedding { delta: zero_map(hidden_size) })
            }
            TaskEmbeddingKind::LowRank { rank } => {
                let a = LinearConfig::new(hidden_size, rank).with_bias(false).init(device);
                let a = initialise(a, "task_embedding.a.", seed, STD);
                Self::LowRank(LowRankTaskEmbedding { a, b: zero_map(rank) })
            }
            TaskEmbeddingKind::Diagonal => {
                Self::Diagonal(DiagonalTaskEmbedding { delta: zeros(), bias: zeros() })
            }
            TaskEmbeddingKind::Additive => Self::Additive(AdditiveTaskEmbedding { bias: zeros() }),
        }
    }

    /// # Shapes
    /// `words`, output: `[tokens, hidden_size]`
    pub fn forward(&self, words: Tensor<2>) -> Tensor<2> {
        match self {
            Self::Full(FullTaskEmbedding { delta }) => words.clone() + apply(delta, words),
            Self::LowRank(LowRankTaskEmbedding { a, b }) => {
                words.clone() + apply(b, apply(a, words))
            }
            Self::Diagonal(DiagonalTaskEmbedding { delta, bias }) => {
                let factors = delta.val() + 1.0;
                words * factors.unsqueeze() + bias.val().unsqueeze()
            }
            Self::Additive(AdditiveTaskEmbedding { bias }) => words + bias.val().unsqueeze(),
        }
    }

    /// The table of word embeddings that does by itself what this does to every word of `table`.
    ///
    /// # Shapes
    /// `table`, output: `[vocab_size, hidden_size]`
    pub fn fold(&self, table: Tensor<2>) -> Tensor<2> {
        self.forward(table)
    }
}

fn apply(map: &Linear, x: Tensor<2>) -> Tensor<2> {
    linear(x, map.weight.val(), map.bias.as_ref().map(|bias| bias.val()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_spelt_as_they_are_read() {
        use TaskEmbeddingKind::*;
        for (kind, name) in [
            (Full, "full"),
            (LowRank { rank: 7 }, "low-rank=7"),
            (Diagonal, "diagonal"),
            (Additive, "additive"),
        ] {
            assert_eq!(kind.to_string(), name);
            assert_eq!(name.parse(), Ok(kind));
            let json = serde_json::to_string(&kind).unwrap();
            assert_eq!(json, format!("{name:?}"));
            assert_eq!(serde_json::from_str::<TaskEmbeddingKind>(&json).unwrap(), kind);
        }
    }

    #[test]
    fn other_names_are_refused() {
        for name in ["", "low-rank", "low-rank=", "low-rank=0", "low-rank=-1", "low-rank=x", "Full"]
        {
            let error = name.parse::<TaskEmbeddingKind>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("unknown task embedding {name:?}: ")), "{error}");
        }
    }
}
