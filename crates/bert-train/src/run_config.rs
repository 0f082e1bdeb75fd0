//! A run as a file describes it: what `bert train RUN.toml` reads and what every run writes down before its first step.

use std::path::{Path, PathBuf};

use bert_core::LoraConfig;
use bert_heads::PoolingKind;
use bert_kernels::Precision;
use serde::{Deserialize, Serialize};

use crate::{
    columns::Columns,
    error::{Error, Result},
    fingerprint::Fingerprint,
    format::Format,
    freeze::Freeze,
    long::Long,
    recipe::Recipe,
    run_file::RunFile,
    word_config::{TrainEmbeddings, WordConfig},
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
    /// The most tokens of a text that are read together; without it, the smaller of 512 and what the model has positions for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_length: Option<usize>,
    /// What is read of a text that is longer.
    #[serde(flatten)]
    pub long: Long,
    /// The adapters that are trained in place of the encoder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lora: Option<LoraConfig>,
    /// How affine maps multiply.
    #[serde(default)]
    pub precision: Precision,
    /// The numbers of the run.
    #[serde(flatten)]
    pub recipe: Recipe,
}

/// The keys of a run file, at the top level, beside those of the recipe.
const KEYS: [&str; 23] = [
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
    "long",
    "stride",
    "max_windows",
    "lora",
    "precision",
    "patience",
    "min_delta",
    "metric",
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
            long: Long::default(),
            lora: None,
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
        Self::of(&RunFile::read(path)?, flags)
    }

    /// The run that a file describes, with the keys of `flags` over its own.
    pub(crate) fn of(file: &RunFile, flags: toml::Table) -> Result<Self> {
        file.check_keys(&[], &[&KEYS, Recipe::KEYS].concat())?;
        file.check_dev(&[])?;
        file.deserialize(flags, &["model", "train"])
    }

    /// What a run of these settings is made of.
    pub(crate) fn fingerprint(&self) -> Result<Fingerprint> {
        let data: Vec<&Path> = [Some(&self.train), self.dev.as_ref()]
            .into_iter()
            .flatten()
            .map(PathBuf::as_path)
            .collect();
        Fingerprint::of(&self.to_toml()?, &data, &self.model)
    }

    /// Refuses what is trained through an encoder that is frozen.
    pub(crate) fn check_frozen(&self) -> Result<()> {
        if self.recipe.layers.freeze != Some(Freeze::Encoder) {
            return Ok(());
        }
        if self.words.task_embedding.is_some() {
            return Err(Error::FrozenInput { key: "task-embedding" });
        }
        if self.words.train_embeddings == TrainEmbeddings::New {
            return Err(Error::FrozenInput { key: "train-embeddings = \"new\"" });
        }
        if self.lora.is_some() {
            return Err(Error::FrozenInput { key: "lora" });
        }
        Ok(())
    }

    /// The run as a run file.
    ///
    /// # Errors
    /// [`Error::RunToml`] when a path is not UTF-8.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string(self).map_err(|source| Error::RunToml { source })
    }
}
