//! BERT's input embeddings: words, positions and token types, normalised.

use bert_kernels::{Dropout, embedding, random::Key};
use burn::{
    module::{Module, Param},
    nn::{Embedding, EmbeddingConfig, LayerNorm, LayerNormConfig},
    tensor::{Device, Int, Tensor},
};

use crate::{config::BertConfig, dropout::Site, input::EncoderInput, layer::normalise};

/// `dropout(LayerNorm(word + position + token type))`.
#[derive(Module, Debug)]
pub struct Embeddings {
    /// `[vocab_size, hidden_size]`; where words are frozen, the rows of those
    pub word_embeddings: Embedding,
    /// The rows behind them, where words are frozen and others are not, see [`freeze_words`](Self::freeze_words).
    pub new_word_embeddings: Option<Param<Tensor<2>>>,
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
            new_word_embeddings: None,
            position_embeddings: table(config.max_position_embeddings),
            token_type_embeddings: table(config.type_vocab_size),
            layer_norm: LayerNormConfig::new(config.hidden_size).init(device),
            dropout: config.hidden_dropout_prob,
            layer_norm_eps: config.layer_norm_eps,
        }
    }

    /// The word embeddings alone, moved by the input's shift where it has one.
    ///
    /// # Shapes
    /// output: `[tokens, hidden_size]`
    pub fn words(&self, input: &EncoderInput) -> Tensor<2> {
        let words = self.rows(input.input_ids.clone());
        match &input.shift {
            Some(shift) => words + shift.clone(),
            None => words,
        }
    }

    /// The rows of some words.
    fn rows(&self, ids: Tensor<1, Int>) -> Tensor<2> {
        let table = self.word_embeddings.weight.val();
        let Some(new) = &self.new_word_embeddings else { return embedding(table, ids) };
        // Both tables are asked for every token, row 0 standing in for the other's; its gradient is 0.
        let first = table.dims()[0] as i64;
        let is_new = ids.clone().greater_equal_elem(first);
        let new_ids = (ids.clone() - first).mask_fill(is_new.clone().bool_not(), 0);
        let frozen = embedding(table, ids.mask_fill(is_new.clone(), 0));
        let shape = frozen.dims();
        let is_new = is_new.unsqueeze_dim::<2>(1).expand(shape);
        frozen.mask_where(is_new, embedding(new.val(), new_ids))
    }

    /// The rows of all words.
    ///
    /// # Shapes
    /// output: `[vocab_size, hidden_size]`
    pub fn word_table(&self) -> Tensor<2> {
        let table = self.word_embeddings.weight.val();
        match &self.new_word_embeddings {
            Some(new) => Tensor::cat(vec![table, new.val()], 0),
            None => table,
        }
    }

    /// The same embeddings with other rows for the words, all of them trainable.
    ///
    /// # Shapes
    /// `table`: `[vocab_size, hidden_size]`
    pub fn with_word_table(mut self, table: Tensor<2>) -> Self {
        self.word_embeddings.weight = Param::from_tensor(table.detach());
        self.new_word_embeddings = None;
        self
    }

    /// Freezes the first `rows` words: they get no gradient, and so no update, no decay and no optimiser state. The
    /// words behind them are trained, in a tensor of their own. Positions and token types are not affected.
    ///
    /// # Panics
    /// When `rows` is 0, or there are fewer words.
    pub fn freeze_words(mut self, rows: usize) -> Self {
        let table = self.word_table().detach();
        let [all, _] = table.dims();
        assert!((1..=all).contains(&rows), "freeze_words: {rows} of {all} words");
        // Through the host: what is only a view of the table would be copied in every forward pass.
        let part = |rows: std::ops::Range<usize>| {
            Tensor::from_data(table.clone().slice([rows]).into_data(), &table.device())
        };
        let new = (rows < all).then(|| Param::from_tensor(part(rows..all)));
        let frozen = if rows < all { part(0..rows) } else { table };
        self.word_embeddings.weight = Param::from_tensor(frozen).set_require_grad(false);
        self.new_word_embeddings = new;
        self
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
