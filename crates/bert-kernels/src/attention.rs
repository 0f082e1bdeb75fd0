//! Multi-head scaled dot-product attention within each sequence of a packed batch.

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
    /// Added to the scaled scores: `[heads, max_length, max_length]`, by head, query and key within the sequence.
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

/// The rotation of each token: the first half of a head's dimensions is rotated against the second half.
///
/// # Shapes
/// `cos`, `sin`: `[tokens, head_size]`
///
/// # Source
/// Su et al.: "RoFormer" (arXiv:2104.09864), in the arrangement of halves that checkpoints on the Hub use.
#[derive(Debug, Clone)]
pub struct Rotary {
    /// Cosine of the angle of each token and dimension.
    pub cos: Tensor<2>,
    /// Sine of the angle of each token and dimension.
    pub sin: Tensor<2>,
}

/// For each sequence and head `dropout(softmax(q k^T / sqrt(head_size) + bias)) v`.
///
/// The bits of dropout have the counter `(key / 8, query, sequence, head)`.
///
/// # Shapes
/// `query`, `key`, `value`, output: `[tokens, heads * head_size]`
///
/// # Panics
/// When shapes do not agree, or the width is no multiple of the number of heads.
///
/// # Source
/// Vaswani et al.: "Attention Is All You Need" (arXiv:1706.03762), section 3.2.
pub fn attention(
    query: Tensor<2>,
    key: Tensor<2>,
    value: Tensor<2>,
    sequences: &Sequences,
    options: &AttentionOptions,
) -> Tensor<2> {
    let [_, width] = query.dims();
    #[cfg(feature = "flex")]
    if crate::flex::is_fast(&query) && options.bias.is_none() && options.rotary.is_none() {
        return crate::flex::attention::attention(query, key, value, sequences, options);
    }
    let mut probabilities = attention_probabilities(query, key, sequences, options);
    if let Some(dropout) = options.dropout {
        probabilities = probabilities.clone() * factors(dropout, &probabilities);
    }
    let context = probabilities.matmul(heads(value, sequences, options.num_heads));
    let [batch, _, length, _] = context.dims();
    sequences.unpad(context.swap_dims(1, 2).reshape([batch, length, width]))
}

/// The attention probabilities before dropout; places behind a sequence's end are 0 for keys and carry no meaning for
/// queries.
///
/// # Shapes
/// `[sequences, heads, max_length, max_length]`, by query and key
///
/// # Panics
/// When shapes do not agree, or the width is no multiple of the number of heads.
pub fn attention_probabilities(
    query: Tensor<2>,
    key: Tensor<2>,
    sequences: &Sequences,
    options: &AttentionOptions,
) -> Tensor<4> {
    let (num_heads, device) = (options.num_heads, query.device());
    let [_, width] = query.dims();
    assert!(
        num_heads > 0 && width.is_multiple_of(num_heads),
        "attention: the width {width} is no multiple of {num_heads} heads"
    );
    let (query, key) = match &options.rotary {
        Some(rotary) => (rotate(query, rotary, num_heads), rotate(key, rotary, num_heads)),
        None => (query, key),
    };
    let scale = 1.0 / ((width / num_heads) as f64).sqrt();
    let query = heads(query, sequences, num_heads);
    let key = heads(key, sequences, num_heads);
    let mut scores = query.matmul(key.swap_dims(2, 3)) * scale;
    if let Some(bias) = &options.bias {
        scores = scores + bias.clone().unsqueeze::<4>();
    }
    let masked = masked(sequences, options.window, &device).expand(scores.shape());
    softmax(scores.mask_fill(masked, MASKED), 3)
}

/// `[tokens, heads * head_size]` to `[sequences, heads, max_length, head_size]`.
fn heads(packed: Tensor<2>, sequences: &Sequences, num_heads: usize) -> Tensor<4> {
    let padded = sequences.pad(packed);
    let [batch, length, width] = padded.dims();
    padded.reshape([batch, length, num_heads, width / num_heads]).swap_dims(1, 2)
}

/// `x cos + (-second half, first half of x) sin`, head by head.
fn rotate(packed: Tensor<2>, rotary: &Rotary, num_heads: usize) -> Tensor<2> {
    let [tokens, width] = packed.dims();
    let size = width / num_heads;
    let x = packed.reshape([tokens, num_heads, size]);
    let first = x.clone().narrow(2, 0, size / 2);
    let second = x.clone().narrow(2, size / 2, size / 2);
    let turned = Tensor::cat(vec![second.neg(), first], 2);
    let cos = rotary.cos.clone().unsqueeze_dim::<3>(1);
    let sin = rotary.sin.clone().unsqueeze_dim::<3>(1);
    (x * cos + turned * sin).reshape([tokens, width])
}

/// `[sequences, 1, max_length, max_length]`: true where a query must not attend to a key.
fn masked(sequences: &Sequences, window: Option<usize>, device: &Device) -> Tensor<4, Bool> {
    let length = sequences.max_length();
    let window = window.unwrap_or(length);
    let masked: Vec<bool> = sequences
        .ranges()
        .flat_map(|range| {
            // A query behind the sequence's end attends to the sequence: its row is dropped, but must be finite.
            (0..length).flat_map(move |query| {
                let query = query.min(range.len() - 1);
                let tokens = range.len();
                (0..length).map(move |key| key >= tokens || query.abs_diff(key) > window)
            })
        })
        .collect();
    let shape = [sequences.len(), 1, length, length];
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
