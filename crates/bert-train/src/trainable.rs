//! What the training loop asks of a model.

use bert_core::{EncoderInput, NamedTensor};
use bert_heads::{CrossEntropy, SequenceClassifier, TokenClassifier};
use bert_kernels::random::Key;
use burn::{
    module::Module,
    tensor::{Device, Tensor},
};

use crate::{
    data_set::{DataSet, TaggedSet, WordTags},
    evaluate::{evaluate, evaluate_tags},
    metrics::Metrics,
};

/// A model with its loss and its evaluation: all that [`fine_tune`](crate::fine_tune) knows of it.
///
/// A model of several heads has labels that say for which of them they are, and dev rows of every task.
pub trait Trainable: Module {
    /// What a row is to be answered with.
    type Label: Clone + Sync;
    /// What the model is measured on.
    type Dev;

    /// The mean loss of a batch.
    ///
    /// # Shapes
    /// - `labels`: one a sequence
    /// - output: `[1]`
    fn loss(&self, input: &EncoderInput, labels: &[Self::Label], dropout: Option<Key>)
    -> Tensor<1>;

    /// The number of rows to be measured on.
    fn rows(dev: &Self::Dev) -> usize;

    /// How good the model's answers are; model and `device` are those of evaluation, without autodiff.
    fn evaluate(&self, dev: &Self::Dev, batch_size: usize, device: &Device) -> Metrics;

    /// The name and the shape in a checkpoint of every parameter.
    fn parameter_shapes(&self) -> Vec<(String, Vec<usize>)>;

    /// Sets every parameter for which there is a value, by the names and shapes that checkpoints have.
    ///
    /// # Errors
    /// What `values` returns.
    fn set_parameters(
        self,
        values: impl FnMut(&str, &[usize]) -> bert_core::Result<Option<Vec<f32>>>,
    ) -> bert_core::Result<Self>;

    /// Every parameter as a checkpoint holds it.
    fn named_parameters(&self) -> Vec<NamedTensor>;
}

/// A text has one label.
impl Trainable for SequenceClassifier {
    type Label = Option<u32>;
    type Dev = DataSet;

    fn loss(
        &self,
        input: &EncoderInput,
        labels: &[Option<u32>],
        dropout: Option<Key>,
    ) -> Tensor<1> {
        CrossEntropy::default().forward(self.forward(input, dropout), labels)
    }

    fn rows(dev: &DataSet) -> usize {
        dev.len()
    }

    fn evaluate(&self, dev: &DataSet, batch_size: usize, device: &Device) -> Metrics {
        Metrics::Classification(evaluate(self, dev, self.num_labels(), batch_size, device))
    }

    fn parameter_shapes(&self) -> Vec<(String, Vec<usize>)> {
        self.parameter_shapes()
    }

    fn set_parameters(
        self,
        values: impl FnMut(&str, &[usize]) -> bert_core::Result<Option<Vec<f32>>>,
    ) -> bert_core::Result<Self> {
        self.set_parameters(values)
    }

    fn named_parameters(&self) -> Vec<NamedTensor> {
        self.named_parameters()
    }
}

/// Each word of a sentence has a tag: its first piece answers for it, and all other tokens do not count.
impl Trainable for TokenClassifier {
    type Label = WordTags;
    type Dev = TaggedSet;

    fn loss(&self, input: &EncoderInput, labels: &[WordTags], dropout: Option<Key>) -> Tensor<1> {
        assert_eq!(
            labels.len(),
            input.sequences.len(),
            "tags: those of each sequence are expected"
        );
        let mut targets = vec![None; input.sequences.tokens()];
        for (range, row) in input.sequences.ranges().zip(labels) {
            for (tag, first) in row.tags.iter().zip(&row.first_tokens) {
                if let Some(first) = first {
                    targets[range.start + first] = Some(*tag);
                }
            }
        }
        CrossEntropy::default().forward(self.forward(input, dropout), &targets)
    }

    fn rows(dev: &TaggedSet) -> usize {
        dev.rows.len()
    }

    fn evaluate(&self, dev: &TaggedSet, batch_size: usize, device: &Device) -> Metrics {
        Metrics::Tagging(evaluate_tags(self, dev, batch_size, device))
    }

    fn parameter_shapes(&self) -> Vec<(String, Vec<usize>)> {
        self.parameter_shapes()
    }

    fn set_parameters(
        self,
        values: impl FnMut(&str, &[usize]) -> bert_core::Result<Option<Vec<f32>>>,
    ) -> bert_core::Result<Self> {
        self.set_parameters(values)
    }

    fn named_parameters(&self) -> Vec<NamedTensor> {
        self.named_parameters()
    }
}
