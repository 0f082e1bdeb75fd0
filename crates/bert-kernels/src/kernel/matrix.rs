//! Strided views and their product.

use std::marker::PhantomData;

use gemm::{Parallelism, gemm};
use rayon::prelude::*;

/// Columns of a tile of a product.
const COLUMNS: usize = 128;

/// The most rows of a tile, and the fewest that a tile is cut down to so that there are [`TILES`].
const ROWS: [usize; 2] = [512, 64];

/// Tiles that threads can share evenly enough.
const TILES: usize = 6;

/// A matrix to read: element `(i, j)` lies at `i * row_stride + j * column_stride`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Matrix<'a> {
    data: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// `rows` rows of `columns` numbers, each `stride` behind the one before.
    pub(crate) fn new(data: &'a [f32], rows: usize, columns: usize, stride: usize) -> Self {
        assert!(fits(data.len(), rows, columns, stride), "the matrix must fit its slice");
        Self { data, rows, columns, row_stride: stride, column_stride: 1 }
    }

    /// The numbers of rows and columns.
    pub(crate) fn extents(self) -> [usize; 2] {
        [self.rows, self.columns]
    }

    /// Whether the elements of a row are adjacent.
    pub(crate) fn is_row_major(self) -> bool {
        self.column_stride == 1
    }

    /// Row `index`, whose elements are adjacent.
    pub(crate) fn row(self, index: usize) -> &'a [f32] {
        assert!(self.is_row_major(), "the elements of a row are adjacent");
        &self.data[index * self.row_stride..][..self.columns]
    }

    /// Rows `first..first + count`.
    pub(crate) fn rows(self, first: usize, count: usize) -> Self {
        Self { data: &self.data[first * self.row_stride..], rows: count, ..self }
    }

    /// Columns `first..first + count`.
    fn columns(self, first: usize, count: usize) -> Self {
        Self { data: &self.data[first * self.column_stride..], columns: count, ..self }
    }

    /// Rows and columns exchanged; nothing moves.
    pub(crate) fn transposed(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }
}

/// A matrix to write, its rows `stride` apart, its columns adjacent.
#[derive(Debug)]
pub(crate) struct MatrixMut<'a> {
    data: *mut f32,
    rows: usize,
    columns: usize,
    stride: usize,
    lifetime: PhantomData<&'a mut [f32]>,
}

impl<'a> MatrixMut<'a> {
    /// `rows` rows of `columns` numbers, each `stride` behind the one before.
    pub(crate) fn new(data: &'a mut [f32], rows: usize, columns: usize, stride: usize) -> Self {
        assert!(fits(data.len(), rows, columns, stride), "the matrix must fit its slice");
        Self { data: data.as_mut_ptr(), rows, columns, stride, lifetime: PhantomData }
    }

    /// The number of rows.
    pub(crate) fn height(&self) -> usize {
        self.rows
    }

    /// Row `index`.
    pub(crate) fn row(&mut self, index: usize) -> &mut [f32] {
        assert!(index < self.rows, "the matrix has that row");
        // SAFETY: `new` and `Blocks::block` have checked that every row lies in memory that this view alone may
        // touch for its lifetime, and the borrow of `self` keeps the row from being handed out twice.
        unsafe { std::slice::from_raw_parts_mut(self.data.add(index * self.stride), self.columns) }
    }

    /// `self = factor lhs rhs`, plus what it held before if `add`.
    pub(crate) fn product(&mut self, add: bool, factor: f32, lhs: Matrix, rhs: Matrix) {
        assert_eq!(
            [self.rows, lhs.columns, self.columns],
            [lhs.rows, rhs.rows, rhs.columns],
            "product of shapes"
        );
        // SAFETY: the constructors have checked that every element of the three views lies in its slice, and the
        // borrow rules that what is written overlaps nothing that is read.
        unsafe {
            gemm(
                self.rows,
                self.columns,
                lhs.columns,
                self.data,
                1,
                self.stride as isize,
                add,
                lhs.data.as_ptr(),
                lhs.column_stride as isize,
                lhs.row_stride as isize,
                rhs.data.as_ptr(),
                rhs.column_stride as isize,
                rhs.row_stride as isize,
                1.0,
                factor,
                false,
                false,
                false,
                Parallelism::None,
            );
        }
    }
}

/// A matrix of which several threads write blocks that do not overlap.
#[derive(Debug)]
pub(crate) struct Blocks<'a> {
    data: *mut f32,
    length: usize,
    stride: usize,
    lifetime: PhantomData<&'a mut [f32]>,
}

// SAFETY: the pointer is used through `block` only, whose caller promises that no two blocks overlap.
unsafe impl Sync for Blocks<'_> {}

impl<'a> Blocks<'a> {
    /// A matrix of rows of `stride` numbers.
    pub(crate) fn new(data: &'a mut [f32], stride: usize) -> Self {
        Self { data: data.as_mut_ptr(), length: data.len(), stride, lifetime: PhantomData }
    }

    /// The block of `rows` rows and `columns` columns at `(row, column)`.
    ///
    /// # Safety
    /// While a block lives, no other block that overlaps it may be asked for.
    pub(crate) unsafe fn block(
        &self,
        row: usize,
        rows: usize,
        column: usize,
        columns: usize,
    ) -> MatrixMut<'a> {
        let start = row * self.stride + column;
        assert!(
            column + columns <= self.stride
                && start <= self.length
                && fits(self.length - start, rows, columns, self.stride),
            "the block must lie in the matrix"
        );
        // SAFETY: `start` is at most one past the end of the slice that `data` points into.
        let data = unsafe { self.data.add(start) };
        MatrixMut { data, rows, columns, stride: self.stride, lifetime: PhantomData }
    }
}

