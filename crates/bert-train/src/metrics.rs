//! How good answers are: predictions against the truth.
//!
//! All scores are fractions. A score that is not defined, because its denominator is 0, is 0.

mod answers;
mod classification;
mod multi_label;
mod ordinal;
mod regression;
mod tagging;
mod tasks;

pub use answers::{AnswerMetrics, answer_f1, exact_match, normalise_answer};
pub use classification::{
    ClassScores, ClassificationMetrics, accuracy, argmax, class_scores, confusion_matrix, f1_macro,
    matthews,
};
pub use multi_label::{MultiLabelMetrics, label_scores, subset_accuracy};
pub use ordinal::{OrdinalMetrics, mean_absolute_error, quadratic_weighted_kappa};
pub use regression::{RegressionMetrics, mean_squared_error, pearson, spearman};
pub(crate) use tagging::{Place, TagCounts, split_tag};
pub use tagging::{TagSpan, TaggingMetrics, span_scores, spans};
pub use tasks::{TaskMetrics, TasksMetrics};

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// What the name of a mean over tasks begins with.
const MEAN: &str = "mean of ";

/// The scores of one model on one data set, whatever the kind of its answers; its JSON has the scores as keys.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Metrics {
    /// Of one label a text.
    Classification(ClassificationMetrics),
    /// Of any number of labels a text.
    MultiLabel(MultiLabelMetrics),
    /// Of one of several ordered labels a text.
    Ordinal(OrdinalMetrics),
    /// Of a number a text.
    Regression(RegressionMetrics),
    /// Of one tag a word.
    Tagging(TaggingMetrics),
    /// Of parts of texts that answer questions.
    Answers(AnswerMetrics),
    /// Of several tasks.
    Tasks(TasksMetrics),
}

impl Metrics {
    /// The score by which the best model is chosen: the higher, the better.
    pub fn main(&self) -> f64 {
        match self {
            Self::Classification(metrics) => metrics.accuracy,
            Self::MultiLabel(metrics) => metrics.f1_micro,
            Self::Ordinal(metrics) => metrics.kappa,
            Self::Regression(metrics) => metrics.spearman,
            Self::Tagging(metrics) => metrics.f1,
            Self::Answers(metrics) => metrics.f1,
            Self::Tasks(metrics) => metrics.main(),
        }
    }

    /// The main score of each task, of which there is one but for several tasks: the higher, the better.
    pub fn scores(&self) -> Vec<f64> {
        match self {
            Self::Tasks(tasks) => tasks.0.iter().map(TaskMetrics::judged).collect(),
            other => vec![other.main()],
        }
    }

    /// The name of [`main`](Self::main), as its key has it.
    pub(crate) fn main_name(&self) -> String {
        let name = match self {
            Self::Classification(_) => "accuracy",
            Self::MultiLabel(_) => "f1_micro",
            Self::Ordinal(_) => "kappa",
            Self::Regression(_) => "spearman",
            Self::Tagging(_) | Self::Answers(_) => "f1",
            Self::Tasks(tasks) => {
                let names = tasks.0.iter().map(|task| {
                    let minus = if is_error(&task.metric) { "minus " } else { "" };
                    format!("{minus}{} {}", task.name, task.metric)
                });
                return format!("{MEAN}{}", names.collect::<Vec<_>>().join(", "));
            }
        };
        name.to_owned()
    }

    /// Judges each of several tasks by the score that `metric` has for its name.
    pub(crate) fn judge_by(&mut self, metric: impl Fn(&str) -> Option<String>) {
        if let Self::Tasks(tasks) = self {
            for task in &mut tasks.0 {
                if let Some(metric) = metric(&task.name) {
                    task.metric = metric;
                }
            }
        }
    }

    /// The mean loss.
    pub fn loss(&self) -> f64 {
        match self {
            Self::Classification(metrics) => metrics.loss,
            Self::MultiLabel(metrics) => metrics.loss,
            Self::Ordinal(metrics) => metrics.loss,
            Self::Regression(metrics) => metrics.loss,
            Self::Tagging(metrics) => metrics.loss,
            Self::Answers(metrics) => metrics.loss,
            Self::Tasks(metrics) => metrics.loss(),
        }
    }

