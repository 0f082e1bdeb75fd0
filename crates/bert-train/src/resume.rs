//! Going on with a run that broke off.

use std::{
    fs, iter,
    path::{Path, PathBuf},
};

use burn::tensor::Device;

use crate::{
    checkpoints::Checkpoints,
    error::{Error, Result},
    finished_run::{finished_report, is_finished},
    multi_task_config::MultiTaskConfig,
    multi_task_run::run_tasks_from,
    observer::Observer,
    out_dir::{Locked, check_out},
    recorder::Record,
    run::{RUN_FILE, RunReport, run_from},
    run_config::RunConfig,
    run_file::RunFile,
    saved::Saved,
};

/// Goes on with the run in `out` from its newest checkpoint: on one machine, losses and final weights are to the bit those of
/// a run that never broke off. Without a checkpoint that can be used the run starts anew, with a notice.
///
/// The report of a run that has come to its end is read, and nothing is trained. Device, number of threads, and how often
/// checkpoints are written may be others than before.
///
/// # Errors
/// [`Error::NoRun`] where there is no run, [`Error::CheckpointChanged`] where its settings, its data or the model that it
/// started from have changed, [`Error::OtherPlace`] where that model or the data is not found, [`Error::OutLocked`] while another process writes to it, [`Error::CheckpointFormat`] for a checkpoint of another version, and as [`run`](crate::run).
pub fn resume(out: &Path, device: &Device, observer: &mut dyn Observer) -> Result<RunReport> {
    let path = out.join(RUN_FILE);
    if !path.exists() {
        return Err(match holds_runs(out, 2) {
            true => Error::SeveralRuns { path: out.into() },
            false => Error::NoRun { path: out.into() },
        });
    }
    if is_finished(out) {
        return finished_report(out);
    }
    if RunFile::read(&path)?.has_tasks() {
        let config = MultiTaskConfig::load(&path, toml::Table::new())?;
        let tasks = config.tasks.values().flat_map(|task| [Some(&task.train), task.dev.as_ref()]);
        check_place(&path, tasks.flatten().chain([&config.model]))?;
        run_tasks_from(Start::Resume, &config, out, device, observer)
    } else {
        let config = RunConfig::load(&path, toml::Table::new())?;
        let data = iter::once(&config.train).chain(&config.dev);
        check_place(&path, data.chain([&config.model]))?;
        run_from(Start::Resume, &config, out, device, observer)
    }
}

/// Refuses to go on from a directory from which the paths of a run file lead nowhere.
fn check_place<'a>(run_file: &Path, files: impl Iterator<Item = &'a PathBuf>) -> Result<()> {
    // Parallel files have a comma between them.
    let is_here = |file: &Path| {
        file.exists() || file.to_string_lossy().split(',').all(|part| Path::new(part).exists())
    };
    match { files }.find(|file| file.is_relative() && !is_here(file)) {
        Some(file) => Err(Error::OtherPlace { path: run_file.into(), file: file.clone() }),
        None => Ok(()),
    }
}

/// Whether there are runs in the folders of a directory, so many levels down.
fn holds_runs(dir: &Path, levels: usize) -> bool {
    let folders = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    levels > 0 && { folders }.any(|dir| dir.join(RUN_FILE).exists() || holds_runs(&dir, levels - 1))
}

/// Where a run begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// At step 0.
    New {
        /// Whether a run that is there may be replaced.
        overwrite: bool,
    },
    /// Where the run that is there broke off.
    Resume,
    /// At step 0, to be checked alone: nothing is written.
    Check,
}

impl Start {
    /// Refuses a directory that the run may not be written to.
    pub(crate) fn check_out(self, out: &Path, model: &Path) -> Result<()> {
        match self {
            Self::New { overwrite } => check_out(out, model, overwrite),
            Self::Resume => check_out(out, model, true),
            Self::Check => Ok(()),
        }
    }

    /// Locks the directory, and looks at it once more: another run may have come to its end there meanwhile.
    pub(crate) fn lock(self, out: &Path, model: &Path) -> Result<Locked> {
        let locked = Locked::take(out)?;
        self.check_out(out, model)?;
        Ok(locked)
    }

    /// The newest checkpoint, where the run goes on.
    pub(crate) fn load(
        self,
        checkpoints: &mut Checkpoints,
        observer: &mut dyn Observer,
    ) -> Result<(Option<Saved>, Record)> {
        let found = match self {
            Self::New { .. } | Self::Check => None,
            Self::Resume => checkpoints.load(observer)?,
        };
        if let Some((saved, _)) = &found {
            let (step, path) = (saved.state.step, saved.path.display());
            observer.notice(&format!("going on after step {step}, from {path}"));
        }
        Ok(found.map_or((None, Record::default()), |(saved, record)| (Some(saved), record)))
    }
}
