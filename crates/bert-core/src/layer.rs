//! One layer of the encoder: attention, then feed-forward, each with a normalised residual sum.

use bert_kernels::{Dropout, Sequences, gelu, gelu_new, layer_norm, linear, random::Key};
use burn::{
    module::Module,
    nn::{LayerNorm, LayerNormConfig, Linear, LinearConfig},
    tensor::{Device, Tensor, activation::relu},
};

use crate::{
    attention::Attention,
    config::{BertConfig, HiddenAct},
    dropout::Site,
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
    pub dense: Linear,
    #[module(skip)]
    act: HiddenAct,
}

/// `LayerNorm(dropout(x W + b) + residual)`.
#[derive(Module, Debug)]
pub struct Output {
    /// The projection to `hidden_size`.
    pub dense: Linear,
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
        let dense = LinearConfig::new(config.hidden_size, config.intermediate_size).init(device);
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
        let wide = self.intermediate.forward(rows.clone());
        let site = dropout.map(|key| Site::FeedForwardOutput(index).key(key));
        self.output.forward(wide, rows, site)
    }
}

impl Intermediate {
    /// # Shapes
    /// `[tokens, hidden_size]` to `[tokens, intermediate_size]`
    pub fn forward(&self, hidden: Tensor<2>) -> Tensor<2> {
        let wide = project(&self.dense, hidden);
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
            dense: LinearConfig::new(width, config.hidden_size).init(device),
            layer_norm: LayerNormConfig::new(config.hidden_size).init(device),
            dropout: config.hidden_dropout_prob,
            layer_norm_eps: config.layer_norm_eps,
        }
    }

    /// `site` is the key of this dropout site.
    ///
    /// # Shapes
    /// - `x`: `[tokens, width]`
    /// - `residual`, output: `[tokens, hidden_size]`
    pub fn forward(&self, x: Tensor<2>, residual: Tensor<2>, site: Option<Key>) -> Tensor<2> {
        normalise(
            (&self.layer_norm, self.layer_norm_eps),
            project(&self.dense, x),
            Some(residual),
            site.and_then(|key| Dropout::new(self.dropout, key)),
        )
    }
}

/// `x W + b` with a layer's parameters.
pub(crate) fn project(layer: &Linear, x: Tensor<2>) -> Tensor<2> {
    linear(x, layer.weight.val(), layer.bias.as_ref().map(|bias| bias.val()))
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
