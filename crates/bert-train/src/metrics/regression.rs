//! How well numbers are predicted.

use serde::{Deserialize, Serialize};

use super::ratio;

/// The scores of one model of numbers on one data set.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RegressionMetrics {
    /// The correlation of the ranks, from -1 to 1.
    pub spearman: f64,
    /// The linear correlation, from -1 to 1.
    pub pearson: f64,
    /// The mean of the squared differences.
    pub mean_squared_error: f64,
    /// The mean loss of a row.
    pub loss: f64,
}

impl RegressionMetrics {
    /// All scores at once; `loss` is the mean loss of a row.
    ///
    /// # Panics
    /// When `gold` and `predicted` differ in length.
    pub fn new(gold: &[f64], predicted: &[f64], loss: f64) -> Self {
        Self {
            spearman: spearman(gold, predicted),
            pearson: pearson(gold, predicted),
            mean_squared_error: mean_squared_error(gold, predicted),
            loss,
        }
    }
}

/// Pearson's correlation coefficient, from -1 to 1; 0 where a side is constant, or there are no rows.
///
/// # Panics
/// When `gold` and `predicted` differ in length.
pub fn pearson(gold: &[f64], predicted: &[f64]) -> f64 {
    assert_same_length(gold, predicted);
    let (gold, predicted) = (centred(gold), centred(predicted));
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    // Two roots: the product of the squares may overflow where each alone does not.
    let norms = dot(&gold, &gold).sqrt() * dot(&predicted, &predicted).sqrt();
    ratio(dot(&gold, &predicted), norms).clamp(-1.0, 1.0)
}

/// Spearman's correlation coefficient: Pearson's of the ranks, where equal values share the mean of their ranks.
///
/// 0 where a side is constant, or there are no rows.
///
/// # Panics
/// When `gold` and `predicted` differ in length.
pub fn spearman(gold: &[f64], predicted: &[f64]) -> f64 {
    assert_same_length(gold, predicted);
    pearson(&ranks(gold), &ranks(predicted))
}

/// The mean of the squared differences; 0 where there are no rows.
///
/// # Panics
/// When `gold` and `predicted` differ in length.
pub fn mean_squared_error(gold: &[f64], predicted: &[f64]) -> f64 {
    assert_same_length(gold, predicted);
    let squares = gold.iter().zip(predicted).map(|(gold, predicted)| (gold - predicted).powi(2));
    ratio(squares.sum(), gold.len() as f64)
}

/// The differences to the mean: exact zeros for a constant, whose mean may be rounded.
fn centred(values: &[f64]) -> Vec<f64> {
    if values.iter().all(|value| *value == values[0]) {
        return vec![0.0; values.len()];
    }
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    values.iter().map(|value| value - mean).collect()
}

/// The place of each value in the sorted order, from 1; equal values share the mean of their places.
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut ranks = vec![0.0; values.len()];
    let mut below = 0;
    for equal in order.chunk_by(|&a, &b| values[a] == values[b]) {
        for &place in equal {
            // Places below + 1 to below + n: their mean.
            ranks[place] = below as f64 + (equal.len() as f64 + 1.0) / 2.0;
        }
        below += equal.len();
    }
    ranks
}

fn assert_same_length(gold: &[f64], predicted: &[f64]) {
    assert_eq!(gold.len(), predicted.len(), "gold and predicted must have the same length");
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GOLD: [f64; 7] = [2.5, 0.0, 4.75, 3.0, 3.0, 1.25, 5.0];
    const PREDICTED: [f64; 7] = [2.0, 0.5, 4.0, 3.5, 1.0, 1.0, 4.5];

    fn assert_close(got: f64, expected: f64) {
        assert!((got - expected).abs() < 1e-12, "got {got}, expected {expected}");
    }

    #[test]
    fn scores_equal_scipy_and_scikit_learn() {
        // scipy 1.17.1: pearsonr(g, p)[0], spearmanr(g, p)[0]; scikit-learn 1.9.1: mean_squared_error(g, p).
        assert_close(pearson(&GOLD, &PREDICTED), 0.8793971870063435);
        assert_close(spearman(&GOLD, &PREDICTED), 0.9);
        assert_close(mean_squared_error(&GOLD, &PREDICTED), 0.8035714285714286);
        // Far from zero nothing is lost.
        let shifted = GOLD.map(|value| value + 1e9);
        assert_close(pearson(&shifted, &PREDICTED), 0.8793971870063435);
    }

    #[test]
    fn equal_values_share_the_mean_of_their_ranks() {
        // 0.5 is 1st; the two 1.0 are 2nd and 3rd.
        assert_eq!(ranks(&PREDICTED), [4.0, 1.0, 6.0, 5.0, 2.5, 2.5, 7.0]);
        assert_eq!(ranks(&[0.0, -0.0, 3.0, 3.0, 3.0]), [1.5, 1.5, 4.0, 4.0, 4.0]);
    }

    /// scipy gives NaN here, which JSON has no word for.
    #[test]
    fn a_constant_has_no_correlation() {
        for constant in [[0.1; 3], [1e300; 3]] {
            assert_eq!(pearson(&constant, &[1.0, 2.0, 3.0]), 0.0);
            assert_eq!(spearman(&[1.0, 2.0, 3.0], &constant), 0.0);
        }
        assert_eq!(
            (pearson(&[], &[]), spearman(&[], &[]), mean_squared_error(&[], &[])),
            (0.0, 0.0, 0.0)
        );
        assert_eq!(pearson(&[1.0], &[2.0]), 0.0);
    }

    #[test]
    #[should_panic(expected = "gold and predicted must have the same length")]
    fn other_lengths_panic() {
        spearman(&[0.0, 1.0], &[0.0]);
    }

    proptest! {
        /// Neither a scale nor a shift changes a correlation, and ranks see the order alone.
        #[test]
        fn correlations_keep_their_invariances(rows in prop::collection::vec((-9i32..9, -9i32..9), 2..40)) {
            let (gold, predicted): (Vec<f64>, Vec<f64>) =
                rows.iter().map(|(a, b)| (f64::from(*a), f64::from(*b))).unzip();
            let moved: Vec<f64> = gold.iter().map(|value| 3.0 * value - 7.0).collect();
            let curved: Vec<f64> = gold.iter().map(|value| value.powi(3)).collect();
            let correlation = pearson(&gold, &predicted);
            prop_assert!((-1.0..=1.0).contains(&correlation));
            prop_assert!((pearson(&moved, &predicted) - correlation).abs() < 1e-9);
            prop_assert!((spearman(&curved, &predicted) - spearman(&gold, &predicted)).abs() < 1e-9);
        }
    }
}
