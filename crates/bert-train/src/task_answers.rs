//! What a model of several tasks says of texts.

use std::{collections::BTreeMap, path::Path};

use bert_core::Encoding;
use burn::tensor::Device;
use serde::Serialize;

use crate::{
    encode::{encode, encode_sentences},
    error::{Error, Result},
    evaluate::map_batches_to,
    examples::Example,
    format::Format,
    labels::LabelMap,
    metrics::argmax,
    multi_tasker::MultiTasker,
    prediction::softmax,
    rows::Rows,
    sentences::Sentence,
    tagging::{TaggedSpan, TaggedToken, Tagging, Word, words_of, words_of_sentence},
    targets::{best_answer, label_set, rank},
    task_form::AnswerKind,
};

/// The answer of one task for one text.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum TaskAnswer {
    /// One label.
    Label {
        /// The most probable label; of an ordered set the one that the text lies at, by the thresholds it is above with more than
        /// a half, which need not be the most probable.
        label: String,
        /// One a label; they sum to 1.
        probabilities: BTreeMap<String, f64>,
    },
    /// Any number of labels.
    Labels {
        /// Those whose probability is above a half.
        labels: Vec<String>,
        /// One a label, each by itself.
        probabilities: BTreeMap<String, f64>,
    },
    /// A number.
    Number {
        /// The number.
        value: f64,
    },
    /// A tag for each word.
    Tags {
        /// The words; those that were cut off are left out.
        tokens: Vec<TaggedToken>,
        /// The words that belong together.
        spans: Vec<TaggedSpan>,
    },
    /// A part of the second text.
    Part {
        /// The part; empty where the text does not answer.
        answer: String,
    },
}

impl MultiTasker {
    /// What each task that is asked says of texts, by its name, and how many texts were cut to `max_length` tokens: of pairs the tasks that take
    /// pairs, else those that take one text.
    ///
    /// # Errors
    /// [`Error::NoTaskFor`] where no task takes as many texts a row. When `max_length` is more than the model has positions for, or less than the special tokens need.
    pub fn predict(
        &self,
        examples: &[Example],
        max_length: usize,
        batch_size: usize,
        device: &Device,
    ) -> Result<(Vec<BTreeMap<String, TaskAnswer>>, usize)> {
        let texts = if examples.iter().any(|example| example.pair.is_some()) { 2 } else { 1 };
        let heads = self.heads_of(texts)?;
        let (encodings, cut) = encode(&self.tokenizer, &self.config, examples, max_length)?;
        let words = |row: usize| words_of(&encodings[row], |_| 0);
        Ok((self.answers(&heads, examples, &encodings, &words, batch_size, device), cut))
    }

    /// What each task that is asked and takes one text says of sentences that are split already, and how many were cut to `max_length`
    /// tokens. The text of each is its tokens with a space between them.
    ///
    /// # Errors
    /// As [`predict`](Self::predict).
    pub fn predict_sentences(
        &self,
        sentences: &[Sentence],
        max_length: usize,
        batch_size: usize,
        device: &Device,
    ) -> Result<(Vec<BTreeMap<String, TaskAnswer>>, usize)> {
        let heads = self.heads_of(1)?;
        let (encodings, cut) =
            encode_sentences(&self.tokenizer, &self.config, sentences, max_length)?;
        let text = |sentence: &Sentence| Example {
            text: sentence.tokens.join(" "),
            pair: None,
            label: None,
            line: sentence.line,
        };
        let texts: Vec<Example> = sentences.iter().map(text).collect();
        let words = |row: usize| words_of_sentence(&encodings[row], &sentences[row]);
        Ok((self.answers(&heads, &texts, &encodings, &words, batch_size, device), cut))
    }

    /// The texts a row of a file without labels: what all tasks that are asked take or, where some take pairs, as many as there are columns.
    ///
    /// # Errors
    /// [`Error::WhichTexts`] where the columns may be one text with more beside it, or a pair.
    pub fn texts_of_file(
        &self,
        path: &Path,
        format: Option<Format>,
        header: bool,
    ) -> Result<usize> {
        let texts = self.asked_heads().map(|head| self.tasks()[head].kind.texts());
        let (least, most) = (texts.clone().min().unwrap_or(1), texts.max().unwrap_or(1));
        if least == most {
            return Ok(most);
        }
        match Rows::open(path, format, header)?.width() {
            columns @ (0 | 1) => Ok(columns.max(1)),
            columns => Err(Error::WhichTexts { path: path.into(), columns }),
        }
    }

