//! A classifier of whole texts: task embedding, encoder, pooling, dropout, linear head.

use bert_core::{
    Bert, BertConfig, Documents, EncoderInput, NamedTensor, Site, initialise, named_parameters,
    parameter_shapes, set_parameters,
};
use bert_kernels::{Dropout, dropout, linear, random::Key};
use burn::{
    module::Module,
    nn::{Linear, LinearConfig},
    tensor::{Device, Tensor},
};

use crate::{
    layer_mixture::LayerMixture,
    pooling::{Pooling, PoolingKind},
    task_embedding::{TaskEmbedding, TaskEmbeddingKind},
};

/// What a [`SequenceClassifier`] is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SequenceClassifierConfig {
    /// What is done to the word embeddings on their way in.
    pub task_embedding: Option<TaskEmbeddingKind>,
    /// How a text's hidden states become one vector.
    pub pooling: PoolingKind,
    /// Whether all layers are mixed before pooling, or the last one is taken.
    pub layer_mixture: bool,
    /// The number of classes.
    pub num_labels: usize,
}

/// `logits = dropout(pooling(hidden states)) W + b`.
///
/// With pooling `cls`, no task embedding and no layer mixture it is Hugging Face's `BertForSequenceClassification`, name for name.
#[derive(Module, Debug)]
pub struct SequenceClassifier {
    /// The map of the word embeddings; without one, they go in as they are.
    pub task_embedding: Option<TaskEmbedding>,
    /// The encoder.
    pub bert: Bert,
    /// The mixture of all layers; without one, the last hidden states are pooled.
    pub layer_mixture: Option<LayerMixture>,
    /// One vector a text.
    pub pooling: Pooling,
    /// `[hidden_size, num_labels]`
    pub classifier: Linear,
    #[module(skip)]
    pub(crate) dropout: f64,
}

impl SequenceClassifier {
    /// A classifier around `bert`, whose own parts are at their starting values, drawn from `seed`.
    pub fn new(
        bert: Bert,
        bert_config: &BertConfig,
        config: SequenceClassifierConfig,
        seed: u64,
        device: &Device,
    ) -> Self {
        let classifier = LinearConfig::new(bert_config.hidden_size, config.num_labels).init(device);
        Self {
            task_embedding: config
                .task_embedding
                .map(|kind| TaskEmbedding::new(kind, bert_config.hidden_size, seed, device)),
            bert,
            layer_mixture: config
                .layer_mixture
                .then(|| LayerMixture::new(bert_config.num_hidden_layers, device)),
            pooling: Pooling::new(config.pooling, bert_config, seed, device),
            classifier: initialise(classifier, "classifier.", seed, bert_config.initializer_range),
            dropout: bert_config.head_dropout(),
        }
    }

    /// The number of classes.
    pub fn num_labels(&self) -> usize {
        self.classifier.weight.shape()[1]
    }

    /// The width of the hidden states.
    pub fn hidden_size(&self) -> usize {
        self.classifier.weight.shape()[0]
    }

    /// # Shapes
    /// output: `[texts, num_labels]`
    pub fn forward(&self, input: &EncoderInput, key: Option<Key>) -> Tensor<2> {
        self.forward_states(self.states(input, key), &input.documents, key)
    }

    /// The logits for what the pooling reads of the hidden states.
    ///
    /// # Shapes
    /// output: `[texts, num_labels]`
    pub fn forward_states(
        &self,
        states: Vec<Tensor<2>>,
        documents: &Documents,
        key: Option<Key>,
    ) -> Tensor<2> {
        self.head(self.pool(states, documents), key)
    }

    /// The logits, and how much each pooled token counts for each dimension of the pooled vector.
    ///
    /// # Shapes
    /// output: `[texts, num_labels]` and `[pooled tokens, hidden_size]`
    pub fn forward_with_weights(&self, input: &EncoderInput) -> (Tensor<2>, Tensor<2>) {
        let hidden = self.mix(self.all_states(input, None));
        let weights = self.pooling.pooled_weights(hidden.clone(), input);
        let pooled = self.pooling.pool(self.pooling.read(hidden, input), &input.documents);
        (self.head(pooled, None), weights)
    }

    fn head(&self, pooled: Tensor<2>, key: Option<Key>) -> Tensor<2> {
        let site = key.and_then(|key| Dropout::new(self.dropout, Site::Head(0).key(key)));
        let bias = self.classifier.bias.as_ref().map(|bias| bias.val());
        linear(dropout(pooled, site), self.classifier.weight.val(), bias)
    }

