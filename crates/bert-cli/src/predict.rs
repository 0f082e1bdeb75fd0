//! `bert predict`.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    path::{Path, PathBuf},
};

use bert_train::{Columns, Example, MultiTasker, Prediction, Sentences, TaskAnswer, TrainedModel};
use clap::Args;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::{
    Failure,
    arguments::{PART, Running, Texts, in_parts, say_truncated},
    weights::{WeightsForm, WeightsView},
};

const EXAMPLES: &str = "\
Examples:
  bert predict --model run --text 'a film that lingers'
  # which tokens counted: in colours, and on a page for a browser
  bert predict --model run --text 'a film that lingers' --weights ansi
  bert predict --model run --input texts.txt --weights html=page.html

With --weights, how much of the weight lies on [CLS], [SEP], punctuation and words is said on standard error.";

/// Classify texts or tag their words: one line of JSON a text.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
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
        conflicts_with = "input"
    )]
    one: Option<String>,
    /// The second text of a pair
    #[arg(long, value_name = "TEXT", requires = "one", allow_hyphen_values = true)]
    pair: Option<String>,
    #[command(flatten)]
    texts: Texts,
    /// Task of a model of several, to be asked by itself; with --weights a classification of texts [default: all]
    #[arg(long, value_name = "NAME")]
    task: Option<String>,
    /// How much each token counts in the pooled vector: json ("weights" in the line), ansi (coloured text in place of
    /// JSON) or html=FILE (a page)
    #[arg(long, value_name = "FORM")]
    weights: Option<WeightsForm>,
    /// With --weights json, also the weights of each dimension
    #[arg(long, requires = "weights")]
    weights_per_dimension: bool,
    #[command(flatten)]
    running: Running,
}

impl Predict {
    /// Predicts.
    pub fn run(self) -> Result<(), Failure> {
        if self.one.is_none() && self.texts.input.is_none() {
            let message = "expected --text TEXT, or --input FILE with the texts";
            return Err(Failure::Usage(message.to_owned()));
        }
        let device = self.running.device()?;
        let batch_size = self.running.batch_size;
        let (model, task) = (TrainedModel::load(&self.model, &device)?, self.task.as_deref());
        let model = match self.weights {
            Some(_) => model.task(task, &self.model)?,
            None => model.asking(task, &self.model)?,
        };
        match model {
            TrainedModel::Classifier(classifier) => {
                self.check_pair(classifier.settings.texts)?;
                let max_length = self.running.max_length.unwrap_or(classifier.settings.max_length);
                let (texts, limit) =
                    (classifier.settings.texts, classifier.settings.long.limit(max_length));
                if let Some(form) = &self.weights {
                    let mut view = WeightsView::new(form, self.weights_per_dimension)?;
                    self.texts(texts, &limit, view.part(), |examples| {
                        view.lines(&classifier, examples, max_length, batch_size, &device)
                    })?;
                    return view.finish(&self.model);
                }
                self.texts(texts, &limit, PART, |examples| {
                    let (predictions, cut) =
                        classifier.predict(examples, max_length, batch_size, &device)?;
                    let names = classifier.labels.names();
                    let lines = examples.iter().zip(&predictions);
                    json_lines(lines.map(|(text, label)| Line::new(text, label, names)), cut)
                })
            }
            TrainedModel::Tagger(tagger) => {
                if self.weights.is_some() {
                    return Err(Failure::Usage(
                        "a tagger pools nothing, so that no token has a weight: leave out --weights".into(),
                    ));
                }
                if self.pair.is_some() {
                    return Err(Failure::Usage(
                        "a tagger takes single texts: leave out --pair".into(),
                    ));
                }
                let max_length = self.running.max_length.unwrap_or(tagger.settings.max_length);
                let limit = tagger.settings.long.limit(max_length);
                if let Some(path) = self.sentences() {
                    let sentences = self.untagged(path)?;
                    return print_parts(sentences, &limit, PART, |sentences| {
                        let (taggings, cut) =
                            tagger.predict_sentences(sentences, max_length, batch_size, &device)?;
                        json_lines(taggings.iter(), cut)
                    });
                }
                self.texts(1, &limit, PART, |examples| {
                    let (taggings, cut) =
                        tagger.predict(examples, max_length, batch_size, &device)?;
                    json_lines(taggings.iter(), cut)
                })
            }
            TrainedModel::MultiTask(_) if self.weights.is_some() => Err(Failure::Usage(
                "each of several tasks has weights of its own: say which one with --task NAME"
                    .into(),
            )),
            TrainedModel::MultiTask(tasker) => {
                let max_length = self.running.max_length.unwrap_or(tasker.settings.max_length);
                let limit = tasker.settings.long.limit(max_length);
                if let Some(path) = self.sentences() {
                    self.say_unasked(&tasker, 1);
                    let sentences = self.untagged(path)?;
                    return print_parts(sentences, &limit, PART, |sentences| {
                        let (answers, cut) =
                            tasker.predict_sentences(sentences, max_length, batch_size, &device)?;
                        let texts: Vec<String> =
                            sentences.iter().map(|sentence| sentence.tokens.join(" ")).collect();
                        let lines = texts.iter().zip(&answers);
                        json_lines(
                            lines.map(|(text, all)| TaskLine::new(text, None, all, task)),
                            cut,
                        )
                    });
                }
                let texts = match (self.texts.column.len(), &self.texts.input) {
                    (0, Some(path)) => {
                        tasker.texts_of_file(path, self.texts.format, self.texts.header)?
                    }
                    (given, _) => given,
                };
                let given = if self.one.is_some() { 1 + self.pair.iter().len() } else { texts };
                self.say_unasked(&tasker, given);
                self.texts(texts, &limit, PART, |examples| {
                    let (answers, cut) =
                        tasker.predict(examples, max_length, batch_size, &device)?;
                    let lines = examples.iter().zip(&answers).map(|(example, all)| {
                        TaskLine::new(&example.text, example.pair.as_deref(), all, task)
                    });
                    json_lines(lines, cut)
                })
            }
        }
    }

