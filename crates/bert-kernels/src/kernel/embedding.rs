//! Rows of a table, and the sum of gradients by row.

use rayon::prelude::*;

use super::linear::add_rows;

/// Rows a task copies or sums.
const ROWS: usize = 256;

/// `out` = the rows of `weight` at `ids`.
pub(crate) fn forward(weight: &[f32], ids: &[usize], width: usize, out: &mut [f32]) {
    out.par_chunks_mut(ROWS * width).zip(ids.par_chunks(ROWS)).for_each(|(out, ids)| {
        for (out, id) in out.chunks_mut(width).zip(ids) {
            out.copy_from_slice(&weight[id * width..][..width]);
        }
    });
}

/// `out` = for each row of the table the sum of the rows of `grad` with its id, in their order.
pub(crate) fn backward(grad: &[f32], ids: &[usize], width: usize, out: &mut [f32]) {
    let mut places: Vec<(usize, usize)> = ids.iter().copied().zip(0..).collect();
    places.sort_unstable();
    out.par_chunks_mut(ROWS * width).enumerate().for_each(|(block, out)| {
        out.fill(0.0);
        let first = block * ROWS;
        let of_block = &places[places.partition_point(|place| place.0 < first)..];
        for (id, place) in of_block.iter().take_while(|place| place.0 < first + ROWS) {
            add_rows(&grad[place * width..][..width], &mut out[(id - first) * width..][..width]);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_gathered_and_summed_across_blocks() {
        let (rows, width) = (ROWS * 2 + 3, 3);
        let ids = [0, rows - 1, ROWS, ROWS - 1, ROWS, 0, 0];
        let weight: Vec<f32> = (0..rows * width).map(|x| x as f32).collect();
        let mut out = vec![-1.0; ids.len() * width];
        forward(&weight, &ids, width, &mut out);
        for (out, id) in out.chunks(width).zip(ids) {
            assert_eq!(out, &weight[id * width..][..width]);
        }
        let grad: Vec<f32> = (0..ids.len() * width).map(|x| x as f32).collect();
        let mut sums = vec![-1.0; rows * width];
        backward(&grad, &ids, width, &mut sums);
        let mut expected = vec![0.0; rows * width];
        for (place, id) in ids.into_iter().enumerate() {
            (0..width).for_each(|i| expected[id * width + i] += grad[place * width + i]);
        }
        assert_eq!(sums, expected);
    }
}
