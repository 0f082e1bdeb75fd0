//! The training loop.

use std::time::{Duration, Instant};

use bert_core::{NamedTensor, pass_key};
use bert_kernels::random::Key;
use burn::tensor::Device;

use crate::{
    agreement::Agreement,
    error::{Error, Result},
    metrics::Metrics,
    mixer::Mixer,
    optimizer::{Optimizer, learning_rates},
    recipe::Recipe,
    sampler::Batch,
    schedule::Schedule,
    step::{PartLoss, Step, train_step},
    trainable::Trainable,
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

/// What an epoch came to.
#[derive(Debug, Clone, PartialEq)]
pub struct EpochReport {
    /// The epoch, from 1.
    pub epoch: usize,
    /// The mean training loss over the epoch's rows.
    pub train_loss: f64,
    /// The mean training loss of each head; none where it was not trained.
    pub head_losses: Vec<Option<f64>>,
    /// The heads that are finished with it.
    pub finished: Vec<usize>,
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

    /// Called before the first epoch and after every one, where there are several tasks.
    fn agreement(&mut self, _report: &Agreement) {}

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
    train: &M::Data,
    dev: &M::Dev,
    recipe: &Recipe,
    device: &Device,
    observer: &mut dyn Observer,
) -> Result<FineTuned<M>> {
    recipe.check()?;
    let sets = M::sets(train);
    if sets.is_empty() || sets.iter().any(|set| set.lengths.is_empty()) {
        return Err(Error::NoRows { name: "training" });
    }
    if M::rows(dev) == 0 {
        return Err(Error::NoRows { name: "dev" });
    }
    let plain = device.clone().inner();
    let device = plain.clone().autodiff();
    let mut model = model.train();
    let mut optimizer = Optimizer::new(recipe);
    let schedule = Schedule::Linear { warmup_ratio: recipe.warmup_ratio };
    let mut mixer = Mixer::new(sets, recipe);
    let steps_per_epoch = mixer.sampler.steps_per_epoch();
    let total_steps = steps_per_epoch * recipe.epochs;

    if let Some(agreement) = Agreement::measure(&model, train, &mixer.sampler, 0, &device) {
        observer.agreement(&agreement);
    }
    let start = Instant::now();
    let (mut step, mut rows, mut train_time) = (0, 0, Duration::ZERO);
    let mut epochs: Vec<EpochReport> = vec![];
    let mut best: Option<(f64, M)> = None;
    for epoch in 1..=recipe.epochs {
        let steps = mixer.epoch(epoch - 1);
        let steps_of_epoch = steps.len();
        if steps_of_epoch == 0 {
            break;
        }
        let mut epoch_loss = Mean::default();
        let mut head_losses = vec![Mean::default(); mixer.heads()];
        for (place, parts) in steps.into_iter().enumerate() {
            // Where tasks are finished, an epoch has fewer steps, and its rates fall as they would have.
            let position = (epoch - 1) * steps_per_epoch + place * steps_per_epoch / steps_of_epoch;
            let factor = schedule.factor(position, total_steps);
            let rates = learning_rates(recipe, factor);
            let weights = mixer.weights();
            let numbered: Vec<(usize, &Batch)> = parts.iter().enumerate().collect();
            let loss = |model: &M, (number, batch): &(usize, &Batch)| {
                let key = pass_key(recipe.seed, step as u32, *number as u32, 0);
                part_loss(model, train, batch, &weights, &device, key)
            };
            let shared = mixer.shared(&model);
            let combine = mixer.combine(&shared, step);
            let taken = train_step(model, &mut optimizer, &device, &numbered, loss, combine, rates);
            let Step { model: moved, losses, grad_norm, gram } = taken;
            model = moved;
            let values = losses.iter().flatten().map(|loss| ("loss", *loss));
            for (what, value) in values.chain([("norm of the gradients", grad_norm)]) {
                if !value.is_finite() {
                    return Err(Error::NotFinite { what, step: step + 1, epoch, value });
                }
            }
            mixer.after_step(&parts, &losses, gram.as_ref());

            let (mut loss, mut step_rows) = (0.0, 0);
            let mut by_head = vec![];
            for (number, (part, losses)) in parts.iter().zip(&losses).enumerate() {
                // Parts of one batch, for a head each, follow each other.
                if number == 0 || parts[number - 1].set != part.set {
                    step_rows += part.rows.len();
                }
                for (head, value) in part.heads.iter().zip(losses) {
                    loss += value * weights[*head];
                    head_losses[*head].add(*value, part.rows.len());
                    by_head.push((*head, *value));
                }
            }
            step += 1;
            rows += step_rows;
            epoch_loss.add(loss, step_rows);
            train_time = start.elapsed();
            observer.step(&StepReport {
                step: step - 1,
                total_steps,
                epoch,
                loss,
                losses: by_head,
                learning_rate: recipe.learning_rate * factor,
                grad_norm,
                rows,
                elapsed: train_time,
            });
        }

        if let Some(agreement) = Agreement::measure(&model, train, &mixer.sampler, step, &device) {
            observer.agreement(&agreement);
        }
        let evaluated = model.valid();
        let dev = evaluated.evaluate(dev, recipe.batch_size, &plain);
        if !dev.loss().is_finite() {
            return Err(Error::NotFinite { what: "dev loss", step, epoch, value: dev.loss() });
        }
        let is_best = best.as_ref().is_none_or(|(highest, _)| dev.main() > *highest);
        let head_losses: Vec<Option<f64>> = head_losses.iter().map(Mean::get).collect();
        let finished = mixer.after_epoch(&head_losses, &dev.scores());
        let report = EpochReport {
            epoch,
            train_loss: epoch_loss.get().unwrap_or(0.0),
            head_losses,
            finished,
            dev,
            best: is_best,
        };
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

/// The losses of a batch, and the sum of its heads' objectives by weight.
fn part_loss<M: Trainable>(
    model: &M,
    data: &M::Data,
    batch: &Batch,
    weights: &[f64],
    device: &Device,
    dropout: Key,
) -> PartLoss {
    let losses = model.losses(data, batch, device, Some(dropout));
    let objectives = batch.heads.iter().zip(&losses).map(|(head, loss)| {
        let objective = model.objective(*head, loss.clone());
        if weights[*head] == 1.0 { objective } else { objective * weights[*head] }
    });
    let sum = objectives.reduce(|sum, objective| sum + objective);
    let objective = sum.expect("a batch has a head"); // INVARIANT: the sampler leaves out sets without one
    PartLoss { objective, losses }
}

/// A mean that rows are added to.
#[derive(Debug, Clone, Copy, Default)]
struct Mean {
    sum: f64,
    rows: usize,
}

impl Mean {
    /// Adds the mean of some rows.
    fn add(&mut self, mean: f64, rows: usize) {
        self.sum += mean * rows as f64;
        self.rows += rows;
    }

    fn get(&self) -> Option<f64> {
        (self.rows > 0).then(|| self.sum / self.rows as f64)
    }
}
