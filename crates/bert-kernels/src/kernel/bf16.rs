//! Products of matrices whose elements are rounded to bfloat16 and whose sums stay float32.
//!
//! Both sides are packed first: `width` lines (rows of the left, columns of the right) lie side by side in a panel, and two
//! neighbours along the sum share a word, which is what `vdpbf16ps` takes.

use std::cell::Cell;

use rayon::prelude::*;

use super::{
    matrix::{Blocks, Matrix, MatrixMut},
    simd::{multiply_add, simd},
};

/// Lines of a panel of the left and of the right: 24 vectors of sums.
const LEFT: usize = 12;
const RIGHT: usize = 32;

/// Words of a line that are summed before the next panels' turn: what stays in the first cache.
const DEPTH: usize = 128;

/// Panels of each side that a task multiplies.
const LEFT_PANELS: usize = 16;
const RIGHT_PANELS: usize = 4;

/// The sums of a panel of the left with one of the right.
type Sums = [[f32; RIGHT]; LEFT];

thread_local! {
    /// Memory for panels, kept between products.
    static PANELS: Cell<[Vec<u32>; 2]> = Cell::default();
}

/// `out = lhs rhs + bias`, by blocks that all threads share.
pub(crate) fn product(lhs: Matrix, rhs: Matrix, bias: Option<&[f32]>, out: &mut [f32]) {
    let ([rows, inner], [_, columns]) = (lhs.extents(), rhs.extents());
    assert_eq!(inner, rhs.extents()[0], "product of shapes");
    assert_eq!(rows * columns, out.len(), "the product must fit its slice");
    let words = inner.div_ceil(2);
    if out.is_empty() || words == 0 {
        return match bias {
            Some(bias) => out.chunks_mut(columns.max(1)).for_each(|row| row.copy_from_slice(bias)),
            None => out.fill(0.0),
        };
    }
    let [mut left, mut right] = PANELS.take();
    pack::<LEFT>(lhs, &mut left);
    pack::<RIGHT>(rhs.transposed(), &mut right);
    let (left_panels, right_panels) = (rows.div_ceil(LEFT), columns.div_ceil(RIGHT));
    let across = right_panels.div_ceil(RIGHT_PANELS);
    let blocks = Blocks::new(out, columns);
    (0..left_panels.div_ceil(LEFT_PANELS) * across).into_par_iter().with_max_len(1).for_each(|i| {
        let (first_left, first_right) = (i / across * LEFT_PANELS, i % across * RIGHT_PANELS);
        for depth in (0..words).step_by(DEPTH) {
            let range = |width: usize| depth * width..words.min(depth + DEPTH) * width;
            for panel in first_right..right_panels.min(first_right + RIGHT_PANELS) {
                let right = &right[panel * words * RIGHT..][range(RIGHT)];
                let column = panel * RIGHT;
                let width = RIGHT.min(columns - column);
                for panel in first_left..left_panels.min(first_left + LEFT_PANELS) {
                    let left = &left[panel * words * LEFT..][range(LEFT)];
                    let row = panel * LEFT;
                    let height = LEFT.min(rows - row);
                    // SAFETY: each pair of panels is met once a depth, by one task, and blocks of two pairs never
                    // overlap: they differ in rows or in columns.
                    let out = unsafe { blocks.block(row, height, column, width) };
                    let bias = bias.filter(|_| depth == 0).map(|bias| &bias[column..][..width]);
                    write(&panel_product(left, right), depth == 0, bias, out);
                }
            }
        }
    });
    PANELS.set([left, right]);
}

/// Sums become the product, or are added to it.
fn write(sums: &Sums, first: bool, bias: Option<&[f32]>, mut out: MatrixMut) {
    for (index, sums) in sums.iter().enumerate().take(out.height()) {
        let row = out.row(index);
        match (first, bias) {
            (true, Some(bias)) => {
                for ((out, sum), bias) in row.iter_mut().zip(sums).zip(bias) {
                    *out = sum + bias;
                }
            }
            (true, None) => row.copy_from_slice(&sums[..row.len()]),
            (false, _) => {
                for (out, sum) in row.iter_mut().zip(sums) {
                    *out += sum;
                }
            }
        }
    }
}

/// Packs the rows of `x` into panels of `WIDTH`; lines and a half word that are missing are zero.
fn pack<const WIDTH: usize>(x: Matrix, panels: &mut Vec<u32>) {
    let [rows, inner] = x.extents();
    let words = inner.div_ceil(2);
    panels.resize(rows.div_ceil(WIDTH) * words * WIDTH, 0);
    panels.par_chunks_mut(words * WIDTH).enumerate().for_each(|(panel, out)| {
        let first = panel * WIDTH;
        let lines = x.rows(first, WIDTH.min(rows - first));
        if x.is_row_major() {
            pack_rows::<WIDTH>(lines, out)
        } else {
            pack_columns::<WIDTH>(lines, out)
        }
    });
}

