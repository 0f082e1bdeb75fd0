//! `bert predict`.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    path::{Path, PathBuf},
};

use bert_train::{Columns, Example, Prediction, Sentences, TaskAnswer, TrainedModel};
use clap::Args;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::{
    Failure,
    arguments::{Running, Texts, in_parts, say_truncated},
};

/// Classify texts or tag their words: one line of JSON a text.
#[derive(Debug, Args)]
pub struct Predict {
    /// Model that `bert train` wrote, or a BertForSequenceClassification or BertForTokenClassification in Hugging Face's
    /// layout
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// One text
    #[arg(
        long = "text",
        value_name = "TEXT",
        allow_hyphen_values = true,
        required_unless_present = "input",
        conflicts_with = "input"
    )]
    one: Option<String>,
    /// The second text of a pair
    #[arg(long, value_name = "TEXT", requires = "one", allow_hyphen_values = true)]
    pair: Option<String>,
    #[command(flatten)]
    texts: Texts,
    #[command(flatten)]
    running: Running,
}

impl Predict {
    /// Predicts.
    pub fn run(self) -> Result<(), Failure> {
        let device = self.running.device()?;
        let batch_size = self.running.batch_size;
        match TrainedModel::load(&self.model, &device)? {
            TrainedModel::Classifier(classifier) => {
                let max_length = self.running.max_length.unwrap_or(classifier.settings.max_length);
                self.texts(classifier.settings.texts, max_length, |examples| {
                    let (predictions, cut) =
                        classifier.predict(examples, max_length, batch_size, &device)?;
                    let lines = examples.iter().zip(&predictions);
                    let names = classifier.labels.names();
                    Ok((lines.map(|(text, label)| line(text, label, names)).collect(), cut))
                })
            }
            TrainedModel::Tagger(tagger) => {
                if self.pair.is_some() {
                    return Err(Failure::Usage(
                        "a tagger takes single texts: leave out --pair".into(),
                    ));
                }
                let max_length = self.running.max_length.unwrap_or(tagger.settings.max_length);
                if let Some(path) = self.sentences() {
                    let columns = Columns {
                        tokens: self.texts.column.first().cloned(),
                        ..Columns::default()
                    };
                    let sentences = Sentences::untagged(path, self.texts.format, &columns)?;
                    return print_parts(sentences, max_length, |sentences| {
                        tagger.predict_sentences(sentences, max_length, batch_size, &device)
                    });
                }
                self.texts(1, max_length, |examples| {
                    tagger.predict(examples, max_length, batch_size, &device)
                })
            }
            TrainedModel::MultiTask(tasker) => {
                let max_length = self.running.max_length.unwrap_or(tasker.settings.max_length);
                self.texts(tasker.texts(), max_length, |examples| {
                    let (answers, cut) =
                        tasker.predict(examples, max_length, batch_size, &device)?;
                    let lines = examples.iter().zip(answers);
                    Ok((lines.map(|(text, answers)| answers_line(text, answers)).collect(), cut))
                })
            }
        }
    }

    /// The input, where it is split into words already.
    fn sentences(&self) -> Option<&Path> {
        let path = self.texts.input.as_deref()?;
        Sentences::are_in(path, self.texts.format, &Columns::default()).then_some(path)
    }

    /// Prints what `predict` says of the given texts, `texts` a row.
    fn texts<A: Serialize>(
        &self,
        texts: usize,
        max_length: usize,
        predict: impl FnMut(&[Example]) -> bert_train::Result<(Vec<A>, usize)>,
    ) -> Result<(), Failure> {
        match (&self.one, &self.texts.input) {
            (Some(text), _) => {
                let (text, pair) = (text.clone(), self.pair.clone());
                let example = Example { text, pair, label: None, line: 1 };
                print_parts([Ok(example)].into_iter(), max_length, predict)
            }
            (None, Some(path)) => {
                print_parts(self.texts.examples(path, texts)?, max_length, predict)
            }
            (None, None) => Err(Failure::Usage("expected --text or --input".to_owned())),
        }
    }
}

/// Prints a line of JSON for each row, part by part.
fn print_parts<R, A: Serialize>(
    rows: impl Iterator<Item = bert_train::Result<R>>,
    max_length: usize,
    mut predict: impl FnMut(&[R]) -> bert_train::Result<(Vec<A>, usize)>,
) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let (mut count, mut truncated) = (0, 0);
    in_parts(rows, |part| {
        let (answers, cut) = predict(part)?;
        (count, truncated) = (count + part.len(), truncated + cut);
        for answer in answers {
            writeln!(out, "{}", serde_json::to_string(&answer).map_err(io::Error::from)?)?;
        }
        Ok(())
    })?;
    say_truncated(truncated, count, max_length);
    Ok(())
}

/// What each task says of a text.
fn answers_line(example: &Example, answers: BTreeMap<String, TaskAnswer>) -> Value {
    let mut line = text_line(example);
    for (task, answer) in answers {
        line[task] = json!(answer);
    }
    line
}

/// A line that begins with the text or the pair.
fn text_line(example: &Example) -> Value {
    match &example.pair {
        Some(pair) => json!({ "text": example.text, "pair": pair }),
        None => json!({ "text": example.text }),
    }
}

/// What a classifier says of a text.
fn line(example: &Example, prediction: &Prediction, names: &[String]) -> Value {
    let probabilities: Map<String, Value> =
        names.iter().cloned().zip(prediction.probabilities.iter().map(|p| json!(p))).collect();
    let mut line = text_line(example);
    line["label"] = json!(names[prediction.label as usize]);
    line["probabilities"] = Value::Object(probabilities);
    line
}
