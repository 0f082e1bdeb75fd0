//! One task of several, as a table of a run file describes it.

use std::{collections::BTreeMap, path::PathBuf};

use bert_heads::{PoolingKind, TaskEmbeddingKind};
use serde::{Deserialize, Serialize};

use crate::{
    columns::Columns,
    format::Format,
    task_form::{AnswerKind, TaskForm},
};

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

impl TaskTable {
    /// The keys of a table.
    pub(crate) const KEYS: [&str; 21] = [
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

    /// Refuses what does not go together, with the key that is at fault; `tasks` are all of the file.
    pub(crate) fn check(
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