/// Elements of a line lie side by side.
fn pack_rows<const WIDTH: usize>(lines: Matrix, out: &mut [u32]) {
    let [height, _] = lines.extents();
    let (out, _) = out.as_chunks_mut::<WIDTH>();
    if height < WIDTH {
        out.iter_mut().for_each(|words| words[height..].fill(0));
    }
    for line in 0..height {
        pack_line::<WIDTH>(lines.row(line), line, out);
    }
}

/// Word by word: a block of words at a time is rounded as vectors, then spread.
fn pack_line<const WIDTH: usize>(row: &[f32], line: usize, out: &mut [[u32; WIDTH]]) {
    const BLOCK: usize = 16;
    let mut words = [0; BLOCK];
    for (row, out) in row.chunks(2 * BLOCK).zip(out.chunks_mut(BLOCK)) {
        round_pairs(row, &mut words);
        for (out, word) in out.iter_mut().zip(words) {
            out[line] = word;
        }
    }
}

simd! {
    /// Neighbours of a row to words.
    fn round_pairs(row: &[f32], words: &mut [u32; 16]) {
        let (pairs, rest) = row.as_chunks::<2>();
        for (word, [low, high]) in words.iter_mut().zip(pairs) {
            *word = pair(*low, *high);
        }
        if let [low] = rest {
            words[pairs.len()] = pair(*low, 0.0);
        }
    }
}

/// Elements of a step along the sum lie side by side.
fn pack_columns<const WIDTH: usize>(lines: Matrix, out: &mut [u32]) {
    let ([height, inner], columns) = (lines.extents(), lines.transposed());
    let (out, _) = out.as_chunks_mut::<WIDTH>();
    let zeros = [0.0; WIDTH];
    for (index, words) in out.iter_mut().enumerate() {
        let low = columns.row(2 * index);
        let high =
            if 2 * index + 1 < inner { columns.row(2 * index + 1) } else { &zeros[..height] };
        words[height..].fill(0);
        round_rows(low, high, &mut words[..height]);
    }
}

simd! {
    /// Two rows to words.
    fn round_rows(low: &[f32], high: &[f32], words: &mut [u32]) {
        for ((word, low), high) in words.iter_mut().zip(low).zip(high) {
            *word = pair(*low, *high);
        }
    }
}

/// Two numbers as bfloat16, the first in the lower half.
#[inline(always)]
fn pair(low: f32, high: f32) -> u32 {
    (rounded(low) >> 16) | (rounded(high) & 0xFFFF_0000)
}

/// The bits of the nearest bfloat16 in the upper half, ties to even; the lower half carries no meaning.
#[inline(always)]
fn rounded(x: f32) -> u32 {
    let bits = x.to_bits();
    let nearest = bits.wrapping_add(0x7FFF + ((bits >> 16) & 1));
    // A NaN stays one.
    if x.is_nan() { bits | 0x0040_0000 } else { nearest }
}

/// The sums over two panels.
fn panel_product(left: &[u32], right: &[u32]) -> Sums {
    let ((left, _), (right, _)) = (left.as_chunks::<LEFT>(), right.as_chunks::<RIGHT>());
    #[cfg(target_arch = "x86_64")]
    if has_bf16() {
        // SAFETY: `has_bf16` has found the features on this machine.
        return unsafe { x86::panel_product(left, right) };
    }
    let mut sums = [[0.0; RIGHT]; LEFT];
    portable(left, right, &mut sums);
    sums
}

/// Whether the machine multiplies bfloat16 itself.
#[cfg(target_arch = "x86_64")]
fn has_bf16() -> bool {
    #[cfg(test)]
    if super::simd::level() != super::simd::Level::V4 {
        return false;
    }
    is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bf16")
}

simd! {
    /// What `vdpbf16ps` does, but for the order in which a word's two products are added.
    fn portable(left: &[[u32; LEFT]], right: &[[u32; RIGHT]], sums: &mut Sums) {
        for (left, right) in left.iter().zip(right) {
            for (sums, left) in sums.iter_mut().zip(left) {
                let (low, high) = halves(*left);
                for (sum, right) in sums.iter_mut().zip(right) {
                    let (right_low, right_high) = halves(*right);
                    *sum = multiply_add::<FMA>(low, right_low, multiply_add::<FMA>(high, right_high, *sum));
                }
            }
        }
    }
}

