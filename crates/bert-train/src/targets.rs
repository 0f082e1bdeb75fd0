//! What the rows of a data set are to be answered with, for one task: the answers, and how good they are.

use bert_core::Encoding;
use bert_kernels::Sequences;

use crate::{
    batch_targets::BatchTargets,
    data_set::WordTags,
    evaluate::cross_entropy,
    labels::LabelMap,
    metrics::{
        AnswerMetrics, ClassificationMetrics, Metrics, MultiLabelMetrics, OrdinalMetrics,
        RegressionMetrics, argmax,
    },
    questions::Question,
    tag_answers::TagAnswers,
};

/// What each row is to be answered with; all of one kind.
#[derive(Debug, Clone)]
pub enum Targets {
    /// One label.
    Classes(Vec<u32>),
    /// For each label, whether the row has it.
    LabelSets(Vec<Vec<bool>>),
    /// One label of an ordered set.
    Ranks(Vec<u32>),
    /// A number.
    Numbers(Vec<f32>),
    /// A tag for each word.
    Tags(Vec<WordTags>),
    /// A part of the second text.
    Answers(Vec<AnswerTarget>),
}

/// A question with its right answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnswerTarget {
    /// The text that answers.
    pub context: String,
    /// The right answers; none where the text does not answer.
    pub answers: Vec<String>,
    /// The first and the last token of the first answer; [CLS] where there is none, nothing where it was cut off.
    pub span: Option<(usize, usize)>,
}

/// The most tokens of an answer.
const LONGEST_ANSWER: usize = 30;

impl AnswerTarget {
    /// What a question is to be answered with, whose question and context `encoding` holds.
    pub fn new(question: &Question, encoding: &Encoding) -> Self {
        let span = match question.answers.first() {
            None => Some((0, 0)),
            Some(answer) => {
                let end = answer.start + answer.text.chars().count();
                let covers = |place: usize| {
                    context_tokens(encoding).find(|token| {
                        let (from, to) = encoding.offsets[*token];
                        from <= place && place < to
                    })
                };
                covers(answer.start).zip(covers(end.saturating_sub(1)))
            }
        };
        Self {
            context: question.context.clone(),
            answers: question.answers.iter().map(|answer| answer.text.clone()).collect(),
            span,
        }
    }
}

/// The tokens of the second text.
fn context_tokens(encoding: &Encoding) -> impl DoubleEndedIterator<Item = usize> + '_ {
    (0..encoding.input_ids.len()).filter(|token| {
        encoding.token_type_ids[*token] == 1 && !encoding.special_tokens_mask[*token]
    })
}

/// The part of `context` that start and end logits point at: the pair of tokens with the largest sum, at most 30 tokens long;
/// nothing where [CLS] has a larger one.
pub fn best_answer(logits: &[f32], encoding: &Encoding, context: &str) -> String {
    let (start, end) = (|token: usize| logits[2 * token], |token: usize| logits[2 * token + 1]);
    let tokens: Vec<usize> = context_tokens(encoding).collect();
    let mut best = (start(0) + end(0), None);
    for (place, from) in tokens.iter().enumerate() {
        for to in &tokens[place..tokens.len().min(place + LONGEST_ANSWER)] {
            let score = start(*from) + end(*to);
            if score > best.0 {
                best = (score, Some((*from, *to)));
            }
        }
    }
    let Some((from, to)) = best.1 else { return String::new() };
    let (from, to) = (encoding.offsets[from].0, encoding.offsets[to].1);
    context.chars().skip(from).take(to.saturating_sub(from)).collect()
}

