//! One layer of the encoder: attention, then feed-forward, each with a normalised residual sum.

use bert_kernels::{Dropout, Sequences, gelu, gelu_new, layer_norm, random::Key};
use burn::{
    module::Module,
    nn::{LayerNorm, LayerNormConfig},
    tensor::{Device, Tensor, activation::relu},
};

use crate::{
    attention::Attention,
    config::{BertConfig, HiddenAct},
    dense::Dense,
    dropout::Site,
    lora::{LoraConfig, LoraTarget},
    pooler::first_tokens,
};

/// `h = Attention(x)`, `Output(act(Intermediate(h)), h)`.
///
/// # Source
/// Devlin et al.: "BERT" (arXiv:1810.04805); Vaswani et al. (arXiv:1706.03762), section 3.
#[derive(Module, Debug)]
pub struct Layer {
    /// Attention with its residual sum.
    pub attention: Attention,
    /// The widening half of the feed-forward part.
    pub intermediate: Intermediate,
    /// The narrowing half, with its residual sum.
    pub output: Output,
}

/// `act(x W + b)`, `[hidden_size, intermediate_size]`.
#[derive(Module, Debug)]
pub struct Intermediate {
    /// The projection.
    pub dense: Dense,
    #[module(skip)]
    act: HiddenAct,
}

/// `LayerNorm(dropout(x W + b) + residual)`.
#[derive(Module, Debug)]
pub struct Output {
    /// The projection to `hidden_size`.
    pub dense: Dense,
    /// Normalisation of the residual sum.
    pub layer_norm: LayerNorm,
    #[module(skip)]
    dropout: f64,
    #[module(skip)]
    layer_norm_eps: f64,
}

impl Layer {
    /// A layer whose values are not set yet.
    pub fn new(config: &BertConfig, device: &Device) -> Self {
        let dense = Dense::new(config.hidden_size, config.intermediate_size, device);
        Self {
            attention: Attention::new(config, device),
            intermediate: Intermediate { dense, act: config.hidden_act },
            output: Output::new(config.intermediate_size, config, device),
        }
    }

    /// `index` counts the layers from 0.
    ///
    /// # Shapes
    /// `hidden`, output: `[tokens, hidden_size]`
    pub fn forward(
        &self,
        hidden: Tensor<2>,
        sequences: &Sequences,
        index: u32,
        dropout: Option<Key>,
    ) -> Tensor<2> {
        self.forward_rows((hidden.clone(), sequences), (hidden, sequences), index, dropout)
    }

    /// The layer for the first token of each sequence alone: all others are only attended to.
    ///
    /// Its values are those of [`forward`](Self::forward), at a fraction of the cost. Dropout counts the rows of what
    /// is computed, so that the bits behind the two output projections are others than there.
    ///
    /// # Shapes
    /// `[tokens, hidden_size]` to `[sequences, hidden_size]`
    pub fn forward_first(
        &self,
        hidden: Tensor<2>,
        sequences: &Sequences,
        index: u32,
        dropout: Option<Key>,
    ) -> Tensor<2> {
        let first = first_tokens(hidden.clone(), sequences);
        let queries = sequences.first_tokens();
        self.forward_rows((first, &queries), (hidden, sequences), index, dropout)
    }

    fn forward_rows(
        &self,
        rows: (Tensor<2>, &Sequences),
        hidden: (Tensor<2>, &Sequences),
        index: u32,
        dropout: Option<Key>,
    ) -> Tensor<2> {
        let rows = self.attention.forward(rows, hidden, index, dropout);
        let adapter = |target| dropout.map(|key| Site::Lora(index, target).key(key));
        let wide = self.intermediate.forward(rows.clone(), adapter(LoraTarget::Intermediate));
        let site = dropout.map(|key| Site::FeedForwardOutput(index).key(key));
        self.output.forward(wide, rows, adapter(LoraTarget::Output), site)
    }

    /// Puts adapters beside the maps that `config` names; `index` counts the layers from 0.
    pub(crate) fn adapt(&mut self, config: &LoraConfig, index: usize, seed: u64) {
        let Self { attention, intermediate, output } = self;
        for target in &config.targets {
            let map = match target {
                LoraTarget::Query => &mut attention.self_attention.query,
                LoraTarget::Key => &mut attention.self_attention.key,
                LoraTarget::Value => &mut attention.self_attention.value,
                LoraTarget::AttentionOutput => &mut attention.output.dense,
                LoraTarget::Intermediate => &mut intermediate.dense,
                LoraTarget::Output => &mut output.dense,
            };
            map.adapt(config, &format!("encoder.layer.{index}.{}", target.path()), seed);
        }
    }
}

impl Intermediate {
    /// `adapter` is the key of the dropout of an adapter.
    ///
    /// # Shapes
    /// `[tokens, hidden_size]` to `[tokens, intermediate_size]`
    pub fn forward(&self, hidden: Tensor<2>, adapter: Option<Key>) -> Tensor<2> {
        let wide = self.dense.forward(hidden, adapter);
        match self.act {
            HiddenAct::Gelu => gelu(wide),
            HiddenAct::GeluNew => gelu_new(wide),
            HiddenAct::Relu => relu(wide),
        }
    }
}

impl Output {
    /// A projection from `width` whose values are not set yet.
    pub(crate) fn new(width: usize, config: &BertConfig, device: &Device) -> Self {
        Self {
            dense: Dense::new(width, config.hidden_size, device),
            layer_norm: LayerNormConfig::new(config.hidden_size).init(device),
            dropout: config.hidden_dropout_prob,
            layer_norm_eps: config.layer_norm_eps,
        }
    }

    /// `adapter` and `site` are the keys of the dropout of an adapter and of this one's.
    ///
    /// # Shapes
    /// - `x`: `[tokens, width]`
    /// - `residual`, output: `[tokens, hidden_size]`
    pub fn forward(
        &self,
        x: Tensor<2>,
        residual: Tensor<2>,
        adapter: Option<Key>,
        site: Option<Key>,
    ) -> Tensor<2> {
        normalise(
            (&self.layer_norm, self.layer_norm_eps),
            self.dense.forward(x, adapter),
            Some(residual),
            site.and_then(|key| Dropout::new(self.dropout, key)),
        )
    }
}

/// `LayerNorm(dropout(x) + residual)` with a norm's parameters and epsilon.
pub(crate) fn normalise(
    (norm, epsilon): (&LayerNorm, f64),
    x: Tensor<2>,
    residual: Option<Tensor<2>>,
    dropout: Option<Dropout>,
) -> Tensor<2> {
    let weight = norm.gamma.val();
    let bias = match &norm.beta {
        Some(bias) => bias.val(),
        None => weight.zeros_like(),
    };
    layer_norm(x, residual, dropout, weight, bias, epsilon)
}
