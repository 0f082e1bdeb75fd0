//! The rows of a task's file, from reading to targets.

use std::{collections::BTreeSet, path::Path};

use bert_core::{BertConfig, Encoding, Tokenizer};

use crate::{
    columns::Columns,
    data_set::WordTags,
    encode::{encode, encode_sentences},
    error::{Error, Result},
    examples::{Example, read_examples, read_training_examples},
    format::Format,
    labels::LabelMap,
    questions::{Question, read_questions},
    sentences::{Sentence, Sentences, read_sentences},
    source_row::SourceRow,
    tag_scheme::in_bio,
    targets::{AnswerTarget, Targets},
    task_form::{AnswerKind, TaskForm},
};

/// What separates the labels of a row where nobody says otherwise.
const LABEL_SEPARATOR: char = ',';

/// The rows of a task's file.
#[derive(Debug, Clone)]
pub(crate) enum TaskRows {
    Texts(Vec<Example>),
    Sentences(Vec<Sentence>),
    Questions(Vec<Question>),
}

/// How a task reads its files.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reading<'a> {
    pub(crate) kind: TaskForm,
    pub(crate) path: &'a Path,
    pub(crate) format: Option<Format>,
    pub(crate) columns: &'a Columns,
}

impl Reading<'_> {
    /// Reads the rows; those to train on must have labels that look like some.
    pub(crate) fn rows(&self, is_training: bool) -> Result<TaskRows> {
        let Self { kind, path, format, .. } = *self;
        let columns = &self.columns();
        let rows = match kind.answer() {
            AnswerKind::Part => return Ok(TaskRows::Questions(read_questions(path)?)),
            AnswerKind::Tags => {
                return Ok(TaskRows::Sentences(read_sentences(path, format, columns)?));
            }
            // A sentence in parallel files may have a label as a whole.
            _ if Sentences::are_in(path, format, columns) => {
                let sentences = read_sentences(path, format, columns)?;
                let example = |sentence: Sentence| Example {
                    text: sentence.tokens.join(" "),
                    pair: None,
                    label: sentence.label,
                    line: sentence.line,
                };
                sentences.into_iter().map(example).collect()
            }
            AnswerKind::Label if is_training => read_training_examples(path, format, columns)?,
            _ => read_examples(path, format, columns)?,
        };
        let texts = if rows.iter().any(|row| row.pair.is_some()) { 2 } else { 1 };
        if texts != kind.texts() {
            let other = kind.with_texts(texts);
            return Err(Error::TaskTexts { path: path.into(), kind, other, texts });
        }
        Ok(TaskRows::Texts(rows))
    }

    /// The columns, with what is needed to take several labels apart.
    fn columns(&self) -> Columns {
        let mut columns = self.columns.clone();
        if self.kind.answer() == AnswerKind::LabelSet {
            columns.label_separator.get_or_insert(LABEL_SEPARATOR);
        }
        columns
    }

    /// The labels that the rows to train on have, where the answers are labels.
    pub(crate) fn labels(&self, rows: &TaskRows) -> Result<LabelMap> {
        match (self.kind.answer(), rows) {
            (AnswerKind::LabelSet, TaskRows::Texts(rows)) => {
                let separator = self.columns().label_separator.unwrap_or(LABEL_SEPARATOR);
                LabelMap::of_training_sets(self.path, rows, separator, &[])
            }
            (AnswerKind::Label, TaskRows::Texts(rows)) => {
                LabelMap::of_training(self.path, rows, &[])
            }
            (AnswerKind::Rank, TaskRows::Texts(rows)) => {
                for row in rows {
                    number(self.path, row)?;
                }
                LabelMap::of_model(&in_order(LabelMap::of_training(self.path, rows, &[])?.names()))
            }
            (_, TaskRows::Sentences(rows)) => {
                LabelMap::of_tags(self.path, &in_bio(rows, None), &[])
            }
            _ => LabelMap::of_model(&[]),
        }
    }

    /// Encodes the rows, and counts those that were cut.
    pub(crate) fn encode(
        &self,
        rows: &TaskRows,
        tokenizer: &Tokenizer,
        config: &BertConfig,
        max_length: usize,
    ) -> Result<(Vec<Encoding>, usize)> {
        match rows {
            TaskRows::Texts(rows) => encode(tokenizer, config, rows, max_length),
            TaskRows::Sentences(rows) => encode_sentences(tokenizer, config, rows, max_length),
            TaskRows::Questions(rows) => {
                let example = |row: &Question| Example {
                    text: row.question.clone(),
                    pair: Some(row.context.clone()),
                    label: None,
                    line: 1,
                };
                let examples: Vec<Example> = rows.iter().map(example).collect();
                encode(tokenizer, config, &examples, max_length)
            }
        }
    }

    /// What the rows are to be answered with.
    pub(crate) fn targets(
        &self,
        rows: &TaskRows,
        labels: &LabelMap,
        encodings: &[Encoding],
    ) -> Result<Targets> {
        let path = self.path;
        Ok(match (self.kind.answer(), rows) {
            (AnswerKind::LabelSet, TaskRows::Texts(rows)) => {
                let separator = self.columns().label_separator.unwrap_or(LABEL_SEPARATOR);
                Targets::LabelSets(labels.id_sets(path, rows, separator)?)
            }
            (AnswerKind::Rank, TaskRows::Texts(rows)) => Targets::Ranks(labels.ids(path, rows)?),
            (AnswerKind::Number, TaskRows::Texts(rows)) => {
                let number = |row: &Example| number(path, row);
                Targets::Numbers(rows.iter().map(number).collect::<Result<_>>()?)
            }
            (_, TaskRows::Texts(rows)) => Targets::Classes(labels.ids(path, rows)?),
            (_, TaskRows::Sentences(rows)) => {
                let tags = labels.tag_ids(path, &in_bio(rows, Some(labels)))?;
                let rows = tags.into_iter().zip(encodings);
                Targets::Tags(rows.map(|(tags, encoding)| WordTags::new(tags, encoding)).collect())
            }
            (_, TaskRows::Questions(rows)) => {
                let rows = rows.iter().zip(encodings);
                Targets::Answers(
                    rows.map(|(row, encoding)| AnswerTarget::new(row, encoding)).collect(),
                )
            }
        })
    }
}

