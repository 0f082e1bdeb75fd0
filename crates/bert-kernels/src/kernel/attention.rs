//! Attention within each sequence of a packed batch, and its gradients.
//!
//! A task is one head of one sequence; it walks over blocks of queries, so that scores stay in the cache. Nothing is
//! kept for the backward pass: probabilities are computed again, and dropout draws its bits again.

use std::{cell::RefCell, ops::Range};

use rayon::prelude::*;

use super::{
    dropout::{ELEMENTS, draw, factor},
    matrix::{Blocks, Matrix, MatrixMut},
    simd::{LANES, dot, exp, simd, sum_lanes},
};
use crate::{dropout::Dropout, sequences::Sequences};

/// Queries a task works at together.
const QUERIES: usize = 128;

/// What does not change between the passes.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) queries: Sequences,
    pub(crate) keys: Sequences,
    pub(crate) num_heads: usize,
    pub(crate) width: usize,
    pub(crate) drop: Option<Dropout>,
    pub(crate) window: Option<usize>,
}

/// A head of a sequence.
#[derive(Debug, Clone)]
struct Task {
    sequence: usize,
    head: usize,
    /// Its rows among all queries, and among all keys.
    queries: Range<usize>,
    keys: Range<usize>,
}

impl Task {
    /// The rows of a tile's queries, and of its keys.
    fn rows(&self, tile: Tile) -> [Range<usize>; 2] {
        let (query, key) = (self.queries.start + tile.query, self.keys.start + tile.key);
        [query..query + tile.queries, key..key + tile.keys]
    }
}

/// Some queries of a task and the keys that they may attend to.
#[derive(Debug, Clone, Copy)]
struct Tile {
    query: usize,
    queries: usize,
    key: usize,
    keys: usize,
}

/// Memory that a thread works in, kept between tasks.
#[derive(Default)]
struct Scratch {
    probabilities: Vec<f32>,
    grads: Vec<f32>,
    bits: Vec<u16>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

impl Plan {
    fn size(&self) -> usize {
        self.width / self.num_heads
    }

    fn tasks(&self) -> impl IndexedParallelIterator<Item = Task> + '_ {
        (0..self.queries.len() * self.num_heads).into_par_iter().map(|index| {
            let (sequence, head) = (index / self.num_heads, index % self.num_heads);
            let (queries, keys) = (self.queries.range(sequence), self.keys.range(sequence));
            Task { sequence, head, queries, keys }
        })
    }

    fn tiles(&self, task: &Task) -> impl Iterator<Item = Tile> + use<> {
        let (all_queries, all_keys) = (task.queries.len(), task.keys.len());
        let window = self.window.unwrap_or(all_keys);
        (0..all_queries).step_by(QUERIES).map(move |query| {
            let queries = QUERIES.min(all_queries - query);
            // Keys begin where a counter of the dropout begins.
            let key = query.saturating_sub(window) / ELEMENTS * ELEMENTS;
            let end = (query + queries).saturating_add(window).min(all_keys);
            Tile { query, queries, key, keys: end - key }
        })
    }

