//! Dropout whose mask is a pure function of its key: nothing is stored, and every backend draws the same bits.

use burn::tensor::{Tensor, TensorData};

use crate::random::Key;

/// Which elements one dropout site drops: each with `probability`, decided by `key` and the element's index.
///
/// The probability is rounded to a multiple of 2^-16; what is kept is scaled by the exact inverse of its share.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dropout {
    threshold: u32,
    key: Key,
}

impl Dropout {
    /// Dropout of `probability` with the bits of `key`, or `None` where nothing would be dropped.
    ///
    /// # Panics
    /// When `probability` is outside `[0, 1)`.
    pub fn new(probability: f64, key: Key) -> Option<Self> {
        assert!(
            (0.0..1.0).contains(&probability),
            "a dropout probability is in [0, 1), got {probability}"
        );
        let threshold = ((probability * 65_536.0).round() as u32).min(65_535);
        (threshold > 0).then_some(Self { threshold, key })
    }

    /// What a kept element is multiplied with.
    pub fn scale(&self) -> f32 {
        65_536.0 / (65_536 - self.threshold) as f32
    }

    /// An element is dropped when its 16 random bits are below this number.
    #[inline]
    pub fn threshold(&self) -> u32 {
        self.threshold
    }

    /// The key that the site's random bits are drawn with.
    #[inline]
    pub fn key(&self) -> Key {
        self.key
    }

    /// The factors, 0 or [`scale`](Self::scale), of one row of `length` elements.
    ///
    /// `row` are the three upper words of the counter; its lowest word counts blocks of eight elements, of which
    /// element `2 i` takes the lower and `2 i + 1` the upper half of word `i`.
    pub(crate) fn factors(&self, row: [u32; 3], length: usize) -> impl Iterator<Item = f32> {
        let (threshold, scale, key) = (self.threshold, self.scale(), self.key);
        (0..length.div_ceil(8) as u32)
            .flat_map(move |block| key.block([block, row[0], row[1], row[2]]))
            .flat_map(|word| [word & 0xFFFF, word >> 16])
            .map(move |bits| if bits < threshold { 0.0 } else { scale })
            .take(length)
    }
}

/// Drops elements of `x` and scales the others, so that the expected value stays; `None` returns `x`.
///
/// Element `i` of row `r` takes the bits of the counter `(i / 8, r, 0, 0)`.
pub fn dropout(x: Tensor<2>, dropout: Option<Dropout>) -> Tensor<2> {
    let Some(dropout) = dropout else { return x };
    #[cfg(feature = "flex")]
    if crate::flex::is_fast(&x) {
        return crate::flex::dropout::dropout(x, dropout);
    }
    let [rows, width] = x.dims();
    let factors: Vec<f32> =
        (0..rows as u32).flat_map(|row| dropout.factors([row, 0, 0], width)).collect();
    let factors = Tensor::from_data(TensorData::new(factors, [rows, width]), &x.device());
    x * factors
}
