//! Data sets, batching, the fine-tuning recipe, metrics and run directories.

mod batches;
mod closest;
mod columns;
mod conll;
mod csv;
mod data_set;
mod embedder;
mod encode;
mod error;
mod evaluate;
mod examples;
mod export;
mod fine_tune;
mod format;
mod json;
mod labels;
mod lines;
mod metrics;
mod model_dir;
mod optimizer;
mod out_dir;
mod prediction;
mod progress;
mod questions;
mod recipe;
mod rows;
mod run;
mod run_config;
mod schedule;
mod sentences;
mod split;
mod step;
mod suggestion;
mod tag_scheme;
mod tagger;
mod tagging;
mod task_kind;
mod text_classifier;
mod trainable;
mod trained_model;
mod vocabulary;
mod word_config;

pub use batches::{epoch_batches, evaluation_batches};
pub use columns::{Column, Columns};
pub use data_set::{DataSet, TaggedSet, WordTags};
pub use embedder::Embedder;
pub use error::{Error, Result};
pub use evaluate::{evaluate, evaluate_tags, predict_logits, predict_token_logits};
pub use examples::{Example, Examples, read_examples, read_training_examples};
pub use export::export;
pub use fine_tune::{EpochReport, FineTuned, Observer, StepReport, fine_tune};
pub use format::Format;
pub use labels::LabelMap;
pub use metrics::{
    ClassScores, ClassificationMetrics, Metrics, MultiLabelMetrics, TagSpan, TaggingMetrics,
    accuracy, answer_f1, argmax, class_scores, confusion_matrix, exact_match, f1_macro,
    label_scores, matthews, mean_absolute_error, mean_squared_error, normalise_answer, pearson,
    quadratic_weighted_kappa, span_scores, spans, spearman, subset_accuracy,
};
pub use model_dir::Settings;
pub use optimizer::{Optimizer, learning_rates};
pub use prediction::{Prediction, TokenWeight};
pub use progress::Progress;
pub use questions::{Answer, Question, read_questions};
pub use recipe::Recipe;
pub use rows::{Cell, Row, Rows};
pub use run::{RunReport, run};
pub use run_config::RunConfig;
pub use schedule::Schedule;
pub use sentences::{Sentence, Sentences, read_sentences};
pub use split::{Split, stratified_split};
pub use step::{Step, train_step};
pub use tag_scheme::TagScheme;
pub use tagger::Tagger;
pub use tagging::{TaggedSpan, TaggedToken, Tagging};
pub use task_kind::TaskKind;
pub use text_classifier::TextClassifier;
pub use trainable::Trainable;
pub use trained_model::TrainedModel;
pub use vocabulary::{extend_vocabulary, scan_vocabulary};
pub use word_config::{ParseTrainEmbeddingsError, TrainEmbeddings, WordConfig};