    /// One vector a text, before the head.
    ///
    /// # Shapes
    /// output: `[texts, hidden_size]`
    pub fn pooled(&self, input: &EncoderInput, key: Option<Key>) -> Tensor<2> {
        self.pool(self.states(input, key), &input.documents)
    }

    fn pool(&self, states: Vec<Tensor<2>>, documents: &Documents) -> Tensor<2> {
        self.pooling.pool(self.mix(states), documents)
    }

    /// What the pooling reads of the hidden states: of the last layer, or of the embeddings and every layer where they are mixed;
    /// of the tokens that are pooled, or of the first token of each sequence.
    ///
    /// # Shapes
    /// output: [`states_read`](Self::states_read) tensors `[pooled tokens, hidden_size]` or `[sequences, hidden_size]`
    pub fn states(&self, input: &EncoderInput, key: Option<Key>) -> Vec<Tensor<2>> {
        if self.layer_mixture.is_none() && self.reads_first_tokens() {
            return vec![self.bert.forward_first(self.words(input), input, key)];
        }
        let states = self.all_states(input, key).into_iter();
        states.map(|state| self.pooling.read(state, input)).collect()
    }

    /// Whether the pooling reads the first token of each sequence alone.
    pub fn reads_first_tokens(&self) -> bool {
        self.pooling.reads_first_token()
    }

    /// The number of layers whose hidden states are read.
    pub fn states_read(&self) -> usize {
        match self.layer_mixture {
            Some(_) => self.bert.encoder.layer.len() + 1,
            None => 1,
        }
    }

    /// Sets every parameter from `values(name, shape)`, by the names and shapes that checkpoints have; where that is
    /// `None`, the parameter stays as it is. Words are frozen afterwards: these are the names of one table.
    ///
    /// # Errors
    /// What `values` returns.
    pub fn set_parameters(
        self,
        mut values: impl FnMut(&str, &[usize]) -> bert_core::Result<Option<Vec<f32>>>,
    ) -> bert_core::Result<Self> {
        set_parameters(self, "", |name, shape| values(&checkpoint_name(name), shape))
    }

    /// The name and the shape in a checkpoint of every parameter.
    pub fn parameter_shapes(&self) -> Vec<(String, Vec<usize>)> {
        let shapes = parameter_shapes(self, "").into_iter();
        shapes.map(|(name, shape)| (checkpoint_name(&name), shape)).collect()
    }

    /// Every parameter as a checkpoint holds it: also of words that were frozen there is one table.
    pub fn named_parameters(&self) -> Vec<NamedTensor> {
        let mut whole = self.clone();
        let table = whole.bert.embeddings.word_table();
        whole.bert.embeddings = whole.bert.embeddings.with_word_table(table);
        let mut tensors = named_parameters(&whole, "");
        for tensor in &mut tensors {
            tensor.name = checkpoint_name(&tensor.name);
        }
        tensors
    }

    /// The same model, whose `layers` highest layers and BERT's pooler begin anew; see [`Bert::reinitialise`].
    ///
    /// # Panics
    /// When there are fewer layers.
    pub fn reinitialise(mut self, layers: usize, config: &BertConfig, seed: u64) -> Self {
        self.bert = self.bert.reinitialise(layers, config, seed);
        self.pooling = self.pooling.reinitialise(config, seed);
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

    /// The word embeddings that the encoder gets.
    fn words(&self, input: &EncoderInput) -> Tensor<2> {
        let words = self.bert.embeddings.words(input);
        match &self.task_embedding {
            Some(task_embedding) => task_embedding.forward(words),
            None => words,
        }
    }

    /// The last hidden states, or those of all layers where they are mixed, of every token.
    fn all_states(&self, input: &EncoderInput, key: Option<Key>) -> Vec<Tensor<2>> {
        let words = self.words(input);
        match self.layer_mixture {
            Some(_) => self.bert.hidden_states_words(words, input, key),
            None => vec![self.bert.forward_words(words, input, key)],
        }
    }

    /// The only hidden states, or the mixture of all.
    fn mix(&self, mut states: Vec<Tensor<2>>) -> Tensor<2> {
        match &self.layer_mixture {
            Some(mixture) => mixture.forward(states),
            None => states.swap_remove(0),
        }
    }
}

/// BERT's pooler is a pooling here, and a part of the encoder in checkpoints.
fn checkpoint_name(name: &str) -> String {
    name.replace("pooling.dense.", "bert.pooler.dense.")
}
