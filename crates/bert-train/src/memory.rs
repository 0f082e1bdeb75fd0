//! How much memory a run takes, and how much is free.

use std::fs;

use bert_core::BertConfig;

use crate::{
    error::{Error, Result},
    observer::Observer,
};

/// Megabytes, as they are said.
pub(crate) const MB: u64 = 1_000_000;

/// Says what a step takes on the largest batch that there can be of texts of these lengths.
pub(crate) fn say_activations(
    config: &BertConfig,
    mut lengths: Vec<usize>,
    batch_size: usize,
    observer: &mut dyn Observer,
) {
    lengths.sort_unstable_by(|one, other| other.cmp(one));
    let rows = batch_size.min(lengths.len());
    let tokens = lengths.iter().take(rows).sum();
    observer.notice(&format!(
        "the {rows} longest texts, the largest batch there can be, have {tokens} tokens: in a step on them the \
         activations take about {} MB of memory",
        activation_bytes(config, tokens).div_ceil(MB),
    ));
}

/// About how many bytes the activations of a training step on so many tokens take.
///
/// Between forward and backward each layer keeps of a token its input, queries, keys, values, what attention gives, and two
/// normalised sums, 7 times `hidden_size` numbers, and the wide part of the feed-forward before and after its activation,
/// twice `intermediate_size`. Attention's fast kernel computes its probabilities anew; on devices without it they come
/// on top.
pub(crate) fn activation_bytes(config: &BertConfig, tokens: usize) -> u64 {
    let layer = 7 * config.hidden_size + 2 * config.intermediate_size;
    (tokens * config.num_hidden_layers * layer * size_of::<f32>()) as u64
}

/// Refuses hidden states of so many bytes where fewer are free.
pub(crate) fn check_hidden_states(needed: u64, free: Option<u64>) -> Result<()> {
    match free {
        Some(free) if needed > free => {
            Err(Error::FrozenMemory { needed: needed.div_ceil(MB), free: free / MB })
        }
        _ => Ok(()),
    }
}

/// The bytes of memory that a program may still take, where the system says it.
pub(crate) fn free_bytes() -> Option<u64> {
    available(&fs::read_to_string("/proc/meminfo").ok()?)
}

fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn free_memory_is_read_from_the_systems_table() {
        let table =
            "MemTotal:  24683968 kB\nMemFree: 1 kB\nMemAvailable:     3000 kB\nBuffers: 2 kB\n";
        assert_eq!(available(table), Some(3_072_000));
        assert_eq!(available("MemTotal: 1 kB\n"), None);
        assert_eq!(available("MemAvailable: many kB\n"), None);
    }

    #[test]
    fn hidden_states_that_do_not_fit_are_refused() {
        assert!(check_hidden_states(5_000_001, None).is_ok());
        assert!(check_hidden_states(5_000_001, Some(5_000_001)).is_ok());
        let error = check_hidden_states(5_000_001, Some(5_000_000)).unwrap_err();
        assert!(error.is_bad_input());
        let message = error.to_string();
        assert!(message.contains("take 6 MB, and 5 MB of memory are free"), "{message}");
    }

    #[test]
    fn activations_by_hand() {
        let config = BertConfig {
            hidden_size: 3,
            intermediate_size: 5,
            num_hidden_layers: 2,
            ..BertConfig::default()
        };
        // 11 tokens, 2 layers, 7 x 3 + 2 x 5 = 31 numbers of 4 bytes.
        assert_eq!(activation_bytes(&config, 11), 2728);
    }
}