#[inline(always)]
fn halves(word: u32) -> (f32, f32) {
    (f32::from_bits(word << 16), f32::from_bits(word & 0xFFFF_0000))
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        __m512bh, __m512i, _mm512_dpbf16_ps, _mm512_loadu_epi32, _mm512_set1_epi32,
        _mm512_setzero_ps, _mm512_storeu_ps,
    };

    use super::{LEFT, RIGHT, Sums};

    #[target_feature(enable = "avx512f,avx512bf16")]
    pub(super) fn panel_product(left: &[[u32; LEFT]], right: &[[u32; RIGHT]]) -> Sums {
        let mut vectors = [[_mm512_setzero_ps(); RIGHT / 16]; LEFT];
        for (left, right) in left.iter().zip(right) {
            // SAFETY: both halves of `right` are 16 words that may be read.
            let right = unsafe {
                [0, 16].map(|first| pairs(_mm512_loadu_epi32(right.as_ptr().add(first).cast())))
            };
            for (vectors, left) in vectors.iter_mut().zip(left) {
                let left = pairs(_mm512_set1_epi32(left.cast_signed()));
                vectors[0] = _mm512_dpbf16_ps(vectors[0], left, right[0]);
                vectors[1] = _mm512_dpbf16_ps(vectors[1], left, right[1]);
            }
        }
        let mut sums = [[0.0; RIGHT]; LEFT];
        for (sums, vectors) in sums.iter_mut().zip(vectors) {
            // SAFETY: `sums` are 32 numbers that may be written.
            unsafe {
                _mm512_storeu_ps(sums.as_mut_ptr(), vectors[0]);
                _mm512_storeu_ps(sums.as_mut_ptr().add(16), vectors[1]);
            }
        }
        sums
    }

    #[inline(always)]
    fn pairs(words: __m512i) -> __m512bh {
        // SAFETY: both are 512 bits of which every pattern is valid.
        unsafe { std::mem::transmute(words) }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;
    use crate::kernel::simd::tests::PORTABLE;

    fn numbers(count: usize, seed: u32) -> Vec<f32> {
        (0..count as u32)
            .map(|i| {
                (i.wrapping_mul(2_654_435_761).wrapping_add(seed) >> 8) as f32 / 8_388_608.0 - 1.0
            })
            .collect()
    }

    fn nearest(x: f32) -> f64 {
        f64::from(f32::from_bits(rounded(x) & 0xFFFF_0000))
    }

    /// Against sums in float64 over rounded elements; all four layouts, odd extents, more than one block each way.
    #[test]
    fn product_is_the_loop() {
        for portable in [false, true] {
            PORTABLE.store(portable, Ordering::Relaxed);
            for [rows, inner, columns] in
                [[1, 1, 1], [13, 7, 33], [200, 301, 150], [12, 256, 32], [5, 0, 3]]
            {
                let (x, y) = (numbers(rows * inner, 1), numbers(inner * columns, 2));
                let bias = numbers(columns, 3);
                for (turn_x, turn_y) in [(false, false), (true, false), (false, true), (true, true)]
                {
                    let lhs = if turn_x {
                        Matrix::new(&x, inner, rows, rows).transposed()
                    } else {
                        Matrix::new(&x, rows, inner, inner)
                    };
                    let rhs = if turn_y {
                        Matrix::new(&y, columns, inner, inner).transposed()
                    } else {
                        Matrix::new(&y, inner, columns, columns)
                    };
                    let mut out = vec![f32::NAN; rows * columns];
                    product(lhs, rhs, Some(&bias), &mut out);
                    for (index, out) in out.iter().enumerate() {
                        let (row, column) = (index / columns, index % columns);
                        let sum: f64 = (0..inner)
                            .map(|k| {
                                let x = if turn_x { x[k * rows + row] } else { x[row * inner + k] };
                                let y = if turn_y {
                                    y[column * inner + k]
                                } else {
                                    y[k * columns + column]
                                };
                                nearest(x) * nearest(y)
                            })
                            .sum();
                        let expected = sum + f64::from(bias[column]);
                        assert!(
                            (f64::from(*out) - expected).abs() < 1e-4,
                            "{rows} {inner} {columns}: {out} {expected}"
                        );
                    }
                }
            }
        }
        PORTABLE.store(false, Ordering::Relaxed);
    }

    /// 1 + 1/256 lies between 1 and 1 + 1/128: the tie goes to the even one.
    #[test]
    fn ties_go_to_even() {
        for (x, expected) in [
            (1.0 + 1.0 / 256.0, 1.0),
            (1.0 + 3.0 / 256.0, 1.0 + 1.0 / 64.0),
            (-1.003, -1.0),
            (f32::INFINITY, f64::INFINITY),
            (f32::MAX, f64::INFINITY),
        ] {
            assert_eq!(nearest(x), f64::from(expected as f32));
        }
        assert!(nearest(f32::from_bits(0x7F80_0001)).is_nan());
    }
}
