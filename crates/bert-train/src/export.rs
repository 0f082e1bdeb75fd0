//! A trained model as an ordinary BERT.

use std::path::Path;

use burn::tensor::Device;

use crate::{error::Result, out_dir::make_out, text_classifier::TextClassifier};

/// Writes the classifier in `model` into `out`, which is made, with its task embedding folded into the word embeddings:
/// what reads Hugging Face's layout then computes the same.
///
/// # Errors
/// When `model` holds no classifier, or `out` is not empty or can't be written.
pub fn export(model: &Path, out: &Path, device: &Device) -> Result<()> {
    let classifier = TextClassifier::load(model, device)?.fold_task_embedding();
    make_out(out)?;
    classifier.save_settings(out)?;
    TextClassifier::save_weights(&classifier.model, out)
}
