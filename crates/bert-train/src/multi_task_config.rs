//! A run of several tasks as a file describes it.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use bert_core::LoraConfig;
use bert_heads::{PoolingKind, TaskEmbeddingKind};
use bert_kernels::Precision;
use serde::{Deserialize, Serialize};

use crate::{
    baselines::Baselines,
    columns::Columns,
    error::{Error, Result},
    fingerprint::Fingerprint,
    format::Format,
    mixing::{Mixing, TaskMixing},
    recipe::Recipe,
    run_file::RunFile,
    sampler::Sampling,
    split::check_fraction,
    task_data::complete_columns,
    task_form::{AnswerKind, TaskForm},
    word_config::TrainEmbeddings,
};

/// Everything that a run of several tasks is made of, besides the directory it writes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MultiTaskConfig {
    /// The checkpoint to start from, a directory in Hugging Face's layout.
    pub model: PathBuf,
    /// Which rows of the table of word embeddings are trained.
    #[serde(default)]
    pub train_embeddings: TrainEmbeddings,
    /// The most tokens of a text; without it, the smaller of 512 and what the model has positions for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_length: Option<usize>,
    /// The adapters that are trained in place of the encoder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lora: Option<LoraConfig>,
    /// How affine maps multiply.
    #[serde(default)]
    pub precision: Precision,
    /// What each task is held against, after the run.
    #[serde(default, skip_serializing_if = "Baselines::are_none")]
    pub baselines: Baselines,
    /// The numbers of the run.
    #[serde(flatten)]
    pub recipe: Recipe,
    /// How the tasks share the steps.
    #[serde(flatten)]
    pub mixing: Mixing,
    /// The tasks by name.
    #[serde(rename = "task")]
    pub tasks: BTreeMap<String, TaskTable>,
}

/// One task of a run file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskTable {
    /// What it asks of a text.
    pub kind: TaskForm,
    /// The training rows; tasks that read the same texts of the same file share each forward pass.
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
    /// Which columns are read.
    #[serde(flatten)]
    pub columns: Columns,
    /// How a text's hidden states become one vector.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pooling: Option<PoolingKind>,
    /// Whether all layers are mixed, with weights that the task learns.
    #[serde(default, skip_serializing_if = "is_false")]
    pub layer_mixture: bool,
    /// Whether a linear map of the hidden states comes before pooling and head.
    #[serde(default, skip_serializing_if = "is_false")]
    pub projection: bool,
    /// A map of the word embeddings that the task learns.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task_embedding: Option<TaskEmbeddingKind>,
    /// The task whose map of the word embeddings this one reads too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub share_embedding: Option<String>,
    /// The score by which the task is judged; without it, the first of its kind's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metric: Option<String>,
    /// What its loss is multiplied with.
    #[serde(default = "one")]
    pub weight: f64,
    /// Rows a batch; without it, those of the run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch_size: Option<usize>,
    /// What its gradient is multiplied with where it enters the encoder.
    #[serde(default = "one")]
    pub gradient_factor: f64,
    /// After so many epochs in a row without a better score the task is finished.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patience: Option<usize>,
}

fn one() -> f64 {
    1.0
}

fn is_false(value: &bool) -> bool {
    !value
}

/// The keys of a run file of several tasks, at the top level, beside those of the recipe.
const KEYS: [&str; 10] = [
    "model",
    "train_embeddings",
    "max_length",
    "lora",
    "precision",
    "baselines",
    "sampling",
    "balance",
    "step",
    "task",
];

/// The keys of a task.
const TASK_KEYS: [&str; 21] = [
    "kind",
    "train",
    "dev",
    "dev_fraction",
    "format",
    "text",
    "label",
    "label_separator",
    "tokens",
    "tags",
    "header",
    "pooling",
    "layer_mixture",
    "projection",
    "task_embedding",
    "share_embedding",
    "metric",
    "weight",
    "batch_size",
    "gradient_factor",
    "patience",
];

impl MultiTaskConfig {
    /// Reads a run file with tables of tasks; the keys of `flags` override its own.
    ///
    /// # Errors
    /// When the file can't be read, is no TOML, lacks a key or holds an unknown one, or a value that does not fit: with file,
    /// line and key.
    pub fn load(path: &Path, flags: toml::Table) -> Result<Self> {
        Self::of(&RunFile::read(path)?, flags)
    }

