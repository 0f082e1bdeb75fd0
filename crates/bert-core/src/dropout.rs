//! Where dropout happens in the model: each site draws random bits of its own.

use bert_kernels::random::{Key, Purpose};

/// A place in the model where dropout is applied.
///
/// The forward functions take the key of a whole pass, `Option<Key>`: with `None` nothing is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Site {
    /// Behind the normalised embeddings.
    Embeddings,
    /// On the attention probabilities of a layer, counted from 0.
    Attention(u32),
    /// Behind the output projection of a layer's attention.
    AttentionOutput(u32),
    /// Behind the output projection of a layer's feed-forward part.
    FeedForwardOutput(u32),
    /// Before a task's head, counted from 0.
    Head(u32),
}

impl Site {
    /// The site's key in the pass whose key is `pass`.
    pub fn key(self, pass: Key) -> Key {
        let (kind, index) = match self {
            Self::Embeddings => (0, 0),
            Self::Attention(layer) => (1, layer),
            Self::AttentionOutput(layer) => (2, layer),
            Self::FeedForwardOutput(layer) => (3, layer),
            Self::Head(task) => (4, task),
        };
        pass.derive(Purpose::Dropout, [kind, index, 0])
    }
}

/// The key of one pass through the model in training.
///
/// `pass` counts the passes over the same rows, for recipes that make several.
pub fn pass_key(seed: u64, step: u32, micro_batch: u32, pass: u32) -> Key {
    Key::new(seed).derive(Purpose::Dropout, [step, micro_batch, pass])
}