impl Targets {
    /// The number of rows.
    pub fn len(&self) -> usize {
        match self {
            Self::Classes(rows) | Self::Ranks(rows) => rows.len(),
            Self::LabelSets(rows) => rows.len(),
            Self::Numbers(rows) => rows.len(),
            Self::Tags(rows) => rows.len(),
            Self::Answers(rows) => rows.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Some of the rows.
    pub(crate) fn select(&self, rows: &[usize]) -> Self {
        fn pick<T: Clone>(all: &[T], rows: &[usize]) -> Vec<T> {
            rows.iter().map(|row| all[*row].clone()).collect()
        }
        match self {
            Self::Classes(all) => Self::Classes(pick(all, rows)),
            Self::LabelSets(all) => Self::LabelSets(pick(all, rows)),
            Self::Ranks(all) => Self::Ranks(pick(all, rows)),
            Self::Numbers(all) => Self::Numbers(pick(all, rows)),
            Self::Tags(all) => Self::Tags(pick(all, rows)),
            Self::Answers(all) => Self::Answers(pick(all, rows)),
        }
    }

    /// Those of a batch of rows, whose tokens lie as `sequences` says.
    pub fn of_batch(&self, rows: &[usize], sequences: &Sequences) -> BatchTargets {
        fn some<T: Copy>(all: &[T], rows: &[usize]) -> Vec<Option<T>> {
            rows.iter().map(|row| Some(all[*row])).collect()
        }
        match self {
            Self::Classes(all) => BatchTargets::Classes(some(all, rows)),
            Self::LabelSets(all) => {
                let truths = rows.iter().flat_map(|row| all[*row].iter().map(|truth| Some(*truth)));
                BatchTargets::LabelSets(truths.collect())
            }
            Self::Ranks(all) => BatchTargets::Ranks(some(all, rows)),
            Self::Numbers(all) => BatchTargets::Numbers(some(all, rows)),
            Self::Tags(all) => {
                let tags = rows.iter().map(|row| &all[*row]);
                BatchTargets::Classes(WordTags::of_tokens(tags, sequences))
            }
            Self::Answers(all) => {
                let spans = rows.iter().map(|row| all[*row].span).collect();
                BatchTargets::Spans(sequences.clone(), spans)
            }
        }
    }

    /// How good answers are.
    ///
    /// `logits` has for each of `rows` its outputs, of every token one behind the other for tags and answers; rows may repeat.
    /// A word that was cut off is answered with `O`, and has no loss.
    pub fn metrics(
        &self,
        labels: &LabelMap,
        encodings: &[Encoding],
        rows: &[usize],
        logits: &[&[f32]],
    ) -> Metrics {
        let mean = |losses: Vec<f64>| losses.iter().sum::<f64>() / losses.len().max(1) as f64;
        let each = || rows.iter().copied().zip(logits.iter().copied());
        match self {
            Self::Classes(all) => {
                let loss =
                    mean(each().map(|(row, logits)| cross_entropy(logits, all[row])).collect());
                let (gold, predicted): (Vec<u32>, Vec<u32>) =
                    each().map(|(row, logits)| (all[row], argmax(logits))).unzip();
                Metrics::Classification(ClassificationMetrics::new(
                    &gold,
                    &predicted,
                    labels.len(),
                    loss,
                ))
            }
            Self::LabelSets(all) => {
                let loss =
                    each().map(|(row, logits)| binary_cross_entropy(logits, &all[row])).collect();
                let gold: Vec<_> = rows.iter().map(|row| all[*row].clone()).collect();
                let predicted: Vec<_> = logits.iter().map(|logits| label_set(logits)).collect();
                Metrics::MultiLabel(MultiLabelMetrics::new(&gold, &predicted, mean(loss)))
            }
            Self::Ranks(all) => {
                let above = |row: usize| {
                    (0..labels.len().saturating_sub(1) as u32).map(move |k| all[row] > k)
                };
                let losses = each().map(|(row, logits)| {
                    let truth: Vec<bool> = above(row).collect();
                    binary_cross_entropy(logits, &truth) * truth.len() as f64
                });
                let loss = mean(losses.collect());
                let gold: Vec<u32> = rows.iter().map(|row| all[*row]).collect();
                let predicted: Vec<u32> = logits.iter().map(|logits| rank(logits)).collect();
                Metrics::Ordinal(OrdinalMetrics::new(&gold, &predicted, labels.len(), loss))
            }
            Self::Numbers(all) => {
                let (gold, predicted): (Vec<f64>, Vec<f64>) =
                    each().map(|(row, logits)| (f64::from(all[row]), f64::from(logits[0]))).unzip();
                let squares =
                    gold.iter().zip(&predicted).map(|(gold, predicted)| (gold - predicted).powi(2));
                let loss = mean(squares.collect());
                Metrics::Regression(RegressionMetrics::new(&gold, &predicted, loss))
            }
            Self::Tags(all) => {
                let rows = each().map(|(row, logits)| (&all[row], logits));
                Metrics::Tagging(TagAnswers::new(rows, labels).metrics())
            }
            Self::Answers(all) => {
                let mut losses = vec![];
                let answers: Vec<(String, &[String])> = each()
                    .map(|(row, logits)| {
                        let AnswerTarget { context, answers, span } = &all[row];
                        if let Some((start, end)) = span {
                            let column = |k: usize| {
                                logits.iter().skip(k).step_by(2).copied().collect::<Vec<f32>>()
                            };
                            let sum = cross_entropy(&column(0), *start as u32)
                                + cross_entropy(&column(1), *end as u32);
                            losses.push(sum / 2.0);
                        }
                        (best_answer(logits, &encodings[row], context), answers.as_slice())
                    })
                    .collect();
                let answers: Vec<(&str, &[String])> =
                    answers.iter().map(|(answer, right)| (answer.as_str(), *right)).collect();
                Metrics::Answers(AnswerMetrics::new(&answers, mean(losses)))
            }
        }
    }
}

/// Which labels a row is given: those whose probability is above a half.
pub(crate) fn label_set(logits: &[f32]) -> Vec<bool> {
    logits.iter().map(|logit| *logit > 0.0).collect()
}

/// The label of an ordered set: the number of thresholds that the row lies above.
pub(crate) fn rank(logits: &[f32]) -> u32 {
    logits.iter().filter(|logit| **logit > 0.0).count() as u32
}

/// The mean over the entries of `-log sigmoid(logit)` where the truth is true and of `-log sigmoid(-logit)` where it is false.
fn binary_cross_entropy(logits: &[f32], truth: &[bool]) -> f64 {
    let loss = |(logit, truth): (&f32, &bool)| {
        let logit = f64::from(if *truth { *logit } else { -*logit });
        // log(1 + exp(-x)), which neither overflows nor loses small terms.
        (-logit.abs()).exp().ln_1p() + (-logit).max(0.0)
    };
    logits.iter().zip(truth).map(loss).sum::<f64>() / truth.len().max(1) as f64
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn labels(names: &[&str]) -> LabelMap {
        LabelMap::of_model(&names.iter().map(|name| name.to_string()).collect::<Vec<_>>()).unwrap()
    }

    fn metrics(targets: &Targets, labels: &LabelMap, logits: &[&[f32]]) -> Metrics {
        let rows: Vec<usize> = (0..targets.len()).collect();
        targets.metrics(labels, &[], &rows, logits)
    }

    #[test]
    fn sets_of_labels_by_hand() {
        let targets = Targets::LabelSets(vec![vec![true, false], vec![true, true]]);
        let logits: [&[f32]; 2] = [&[2.0, 1.0], &[0.5, -1.0]];
        let Metrics::MultiLabel(got) = metrics(&targets, &labels(&["a", "b"]), &logits) else {
            panic!("other metrics");
        };
        // Three labels predicted of which two are there, and three there: F1 = 2 * 2 / 6.
        assert!((got.f1_micro - 2.0 / 3.0).abs() < 1e-12);
        // log(1 + e^-2) + log(1 + e^1) + log(1 + e^-0.5) + log(1 + e^1), over 4
        let expected = (0.126_928 + 1.313_262 + 0.474_077 + 1.313_262) / 4.0;
        assert!((got.loss - expected).abs() < 1e-6, "{}", got.loss);
    }

    #[test]
    fn ranks_by_hand() {
        let targets = Targets::Ranks(vec![0, 2, 1]);
        let logits: [&[f32]; 3] = [&[-1.0, -2.0], &[1.0, 1.0], &[1.0, 1.0]];
        let Metrics::Ordinal(got) = metrics(&targets, &labels(&["1", "2", "3"]), &logits) else {
            panic!("other metrics");
        };
        assert!((got.accuracy - 2.0 / 3.0).abs() < 1e-12);
        assert!((got.mean_absolute_error - 1.0 / 3.0).abs() < 1e-12);
        // log(1 + e^-1) + log(1 + e^-2); twice log(1 + e^-1); log(1 + e^-1) + log(1 + e^1); over 3
        let expected = (0.313_262 + 0.126_928 + 2.0 * 0.313_262 + 0.313_262 + 1.313_262) / 3.0;
        assert!((got.loss - expected).abs() < 1e-6, "{}", got.loss);
    }

    #[test]
    fn numbers_by_hand() {
        let targets = Targets::Numbers(vec![1.0, 2.0, 4.0]);
        let Metrics::Regression(got) = metrics(&targets, &labels(&[]), &[&[1.5], &[2.0], &[3.0]])
        else {
            panic!("other metrics");
        };
        assert!(
            (got.spearman - 1.0).abs() < 1e-12 && (got.loss - 1.25 / 3.0).abs() < 1e-12,
            "{got:?}"
        );
    }

    /// [CLS] who ? [SEP] Ann met Bob [SEP], with offsets in "Ann met Bob".
    fn encoding() -> Encoding {
        Encoding {
            input_ids: vec![0; 8],
            token_type_ids: vec![0, 0, 0, 0, 1, 1, 1, 1],
            tokens: vec![String::new(); 8],
            offsets: vec![(0, 0), (0, 3), (3, 4), (0, 0), (0, 3), (4, 7), (8, 11), (0, 0)],
            word_ids: vec![None; 8],
            special_tokens_mask: vec![true, false, false, true, false, false, false, true],
            truncated: false,
            windows: vec![],
        }
    }

    #[test]
    fn answers_are_parts_of_the_context() {
        let target = |answers: &[(&str, usize)]| {
            let answers = answers.iter().map(|(text, start)| crate::questions::Answer {
                text: text.to_string(),
                start: *start,
            });
            let question = Question {
                id: "1".into(),
                question: "who?".into(),
                context: "Ann met Bob".into(),
                answers: answers.collect(),
            };
            AnswerTarget::new(&question, &encoding())
        };
        assert_eq!(target(&[("met Bob", 4)]).span, Some((5, 6)));
        assert_eq!(target(&[]).span, Some((0, 0)));
        // Beyond the tokens that are left.
        let mut cut = encoding();
        cut.input_ids.truncate(6);
        let question = Question {
            id: "1".into(),
            question: "who?".into(),
            context: "Ann met Bob".into(),
            answers: vec![crate::questions::Answer { text: "Bob".into(), start: 8 }],
        };
        assert_eq!(AnswerTarget::new(&question, &cut).span, None);

        // The best start lies in the question, which does not count; the best end comes before the best start.
        let mut logits = [0.0f32; 16];
        logits[2 * 2] = 9.0;
        logits[2 * 6] = 3.0;
        logits[2 * 5 + 1] = 4.0;
        logits[2 * 4] = 1.0;
        assert_eq!(best_answer(&logits, &encoding(), "Ann met Bob"), "Ann met");
        // [CLS] wins: no answer.
        logits[0] = 6.0;
        assert_eq!(best_answer(&logits, &encoding(), "Ann met Bob"), "");
    }
}
