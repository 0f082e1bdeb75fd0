//! How well classes with an order are predicted: a class close by is better than one far off.

use serde::{Deserialize, Serialize};

use super::{accuracy, confusion_matrix, ratio};

/// The scores of one classifier of ordered labels on one data set.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct OrdinalMetrics {
    /// Cohen's kappa with quadratic weights: 1 is perfect, 0 chance.
    pub kappa: f64,
    /// The share of rows that are right.
    pub accuracy: f64,
    /// The mean distance in labels.
    pub mean_absolute_error: f64,
    /// The mean loss of a row.
    pub loss: f64,
}

impl OrdinalMetrics {
    /// All scores at once; `loss` is the mean loss of a row.
    ///
    /// # Panics
    /// When `gold` and `predicted` differ in length or an id is not below `num_labels`.
    pub fn new(gold: &[u32], predicted: &[u32], num_labels: usize, loss: f64) -> Self {
        Self {
            kappa: quadratic_weighted_kappa(gold, predicted, num_labels),
            accuracy: accuracy(gold, predicted),
            mean_absolute_error: mean_absolute_error(gold, predicted),
            loss,
        }
    }
}

/// The mean distance between the ids; 0 where there are no rows.
///
/// # Panics
/// When `gold` and `predicted` differ in length.
pub fn mean_absolute_error(gold: &[u32], predicted: &[u32]) -> f64 {
    assert_eq!(gold.len(), predicted.len(), "gold and predicted must have the same length");
    let distances = gold.iter().zip(predicted).map(|(gold, predicted)| gold.abs_diff(*predicted));
    ratio(distances.map(f64::from).sum(), gold.len() as f64)
}

/// Cohen's kappa with quadratic weights: 1 where all rows are right, 0 for what chance would do, below 0 for worse.
///
/// 1 minus the mean squared distance between the ids, over the mean squared distance between a gold and a predicted id
/// that are drawn apart. 0 where all rows are, and are predicted as, one same class: chance would do as well.
///
/// # Panics
/// When `gold` and `predicted` differ in length or an id is not below `num_labels`.
///
/// # Source
/// Cohen: "Weighted kappa" (Psychological Bulletin 70, 1968); scikit-learn's `cohen_kappa_score`.
pub fn quadratic_weighted_kappa(gold: &[u32], predicted: &[u32], num_labels: usize) -> f64 {
    let confusions = confusion_matrix(gold, predicted, num_labels);
    let golds: Vec<usize> = confusions.iter().map(|row| row.iter().sum()).collect();
    let predictions: Vec<usize> =
        (0..num_labels).map(|label| confusions.iter().map(|row| row[label]).sum()).collect();
    let (mut observed, mut expected) = (0.0, 0.0);
    for gold in 0..num_labels {
        for predicted in 0..num_labels {
            let weight = gold.abs_diff(predicted).pow(2) as f64;
            observed += weight * confusions[gold][predicted] as f64;
            expected += weight * golds[gold] as f64 * predictions[predicted] as f64;
        }
    }
    ratio(expected - observed * gold.len() as f64, expected)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GOLD: [u32; 9] = [0, 1, 2, 3, 4, 2, 2, 1, 0];
    const PREDICTED: [u32; 9] = [0, 2, 2, 4, 3, 2, 0, 1, 1];

    #[test]
    fn scores_equal_scikit_learn() {
        // scikit-learn 1.9.1: mean_absolute_error(g, p), cohen_kappa_score(g, p, weights="quadratic", labels=range(5)).
        let close = |got: f64, expected: f64| assert!((got - expected).abs() < 1e-12, "{got}");
        close(mean_absolute_error(&GOLD, &PREDICTED), 0.6666666666666666);
        close(quadratic_weighted_kappa(&GOLD, &PREDICTED, 5), 0.7142857142857143);
        // A class that does not occur changes nothing.
        close(quadratic_weighted_kappa(&GOLD, &PREDICTED, 6), 0.7142857142857143);
    }

    #[test]
    fn constants_are_no_better_than_chance() {
        // scikit-learn gives NaN for the first and 0 for the others.
        assert_eq!(quadratic_weighted_kappa(&[1, 1, 1], &[1, 1, 1], 3), 0.0);
        assert_eq!(quadratic_weighted_kappa(&[1, 1, 1], &[2, 2, 2], 3), 0.0);
        assert_eq!(quadratic_weighted_kappa(&[0, 1, 2], &[1, 1, 1], 3), 0.0);
        assert_eq!(
            (quadratic_weighted_kappa(&[], &[], 3), mean_absolute_error(&[], &[])),
            (0.0, 0.0)
        );
    }

    #[test]
    #[should_panic(expected = "gold and predicted must have the same length")]
    fn other_lengths_panic() {
        mean_absolute_error(&[0, 1], &[0]);
    }

    proptest! {
        #[test]
        fn kappa_is_symmetric_and_at_most_one(rows in prop::collection::vec((0u32..5, 0u32..5), 1..40)) {
            let (gold, predicted): (Vec<u32>, Vec<u32>) = rows.into_iter().unzip();
            let kappa = quadratic_weighted_kappa(&gold, &predicted, 5);
            prop_assert!(kappa <= 1.0);
            prop_assert!((kappa - quadratic_weighted_kappa(&predicted, &gold, 5)).abs() < 1e-12);
            prop_assume!(gold.iter().any(|label| *label != gold[0]));
            prop_assert!((quadratic_weighted_kappa(&gold, &gold, 5) - 1.0).abs() < 1e-12);
        }
    }
}
