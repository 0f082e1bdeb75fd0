//! From the hidden states of a text's tokens to one vector: what is pooled, and how much each token counts.

use std::{fmt, str::FromStr};

use bert_core::{BertConfig, Pooler, first_tokens, initialise};
use bert_kernels::{Sequences, softmax_pooling};
use burn::{
    module::Module,
    tensor::{Device, Tensor},
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{
    adaptive_pooling::AdaptivePooling, attention_pooling::AttentionPooling,
    multi_head_pooling::MultiHeadPooling,
};

/// What stands where there is no token: it never is the maximum.
const HIDDEN: f32 = -1e30;

/// The heads of a multi-head pooling where nobody says how many.
const HEADS: usize = 4;

/// The poolings by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PoolingKind {
    /// BERT's tanh pooler on [CLS].
    #[default]
    Cls,
    /// The hidden state of [CLS] as it is.
    First,
    /// The mean over the tokens.
    Mean,
    /// The maximum over the tokens, per dimension.
    Max,
    /// A learned weight per token.
    Attention,
    /// A learned weight per token and head, each head for its own slice of the dimensions.
    MultiHead {
        /// How many slices there are, from 1; hidden_size must be a multiple.
        heads: usize,
    },
    /// A learned weight per token and dimension.
    Adaptive,
}

impl PoolingKind {
    /// Every kind, in the order of their descriptions, with four heads where there are heads.
    pub const ALL: [Self; 7] = [
        Self::Cls,
        Self::First,
        Self::Mean,
        Self::Max,
        Self::Attention,
        Self::MultiHead { heads: HEADS },
        Self::Adaptive,
    ];
}

impl fmt::Display for PoolingKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Cls => "cls",
            Self::First => "first",
            Self::Mean => "mean",
            Self::Max => "max",
            Self::Attention => "attention",
            Self::MultiHead { heads } => return f.pad(&format!("multi-head={heads}")),
            Self::Adaptive => "adaptive",
        })
    }
}

/// A name that no pooling has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown pooling {0:?}: expected cls, first, mean, max, attention, multi-head, multi-head=HEADS (HEADS from 1, for \
     example multi-head=4) or adaptive"
)]
pub struct ParsePoolingError(String);

impl FromStr for PoolingKind {
    type Err = ParsePoolingError;

    fn from_str(name: &str) -> Result<Self, ParsePoolingError> {
        let heads = match name.strip_prefix("multi-head") {
            Some("") => Some(HEADS),
            Some(heads) => heads.strip_prefix('=').and_then(|heads| heads.parse().ok()),
            None => None,
        };
        let multi_head = heads.filter(|heads| *heads > 0).map(|heads| Self::MultiHead { heads });
        multi_head
            .or_else(|| Self::ALL.into_iter().find(|kind| kind.to_string() == name))
            .ok_or_else(|| ParsePoolingError(name.to_owned()))
    }
}

impl Serialize for PoolingKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PoolingKind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        name.parse().map_err(serde::de::Error::custom)
    }
}

/// One vector per sequence, from the hidden states of its tokens. [CLS] and [SEP] take part; padding there is none.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)] // INVARIANT: one pooling a model, so that its size does not matter.
pub enum Pooling {
    /// See [`PoolingKind::Cls`].
    Cls(Pooler),
    /// See [`PoolingKind::First`].
    First(FirstPooling),
    /// See [`PoolingKind::Mean`].
    Mean(MeanPooling),
    /// See [`PoolingKind::Max`].
    Max(MaxPooling),
    /// See [`PoolingKind::Attention`].
    Attention(AttentionPooling),
    /// See [`PoolingKind::MultiHead`].
    MultiHead(MultiHeadPooling),
    /// See [`PoolingKind::Adaptive`].
    Adaptive(AdaptivePooling),
}

/// The hidden state of [CLS] as it is.
#[derive(Module, Debug)]
pub struct FirstPooling;

/// The mean over the tokens.
#[derive(Module, Debug)]
pub struct MeanPooling;

/// The maximum over the tokens, per dimension.
#[derive(Module, Debug)]
pub struct MaxPooling;

