//! The affine maps of the encoder, each with room for an adapter.

use bert_kernels::{linear, random::Key};
use burn::{
    module::{Module, Param},
    nn::{Linear, LinearConfig},
    tensor::{Device, Tensor},
};

use crate::lora::{Lora, LoraConfig};

/// `x W + b`, and what an adapter adds to it.
#[derive(Module, Debug)]
pub struct Dense {
    /// `[in, out]`
    pub weight: Param<Tensor<2>>,
    /// `[out]`
    pub bias: Param<Tensor<1>>,
    /// The adapter; without one, the map is what it is.
    pub lora: Option<Lora>,
}

impl Dense {
    /// A map whose values are not set yet.
    pub(crate) fn new(inputs: usize, outputs: usize, device: &Device) -> Self {
        let Linear { weight, bias } = LinearConfig::new(inputs, outputs).init(device);
        let bias = bias.expect("a linear map has a bias"); // INVARIANT: the config's default
        Self { weight, bias, lora: None }
    }

    /// `site` is the key of the adapter's dropout.
    ///
    /// # Shapes
    /// `[tokens, in]` to `[tokens, out]`
    pub fn forward(&self, x: Tensor<2>, site: Option<Key>) -> Tensor<2> {
        let (weight, bias) = (self.weight.val(), Some(self.bias.val()));
        match &self.lora {
            Some(lora) => lora.add(linear(x.clone(), weight, bias), x, site),
            None => linear(x, weight, bias),
        }
    }

    /// Puts an adapter beside the map; `name` decides, with `seed`, what it starts from.
    pub(crate) fn adapt(&mut self, config: &LoraConfig, name: &str, seed: u64) {
        let [inputs, outputs] = self.weight.shape().dims();
        let device = self.weight.device();
        self.lora = Some(Lora::new(config, [inputs, outputs], name, seed, &device));
    }
}
