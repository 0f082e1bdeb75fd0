//! What the training loop asks of a model.

use bert_core::{Bert, EncoderInput, NamedTensor};
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
    sampler::{Batch, TrainingSet},
};

/// A model with its losses and its evaluation: all that [`fine_tune`](crate::fine_tune) knows of it.
///
/// A model has one head or several, each with a loss of its own; they are counted from 0.
pub trait Trainable: Module + Sync {
    /// The rows to learn from, of one data set or several.
    type Data: Sync;
    /// What the model is measured on.
    type Dev;

    /// The data sets that batches are taken from; batches name them by their place.
    fn sets(data: &Self::Data) -> Vec<TrainingSet>;

    /// The mean loss of a batch for each of the batch's heads.
    ///
    /// # Shapes
    /// output: `[1]` each
    fn losses(
        &self,
        data: &Self::Data,
        batch: &Batch,
        device: &Device,
        dropout: Option<Key>,
    ) -> Vec<Tensor<1>>;

    /// What is made small in place of a head's loss.
    fn objective(&self, _head: usize, loss: Tensor<1>) -> Tensor<1> {
        loss
    }

    /// The encoder, which all heads share.
    fn encoder(&self) -> &Bert;

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
    type Data = DataSet;
    type Dev = DataSet;

    fn sets(data: &DataSet) -> Vec<TrainingSet> {
        vec![TrainingSet::of_one_head(data.lengths())]
    }

    fn losses(
        &self,
        data: &DataSet,
        batch: &Batch,
        device: &Device,
        dropout: Option<Key>,
    ) -> Vec<Tensor<1>> {
        let logits = match &data.states {
            Some(states) => {
                let (states, documents) = states.batch(&batch.rows, device);
                self.forward_states(states, &documents, dropout)
            }
            None => {
                let input = EncoderInput::new(data.encodings_of(&batch.rows), device);
                self.forward(&input, dropout)
            }
        };
        let labels: Vec<Option<u32>> = batch.rows.iter().map(|row| data.labels[*row]).collect();
        vec![CrossEntropy::default().forward(logits, &labels)]
    }

    fn encoder(&self) -> &Bert {
        &self.bert
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
    type Data = DataSet<WordTags>;
    type Dev = TaggedSet;

    fn sets(data: &DataSet<WordTags>) -> Vec<TrainingSet> {
        vec![TrainingSet::of_one_head(data.lengths())]
    }

    fn losses(
        &self,
        data: &DataSet<WordTags>,
        batch: &Batch,
        device: &Device,
        dropout: Option<Key>,
    ) -> Vec<Tensor<1>> {
        let input = EncoderInput::new(data.encodings_of(&batch.rows), device);
        let tags = batch.rows.iter().map(|row| &data.labels[*row]);
        let targets = WordTags::of_tokens(tags, &input.sequences);
        vec![CrossEntropy::default().forward(self.forward(&input, dropout), &targets)]
    }

    fn encoder(&self) -> &Bert {
        &self.bert
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
