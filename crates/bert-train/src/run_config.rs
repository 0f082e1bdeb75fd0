//! A run as a file describes it: what `bert train RUN.toml` reads and what every run writes down before its first step.

use std::path::{Path, PathBuf};

use bert_core::{BertConfig, LoraConfig, Tokenizer};
use bert_heads::PoolingKind;
use bert_kernels::Precision;
use serde::{Deserialize, Serialize};

use crate::{
    columns::Columns,
    encode::long_of,
    error::{Error, Result},
    fingerprint::Fingerprint,
    format::Format,
    freeze::Freeze,
    long::Long,
    metrics::{ClassificationMetrics, Metrics, TaggingMetrics},
    recipe::Recipe,
    run_file::RunFile,
    sentences::Sentences,
    split::check_fraction,
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

    /// Refuses what the data can't be read or measured by, as far as their first row tells, with a model of this config.
    pub(crate) fn check_data(&self, encoder: &BertConfig) -> Result<()> {
        self.dev_fraction.map_or(Ok(()), check_fraction)?;
        let measured = if Sentences::are_in(&self.train, self.format, &self.columns) {
            self.check_tagging()?;
            self.recipe.layers.check_states("tokens with tags", encoder)?;
            Sentences::tagged(&self.train, self.format, &self.columns)?;
            Metrics::Tagging(TaggingMetrics::new::<&str>(&[], &[], 0.0))
        } else {
            let columns = self.columns.complete(&self.train, self.format)?;
            if self.long != Long::Truncate {
                if columns.text.len() == 2 {
                    return Err(long_of("pairs of texts"));
                }
                let max_length = encoder.max_length(self.max_length)?;
                self.long.check_room(Tokenizer::load(&self.model)?.room(max_length, false)?)?;
            }
            // Two labels have the most scores.
            Metrics::Classification(ClassificationMetrics::new(&[], &[], 2, 0.0))
        };
        self.recipe.control.score(&measured).map(drop)
    }

    /// Refuses what a tagger has no use for.
    pub(crate) fn check_tagging(&self) -> Result<()> {
        if self.pooling != PoolingKind::default() {
            let (path, pooling) = (self.train.clone(), self.pooling);
            return Err(Error::PoolingOfTokens { path, pooling });
        }
        if self.long != Long::Truncate {
            return Err(long_of("tokens with tags"));
        }
        let of_texts =
            [("text", !self.columns.text.is_empty()), ("label", self.columns.label.is_some())];
        if let Some((key, _)) = of_texts.into_iter().find(|(_, is_given)| *is_given) {
            let (expected, holds) = ("texts with one label", "tokens with tags");
            return Err(Error::WrongData { key, expected, holds });
        }
        if self.layer_mixture {
            return Err(Error::MixtureOfTokens { path: self.train.clone() });
        }
        Ok(())
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
