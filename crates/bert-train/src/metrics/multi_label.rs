//! How well sets of labels are predicted: each row has any number of labels.
//!
//! A row is one truth a label: whether the row has it. Each function panics where rows differ in length.
//!
//! # Source
//! The definitions are scikit-learn's for indicator matrices (`sklearn.metrics`, with `zero_division=0`).

use serde::{Deserialize, Serialize};

use super::{
    classification::{ClassCounts, ClassScores},
    ratio,
};

/// The scores of one classifier of several labels a row on one data set.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct MultiLabelMetrics {
    /// F1 of all decisions together.
    pub f1_micro: f64,
    /// The mean F1 of all labels; one that never occurs and is never predicted counts as 0.
    pub f1_macro: f64,
    /// The share of rows whose set is right as a whole.
    pub accuracy: f64,
    /// The mean loss of a row.
    pub loss: f64,
}

impl MultiLabelMetrics {
    /// All scores at once; `loss` is the mean loss of a row.
    ///
    /// # Panics
    /// When the shapes of `gold` and `predicted` differ.
    pub fn new(gold: &[Vec<bool>], predicted: &[Vec<bool>], loss: f64) -> Self {
        let counts = counts(gold, predicted);
        let sum = |part: fn(&ClassCounts) -> usize| counts.iter().map(part).sum::<usize>();
        let all = ClassCounts {
            gold: sum(|label| label.gold),
            predicted: sum(|label| label.predicted),
            right: sum(|label| label.right),
        };
        let scores = counts.iter().map(|label| label.scores().f1);
        Self {
            f1_micro: all.scores().f1,
            f1_macro: ratio(scores.sum(), counts.len() as f64),
            accuracy: subset_accuracy(gold, predicted),
            loss,
        }
    }
}

/// The share of rows whose set is right as a whole; 0 where there are no rows.
///
/// # Panics
/// When `gold` and `predicted` differ in length.
pub fn subset_accuracy(gold: &[Vec<bool>], predicted: &[Vec<bool>]) -> f64 {
    assert_eq!(gold.len(), predicted.len(), "gold and predicted must have the same length");
    let right = gold.iter().zip(predicted).filter(|(gold, predicted)| gold == predicted).count();
    ratio(right as f64, gold.len() as f64)
}

/// The scores of each label, in the order of their ids.
///
/// # Panics
/// When the shapes of `gold` and `predicted` differ.
pub fn label_scores(gold: &[Vec<bool>], predicted: &[Vec<bool>]) -> Vec<ClassScores> {
    counts(gold, predicted).iter().map(ClassCounts::scores).collect()
}

fn counts(gold: &[Vec<bool>], predicted: &[Vec<bool>]) -> Vec<ClassCounts> {
    assert_eq!(gold.len(), predicted.len(), "gold and predicted must have the same length");
    let mut counts = vec![ClassCounts::default(); gold.first().map_or(0, Vec::len)];
    for (gold, predicted) in gold.iter().zip(predicted) {
        assert_eq!(
            [gold.len(), predicted.len()],
            [counts.len(); 2],
            "each row must have as many labels as the first"
        );
        for ((count, &gold), &predicted) in counts.iter_mut().zip(gold).zip(predicted) {
            count.gold += usize::from(gold);
            count.predicted += usize::from(predicted);
            count.right += usize::from(gold && predicted);
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows<const N: usize>(rows: &[[u8; N]]) -> Vec<Vec<bool>> {
        rows.iter().map(|row| row.map(|value| value == 1).to_vec()).collect()
    }

    // The last label is predicted but never gold; the third is both, but never together.
    fn example() -> (Vec<Vec<bool>>, Vec<Vec<bool>>) {
        let gold = [[1, 0, 1, 0], [0, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0], [1, 0, 0, 0]];
        let predicted = [[1, 0, 0, 0], [0, 1, 0, 0], [1, 0, 1, 0], [0, 0, 0, 0], [0, 1, 0, 1]];
        (rows(&gold), rows(&predicted))
    }

    #[test]
    fn scores_equal_scikit_learn() {
        // scikit-learn 1.9.1: f1_score(g, p, average="micro" | "macro", zero_division=0), accuracy_score(g, p).
        let (gold, predicted) = example();
        let metrics = MultiLabelMetrics::new(&gold, &predicted, 0.25);
        assert!((metrics.f1_micro - 0.5).abs() < 1e-12);
        assert!((metrics.f1_macro - 0.325).abs() < 1e-12);
        assert_eq!((metrics.accuracy, metrics.loss), (0.4, 0.25));
    }

    #[test]
    fn scores_of_each_label_equal_scikit_learn() {
        // precision_recall_fscore_support(g, p, zero_division=0)
        let (gold, predicted) = example();
        let expected =
            [(1.0, 2.0 / 3.0, 0.8, 3), (0.5, 0.5, 0.5, 2), (0.0, 0.0, 0.0, 1), (0.0, 0.0, 0.0, 0)];
        for (scores, expected) in label_scores(&gold, &predicted).iter().zip(expected) {
            let got = (scores.precision, scores.recall, scores.f1, scores.support);
            assert_eq!(got, expected);
        }
    }

    #[test]
    fn rows_without_labels_are_right_and_score_zero() {
        // f1_score is 0 with zero_division=0, accuracy_score 1.
        let none = rows(&[[0, 0, 0]; 2]);
        let metrics = MultiLabelMetrics::new(&none, &none, 0.0);
        assert_eq!((metrics.f1_micro, metrics.f1_macro, metrics.accuracy), (0.0, 0.0, 1.0));
        let metrics = MultiLabelMetrics::new(&[], &[], 0.0);
        assert_eq!((metrics.f1_micro, metrics.f1_macro, metrics.accuracy), (0.0, 0.0, 0.0));
    }

    #[test]
    #[should_panic(expected = "each row must have as many labels as the first")]
    fn rows_of_other_lengths_panic() {
        label_scores(&rows(&[[0, 1]]), &rows(&[[0, 1, 1]]));
    }
}