    /// The run that a file describes, with the keys of `flags` over its own.
    pub(crate) fn of(file: &RunFile, flags: toml::Table) -> Result<Self> {
        let known = [&KEYS, Recipe::KEYS].concat();
        let of_task = |key: &&String| TASK_KEYS.contains(&key.as_str());
        let is_strange = |key: &&String| !known.contains(&key.as_str());
        if let Some(key) = file.table().keys().filter(is_strange).find(of_task) {
            let message = format!("key {key:?} belongs to a task: write it under [task.NAME]");
            return Err(file.refuse(&[key], message));
        }
        file.check_keys(&[], &known)?;
        let names = file.names("task");
        for name in &names {
            let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
            if name.is_empty() || !name.chars().all(is_plain) {
                let message = format!(
                    "the name of task {name:?} must be made of ASCII letters, digits, - and _"
                );
                return Err(file.refuse(&["task", name], message));
            }
            if ["text", "pair", "rows"].contains(&name.as_str()) {
                let message = format!(
                    "a task cannot be called {name:?}, which stands for something else in answers"
                );
                return Err(file.refuse(&["task", name], message));
            }
            file.check_keys(&["task", name], &TASK_KEYS)?;
            file.check_dev(&["task", name])?;
            file.check_values::<TaskTable>(&["task", name], &["kind", "train"], &TASK_KEYS)?;
        }
        let config: Self = file.deserialize(flags, &["model", "task"])?;
        if config.tasks.is_empty() {
            let message = "expected a table of each task, [task.NAME]".to_owned();
            return Err(file.refuse(&["task"], message));
        }
        for (name, task) in &config.tasks {
            task.check(name, &config.tasks)
                .map_err(|(key, message)| file.refuse(&["task", name, key], message))?;
        }
        if let Sampling::Weights { weights } = &config.mixing.sampling {
            if let Some(unknown) = weights.keys().find(|name| !config.tasks.contains_key(*name)) {
                let known = names.join(", ");
                let message =
                    format!("sampling has a weight for {unknown:?}, but the tasks are {known}");
                return Err(file.refuse(&["sampling"], message));
            }
            let is_right = |weight: &f64| *weight > 0.0 && weight.is_finite();
            let covers = names.iter().all(|name| weights.contains_key(name));
            if !covers || !weights.values().all(is_right) {
                let message = "sampling needs a weight above 0 for each task".to_owned();
                return Err(file.refuse(&["sampling"], message));
            }
        }
        config.mixing.check().map_err(|error| match error {
            Error::StepOfAll { .. } => file.refuse(&["balance"], error.to_string()),
            other => file.refuse(&[], other.to_string()),
        })?;
        Ok(config)
    }

    /// The run as a run file.
    ///
    /// # Errors
    /// [`Error::RunToml`] when a path is not UTF-8.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string(self).map_err(|source| Error::RunToml { source })
    }

    /// The run with these baselines, or its own where they are none.
    pub(crate) fn against(&self, baselines: &Baselines) -> Self {
        let own = if baselines.are_none() { &self.baselines } else { baselines };
        Self { baselines: own.clone(), ..self.clone() }
    }

    /// Refuses to smooth or to move what no task has, or has no gradient for.
    pub(crate) fn check_regularisation(&self) -> Result<()> {
        let regularisation = &self.recipe.regularisation;
        regularisation.check_tasks(self.tasks.values().map(|task| task.kind))?;
        match self.tasks.iter().find(|(_, task)| task.gradient_factor == 0.0) {
            Some((name, _)) if regularisation.fgm > 0.0 => {
                Err(Error::NothingMoved { task: name.clone() })
            }
            _ => Ok(()),
        }
    }

    /// Refuses what the data can't be read by, as far as their first rows tell.
    pub(crate) fn check_data(&self) -> Result<()> {
        self.tasks.iter().try_for_each(|(name, task)| {
            let checked = task.dev_fraction.map_or(Ok(()), check_fraction);
            checked
                .and_then(|()| complete_columns(task).map(drop))
                .map_err(|error| error.in_task(name))
        })
    }

    /// What a run of these settings is made of.
    pub(crate) fn fingerprint(&self) -> Result<Fingerprint> {
        let files = |table: &'_ TaskTable| [Some(table.train.clone()), table.dev.clone()];
        let data: Vec<PathBuf> = self.tasks.values().flat_map(files).flatten().collect();
        let data: Vec<&Path> = data.iter().map(PathBuf::as_path).collect();
        Fingerprint::of(&self.to_toml()?, &data, &self.model)
    }

    /// The numbers of the run, with how the tasks share its steps.
    pub(crate) fn recipe(&self) -> Recipe {
        let task = |task: &TaskTable| TaskMixing { weight: task.weight, patience: task.patience };
        let tasks = self.tasks.values().map(task).collect();
        Recipe { mixing: Mixing { tasks, ..self.mixing.clone() }, ..self.recipe.clone() }
    }
}

