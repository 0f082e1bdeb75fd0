//! BERT's multi-head self-attention.

use bert_kernels::{AttentionOptions, Dropout, attention, attention_probabilities, random::Key};
use burn::{
    module::Module,
    tensor::{Device, Tensor},
};

use crate::{config::BertConfig, dense::Dense, dropout::Site, layer::Output, lora::LoraTarget};
use bert_kernels::Sequences;

/// Self-attention, its output projection, and the normalised residual sum.
#[derive(Module, Debug)]
pub struct Attention {
    /// Queries, keys and values.
    pub self_attention: SelfAttention,
    /// Projection back and residual sum.
    pub output: Output,
}

/// The projections to queries, keys and values, `[hidden_size, hidden_size]` each.
#[derive(Module, Debug)]
pub struct SelfAttention {
    /// To queries.
    pub query: Dense,
    /// To keys.
    pub key: Dense,
    /// To values.
    pub value: Dense,
    #[module(skip)]
    num_heads: usize,
    #[module(skip)]
    dropout: f64,
}

impl Attention {
    /// An attention block whose values are not set yet.
    pub fn new(config: &BertConfig, device: &Device) -> Self {
        let size = config.hidden_size;
        let map = || Dense::new(size, size, device);
        Self {
            self_attention: SelfAttention {
                query: map(),
                key: map(),
                value: map(),
                num_heads: config.num_attention_heads,
                dropout: config.attention_probs_dropout_prob,
            },
            output: Output::new(size, config, device),
        }
    }

    /// Lets `rows`, the tokens of `queries`, attend to those of `hidden`, of `keys`; `layer` counts from 0.
    ///
    /// # Shapes
    /// - `rows`, output: `[tokens of queries, hidden_size]`
    /// - `hidden`: `[tokens of keys, hidden_size]`
    pub fn forward(
        &self,
        (rows, queries): (Tensor<2>, &Sequences),
        (hidden, keys): (Tensor<2>, &Sequences),
        layer: u32,
        dropout: Option<Key>,
    ) -> Tensor<2> {
        let SelfAttention { query, key, value, .. } = &self.self_attention;
        let adapter = |target| dropout.map(|key| Site::Lora(layer, target).key(key));
        let context = attention(
            query.forward(rows.clone(), adapter(LoraTarget::Query)),
            key.forward(hidden.clone(), adapter(LoraTarget::Key)),
            value.forward(hidden, adapter(LoraTarget::Value)),
            queries,
            keys,
            &self.options(layer, dropout),
        );
        let site = dropout.map(|key| Site::AttentionOutput(layer).key(key));
        self.output.forward(context, rows, adapter(LoraTarget::AttentionOutput), site)
    }

    /// The attention probabilities for `hidden`, without dropout.
    ///
    /// # Shapes
    /// `[sequences, num_attention_heads, max_length, max_length]`, by query and key
    pub fn probabilities(&self, hidden: Tensor<2>, sequences: &Sequences) -> Tensor<4> {
        let SelfAttention { query, key, .. } = &self.self_attention;
        attention_probabilities(
            query.forward(hidden.clone(), None),
            key.forward(hidden, None),
            sequences,
            sequences,
            &self.options(0, None),
        )
    }

    fn options(&self, layer: u32, dropout: Option<Key>) -> AttentionOptions {
        let SelfAttention { num_heads, dropout: probability, .. } = self.self_attention;
        AttentionOptions {
            dropout: dropout
                .and_then(|key| Dropout::new(probability, Site::Attention(layer).key(key))),
            ..AttentionOptions::new(num_heads)
        }
    }
}
