//! `bert eval`.

use std::{
    io::{self, Write},
    path::PathBuf,
};

use bert_train::{ClassificationMetrics, TextClassifier, evaluate, read_examples};
use clap::Args;
use serde::Serialize;

use crate::{
    Failure,
    arguments::{LabelledColumns, Running, say_truncated},
};

/// Measure a trained model on labelled texts.
#[derive(Debug, Args)]
pub struct Eval {
    /// Model that `bert train` wrote, or a BertForSequenceClassification in Hugging Face's layout
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Labelled rows; the columns are those the model was trained on unless flags say otherwise
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    #[command(flatten)]
    columns: LabelledColumns,
    #[command(flatten)]
    running: Running,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    metrics: ClassificationMetrics,
    rows: usize,
}

impl Eval {
    /// Evaluates.
    pub fn run(self) -> Result<(), Failure> {
        let device = self.running.device()?;
        let classifier = TextClassifier::load(&self.model, &device)?;
        let columns = self.columns.or(&classifier.settings.columns);
        let examples = read_examples(&self.data, self.columns.format, &columns)?;
        let max_length = self.running.max_length.unwrap_or(classifier.settings.max_length);
        let (data, truncated) = classifier.data_set(&self.data, &examples, max_length)?;
        say_truncated(truncated, examples.len(), max_length);
        let labels = classifier.labels.len();
        let metrics = evaluate(&classifier.model, &data, labels, self.running.batch_size, &device);
        let report = Report { metrics, rows: examples.len() };
        let mut out = io::stdout().lock();
        if self.json {
            writeln!(out, "{}", serde_json::to_string(&report).map_err(io::Error::from)?)?;
        } else {
            let metrics = &report.metrics;
            writeln!(
                out,
                "{} rows: accuracy {:.4}, macro F1 {:.4}, Matthews {:.4}, loss {:.4}",
                report.rows, metrics.accuracy, metrics.f1_macro, metrics.matthews, metrics.loss
            )?;
        }
        Ok(())
    }
}
