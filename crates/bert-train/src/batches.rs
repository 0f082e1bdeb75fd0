//! Which rows make a batch: rows of like length together.

use std::cmp::Reverse;

use bert_kernels::random::{Purpose, Stream};

/// At most so many batches are sorted by length together.
const MOST_BATCHES_SORTED: usize = 50;
/// At least so many parts of an epoch are sorted apart, so that small data sets are still mixed.
const LEAST_PARTS: usize = 4;

/// The batches of one epoch of training: each row once, in random order, rows of like length together.
///
/// All rows are shuffled and cut into parts of 50 batches (fewer where that would make less than 4 parts);
/// each part is sorted by length and cut into batches of `batch_size` rows, of which one may be short;
/// then the batches are shuffled. `lengths` has the length of each row in tokens. The result depends on the
/// arguments alone.
///
/// # Panics
/// When `batch_size` is 0.
///
/// # Source
/// `get_length_grouped_indices`, the `group_by_length` of Hugging Face Transformers
/// (<https://github.com/huggingface/transformers/blob/v4.44.0/src/transformers/trainer_pt_utils.py>),
/// which does not shuffle the batches.
pub fn epoch_batches(
    lengths: &[usize],
    batch_size: usize,
    seed: u64,
    epoch: usize,
) -> Vec<Vec<usize>> {
    assert!(batch_size > 0, "epoch_batches: the batch size must be at least 1");
    let mut random = Stream::new(seed, Purpose::Shuffle, epoch as u64);
    let mut rows: Vec<usize> = (0..lengths.len()).collect();
    random.shuffle(&mut rows);
    let batches_sorted = (lengths.len() / LEAST_PARTS / batch_size).clamp(1, MOST_BATCHES_SORTED);
    for part in rows.chunks_mut(batches_sorted.saturating_mul(batch_size)) {
        // The sort is stable: rows of one length stay shuffled.
        part.sort_by_key(|&row| Reverse(lengths[row]));
    }
    let mut batches = cut(&rows, batch_size);
    random.shuffle(&mut batches);
    batches
}

/// The batches of an evaluation: each row once, longest first, so that a lack of memory shows at once.
///
/// # Panics
/// When `batch_size` is 0.
pub fn evaluation_batches(lengths: &[usize], batch_size: usize) -> Vec<Vec<usize>> {
    assert!(batch_size > 0, "evaluation_batches: the batch size must be at least 1");
    let mut rows: Vec<usize> = (0..lengths.len()).collect();
    rows.sort_by_key(|&row| Reverse(lengths[row]));
    cut(&rows, batch_size)
}

fn cut(rows: &[usize], batch_size: usize) -> Vec<Vec<usize>> {
    rows.chunks(batch_size).map(<[usize]>::to_vec).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sorted(batches: &[Vec<usize>]) -> Vec<usize> {
        let mut rows = batches.concat();
        rows.sort_unstable();
        rows
    }

    /// The mean difference between the longest and the shortest row of a batch, over 10 epochs.
    fn mean_spread(lengths: &[usize], batch_size: usize) -> f64 {
        let batches: Vec<_> =
            (0..10).flat_map(|epoch| epoch_batches(lengths, batch_size, 0, epoch)).collect();
        let spread = |batch: &Vec<usize>| {
            let lengths = batch.iter().map(|&row| lengths[row]);
            lengths.clone().max().unwrap_or(0) - lengths.min().unwrap_or(0)
        };
        batches.iter().map(spread).sum::<usize>() as f64 / batches.len() as f64
    }

    #[test]
    fn evaluation_is_sorted_by_length_and_then_by_row() {
        assert_eq!(evaluation_batches(&[3, 5, 3, 9, 5], 2), [vec![3, 1], vec![4, 0], vec![2]]);
        assert!(evaluation_batches(&[], 3).is_empty());
    }

    #[test]
    fn a_large_data_set_is_sorted_in_parts_of_fifty_batches() {
        // Parts of 150 of 6000 rows: neighbours differ by 6001 / 151, the three rows of a batch by twice that, 79.5.
        let lengths: Vec<usize> = (1..=6000).collect();
        let spread = mean_spread(&lengths, 3);
        assert!((spread - 79.5).abs() < 4.0, "{spread}");
    }

    #[test]
    fn a_small_data_set_is_sorted_in_four_parts() {
        // Parts of 180 of 720 rows: neighbours differ by 721 / 181, the six rows of a batch by five times that, 19.9.
        let lengths: Vec<usize> = (1..=720).collect();
        let spread = mean_spread(&lengths, 6);
        assert!((spread - 19.9).abs() < 1.0, "{spread}");
    }

    #[test]
    fn small_data_sets_are_mixed_between_epochs() {
        // 20 rows of 20 lengths: sorted all together, each epoch would have the same four batches.
        let lengths: Vec<usize> = (0..20).collect();
        let sets = |epoch| {
            let mut batches = epoch_batches(&lengths, 5, 1, epoch);
            batches.iter_mut().for_each(|batch| batch.sort_unstable());
            batches.sort();
            batches
        };
        assert_ne!(sets(0), sets(1));
    }

    #[test]
    fn seeds_and_epochs_differ_and_repeat() {
        let lengths = [4; 51];
        let batches = epoch_batches(&lengths, 7, 2, 3);
        assert_eq!(batches, epoch_batches(&lengths, 7, 2, 3));
        assert_ne!(batches, epoch_batches(&lengths, 7, 2, 4));
        assert_ne!(batches, epoch_batches(&lengths, 7, 3, 3));
        // Rows of one length are shuffled too.
        assert!(!batches.concat().is_sorted());
    }

    #[test]
    #[should_panic(expected = "the batch size must be at least 1")]
    fn a_batch_of_no_rows_panics() {
        epoch_batches(&[1], 0, 0, 0);
    }

    proptest! {
        #[test]
        fn each_row_is_in_one_batch(
            lengths in prop::collection::vec(1usize..60, 0..300),
            batch_size in 1usize..40,
            seed: u64,
            epoch in 0usize..5,
        ) {
            for batches in [epoch_batches(&lengths, batch_size, seed, epoch), evaluation_batches(&lengths, batch_size)] {
                prop_assert_eq!(sorted(&batches), (0..lengths.len()).collect::<Vec<_>>());
                prop_assert_eq!(batches.len(), lengths.len().div_ceil(batch_size));
                prop_assert!(batches.iter().filter(|batch| batch.len() < batch_size).count() <= 1);
                prop_assert!(batches.iter().all(|batch| (1..=batch_size).contains(&batch.len())));
            }
        }
    }
}