/// The label of a row as a number.
fn number(path: &Path, row: &Example) -> Result<f32> {
    let label = row.label.as_deref().unwrap_or_default();
    match label.trim().parse::<f32>() {
        Ok(number) if number.is_finite() => Ok(number),
        _ => Err(Error::NotNumber { path: path.into(), line: row.line, label: label.into() }),
    }
}

/// Labels that are numbers, from the lowest to the highest.
fn in_order(names: &[String]) -> Vec<String> {
    let mut names = names.to_vec();
    let number = |name: &String| name.trim().parse::<f64>().unwrap_or(f64::NAN);
    names.sort_by(|a, b| number(a).total_cmp(&number(b)));
    names
}

impl TaskRows {
    /// How each row stands in its file.
    pub(crate) fn sources(&self) -> Vec<SourceRow> {
        match self {
            Self::Texts(rows) => rows.iter().map(SourceRow::from).collect(),
            Self::Sentences(rows) => rows.iter().map(SourceRow::from).collect(),
            Self::Questions(rows) => {
                (1..).zip(rows).map(|(number, row)| SourceRow::of_question(number, row)).collect()
            }
        }
    }

    /// Which rows are alike, so that each kind of them is held out in its share: by label where there is one.
    pub(crate) fn strata(&self, kind: TaskForm) -> Vec<u32> {
        match self {
            Self::Texts(rows) if matches!(kind.answer(), AnswerKind::Label | AnswerKind::Rank) => {
                let set: BTreeSet<&str> =
                    rows.iter().filter_map(|row| row.label.as_deref()).collect();
                let names: Vec<&str> = set.into_iter().collect();
                let place = |row: &Example| {
                    let label = row.label.as_deref().unwrap_or_default();
                    names.partition_point(|name| *name < label) as u32
                };
                rows.iter().map(place).collect()
            }
            Self::Texts(rows) => vec![0; rows.len()],
            Self::Sentences(rows) => vec![0; rows.len()],
            Self::Questions(rows) => vec![0; rows.len()],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_that_are_numbers_are_ordered_as_numbers() {
        let names = |names: &[&str]| names.iter().map(|name| name.to_string()).collect::<Vec<_>>();
        assert_eq!(in_order(&names(&["10", "2", "9.5"])), names(&["2", "9.5", "10"]));
    }
}
