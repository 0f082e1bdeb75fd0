//! A model of several tasks with everything that applying it needs, in a directory and out of one.

use std::path::{Path, PathBuf};

use bert_core::{Bert, BertConfig, LoraConfig, Tokenizer};
use bert_heads::MultiTask;
use burn::{module::Module, tensor::Device};

use crate::{
    adapter::check_lora,
    columns::Columns,
    error::{Error, Result},
    format::Format,
    labels::LabelMap,
    model_dir::{ModelDir, Settings, check_rank, checked_pooling, save_settings},
    recipe::Recipe,
    task_kind::TaskKind,
    task_rows::Reading,
    task_sets::{MeasuredTask, TaskDev, TaskSet},
    task_settings::TaskSettings,
    text_classifier::TextClassifier,
    word_config::TrainEmbeddings,
};

/// A model of several tasks with its tokenizer, labels and settings.
#[derive(Debug, Clone)]
pub struct MultiTasker {
    /// Encoder and heads.
    pub model: MultiTask,
    /// The encoder's config.
    pub config: BertConfig,
    /// From text to ids.
    pub tokenizer: Tokenizer,
    /// The labels of each task by id.
    pub labels: Vec<LabelMap>,
    /// How it is put together and fed; its tasks in the order of the heads.
    pub settings: Settings,
    /// The head of the only task that texts are answered for; none for all.
    pub(crate) asked: Option<usize>,
    path: PathBuf,
}

impl MultiTasker {
    /// A model to be trained, from the checkpoint in `dir`, and a line for each thing that was made new or dropped.
    ///
    /// What the checkpoint holds of a task is kept where name, kind, labels and parts agree; a `cls` pooling begins with the
    /// checkpoint's pooler.
    ///
    /// # Errors
    /// When the directory holds no BERT, or its weights, config and tokenizer do not belong together.
    pub fn from_checkpoint(
        dir: &Path,
        settings: Settings,
        seed: u64,
        device: &Device,
    ) -> Result<(Self, Vec<String>)> {
        let base = ModelDir::open(dir)?;
        let own = base.settings.iter().flat_map(|own| &own.tasks);
        let kept: Vec<&str> = own
            .filter(|own| settings.tasks.iter().any(|task| task.has_parts_of(own)))
            .map(|own| own.name.as_str())
            .collect();
        let has_pooler = base.has("pooler.dense.weight") && base.has("pooler.dense.bias");
        let source = |name: &str| {
            let Some(rest) = name.strip_prefix("tasks.") else { return Some(name.to_owned()) };
            let (task, part) = rest.split_once('.').unwrap_or((rest, ""));
            if kept.contains(&task) && (part != "log_variance" || base.has(name)) {
                return Some(name.to_owned());
            }
            let part = part.strip_prefix("pooling.dense.").filter(|_| has_pooler)?;
            Some(format!("pooler.dense.{part}"))
        };
        let (model, mut dropped) = build(&base, &settings, seed, source, device)?;
        if settings.tasks.iter().any(|task| task.pooling == Some(bert_heads::PoolingKind::Cls)) {
            dropped.retain(|name| !name.contains("pooler."));
        }
        let mut notices = vec![];
        let is_new = |task: &&TaskSettings| !kept.contains(&task.name.as_str());
        let without_pooler: Vec<&str> = settings
            .tasks
            .iter()
            .filter(is_new)
            .filter(|task| task.pooling == Some(bert_heads::PoolingKind::Cls) && !has_pooler)
            .map(|task| task.name.as_str())
            .collect();
        if !without_pooler.is_empty() {
            let (dir, tasks) = (dir.display(), without_pooler.join(", "));
            notices.push(format!("{dir} has no pooler: made new ones, normal(0.02), for {tasks}"));
        }
        notices.extend(base.dropped(dropped, "not those of these tasks"));
        Ok((Self::of(base, model, settings)?, notices))
    }

    /// Loads a model that was trained here.
    ///
    /// # Errors
    /// When the directory holds none, or its files do not belong together.
    pub fn load(dir: &Path, device: &Device) -> Result<Self> {
        Self::of_dir(ModelDir::open(dir)?, device)
    }

    pub(crate) fn of_dir(base: ModelDir, device: &Device) -> Result<Self> {
        base.require_kind(TaskKind::MultiTask)?;
        let settings = match &base.settings {
            Some(settings) => settings.clone(),
            None => Settings::new(bert_heads::PoolingKind::Cls, base.config.max_length(None)?),
        };
        let (model, _) = build(&base, &settings, 0, |name| Some(name.to_owned()), device)?;
        Self::of(base, model.valid(), settings)
    }

