//! Cross-entropy on logits, with positions that do not count.

use burn::tensor::{Device, Int, Tensor, TensorData, activation::log_softmax};

use crate::divergence::softmax_terms;

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
        let device = logits.device();
        let (row_weights, total) = self.row_weights([rows, classes], labels);

        let targets: Vec<i64> = labels.iter().map(|label| i64::from(label.unwrap_or(0))).collect();
        let targets = Tensor::<2, Int>::from_data(TensorData::new(targets, [rows, 1]), &device);
        let log_probabilities = log_softmax(logits, 1);
        let target_terms =
            log_probabilities.clone().gather(1, targets) * column(row_weights, &device);
        let mut sum = target_terms.sum() * (self.label_smoothing - 1.0);
        if self.label_smoothing > 0.0 {
            let weights: Vec<f32> =
                (0..classes as u32).map(|class| self.class_weight(class)).collect();
            let weights = Tensor::<1>::from_data(weights.as_slice(), &device);
            let counted = labels.iter().map(|label| if label.is_some() { 1.0 } else { 0.0 });
            let spread =
                log_probabilities * weights.unsqueeze() * column(counted.collect(), &device);
            sum = sum - spread.sum() * (self.label_smoothing / classes as f64);
        }
        sum / f64::from(total)
    }

    /// How far two answers to the same rows lie apart: the mean over the rows that have a label of
    /// `(KL(p || q) + KL(q || p)) / 2`, where `p` and `q` are the softmaxes. Rows count as they do in the loss.
    ///
    /// # Shapes
    /// - `one`, `other`: `[rows, classes]`
    /// - `labels`: one a row
    /// - output: `[1]`
    ///
    /// # Panics
    /// As [`forward`](Self::forward); and when the shapes differ.
    ///
    /// # Source
    /// Liang et al.: "R-Drop" (arXiv:2106.14448), equation 2.
    pub fn divergence(
        &self,
        one: Tensor<2>,
        other: Tensor<2>,
        labels: &[Option<u32>],
    ) -> Tensor<1> {
        let (weights, total) = self.row_weights(one.dims(), labels);
        let weights = column(weights, &one.device());
        (softmax_terms(one, other, 1) * weights).sum() / f64::from(total)
    }

    /// How much each row counts, and all of them together.
    fn row_weights(&self, [rows, classes]: [usize; 2], labels: &[Option<u32>]) -> (Vec<f32>, f32) {
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
        let weight = |label: &Option<u32>| label.map_or(0.0, |class| self.class_weight(class));
        let weights: Vec<f32> = labels.iter().map(weight).collect();
        let total: f32 = weights.iter().sum();
        // Where no row counts, every term is 0: any other denominator keeps it so.
        (weights, if total > 0.0 { total } else { 1.0 })
    }

    fn class_weight(&self, class: u32) -> f32 {
        self.class_weights.as_ref().map_or(1.0, |weights| weights[class as usize])
    }
}

fn column(values: Vec<f32>, device: &Device) -> Tensor<2> {
    let rows = values.len();
    Tensor::from_data(TensorData::new(values, [rows, 1]), device)
}
