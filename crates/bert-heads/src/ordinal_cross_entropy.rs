//! Cross-entropy for classes with an order: one decision at each threshold between two classes.

use burn::tensor::{Tensor, TensorData, activation::log_sigmoid};

use crate::divergence::sigmoid_terms;

/// The mean over rows of `sum over k of -log P(label > k is as it is)`, with `P(label > k) = sigmoid(logit k)`.
///
/// Logit `k` of a row says whether its class lies above `k`: one logit fewer than classes. In CORAL, all logits of a row
/// are one score plus a bias of their own, so that they never contradict each other.
///
/// # Source
/// Cao, Mirjalili, Raschka: "Rank consistent ordinal regression for neural networks" (arXiv:1901.07884), equation 4 with
/// all thresholds counting alike.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OrdinalCrossEntropy;

impl OrdinalCrossEntropy {
    /// The loss; rows without a label do not count, and where no row has one the loss is 0.
    ///
    /// # Shapes
    /// - `logits`: `[rows, classes - 1]`
    /// - `labels`: one a row
    /// - output: `[1]`
    ///
    /// # Panics
    /// When the number of labels does not fit, or a label is not below the number of classes.
    pub fn forward(&self, logits: Tensor<2>, labels: &[Option<u32>]) -> Tensor<1> {
        let [rows, thresholds] = logits.dims();
        assert_eq!(labels.len(), rows, "ordinal cross-entropy: one label a row is expected");
        for label in labels.iter().flatten() {
            assert!(
                *label as usize <= thresholds,
                "ordinal cross-entropy: label {label} is not below the number of classes, {}",
                thresholds + 1
            );
        }

        let device = logits.device();
        // 1 where the class lies above the threshold, -1 where it does not; 0 where the row does not count.
        let signs = |label: &Option<u32>| {
            let label = label.map(|label| label as usize);
            (0..thresholds).map(move |k| match label {
                Some(label) if label > k => 1.0,
                Some(_) => -1.0,
                None => 0.0,
            })
        };
        let signs: Vec<f32> = labels.iter().flat_map(signs).collect();
        let counts: Vec<f32> = signs.iter().map(|sign| sign.abs()).collect();
        let matrix =
            |values| Tensor::<2>::from_data(TensorData::new(values, [rows, thresholds]), &device);
        let counted = labels.iter().flatten().count().max(1);
        let terms = log_sigmoid(logits * matrix(signs)) * matrix(counts);
        terms.sum() / -(counted as f64)
    }

    /// How far two answers to the same rows lie apart: the mean over the rows that have a label of the sum over thresholds of
    /// `(KL(p || q) + KL(q || p)) / 2`, where a class lies above it with the probability `p` or `q`, a sigmoid.
    ///
    /// # Shapes
    /// - `one`, `other`: `[rows, classes - 1]`
    /// - `labels`: one a row
    /// - output: `[1]`
    ///
    /// # Panics
    /// When the number of labels does not fit, or the shapes differ.
    pub fn divergence(
        &self,
        one: Tensor<2>,
        other: Tensor<2>,
        labels: &[Option<u32>],
    ) -> Tensor<1> {
        let counts = labels.iter().map(|label| if label.is_some() { 1.0f32 } else { 0.0 });
        let counts = TensorData::new(counts.collect::<Vec<f32>>(), [one.dims()[0], 1]);
        let counts = Tensor::from_data(counts, &one.device());
        let counted = labels.iter().flatten().count().max(1);
        (sigmoid_terms(one, other) * counts).sum() / counted as f64
    }

    /// The class of each row: the number of thresholds that it lies above.
    ///
    /// # Shapes
    /// `logits`: `[rows, classes - 1]`, row by row.
    pub fn classes(logits: &[Vec<f32>]) -> Vec<u32> {
        let above = |row: &Vec<f32>| row.iter().filter(|logit| **logit > 0.0).count() as u32;
        logits.iter().map(above).collect()
    }
}
