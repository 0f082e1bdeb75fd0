//! A trial under way, as the search sees it.

use std::path::PathBuf;

use bert_core::NamedTensor;

use crate::{
    agreement::Agreement,
    check::Check,
    control::Control,
    error::Result,
    observer::{EpochReport, Observer, Reached, StepReport},
    search_config::Resource,
    training_state::Snapshot,
    trial_journal::{Journal, Rung, Score},
};

/// Follows a trial: passes on all, writes down how good it is at each rung, and lets it rest at one of them.
pub(crate) struct Follower<'a> {
    pub(crate) observer: &'a mut dyn Observer,
    pub(crate) path: PathBuf,
    pub(crate) journal: &'a mut Journal,
    pub(crate) control: &'a Control,
    pub(crate) rungs: &'a [usize],
    pub(crate) resource: Resource,
    pub(crate) until: Option<usize>,
    pub(crate) rested: bool,
    pub(crate) seconds: f64,
}

impl Observer for Follower<'_> {
    fn notice(&mut self, text: &str) {
        self.observer.notice(text);
    }

    fn checked(&mut self, check: &Check) -> Result<()> {
        self.journal.write(&self.path)?;
        self.observer.checked(check)
    }

    fn step(&mut self, report: &StepReport) {
        self.seconds = report.elapsed.as_secs_f64();
        self.observer.step(report);
    }

    fn agreement(&mut self, report: &Agreement) {
        self.observer.agreement(report);
    }

    fn epoch(
        &mut self,
        report: &EpochReport,
        parameters: &dyn Fn() -> Vec<NamedTensor>,
    ) -> Result<()> {
        self.observer.epoch(report, parameters)
    }

    fn resume(&mut self, best: &dyn Fn() -> Vec<NamedTensor>) -> Result<()> {
        self.observer.resume(best)
    }

    fn checkpoint(&mut self, snapshot: &Snapshot) -> Result<()> {
        self.observer.checkpoint(snapshot)
    }

    fn command(&self) -> Vec<String> {
        self.observer.command()
    }

    /// Before the checkpoint is written: a trial that is killed between comes here again.
    fn rests(&mut self, reached: &Reached<'_>) -> Result<bool> {
        let length = match self.resource {
            Resource::Epochs => reached.epochs,
            Resource::Steps => reached.steps,
        };
        let passed = self.rungs.iter().take_while(|rung| **rung <= length);
        let new: Vec<usize> =
            passed.copied().filter(|rung| self.journal.at(*rung).is_none()).collect();
        if !new.is_empty() {
            let seconds = reached.train_time.as_secs_f64();
            let score = Score::new(&reached.best.dev, self.control, seconds)?;
            let rung = |length| Rung { length, score: score.clone() };
            self.journal.rungs.extend(new.into_iter().map(rung));
            self.journal.write(&self.path)?;
        }
        self.rested = self.until.is_some_and(|until| length >= until);
        Ok(self.rested)
    }

    fn is_interrupted(&self) -> bool {
        self.observer.is_interrupted()
    }
}
