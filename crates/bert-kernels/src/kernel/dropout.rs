//! Random bits of many counters at once, and dropout with them.

use std::array::from_fn;

use rayon::prelude::*;

use super::simd::simd;
use crate::{
    dropout::Dropout,
    random::{MULTIPLIERS, ROUNDS, WEYL},
};

/// Elements that one counter decides, 16 bits each.
pub(crate) const ELEMENTS: usize = 8;

/// Counters drawn at once: their state must stay in registers.
const LANES: usize = 8;

/// Rows a task works at.
const ROWS: usize = 64;

/// Fills rows of `width` random 16-bit numbers: those of row `r` have the counters `(first + i, row + r, upper)`.
///
/// `bits` holds whole counters: its rows are `width` rounded up to a multiple of [`ELEMENTS`] apart.
pub(crate) fn draw(
    drop: &Dropout,
    width: usize,
    first: usize,
    row: usize,
    upper: [u32; 2],
    bits: &mut [u16],
) {
    let blocks = width.div_ceil(ELEMENTS);
    draw_blocks(drop.key().words(), blocks as u32, first as u32, row as u32, upper, bits);
}

simd! {
    fn draw_blocks(key: [u32; 2], blocks: u32, first: u32, row: u32, upper: [u32; 2], bits: &mut [u16]) {
        let (mut block, mut row) = (0, row);
        for out in bits.chunks_mut(LANES * ELEMENTS) {
            if block == blocks {
                (block, row) = (0, row.wrapping_add(1));
            }
            let (mut c0, mut c1) = ([0; LANES], [u64::from(row); LANES]);
            if block + LANES as u32 <= blocks {
                for (lane, c0) in (0..).zip(&mut c0) {
                    *c0 = u64::from(first.wrapping_add(block + lane));
                }
                block += LANES as u32;
            } else {
                for (c0, c1) in c0.iter_mut().zip(&mut c1) {
                    if block == blocks {
                        (block, row) = (0, row.wrapping_add(1));
                    }
                    *c0 = u64::from(first.wrapping_add(block));
                    *c1 = u64::from(row);
                    block += 1;
                }
            }
            let [c2, c3] = upper.map(|word| [u64::from(word); LANES]);
            let drawn = philox(key, [c0, c1, c2, c3]);
            match out.as_mut_array() {
                Some(out) => *out = *halves(&drawn),
                None => out.copy_from_slice(&halves(&drawn)[..out.len()]),
            }
        }
    }
}

/// [`Key::block`](crate::random::Key::block) for each lane: the four words as two numbers of 64 bits, lane by lane.
///
/// A lane has 64 bits, of which the lower 32 are the word and the upper ones of no meaning. Every line is one vector
/// instruction or two; written lane by lane, compilers pair up lines that then have to be shuffled apart.
#[inline(always)]
fn philox(mut key: [u32; 2], mut c: [[u64; LANES]; 4]) -> [[u64; 2]; LANES] {
    const WORD: u64 = 0xFFFF_FFFF;
    let factors = MULTIPLIERS.map(u64::from);
    for _ in 0..ROUNDS {
        let low: [u64; LANES] = from_fn(|lane| factors[0] * (c[0][lane] & WORD));
        let high: [u64; LANES] = from_fn(|lane| factors[1] * (c[2][lane] & WORD));
        let keys = key.map(u64::from);
        c = [
            from_fn(|lane| (high[lane] >> 32) ^ c[1][lane] ^ keys[0]),
            high,
            from_fn(|lane| (low[lane] >> 32) ^ c[3][lane] ^ keys[1]),
            low,
        ];
        key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
    }
    let pair = |low: u64, high: u64| ((low & WORD) | (high << 32)).to_le();
    from_fn(|lane| [pair(c[0][lane], c[1][lane]), pair(c[2][lane], c[3][lane])])
}

/// The same memory as numbers of 16 bits, the lowest first.
#[inline(always)]
fn halves(words: &[[u64; 2]; LANES]) -> &[u16; LANES * ELEMENTS] {
    // SAFETY: both are 128 bytes without padding, any bits are a number, and 64-bit numbers are aligned for 16-bit ones.
    unsafe { &*std::ptr::from_ref(words).cast() }
}

/// Drops elements of rows of `width`, in place.
pub(crate) fn apply(x: &mut [f32], width: usize, drop: &Dropout) {
    x.par_chunks_mut(ROWS * width).enumerate().for_each(|(block, x)| {
        let mut bits = vec![0; row_bits(width)];
        for (row, x) in x.chunks_mut(width).enumerate() {
            draw(drop, width, 0, block * ROWS + row, [0, 0], &mut bits);
            apply_row(x, &bits, drop.threshold() as u16, drop.scale());
        }
    });
}

/// Random numbers drawn for a row of `width` elements.
pub(crate) fn row_bits(width: usize) -> usize {
    width.next_multiple_of(ELEMENTS)
}

simd! {
    fn apply_row(x: &mut [f32], bits: &[u16], threshold: u16, scale: f32) {
        for (x, bits) in x.iter_mut().zip(bits) {
            *x *= factor(*bits, threshold, scale);
        }
    }
}

/// 0 or `scale`.
#[inline(always)]
pub(crate) fn factor(bits: u16, threshold: u16, scale: f32) -> f32 {
    if bits < threshold { 0.0 } else { scale }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::random::Key;

    /// Widths below, at and above what is drawn at once, and rows that begin inside it.
    #[test]
    fn bits_are_those_of_the_definition() {
        for (width, rows, first) in [(1, 5, 0), (8, 33, 2), (21, 40, 0), (128, 3, 1), (131, 4, 7)] {
            let drop = Dropout::new(0.3, Key::new(0x1234_5678_9ABC_DEF0)).unwrap();
            let mut bits = vec![0; rows * row_bits(width)];
            draw(&drop, width, first, 70, [5, 6], &mut bits);
            for (row, bits) in bits.chunks(row_bits(width)).enumerate() {
                for (column, bits) in bits[..width].iter().enumerate() {
                    let block = (first + column / ELEMENTS) as u32;
                    let word =
                        drop.key().block([block, 70 + row as u32, 5, 6])[column % ELEMENTS / 2];
                    let expected = if column % 2 == 0 { word } else { word >> 16 };
                    assert_eq!(*bits, expected as u16, "width {width}, row {row}, column {column}");
                }
            }
        }
    }
}
