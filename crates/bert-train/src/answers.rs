//! What a model says of labelled rows, row by row.

use std::path::Path;

use bert_heads::{SequenceClassifier, TokenClassifier};
use burn::tensor::Device;

use crate::{
    columns::Columns,
    data_set::{DataSet, TaggedSet},
    error::Result,
    evaluate::{data_logits, predict_tags},
    examples::read_examples,
    finished_run::{AnsweredRow, RowAnswer, Score},
    format::Format,
    labels::LabelMap,
    metrics::{Metrics, argmax},
    sentences::read_sentences,
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
    let name = |id: u32| RowAnswer::Label(labels.name(id).unwrap_or_default().to_owned());
    let logits = data_logits(model, data, batch_size, device);
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
    let owned = |tags: &[&str]| RowAnswer::Tags(tags.iter().map(|&tag| tag.into()).collect());
    let name = |tag: &u32| data.labels.name(*tag).unwrap_or("O");
    let (predicted, _) = predict_tags(model, data, batch_size, device);
    let rows = predicted.iter().zip(&data.rows.labels).zip(lines).zip(data.rows.lengths());
    rows.map(|(((predicted, label), &row), tokens)| AnsweredRow {
        row,
        gold: owned(&label.tags.iter().map(name).collect::<Vec<&str>>()),
        predicted: owned(predicted),
        tokens,
    })
    .collect()
}

impl TrainedModel {
    /// The main score on a file of labelled rows, with the answer to each; `columns` has the columns from those that the
    /// model was trained on, and `max_length` is the model's own where it is not given.
    ///
    /// # Errors
    /// Where the file can't be read, or has labels that training never saw.
    pub fn score(
        &self,
        path: &Path,
        format: Option<Format>,
        columns: &dyn Fn(&Columns) -> Columns,
        max_length: Option<usize>,
        batch_size: usize,
        device: &Device,
    ) -> Result<Score> {
        match self {
            Self::Classifier(classifier) => {
                let settings = &classifier.settings;
                let examples = read_examples(path, format, &columns(&settings.columns))?;
                let max_length = max_length.unwrap_or(settings.max_length);
                let (data, _) = classifier.data_set(path, &examples, max_length)?;
                let lines: Vec<usize> = examples.iter().map(|example| example.line).collect();
                let (model, labels) = (&classifier.model, &classifier.labels);
                let rows = answers_on_texts(model, &data, &lines, labels, batch_size, device);
                Ok(Score::of_rows(rows))
            }
            Self::Tagger(tagger) => {
                let settings = &tagger.settings;
                let sentences = read_sentences(path, format, &columns(&settings.columns))?;
                let max_length = max_length.unwrap_or(settings.max_length);
                let (data, _) = tagger.tagged_set(path, &sentences, max_length)?;
                let lines: Vec<usize> = sentences.iter().map(|sentence| sentence.line).collect();
                let model = &tagger.model;
                let rows = answers_on_sentences(model, &data, &lines, batch_size, device);
                Ok(Score::of_rows(rows))
            }
            Self::MultiTask(tasker) => {
                let heads = tasker.heads_of_file(None)?;
                let max_length = max_length.unwrap_or(tasker.settings.max_length);
                let (data, _) = tasker.measured(path, format, &heads, columns, max_length)?;
                let tasks = data.metrics(&data.logits(&tasker.model, batch_size, device));
                let metrics = Metrics::Tasks(tasks);
                let metric = metrics.main_name();
                Ok(Score { metric, value: metrics.main(), rows: vec![] })
            }
        }
    }
}
