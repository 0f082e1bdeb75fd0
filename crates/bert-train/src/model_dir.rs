//! A model directory as it lies on disk: Hugging Face's layout, and our settings where there are some.

use std::path::{Path, PathBuf};

use bert_core::{
    BertConfig, Checkpoint, NamedTensor, Tokenizer, write_atomically, write_safetensors,
};
use bert_heads::{PoolingKind, SequenceClassifierConfig, TaskEmbeddingKind};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{
    columns::Columns,
    error::{Error, Result},
    labels::LabelMap,
    long::Long,
    recipe::Recipe,
    task_kind::TaskKind,
    task_settings::TaskSettings,
    trainable::Trainable,
};

/// The file that holds what Hugging Face's layout has no place for.
pub(crate) const SETTINGS_FILE: &str = "bert-tune.json";

/// The key of Hugging Face's config that says what a classifier answers.
pub(crate) const PROBLEM_TYPE: &str = "problem_type";

/// The layout of [`SETTINGS_FILE`] that this version writes and reads.
const FORMAT: u32 = 1;

/// How a model is put together and fed, beside its weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// The version of this layout.
    pub format: u32,
    /// What it answers.
    #[serde(default)]
    pub kind: TaskKind,
    /// How a text's hidden states become one vector.
    pub pooling: PoolingKind,
    /// Whether all layers are mixed before pooling.
    pub layer_mixture: bool,
    /// What is done to the word embeddings on their way in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_embedding: Option<TaskEmbeddingKind>,
    /// The columns that it was trained on: the default of evaluation.
    pub columns: Columns,
    /// The most tokens of a text that are read together.
    pub max_length: usize,
    /// What is read of a text that is longer.
    #[serde(flatten)]
    pub long: Long,
    /// The texts of a row: 1, or 2 for pairs.
    pub texts: usize,
    /// The recipe that it was trained with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipe: Option<Recipe>,
    /// The tasks of a model of several, in the order of its heads.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tasks: Vec<TaskSettings>,
}

impl Settings {
    /// Those beside the model in `dir`, where there are some.
    ///
    /// # Errors
    /// When the file can't be read, or is of another version.
    pub fn read(dir: &Path) -> Result<Option<Self>> {
        let path = dir.join(SETTINGS_FILE);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(Error::Read { path, source }),
        };
        let settings: Self = serde_json::from_slice(&bytes)
            .map_err(|source| Error::Settings { path: path.clone(), source })?;
        if settings.format != FORMAT {
            return Err(Error::SettingsFormat { path, expected: FORMAT, got: settings.format });
        }
        Ok(Some(settings))
    }

    /// Single texts of at most `max_length` tokens, in the default columns, pooled from the last layer.
    pub fn new(pooling: PoolingKind, max_length: usize) -> Self {
        Self {
            format: FORMAT,
            kind: TaskKind::Classify,
            pooling,
            layer_mixture: false,
            task_embedding: None,
            columns: Columns::default(),
            max_length,
            long: Long::default(),
            texts: 1,
            recipe: None,
            tasks: vec![],
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
            pooling: checked_pooling(self.pooling, config)?,
            layer_mixture: self.layer_mixture,
            num_labels,
        })
    }

    /// The task embedding, where its matrices are of a size that makes sense.
    pub(crate) fn checked_task_embedding(
        &self,
        config: &BertConfig,
    ) -> Result<Option<TaskEmbeddingKind>> {
        check_rank(self.task_embedding, config)?;
        Ok(self.task_embedding)
    }
}

/// Refuses a task embedding whose matrices are wider than the hidden states.
pub(crate) fn check_rank(kind: Option<TaskEmbeddingKind>, config: &BertConfig) -> Result<()> {
    match (kind, config.hidden_size) {
        (Some(TaskEmbeddingKind::LowRank { rank }), hidden_size) if rank > hidden_size => {
            Err(Error::TaskEmbeddingRank { rank, hidden_size })
        }
        _ => Ok(()),
    }
}

/// The pooling, where its heads share out the dimensions evenly.
pub(crate) fn checked_pooling(pooling: PoolingKind, config: &BertConfig) -> Result<PoolingKind> {
    match (pooling, config.hidden_size) {
        (PoolingKind::MultiHead { heads }, hidden_size) if !hidden_size.is_multiple_of(heads) => {
            Err(Error::PoolingHeads { heads, hidden_size })
        }
        (pooling, _) => Ok(pooling),
    }
}

