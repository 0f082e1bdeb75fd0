//! A model directory of any kind of task.

use std::path::Path;

use burn::tensor::Device;

use crate::{
    error::{Error, Result},
    model_dir::{ModelDir, Settings, save_parameters},
    multi_tasker::MultiTasker,
    tagger::Tagger,
    task_kind::TaskKind,
    text_classifier::TextClassifier,
};

/// A trained model with everything that applying it needs.
#[derive(Debug)]
#[allow(clippy::large_enum_variant)] // INVARIANT: one a program, so that its size does not matter.
pub enum TrainedModel {
    /// One label a text.
    Classifier(TextClassifier),
    /// One tag a word.
    Tagger(Tagger),
    /// Several tasks.
    MultiTask(MultiTasker),
}

impl TrainedModel {
    /// One task of a model of several; without a name, the model as it is. `path` is the model's directory.
    ///
    /// # Errors
    /// When the model has no such task, or the task is no classification of texts.
    pub fn task(self, name: Option<&str>, path: &Path) -> Result<Self> {
        match (self, name) {
            (Self::MultiTask(tasker), Some(name)) => Ok(Self::Classifier(tasker.classifier(name)?)),
            (_, Some(name)) => Err(Error::OneTask { path: path.into(), name: name.into() }),
            (model, None) => Ok(model),
        }
    }

    /// What answers for one task of a model of several: a classifier where the task can stand by itself, else the model, which
    /// answers for it alone. Without a name, the model as it is.
    ///
    /// # Errors
    /// When the model has no such task.
    pub fn asking(self, name: Option<&str>, path: &Path) -> Result<Self> {
        match (self, name) {
            (Self::MultiTask(tasker), Some(name)) => match tasker.classifier(name) {
                Err(Error::NoTaskClassifier { .. }) => Ok(Self::MultiTask(tasker.asking(name)?)),
                classifier => Ok(Self::Classifier(classifier?)),
            },
            (model, name) => model.task(name, path),
        }
    }

    /// How it is put together and fed.
    pub fn settings(&self) -> &Settings {
        match self {
            Self::Classifier(classifier) => &classifier.settings,
            Self::Tagger(tagger) => &tagger.settings,
            Self::MultiTask(tasker) => &tasker.settings,
        }
    }

    /// Loads a model that was trained here, or Hugging Face's `BertForSequenceClassification` or
    /// `BertForTokenClassification`.
    ///
    /// # Errors
    /// When the directory holds none, or its files do not belong together.
    pub fn load(dir: &Path, device: &Device) -> Result<Self> {
        Self::of_dir(ModelDir::open(dir)?, device)
    }

    pub(crate) fn of_dir(base: ModelDir, device: &Device) -> Result<Self> {
        Ok(match base.kind() {
            Some(TaskKind::Tag) => Self::Tagger(Tagger::of_dir(base, device)?),
            Some(TaskKind::MultiTask) => Self::MultiTask(MultiTasker::of_dir(base, device)?),
            _ => Self::Classifier(TextClassifier::of_dir(base, device)?),
        })
    }

    /// Writes all of it into `out`.
    pub(crate) fn save(&self, out: &Path) -> Result<()> {
        let parameters = match self {
            Self::Classifier(classifier) => {
                classifier.save_settings(out)?;
                classifier.model.named_parameters()
            }
            Self::Tagger(tagger) => {
                tagger.save_settings(out)?;
                tagger.model.named_parameters()
            }
            Self::MultiTask(tasker) => {
                tasker.save_settings(out)?;
                tasker.model.named_parameters()
            }
        };
        save_parameters(out, &parameters)
    }
}
