//! The encoder against PyTorch, and what must hold of it.

#![allow(clippy::unwrap_used)]

mod documents;
mod faults;
mod frozen_words;
mod invariance;
mod parity;
mod recompute;
#[path = "../reference/mod.rs"]
mod reference;
mod vocabulary;

use bert_core::{Bert, BertConfig, Checkpoint, EncoderInput, set_parameters};
use burn::tensor::Device;

/// Held for writing while the process-wide switch of the kernels is off, for reading where bits are compared.
static SWITCH: std::sync::RwLock<()> = std::sync::RwLock::new(());

/// The tiny random BERT of the reference.
fn tiny(config: &BertConfig, device: &Device) -> Bert {
    load(&reference::folder().join("tiny-bert"), config, device)
}

/// The encoder in a model directory.
fn load(folder: &std::path::Path, config: &BertConfig, device: &Device) -> Bert {
    let checkpoint = Checkpoint::open(folder).unwrap();
    let mut reader = checkpoint.reader();
    set_parameters(Bert::new(config, device), "", |name, shape| reader.take(name, shape).map(Some))
        .unwrap()
}

/// The config of the tiny random BERT.
fn tiny_config() -> BertConfig {
    BertConfig::load(reference::folder().join("tiny-bert")).unwrap()
}

/// The batch of the reference, packed.
fn batch(reference: &serde_json::Value, device: &Device) -> EncoderInput {
    let (ids, types, mask) = reference::padded_batch(&reference["batch"], device);
    EncoderInput::from_padded(ids, types, mask)
}
