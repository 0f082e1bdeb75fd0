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

fn ratio(numerator: f64, denominator: f64) -> f64 {
    if denominator == 0.0 { 0.0 } else { numerator / denominator }
}
