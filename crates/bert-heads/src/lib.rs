//! Task embeddings, pooling, losses, and the models that combine them with an encoder.

mod adaptive_pooling;
mod attention_pooling;
mod binary_cross_entropy;
mod cross_entropy;
mod divergence;
mod document_pooling;
mod layer_mixture;
mod multi_head_pooling;
mod multi_task;
mod ordinal_cross_entropy;
mod pooling;
mod sequence_classifier;
mod span_cross_entropy;
mod squared_error;
mod task_embedding;
mod token_classifier;

pub use adaptive_pooling::AdaptivePooling;
pub use attention_pooling::AttentionPooling;
pub use binary_cross_entropy::BinaryCrossEntropy;
pub use cross_entropy::CrossEntropy;
pub use layer_mixture::LayerMixture;
pub use multi_head_pooling::MultiHeadPooling;
pub use multi_task::{MultiTask, Task, TaskConfig, TaskInput, Uncertainty};
pub use ordinal_cross_entropy::OrdinalCrossEntropy;
pub use pooling::{FirstPooling, MaxPooling, MeanPooling, ParsePoolingError, Pooling, PoolingKind};
pub use sequence_classifier::{SequenceClassifier, SequenceClassifierConfig};
pub use span_cross_entropy::SpanCrossEntropy;
pub use squared_error::SquaredError;
pub use task_embedding::{
    AdditiveTaskEmbedding, DiagonalTaskEmbedding, FullTaskEmbedding, LowRankTaskEmbedding,
    ParseTaskEmbeddingError, TaskEmbedding, TaskEmbeddingKind,
};
pub use token_classifier::{TokenClassifier, TokenClassifierConfig};
