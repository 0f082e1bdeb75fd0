//! A model directory as it lies on disk: Hugging Face's layout, and our settings where there are some.

use std::path::Path;

use bert_core::{BertConfig, Checkpoint, Tokenizer};
use bert_heads::{PoolingKind, SequenceClassifierConfig, TaskEmbeddingKind};
use serde::{Deserialize, Serialize};

use crate::{
    columns::Columns,
    error::{Error, Result},
    recipe::Recipe,
};

/// The file that holds what Hugging Face's layout has no place for.
pub(crate) const SETTINGS_FILE: &str = "bert-tune.json";

/// The key of Hugging Face's config that says what a classifier answers.
pub(crate) const PROBLEM_TYPE: &str = "problem_type";

/// The layout of [`SETTINGS_FILE`] that this version writes and reads.
const FORMAT: u32 = 1;

/// How a classifier is put together and fed, beside its weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// The version of this layout.
    pub format: u32,
    /// How a text's hidden states become one vector.
    pub pooling: PoolingKind,
    /// Whether all layers are mixed before pooling.
    pub layer_mixture: bool,
    /// What is done to the word embeddings on their way in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_embedding: Option<TaskEmbeddingKind>,
    /// The columns that it was trained on: the default of evaluation.
    pub columns: Columns,
    /// The most tokens of a text.
    pub max_length: usize,
    /// The texts of a row: 1, or 2 for pairs.
    pub texts: usize,
    /// The recipe that it was trained with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipe: Option<Recipe>,
}

impl Settings {
    /// Single texts of at most `max_length` tokens, in the default columns, pooled from the last layer.
    pub fn new(pooling: PoolingKind, max_length: usize) -> Self {
        Self {
            format: FORMAT,
            pooling,
            layer_mixture: false,
            task_embedding: None,
            columns: Columns::default(),
            max_length,
            texts: 1,
            recipe: None,
        }
    }

    /// The parts of the model.
    pub(crate) fn parts(
        &self,
        config: &BertConfig,
        num_labels: usize,
    ) -> Result<SequenceClassifierConfig> {
        Ok(SequenceClassifierConfig {
            task_embedding: self.checked_task_embedding(config)?,
            pooling: self.pooling,
            layer_mixture: self.layer_mixture,
            num_labels,
        })
    }

    /// The task embedding, where its matrices are of a size that makes sense.
    pub(crate) fn checked_task_embedding(
        &self,
        config: &BertConfig,
    ) -> Result<Option<TaskEmbeddingKind>> {
        match (self.task_embedding, config.hidden_size) {
            (Some(TaskEmbeddingKind::LowRank { rank }), hidden_size) if rank > hidden_size => {
                Err(Error::TaskEmbeddingRank { rank, hidden_size })
            }
            (kind, _) => Ok(kind),
        }
    }
}

/// What a model directory holds.
#[derive(Debug)]
pub(crate) struct ModelDir {
    pub(crate) config: BertConfig,
    pub(crate) tokenizer: Tokenizer,
    pub(crate) checkpoint: Checkpoint,
    pub(crate) settings: Option<Settings>,
}

impl ModelDir {
    /// Reads all but the weights, and checks that tokenizer and config belong together.
    pub(crate) fn open(dir: &Path) -> Result<Self> {
        let config = BertConfig::load(dir)?;
        let tokenizer = Tokenizer::load(dir)?;
        tokenizer.check_vocabulary(&config)?;
        Ok(Self {
            tokenizer,
            checkpoint: Checkpoint::open(dir)?,
            settings: read_settings(dir)?,
            config,
        })
    }

    /// Hugging Face's class that the config names, where it names one.
    pub(crate) fn architecture(&self) -> Option<&str> {
        self.config.extra.get("architectures")?.get(0)?.as_str()
    }

    /// What the classifier answers where that is not one label a text, by Hugging Face's name.
    pub(crate) fn problem(&self) -> Option<&str> {
        let problem = self.config.extra.get(PROBLEM_TYPE)?.as_str()?;
        (problem != "single_label_classification").then_some(problem)
    }

    /// The labels of the classifier by id; Hugging Face leaves out the names where there are only default ones.
    pub(crate) fn labels(&self) -> Vec<String> {
        let count = self.checkpoint.info("classifier.weight").map_or(0, |info| info.shape[0]);
        let default = || (0..count).map(|id| format!("LABEL_{id}")).collect();
        self.config.id2label.clone().unwrap_or_else(default)
    }

    /// Whether `classifier.*` is a head for whole texts: Hugging Face gives a head for tokens the same name.
    pub(crate) fn has_classifier(&self) -> bool {
        let is_ours = self.settings.is_some();
        let architecture = self.architecture().unwrap_or("BertForSequenceClassification");
        self.checkpoint.info("classifier.weight").is_some_and(|info| info.shape.len() == 2)
            && (is_ours || architecture == "BertForSequenceClassification")
            && self.problem().is_none()
    }

    /// Whether the checkpoint holds this tensor.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.checkpoint.info(name).is_some()
    }
}

/// The settings beside a model, where there are some.
fn read_settings(dir: &Path) -> Result<Option<Settings>> {
    let path = dir.join(SETTINGS_FILE);
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(Error::Read { path, source }),
    };
    let settings: Settings = serde_json::from_slice(&bytes)
        .map_err(|source| Error::Settings { path: path.clone(), source })?;
    if settings.format != FORMAT {
        return Err(Error::SettingsFormat { path, expected: FORMAT, got: settings.format });
    }
    Ok(Some(settings))
}