impl TaskTable {
    /// A task with every default.
    pub fn new(kind: TaskForm, train: impl Into<PathBuf>) -> Self {
        Self {
            kind,
            train: train.into(),
            dev: None,
            dev_fraction: None,
            format: None,
            columns: Columns::default(),
            pooling: None,
            layer_mixture: false,
            projection: false,
            task_embedding: None,
            share_embedding: None,
            metric: None,
            weight: 1.0,
            batch_size: None,
            gradient_factor: 1.0,
            patience: None,
        }
    }

    /// The score by which the task is judged.
    pub(crate) fn metric(&self) -> String {
        self.metric.clone().unwrap_or_else(|| self.kind.metrics()[0].to_owned())
    }

    /// Refuses what does not go together, with the key that is at fault.
    fn check(
        &self,
        name: &str,
        tasks: &BTreeMap<String, Self>,
    ) -> std::result::Result<(), (&'static str, String)> {
        let kind = self.kind;
        let refuse = |key, message: String| Err((key, format!("task {name:?}: {message}")));
        if kind.is_of_tokens() && self.pooling.is_some() {
            return refuse(
                "pooling",
                format!("kind {kind} answers every token and pools nothing: leave out pooling"),
            );
        }
        let columns = &self.columns;
        match kind.answer() {
            AnswerKind::Tags if !columns.text.is_empty() || columns.label.is_some() => {
                let key = if columns.text.is_empty() { "label" } else { "text" };
                return refuse(
                    key,
                    "kind tag reads the columns tokens and tags: name them so".into(),
                );
            }
            AnswerKind::Part if *columns != Columns::default() => {
                return refuse("kind", "kind span reads questions with their texts from a JSON file in SQuAD's form: leave out the columns".into());
            }
            AnswerKind::Tags | AnswerKind::Part => {}
            _ if columns.tokens.is_some() || columns.tags.is_some() => {
                let key = if columns.tokens.is_some() { "tokens" } else { "tags" };
                return refuse(
                    key,
                    format!(
                        "kind {kind} reads the columns text and label; tokens and tags are for kind tag"
                    ),
                );
            }
            _ => {}
        }
        if kind.answer() != AnswerKind::LabelSet && columns.label_separator.is_some() {
            return refuse(
                "label_separator",
                format!(
                    "kind {kind} has one answer a row: leave out label_separator, or choose kind multi-label"
                ),
            );
        }
        let texts = columns.text.len();
        if texts > 0 && texts != kind.texts() {
            let other = kind.with_texts(texts);
            return refuse(
                "text",
                format!(
                    "kind {kind} takes {} column(s) of text, got {texts}: choose kind {other}, or change text",
                    kind.texts()
                ),
            );
        }
        if let Some(metric) = &self.metric
            && !kind.metrics().contains(&metric.as_str())
        {
            return refuse(
                "metric",
                format!(
                    "kind {kind} has no metric {metric:?}: expected {}",
                    kind.metrics().join(", ")
                ),
            );
        }
        if let Some(owner) = &self.share_embedding {
            if self.task_embedding.is_some() {
                return refuse("share_embedding", "a task has a task embedding of its own or shares one: leave out task_embedding or share_embedding".into());
            }
            match tasks.get(owner) {
                Some(other) if other.task_embedding.is_some() => {}
                Some(_) => {
                    return refuse(
                        "share_embedding",
                        format!("task {owner:?} has no task_embedding to share"),
                    );
                }
                None => {
                    let known: Vec<&str> = tasks.keys().map(String::as_str).collect();
                    return refuse(
                        "share_embedding",
                        format!("there is no task {owner:?}, the tasks are {}", known.join(", ")),
                    );
                }
            }
        }
        let is_positive = |value: f64| value > 0.0 && value.is_finite();
        if !is_positive(self.weight) {
            return refuse(
                "weight",
                format!("weight must be a number above 0, got {}", self.weight),
            );
        }
        if !(self.gradient_factor >= 0.0 && self.gradient_factor.is_finite()) {
            return refuse(
                "gradient_factor",
                format!("gradient_factor must be a number from 0, got {}", self.gradient_factor),
            );
        }
        if self.batch_size == Some(0) {
            return refuse("batch_size", "batch_size must be a whole number from 1, got 0".into());
        }
        if self.patience == Some(0) {
            return refuse("patience", "patience must be a whole number from 1, got 0".into());
        }
        if let Some(share) = self.dev_fraction.filter(|share| !(*share > 0.0 && *share < 1.0)) {
            let message = format!("dev_fraction must be above 0 and below 1, got {share}");
            return refuse("dev_fraction", message);
        }
        if self.gradient_factor == 0.0 && self.task_embedding.is_some() {
            let message = "no gradient reaches the task's task_embedding where gradient_factor is 0: leave out one of them";
            return refuse("gradient_factor", message.into());
        }
        Ok(())
    }
}
