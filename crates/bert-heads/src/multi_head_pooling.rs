//! Multi-head attention pooling: several weights a token, each for its own slice of the pooled vector.

use bert_kernels::{
    Sequences, linear,
    random::{Purpose, Stream},
    softmax_over_tokens,
};
use burn::{
    module::{Module, Param},
    nn::Linear,
    tensor::{Device, Tensor, TensorData},
};

/// For each head `j` of `H`, with a query `q_j`:
/// `weights_j = softmax over tokens of q_j . tanh(h W + b)`,
/// `pooled_j = sum over tokens of v_j * weights_j`, where `v = h + h V + c` and `v_j` is its `j`-th slice of
/// `hidden_size / H` dimensions; `pooled` is all `pooled_j` side by side.
///
/// It starts at `W` normal(0.02), `b = 0`, `q = 0`, `V = 0`, `c = 0`, which is mean pooling. `V` is the difference to the
/// identity, so that weight decay pulls the values back to the hidden states.
///
/// # Source
/// Lin et al.: "A Structured Self-attentive Sentence Embedding" (arXiv:1703.03130), equation 6, for several weights a token;
/// Vaswani et al.: "Attention Is All You Need" (arXiv:1706.03762), section 3.2.2, for heads on slices of mapped values.
#[derive(Module, Debug)]
pub struct MultiHeadPooling {
    /// `W` and `b`: `[hidden_size, hidden_size]`
    pub linear: Linear,
    /// `q`, a column a head: `[hidden_size, heads]`
    pub queries: Param<Tensor<2>>,
    /// `V` and `c`: `[hidden_size, hidden_size]`
    pub value: Linear,
}

impl MultiHeadPooling {
    /// Multi-head pooling that still is mean pooling; `W` is drawn from `seed`.
    ///
    /// # Panics
    /// When `hidden_size` is no multiple of `heads`.
    pub fn new(hidden_size: usize, heads: usize, seed: u64, device: &Device) -> Self {
        assert!(
            heads > 0 && hidden_size.is_multiple_of(heads),
            "hidden_size {hidden_size} must be a multiple of the {heads} heads"
        );
        const STD: f32 = 0.02;
        let mut stream = Stream::new(seed, Purpose::Init, 0);
        let weight = (0..hidden_size * hidden_size).map(|_| stream.normal() * STD).collect();
        let weight = TensorData::new::<f32, _>(weight, [hidden_size, hidden_size]);
        let map = |weight: Tensor<2>| Linear {
            weight: Param::from_tensor(weight),
            bias: Some(Param::from_tensor(Tensor::zeros([hidden_size], device))),
        };
        Self {
            linear: map(Tensor::from_data(weight, device)),
            queries: Param::from_tensor(Tensor::zeros([hidden_size, heads], device)),
            value: map(Tensor::zeros([hidden_size, hidden_size], device)),
        }
    }

    /// What is pooled: the hidden states, mapped.
    ///
    /// # Shapes
    /// `hidden`, output: `[tokens, hidden_size]`
    pub fn values(&self, hidden: Tensor<2>) -> Tensor<2> {
        let bias = self.value.bias.as_ref().map(|bias| bias.val());
        hidden.clone() + linear(hidden, self.value.weight.val(), bias)
    }

    /// The weights of each head, repeated over its dimensions.
    ///
    /// # Shapes
    /// `hidden`, output: `[tokens, hidden_size]`
    pub fn weights(&self, hidden: Tensor<2>, sequences: &Sequences) -> Tensor<2> {
        softmax_over_tokens(self.scores(hidden), sequences)
    }

    /// What the weights are the softmax of.
    ///
    /// # Shapes
    /// `hidden`, output: `[tokens, hidden_size]`
    pub fn scores(&self, hidden: Tensor<2>) -> Tensor<2> {
        let [tokens, hidden_size] = hidden.dims();
        let [_, heads] = self.queries.dims();
        let bias = self.linear.bias.as_ref().map(|bias| bias.val());
        let inner = linear(hidden, self.linear.weight.val(), bias).tanh();
        let scores = inner.matmul(self.queries.val()).unsqueeze_dim::<3>(2);
        scores.expand([tokens, heads, hidden_size / heads]).reshape([tokens, hidden_size])
    }
}
