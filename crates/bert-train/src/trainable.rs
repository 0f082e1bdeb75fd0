//! What the training loop asks of a model.

use bert_core::{Bert, EncoderInput, NamedTensor};
use bert_heads::{SequenceClassifier, TokenClassifier};
use bert_kernels::{Sequences, random::Key};
use burn::{
    module::Module,
    tensor::{Device, Tensor},
};

use crate::{
    batch_targets::BatchTargets,
    data_set::{DataSet, TaggedSet, WordTags},
    evaluate::{evaluate, evaluate_tags},
    metrics::Metrics,
    sampler::{Batch, TrainingSet},
};

/// One pass of a batch through a model.
#[derive(Debug, Clone, Default)]
pub struct Pass {
    /// The key of what is dropped; without it, nothing is.
    pub dropout: Option<Key>,
    /// What is added to the word embeddings, `[tokens, hidden_size]`; hidden states that are kept take no notice of it.
    pub shift: Option<Tensor<2>>,
}

impl From<Option<Key>> for Pass {
    fn from(dropout: Option<Key>) -> Self {
        Self { dropout, shift: None }
    }
}

/// A model with its losses and its evaluation: all that [`fine_tune`](crate::fine_tune) knows of it.
///
/// A model has one head or several, each with a loss of its own; they are counted from 0. The rates of its parts go by the names of
/// its fields, which are to be those of the models here: `bert`, `pooling`, `layer_mixture`, `task_embedding`, `classifier`.
pub trait Trainable: Module + Sync {
    /// The rows to learn from, of one data set or several.
    type Data: Sync;
    /// What the model is measured on.
    type Dev;

    /// The data sets that batches are taken from; batches name them by their place.
    fn sets(data: &Self::Data) -> Vec<TrainingSet>;

    /// The rows that are longer than what is read of them.
    fn cut_rows(data: &Self::Data) -> usize;

    /// What each of the batch's heads says of it, before any probability.
    ///
    /// # Shapes
    /// output: `[rows, outputs]` each, `[tokens, outputs]` where every token is answered
    fn logits(
        &self,
        data: &Self::Data,
        batch: &Batch,
        device: &Device,
        pass: Pass,
    ) -> Vec<Tensor<2>>;

    /// What each of the batch's heads is to answer.
    fn targets(data: &Self::Data, batch: &Batch) -> Vec<BatchTargets>;

    /// The mean loss of a batch for each of the batch's heads, as it is without regularisation.
    ///
    /// # Shapes
    /// output: `[1]` each
    fn losses(
        &self,
        data: &Self::Data,
        batch: &Batch,
        device: &Device,
        dropout: Option<Key>,
    ) -> Vec<Tensor<1>> {
        let logits = self.logits(data, batch, device, dropout.into());
        let heads = Self::targets(data, batch).into_iter().zip(logits);
        heads.map(|(targets, logits)| targets.loss(logits, 0.0)).collect()
    }

    /// What is made small in place of a head's loss.
    fn objective(&self, _head: usize, loss: Tensor<1>) -> Tensor<1> {
        loss
    }

    /// The encoder, which all heads share.
    fn encoder(&self) -> &Bert;

    /// The encoder, to be set up.
    fn encoder_mut(&mut self) -> &mut Bert;

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

    fn cut_rows(data: &Self::Data) -> usize {
        data.cut_rows()
    }

    fn logits(
        &self,
        data: &DataSet,
        batch: &Batch,
        device: &Device,
        Pass { dropout, shift }: Pass,
    ) -> Vec<Tensor<2>> {
        vec![match &data.states {
            Some(states) => {
                let (states, documents) = states.batch(&batch.rows, device);
                self.forward_states(states, &documents, dropout)
            }
            None => {
                let input = EncoderInput::new(data.encodings_of(&batch.rows), device);
                self.forward(&input.with_shift(shift), dropout)
            }
        }]
    }

    fn targets(data: &DataSet, batch: &Batch) -> Vec<BatchTargets> {
        let labels = batch.rows.iter().map(|row| data.labels[*row]);
        vec![BatchTargets::Classes(labels.collect())]
    }

    fn encoder(&self) -> &Bert {
        &self.bert
    }

    fn encoder_mut(&mut self) -> &mut Bert {
        &mut self.bert
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

    fn cut_rows(data: &Self::Data) -> usize {
        data.cut_rows()
    }

    fn logits(
        &self,
        data: &DataSet<WordTags>,
        batch: &Batch,
        device: &Device,
        Pass { dropout, shift }: Pass,
    ) -> Vec<Tensor<2>> {
        let input = EncoderInput::new(data.encodings_of(&batch.rows), device);
        vec![self.forward(&input.with_shift(shift), dropout)]
    }

    fn targets(data: &DataSet<WordTags>, batch: &Batch) -> Vec<BatchTargets> {
        let lengths = data.encodings_of(&batch.rows).map(|encoding| encoding.input_ids.len());
        let sequences = Sequences::from_lengths(&lengths.collect::<Vec<_>>());
        let tags = batch.rows.iter().map(|row| &data.labels[*row]);
        vec![BatchTargets::Classes(WordTags::of_tokens(tags, &sequences))]
    }

    fn encoder(&self) -> &Bert {
        &self.bert
    }

    fn encoder_mut(&mut self) -> &mut Bert {
        &mut self.bert
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
