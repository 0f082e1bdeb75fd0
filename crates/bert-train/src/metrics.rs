//! How good answers are: predictions against the truth.
//!
//! All scores are fractions. A score that is not defined, because its denominator is 0, is 0.

mod answers;
mod classification;
mod multi_label;
mod ordinal;
mod regression;
mod tagging;

pub use answers::{answer_f1, exact_match, normalise_answer};
pub use classification::{
    ClassScores, ClassificationMetrics, accuracy, argmax, class_scores, confusion_matrix, f1_macro,
    matthews,
};
pub use multi_label::{MultiLabelMetrics, label_scores, subset_accuracy};
pub use ordinal::{mean_absolute_error, quadratic_weighted_kappa};
pub use regression::{mean_squared_error, pearson, spearman};
pub(crate) use tagging::{Place, split_tag};
pub use tagging::{TagSpan, TaggingMetrics, span_scores, spans};

use std::fmt;

use serde::Serialize;

/// The scores of one model on one data set, whatever the kind of its answers; its JSON has the scores as keys.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Metrics {
    /// Of one label a text.
    Classification(ClassificationMetrics),
    /// Of one tag a word.
    Tagging(TaggingMetrics),
}

impl Metrics {
    /// The score by which the best model is chosen: the higher, the better.
    pub fn main(&self) -> f64 {
        match self {
            Self::Classification(metrics) => metrics.accuracy,
            Self::Tagging(metrics) => metrics.f1,
        }
    }

    /// The name of [`main`](Self::main), as its key has it.
    pub(crate) fn main_name(&self) -> &'static str {
        match self {
            Self::Classification(_) => "accuracy",
            Self::Tagging(_) => "f1",
        }
    }

    /// The mean loss.
    pub fn loss(&self) -> f64 {
        match self {
            Self::Classification(metrics) => metrics.loss,
            Self::Tagging(metrics) => metrics.loss,
        }
    }
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
            Self::Tagging(m) => write!(
                f,
                "F1 {:.4}, precision {:.4}, recall {:.4}, accuracy {:.4}, loss {:.4}",
                m.f1, m.precision, m.recall, m.accuracy, m.loss
            ),
        }
    }
}

fn ratio(numerator: f64, denominator: f64) -> f64 {
    if denominator == 0.0 { 0.0 } else { numerator / denominator }
}