    fn of(base: ModelDir, model: MultiTask, settings: Settings) -> Result<Self> {
        let labels = settings.tasks.iter().map(|task| LabelMap::of_model(&task.labels));
        let labels = labels.collect::<Result<_>>()?;
        let ModelDir { config, tokenizer, path, .. } = base;
        Ok(Self { model, config, tokenizer, labels, settings, asked: None, path })
    }

    /// Begins layers anew, where the recipe says so.
    ///
    /// # Errors
    /// [`Error::LayerCount`](crate::Error::LayerCount), which names `dir`, for more layers than the encoder has.
    pub fn reinitialise(mut self, recipe: &Recipe, dir: &Path) -> Result<Self> {
        recipe.layers.check_model(&self.config, dir)?;
        if let Some(layers) = recipe.layers.reinit {
            self.model = self.model.reinitialise(layers, &self.config, recipe.seed);
        }
        Ok(self)
    }

    /// Freezes the word embeddings that `train` leaves out.
    ///
    /// # Errors
    /// [`Error::NoNewWords`], which names `dir`, when only new words are to be trained and there are none.
    pub fn train_embeddings(mut self, train: TrainEmbeddings, dir: &Path) -> Result<Self> {
        if let Some(frozen) = train.frozen_words(&self.config, dir)? {
            self.model.bert.embeddings = self.model.bert.embeddings.freeze_words(frozen);
        }
        Ok(self)
    }

    /// Puts adapters, drawn from the recipe's seed, beside the encoder's maps, where there is a `lora`, and freezes all else of the
    /// encoder but new words.
    ///
    /// # Errors
    /// [`Error::LoraRank`] when they are wider than the hidden states; for a recipe whose layers begin anew.
    pub fn with_lora(mut self, lora: Option<&LoraConfig>, recipe: &Recipe) -> Result<Self> {
        if let Some(lora) = lora {
            check_lora(lora, &self.config, recipe)?;
            self.model.bert = self.model.bert.with_lora(lora, recipe.seed);
        }
        Ok(self)
    }

    /// Writes everything but the weights.
    ///
    /// # Errors
    /// When a file can't be written.
    pub fn save_settings(&self, dir: &Path) -> Result<()> {
        save_settings(dir, &self.config, &self.tokenizer, None, &self.settings, false)
    }

    /// The tasks, in the order of the heads.
    pub fn tasks(&self) -> &[TaskSettings] {
        &self.settings.tasks
    }

    /// The head of a task.
    ///
    /// # Errors
    /// [`Error::UnknownTask`] with the names of the tasks.
    pub fn head(&self, name: &str) -> Result<usize> {
        let place = self.tasks().iter().position(|task| task.name == name);
        place.ok_or_else(|| Error::UnknownTask {
            path: self.path.clone(),
            name: name.into(),
            known: self.names(),
        })
    }

    /// The heads that one file may be asked for: of the task that is named, else all where they were trained on the same rows.
    ///
    /// # Errors
    /// [`Error::UnknownTask`] for a name that no task has, [`Error::WhichTask`] where none is given and the rows differ.
    pub fn heads_of_file(&self, name: Option<&str>) -> Result<Vec<usize>> {
        if let Some(name) = name {
            return Ok(vec![self.head(name)?]);
        }
        let sets = self.tasks().iter().map(|task| task.data_set);
        if sets.clone().min() != sets.max() {
            return Err(Error::WhichTask { path: self.path.clone(), known: self.names() });
        }
        Ok((0..self.tasks().len()).collect())
    }

    fn names(&self) -> Vec<String> {
        self.tasks().iter().map(|task| task.name.clone()).collect()
    }

    /// Reads rows of a file that some tasks are measured on, and counts those that were cut. The columns are those of each task,
    /// with `columns` over them.
    ///
    /// Only the heads that are given are measured.
    ///
    /// # Errors
    /// Where the file can't be read, has no such columns, or labels that training never saw.
    pub fn measured(
        &self,
        path: &Path,
        format: Option<Format>,
        heads: &[usize],
        columns: impl Fn(&Columns) -> Columns,
        max_length: usize,
    ) -> Result<(TaskDev, usize)> {
        let (mut sets, mut cut) = (vec![], 0);
        for head in heads {
            let task = &self.tasks()[*head];
            let columns = columns(&task.columns);
            let reading = Reading { kind: task.kind, path, format, columns: &columns };
            let rows = reading.rows(false)?;
            let (encodings, truncated) =
                reading.encode(&rows, &self.tokenizer, &self.config, max_length)?;
            let targets = reading.targets(&rows, &self.labels[*head], &encodings)?;
            cut = cut.max(truncated);
            sets.push(TaskSet {
                encodings,
                targets: vec![(*head, targets)],
                batch_size: None,
                weight: 1.0,
                sources: vec![],
            });
        }
        Ok((TaskDev { sets: merge(sets), tasks: self.measured_tasks() }, cut))
    }

