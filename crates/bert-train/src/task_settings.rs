//! How one task of a model of several is put together and fed.

use bert_heads::{PoolingKind, TaskConfig, TaskEmbeddingKind, TaskInput, Uncertainty};
use serde::{Deserialize, Serialize};

use crate::{
    columns::Columns,
    task_form::{AnswerKind, TaskForm},
};

/// How one task of a model of several is put together and fed, beside its weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskSettings {
    /// Its name.
    pub name: String,
    /// What it asks of a text.
    pub kind: TaskForm,
    /// Its labels by id; none where the answers are numbers or parts of texts.
    pub labels: Vec<String>,
    /// The columns that it was trained on: the default of evaluation.
    pub columns: Columns,
    /// The data set that it was trained on: tasks with the same number were trained on the same rows.
    pub data_set: usize,
    /// The score by which it is judged.
    pub metric: String,
    /// How a text's hidden states become one vector; without it, every token is answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pooling: Option<PoolingKind>,
    /// Whether all layers are mixed.
    #[serde(default)]
    pub layer_mixture: bool,
    /// Whether a linear map of the hidden states comes before pooling and head.
    #[serde(default)]
    pub projection: bool,
    /// The map of the word embeddings that the task has of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_embedding: Option<TaskEmbeddingKind>,
    /// The task whose map of the word embeddings this one reads too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share_embedding: Option<String>,
    /// What its gradient was multiplied with where it entered the encoder.
    pub gradient_factor: f64,
    /// Whether the balance of the losses was learned.
    #[serde(default)]
    pub uncertainty: bool,
}

impl TaskSettings {
    /// Whether it can be taken out as a classifier of texts by itself.
    pub(crate) fn is_classifier(&self) -> bool {
        let is_label = matches!(self.kind, TaskForm::Classify | TaskForm::PairClassify);
        is_label && !self.projection
    }

    /// The width of the logits.
    pub fn num_outputs(&self) -> usize {
        match self.kind.answer() {
            AnswerKind::Label | AnswerKind::LabelSet | AnswerKind::Tags => self.labels.len(),
            AnswerKind::Rank => self.labels.len().saturating_sub(1),
            AnswerKind::Number => 1,
            AnswerKind::Part => 2,
        }
    }

    /// The parts of the task's head; `names` has the names of all tasks.
    pub(crate) fn parts(&self, names: &[&str]) -> TaskConfig {
        let owner = self.share_embedding.as_ref();
        let owner = owner.and_then(|owner| names.iter().position(|name| name == owner));
        let noise = match self.kind.answer() {
            AnswerKind::Number => Uncertainty::Gaussian,
            _ => Uncertainty::Softmax,
        };
        TaskConfig {
            name: self.name.clone(),
            input: match (self.task_embedding, owner) {
                (Some(kind), _) => TaskInput::Embedding(kind),
                (None, Some(owner)) => TaskInput::Shared(owner),
                (None, None) => TaskInput::Words,
            },
            layer_mixture: self.layer_mixture,
            projection: self.projection,
            pooling: self.pooling,
            num_outputs: self.num_outputs(),
            gradient_factor: self.gradient_factor,
            uncertainty: self.uncertainty.then_some(noise),
        }
    }

    /// Whether a head of these settings is one of `other`.
    pub(crate) fn has_parts_of(&self, other: &Self) -> bool {
        let parts = |task: &Self| {
            let Self {
                name, kind, labels, pooling, layer_mixture, projection, task_embedding, ..
            } = task.clone();
            (name, kind, labels, pooling, layer_mixture, projection, task_embedding)
        };
        parts(self) == parts(other)
    }
}