    /// Refuses one text where the model takes two, and two where it takes one.
    fn check_pair(&self, texts: usize) -> Result<(), Failure> {
        let message = match (&self.one, &self.pair, texts) {
            (Some(_), None, 2) => "the model takes two texts: give the second with --pair TEXT",
            (Some(_), Some(_), 1) => "the model takes one text: leave out --pair",
            _ => return Ok(()),
        };
        Err(Failure::Usage(message.to_owned()))
    }

    /// Says which of several tasks are left out, as they take more or fewer texts.
    fn say_unasked(&self, tasker: &MultiTasker, texts: usize) {
        let other = tasker.tasks().iter().filter(|task| task.kind.texts() != texts);
        let names: Vec<&str> = other.map(|task| task.name.as_str()).collect();
        if self.task.is_none() && !names.is_empty() {
            let more = if texts == 1 { "two texts (--pair)" } else { "one text" };
            eprintln!("not asked: {}, for {more}", names.join(", "));
        }
    }

    /// The input, where it is split into words already.
    fn sentences(&self) -> Option<&Path> {
        let path = self.texts.input.as_deref()?;
        Sentences::are_in(path, self.texts.format, &Columns::default()).then_some(path)
    }

    /// The sentences of a file, whose words are in the first column that is given.
    fn untagged(&self, path: &Path) -> Result<Sentences, Failure> {
        let columns = Columns { tokens: self.texts.column.first().cloned(), ..Columns::default() };
        Ok(Sentences::untagged(path, self.texts.format, &columns)?)
    }

    /// Prints what `predict` says of the given texts, `texts` a row, `part` rows at a time.
    fn texts(
        &self,
        texts: usize,
        limit: &str,
        part: usize,
        predict: impl FnMut(&[Example]) -> Result<(Vec<String>, usize), Failure>,
    ) -> Result<(), Failure> {
        match (&self.one, &self.texts.input) {
            (Some(text), _) => {
                let (text, pair) = (text.clone(), self.pair.clone());
                let example = Example { text, pair, label: None, line: 1 };
                print_parts([Ok(example)].into_iter(), limit, part, predict)
            }
            (None, Some(path)) => {
                print_parts(self.texts.examples(path, texts)?, limit, part, predict)
            }
            (None, None) => Err(Failure::Usage("expected --text or --input".to_owned())),
        }
    }
}

/// Prints the lines that `predict` makes of rows, and counts what it cut to `limit`, `part` rows at a time.
fn print_parts<R>(
    rows: impl Iterator<Item = bert_train::Result<R>>,
    limit: &str,
    part: usize,
    mut predict: impl FnMut(&[R]) -> Result<(Vec<String>, usize), Failure>,
) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let (mut count, mut truncated) = (0, 0);
    in_parts(rows, part, |rows| {
        let (lines, cut) = predict(rows)?;
        (count, truncated) = (count + rows.len(), truncated + cut);
        for line in lines {
            writeln!(out, "{line}")?;
        }
        Ok(())
    })?;
    say_truncated(truncated, count, limit);
    Ok(())
}

/// What tasks say of a text.
#[derive(Debug, Serialize)]
struct TaskLine<'a> {
    text: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pair: Option<&'a str>,
    #[serde(flatten)]
    said: Said<'a>,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Said<'a> {
    /// By each task.
    All(&'a BTreeMap<String, TaskAnswer>),
    /// By the one that was asked.
    One(&'a TaskAnswer),
}

impl<'a> TaskLine<'a> {
    fn new(
        text: &'a str,
        pair: Option<&'a str>,
        answers: &'a BTreeMap<String, TaskAnswer>,
        task: Option<&str>,
    ) -> Self {
        let one = task.and_then(|name| answers.get(name));
        Self { text, pair, said: one.map_or(Said::All(answers), Said::One) }
    }
}

/// A line of JSON for each answer, beside the number of texts that were cut.
fn json_lines(
    answers: impl Iterator<Item = impl Serialize>,
    cut: usize,
) -> Result<(Vec<String>, usize), Failure> {
    let lines = answers.map(|answer| serde_json::to_string(&answer).map_err(io::Error::from));
    Ok((lines.collect::<io::Result<_>>()?, cut))
}

/// What a classifier says of a text.
#[derive(Debug, Serialize)]
pub struct Line<'a> {
    text: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pair: Option<&'a str>,
    label: &'a str,
    probabilities: Map<String, Value>,
}

impl<'a> Line<'a> {
    /// The answer for `example`; `names` are the labels by id.
    pub fn new(example: &'a Example, prediction: &Prediction, names: &'a [String]) -> Self {
        let probabilities = prediction.probabilities.iter().map(|p| json!(p));
        Self {
            text: &example.text,
            pair: example.pair.as_deref(),
            label: &names[prediction.label as usize],
            probabilities: names.iter().cloned().zip(probabilities).collect(),
        }
    }
}
