//! What a model says of labelled rows, row by row.

use std::path::Path;

use bert_heads::{SequenceClassifier, TokenClassifier};
use burn::tensor::Device;

use crate::{
    columns::Columns,
    data_set::{DataSet, TaggedSet},
    error::Result,
    evaluate::{classification_metrics, data_logits, tag_answers},
    examples::read_examples,
    finished_run::{AnsweredRow, RowAnswer, Score, ScoreChoice},
    format::Format,
    labels::LabelMap,
    metrics::{Metrics, argmax},
    sentences::read_sentences,
    tag_answers::TagAnswers,
    trained_model::TrainedModel,
};

/// The answers of a classifier to the texts on these `lines` of their file; `model` and `device` are those of evaluation.
pub(crate) fn answers_on_texts(
    model: &SequenceClassifier,
    data: &DataSet,
    lines: &[usize],
    labels: &LabelMap,
    batch_size: usize,
    device: &Device,
) -> Vec<AnsweredRow> {
    answers_of_logits(&data_logits(model, data, batch_size, device), data, lines, labels)
}

fn answers_of_logits(
    logits: &[Vec<f32>],
    data: &DataSet,
    lines: &[usize],
    labels: &LabelMap,
) -> Vec<AnsweredRow> {
    let name = |id: u32| RowAnswer::Label(labels.name(id).unwrap_or_default().to_owned());
    let rows = logits.iter().zip(&data.labels).zip(lines).zip(data.lengths());
    rows.filter_map(|(((logits, label), &row), tokens)| {
        Some(AnsweredRow { row, gold: name((*label)?), predicted: name(argmax(logits)), tokens })
    })
    .collect()
}

/// The answers of a tagger to the sentences on these `lines` of their file; `model` and `device` are those of evaluation.
pub(crate) fn answers_on_sentences(
    model: &TokenClassifier,
    data: &TaggedSet,
    lines: &[usize],
    batch_size: usize,
    device: &Device,
) -> Vec<AnsweredRow> {
    answers_of_tags(&tag_answers(model, data, batch_size, device), data, lines)
}

fn answers_of_tags(answers: &TagAnswers, data: &TaggedSet, lines: &[usize]) -> Vec<AnsweredRow> {
    let owned = |tags: &[&str]| RowAnswer::Tags(tags.iter().map(|&tag| tag.into()).collect());
    let rows = answers.gold.iter().zip(&answers.predicted).zip(lines).zip(data.rows.lengths());
    rows.map(|(((gold, predicted), &row), tokens)| AnsweredRow {
        row,
        gold: owned(gold),
        predicted: owned(predicted),
        tokens,
    })
    .collect()
}

/// A file of labelled rows, and how a model is measured on it.
pub struct Measurement<'a> {
    /// The file.
    pub path: &'a Path,
    /// Its format; without it, its extension tells.
    pub format: Option<Format>,
    /// Its columns, from those that the model was trained on.
    pub columns: &'a dyn Fn(&Columns) -> Columns,
    /// Which score counts.
    pub score: ScoreChoice,
    /// The most tokens of a text that are read together; without it, the model's own.
    pub max_length: Option<usize>,
    /// Rows run together.
    pub batch_size: usize,
}

impl TrainedModel {
    /// A score on a file of labelled rows, with the answer to each; `path` is the model's directory.
    ///
    /// # Errors
    /// Where the file can't be read, or has labels that training never saw, or the model has no such score.
    pub fn score(&self, path: &Path, on: &Measurement<'_>, device: &Device) -> Result<Score> {
        let (settings, batch_size) = (self.settings(), on.batch_size);
        let max_length = on.max_length.unwrap_or(settings.max_length);
        let (metrics, rows) = match self {
            Self::Classifier(classifier) => {
                let examples = read_examples(on.path, on.format, &(on.columns)(&settings.columns))?;
                let (data, _) = classifier.data_set(on.path, &examples, max_length)?;
                let lines: Vec<usize> = examples.iter().map(|example| example.line).collect();
                let labels = &classifier.labels;
                let logits = data_logits(&classifier.model, &data, batch_size, device);
                let metrics = classification_metrics(&logits, &data, labels.len());
                let rows = answers_of_logits(&logits, &data, &lines, labels);
                (Metrics::Classification(metrics), rows)
            }
            Self::Tagger(tagger) => {
                let sentences =
                    read_sentences(on.path, on.format, &(on.columns)(&settings.columns))?;
                let (data, _) = tagger.tagged_set(on.path, &sentences, max_length)?;
                let lines: Vec<usize> = sentences.iter().map(|sentence| sentence.line).collect();
                let answers = tag_answers(&tagger.model, &data, batch_size, device);
                (Metrics::Tagging(answers.metrics()), answers_of_tags(&answers, &data, &lines))
            }
            Self::MultiTask(tasker) => {
                let heads = tasker.heads_of_file(on.score.task.as_deref())?;
                let (data, _) =
                    tasker.measured(on.path, on.format, &heads, on.columns, max_length)?;
                let tasks = data.metrics(&data.logits(&tasker.model, batch_size, device));
                (Metrics::Tasks(tasks), vec![])
            }
        };
        let own = settings.recipe.as_ref().and_then(|recipe| recipe.control.metric.as_deref());
        let (metric, value) = on.score.of(path, &metrics, own)?;
        Ok(Score { metric, value, rows })
    }
}
