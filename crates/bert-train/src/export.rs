//! A trained model as an ordinary BERT.

use std::path::Path;

use burn::tensor::Device;

use crate::{
    error::Result, model_dir::save_parameters, out_dir::make_out, trained_model::TrainedModel,
};

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
            let classifier = classifier.fold_task_embedding();
            make_out(out)?;
            classifier.save_settings(out)?;
            save_parameters(out, &classifier.model.named_parameters())
        }
        TrainedModel::Tagger(tagger) => {
            let tagger = tagger.fold_task_embedding();
            make_out(out)?;
            tagger.save_settings(out)?;
            save_parameters(out, &tagger.model.named_parameters())
        }
        TrainedModel::MultiTask(tasker) => {
            make_out(out)?;
            for (name, folded) in tasker.fold_task_embeddings() {
                let dir = name.map_or_else(|| out.to_owned(), |name| out.join(name));
                make_out(&dir)?;
                folded.save_settings(&dir)?;
                save_parameters(&dir, &folded.model.named_parameters())?;
            }
            Ok(())
        }
    }
}
