//! Binary cross-entropy on logits: any number of labels a row, each true or false by itself.

use burn::tensor::{Tensor, TensorData, activation::log_sigmoid};

use crate::divergence::sigmoid_terms;

/// The mean of `-log sigmoid(logit)` where the label is true and of `-log sigmoid(-logit)` where it is false.
///
/// With positive weights `p`, the terms of true labels count `p` times, and the mean is still taken over the number of
/// terms: PyTorch's `BCEWithLogitsLoss(pos_weight=p)`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct BinaryCrossEntropy {
    /// How much a true label counts against a false one, by class; `None` counts all alike.
    pub positive_weights: Option<Vec<f32>>,
}

impl BinaryCrossEntropy {
    /// The loss; entries without a target do not count, and where no entry has one the loss is 0.
    ///
    /// # Shapes
    /// - `logits`: `[rows, classes]`
    /// - `targets`: `rows * classes`, row by row
    /// - output: `[1]`
    ///
    /// # Panics
    /// When the number of targets or positive weights does not fit.
    pub fn forward(&self, logits: Tensor<2>, targets: &[Option<bool>]) -> Tensor<1> {
        let [rows, classes] = logits.dims();
        assert_eq!(
            targets.len(),
            rows * classes,
            "binary cross-entropy: one target an entry is expected"
        );
        if let Some(weights) = &self.positive_weights {
            assert_eq!(
                weights.len(),
                classes,
                "binary cross-entropy: one weight a class is expected"
            );
        }

        let device = logits.device();
        let positive = |entry: usize| match &self.positive_weights {
            Some(weights) => weights[entry % classes],
            None => 1.0,
        };
        let weights = |weight: &dyn Fn(usize, bool) -> f32| {
            let weights = targets.iter().enumerate();
            let weights: Vec<f32> =
                weights.map(|(entry, target)| target.map_or(0.0, |t| weight(entry, t))).collect();
            Tensor::<2>::from_data(TensorData::new(weights, [rows, classes]), &device)
        };
        let of_true = weights(&|entry, target| if target { positive(entry) } else { 0.0 });
        let of_false = weights(&|_, target| if target { 0.0 } else { 1.0 });
        // Where no entry counts, every term is 0: any other denominator keeps it so.
        let counted = targets.iter().flatten().count().max(1);
        let terms = log_sigmoid(logits.clone()) * of_true + log_sigmoid(logits.neg()) * of_false;
        terms.sum() / -(counted as f64)
    }

    /// How far two answers to the same entries lie apart: the mean over the entries that have a target of
    /// `(KL(p || q) + KL(q || p)) / 2`, where a label is true with the probability `p` or `q`, a sigmoid.
    ///
    /// # Shapes
    /// - `one`, `other`: `[rows, classes]`
    /// - `targets`: `rows * classes`, row by row
    /// - output: `[1]`
    ///
    /// # Panics
    /// When the number of targets does not fit, or the shapes differ.
    pub fn divergence(
        &self,
        one: Tensor<2>,
        other: Tensor<2>,
        targets: &[Option<bool>],
    ) -> Tensor<1> {
        let counts = targets.iter().map(|target| if target.is_some() { 1.0f32 } else { 0.0 });
        let counts = TensorData::new(counts.collect::<Vec<f32>>(), one.dims());
        let counts = Tensor::from_data(counts, &one.device());
        let counted = targets.iter().flatten().count().max(1);
        (sigmoid_terms(one, other) * counts).sum() / counted as f64
    }
}
