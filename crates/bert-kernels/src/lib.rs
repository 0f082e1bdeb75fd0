//! Tensor operations with gradients that Burn lacks or does slowly.
//!
//! Each operation is one function over [`Tensor`](burn::tensor::Tensor). Its plain definition, differentiated by
//! Burn, runs on every backend and is the truth in tests. Where the device has a fast version and
//! [fast kernels](set_fast_kernels) are on, the function runs that one, with a backward of its own.
//!
//! Activations are flat, `[tokens, hidden]`: the sequences of a batch lie one behind the other without padding, and
//! [`Sequences`] says where each begins.

mod attention;
mod dropout;
mod embedding;
#[cfg(feature = "flex")]
mod flex;
mod gelu;
#[cfg(feature = "flex")]
mod kernel;
mod layer_norm;
mod linear;
mod low_rank;
mod mixture;
mod optimizer;
mod pooling;
mod precision;
pub mod random;
mod recompute;
mod sequences;
mod switch;
mod workers;

pub use attention::{AttentionOptions, Rotary, attention, attention_probabilities};
pub use dropout::{Dropout, dropout};
pub use embedding::embedding;
pub use gelu::{gelu, gelu_new};
pub use layer_norm::layer_norm;
pub use linear::linear;
pub use low_rank::low_rank;
pub use mixture::mixture;
pub use optimizer::{AdamW, AdamWState, GradientScale, Handover, dot_product, sum_of_squares};
pub use pooling::{softmax_over_tokens, softmax_pooling};
pub use precision::{ParsePrecisionError, Precision, set_precision};
pub use recompute::recompute;
pub use sequences::Sequences;
pub use switch::set_fast_kernels;
pub use workers::{is_on_host, on_workers};
