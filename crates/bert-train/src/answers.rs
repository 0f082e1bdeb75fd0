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
    metrics::Metrics,
    prediction::Prediction,
    sentences::read_sentences,
    source_row::SourceRow,
    tag_answers::TagAnswers,
    trained_model::TrainedModel,
};

/// The answers of a classifier to texts, which stand so in their file; `model` and `device` are those of evaluation.
pub(crate) fn answers_on_texts(
    model: &SequenceClassifier,
    data: &DataSet,
    sources: &[SourceRow],
    labels: &LabelMap,
    batch_size: usize,
    device: &Device,
) -> Vec<AnsweredRow> {
    answers_of_logits(&data_logits(model, data, batch_size, device), data, sources, labels)
}

fn answers_of_logits(
    logits: &[Vec<f32>],
    data: &DataSet,
    sources: &[SourceRow],
    labels: &LabelMap,
) -> Vec<AnsweredRow> {
    let name = |id: u32| RowAnswer::Label(labels.name(id).unwrap_or_default().to_owned());
    let rows = logits.iter().zip(&data.labels).zip(sources).zip(data.lengths());
    rows.filter_map(|(((logits, label), source), tokens)| {
        let Prediction { label: predicted, probabilities } = Prediction::new(logits);
        Some(AnsweredRow {
            task: None,
            row: source.line,
            gold: name((*label)?),
            predicted: name(predicted),
            probability: probabilities.get(predicted as usize).copied(),
            tokens,
            text: source.text.clone(),
        })
    })
    .collect()
}

/// The answers of a tagger to sentences, which stand so in their file; `model` and `device` are those of evaluation.
pub(crate) fn answers_on_sentences(
    model: &TokenClassifier,
    data: &TaggedSet,
    sources: &[SourceRow],
    batch_size: usize,
    device: &Device,
) -> Vec<AnsweredRow> {
    answers_of_tags(&tag_answers(model, data, batch_size, device), data, sources)
}

fn answers_of_tags(
    answers: &TagAnswers,
    data: &TaggedSet,
    sources: &[SourceRow],
) -> Vec<AnsweredRow> {
    let owned = |tags: &[&str]| RowAnswer::Tags(tags.iter().map(|&tag| tag.into()).collect());
    let rows = answers.gold.iter().zip(&answers.predicted).zip(sources).zip(data.rows.lengths());
    rows.map(|(((gold, predicted), source), tokens)| AnsweredRow {
        task: None,
        row: source.line,
        gold: owned(gold),
        predicted: owned(predicted),
        probability: None,
        tokens,
        text: source.text.clone(),
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
                let sources: Vec<SourceRow> = examples.iter().map(SourceRow::from).collect();
                let labels = &classifier.labels;
                let logits = data_logits(&classifier.model, &data, batch_size, device);
                let metrics = classification_metrics(&logits, &data, labels.len());
                let rows = answers_of_logits(&logits, &data, &sources, labels);
                (Metrics::Classification(metrics), rows)
            }
            Self::Tagger(tagger) => {
                let sentences =
                    read_sentences(on.path, on.format, &(on.columns)(&settings.columns))?;
                let (data, _) = tagger.tagged_set(on.path, &sentences, max_length)?;
                let sources: Vec<SourceRow> = sentences.iter().map(SourceRow::from).collect();
                let answers = tag_answers(&tagger.model, &data, batch_size, device);
                (Metrics::Tagging(answers.metrics()), answers_of_tags(&answers, &data, &sources))
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
