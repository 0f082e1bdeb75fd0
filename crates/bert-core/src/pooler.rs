//! BERT's pooler.

use burn::{
    module::Module,
    nn::{Linear, LinearConfig},
    tensor::{Device, Int, Tensor},
};

use bert_kernels::{Sequences, linear};

use crate::config::BertConfig;

/// `tanh(W h + b)` of the first token of each sequence, [CLS].
#[derive(Module, Debug)]
pub struct Pooler {
    /// `[hidden_size, hidden_size]`
    pub dense: Linear,
}

impl Pooler {
    /// A pooler whose values are not set yet.
    pub fn new(config: &BertConfig, device: &Device) -> Self {
        let size = config.hidden_size;
        Self { dense: LinearConfig::new(size, size).init(device) }
    }

    /// # Shapes
    /// `[tokens, hidden_size]` to `[sequences, hidden_size]`
    pub fn forward(&self, hidden: Tensor<2>, sequences: &Sequences) -> Tensor<2> {
        let bias = self.dense.bias.as_ref().map(|bias| bias.val());
        linear(first_tokens(hidden, sequences), self.dense.weight.val(), bias).tanh()
    }
}

/// The hidden state of the first token of each sequence.
///
/// # Shapes
/// `[tokens, hidden_size]` to `[sequences, hidden_size]`
pub fn first_tokens(hidden: Tensor<2>, sequences: &Sequences) -> Tensor<2> {
    let starts: Vec<i64> = sequences.ranges().map(|range| range.start as i64).collect();
    let starts = Tensor::<1, Int>::from_data(starts.as_slice(), &hidden.device());
    hidden.select(0, starts)
}
