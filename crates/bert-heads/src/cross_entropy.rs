//! Cross-entropy on logits, with positions that do not count.

use burn::tensor::{Int, Tensor, TensorData, activation::log_softmax};

/// The mean of `-log softmax(logits)[label]` over the rows that have a label.
///
/// With class weights, each row counts with the weight of its label, and the mean is taken over the weights; label
/// smoothing `s` moves the share `s` of the target to all classes evenly. Both as PyTorch's `CrossEntropyLoss` does.
///
/// # Source
/// Label smoothing: Szegedy et al.: "Rethinking the Inception Architecture" (arXiv:1512.00567), section 7.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CrossEntropy {
    /// The share of the target that is spread over all classes, in `[0, 1]`.
    pub label_smoothing: f64,
    /// How much each class counts; `None` counts all alike.
    pub class_weights: Option<Vec<f32>>,
}

impl CrossEntropy {
    /// The loss; rows without a label do not count, and where no row has one the loss is 0.
    ///
    /// # Shapes
    /// - `logits`: `[rows, classes]`
    /// - `labels`: one a row
    /// - output: `[1]`
    ///
    /// # Panics
    /// When the number of labels or class weights does not fit, or a label is not below the number of classes.
    pub fn forward(&self, logits: Tensor<2>, labels: &[Option<u32>]) -> Tensor<1> {
        let [rows, classes] = logits.dims();
        assert_eq!(labels.len(), rows, "cross-entropy: one label a row is expected");
        for label in labels.iter().flatten() {
            assert!(
                (*label as usize) < classes,
                "cross-entropy: label {label} is not below the number of classes, {classes}"
            );
        }
        if let Some(weights) = &self.class_weights {
            assert_eq!(weights.len(), classes, "cross-entropy: one weight a class is expected");
        }

        let device = logits.device();
        let weight = |class: u32| match &self.class_weights {
            Some(weights) => weights[class as usize],
            None => 1.0,
        };
        let row_weights: Vec<f32> = labels.iter().map(|label| label.map_or(0.0, weight)).collect();
        let total: f32 = row_weights.iter().sum();
        // Where no row counts, every term is 0: any other denominator keeps it so.
        let total = if total > 0.0 { total } else { 1.0 };
        let column =
            |values: Vec<f32>| Tensor::<2>::from_data(TensorData::new(values, [rows, 1]), &device);

        let targets: Vec<i64> = labels.iter().map(|label| i64::from(label.unwrap_or(0))).collect();
        let targets = Tensor::<2, Int>::from_data(TensorData::new(targets, [rows, 1]), &device);
        let log_probabilities = log_softmax(logits, 1);
        let target_terms = log_probabilities.clone().gather(1, targets) * column(row_weights);
        let mut sum = target_terms.sum() * (self.label_smoothing - 1.0);
        if self.label_smoothing > 0.0 {
            let weights: Vec<f32> = (0..classes as u32).map(weight).collect();
            let weights = Tensor::<1>::from_data(weights.as_slice(), &device);
            let counted = labels.iter().map(|label| if label.is_some() { 1.0 } else { 0.0 });
            let spread = log_probabilities * weights.unsqueeze() * column(counted.collect());
            sum = sum - spread.sum() * (self.label_smoothing / classes as f64);
        }
        sum / f64::from(total)
    }
}
