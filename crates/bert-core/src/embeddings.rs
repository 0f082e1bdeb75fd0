//! BERT's input embeddings: words, positions and token types, normalised.

use bert_kernels::{Dropout, embedding, random::Key};
use burn::{
    module::Module,
    nn::{Embedding, EmbeddingConfig, LayerNorm, LayerNormConfig},
    tensor::{Device, Tensor},
};

use crate::{config::BertConfig, dropout::Site, input::EncoderInput, layer::normalise};

/// `dropout(LayerNorm(word + position + token type))`.
#[derive(Module, Debug)]
pub struct Embeddings {
    /// `[vocab_size, hidden_size]`
    pub word_embeddings: Embedding,
    /// `[max_position_embeddings, hidden_size]`
    pub position_embeddings: Embedding,
    /// `[type_vocab_size, hidden_size]`
    pub token_type_embeddings: Embedding,
    /// Normalisation of the sum.
    pub layer_norm: LayerNorm,
    #[module(skip)]
    dropout: f64,
    #[module(skip)]
    layer_norm_eps: f64,
}

impl Embeddings {
    /// Embeddings whose values are not set yet.
    pub fn new(config: &BertConfig, device: &Device) -> Self {
        let table = |rows| EmbeddingConfig::new(rows, config.hidden_size).init(device);
        Self {
            word_embeddings: table(config.vocab_size),
            position_embeddings: table(config.max_position_embeddings),
            token_type_embeddings: table(config.type_vocab_size),
            layer_norm: LayerNormConfig::new(config.hidden_size).init(device),
            dropout: config.hidden_dropout_prob,
            layer_norm_eps: config.layer_norm_eps,
        }
    }

    /// The word embeddings alone.
    ///
    /// # Shapes
    /// output: `[tokens, hidden_size]`
    pub fn words(&self, input: &EncoderInput) -> Tensor<2> {
        embedding(self.word_embeddings.weight.val(), input.input_ids.clone())
    }

    /// Adds positions and token types to word embeddings and normalises the sum.
    ///
    /// # Shapes
    /// `words`, output: `[tokens, hidden_size]`
    pub fn forward(
        &self,
        words: Tensor<2>,
        input: &EncoderInput,
        dropout: Option<Key>,
    ) -> Tensor<2> {
        let positions =
            embedding(self.position_embeddings.weight.val(), input.position_ids.clone());
        let types =
            embedding(self.token_type_embeddings.weight.val(), input.token_type_ids.clone());
        let norm = (&self.layer_norm, self.layer_norm_eps);
        let hidden = normalise(norm, words + types, Some(positions), None);
        let site = dropout.and_then(|key| Dropout::new(self.dropout, Site::Embeddings.key(key)));
        bert_kernels::dropout(hidden, site)
    }
}