    /// The columns of a head in some rows.
    fn view<'a>(&self, x: &'a [f32], head: usize, rows: &Range<usize>) -> Matrix<'a> {
        let start = rows.start * self.width + head * self.size();
        Matrix::new(&x[start..], rows.len(), self.size(), self.width)
    }

    /// The columns of a head in some rows, to write.
    ///
    /// # Safety
    /// The rows are of the task's own sequence, a task is run once, and while a block lives, the task asks for no other
    /// of the same matrix. Blocks of two tasks never overlap: they differ in sequence, and so in rows, or in head, and
    /// so in columns.
    unsafe fn block<'b>(&self, x: &'b Blocks, head: usize, rows: &Range<usize>) -> MatrixMut<'b> {
        // SAFETY: the caller's promise.
        unsafe { x.block(rows.start, rows.len(), head * self.size(), self.size()) }
    }

    /// Fills `probabilities` with those of a tile, before dropout.
    fn probabilities(
        &self,
        query: &[f32],
        key: &[f32],
        task: &Task,
        tile: Tile,
        probabilities: &mut [f32],
    ) {
        let scale = 1.0 / (self.size() as f32).sqrt();
        let [queries, keys] = task.rows(tile);
        let queries = self.view(query, task.head, &queries);
        let keys = self.view(key, task.head, &keys).transposed();
        MatrixMut::new(probabilities, tile.queries, tile.keys, tile.keys)
            .product(false, scale, queries, keys);
        let window = self.window.unwrap_or(task.keys.len());
        for (row, probabilities) in probabilities.chunks_mut(tile.keys).enumerate() {
            let query = tile.query + row;
            let first = query.saturating_sub(window).saturating_sub(tile.key);
            let end = (query + 1).saturating_add(window).min(tile.key + tile.keys) - tile.key;
            probabilities[..first].fill(0.0);
            probabilities[end..].fill(0.0);
            softmax(&mut probabilities[first..end]);
        }
    }

    /// Draws the random bits of a tile.
    fn draw(&self, drop: &Dropout, task: &Task, tile: Tile, bits: &mut Vec<u16>) {
        bits.resize(tile.queries * tile.keys.next_multiple_of(ELEMENTS), 0);
        let upper = [task.sequence as u32, task.head as u32];
        draw(drop, tile.keys, tile.key / ELEMENTS, tile.query, upper, bits);
    }

    /// `out = dropout(softmax(query key^T / sqrt(size))) value`.
    pub(crate) fn forward(&self, query: &[f32], key: &[f32], value: &[f32], out: &mut [f32]) {
        let out = Blocks::new(out, self.width);
        self.tasks().for_each(|task| {
            SCRATCH.with_borrow_mut(|scratch| {
                for tile in self.tiles(&task) {
                    let probabilities = fitting(&mut scratch.probabilities, tile);
                    self.probabilities(query, key, &task, tile, probabilities);
                    if let Some(drop) = &self.drop {
                        self.draw(drop, &task, tile, &mut scratch.bits);
                        dropped(
                            probabilities,
                            &scratch.bits,
                            tile.keys,
                            drop.threshold() as u16,
                            drop.scale(),
                        );
                    }
                    let [queries, keys] = task.rows(tile);
                    // SAFETY: the tasks run once each, and the block before is gone.
                    let mut out = unsafe { self.block(&out, task.head, &queries) };
                    let probabilities =
                        Matrix::new(probabilities, tile.queries, tile.keys, tile.keys);
                    out.product(false, 1.0, probabilities, self.view(value, task.head, &keys));
                }
            });
        });
    }

    /// The gradients of query, key and value, for that of the output.
    pub(crate) fn backward(
        &self,
        [query, key, value]: [&[f32]; 3],
        grad: &[f32],
        [grad_query, grad_key, grad_value]: [&mut [f32]; 3],
    ) {
        let scale = 1.0 / (self.size() as f32).sqrt();
        let grad_query = Blocks::new(grad_query, self.width);
        let grad_key = Blocks::new(grad_key, self.width);
        let grad_value = Blocks::new(grad_value, self.width);
        self.tasks().for_each(|task| {
            // SAFETY: the tasks run once each, and of a matrix no two blocks live at the same time.
            let block =
                |blocks, rows: &Range<usize>| unsafe { self.block(blocks, task.head, rows) };
            for blocks in [&grad_key, &grad_value] {
                let mut whole = block(blocks, &task.keys);
                (0..task.keys.len()).for_each(|row| whole.row(row).fill(0.0));
            }
            SCRATCH.with_borrow_mut(|scratch| {
                for tile in self.tiles(&task) {
                    let Scratch { probabilities, grads, bits } = scratch;
                    let probabilities = fitting(probabilities, tile);
                    let grads = fitting(grads, tile);
                    self.probabilities(query, key, &task, tile, probabilities);
                    let [queries, keys] = task.rows(tile);
                    let upstream = self.view(grad, task.head, &queries);
                    let values = self.view(value, task.head, &keys);
                    MatrixMut::new(grads, tile.queries, tile.keys, tile.keys).product(
                        false,
                        1.0,
                        upstream,
                        values.transposed(),
                    );
                    // `grads` becomes that of the scores, `probabilities` what values were weighted with.
                    match &self.drop {
                        Some(drop) => {
                            self.draw(drop, &task, tile, bits);
                            let (threshold, scale) = (drop.threshold() as u16, drop.scale());
                            softmax_backward_dropped(
                                probabilities,
                                grads,
                                bits,
                                tile.keys,
                                threshold,
                                scale,
                            );
                        }
                        None => softmax_backward(probabilities, grads, tile.keys),
                    }
                    let weights = Matrix::new(probabilities, tile.queries, tile.keys, tile.keys);
                    let scores = Matrix::new(grads, tile.queries, tile.keys, tile.keys);
                    block(&grad_value, &keys).product(true, 1.0, weights.transposed(), upstream);
                    block(&grad_query, &queries).product(
                        false,
                        scale,
                        scores,
                        self.view(key, task.head, &keys),
                    );
                    block(&grad_key, &keys).product(
                        true,
                        scale,
                        scores.transposed(),
                        self.view(query, task.head, &queries),
                    );
                }
            });
        });
    }
}

