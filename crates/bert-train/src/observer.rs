//! What follows a run.

use std::time::Duration;

use bert_core::NamedTensor;
use serde::{Deserialize, Serialize};

use crate::{
    agreement::Agreement, check::Check, error::Result, metrics::Metrics, training_state::Snapshot,
};

/// What a step did.
#[derive(Debug, Clone, PartialEq)]
pub struct StepReport {
    /// The step, from 0.
    pub step: usize,
    /// The number of steps of the whole run.
    pub total_steps: usize,
    /// The epoch, from 1.
    pub epoch: usize,
    /// The number of epochs of the whole run, the last one perhaps not a whole one.
    pub epochs: usize,
    /// The mean loss of the batch, before the step; of several heads, the sum of their losses by weight.
    pub loss: f64,
    /// The heads of the step, each with the mean loss of its batch.
    pub losses: Vec<(usize, f64)>,
    /// The encoder's learning rate.
    pub learning_rate: f64,
    /// The global norm of the gradients before clipping.
    pub grad_norm: f64,
    /// Rows trained on so far.
    pub rows: usize,
    /// Time since the first batch, evaluations included.
    pub elapsed: Duration,
}

/// What an epoch, or the part of one before an evaluation, came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EpochReport {
    /// The epoch, from 1.
    pub epoch: usize,
    /// The steps taken, where the epoch goes on after the evaluation.
    #[serde(default)]
    pub within: Option<usize>,
    /// The mean training loss over the epoch's rows.
    pub train_loss: f64,
    /// The mean training loss of each head; none where it was not trained.
    pub head_losses: Vec<Option<f64>>,
    /// What the loss of each head is multiplied with from here on, where that is learned or found; else none.
    #[serde(default)]
    pub weights: Vec<f64>,
    /// The heads that are finished with it.
    pub finished: Vec<usize>,
    /// The metrics on the dev rows after the epoch.
    pub dev: Metrics,
    /// Whether the model is better than after every earlier evaluation.
    pub best: bool,
}

/// How far a run has come at an evaluation.
#[derive(Debug)]
pub struct Reached<'a> {
    /// The steps taken.
    pub steps: usize,
    /// The epochs that are over.
    pub epochs: usize,
    /// The best evaluation so far.
    pub best: &'a EpochReport,
    /// From the first batch to the end of the last step, evaluations between included.
    pub train_time: Duration,
}

/// Follows a run: every function may do nothing.
pub trait Observer {
    /// Called with a sentence that a person should read.
    fn notice(&mut self, _text: &str) {}

    /// Called after the first step, and after the first of a run that goes on, with what was found in it.
    ///
    /// # Errors
    /// An error ends the run.
    fn checked(&mut self, _check: &Check) -> Result<()> {
        Ok(())
    }

    /// Called after every step.
    fn step(&mut self, _report: &StepReport) {}

    /// Called before the first epoch and after every one, where there are several tasks.
    fn agreement(&mut self, _report: &Agreement) {}

    /// Called after every evaluation; `parameters` gives those of the model as it is then, as a checkpoint holds them.
    ///
    /// # Errors
    /// An error ends the run.
    fn epoch(
        &mut self,
        _report: &EpochReport,
        _parameters: &dyn Fn() -> Vec<NamedTensor>,
    ) -> Result<()> {
        Ok(())
    }

    /// Called where a run goes on that broke off; `best` gives the parameters of the best model so far.
    ///
    /// # Errors
    /// An error ends the run.
    fn resume(&mut self, _best: &dyn Fn() -> Vec<NamedTensor>) -> Result<()> {
        Ok(())
    }

    /// Called where a checkpoint is due.
    ///
    /// # Errors
    /// An error ends the run.
    fn checkpoint(&mut self, _snapshot: &Snapshot) -> Result<()> {
        Ok(())
    }

    /// Asked after every evaluation but the last: whether the run is to rest there, with a checkpoint, until it is resumed.
    ///
    /// # Errors
    /// An error ends the run.
    fn rests(&mut self, _reached: &Reached<'_>) -> Result<bool> {
        Ok(false)
    }

    /// Asked at the beginning: the program with its arguments, as it was called, for the run's report.
    fn command(&self) -> Vec<String> {
        vec![]
    }

    /// Asked after every step: whether the run is to end there, with a checkpoint.
    fn is_interrupted(&self) -> bool {
        false
    }
}

/// Follows nothing.
impl Observer for () {}
