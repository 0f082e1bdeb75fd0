//! A run of several tasks as a file describes it.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use bert_core::LoraConfig;
use bert_kernels::Precision;
use serde::{Deserialize, Serialize};

use crate::{
    baselines::Baselines,
    error::{Error, Result},
    fingerprint::Fingerprint,
    mixing::{Mixing, TaskMixing},
    recipe::Recipe,
    run_file::RunFile,
    sampler::Sampling,
    split::check_fraction,
    task_data::complete_columns,
    task_table::TaskTable,
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
        let of_task = |key: &&String| TaskTable::KEYS.contains(&key.as_str());
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
            file.check_keys(&["task", name], &TaskTable::KEYS)?;
            file.check_dev(&["task", name])?;
            file.check_values::<TaskTable>(&["task", name], &["kind", "train"], &TaskTable::KEYS)?;
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
