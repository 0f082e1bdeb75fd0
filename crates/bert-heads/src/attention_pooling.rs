//! Attention pooling: a learned weighted sum of the hidden states, with one weight a token.

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

/// `weights = softmax over tokens of v . tanh(h W + b)`, `pooled = sum over tokens of h * weights`.
///
/// It starts at `W` normal(0.02), `b = 0`, `v = 0`, which is mean pooling.
///
/// # Source
/// Yang et al.: "Hierarchical Attention Networks for Document Classification" (NAACL 2016), equations 5 to 7.
#[derive(Module, Debug)]
pub struct AttentionPooling {
    /// `[hidden_size, hidden_size]`
    pub linear: Linear,
    /// `[hidden_size]`
    pub vector: Param<Tensor<1>>,
}

impl AttentionPooling {
    /// Attention pooling that still is mean pooling; `W` is drawn from `seed`.
    pub fn new(hidden_size: usize, seed: u64, device: &Device) -> Self {
        const STD: f32 = 0.02;
        let mut stream = Stream::new(seed, Purpose::Init, 0);
        let weight = (0..hidden_size * hidden_size).map(|_| stream.normal() * STD).collect();
        let weight = TensorData::new::<f32, _>(weight, [hidden_size, hidden_size]);
        Self {
            linear: Linear {
                weight: Param::from_tensor(Tensor::from_data(weight, device)),
                bias: Some(Param::from_tensor(Tensor::zeros([hidden_size], device))),
            },
            vector: Param::from_tensor(Tensor::zeros([hidden_size], device)),
        }
    }

    /// # Shapes
    /// - `hidden`: `[tokens, hidden_size]`
    /// - output: `[tokens, 1]`
    pub fn weights(&self, hidden: Tensor<2>, sequences: &Sequences) -> Tensor<2> {
        softmax_over_tokens(self.scores(hidden), sequences)
    }

    /// What the weights are the softmax of.
    ///
    /// # Shapes
    /// - `hidden`: `[tokens, hidden_size]`
    /// - output: `[tokens, 1]`
    pub fn scores(&self, hidden: Tensor<2>) -> Tensor<2> {
        let bias = self.linear.bias.as_ref().map(|bias| bias.val());
        let inner = linear(hidden, self.linear.weight.val(), bias).tanh();
        inner.matmul(self.vector.val().unsqueeze_dim(1))
    }
}
