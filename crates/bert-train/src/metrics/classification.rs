//! How well a classifier does: predicted label ids against the true ones.
//!
//! `gold` and `predicted` have the label id of each row; ids are below `num_labels`. Each function panics where
//! the two differ in length or an id is not below `num_labels`.
//!
//! # Source
//! The definitions are scikit-learn's (`sklearn.metrics`, with `zero_division=0`).

use serde::{Deserialize, Serialize};

use super::ratio;

/// The scores of one classifier on one data set, as fractions.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ClassificationMetrics {
    /// The share of rows that are right.
    pub accuracy: f64,
    /// The mean F1 of the labels that occur, in gold or predicted.
    pub f1_macro: f64,
    /// F1 of all rows together, which is the accuracy where each row has one label.
    pub f1_micro: f64,
    /// F1 of label id 1, where there are two labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub f1: Option<f64>,
    /// Matthews' correlation coefficient, from -1 to 1.
    pub matthews: f64,
    /// The mean loss of a row.
    pub loss: f64,
}

/// The scores of one label.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ClassScores {
    /// The share of rows predicted so that are so.
    pub precision: f64,
    /// The share of rows that are so which are predicted so.
    pub recall: f64,
    /// The harmonic mean of precision and recall.
    pub f1: f64,
    /// How many rows are so.
    pub support: usize,
}

/// How often a label occurs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct ClassCounts {
    pub(super) gold: usize,
    pub(super) predicted: usize,
    pub(super) right: usize,
}

impl ClassificationMetrics {
    /// All scores at once; `loss` is the mean loss of a row.
    ///
    /// # Panics
    /// When `gold` and `predicted` differ in length or an id is not below `num_labels`.
    pub fn new(gold: &[u32], predicted: &[u32], num_labels: usize, loss: f64) -> Self {
        Self {
            accuracy: accuracy(gold, predicted),
            f1_macro: f1_macro(gold, predicted, num_labels),
            f1_micro: accuracy(gold, predicted),
            f1: (num_labels == 2).then(|| class_scores(gold, predicted, num_labels)[1].f1),
            matthews: matthews(gold, predicted, num_labels),
            loss,
        }
    }
}

/// The share of rows that are right; 0 where there are no rows.
///
/// # Panics
/// When `gold` and `predicted` differ in length.
pub fn accuracy(gold: &[u32], predicted: &[u32]) -> f64 {
    assert_same_length(gold, predicted);
    let right = gold.iter().zip(predicted).filter(|(gold, predicted)| gold == predicted).count();
    ratio(right as f64, gold.len() as f64)
}

/// The mean F1 of the labels that occur, in gold or predicted.
///
/// # Panics
/// When `gold` and `predicted` differ in length or an id is not below `num_labels`.
pub fn f1_macro(gold: &[u32], predicted: &[u32], num_labels: usize) -> f64 {
    let counts = class_counts(gold, predicted, num_labels);
    let scores = counts
        .iter()
        .filter(|class| class.gold + class.predicted > 0)
        .map(|class| class.scores().f1);
    ratio(scores.clone().sum(), scores.count() as f64)
}

/// The scores of each label, in the order of their ids.
///
/// # Panics
/// When `gold` and `predicted` differ in length or an id is not below `num_labels`.
pub fn class_scores(gold: &[u32], predicted: &[u32], num_labels: usize) -> Vec<ClassScores> {
    class_counts(gold, predicted, num_labels).iter().map(ClassCounts::scores).collect()
}

/// Matthews' correlation coefficient, for any number of labels.
///
/// With `s` rows of which `c` are right, `t` rows of each label and `p` predicted so:
/// `(c s - sum t p) / sqrt((s s - sum p p) (s s - sum t t))`.
///
/// # Panics
/// When `gold` and `predicted` differ in length or an id is not below `num_labels`.
///
/// # Source
/// Gorodkin: "Comparing two K-category assignments by a K-category correlation coefficient" (2004).
pub fn matthews(gold: &[u32], predicted: &[u32], num_labels: usize) -> f64 {
    let counts = class_counts(gold, predicted, num_labels);
    let sum = |term: fn(&ClassCounts) -> usize| counts.iter().map(term).sum::<usize>() as f64;
    let rows = gold.len() as f64;
    let covariance = sum(|class| class.right) * rows - sum(|class| class.gold * class.predicted);
    let predicted_variance = rows * rows - sum(|class| class.predicted * class.predicted);
    let gold_variance = rows * rows - sum(|class| class.gold * class.gold);
    ratio(covariance, (predicted_variance * gold_variance).sqrt())
}

