//! What a run keeps as it is, for its whole length or for its beginning.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    str::FromStr,
};

use bert_core::Bert;
use burn::{
    module::{Module, ModuleMapper, Param, ParamId},
    tensor::Tensor,
};
use serde::{Deserialize, Serialize};

use crate::step::parameters_with;

/// The part of a model that a run keeps as it is: it gets no gradient and has no optimiser state, and where nothing below the
/// lowest layer that is trained learns, no backward is computed there. Dropout stays on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Freeze {
    /// The embeddings: words, positions, token types and their norm.
    Embeddings,
    /// The embeddings, and so many layers from the input up.
    Layers(usize),
    /// The encoder with its embeddings: it runs once over all texts, without dropout, and what is trained after it (layer mixture,
    /// pooling, head) learns from the hidden states that are kept.
    Encoder,
}

impl Freeze {
    /// How many parts of an encoder with so many layers are frozen: the embeddings are the first, then come the layers.
    pub(crate) fn parts(self, layers: usize) -> usize {
        match self {
            Self::Embeddings => 1,
            Self::Layers(frozen) => 1 + frozen,
            Self::Encoder => 1 + layers,
        }
    }
}

impl fmt::Display for Freeze {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embeddings => f.pad("embeddings"),
            Self::Layers(layers) => f.pad(&format!("layers={layers}")),
            Self::Encoder => f.pad("encoder"),
        }
    }
}

/// A name that stands for no part of a model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown part {0:?}: expected embeddings, layers=N (the embeddings and the N layers above them, N from 1) or encoder"
)]
pub struct ParseFreezeError(String);

impl FromStr for Freeze {
    type Err = ParseFreezeError;

    fn from_str(name: &str) -> Result<Self, ParseFreezeError> {
        let layers = name.strip_prefix("layers=").and_then(|layers| layers.parse().ok());
        match (name, layers) {
            ("embeddings", _) => Ok(Self::Embeddings),
            ("encoder", _) => Ok(Self::Encoder),
            (_, Some(layers)) if layers > 0 => Ok(Self::Layers(layers)),
            _ => Err(ParseFreezeError(name.to_owned())),
        }
    }
}

impl TryFrom<String> for Freeze {
    type Error = ParseFreezeError;

    fn try_from(name: String) -> Result<Self, ParseFreezeError> {
        name.parse()
    }
}

impl From<Freeze> for String {
    fn from(freeze: Freeze) -> Self {
        freeze.to_string()
    }
}

/// Freezes and thaws the parts of a model's encoder.
#[derive(Debug)]
pub(crate) struct Freezer {
    /// The parameters that are trained where their part is not frozen, with their part, see [`Freeze::parts`].
    parts: HashMap<ParamId, usize>,
    frozen: usize,
}

impl Freezer {
    /// For a model of which nothing is frozen but what never is trained.
    pub(crate) fn new(encoder: &Bert) -> Self {
        let mut parts = HashMap::new();
        let mut add = |part: usize, ids: HashSet<ParamId>| {
            parts.extend(ids.into_iter().map(|id| (id, part)));
        };
        add(0, parameters_with(&encoder.embeddings, |is_trained| is_trained));
        for (layer, part) in encoder.encoder.layer.iter().zip(1..) {
            add(part, parameters_with(layer, |is_trained| is_trained));
        }
        Self { parts, frozen: 0 }
    }

    /// The model whose first `parts` parts are frozen, and no others.
    pub(crate) fn set<M: Module>(&mut self, model: M, parts: usize) -> M {
        if parts == self.frozen {
            return model;
        }
        self.frozen = parts;
        model.map(self)
    }
}

impl ModuleMapper for Freezer {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(part) = self.parts.get(&param.id) else { return param };
        let is_trained = *part >= self.frozen;
        if param.is_require_grad() == is_trained {
            param
        } else {
            param.set_require_grad(is_trained)
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_written_as_they_are_read() {
        for name in ["embeddings", "layers=3", "encoder"] {
            assert_eq!(name.parse::<Freeze>().unwrap().to_string(), name);
        }
        for wrong in ["", "head", "layers", "layers=", "layers=0", "layers=-1", "layers=x"] {
            let error = wrong.parse::<Freeze>().unwrap_err().to_string();
            assert!(error.contains("layers=N"), "{wrong}: {error}");
        }
    }
}
