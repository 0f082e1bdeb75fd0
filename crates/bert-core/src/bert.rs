//! The model without a head: embeddings and encoder layers.

use bert_kernels::{Sequences, random::Key, recompute};
use burn::{
    module::Module,
    tensor::{Device, Tensor},
};

use crate::{
    config::BertConfig, embeddings::Embeddings, input::EncoderInput, layer::Layer,
    lora::LoraConfig, parameters::initialise,
};

/// BERT without a head.
///
/// Activations are flat, `[tokens, hidden_size]`. Every forward function takes the key of the pass's dropout, see
/// [`pass_key`](crate::pass_key); with `None` nothing is dropped.
///
/// # Source
/// Devlin et al.: "BERT" (arXiv:1810.04805).
#[derive(Module, Debug)]
pub struct Bert {
    /// Words, positions and token types.
    pub embeddings: Embeddings,
    /// The layers, from the input up.
    pub encoder: Encoder,
}

/// The stack of layers.
#[derive(Module, Debug)]
pub struct Encoder {
    /// From the input up.
    pub layer: Vec<Layer>,
    /// Each layer but the last keeps its input alone between forward and backward, where it runs again: less memory for the time
    /// of a second forward. Values and what is dropped stay the same, and so do
    /// gradients, to the bit where no hidden state has readers beside the next layer, and else but for the order in which they are added.
    ///
    /// The last layer's way back begins while all inputs still wait: to run it again would save nothing.
    ///
    /// # Source
    /// Chen et al.: "Training Deep Nets with Sublinear Memory Cost" (arXiv:1604.06174), section 3, with a segment for each layer.
    #[module(skip)]
    pub recompute: bool,
}

impl Encoder {
    /// Runs the layer `index`, counted from 0.
    ///
    /// # Shapes
    /// `[tokens, hidden_size]`, and out again
    fn run(
        &self,
        index: usize,
        hidden: Tensor<2>,
        sequences: &Sequences,
        dropout: Option<Key>,
    ) -> Tensor<2> {
        let (layer, number) = (&self.layer[index], index as u32);
        if !self.recompute || index + 1 == self.layer.len() {
            return layer.forward(hidden, sequences, number, dropout);
        }
        let sequences = sequences.clone();
        recompute(layer, hidden, move |layer, hidden| {
            layer.forward(hidden, &sequences, number, dropout)
        })
    }
}

impl Bert {
    /// A model whose values are not set yet: [`set_parameters`](crate::set_parameters) or
    /// [`initialise`](crate::initialise) sets them.
    pub fn new(config: &BertConfig, device: &Device) -> Self {
        Self {
            embeddings: Embeddings::new(config, device),
            encoder: Encoder {
                layer: (0..config.num_hidden_layers).map(|_| Layer::new(config, device)).collect(),
                recompute: false,
            },
        }
    }

    /// The same model, whose `layers` highest layers begin anew, as a model made from nothing with this seed: see
    /// [`initialise`].
    ///
    /// # Panics
    /// When there are fewer layers.
    pub fn reinitialise(mut self, layers: usize, config: &BertConfig, seed: u64) -> Self {
        let all = self.encoder.layer.len();
        assert!(layers <= all, "reinitialise: {layers} of {all} layers");
        let numbered = self.encoder.layer.into_iter().enumerate();
        let begin = |(index, layer): (usize, Layer)| match index < all - layers {
            true => layer,
            false => {
                let prefix = format!("encoder.layer.{index}.");
                initialise(layer, &prefix, seed, config.initializer_range)
            }
        };
        self.encoder.layer = numbered.map(begin).collect();
        self
    }

    /// The same encoder with adapters that are trained; all else of it is frozen, but new words, see
    /// [`freeze_words`](Embeddings::freeze_words). Adapters start from `seed`.
    ///
    /// Values are those of before, to the bit, until the first step.
    pub fn with_lora(self, config: &LoraConfig, seed: u64) -> Self {
        let mut bert = self.freeze();
        let new_words = bert.embeddings.new_word_embeddings.take();
        bert.embeddings.new_word_embeddings = new_words.map(|words| words.set_require_grad(true));
        for (index, layer) in bert.encoder.layer.iter_mut().enumerate() {
            layer.adapt(config, index, seed);
        }
        bert
    }

    /// The last hidden states.
    ///
    /// # Shapes
    /// output: `[tokens, hidden_size]`
    pub fn forward(&self, input: &EncoderInput, dropout: Option<Key>) -> Tensor<2> {
        self.forward_words(self.embeddings.words(input), input, dropout)
    }

    /// The last hidden states for word embeddings that were changed on their way in, for example by a task embedding.
    ///
    /// # Shapes
    /// `words`, output: `[tokens, hidden_size]`
    pub fn forward_words(
        &self,
        words: Tensor<2>,
        input: &EncoderInput,
        dropout: Option<Key>,
    ) -> Tensor<2> {
        let mut hidden = self.embeddings.forward(words, input, dropout);
        for index in 0..self.encoder.layer.len() {
            hidden = self.encoder.run(index, hidden, &input.sequences, dropout);
        }
        hidden
    }

    /// The last hidden state of the first token of each sequence, [CLS], for its word embeddings.
    ///
    /// It costs what [`forward_words`](Self::forward_words) costs but for most of the last layer, of whose output
    /// nobody reads the other tokens.
    ///
    /// # Shapes
    /// - `words`: `[tokens, hidden_size]`
    /// - output: `[sequences, hidden_size]`
    ///
    /// # Panics
    /// When the encoder has no layer.
    pub fn forward_first(
        &self,
        words: Tensor<2>,
        input: &EncoderInput,
        dropout: Option<Key>,
    ) -> Tensor<2> {
        let mut hidden = self.embeddings.forward(words, input, dropout);
        let (last, layers) = self.encoder.layer.split_last().expect("an encoder has layers"); // INVARIANT: see `# Panics`
        for index in 0..layers.len() {
            hidden = self.encoder.run(index, hidden, &input.sequences, dropout);
        }
        last.forward_first(hidden, &input.sequences, layers.len() as u32, dropout)
    }

    /// The hidden states of all layers: the embeddings first, then the output of each layer.
    ///
    /// # Shapes
    /// `num_hidden_layers + 1` tensors `[tokens, hidden_size]`
    pub fn hidden_states(&self, input: &EncoderInput, dropout: Option<Key>) -> Vec<Tensor<2>> {
        self.hidden_states_words(self.embeddings.words(input), input, dropout)
    }

    /// The hidden states of all layers for word embeddings that were changed on their way in.
    ///
    /// # Shapes
    /// - `words`: `[tokens, hidden_size]`
    /// - output: `num_hidden_layers + 1` tensors `[tokens, hidden_size]`
    pub fn hidden_states_words(
        &self,
        words: Tensor<2>,
        input: &EncoderInput,
        dropout: Option<Key>,
    ) -> Vec<Tensor<2>> {
        let mut states = vec![self.embeddings.forward(words, input, dropout)];
        for index in 0..self.encoder.layer.len() {
            let hidden = states[index].clone();
            states.push(self.encoder.run(index, hidden, &input.sequences, dropout));
        }
        states
    }
}
