//! BERT's multi-head self-attention.

use bert_kernels::{AttentionOptions, Dropout, attention, attention_probabilities, random::Key};
use burn::{
    module::Module,
    nn::{Linear, LinearConfig},
    tensor::{Device, Tensor},
};

use crate::{
    config::BertConfig,
    dropout::Site,
    layer::{Output, project},
};
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
    pub query: Linear,
    /// To keys.
    pub key: Linear,
    /// To values.
    pub value: Linear,
    #[module(skip)]
    num_heads: usize,
    #[module(skip)]
    dropout: f64,
}

impl Attention {
    /// An attention block whose values are not set yet.
    pub fn new(config: &BertConfig, device: &Device) -> Self {
        let size = config.hidden_size;
        let linear = || LinearConfig::new(size, size).init(device);
        Self {
            self_attention: SelfAttention {
                query: linear(),
                key: linear(),
                value: linear(),
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
        let context = attention(
            project(query, rows.clone()),
            project(key, hidden.clone()),
            project(value, hidden),
            queries,
            keys,
            &self.options(layer, dropout),
        );
        let site = dropout.map(|key| Site::AttentionOutput(layer).key(key));
        self.output.forward(context, rows, site)
    }

    /// The attention probabilities for `hidden`, without dropout.
    ///
    /// # Shapes
    /// `[sequences, num_attention_heads, max_length, max_length]`, by query and key
    pub fn probabilities(&self, hidden: Tensor<2>, sequences: &Sequences) -> Tensor<4> {
        let SelfAttention { query, key, .. } = &self.self_attention;
        attention_probabilities(
            project(query, hidden.clone()),
            project(key, hidden),
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
