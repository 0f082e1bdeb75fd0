//! A classifier of tokens: encoder, dropout, linear head on every token.

use bert_core::{
    Bert, BertConfig, EncoderInput, NamedTensor, Site, initialise, named_parameters,
    parameter_shapes, set_parameters,
};
use bert_kernels::{Dropout, dropout, linear, random::Key};
use burn::{
    module::Module,
    nn::{Linear, LinearConfig},
    tensor::{Device, Tensor},
};

/// `logits = dropout(last hidden states) W + b`, for every token.
///
/// It is Hugging Face's `BertForTokenClassification`, name for name.
#[derive(Module, Debug)]
pub struct TokenClassifier {
    /// The encoder.
    pub bert: Bert,
    /// `[hidden_size, num_labels]`
    pub classifier: Linear,
    #[module(skip)]
    dropout: f64,
}

impl TokenClassifier {
    /// A classifier around `bert`, whose head is at its starting values, drawn from `seed`.
    pub fn new(
        bert: Bert,
        config: &BertConfig,
        num_labels: usize,
        seed: u64,
        device: &Device,
    ) -> Self {
        let classifier = LinearConfig::new(config.hidden_size, num_labels).init(device);
        Self {
            bert,
            classifier: initialise(classifier, "classifier.", seed, config.initializer_range),
            dropout: config.head_dropout(),
        }
    }

    /// The number of classes.
    pub fn num_labels(&self) -> usize {
        self.classifier.weight.shape()[1]
    }

    /// # Shapes
    /// output: `[tokens, num_labels]`
    pub fn forward(&self, input: &EncoderInput, key: Option<Key>) -> Tensor<2> {
        let hidden = self.bert.forward(input, key);
        let site = key.and_then(|key| Dropout::new(self.dropout, Site::Head(0).key(key)));
        let bias = self.classifier.bias.as_ref().map(|bias| bias.val());
        linear(dropout(hidden, site), self.classifier.weight.val(), bias)
    }

    /// Sets every parameter from `values(name, shape)`, by the names and shapes that checkpoints have; where that is
    /// `None`, the parameter stays as it is.
    ///
    /// # Errors
    /// What `values` returns.
    pub fn set_parameters(
        self,
        values: impl FnMut(&str, &[usize]) -> bert_core::Result<Option<Vec<f32>>>,
    ) -> bert_core::Result<Self> {
        set_parameters(self, "", values)
    }

    /// The name and the shape in a checkpoint of every parameter.
    pub fn parameter_shapes(&self) -> Vec<(String, Vec<usize>)> {
        parameter_shapes(self, "")
    }

    /// Every parameter as a checkpoint holds it.
    pub fn named_parameters(&self) -> Vec<NamedTensor> {
        named_parameters(self, "")
    }
}