/// How many rows of each label (outer) are predicted as each label (inner).
///
/// # Panics
/// When `gold` and `predicted` differ in length or an id is not below `num_labels`.
pub fn confusion_matrix(gold: &[u32], predicted: &[u32], num_labels: usize) -> Vec<Vec<usize>> {
    assert_same_length(gold, predicted);
    let mut counts = vec![vec![0; num_labels]; num_labels];
    for (&gold, &predicted) in gold.iter().zip(predicted) {
        counts[gold as usize][predicted as usize] += 1;
    }
    counts
}

/// The id of the largest logit: the lowest such id, NaN never, and 0 where there is none.
pub fn argmax(logits: &[f32]) -> u32 {
    let mut largest: Option<(u32, f32)> = None;
    for (id, &logit) in (0..).zip(logits) {
        if !logit.is_nan() && largest.is_none_or(|(_, value)| logit > value) {
            largest = Some((id, logit));
        }
    }
    largest.map_or(0, |(id, _)| id)
}

impl ClassCounts {
    pub(super) fn scores(&self) -> ClassScores {
        let right = self.right as f64;
        ClassScores {
            precision: ratio(right, self.predicted as f64),
            recall: ratio(right, self.gold as f64),
            f1: ratio(2.0 * right, (self.gold + self.predicted) as f64),
            support: self.gold,
        }
    }
}

fn class_counts(gold: &[u32], predicted: &[u32], num_labels: usize) -> Vec<ClassCounts> {
    assert_same_length(gold, predicted);
    let mut counts = vec![ClassCounts::default(); num_labels];
    for (&gold, &predicted) in gold.iter().zip(predicted) {
        counts[gold as usize].gold += 1;
        counts[predicted as usize].predicted += 1;
        counts[gold as usize].right += usize::from(gold == predicted);
    }
    counts
}

