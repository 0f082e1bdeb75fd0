//! The check of a run's first step by itself.

use std::path::Path;

use burn::tensor::Device;

use crate::{
    check::Check,
    error::{Error, Result},
    multi_task_config::MultiTaskConfig,
    multi_task_run::run_tasks_from,
    observer::Observer,
    resume::Start,
    run::{RunReport, run_from},
    run_config::RunConfig,
};

/// What a [`run`](crate::run) would check after its first step; nothing is trained further, and nothing is written.
///
/// # Errors
/// As the run's, up to its first step.
pub fn check(config: &RunConfig, device: &Device, observer: &mut dyn Observer) -> Result<Check> {
    first_step(observer, |first| run_from(Start::Check, config, Path::new(""), device, first))
}

/// [`check`] for several tasks.
///
/// # Errors
/// As the run's, up to its first step.
pub fn check_tasks(
    config: &MultiTaskConfig,
    device: &Device,
    observer: &mut dyn Observer,
) -> Result<Check> {
    first_step(observer, |first| run_tasks_from(Start::Check, config, Path::new(""), device, first))
}

fn first_step(
    observer: &mut dyn Observer,
    run: impl FnOnce(&mut FirstStep) -> Result<RunReport>,
) -> Result<Check> {
    let mut first = FirstStep { observer, check: None };
    let ended = run(&mut first).err();
    match (first.check, ended) {
        (Some(check), _) => Ok(check),
        (None, error) => Err(error.unwrap_or(Error::NoRows { name: "training" })),
    }
}

/// Ends a run after its first step, with what was found in it.
struct FirstStep<'a> {
    observer: &'a mut dyn Observer,
    check: Option<Check>,
}

impl Observer for FirstStep<'_> {
    fn notice(&mut self, text: &str) {
        self.observer.notice(text);
    }

    fn checked(&mut self, check: &Check) -> Result<()> {
        self.check = Some(check.clone());
        Err(Error::Interrupted { step: check.step, kept: 0, out: None })
    }
}
