//! A learned mixture of the hidden states of all layers.

use bert_kernels::mixture;
use burn::{
    module::{Module, Param},
    tensor::{Device, Tensor, activation::softmax},
};

/// `gamma * sum over layers of softmax(s)_l h_l`, over the embeddings and every layer's output.
///
/// It starts at `s = 0`, `gamma = 1`: the mean of all layers.
///
/// # Source
/// Peters et al.: "Deep contextualized word representations" (arXiv:1802.05365), equation 1.
#[derive(Module, Debug)]
pub struct LayerMixture {
    /// `s`, `[num_hidden_layers + 1]`
    pub scalars: Param<Tensor<1>>,
    /// `[1]`
    pub gamma: Param<Tensor<1>>,
}

impl LayerMixture {
    /// The mean of the embeddings and `num_hidden_layers` layers.
    pub fn new(num_hidden_layers: usize, device: &Device) -> Self {
        Self {
            scalars: Param::from_tensor(Tensor::zeros([num_hidden_layers + 1], device)),
            gamma: Param::from_tensor(Tensor::ones([1], device)),
        }
    }

    /// The share of each layer, `[num_hidden_layers + 1]`, from the embeddings up; they sum to 1.
    pub fn weights(&self) -> Tensor<1> {
        softmax(self.scalars.val(), 0)
    }

    /// # Shapes
    /// `hidden_states`: `num_hidden_layers + 1` tensors `[tokens, hidden_size]`, the shape of the output
    ///
    /// # Panics
    /// When there are more or fewer hidden states than weights.
    pub fn forward(&self, hidden_states: Vec<Tensor<2>>) -> Tensor<2> {
        mixture(self.weights() * self.gamma.val(), hidden_states)
    }
}
