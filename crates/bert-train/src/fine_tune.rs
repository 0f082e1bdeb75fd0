//! The training loop.

use std::time::{Duration, Instant};

use bert_core::{EncoderInput, NamedTensor, pass_key};
use burn::tensor::Device;

use crate::{
    batches::epoch_batches,
    data_set::DataSet,
    error::{Error, Result},
    metrics::Metrics,
    optimizer::{Optimizer, learning_rates},
    recipe::Recipe,
    schedule::Schedule,
    step::{Step, train_step},
    trainable::Trainable,
};

/// What a step did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepReport {
    /// The step, from 0.
    pub step: usize,
    /// The number of steps of the whole run.
    pub total_steps: usize,
    /// The epoch, from 1.
    pub epoch: usize,
    /// The mean loss of the batch, before the step.
    pub loss: f64,
    /// The encoder's learning rate.
    pub learning_rate: f64,
    /// The global norm of the gradients before clipping.
    pub grad_norm: f64,
    /// Rows trained on so far.
    pub rows: usize,
    /// Time since the first batch, evaluations included.
    pub elapsed: Duration,
}

/// What an epoch came to.
#[derive(Debug, Clone, PartialEq)]
pub struct EpochReport {
    /// The epoch, from 1.
    pub epoch: usize,
    /// The mean training loss over the epoch's rows.
    pub train_loss: f64,
    /// The metrics on the dev rows after the epoch.
    pub dev: Metrics,
    /// Whether the model is better than after every earlier epoch.
    pub best: bool,
}

/// Follows a run: every function may do nothing.
pub trait Observer {
    /// Called with a sentence that a person should read, before the first step.
    fn notice(&mut self, _text: &str) {}

    /// Called after every step.
    fn step(&mut self, _report: &StepReport) {}

    /// Called after every epoch; `parameters` gives those of the model as it is then, as a checkpoint holds them.
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
}

/// Follows nothing.
impl Observer for () {}

/// A finished run.
#[derive(Debug)]
pub struct FineTuned<M> {
    /// The model after the best epoch, in evaluation.
    pub model: M,
    /// Every epoch, in order.
    pub epochs: Vec<EpochReport>,
    /// The best epoch, from 1: the highest main metric on dev, the earlier one on ties.
    pub best_epoch: usize,
    /// From the first batch to the end of the last step, the evaluations between included.
    pub train_time: Duration,
    /// Training rows of all epochs over `train_time`, per second.
    pub examples_per_second: f64,
}

impl<M> FineTuned<M> {
    /// The metrics after the best epoch.
    pub fn best(&self) -> &Metrics {
        &self.epochs[self.best_epoch - 1].dev
    }

    /// The metrics after the last epoch.
    pub fn last(&self) -> &Metrics {
        &self.epochs[self.epochs.len() - 1].dev
    }
}

/// Fine-tunes `model` on `train`, evaluates it on `dev` after each epoch, and keeps the best.
///
/// `device` is the one that the model lies on, with or without autodiff. A run is a pure function of its arguments: on
/// one machine, the same call gives the same losses and weights to the bit.
///
/// # Errors
/// [`Error::Recipe`] for a recipe that can't be followed, [`Error::NoRows`] for data without rows,
/// [`Error::NotFinite`] when the loss stops being a number, and what `observer` returns.
pub fn fine_tune<M: Trainable>(
    model: M,
    train: &DataSet<M::Label>,
    dev: &M::Dev,
    recipe: &Recipe,
    device: &Device,
    observer: &mut dyn Observer,
) -> Result<FineTuned<M>> {
    recipe.check()?;
    for (name, rows) in [("training", train.len()), ("dev", M::rows(dev))] {
        if rows == 0 {
            return Err(Error::NoRows { name });
        }
    }
    let plain = device.clone().inner();
    let device = plain.clone().autodiff();
    let mut model = model.train();
    let mut optimizer = Optimizer::new(recipe);
    let schedule = Schedule::Linear { warmup_ratio: recipe.warmup_ratio };
    let lengths = train.lengths();
    let steps_per_epoch = train.len().div_ceil(recipe.batch_size);
    let total_steps = steps_per_epoch * recipe.epochs;

    let start = Instant::now();
    let (mut step, mut rows, mut train_time) = (0, 0, Duration::ZERO);
    let mut epochs: Vec<EpochReport> = vec![];
    let mut best: Option<(f64, M)> = None;
    for epoch in 1..=recipe.epochs {
        let mut loss_sum = 0.0;
        for batch in epoch_batches(&lengths, recipe.batch_size, recipe.seed, epoch - 1) {
            let input = EncoderInput::new(batch.iter().map(|row| &train.encodings[*row]), &device);
            let labels: Vec<M::Label> =
                batch.iter().map(|row| train.labels[*row].clone()).collect();
            let key = pass_key(recipe.seed, step as u32, 0, 0);
            let factor = schedule.factor(step, total_steps);
            let rates = learning_rates(recipe, factor);
            let Step { model: moved, loss, grad_norm } =
                train_step(model, &mut optimizer, (&input, &labels), Some(key), rates);
            model = moved;
            for (what, value) in [("loss", loss), ("norm of the gradients", grad_norm)] {
                if !value.is_finite() {
                    return Err(Error::NotFinite { what, step: step + 1, epoch, value });
                }
            }

            step += 1;
            rows += batch.len();
            loss_sum += loss * batch.len() as f64;
            train_time = start.elapsed();
            observer.step(&StepReport {
                step: step - 1,
                total_steps,
                epoch,
                loss,
                learning_rate: recipe.learning_rate * factor,
                grad_norm,
                rows,
                elapsed: train_time,
            });
        }

        let evaluated = model.valid();
        let dev = evaluated.evaluate(dev, recipe.batch_size, &plain);
        if !dev.loss().is_finite() {
            return Err(Error::NotFinite { what: "dev loss", step, epoch, value: dev.loss() });
        }
        let is_best = best.as_ref().is_none_or(|(highest, _)| dev.main() > *highest);
        let report =
            EpochReport { epoch, train_loss: loss_sum / train.len() as f64, dev, best: is_best };
        observer.epoch(&report, &|| evaluated.named_parameters())?;
        if is_best {
            best = Some((report.dev.main(), evaluated));
        }
        epochs.push(report);
    }

    let best_epoch = 1 + epochs.iter().rposition(|report| report.best).unwrap_or(0);
    let (_, model) = best.expect("the first epoch is better than none"); // INVARIANT: `epochs` is at least 1
    Ok(FineTuned {
        model,
        epochs,
        best_epoch,
        train_time,
        examples_per_second: rows as f64 / train_time.as_secs_f64(),
    })
}
