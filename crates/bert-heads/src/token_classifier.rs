//! A classifier of tokens: task embedding, encoder, dropout, linear head on every token.

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

use crate::task_embedding::{TaskEmbedding, TaskEmbeddingKind};

/// What a [`TokenClassifier`] is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenClassifierConfig {
    /// What is done to the word embeddings on their way in.
    pub task_embedding: Option<TaskEmbeddingKind>,
    /// The number of classes.
    pub num_labels: usize,
}

/// `logits = dropout(last hidden states) W + b`, for every token.
///
/// Without task embedding it is Hugging Face's `BertForTokenClassification`, name for name.
#[derive(Module, Debug)]
pub struct TokenClassifier {
    /// The map of the word embeddings; without one, they go in as they are.
    pub task_embedding: Option<TaskEmbedding>,
    /// The encoder.
    pub bert: Bert,
    /// `[hidden_size, num_labels]`
    pub classifier: Linear,
    #[module(skip)]
    dropout: f64,
}

impl TokenClassifier {
    /// A classifier around `bert`, whose own parts are at their starting values, drawn from `seed`.
    pub fn new(
        bert: Bert,
        bert_config: &BertConfig,
        config: TokenClassifierConfig,
        seed: u64,
        device: &Device,
    ) -> Self {
        let size = bert_config.hidden_size;
        let classifier = LinearConfig::new(size, config.num_labels).init(device);
        Self {
            task_embedding: config
                .task_embedding
                .map(|kind| TaskEmbedding::new(kind, size, seed, device)),
            bert,
            classifier: initialise(classifier, "classifier.", seed, bert_config.initializer_range),
            dropout: bert_config.head_dropout(),
        }
    }

    /// The number of classes.
    pub fn num_labels(&self) -> usize {
        self.classifier.weight.shape()[1]
    }

    /// # Shapes
    /// output: `[tokens, num_labels]`
    pub fn forward(&self, input: &EncoderInput, key: Option<Key>) -> Tensor<2> {
        let words = self.bert.embeddings.words(input);
        let words = match &self.task_embedding {
            Some(task_embedding) => task_embedding.forward(words),
            None => words,
        };
        let hidden = self.bert.forward_words(words, input, key);
        let site = key.and_then(|key| Dropout::new(self.dropout, Site::Head(0).key(key)));
        let bias = self.classifier.bias.as_ref().map(|bias| bias.val());
        linear(dropout(hidden, site), self.classifier.weight.val(), bias)
    }

    /// Sets every parameter from `values(name, shape)`, by the names and shapes that checkpoints have; where that is
    /// `None`, the parameter stays as it is. Words are frozen afterwards: these are the names of one table.
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

    /// Every parameter as a checkpoint holds it: also of words that were frozen there is one table.
    pub fn named_parameters(&self) -> Vec<NamedTensor> {
        let mut whole = self.clone();
        let table = whole.bert.embeddings.word_table();
        whole.bert.embeddings = whole.bert.embeddings.with_word_table(table);
        named_parameters(&whole, "")
    }

    /// The same model, whose `layers` highest layers begin anew; see [`Bert::reinitialise`].
    ///
    /// # Panics
    /// When there are fewer layers.
    pub fn reinitialise(mut self, layers: usize, config: &BertConfig, seed: u64) -> Self {
        self.bert = self.bert.reinitialise(layers, config, seed);
        self
    }

    /// The same classifier without a task embedding: it is folded into the word embeddings.
    pub fn fold_task_embedding(mut self) -> Self {
        if let Some(task_embedding) = self.task_embedding.take() {
            let table = task_embedding.fold(self.bert.embeddings.word_table());
            self.bert.embeddings = self.bert.embeddings.with_word_table(table);
        }
        self
    }
}
