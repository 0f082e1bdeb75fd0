//! A row as it stands in its file, short enough to be kept for a report.

use crate::{examples::Example, html::shortened, questions::Question, sentences::Sentence};

/// The characters of a text that are kept.
const MOST: usize = 1000;

/// Where a row stands in its file, and its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SourceRow {
    /// The line on which it starts, from 1; of questions, their number.
    pub(crate) line: usize,
    /// One text or two, or the words of a sentence, each shortened.
    pub(crate) text: Vec<String>,
}

impl SourceRow {
    pub(crate) fn new<'a>(line: usize, texts: impl IntoIterator<Item = &'a String>) -> Self {
        Self { line, text: texts.into_iter().map(|text| shortened(text, MOST)).collect() }
    }

    /// A question, by its number.
    pub(crate) fn of_question(number: usize, question: &Question) -> Self {
        Self::new(number, [&question.question, &question.context])
    }
}

impl From<&Example> for SourceRow {
    fn from(example: &Example) -> Self {
        Self::new(example.line, std::iter::once(&example.text).chain(&example.pair))
    }
}

impl From<&Sentence> for SourceRow {
    fn from(sentence: &Sentence) -> Self {
        Self::new(sentence.line, &sentence.tokens)
    }
}
