//! Starting values of the rows of new words.

use std::{fmt, str::FromStr};

use bert_kernels::random::{Purpose, Stream};

use crate::parameters::fnv1a;

/// Where the row of a new word starts.
///
/// # Source
/// Hewitt: "Initializing New Word Embeddings for Pretrained Language Models" (2021,
/// <https://nlp.stanford.edu/~johnhew/vocab-expansion.html>) for why it should be among the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WordInit {
    /// At the mean of the rows of the pieces that spelt the word.
    #[default]
    Mean,
    /// At a draw from the normal distribution that has the mean and the covariance of the table's rows.
    Sample,
}

impl WordInit {
    /// Every choice, in the order of their descriptions.
    pub const ALL: [Self; 2] = [Self::Mean, Self::Sample];
}

impl fmt::Display for WordInit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Mean => "mean",
            Self::Sample => "sample",
        })
    }
}

/// A name that no start of a row has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown start of new words {0:?}: expected mean or sample")]
pub struct ParseWordInitError(String);

impl FromStr for WordInit {
    type Err = ParseWordInitError;

    fn from_str(name: &str) -> Result<Self, ParseWordInitError> {
        Self::ALL
            .into_iter()
            .find(|init| init.to_string() == name)
            .ok_or_else(|| ParseWordInitError(name.to_owned()))
    }
}

/// For each word, the mean of the rows of `table` that its pieces have.
pub(crate) fn means(table: &[f32], width: usize, pieces: &[Vec<u32>]) -> Vec<f32> {
    let row = |id: u32| &table[id as usize * width..][..width];
    let mean = |pieces: &Vec<u32>, column: usize| {
        let sum: f64 = pieces.iter().map(|id| f64::from(row(*id)[column])).sum();
        (sum / pieces.len() as f64) as f32
    };
    pieces.iter().flat_map(|pieces| (0..width).map(move |column| mean(pieces, column))).collect()
}

/// For each word, a draw from the normal distribution with the mean and the covariance of the rows of `table`.
///
/// A draw depends on the seed and the word alone.
pub(crate) fn samples(table: &[f32], width: usize, words: &[String], seed: u64) -> Vec<f32> {
    let mean = column_means(table, width);
    let mut factor = covariance(table, &mean);
    cholesky(&mut factor, width);
    let mut rows = Vec::with_capacity(words.len() * width);
    for word in words {
        let mut stream = Stream::new(seed, Purpose::Init, fnv1a(word));
        let draws: Vec<f64> = (0..width).map(|_| f64::from(stream.normal())).collect();
        rows.extend((0..width).map(|i| {
            let factor = factor[i * width..][..=i].iter();
            (mean[i] + factor.zip(&draws).map(|(l, z)| l * z).sum::<f64>()) as f32
        }));
    }
    rows
}

fn column_means(table: &[f32], width: usize) -> Vec<f64> {
    let mut mean = vec![0.0; width];
    for row in table.chunks_exact(width) {
        mean.iter_mut().zip(row).for_each(|(mean, value)| *mean += f64::from(*value));
    }
    let rows = (table.len() / width) as f64;
    mean.iter_mut().for_each(|mean| *mean /= rows);
    mean
}

/// The covariance of the rows; only its lower triangle is filled.
fn covariance(table: &[f32], mean: &[f64]) -> Vec<f64> {
    // A block of rows stays in the cache while each row of the covariance is visited once.
    const BLOCK: usize = 32;
    let width = mean.len();
    let rows = table.len() / width;
    let mut covariance = vec![0.0; width * width];
    for block in table.chunks(BLOCK * width) {
        let pairs = block.iter().zip(mean.iter().cycle());
        let centred: Vec<f64> = pairs.map(|(value, mean)| f64::from(*value) - mean).collect();
        for i in 0..width {
            let sums = &mut covariance[i * width..][..=i];
            for row in centred.chunks_exact(width) {
                let factor = row[i];
                sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += factor * value);
            }
        }
    }
    covariance.iter_mut().for_each(|sum| *sum /= rows as f64);
    covariance
}