/// The beginning of `memory`, grown to hold a tile.
fn fitting(memory: &mut Vec<f32>, tile: Tile) -> &mut [f32] {
    let length = tile.queries * tile.keys;
    if memory.len() < length {
        memory.resize(length, 0.0);
    }
    &mut memory[..length]
}

simd! {
    /// Softmax of a row, in place.
    fn softmax(row: &mut [f32]) {
        let mut largest = [f32::NEG_INFINITY; LANES];
        let (chunks, rest) = row.as_chunks::<LANES>();
        chunks.iter().for_each(|chunk| maximum(&mut largest, chunk));
        maximum(&mut largest, rest);
        let largest = largest.into_iter().fold(f32::NEG_INFINITY, |a, b| if b > a { b } else { a });
        let mut sums = [0.0; LANES];
        let (chunks, rest) = row.as_chunks_mut::<LANES>();
        chunks.iter_mut().for_each(|chunk| exponentials::<FMA>(&mut sums, chunk, largest));
        exponentials::<FMA>(&mut sums, rest, largest);
        let inverse = 1.0 / sum_lanes(sums);
        for x in row {
            *x *= inverse;
        }
    }
}

#[inline(always)]
fn maximum(largest: &mut [f32; LANES], x: &[f32]) {
    for (largest, x) in largest.iter_mut().zip(x) {
        *largest = if *x > *largest { *x } else { *largest };
    }
}

#[inline(always)]
fn exponentials<const FMA: bool>(sums: &mut [f32; LANES], x: &mut [f32], largest: f32) {
    for (sum, x) in sums.iter_mut().zip(x) {
        *x = exp::<FMA>(*x - largest);
        *sum += *x;
    }
}

simd! {
    fn dropped(probabilities: &mut [f32], bits: &[u16], keys: usize, threshold: u16, scale: f32) {
        for (row, bits) in probabilities.chunks_mut(keys).zip(bits.chunks(keys.next_multiple_of(ELEMENTS))) {
            for (p, bits) in row.iter_mut().zip(bits) {
                *p *= factor(*bits, threshold, scale);
            }
        }
    }
}

simd! {
    /// `grads` of the probabilities become those of the scores.
    fn softmax_backward(probabilities: &[f32], grads: &mut [f32], keys: usize) {
        for (probabilities, grads) in probabilities.chunks(keys).zip(grads.chunks_mut(keys)) {
            let sum = dot(probabilities, grads);
            for (p, grad) in probabilities.iter().zip(grads) {
                *grad = p * (*grad - sum);
            }
        }
    }
}

simd! {
    /// [`softmax_backward`] behind dropout, which `probabilities` pass, too.
    fn softmax_backward_dropped(
        probabilities: &mut [f32],
        grads: &mut [f32],
        bits: &[u16],
        keys: usize,
        threshold: u16,
        scale: f32,
    ) {
        let rows = probabilities.chunks_mut(keys).zip(grads.chunks_mut(keys));
        for ((probabilities, grads), bits) in rows.zip(bits.chunks(keys.next_multiple_of(ELEMENTS))) {
            for (grad, bits) in grads.iter_mut().zip(bits) {
                *grad *= factor(*bits, threshold, scale);
            }
            let sum = dot(probabilities, grads);
            for ((p, grad), bits) in probabilities.iter_mut().zip(grads).zip(bits) {
                *grad = *p * (*grad - sum);
                *p *= factor(*bits, threshold, scale);
            }
        }
    }
}