impl Pooling {
    /// A pooling at its starting values; what is random in them is drawn from `seed`.
    ///
    /// # Panics
    /// When hidden_size is no multiple of the heads.
    pub fn new(kind: PoolingKind, config: &BertConfig, seed: u64, device: &Device) -> Self {
        let size = config.hidden_size;
        match kind {
            PoolingKind::Cls => Self::Cls(initialise(
                Pooler::new(config, device),
                "pooler.",
                seed,
                config.initializer_range,
            )),
            PoolingKind::First => Self::First(FirstPooling),
            PoolingKind::Mean => Self::Mean(MeanPooling),
            PoolingKind::Max => Self::Max(MaxPooling),
            PoolingKind::Attention => Self::Attention(AttentionPooling::new(size, seed, device)),
            PoolingKind::MultiHead { heads } => {
                Self::MultiHead(MultiHeadPooling::new(size, heads, seed, device))
            }
            PoolingKind::Adaptive => Self::Adaptive(AdaptivePooling::new(size, device)),
        }
    }

    /// The same pooling, but BERT's pooler at its starting values.
    pub(crate) fn reinitialise(self, config: &BertConfig, seed: u64) -> Self {
        match self {
            Self::Cls(pooler) => {
                Self::new(PoolingKind::Cls, config, seed, &pooler.dense.weight.device())
            }
            other => other,
        }
    }

    /// Whether the first token of a sequence is all that is read.
    pub fn reads_first_token(&self) -> bool {
        matches!(self, Self::Cls(_) | Self::First(_))
    }

    /// # Shapes
    /// `[tokens, hidden_size]` to `[sequences, hidden_size]`
    pub fn forward(&self, hidden: Tensor<2>, sequences: &Sequences) -> Tensor<2> {
        match self {
            Self::Cls(pooler) => pooler.forward(hidden, sequences),
            Self::First(_) => first_tokens(hidden, sequences),
            Self::Mean(_) => {
                let equal = Tensor::zeros([sequences.tokens(), 1], &hidden.device());
                softmax_pooling(hidden, equal, sequences)
            }
            Self::Max(_) => {
                let padded = sequences.pad_with(hidden, HIDDEN);
                padded.max_dim(1).squeeze_dim(1)
            }
            Self::Attention(attention) => {
                softmax_pooling(hidden.clone(), attention.scores(hidden), sequences)
            }
            Self::MultiHead(multi_head) => {
                let values = multi_head.values(hidden.clone());
                softmax_pooling(values, multi_head.scores(hidden), sequences)
            }
            Self::Adaptive(adaptive) => {
                softmax_pooling(hidden.clone(), adaptive.scores(hidden), sequences)
            }
        }
    }

    /// How much each token counts in each dimension of the pooled vector; over a text's tokens they sum to 1.
    ///
    /// For `cls` and `first` all weight lies on [CLS]; for `max` on the token whose state is the largest.
    ///
    /// # Shapes
    /// `hidden`, output: `[tokens, hidden_size]`
    pub fn weights(&self, hidden: Tensor<2>, sequences: &Sequences) -> Tensor<2> {
        let shape = hidden.dims();
        let per_token = |weight: &dyn Fn(usize, usize) -> f32| {
            let weights: Vec<f32> = sequences
                .ranges()
                .flat_map(|range| (0..range.len()).map(move |place| (place, range.len())))
                .map(|(place, length)| weight(place, length))
                .collect();
            let column = Tensor::<1>::from_data(weights.as_slice(), &hidden.device());
            column.unsqueeze_dim::<2>(1).expand(shape)
        };
        match self {
            Self::Cls(_) | Self::First(_) => {
                per_token(&|place, _| if place == 0 { 1.0 } else { 0.0 })
            }
            Self::Mean(_) => per_token(&|_, length| 1.0 / length as f32),
            Self::Max(_) => {
                let padded = sequences.pad_with(hidden, HIDDEN);
                let [batch, length, width] = padded.dims();
                let winners = padded.clone().argmax(1);
                let places = Tensor::arange(0..length as i64, &padded.device())
                    .reshape([1, length, 1])
                    .expand([batch, length, width]);
                let won = places.equal(winners.expand([batch, length, width]));
                sequences.unpad(won.float())
            }
            Self::Attention(attention) => attention.weights(hidden, sequences).expand(shape),
            Self::MultiHead(multi_head) => multi_head.weights(hidden, sequences),
            Self::Adaptive(adaptive) => adaptive.weights(hidden, sequences),
        }
    }
}
