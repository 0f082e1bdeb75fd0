//! Task embeddings, pooling, losses, and the models that combine them with an encoder.

mod adaptive_pooling;
mod attention_pooling;
mod cross_entropy;
mod layer_mixture;
mod pooling;
mod sequence_classifier;
mod task_embedding;

pub use adaptive_pooling::AdaptivePooling;
pub use attention_pooling::AttentionPooling;
pub use cross_entropy::CrossEntropy;
pub use layer_mixture::LayerMixture;
pub use pooling::{FirstPooling, MaxPooling, MeanPooling, ParsePoolingError, Pooling, PoolingKind};
pub use sequence_classifier::{SequenceClassifier, SequenceClassifierConfig};
pub use task_embedding::{
    AdditiveTaskEmbedding, DiagonalTaskEmbedding, FullTaskEmbedding, LowRankTaskEmbedding,
    ParseTaskEmbeddingError, TaskEmbedding, TaskEmbeddingKind,
};
