//! Poolings, losses and models against PyTorch, and what must hold of them.

#![allow(clippy::unwrap_used)]

mod classifier;
mod cross_entropy;
mod lora;
mod losses;
mod multi_head_pooling;
mod multi_task;
mod pooling;
#[path = "../../../bert-core/tests/reference/mod.rs"]
mod reference;
mod regularised_losses;
mod task_embedding;
