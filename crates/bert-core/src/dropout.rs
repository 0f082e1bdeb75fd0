//! Where dropout happens in the model: each site draws random bits of its own.

use bert_kernels::random::{Key, Purpose};

use crate::lora::LoraTarget;

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
    /// Before the adapter of a map of a layer.
    Lora(u32, LoraTarget),
}

impl Site {
    /// The site's key in the pass whose key is `pass`.
    pub fn key(self, pass: Key) -> Key {
        let (kind, index, map) = match self {
            Self::Embeddings => (0, 0, 0),
            Self::Attention(layer) => (1, layer, 0),
            Self::AttentionOutput(layer) => (2, layer, 0),
            Self::FeedForwardOutput(layer) => (3, layer, 0),
            Self::Head(task) => (4, task, 0),
            Self::Lora(layer, target) => (5, layer, target as u32),
        };
        pass.derive(Purpose::Dropout, [kind, index, map])
    }
}

/// The key of one pass through the model in training.
///
/// `pass` counts the passes over the same rows, for recipes that make several.
pub fn pass_key(seed: u64, step: u32, micro_batch: u32, pass: u32) -> Key {
    Key::new(seed).derive(Purpose::Dropout, [step, micro_batch, pass])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_sites_draw_the_same_bits() {
        let pass = pass_key(3, 1, 0, 0);
        let of_layer = |layer| {
            let adapters = LoraTarget::ALL.map(|target| Site::Lora(layer, target));
            let own = [
                Site::Attention(layer),
                Site::AttentionOutput(layer),
                Site::FeedForwardOutput(layer),
                Site::Head(layer),
            ];
            own.into_iter().chain(adapters)
        };
        let sites: Vec<Site> = (0..3).flat_map(of_layer).chain([Site::Embeddings]).collect();
        for (place, site) in sites.iter().enumerate() {
            for other in &sites[..place] {
                assert_ne!(site.key(pass), other.key(pass), "{site:?}, {other:?}");
            }
        }
    }
}