/// Replaces the lower triangle of a symmetric matrix without negative eigenvalues by `L` of `L L^T`, row by row.
///
/// Directions in which the matrix is flat, up to rounding, get no part in `L`.
fn cholesky(matrix: &mut [f64], width: usize) {
    let largest = (0..width).map(|i| matrix[i * width + i]).fold(0.0, f64::max);
    let flat = largest * width as f64 * f64::EPSILON;
    for i in 0..width {
        let (above, row) = matrix.split_at_mut(i * width);
        for j in 0..i {
            let other = &above[j * width..][..=j];
            let known: f64 = row[..j].iter().zip(other).map(|(a, b)| a * b).sum();
            row[j] = if other[j] > 0.0 { (row[j] - known) / other[j] } else { 0.0 };
        }
        let pivot = row[i] - row[..i].iter().map(|value| value * value).sum::<f64>();
        row[i] = if pivot > flat { pivot.sqrt() } else { 0.0 };
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn means_by_hand() {
        let table = [1.0, 2.0, 3.0, 4.0, 8.0, -6.0];
        // Rows (1, 2) and (8, -6): (9 / 2, -4 / 2); row (3, 4) alone.
        assert_eq!(means(&table, 2, &[vec![0, 2], vec![1]]), [4.5, -2.0, 3.0, 4.0]);
    }

    #[test]
    fn cholesky_by_hand() {
        // [4 2; 2 5] = [2 0; 1 2] [2 1; 0 2]; what lies above the diagonal is not touched.
        let mut matrix = [4.0, 9.0, 2.0, 5.0];
        cholesky(&mut matrix, 2);
        assert_eq!(matrix, [2.0, 9.0, 1.0, 2.0]);
        // Flat in one direction: [1 1; 1 1] = [1 0; 1 0] [1 1; 0 0]; and in the first of two.
        let mut matrix = [1.0, 0.0, 1.0, 1.0];
        cholesky(&mut matrix, 2);
        assert_eq!(matrix, [1.0, 0.0, 1.0, 0.0]);
        let mut matrix = [0.0, 0.0, 0.0, 9.0];
        cholesky(&mut matrix, 2);
        assert_eq!(matrix, [0.0, 0.0, 0.0, 3.0]);
    }

    #[test]
    fn covariance_by_hand() {
        // Columns (1, 3, 8) and (2, 4, -6): means 4 and 0; 9 + 1 + 16, -6 - 4 - 24, 4 + 16 + 36, each over 3.
        let mean = column_means(&[1.0, 2.0, 3.0, 4.0, 8.0, -6.0], 2);
        assert_eq!(mean, [4.0, 0.0]);
        let covariance = covariance(&[1.0, 2.0, 3.0, 4.0, 8.0, -6.0], &mean);
        assert_eq!((covariance[0] * 3.0).round(), 26.0);
        assert_eq!((covariance[2] * 3.0).round(), -34.0);
        assert_eq!((covariance[3] * 3.0).round(), 56.0);
    }

    /// Many draws have the table's mean and covariance, and each hangs on seed and word alone.
    #[test]
    fn samples_are_like_the_table() {
        let width = 3;
        let mut stream = Stream::new(5, Purpose::Sample, 0);
        let table: Vec<f32> = (0..301)
            .flat_map(|_| {
                let [x, y, z] = [(); 3].map(|()| stream.normal());
                [2.0 + x, x - 0.5 * y, 0.1 * z - 1.0]
            })
            .collect();
        let words: Vec<String> = (0..20_000).map(|word| format!("word{word}")).collect();
        let drawn = samples(&table, width, &words, 1);
        let (mean, drawn_mean) = (column_means(&table, width), column_means(&drawn, width));
        for (a, b) in mean.iter().zip(&drawn_mean) {
            // The standard error is at most 1.2 / sqrt(20,000) = 0.009.
            assert!((a - b).abs() < 0.04, "{mean:?} {drawn_mean:?}");
        }
        let (expected, got) = (covariance(&table, &mean), covariance(&drawn, &drawn_mean));
        for (a, b) in expected.iter().zip(&got) {
            assert!((a - b).abs() < 0.06, "{expected:?} {got:?}");
        }
        assert_eq!(samples(&table, width, &words[7..8], 1), drawn[21..24]);
        assert_ne!(samples(&table, width, &words[7..8], 2), drawn[21..24]);
    }
}
