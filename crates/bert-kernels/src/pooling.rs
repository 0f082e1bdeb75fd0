//! Pooling over the tokens of each sequence, weighted by a softmax.

use burn::tensor::{Tensor, activation::softmax};

use crate::sequences::Sequences;

/// What a score is set to that stands for no token: its exponential is exactly zero.
const HIDDEN: f32 = -1e30;

/// For each sequence and column the sum over its tokens of `softmax(scores) x`, the softmax over those tokens.
///
/// # Shapes
/// - `x`: `[tokens, width]`
/// - `scores`: `[tokens, width]`, or `[tokens, 1]` for one weight a token
/// - output: `[sequences, width]`
///
/// # Panics
/// When shapes do not agree.
pub fn softmax_pooling(x: Tensor<2>, scores: Tensor<2>, sequences: &Sequences) -> Tensor<2> {
    let ([tokens, width], [rows, columns]) = (x.dims(), scores.dims());
    assert!(
        tokens == sequences.tokens() && rows == tokens && (columns == width || columns == 1),
        "softmax_pooling: scores [{rows}, {columns}] do not fit [{tokens}, {width}] and {} tokens",
        sequences.tokens()
    );
    #[cfg(feature = "flex")]
    if crate::flex::is_fast(&x) {
        return crate::flex::pooling::softmax_pooling(x, scores, sequences.clone());
    }
    let weighted = x * softmax_over_tokens(scores, sequences);
    sequences.pad(weighted).sum_dim(1).squeeze_dim(1)
}

/// The softmax over the tokens of each sequence, column by column.
///
/// # Shapes
/// `[tokens, width]`, the shape of the output
pub fn softmax_over_tokens(scores: Tensor<2>, sequences: &Sequences) -> Tensor<2> {
    sequences.unpad(softmax(sequences.pad_with(scores, HIDDEN), 1))
}
