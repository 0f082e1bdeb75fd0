//! A run as a file describes it: what `bert train RUN.toml` reads and what every run writes down before its first step.

use std::{
    fs,
    ops::Range,
    path::{Path, PathBuf},
};

use bert_heads::PoolingKind;
use bert_kernels::Precision;
use serde::{Deserialize, Serialize};
use toml::de::DeTable;

use crate::{
    closest::closest,
    columns::Columns,
    error::{Error, Result},
    format::Format,
    recipe::Recipe,
    word_config::WordConfig,
};

/// Everything that a run is made of, besides the directory it writes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunConfig {
    /// The checkpoint to start from, a directory in Hugging Face's layout.
    pub model: PathBuf,
    /// The training rows.
    pub train: PathBuf,
    /// The dev rows; without them, a share of the training rows is held out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dev: Option<PathBuf>,
    /// The share of the training rows that is held out where there are no dev rows, in (0, 1).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dev_fraction: Option<f64>,
    /// The format of both files; without it, their extensions tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<Format>,
    /// Which columns are text and which is the label, or which are tokens and which are tags.
    #[serde(flatten)]
    pub columns: Columns,
    /// How a text's hidden states become one vector; a tagger pools nothing.
    #[serde(default)]
    pub pooling: PoolingKind,
    /// Whether all layers are mixed before pooling, or the last one is taken.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub layer_mixture: bool,
    /// What is learned of the words.
    #[serde(flatten)]
    pub words: WordConfig,
    /// The most tokens of a text; without it, the smaller of 512 and what the model has positions for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_length: Option<usize>,
    /// How affine maps multiply.
    #[serde(default)]
    pub precision: Precision,
    /// The numbers of the run.
    #[serde(flatten)]
    pub recipe: Recipe,
}

/// The keys of a run file, at the top level.
const KEYS: [&str; 26] = [
    "model",
    "train",
    "dev",
    "dev_fraction",
    "format",
    "text",
    "label",
    "tokens",
    "tags",
    "header",
    "pooling",
    "layer_mixture",
    "task_embedding",
    "train_embeddings",
    "max_length",
    "precision",
    "epochs",
    "lr",
    "head_lr",
    "pooling_lr",
    "task_embedding_lr",
    "batch_size",
    "warmup_ratio",
    "weight_decay",
    "max_grad_norm",
    "seed",
];

impl RunConfig {
    /// A run with every default.
    pub fn new(model: impl Into<PathBuf>, train: impl Into<PathBuf>) -> Self {
        Self {
            model: model.into(),
            train: train.into(),
            dev: None,
            dev_fraction: None,
            format: None,
            columns: Columns::default(),
            pooling: PoolingKind::default(),
            layer_mixture: false,
            words: WordConfig::default(),
            max_length: None,
            precision: Precision::default(),
            recipe: Recipe::default(),
        }
    }

    /// Reads a run file; the keys of `flags` override its own.
    ///
    /// # Errors
    /// When the file can't be read, is no TOML, lacks `model` or `train`, or holds an unknown key or a value of another
    /// kind: with file and line.
    pub fn load(path: &Path, flags: toml::Table) -> Result<Self> {
        let text =
            fs::read_to_string(path).map_err(|source| Error::Read { path: path.into(), source })?;
        let refuse = |span: Option<Range<usize>>, message: String| Error::RunFile {
            path: path.into(),
            line: 1 + text[..span.map_or(0, |span| span.start)].matches('\n').count(),
            message,
        };
        let spanned = DeTable::parse(&text)
            .map_err(|error| refuse(error.span(), error.message().to_owned()))?;
        for key in spanned.get_ref().keys() {
            let name: &str = key.get_ref();
            if !KEYS.contains(&name) {
                let suggestion = closest(name, KEYS).map_or_else(
                    || format!("expected one of {}", KEYS.join(", ")),
                    |key| format!("did you mean {key:?}?"),
                );
                let message = format!("unknown key {name:?}: {suggestion}");
                return Err(refuse(Some(key.span()), message));
            }
        }
        let mut table: toml::Table = toml::from_str(&text)
            .map_err(|error| refuse(error.span(), error.message().to_owned()))?;
        table.extend(flags);
        Self::deserialize(table.clone()).map_err(|error| {
            // The message does not say which key it is: the one that is refused by itself.
            let is_refused = |name: &str| {
                let mut alone = toml::Table::new();
                alone.extend(["model", "train"].map(|key| (key.to_owned(), "".into())));
                alone.extend(table.get(name).map(|value| (name.to_owned(), value.clone())));
                Self::deserialize(alone).is_err()
            };
            let culprit = spanned.get_ref().keys().find(|key| is_refused(key.get_ref()));
            let name = culprit.map(|key| format!("{}: ", key.get_ref())).unwrap_or_default();
            refuse(culprit.map(|key| key.span()), format!("{name}{}", error.message()))
        })
    }

    /// The run as a run file.
    ///
    /// # Errors
    /// [`Error::RunToml`] when a path is not UTF-8.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string(self).map_err(|source| Error::RunToml { source })
    }
}
