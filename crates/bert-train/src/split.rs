//! Rows held out for development.

use bert_kernels::random::{Purpose, Stream};

use crate::error::{Error, Result};

/// Which rows are trained on and which are held out, each in the order of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// Rows to train on, from 0.
    pub train: Vec<usize>,
    /// Rows held out, from 0.
    pub dev: Vec<usize>,
}

/// Holds out `fraction` of the rows, at random but with each label's share kept within one row.
///
/// `labels` has the label id of each row. At least one row of each label stays in training, and at least one
/// row is held out. The result depends on the arguments alone.
///
/// # Errors
/// [`Error::DevFraction`] unless `fraction` is above 0 and below 1; [`Error::NoDevRows`] where no label has two rows.
pub fn stratified_split(labels: &[u32], fraction: f64, seed: u64) -> Result<Split> {
    check_fraction(fraction)?;
    let num_labels = labels.iter().max().map_or(0, |&label| label as usize + 1);
    let mut rows_of: Vec<Vec<usize>> = vec![Vec::new(); num_labels];
    for (row, &label) in labels.iter().enumerate() {
        rows_of[label as usize].push(row);
    }
    let sizes: Vec<usize> = rows_of.iter().map(Vec::len).collect();
    let mut is_dev = vec![false; labels.len()];
    for (label, (rows, held_out)) in
        rows_of.iter_mut().zip(held_out_sizes(&sizes, fraction)).enumerate()
    {
        Stream::new(seed, Purpose::Split, label as u64).shuffle(rows);
        for &row in &rows[..held_out] {
            is_dev[row] = true;
        }
    }
    let (dev, train): (Vec<usize>, Vec<usize>) = (0..labels.len()).partition(|&row| is_dev[row]);
    if dev.is_empty() {
        return Err(Error::NoDevRows { rows: labels.len() });
    }
    Ok(Split { train, dev })
}

/// Refuses a share that is none, or all.
pub(crate) fn check_fraction(fraction: f64) -> Result<()> {
    match fraction > 0.0 && fraction < 1.0 {
        true => Ok(()),
        false => Err(Error::DevFraction { fraction }),
    }
}

/// How many rows of each label are held out: the whole part of its share, and one more for those with the
/// largest remainders, until all together are `fraction` of the rows.
fn held_out_sizes(sizes: &[usize], fraction: f64) -> Vec<usize> {
    let share = |label: usize| sizes[label] as f64 * fraction;
    let most = |label: usize| sizes[label].saturating_sub(1);
    let mut held_out: Vec<usize> =
        (0..sizes.len()).map(|label| (share(label) as usize).min(most(label))).collect();

    let rows: usize = sizes.iter().sum();
    let wanted = ((rows as f64 * fraction).round() as usize).max(1);
    let missing = wanted.saturating_sub(held_out.iter().sum());
    let mut open: Vec<usize> =
        (0..sizes.len()).filter(|&label| held_out[label] < most(label)).collect();
    // The sort is stable: labels with equal remainders come in the order of their ids.
    open.sort_by(|&a, &b| share(b).fract().total_cmp(&share(a).fract()));
    for &label in open.iter().take(missing) {
        held_out[label] += 1;
    }
    held_out
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn shares_are_rounded_by_largest_remainder() {
        // Shares 3.75, 1.5, 0.75, 0.25 of 25 rows: 3 + 1 + 0 + 0, and 6 - 4 = 2 more for .75 and .75.
        assert_eq!(held_out_sizes(&[15, 6, 3, 1], 0.25), [4, 1, 1, 0]);
        // One row of each label stays: shares 1.8 and 3.6 of at most 1 and 3.
        assert_eq!(held_out_sizes(&[2, 4], 0.9), [1, 3]);
        // Five rows make half a row, rounded up; shares 0.3 and 0.2.
        assert_eq!(held_out_sizes(&[3, 2], 0.1), [1, 0]);
        // At least one row is held out.
        assert_eq!(held_out_sizes(&[3, 2], 0.01), [1, 0]);
    }

    #[test]
    fn seeds_differ_and_repeat() {
        let labels: Vec<u32> = (0..101).map(|row| row % 3).collect();
        let split = stratified_split(&labels, 0.1, 7).unwrap();
        assert_eq!(split, stratified_split(&labels, 0.1, 7).unwrap());
        assert_ne!(split, stratified_split(&labels, 0.1, 8).unwrap());
        assert_eq!(split.dev.len(), 10);
    }

    #[test]
    fn a_fraction_outside_zero_and_one_is_refused() {
        for fraction in [0.0, 1.0, -0.1, f64::NAN, f64::INFINITY] {
            assert_eq!(
                stratified_split(&[0, 0, 1, 1], fraction, 0).unwrap_err().to_string(),
                format!("the dev fraction must be above 0 and below 1, got {fraction}")
            );
        }
    }

    #[test]
    fn rows_with_labels_of_their_own_cannot_be_split() {
        assert_eq!(
            stratified_split(&[0, 1, 2], 0.5, 0).unwrap_err().to_string(),
            "no row can be held out for dev: each of the 3 rows is the only one with its label: give a file with --dev"
        );
    }

    proptest! {
        #[test]
        fn each_label_keeps_its_share(
            labels in prop::collection::vec(0u32..5, 10..200),
            fraction in 0.01f64..0.99,
            seed: u64,
        ) {
            let split = stratified_split(&labels, fraction, seed).unwrap();
            let mut all: Vec<usize> = split.train.iter().chain(&split.dev).copied().collect();
            all.sort_unstable();
            prop_assert_eq!(all, (0..labels.len()).collect::<Vec<_>>());
            prop_assert!(split.train.is_sorted() && split.dev.is_sorted());
            for label in 0..5 {
                let count = |rows: &[usize]| rows.iter().filter(|&&row| labels[row] == label).count();
                let (train, dev) = (count(&split.train), count(&split.dev));
                if train + dev > 0 {
                    prop_assert!(train > 0);
                    let share = fraction * (train + dev) as f64;
                    prop_assert!((dev as f64 - share).abs() < 1.0 || train == 1);
                }
            }
        }
    }
}
