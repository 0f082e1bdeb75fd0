//! A trained model as an ordinary BERT.

use std::path::Path;

use burn::tensor::Device;

use crate::{error::Result, out_dir::make_out, trained_model::TrainedModel};

/// Writes the model in `model` into `out`, which is made, with its task embedding folded into the word embeddings:
/// what reads Hugging Face's layout then computes the same.
///
/// With `task`, it is that task of a model of several by itself. Else a model of several tasks becomes one directory for each of the word embeddings that its tasks read, named by the first of
/// these tasks; `out` itself where all read the same.
///
/// # Errors
/// When `model` holds no trained model, or `out` is not empty or can't be written.
pub fn export(model: &Path, task: Option<&str>, out: &Path, device: &Device) -> Result<()> {
    match TrainedModel::load(model, device)?.task(task, model)? {
        TrainedModel::Classifier(classifier) => {
            make_out(out)?;
            TrainedModel::Classifier(classifier.fold_task_embedding()).save(out)
        }
        TrainedModel::Tagger(tagger) => {
            make_out(out)?;
            TrainedModel::Tagger(tagger.fold_task_embedding()).save(out)
        }
        TrainedModel::MultiTask(tasker) => {
            make_out(out)?;
            for (name, folded) in tasker.fold_task_embeddings() {
                let dir = name.map_or_else(|| out.to_owned(), |name| out.join(name));
                make_out(&dir)?;
                TrainedModel::MultiTask(folded).save(&dir)?;
            }
            Ok(())
        }
    }
}
