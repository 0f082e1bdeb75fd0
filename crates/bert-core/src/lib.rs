//! BERT: config, tokenizer, embeddings, encoder, checkpoints in and out.

mod atomic_file;
mod attention;
mod bert;
mod checkpoint;
mod config;
mod dense;
mod documents;
mod dropout;
mod embeddings;
mod error;
mod input;
mod layer;
mod lora;
mod parameters;
mod pooler;
mod tokenizer;
mod vocabulary;
mod vocabulary_scan;
mod word_rows;

pub use atomic_file::{write_atomically, write_atomically_with};
pub use attention::{Attention, SelfAttention};
pub use bert::{Bert, Encoder};
pub use checkpoint::{
    Checkpoint, Dtype, LazyTensor, NamedTensor, Role, TensorInfo, TensorReader, role,
    write_safetensors, write_safetensors_lazily,
};
pub use config::{BertConfig, HiddenAct};
pub use dense::Dense;
pub use documents::Documents;
pub use dropout::{Site, pass_key};
pub use embeddings::Embeddings;
pub use error::{Error, Result};
pub use input::EncoderInput;
pub use layer::{Intermediate, Layer, Output};
pub use lora::{Lora, LoraConfig, LoraTarget, ParseLoraError, add_adapter};
pub use parameters::{fnv1a, initialise, named_parameters, parameter_shapes, set_parameters};
pub use pooler::{Pooler, first_tokens};
pub use tokenizer::{Encoding, SpecialToken, Tokenizer, Window};
pub use vocabulary::ExtendedModel;
pub use vocabulary_scan::{Candidate, ChangedWord, Fragmentation, VocabularyScan, WordCounts};
pub use word_rows::{ParseWordInitError, WordInit};
