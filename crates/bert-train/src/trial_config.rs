//! The run of a trial, of one task or of several.

use std::path::Path;

use burn::tensor::Device;

use crate::{
    control::Control,
    error::{Error, Result},
    fingerprint::Fingerprint,
    fit::check_fit,
    model_dir::{check_rank, checked_pooling},
    multi_task_config::MultiTaskConfig,
    multi_task_run::run_tasks_from,
    observer::Observer,
    resume::Start,
    run::run_from,
    run_config::RunConfig,
};

/// The run of a trial.
#[derive(Debug)]
pub(crate) enum TrialConfig {
    One(Box<RunConfig>),
    Several(Box<MultiTaskConfig>),
}

impl TrialConfig {
    /// Refuses what no run can be made with, as far as can be told without reading all of the data.
    pub(crate) fn check(&self, device: &Device) -> Result<()> {
        let (recipe, precision, max_length) = match self {
            Self::One(config) => (config.recipe.clone(), config.precision, config.max_length),
            Self::Several(config) => (config.recipe(), config.precision, config.max_length),
        };
        recipe.check()?;
        if !precision.is_available(device) {
            return Err(Error::Precision { precision });
        }
        let encoder = bert_core::BertConfig::load(self.model())?;
        encoder.max_length(max_length)?;
        let (words, lora) = match self {
            Self::One(config) => {
                config.check_frozen()?;
                checked_pooling(config.pooling, &encoder)?;
                check_rank(config.words.task_embedding, &encoder)?;
                config.check_data(&encoder)?;
                (config.words.train_embeddings, &config.lora)
            }
            Self::Several(config) => {
                recipe.layers.check_states("several tasks", &encoder)?;
                config.check_regularisation()?;
                config.check_data()?;
                for task in config.tasks.values() {
                    task.pooling.map_or(Ok(()), |own| checked_pooling(own, &encoder).map(drop))?;
                    check_rank(task.task_embedding, &encoder)?;
                }
                (config.train_embeddings, &config.lora)
            }
        };
        check_fit(&recipe, words, lora.as_ref(), &encoder, self.model())
    }

    pub(crate) fn model(&self) -> &Path {
        match self {
            Self::One(config) => &config.model,
            Self::Several(config) => &config.model,
        }
    }

    pub(crate) fn to_toml(&self) -> Result<String> {
        match self {
            Self::One(config) => config.to_toml(),
            Self::Several(config) => config.to_toml(),
        }
    }

    /// What the run is made of.
    pub(crate) fn fingerprint(&self) -> Result<Fingerprint> {
        match self {
            Self::One(config) => config.fingerprint(),
            Self::Several(config) => config.fingerprint(),
        }
    }

    /// The score by which its best model is chosen.
    pub(crate) fn control(&self) -> &Control {
        match self {
            Self::One(config) => &config.recipe.control,
            Self::Several(config) => &config.recipe.control,
        }
    }

    pub(crate) fn run(
        &self,
        start: Start,
        out: &Path,
        device: &Device,
        observer: &mut dyn Observer,
    ) -> Result<()> {
        match self {
            Self::One(config) => run_from(start, config, out, device, observer).map(drop),
            Self::Several(config) => run_tasks_from(start, config, out, device, observer).map(drop),
        }
    }
}
