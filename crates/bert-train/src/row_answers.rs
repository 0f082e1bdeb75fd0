//! What a model of several tasks says of its dev rows, row by row.

use bert_core::Encoding;

use crate::{
    finished_run::{AnsweredRow, RowAnswer},
    labels::LabelMap,
    metrics::argmax,
    prediction::softmax,
    source_row::SourceRow,
    targets::{Targets, best_answer, label_set, rank},
    task_answers::of_ranks,
    task_sets::TaskDev,
};

impl TaskDev {
    /// The truth and the answer of every row, task by task; `logits` are those of [`logits`](Self::logits).
    pub(crate) fn answers(&self, logits: &[Vec<Vec<Vec<f32>>>]) -> Vec<AnsweredRow> {
        let mut rows = vec![];
        for (set, logits) in self.sets.iter().zip(logits) {
            for ((head, targets), logits) in set.targets.iter().zip(logits) {
                let task = &self.tasks[*head];
                let sources = set.sources.iter().find(|(own, _)| own == head);
                for (row, logits) in logits.iter().enumerate() {
                    let encoding = &set.encodings[row];
                    let (gold, predicted, probability) =
                        targets.answer(row, logits, &task.labels, encoding);
                    let source = sources.and_then(|(_, sources)| sources.get(row)).cloned();
                    let SourceRow { line, text } =
                        source.unwrap_or(SourceRow { line: row + 1, text: vec![] });
                    rows.push(AnsweredRow {
                        task: Some(task.name.clone()),
                        row: line,
                        gold,
                        predicted,
                        probability,
                        tokens: encoding.input_ids.len(),
                        text,
                    });
                }
            }
        }
        rows
    }
}

impl Targets {
    /// The truth of a row, what `logits` say, and the probability of that where it has one.
    fn answer(
        &self,
        row: usize,
        logits: &[f32],
        labels: &LabelMap,
        encoding: &Encoding,
    ) -> (RowAnswer, RowAnswer, Option<f64>) {
        let name = |id: u32| labels.name(id).unwrap_or_default().to_owned();
        let label = |id: u32| RowAnswer::Label(name(id));
        match self {
            Self::Classes(all) => {
                let predicted = argmax(logits);
                let probability = softmax(logits).get(predicted as usize).copied();
                (label(all[row]), label(predicted), probability)
            }
            Self::Ranks(all) => {
                let predicted = rank(logits);
                let probability = of_ranks(logits).get(predicted as usize).copied();
                (label(all[row]), label(predicted), probability)
            }
            Self::LabelSets(all) => {
                let set = |flags: &[bool]| {
                    let labels = (0..).zip(flags).filter(|(_, is_there)| **is_there);
                    RowAnswer::Labels { labels: labels.map(|(id, _)| name(id)).collect() }
                };
                (set(&all[row]), set(&label_set(logits)), None)
            }
            Self::Numbers(all) => {
                let number = |value: f32| RowAnswer::Number(f64::from(value));
                (number(all[row]), number(logits[0]), None)
            }
            Self::Tags(all) => {
                let words = &all[row];
                let tag = |id: u32| labels.name(id).unwrap_or("O").to_owned();
                // A word that was cut off is answered with `O`.
                let answer = |first: &Option<usize>| match first {
                    Some(token) => {
                        let width = labels.len();
                        tag(argmax(&logits[token * width..(token + 1) * width]))
                    }
                    None => "O".to_owned(),
                };
                let gold = words.tags.iter().map(|id| tag(*id)).collect();
                let predicted = words.first_tokens.iter().map(answer).collect();
                (RowAnswer::Tags(gold), RowAnswer::Tags(predicted), None)
            }
            Self::Answers(all) => {
                let target = &all[row];
                let found = best_answer(logits, encoding, &target.context);
                let parts = if found.is_empty() { vec![] } else { vec![found] };
                let gold = RowAnswer::Parts { parts: target.answers.clone() };
                (gold, RowAnswer::Parts { parts }, None)
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::data_set::WordTags;

    fn answer(targets: &Targets, logits: &[f32]) -> (RowAnswer, RowAnswer, Option<f64>) {
        let labels = LabelMap::of_model(&["a".to_owned(), "b".to_owned()]).unwrap();
        let encoding = Encoding {
            input_ids: vec![],
            token_type_ids: vec![],
            tokens: vec![],
            offsets: vec![],
            word_ids: vec![],
            special_tokens_mask: vec![],
            truncated: false,
            windows: vec![],
        };
        targets.answer(0, logits, &labels, &encoding)
    }

    fn label(name: &str) -> RowAnswer {
        RowAnswer::Label(name.to_owned())
    }

    #[test]
    fn each_kind_is_answered_by_hand() {
        let (gold, predicted, probability) = answer(&Targets::Classes(vec![0]), &[0.0, 3f32.ln()]);
        assert_eq!((gold, predicted), (label("a"), label("b")));
        // 3 / (1 + 3)
        assert!((probability.unwrap() - 0.75).abs() < 1e-6);
        let (gold, predicted, probability) = answer(&Targets::Ranks(vec![1]), &[3f32.ln()]);
        assert_eq!((gold, predicted), (label("b"), label("b")));
        assert!((probability.unwrap() - 0.75).abs() < 1e-6);
        let sets = Targets::LabelSets(vec![vec![true, false]]);
        let labels = |names: &[&str]| RowAnswer::Labels {
            labels: names.iter().map(|name| (*name).to_owned()).collect(),
        };
        assert_eq!(answer(&sets, &[1.0, 2.0]), (labels(&["a"]), labels(&["a", "b"]), None));
        let numbers = Targets::Numbers(vec![0.5]);
        assert_eq!(
            answer(&numbers, &[2.0]),
            (RowAnswer::Number(0.5), RowAnswer::Number(2.0), None)
        );
        // The second word was cut off; the first is answered by token 1, whose logits are the third and the fourth.
        let words = WordTags { tags: vec![0, 1], first_tokens: vec![Some(1), None] };
        let tags = |tags: &[&str]| RowAnswer::Tags(tags.iter().map(|tag| (*tag).into()).collect());
        assert_eq!(
            answer(&Targets::Tags(vec![words]), &[9.0, 0.0, 0.0, 1.0]),
            (tags(&["a", "b"]), tags(&["b", "O"]), None)
        );
    }
}