    /// The scores by name; of several tasks none.
    pub fn by_name(&self) -> Vec<(&'static str, f64)> {
        match self {
            Self::Classification(m) => {
                let all =
                    [("accuracy", m.accuracy), ("f1_macro", m.f1_macro), ("f1_micro", m.f1_micro)];
                let rest = [("matthews", m.matthews), ("loss", m.loss)];
                all.into_iter().chain(m.f1.map(|f1| ("f1", f1))).chain(rest).collect()
            }
            Self::MultiLabel(m) => vec![
                ("f1_micro", m.f1_micro),
                ("f1_macro", m.f1_macro),
                ("accuracy", m.accuracy),
                ("loss", m.loss),
            ],
            Self::Ordinal(m) => vec![
                ("kappa", m.kappa),
                ("accuracy", m.accuracy),
                ("mean_absolute_error", m.mean_absolute_error),
                ("loss", m.loss),
            ],
            Self::Regression(m) => vec![
                ("spearman", m.spearman),
                ("pearson", m.pearson),
                ("mean_squared_error", m.mean_squared_error),
                ("loss", m.loss),
            ],
            Self::Tagging(m) => vec![
                ("f1", m.f1),
                ("precision", m.precision),
                ("recall", m.recall),
                ("accuracy", m.accuracy),
                ("loss", m.loss),
            ],
            Self::Answers(m) => {
                vec![("f1", m.f1), ("exact_match", m.exact_match), ("loss", m.loss)]
            }
            Self::Tasks(_) => vec![],
        }
    }

    /// The scores by name; of several tasks those of each as `TASK/NAME`, and their mean.
    pub(crate) fn flattened(&self) -> Vec<(String, f64)> {
        match self {
            Self::Tasks(tasks) => {
                let of_task = |task: &TaskMetrics| {
                    let scores = task.metrics.by_name();
                    let named = |(name, score)| (format!("{}/{name}", task.name), score);
                    scores.into_iter().map(named).collect::<Vec<_>>()
                };
                let mean = ("mean".to_owned(), tasks.main());
                tasks.0.iter().flat_map(of_task).chain([mean]).collect()
            }
            one => {
                one.by_name().into_iter().map(|(name, score)| (name.to_owned(), score)).collect()
            }
        }
    }

    /// The score of this name.
    ///
    /// # Errors
    /// [`Error::UnknownMetric`] with the names there are.
    pub(crate) fn named(&self, name: &str) -> Result<f64> {
        self.score(name).ok_or_else(|| {
            let known = self.by_name().into_iter().map(|(name, _)| name).collect();
            Error::UnknownMetric { name: name.to_owned(), known }
        })
    }

    /// The score of this name.
    pub fn score(&self, name: &str) -> Option<f64> {
        self.by_name().into_iter().find(|(own, _)| *own == name).map(|(_, score)| score)
    }
}

/// What a score is multiplied with where the higher is to be the better.
pub(crate) fn sign(metric: &str) -> f64 {
    if is_error(metric) { -1.0 } else { 1.0 }
}

/// Whether a score is the better the smaller it is; a task's name may come before that of the score. In a mean over tasks errors are
/// taken off already.
pub(crate) fn is_error(metric: &str) -> bool {
    if metric.starts_with(MEAN) {
        return false;
    }
    let name = metric.rsplit([' ', '/']).next();
    ["loss", "mean_absolute_error", "mean_squared_error"].iter().any(|error| Some(*error) == name)
}

/// As a person reads them.
impl fmt::Display for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Classification(m) => write!(
                f,
                "accuracy {:.4}, macro F1 {:.4}, Matthews {:.4}, loss {:.4}",
                m.accuracy, m.f1_macro, m.matthews, m.loss
            ),
            Self::MultiLabel(m) => write!(
                f,
                "micro F1 {:.4}, macro F1 {:.4}, accuracy {:.4}, loss {:.4}",
                m.f1_micro, m.f1_macro, m.accuracy, m.loss
            ),
            Self::Ordinal(m) => write!(
                f,
                "kappa {:.4}, accuracy {:.4}, mean absolute error {:.4}, loss {:.4}",
                m.kappa, m.accuracy, m.mean_absolute_error, m.loss
            ),
            Self::Regression(m) => write!(
                f,
                "Spearman {:.4}, Pearson {:.4}, mean squared error {:.4}, loss {:.4}",
                m.spearman, m.pearson, m.mean_squared_error, m.loss
            ),
            Self::Tagging(m) => write!(
                f,
                "F1 {:.4}, precision {:.4}, recall {:.4}, accuracy {:.4}, loss {:.4}",
                m.f1, m.precision, m.recall, m.accuracy, m.loss
            ),
            Self::Answers(m) => {
                write!(f, "F1 {:.4}, exact match {:.4}, loss {:.4}", m.f1, m.exact_match, m.loss)
            }
            Self::Tasks(tasks) => {
                write!(f, "mean {:.4}", tasks.main())?;
                for task in &tasks.0 {
                    write!(f, "; {}: {}", task.name, task.metrics)?;
                }
                Ok(())
            }
        }
    }
}

fn ratio(numerator: f64, denominator: f64) -> f64 {
    if denominator == 0.0 { 0.0 } else { numerator / denominator }
}
