//! Squared error on numbers.

use burn::tensor::{Tensor, TensorData};

/// The mean of `(predicted - target)^2`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SquaredError;

impl SquaredError {
    /// The loss; rows without a target do not count, and where no row has one the loss is 0.
    ///
    /// # Shapes
    /// - `predicted`: `[rows, 1]`
    /// - `targets`: one a row
    /// - output: `[1]`
    ///
    /// # Panics
    /// When the number of targets does not fit, or there is more than one number a row.
    pub fn forward(&self, predicted: Tensor<2>, targets: &[Option<f32>]) -> Tensor<1> {
        let rows = targets.len();
        assert_eq!(
            predicted.dims(),
            [rows, 1],
            "squared error: one number and one target a row are expected"
        );
        let device = predicted.device();
        let column =
            |values: Vec<f32>| Tensor::<2>::from_data(TensorData::new(values, [rows, 1]), &device);
        let values = column(targets.iter().map(|target| target.unwrap_or(0.0)).collect());
        let weights = column(targets.iter().map(|t| if t.is_some() { 1.0 } else { 0.0 }).collect());
        let counted = targets.iter().flatten().count().max(1);
        let differences = (predicted - values) * weights;
        (differences.clone() * differences).sum() / counted as f64
    }

    /// How far two answers to the same rows lie apart: the mean of `(one - other)^2` over the rows that have a target.
    ///
    /// # Shapes
    /// - `one`, `other`: `[rows, 1]`
    /// - `targets`: one a row
    /// - output: `[1]`
    ///
    /// # Panics
    /// When the number of targets does not fit, or the shapes differ.
    ///
    /// # Source
    /// What R-Drop's authors take for numbers:
    /// <https://github.com/dropreg/R-Drop/blob/7ab94f4a60f9794126042a567de980ee1a25064d/huggingface_transformer_src/src/transformers/models/bert/modeling_bert.py>,
    /// `bert_kl`.
    pub fn divergence(
        &self,
        one: Tensor<2>,
        other: Tensor<2>,
        targets: &[Option<f32>],
    ) -> Tensor<1> {
        let counts = targets.iter().map(|target| if target.is_some() { 1.0f32 } else { 0.0 });
        let counts = TensorData::new(counts.collect::<Vec<f32>>(), [one.dims()[0], 1]);
        let counts = Tensor::from_data(counts, &one.device());
        let counted = targets.iter().flatten().count().max(1);
        let differences = (one - other) * counts;
        (differences.clone() * differences).sum() / counted as f64
    }
}