    /// The model that answers for this task alone.
    ///
    /// # Errors
    /// [`Error::UnknownTask`] for a name that no task has.
    pub fn asking(self, name: &str) -> Result<Self> {
        Ok(Self { asked: Some(self.head(name)?), ..self })
    }

    /// One task as a classifier of texts by itself.
    ///
    /// # Errors
    /// [`Error::UnknownTask`] for a name that no task has, [`Error::NoTaskClassifier`] where the task is no classification of
    /// texts, or has a projection.
    pub fn classifier(&self, name: &str) -> Result<TextClassifier> {
        let head = self.head(name)?;
        let task = &self.tasks()[head];
        let model = self.model.sequence_classifier(head).filter(|_| task.is_classifier());
        let refused = || Error::NoTaskClassifier { name: name.into(), kind: task.kind };
        let model = model.ok_or_else(refused)?;
        let settings = Settings {
            kind: TaskKind::Classify,
            pooling: task.pooling.unwrap_or_default(),
            layer_mixture: task.layer_mixture,
            task_embedding: self
                .model
                .alike(head)
                .iter()
                .find_map(|head| self.tasks()[*head].task_embedding),
            columns: task.columns.clone(),
            texts: task.kind.texts(),
            tasks: vec![],
            ..self.settings.clone()
        };
        let labels = self.labels[head].clone();
        let (config, tokenizer) = (self.config.clone(), self.tokenizer.clone());
        Ok(TextClassifier { model, config, tokenizer, labels, settings })
    }

    /// One model without task embeddings for each of the word embeddings that tasks read: they are folded into the table. Each
    /// has the name of its first task, unless it is the only one.
    pub fn fold_task_embeddings(&self) -> Vec<(Option<String>, Self)> {
        let mut folded: Vec<(Option<String>, Self)> = vec![];
        for head in 0..self.tasks().len() {
            let heads = self.model.alike(head);
            if heads[0] != head {
                continue;
            }
            let mut own = self.clone();
            own.model = own.model.fold_task_embedding(head);
            let pick = |head: &usize| self.tasks()[*head].clone();
            own.settings.tasks = heads.iter().map(pick).collect();
            for task in &mut own.settings.tasks {
                (task.task_embedding, task.share_embedding) = (None, None);
            }
            own.labels = heads.iter().map(|head| self.labels[*head].clone()).collect();
            folded.push((Some(self.tasks()[head].name.clone()), own));
        }
        if let [(name, _)] = &mut folded[..] {
            *name = None;
        }
        folded
    }

    /// How each task is measured.
    pub(crate) fn measured_tasks(&self) -> Vec<MeasuredTask> {
        let tasks = self.tasks().iter().zip(&self.labels);
        tasks
            .map(|(task, labels)| MeasuredTask {
                name: task.name.clone(),
                metric: task.metric.clone(),
                labels: labels.clone(),
            })
            .collect()
    }
}

/// Sets that hold the same texts become one, so that one pass through the encoder serves all their tasks.
pub(crate) fn merge(sets: Vec<TaskSet>) -> Vec<TaskSet> {
    let mut merged: Vec<TaskSet> = vec![];
    for set in sets {
        match merged.iter_mut().find(|other| other.has_texts_of(&set)) {
            Some(other) => {
                other.targets.extend(set.targets);
                other.sources.extend(set.sources);
                other.batch_size = other.batch_size.or(set.batch_size);
                other.weight = other.weight.max(set.weight);
            }
            None => merged.push(set),
        }
    }
    merged
}

/// Builds the model, and names the parts of the checkpoint that it leaves; parameters without a source stay at their starting
/// values.
fn build(
    dir: &ModelDir,
    settings: &Settings,
    seed: u64,
    source: impl Fn(&str) -> Option<String>,
    device: &Device,
) -> Result<(MultiTask, Vec<String>)> {
    let names: Vec<&str> = settings.tasks.iter().map(|task| task.name.as_str()).collect();
    let parts: Vec<_> = settings.tasks.iter().map(|task| task.parts(&names)).collect();
    for task in &settings.tasks {
        check_rank(task.task_embedding, &dir.config)?;
        task.pooling.map(|pooling| checked_pooling(pooling, &dir.config)).transpose()?;
    }
    let bert = Bert::new(&dir.config, device);
    dir.fill_from(MultiTask::new(bert, &dir.config, &parts, seed, device), source)
}