fn assert_same_length(gold: &[u32], predicted: &[u32]) {
    assert_eq!(gold.len(), predicted.len(), "gold and predicted must have the same length");
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    // One label (3) is predicted but never gold, and one (5) is neither.
    const GOLD: [u32; 11] = [0, 1, 2, 2, 1, 0, 4, 4, 2, 0, 1];
    const PREDICTED: [u32; 11] = [0, 2, 2, 2, 1, 1, 4, 0, 2, 0, 3];
    const NUM_LABELS: usize = 6;

    const BINARY_GOLD: [u32; 9] = [1, 0, 1, 1, 0, 0, 1, 0, 1];
    const BINARY_PREDICTED: [u32; 9] = [1, 0, 0, 1, 1, 0, 1, 0, 1];

    fn assert_close(got: f64, expected: f64) {
        assert!((got - expected).abs() < 1e-12, "got {got}, expected {expected}");
    }

    #[test]
    fn scores_equal_scikit_learn() {
        // scikit-learn 1.9.1: accuracy_score(g, p), f1_score(g, p, average="macro" | "micro", zero_division=0),
        // matthews_corrcoef(g, p).
        let metrics = ClassificationMetrics::new(&GOLD, &PREDICTED, NUM_LABELS, 0.25);
        assert_close(metrics.accuracy, 0.6363636363636364);
        assert_close(metrics.f1_macro, 0.518095238095238);
        assert_close(metrics.f1_micro, 0.6363636363636364);
        assert_close(metrics.matthews, 0.5333333333333333);
        assert_eq!((metrics.f1, metrics.loss), (None, 0.25));
    }

    #[test]
    fn scores_of_each_label_equal_scikit_learn() {
        // precision_recall_fscore_support(g, p, zero_division=0); label 5 does not occur.
        let expected = [
            (0.6666666666666666, 0.6666666666666666, 0.6666666666666666, 3),
            (0.5, 0.3333333333333333, 0.4, 3),
            (0.75, 1.0, 0.8571428571428571, 3),
            (0.0, 0.0, 0.0, 0),
            (1.0, 0.5, 0.6666666666666666, 2),
            (0.0, 0.0, 0.0, 0),
        ];
        let scores = class_scores(&GOLD, &PREDICTED, NUM_LABELS);
        assert_eq!(scores.len(), NUM_LABELS);
        for (scores, (precision, recall, f1, support)) in scores.iter().zip(expected) {
            assert_close(scores.precision, precision);
            assert_close(scores.recall, recall);
            assert_close(scores.f1, f1);
            assert_eq!(scores.support, support);
        }
    }

    #[test]
    fn two_labels_have_an_f1_of_their_own() {
        // The calls above and f1_score(g, p), which is F1 of label 1: 4 right, 5 predicted, 5 gold: 8/10.
        let metrics = ClassificationMetrics::new(&BINARY_GOLD, &BINARY_PREDICTED, 2, 0.0);
        assert_close(metrics.accuracy, 0.7777777777777778);
        assert_close(metrics.f1_macro, 0.775);
        assert_close(metrics.f1.unwrap(), 0.8);
        assert_close(metrics.matthews, 0.55);
    }

    #[test]
    fn one_predicted_label_has_no_correlation() {
        // g = [0, 0, 1], p = [0, 0, 0]: macro (0.8 + 0)/2; matthews_corrcoef is 0 where a variance is.
        let metrics = ClassificationMetrics::new(&[0, 0, 1], &[0, 0, 0], 2, 0.0);
        assert_close(metrics.f1_macro, 0.4);
        assert_eq!((metrics.matthews, metrics.f1), (0.0, Some(0.0)));
        // g = p = [0, 0, 0]: macro over the one label that occurs.
        let metrics = ClassificationMetrics::new(&[0; 3], &[0; 3], 2, 0.0);
        assert_eq!((metrics.accuracy, metrics.f1_macro, metrics.matthews), (1.0, 1.0, 0.0));
    }

    #[test]
    fn confusions_are_counted_by_gold_then_predicted() {
        // confusion_matrix(g, p)
        assert_eq!(confusion_matrix(&BINARY_GOLD, &BINARY_PREDICTED, 2), [[3, 1], [1, 4]]);
        let confusions = confusion_matrix(&GOLD, &PREDICTED, NUM_LABELS);
        assert_eq!(confusions[1], [0, 1, 1, 1, 0, 0]);
        assert_eq!(confusions[4], [1, 0, 0, 0, 1, 0]);
    }

    #[test]
    fn no_rows_score_zero() {
        let metrics = ClassificationMetrics::new(&[], &[], 2, 0.0);
        assert_eq!(
            (metrics.accuracy, metrics.f1_macro, metrics.f1, metrics.matthews),
            (0.0, 0.0, Some(0.0), 0.0)
        );
    }

    #[test]
    fn metrics_have_the_keys_of_the_output() {
        let keys = |num_labels| {
            let json = serde_json::to_string(&ClassificationMetrics::new(
                &[0, 1],
                &[0, 1],
                num_labels,
                0.5,
            ))
            .unwrap();
            assert!(serde_json::from_str::<ClassificationMetrics>(&json).is_ok());
            json
        };
        assert_eq!(
            keys(2),
            r#"{"accuracy":1.0,"f1_macro":1.0,"f1_micro":1.0,"f1":1.0,"matthews":1.0,"loss":0.5}"#
        );
        assert_eq!(
            keys(3),
            r#"{"accuracy":1.0,"f1_macro":1.0,"f1_micro":1.0,"matthews":1.0,"loss":0.5}"#
        );
    }

    #[test]
    fn argmax_takes_the_lowest_of_equals_and_never_nan() {
        let (nan, infinity) = (f32::NAN, f32::INFINITY);
        for (logits, id) in [
            (&[1.0, 3.0, 3.0][..], 1),
            (&[nan, -2.0, -1.0, nan], 2),
            (&[-infinity, -infinity], 0),
            (&[nan, -infinity], 1),
            (&[nan, nan], 0),
            (&[0.0, infinity, nan], 1),
            (&[-0.0, 0.0], 0),
            (&[], 0),
        ] {
            assert_eq!(argmax(logits), id, "{logits:?}");
        }
    }

    #[test]
    #[should_panic(expected = "gold and predicted must have the same length")]
    fn other_lengths_panic() {
        accuracy(&[0, 1], &[0]);
    }

    proptest! {
        #[test]
        fn scores_stay_in_their_bounds(rows in prop::collection::vec((0u32..4, 0u32..4), 1..60)) {
            let (gold, predicted): (Vec<u32>, Vec<u32>) = rows.into_iter().unzip();
            let metrics = ClassificationMetrics::new(&gold, &predicted, 4, 0.0);
            prop_assert!((0.0..=1.0).contains(&metrics.accuracy));
            prop_assert!((0.0..=1.0).contains(&metrics.f1_macro));
            prop_assert!((-1.0 - 1e-12..=1.0 + 1e-12).contains(&metrics.matthews));
            let confusions = confusion_matrix(&gold, &predicted, 4);
            prop_assert_eq!(confusions.iter().flatten().sum::<usize>(), gold.len());
            let right: usize = (0..4).map(|label| confusions[label][label]).sum();
            prop_assert!((metrics.accuracy - right as f64 / gold.len() as f64).abs() < 1e-12);
            let perfect = ClassificationMetrics::new(&gold, &gold, 4, 0.0);
            prop_assert_eq!((perfect.accuracy, perfect.f1_macro), (1.0, 1.0));
        }
    }
}
