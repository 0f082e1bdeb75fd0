//! The same training with several poolings and seeds, compared at the end.

use std::{fs, path::Path};

use bert_core::BertConfig;
use bert_heads::PoolingKind;
use burn::tensor::Device;

use crate::{
    compare::compare_runs,
    comparison::Comparison,
    error::{Error, Result},
    fine_tune::Observer,
    finished_run::is_finished,
    model_dir::checked_pooling,
    run::{RUN_FILE, check_out, run},
    run_config::RunConfig,
    sentences::Sentences,
};

/// Trains as `config` says, once with each of `poolings` and each of `seeds` seeds from its own, and compares the runs.
///
/// Each goes into `out/POOLING/seed-K`, those of taggers, which pool nothing, into `out/seed-K`. A run that has come to its
/// end there already is not trained again, unless `overwrite` says so; one that was broken off begins anew.
///
/// # Errors
/// As [`run`], for every run before the first of them begins.
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
            let written = fs::read_to_string(out.join(RUN_FILE)).ok();
            let is_same =
                written.is_some_and(|written| config.to_toml().is_ok_and(|own| own == written));
            if !is_same {
                check_out(&out, &config.model, overwrite)?;
            }
            let is_done = is_same && !overwrite && is_finished(&out);
            planned.push((config, out, is_same, is_done));
        }
    }
    let count = planned.len();
    for (i, (config, out, is_same, is_done)) in planned.iter().enumerate() {
        let (number, dir) = (i + 1, out.display());
        if *is_done {
            observer
                .notice(&format!("run {number} of {count}: {dir} is finished, not trained again"));
            continue;
        }
        observer.notice(&format!("run {number} of {count}: {dir}"));
        run(config, out, overwrite || *is_same, device, observer)?;
    }
    let runs: Vec<_> = planned.into_iter().map(|(_, out, ..)| out).collect();
    compare_runs(&runs, None)
}
