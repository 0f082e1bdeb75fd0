//! Multi-head scaled dot-product attention within each sequence of a packed batch.
//!
//! Queries and keys are packed by [`Sequences`] of their own, so that fewer tokens may ask than are asked: the last layer
//! of an encoder of which only the first token is read needs one query a sequence.

use std::ops::Range;

use burn::tensor::{Bool, Device, Tensor, TensorData, activation::softmax};

use crate::{dropout::Dropout, sequences::Sequences};

/// What a score is set to that must not take part: its exponential is exactly zero, and no infinity is computed with.
const MASKED: f32 = -1e30;

/// How tokens attend to each other.
#[derive(Debug, Clone)]
pub struct AttentionOptions {
    /// The number of heads that the width of queries, keys and values is divided into.
    pub num_heads: usize,
    /// Dropout of the attention probabilities, after the softmax.
    pub dropout: Option<Dropout>,
    /// Added to the scaled scores: `[heads, queries, keys]` of the longest sequence.
    pub bias: Option<Tensor<3>>,
    /// The largest distance between a query and a key it attends to; `None` lets all attend to all.
    pub window: Option<usize>,
    /// Rotation of queries and keys by their positions.
    pub rotary: Option<Rotary>,
}

impl AttentionOptions {
    /// Attention of `num_heads` heads and nothing else.
    pub fn new(num_heads: usize) -> Self {
        Self { num_heads, dropout: None, bias: None, window: None, rotary: None }
    }
}

/// The rotation at each position: the first half of a head's dimensions is rotated against the second half.
///
/// # Shapes
/// `cos`, `sin`: `[positions, head_size]`, at least as many positions as the longest sequence has tokens
///
/// # Source
/// Su et al.: "RoFormer" (arXiv:2104.09864), in the arrangement of halves that checkpoints on the Hub use.
#[derive(Debug, Clone)]
pub struct Rotary {
    /// Cosine of the angle of each position and dimension.
    pub cos: Tensor<2>,
    /// Sine of the angle of each position and dimension.
    pub sin: Tensor<2>,
}

/// For each sequence and head `dropout(softmax(q k^T / sqrt(head_size) + bias)) v`.
///
/// Row `i` of a sequence, of queries as of keys, stands at position `i`. The bits of dropout have the counter
/// `(key / 8, query, sequence, head)`.
///
/// # Shapes
/// - `query`, output: `[tokens of queries, heads * head_size]`
/// - `key`, `value`: `[tokens of keys, heads * head_size]`
///
/// # Panics
/// When shapes do not agree, a sequence has more queries than keys, or the width is no multiple of the number of heads.
///
/// # Source
/// Vaswani et al.: "Attention Is All You Need" (arXiv:1706.03762), section 3.2.
pub fn attention(
    query: Tensor<2>,
    key: Tensor<2>,
    value: Tensor<2>,
    queries: &Sequences,
    keys: &Sequences,
    options: &AttentionOptions,
) -> Tensor<2> {
    let [_, width] = query.dims();
    #[cfg(feature = "flex")]
    if crate::flex::is_fast(&query) && options.bias.is_none() && options.rotary.is_none() {
        return crate::flex::attention::attention(query, key, value, queries, keys, options);
    }
    let mut probabilities = attention_probabilities(query, key, queries, keys, options);
    if let Some(dropout) = options.dropout {
        probabilities = probabilities.clone() * factors(dropout, &probabilities);
    }
    let context = probabilities.matmul(heads(value, keys, options.num_heads));
    let [batch, _, length, _] = context.dims();
    queries.unpad(context.swap_dims(1, 2).reshape([batch, length, width]))
}

