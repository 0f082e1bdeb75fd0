//! How much memory a run takes, and how much is free.

use std::fs;

use bert_core::BertConfig;
use bert_kernels::is_on_host;
use burn::tensor::Device;

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
    recompute: bool,
    observer: &mut dyn Observer,
) {
    lengths.sort_unstable_by(|one, other| other.cmp(one));
    let rows = batch_size.min(lengths.len());
    let tokens = lengths.iter().take(rows).sum();
    let layers = [config.num_hidden_layers, config.hidden_size, config.intermediate_size];
    observer.notice(&format!(
        "the {rows} longest texts, the largest batch there can be, have {tokens} tokens: in a step on them the \
         activations take about {} MB of memory",
        activation_bytes(layers, recompute, tokens).div_ceil(MB),
    ));
}

/// About how many bytes the activations of a training step on so many tokens take, of layers given by their number,
/// `hidden_size` and `intermediate_size`.
///
/// Between forward and backward each layer keeps of a token its input, queries, keys, values, what attention gives, and two
/// normalised sums, 7 times `hidden_size` numbers, and the wide part of the feed-forward before and after its activation,
/// twice `intermediate_size`; its input alone where it is to run again (`recompute`), as all but one at a time are. Attention's
/// fast kernel computes its probabilities anew; on devices without it they come on top.
pub(crate) fn activation_bytes(
    [layers, hidden_size, intermediate_size]: [usize; 3],
    recompute: bool,
    tokens: usize,
) -> u64 {
    let layer = 7 * hidden_size + 2 * intermediate_size;
    let whole = if recompute { layers.min(1) } else { layers };
    let numbers = whole * layer + (layers - whole) * hidden_size;
    (tokens * numbers * size_of::<f32>()) as u64
}

/// The memory of a machine, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Memory {
    /// What a program may still take.
    pub(crate) free: u64,
    /// All that programs may take together, that on disk included.
    pub(crate) total: u64,
}

impl Memory {
    /// That of the machine, where `device` computes in it and the system tells.
    pub(crate) fn of(device: &Device) -> Option<Self> {
        if is_on_host(device) { Self::of_machine() } else { None }
    }

    /// That of the machine, or the container, where the system tells.
    pub(crate) fn of_machine() -> Option<Self> {
        let of_container = |name| fs::read_to_string(format!("/sys/fs/cgroup/memory.{name}")).ok();
        let meminfo = fs::read_to_string("/proc/meminfo").ok()?;
        Self::read(&meminfo, ["max", "current"].map(of_container))
    }

    /// From the system's table, and what a container may take and has taken, where there is one.
    fn read(meminfo: &str, container: [Option<String>; 2]) -> Option<Self> {
        let all = entry(meminfo, "MemTotal:")?;
        let [limit, taken] =
            container.map(|text| text.and_then(|text| text.trim().parse::<u64>().ok()));
        let limit = limit.unwrap_or(all);
        let total = all.min(limit) + entry(meminfo, "SwapTotal:").unwrap_or(0);
        let left = limit.saturating_sub(taken.unwrap_or(0));
        Some(Self { free: entry(meminfo, "MemAvailable:")?.min(total).min(left), total })
    }
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

fn entry(meminfo: &str, name: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
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
        assert_eq!(entry(table, "MemAvailable:"), Some(3_072_000));
        assert_eq!(entry("MemTotal: 1 kB\n", "MemAvailable:"), None);
        assert_eq!(entry("MemAvailable: many kB\n", "MemAvailable:"), None);
    }

    #[test]
    fn a_container_may_have_less_than_the_machine() {
        let table = "MemTotal: 5000 kB\nMemAvailable: 3000 kB\nSwapTotal: 7 kB\n";
        let read = |limit: Option<&str>, taken: Option<&str>| {
            let memory = Memory::read(table, [limit, taken].map(|text| text.map(str::to_owned)));
            memory.map(|memory| (memory.free, memory.total))
        };
        assert_eq!(read(None, None), Some((3_072_000, 5_127_168)));
        assert_eq!(read(Some("max\n"), Some("48000\n")), Some((3_072_000, 5_127_168)));
        assert_eq!(read(Some("2048000\n"), None), Some((2_048_000, 2_055_168)));
        assert_eq!(read(Some("2048000\n"), Some("48000\n")), Some((2_000_000, 2_055_168)));
        assert_eq!(read(Some("2048000\n"), Some("2048001\n")), Some((0, 2_055_168)));
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
        // 11 tokens, 2 layers, 7 x 3 + 2 x 5 = 31 numbers of 4 bytes.
        assert_eq!(activation_bytes([2, 3, 5], false, 11), 2728);
        // One layer of 31 numbers, and two inputs of 3.
        assert_eq!(activation_bytes([3, 3, 5], true, 11), 11 * (31 + 6) * 4);
        assert_eq!(activation_bytes([0, 3, 5], true, 11), 0);
    }
}
