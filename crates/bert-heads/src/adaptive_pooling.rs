//! Adaptive pooling: a learned weighted sum of the hidden states, with a weight per token and dimension.

use bert_kernels::{Sequences, linear, softmax_over_tokens};
use burn::{
    module::{Module, Param},
    nn::Linear,
    tensor::{Device, Tensor},
};

/// `weights = softmax over tokens of (h W + b)`, `pooled = sum over tokens of h * weights`, per dimension.
///
/// It starts at `W = 0`, `b = 0`, which is mean pooling, and learns from there which tokens each dimension listens to.
#[derive(Module, Debug)]
pub struct AdaptivePooling {
    /// `[hidden_size, hidden_size]`
    pub linear: Linear,
}

impl AdaptivePooling {
    /// Adaptive pooling that still is mean pooling.
    pub fn new(hidden_size: usize, device: &Device) -> Self {
        Self {
            linear: Linear {
                weight: Param::from_tensor(Tensor::zeros([hidden_size, hidden_size], device)),
                bias: Some(Param::from_tensor(Tensor::zeros([hidden_size], device))),
            },
        }
    }

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
        let bias = self.linear.bias.as_ref().map(|bias| bias.val());
        linear(hidden, self.linear.weight.val(), bias)
    }
}