/// `out = lhs rhs + bias`, by tiles that all threads share.
pub(crate) fn product(lhs: Matrix, rhs: Matrix, bias: Option<&[f32]>, out: &mut [f32]) {
    let (rows, columns) = (lhs.rows, rhs.columns);
    assert_eq!(rows * columns, out.len(), "the product must fit its slice");
    let height = tile_rows(rows, columns);
    let across = columns.div_ceil(COLUMNS);
    let out = Blocks::new(out, columns);
    (0..rows.div_ceil(height) * across).into_par_iter().with_max_len(1).for_each(|tile| {
        let (row, column) = (tile / across * height, tile % across * COLUMNS);
        let (height, width) = (height.min(rows - row), COLUMNS.min(columns - column));
        // SAFETY: each tile is asked for once, and tiles do not overlap.
        let mut out = unsafe { out.block(row, height, column, width) };
        if let Some(bias) = bias {
            (0..height).for_each(|row| out.row(row).copy_from_slice(&bias[column..column + width]));
        }
        out.product(bias.is_some(), 1.0, lhs.rows(row, height), rhs.columns(column, width));
    });
}

/// How many rows a tile of a matrix has: about the most, but so that there are enough tiles.
fn tile_rows(rows: usize, columns: usize) -> usize {
    let mut parts = rows.div_ceil(ROWS[0]).max(1);
    while parts * columns.div_ceil(COLUMNS) < TILES && rows > parts * ROWS[1] {
        parts *= 2;
    }
    // Whole vectors, for the last tile as well as it can be.
    rows.div_ceil(parts).next_multiple_of(16).max(16)
}

/// `out` = the transpose of `x`, which has rows of `columns`.
pub(crate) fn transpose(x: &[f32], columns: usize, out: &mut [f32]) {
    const SIDE: usize = 16;
    let rows = x.len() / columns;
    assert_eq!(rows * columns, out.len(), "the transpose must fit its slice");
    out.par_chunks_mut(SIDE * rows).enumerate().for_each(|(strip, out)| {
        for first in (0..rows).step_by(SIDE) {
            for (index, out) in out.chunks_mut(rows).enumerate() {
                let column = strip * SIDE + index;
                for (offset, out) in out[first..rows.min(first + SIDE)].iter_mut().enumerate() {
                    *out = x[(first + offset) * columns + column];
                }
            }
        }
    });
}

/// Whether a matrix of these extents lies in `length` numbers.
fn fits(length: usize, rows: usize, columns: usize, stride: usize) -> bool {
    rows == 0 || columns == 0 || (columns <= stride && (rows - 1) * stride + columns <= length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn product_by_hand() {
        let (lhs, rhs) = ([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [1.0, 0.0, 2.0, 1.0, 0.0, 3.0]);
        let mut out = [1.0; 4];
        let (a, b) = (Matrix::new(&lhs, 2, 3, 3), Matrix::new(&rhs, 3, 2, 2));
        // [1 2 3; 4 5 6] [1 0; 2 1; 0 3] = [5 11; 14 23]
        MatrixMut::new(&mut out, 2, 2, 2).product(false, 1.0, a, b);
        assert_eq!(out, [5.0, 11.0, 14.0, 23.0]);
        MatrixMut::new(&mut out, 2, 2, 2).product(true, 2.0, b.transposed(), a.transposed());
        // Its transpose, doubled, on top.
        assert_eq!(out, [15.0, 39.0, 36.0, 69.0]);
    }

    /// More than one tile each way, and tiles that end early.
    #[test]
    fn tiles_make_up_the_product() {
        let numbers =
            |count: usize| (0..count).map(|i| (i * 7 % 11) as f32 - 5.0).collect::<Vec<_>>();
        for [rows, inner, columns] in [[600, 3, 150], [70, 5, 131], [1, 1, 1], [0, 2, 3]] {
            let (lhs, rhs, bias) =
                (numbers(rows * inner), numbers(inner * columns), numbers(columns));
            let mut out = vec![f32::NAN; rows * columns];
            let views =
                (Matrix::new(&lhs, rows, inner, inner), Matrix::new(&rhs, inner, columns, columns));
            product(views.0, views.1, Some(&bias), &mut out);
            for (index, out) in out.into_iter().enumerate() {
                let (row, column) = (index / columns, index % columns);
                let sum: f32 =
                    (0..inner).map(|k| lhs[row * inner + k] * rhs[k * columns + column]).sum();
                assert_eq!(out, sum + bias[column], "({row}, {column})");
            }
        }
    }

    #[test]
    fn transpose_by_index() {
        for (rows, columns) in [(37, 50), (1, 5), (16, 16)] {
            let x: Vec<f32> = (0..rows * columns).map(|i| i as f32).collect();
            let mut out = vec![f32::NAN; rows * columns];
            transpose(&x, columns, &mut out);
            for (index, out) in out.into_iter().enumerate() {
                assert_eq!(out, x[index % rows * columns + index / rows]);
            }
        }
    }

    #[test]
    #[should_panic(expected = "must fit")]
    fn views_stay_in_their_slice() {
        let _ = Matrix::new(&[0.0; 10], 3, 4, 4);
    }

    #[test]
    #[should_panic(expected = "must lie in")]
    fn blocks_stay_in_their_matrix() {
        let mut data = [0.0; 12];
        // SAFETY: the only block.
        let _ = unsafe { Blocks::new(&mut data, 4).block(1, 3, 0, 4) };
    }
}