/// The attention probabilities before dropout; places behind a sequence's end are 0 for keys and carry no meaning for
/// queries.
///
/// # Shapes
/// `[sequences, heads, queries, keys]`, as many as the longest sequence has
///
/// # Panics
/// As [`attention`].
pub fn attention_probabilities(
    query: Tensor<2>,
    key: Tensor<2>,
    queries: &Sequences,
    keys: &Sequences,
    options: &AttentionOptions,
) -> Tensor<4> {
    let (num_heads, device) = (options.num_heads, query.device());
    let [_, width] = query.dims();
    assert!(
        num_heads > 0 && width.is_multiple_of(num_heads),
        "attention: the width {width} is no multiple of {num_heads} heads"
    );
    check_lengths(queries, keys);
    let scale = 1.0 / ((width / num_heads) as f64).sqrt();
    let (mut query, mut key) = (heads(query, queries, num_heads), heads(key, keys, num_heads));
    if let Some(rotary) = &options.rotary {
        (query, key) = (rotate(query, rotary), rotate(key, rotary));
    }
    let mut scores = query.matmul(key.swap_dims(2, 3)) * scale;
    if let Some(bias) = &options.bias {
        scores = scores + bias.clone().unsqueeze::<4>();
    }
    let masked = masked(queries, keys, options.window, &device).expand(scores.shape());
    softmax(scores.mask_fill(masked, MASKED), 3)
}

/// Refuses queries without keys of their own position.
pub(crate) fn check_lengths(queries: &Sequences, keys: &Sequences) {
    let fits = |(queries, keys): (Range<usize>, Range<usize>)| queries.len() <= keys.len();
    assert!(
        queries.len() == keys.len() && queries.ranges().zip(keys.ranges()).all(fits),
        "attention: each sequence has a key for each of its queries"
    );
}

/// `[tokens, heads * head_size]` to `[sequences, heads, max_length, head_size]`.
fn heads(packed: Tensor<2>, sequences: &Sequences, num_heads: usize) -> Tensor<4> {
    let padded = sequences.pad(packed);
    let [batch, length, width] = padded.dims();
    padded.reshape([batch, length, num_heads, width / num_heads]).swap_dims(1, 2)
}

/// `x cos + (-second half, first half of x) sin`, for `[sequences, heads, positions, head_size]`.
fn rotate(x: Tensor<4>, rotary: &Rotary) -> Tensor<4> {
    let [_, _, length, size] = x.dims();
    let first = x.clone().narrow(3, 0, size / 2);
    let second = x.clone().narrow(3, size / 2, size / 2);
    let turned = Tensor::cat(vec![second.neg(), first], 3);
    let at = |angles: &Tensor<2>| angles.clone().narrow(0, 0, length).unsqueeze::<4>();
    x * at(&rotary.cos) + turned * at(&rotary.sin)
}

/// `[sequences, 1, queries, keys]`: true where a query must not attend to a key.
fn masked(
    queries: &Sequences,
    keys: &Sequences,
    window: Option<usize>,
    device: &Device,
) -> Tensor<4, Bool> {
    let [rows, columns] = [queries, keys].map(Sequences::max_length);
    let window = window.unwrap_or(columns);
    let masked: Vec<bool> = queries
        .ranges()
        .zip(keys.ranges())
        .flat_map(|(queries, keys)| {
            // A query behind the sequence's end attends to the sequence: its row is dropped, but must be finite.
            (0..rows).flat_map(move |query| {
                let (query, tokens) = (query.min(queries.len() - 1), keys.len());
                (0..columns).map(move |key| key >= tokens || query.abs_diff(key) > window)
            })
        })
        .collect();
    let shape = [queries.len(), 1, rows, columns];
    Tensor::from_data(TensorData::new(masked, shape), device)
}

/// The dropout factors of attention probabilities.
fn factors(dropout: Dropout, probabilities: &Tensor<4>) -> Tensor<4> {
    let [batch, num_heads, queries, keys] = probabilities.dims();
    let mut factors = Vec::with_capacity(batch * num_heads * queries * keys);
    for sequence in 0..batch as u32 {
        for head in 0..num_heads as u32 {
            for query in 0..queries as u32 {
                factors.extend(dropout.factors([query, sequence, head], keys));
            }
        }
    }
    let shape = [batch, num_heads, queries, keys];
    Tensor::from_data(TensorData::new(factors, shape), &probabilities.device())
}