    /// The heads of the tasks that are asked.
    fn asked_heads(&self) -> impl Iterator<Item = usize> + Clone {
        let asked = self.asked;
        (0..self.tasks().len()).filter(move |head| asked.is_none_or(|asked| asked == *head))
    }

    /// Those of them that take so many texts a row.
    fn heads_of(&self, texts: usize) -> Result<Vec<usize>> {
        let takes = |head: &usize| self.tasks()[*head].kind.texts() == texts;
        let heads: Vec<usize> = self.asked_heads().filter(takes).collect();
        if heads.is_empty() { Err(Error::NoTaskFor { got: texts }) } else { Ok(heads) }
    }

    /// What the tasks of these heads say of texts that are encoded.
    fn answers(
        &self,
        heads: &[usize],
        examples: &[Example],
        encodings: &[Encoding],
        words: &dyn Fn(usize) -> Vec<Word>,
        batch_size: usize,
        device: &Device,
    ) -> Vec<BTreeMap<String, TaskAnswer>> {
        let forward = |input| self.model.forward(&input, heads, None);
        let logits = map_batches_to(encodings, batch_size, device, forward);
        let mut answers = vec![BTreeMap::new(); examples.len()];
        for (head, logits) in heads.iter().zip(logits) {
            let (task, labels) = (&self.tasks()[*head], &self.labels[*head]);
            for (row, logits) in logits.iter().enumerate() {
                let example = &examples[row];
                let answer = match task.kind.answer() {
                    AnswerKind::Label => {
                        let label = labels.names()[argmax(logits) as usize].clone();
                        TaskAnswer::Label {
                            label,
                            probabilities: by_label(labels, softmax(logits)),
                        }
                    }
                    AnswerKind::Rank => {
                        let label = labels.names()[rank(logits) as usize].clone();
                        TaskAnswer::Label {
                            label,
                            probabilities: by_label(labels, of_ranks(logits)),
                        }
                    }
                    AnswerKind::LabelSet => {
                        let names = labels.names().iter().zip(label_set(logits));
                        let labels_of =
                            names.filter(|(_, is_there)| *is_there).map(|(name, _)| name.clone());
                        TaskAnswer::Labels {
                            labels: labels_of.collect(),
                            probabilities: by_label(
                                labels,
                                logits.iter().map(|logit| sigmoid(*logit)).collect(),
                            ),
                        }
                    }
                    AnswerKind::Number => TaskAnswer::Number { value: f64::from(logits[0]) },
                    AnswerKind::Tags => {
                        let Tagging { tokens, spans, .. } =
                            Tagging::new(example.text.clone(), &words(row), logits, labels);
                        TaskAnswer::Tags { tokens, spans }
                    }
                    AnswerKind::Part => {
                        let context = example.pair.as_deref().unwrap_or_default();
                        TaskAnswer::Part { answer: best_answer(logits, &encodings[row], context) }
                    }
                };
                answers[row].insert(task.name.clone(), answer);
            }
        }
        answers
    }
}

fn by_label(labels: &LabelMap, probabilities: Vec<f64>) -> BTreeMap<String, f64> {
    labels.names().iter().cloned().zip(probabilities).collect()
}

fn sigmoid(logit: f32) -> f64 {
    1.0 / (1.0 + (-f64::from(logit)).exp())
}

/// The probability of each of the ordered labels: that of lying above its threshold below, less that of lying above the next.
///
/// Thresholds that contradict each other give no label a probability below 0; all are scaled to sum to 1.
pub(crate) fn of_ranks(logits: &[f32]) -> Vec<f64> {
    let above: Vec<f64> = std::iter::once(1.0)
        .chain(logits.iter().map(|logit| sigmoid(*logit)))
        .chain([0.0])
        .collect();
    let parts: Vec<f64> = above.windows(2).map(|pair| (pair[0] - pair[1]).max(0.0)).collect();
    let sum: f64 = parts.iter().sum();
    parts.into_iter().map(|part| part / sum).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_have_probabilities() {
        // sigmoid(ln 3) = 0.75, sigmoid(-ln 3) = 0.25: 0.25, 0.5, 0.25.
        let even = of_ranks(&[3f32.ln(), -3f32.ln()]);
        for (got, expected) in even.iter().zip([0.25, 0.5, 0.25]) {
            assert!((got - expected).abs() < 1e-7, "{even:?}");
        }
        // The second threshold contradicts the first: 0.75, nothing, 0.75, over 1.5.
        let odd = of_ranks(&[-3f32.ln(), 3f32.ln()]);
        for (got, expected) in odd.iter().zip([0.5, 0.0, 0.5]) {
            assert!((got - expected).abs() < 1e-7, "{odd:?}");
        }
    }
}