/// What a model directory holds.
#[derive(Debug)]
pub(crate) struct ModelDir {
    pub(crate) path: PathBuf,
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
            path: dir.into(),
            tokenizer,
            checkpoint: Checkpoint::open(dir)?,
            settings: Settings::read(dir)?,
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
        let head = self.checkpoint.info("classifier.weight");
        // Of a tensor without values, a few bytes may say that it has any number of rows.
        let head = head.filter(|info| !info.shape.contains(&0));
        let count = head.and_then(|info| info.shape.first()).map_or(0, |rows| *rows);
        let default = || (0..count).map(|id| format!("LABEL_{id}")).collect();
        self.config.id2label.clone().unwrap_or_else(default)
    }

    /// What `classifier.*` answers, where it is there: Hugging Face gives heads for texts and for tokens the same name.
    pub(crate) fn kind(&self) -> Option<TaskKind> {
        if self.settings.as_ref().is_some_and(|own| own.kind == TaskKind::MultiTask) {
            return Some(TaskKind::MultiTask);
        }
        self.checkpoint.info("classifier.weight").filter(|info| info.shape.len() == 2)?;
        if let Some(settings) = &self.settings {
            return Some(settings.kind);
        }
        let is = |kind: TaskKind| {
            self.architecture().is_none_or(|architecture| architecture == kind.architecture())
        };
        let kind = [TaskKind::Classify, TaskKind::Tag].into_iter().find(|kind| is(*kind))?;
        (kind == TaskKind::Tag || self.problem().is_none()).then_some(kind)
    }

    /// Refuses a directory whose head is for another kind of task.
    pub(crate) fn require_kind(&self, kind: TaskKind) -> Result<()> {
        if self.kind() == Some(kind) {
            return Ok(());
        }
        let holds = match (self.kind(), &self.settings) {
            (Some(own), Some(_)) => format!("a {}", own.model()),
            _ => {
                let architecture = self.architecture().unwrap_or("an encoder alone");
                let problem = self.problem().map(|problem| format!(" for {problem}"));
                format!("{architecture}{}", problem.unwrap_or_default())
            }
        };
        Err(Error::NoClassifier { path: self.path.clone(), kind, holds })
    }

    /// Gives a model the checkpoint's parameters, and names the parts of the checkpoint that it leaves; parameters that are
    /// new stay as they are.
    pub(crate) fn fill<M: Trainable>(
        &self,
        model: M,
        is_new: impl Fn(&str) -> bool,
    ) -> Result<(M, Vec<String>)> {
        self.fill_from(model, |name| (!is_new(name)).then(|| name.to_owned()))
    }

    /// [`fill`](Self::fill) for a model whose parameters may have other names than the checkpoint's: `source` has the name of
    /// what a parameter is taken from, where there is one.
    pub(crate) fn fill_from<M: Trainable>(
        &self,
        model: M,
        source: impl Fn(&str) -> Option<String>,
    ) -> Result<(M, Vec<String>)> {
        let shapes = model.parameter_shapes().into_iter();
        let expected: Vec<_> =
            shapes.filter_map(|(name, shape)| Some((source(base_name(&name))?, shape))).collect();
        self.checkpoint.require(&expected)?;
        let mut reader = self.checkpoint.reader();
        let model = model.set_parameters(|name, shape| match source(base_name(name)) {
            Some(name) => reader.take(&name, shape).map(Some),
            None => Ok(None),
        })?;
        Ok((model, reader.finish()?))
    }

    /// A line for what training from the checkpoint drops, and `why`.
    pub(crate) fn dropped(&self, names: Vec<String>, why: &str) -> Vec<String> {
        let dir = self.path.display();
        let (maps, others): (Vec<_>, Vec<_>) =
            names.into_iter().partition(|name| name.starts_with("task_embedding."));
        let mut notices = vec![];
        if !maps.is_empty() {
            let maps = maps.join(", ");
            notices.push(format!(
                "{dir} has a task embedding of another kind, dropped: {maps}; `bert export` keeps what it learned, \
                 folded into the word embeddings"
            ));
        }
        if !others.is_empty() {
            let others = others.join(", ");
            notices.push(format!("{dir} holds parts that are {why}, dropped: {others}"));
        }
        notices
    }

    /// Whether the checkpoint holds this tensor.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.checkpoint.info(name).is_some()
    }
}

/// The name under which a checkpoint is asked for a parameter.
fn base_name(name: &str) -> &str {
    name.strip_prefix("bert.").unwrap_or(name)
}

/// Writes everything of a model but its weights. Only what Hugging Face computes the same way carries the name of its model.
pub(crate) fn save_settings(
    dir: &Path,
    config: &BertConfig,
    tokenizer: &Tokenizer,
    labels: Option<&LabelMap>,
    settings: &Settings,
    is_hugging_face: bool,
) -> Result<()> {
    let mut config = config.clone();
    config.id2label = labels.map(|labels| labels.names().to_vec());
    let architecture = if is_hugging_face { settings.kind.architecture() } else { "BertModel" };
    config.extra.insert("architectures".into(), json!([architecture]));
    config.extra.remove(PROBLEM_TYPE);
    write_atomically(dir.join("config.json"), config.to_json().as_bytes())?;
    tokenizer.save(dir)?;
    let settings = serde_json::to_string_pretty(settings).expect("settings are a JSON object"); // INVARIANT: plain values under string keys
    write_atomically(dir.join(SETTINGS_FILE), (settings + "\n").as_bytes())?;
    Ok(())
}

/// Copies what [`save_settings`] wrote, but for the tokenizer, to the bit: a number may be read as its neighbour.
pub(crate) fn copy_settings(from: &Path, to: &Path) -> Result<()> {
    for name in ["config.json", SETTINGS_FILE] {
        let path = from.join(name);
        let bytes = std::fs::read(&path).map_err(|source| Error::Read { path, source })?;
        write_atomically(to.join(name), &bytes)?;
    }
    Ok(())
}

/// Writes the parameters of a model.
pub(crate) fn save_parameters(dir: &Path, parameters: &[NamedTensor]) -> Result<()> {
    Ok(write_safetensors(dir.join("model.safetensors"), parameters)?)
}
