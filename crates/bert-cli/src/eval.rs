//! `bert eval`.

use std::{
    io::{self, Write},
    path::PathBuf,
};

use bert_train::{Columns, Metrics, Trainable, TrainedModel, read_examples, read_sentences};
use clap::Args;
use serde::Serialize;

use crate::{
    Failure,
    arguments::{LabelledColumns, Running, say_truncated},
};

/// Measure a trained model on labelled texts.
#[derive(Debug, Args)]
pub struct Eval {
    /// Model that `bert train` wrote, or a BertForSequenceClassification or BertForTokenClassification in Hugging Face's
    /// layout
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Labelled rows; the columns are those the model was trained on unless flags say otherwise
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    #[command(flatten)]
    columns: LabelledColumns,
    /// Task of a model of several [default: all, where they were trained on the same rows]
    #[arg(long, value_name = "NAME")]
    task: Option<String>,
    #[command(flatten)]
    running: Running,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    metrics: Metrics,
    rows: usize,
}

impl Eval {
    /// Evaluates.
    pub fn run(self) -> Result<(), Failure> {
        let device = self.running.device()?;
        let (batch_size, format) = (self.running.batch_size, self.columns.format);
        let model = TrainedModel::load(&self.model, &device)?;
        if let (Some(name), false) = (&self.task, matches!(model, TrainedModel::MultiTask(_))) {
            let (path, name) = (self.model.clone(), name.clone());
            return Err(bert_train::Error::OneTask { path, name }.into());
        }
        let report = match model {
            TrainedModel::Classifier(classifier) => {
                let columns = self.columns.or(&classifier.settings.columns);
                let examples = read_examples(&self.data, format, &columns)?;
                let max_length = self.running.max_length.unwrap_or(classifier.settings.max_length);
                let (data, cut) = classifier.data_set(&self.data, &examples, max_length)?;
                say_truncated(cut, examples.len(), &classifier.settings.long.limit(max_length));
                let metrics = classifier.model.evaluate(&data, batch_size, &device);
                Report { metrics, rows: examples.len() }
            }
            TrainedModel::Tagger(tagger) => {
                let columns = self.columns.or(&tagger.settings.columns);
                let sentences = read_sentences(&self.data, format, &columns)?;
                let max_length = self.running.max_length.unwrap_or(tagger.settings.max_length);
                let (data, cut) = tagger.tagged_set(&self.data, &sentences, max_length)?;
                say_truncated(cut, sentences.len(), &tagger.settings.long.limit(max_length));
                let metrics = tagger.model.evaluate(&data, batch_size, &device);
                Report { metrics, rows: sentences.len() }
            }
            TrainedModel::MultiTask(tasker) => {
                let heads = tasker.heads_of_file(self.task.as_deref())?;
                let max_length = self.running.max_length.unwrap_or(tasker.settings.max_length);
                let columns = |own: &Columns| self.columns.or(own);
                let (data, cut) =
                    tasker.measured(&self.data, format, &heads, columns, max_length)?;
                let rows = data.sets[0].encodings.len();
                say_truncated(cut, rows, &tasker.settings.long.limit(max_length));
                let mut tasks = data.metrics(&data.logits(&tasker.model, batch_size, &device));
                let metrics = match (&self.task, tasks.0.pop()) {
                    (Some(_), Some(task)) => task.metrics,
                    (_, last) => {
                        tasks.0.extend(last);
                        Metrics::Tasks(tasks)
                    }
                };
                Report { metrics, rows }
            }
        };
        let mut out = io::stdout().lock();
        if self.json {
            writeln!(out, "{}", serde_json::to_string(&report).map_err(io::Error::from)?)?;
        } else {
            writeln!(out, "{} rows: {}", report.rows, report.metrics)?;
        }
        Ok(())
    }
}
