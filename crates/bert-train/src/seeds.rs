//! The same training with several poolings and seeds, compared at the end.

use std::{
    fs,
    path::{Path, PathBuf},
};

use bert_core::BertConfig;
use bert_heads::PoolingKind;
use burn::tensor::Device;

use crate::{
    baselines::Baselines,
    checkpoints::check_unchanged,
    compare::{Scoring, compare_runs},
    comparison::Comparison,
    error::{Error, Result},
    fingerprint::{Fingerprint, settings_difference},
    finished_run::{ScoreChoice, is_finished},
    model_dir::checked_pooling,
    multi_task_config::MultiTaskConfig,
    multi_task_run::run_tasks_from,
    observer::Observer,
    out_dir::{Locked, begin_out, check_out},
    resume::Start,
    run::{RUN_FILE, run_from},
    run_config::RunConfig,
    sentences::Sentences,
};

/// Trains as `config` says, once with each of `poolings` and each of `seeds` seeds from its own, and compares the runs.
///
/// Each goes into `out/POOLING/seed-K`, those of taggers, which pool nothing, into `out/seed-K`. A run that has come to its
/// end there already is not trained again; one that was broken off goes on. With `overwrite` all begin anew: what is there of
/// any of them is taken away first, so that the call without it goes on with what then breaks off.
///
/// # Errors
/// As [`run`](crate::run), for every run before the first of them begins; [`Error::RunsInterrupted`] where it was told to end.
///
/// # Panics
/// When there is no pooling or no seed.
pub fn run_seeds(
    config: &RunConfig,
    poolings: &[PoolingKind],
    seeds: usize,
    out: &Path,
    overwrite: bool,
    device: &Device,
    observer: &mut dyn Observer,
) -> Result<Comparison> {
    assert!(!poolings.is_empty() && seeds > 0, "at least one pooling and one seed are expected");
    config.recipe.check()?;
    let is_tagger = Sentences::are_in(&config.train, config.format, &config.columns);
    if let Some(pooling) = poolings.iter().find(|kind| **kind != PoolingKind::default())
        && is_tagger
    {
        return Err(Error::PoolingOfTokens { path: config.train.clone(), pooling: *pooling });
    }
    let encoder = BertConfig::load(&config.model)?;
    let mut planned = vec![];
    for (i, &pooling) in poolings.iter().enumerate() {
        if poolings[..i].contains(&pooling) {
            continue;
        }
        checked_pooling(pooling, &encoder)?;
        let folder = if is_tagger { out.to_owned() } else { out.join(pooling.to_string()) };
        for seed in (0..seeds as u64).map(|more| config.recipe.seed.wrapping_add(more)) {
            let mut config = RunConfig { pooling, ..config.clone() };
            config.recipe.seed = seed;
            let out = folder.join(format!("seed-{seed}"));
            planned
                .push(Planned::new(config.to_toml()?, out, &config.model, overwrite)?.with(config));
        }
    }
    planned.iter().try_for_each(|planned| planned.check(RunConfig::fingerprint))?;
    train_planned(planned, observer, |start, config, out, observer| {
        run_from(start, config, out, device, observer).map(drop)
    })
}

/// Trains several tasks as `config` says, once with each of `seeds` seeds from its own, and compares the runs; each goes into
/// `out/seed-K`, as [`run_seeds`] has it.
///
/// # Errors
/// As [`run_tasks`](crate::run_tasks); [`Error::RunsInterrupted`] where it was told to end.
///
/// # Panics
/// When there is no seed.
pub fn run_task_seeds(
    config: &MultiTaskConfig,
    seeds: usize,
    out: &Path,
    overwrite: bool,
    baselines: &Baselines,
    device: &Device,
    observer: &mut dyn Observer,
) -> Result<Comparison> {
    assert!(seeds > 0, "at least one seed is expected");
    config.recipe().check()?;
    let mut planned = vec![];
    for seed in (0..seeds as u64).map(|more| config.recipe.seed.wrapping_add(more)) {
        let mut config = config.against(baselines);
        config.recipe.seed = seed;
        let out = out.join(format!("seed-{seed}"));
        planned.push(Planned::new(config.to_toml()?, out, &config.model, overwrite)?.with(config));
    }
    planned.iter().try_for_each(|planned| planned.check(MultiTaskConfig::fingerprint))?;
    train_planned(planned, observer, |start, config, out, observer| {
        run_tasks_from(start, config, out, device, observer).map(drop)
    })
}

/// A run that is to be made, and what its directory holds.
pub(crate) struct Planned<C> {
    pub(crate) config: C,
    pub(crate) out: PathBuf,
    run_file: String,
    /// Whether the directory holds a run of the same settings.
    is_same: bool,
    /// Whether that has come to its end.
    is_done: bool,
    overwrite: bool,
}

impl Planned<()> {
    /// Refuses a directory that the run may not be written to.
    pub(crate) fn new(
        run_file: String,
        out: PathBuf,
        model: &Path,
        overwrite: bool,
    ) -> Result<Self> {
        let is_same = fs::read_to_string(out.join(RUN_FILE))
            .is_ok_and(|own| settings_difference(&own, &run_file).is_none());
        check_out(&out, model, overwrite || is_same)?;
        let is_done = is_same && !overwrite && is_finished(&out);
        Ok(Self { config: (), out, run_file, is_same, is_done, overwrite })
    }

    pub(crate) fn with<C>(self, config: C) -> Planned<C> {
        let Self { out, run_file, is_same, is_done, overwrite, .. } = self;
        Planned { config, out, run_file, is_same, is_done, overwrite }
    }
}

impl<C> Planned<C> {
    /// How the run is begun.
    pub(crate) fn start(&self) -> Start {
        match self.is_same && !self.overwrite {
            true => Start::Resume,
            false => Start::New { overwrite: self.overwrite },
        }
    }

    /// Takes away what is to be overwritten: from here on the directory holds the new run, which has not come far.
    pub(crate) fn clear(&self) -> Result<()> {
        match self.overwrite && self.out.join(RUN_FILE).exists() {
            true => {
                let _locked = Locked::take(&self.out)?;
                begin_out(&self.out, &self.run_file)
            }
            false => Ok(()),
        }
    }

    /// Refuses a finished run whose files have changed since: its scores are those of other data.
    fn check(&self, fingerprint: impl Fn(&C) -> Result<Fingerprint>) -> Result<()> {
        match self.is_done {
            true => check_unchanged(&self.out, &fingerprint(&self.config)?),
            false => Ok(()),
        }
    }
}

/// Makes the runs that are not there yet, and compares all.
fn train_planned<C>(
    planned: Vec<Planned<C>>,
    observer: &mut dyn Observer,
    mut run: impl FnMut(Start, &C, &Path, &mut dyn Observer) -> Result<()>,
) -> Result<Comparison> {
    planned.iter().try_for_each(Planned::clear)?;
    let count = planned.len();
    for (number, planned) in (1..).zip(&planned) {
        let Planned { config, out, is_done, .. } = planned;
        let dir = out.display();
        if *is_done {
            observer
                .notice(&format!("run {number} of {count}: {dir} is finished, not trained again"));
            continue;
        }
        observer.notice(&format!("run {number} of {count}: {dir}"));
        run(planned.start(), config, out, observer).map_err(|error| match error {
            Error::Interrupted { .. } => Error::RunsInterrupted { number, count, out: out.clone() },
            other => other,
        })?;
    }
    let runs: Vec<_> = planned.into_iter().map(|planned| planned.out).collect();
    compare_runs(&runs, Scoring::Dev(&ScoreChoice::default()))
}
