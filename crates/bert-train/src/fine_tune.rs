//! The training loop.

use std::time::{Duration, Instant};

use bert_core::pass_key;
use bert_kernels::on_workers;
use burn::tensor::Device;

use crate::{
    agreement::{Agreement, other_tasks},
    check::Checking,
    control::Every,
    error::{Error, Result},
    freeze::Freezer,
    memory::MB,
    metrics::Metrics,
    micro_batches::{MicroBatch, add_up, micro_batches},
    mixer::Mixer,
    observer::{EpochReport, Observer, StepReport},
    optimizer::{Optimizer, learning_rates, squares},
    part_loss::Part,
    plan::{Coming, Plan, tokens},
    recipe::Recipe,
    saved::Saved,
    step::{Step, train_step},
    trainable::Trainable,
    training_state::{Evaluations, TrainingState, keep, trained_paths},
    weight_average::WeightAverage,
};

/// A finished run.
#[derive(Debug)]
pub struct FineTuned<M> {
    /// The best model, in evaluation.
    pub model: M,
    /// Every epoch, in order.
    pub epochs: Vec<EpochReport>,
    /// The epoch of the best model, from 1: the highest main metric on dev, the earlier one on ties.
    pub best_epoch: usize,
    /// The evaluation of the best model.
    pub best: EpochReport,
    /// From the first batch to the end of the last step, the evaluations between included.
    pub train_time: Duration,
    /// Training rows of all epochs over `train_time`, per second.
    pub examples_per_second: f64,
}

impl<M> FineTuned<M> {
    /// The metrics of the best model.
    pub fn best(&self) -> &Metrics {
        &self.best.dev
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
    fine_tune_from(None, model, (train, dev), recipe, device, observer)
}

/// [`fine_tune`] from where a checkpoint was written; `model` is the one that the run began with.
pub(crate) fn fine_tune_from<M: Trainable>(
    saved: Option<Saved>,
    model: M,
    (train, dev): (&M::Data, &M::Dev),
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
    model.encoder_mut().encoder.recompute = recipe.layers.recompute;
    let trained = trained_paths(&model);
    if recipe.layers.lr_decay.is_some() && !trained.iter().any(|path| path.starts_with("bert.")) {
        let (key, got) = ("layer-lr-decay", "a model without".to_owned());
        return Err(Error::Recipe {
            key,
            got,
            expected: "for a model with trained layers in its field bert",
        });
    }
    let mut optimizer = Optimizer::new(recipe);
    let layers = model.encoder().encoder.layer.len();
    let mut freezer = Freezer::new(model.encoder());
    let mut mixer = Mixer::new(sets, recipe);
    let control = &recipe.control;
    let steps_per_epoch = mixer.sampler.steps_per_epoch();
    let all_steps = steps_per_epoch * recipe.epochs;
    let total_steps = control.max_steps.map_or(all_steps, |most| most.min(all_steps));

    let agreement = |model: &M, mixer: &Mixer, step: usize| {
        Agreement::measure(model, train, &mixer.sampler, recipe.rows_at_once(), step, &device)
    };
    // The optimiser before its first step, until the check has asked it.
    let mut unasked = Some(optimizer.clone());
    let mut state = TrainingState::new(mixer.state.clone(), mixer.heads());
    let mut best: Option<M> = None;
    let decay = Some(recipe.regularisation.ema).filter(|decay| *decay > 0.0);
    let mut average = decay.map(|decay| WeightAverage::new(decay, model.valid()));
    if average.is_some() {
        let bytes = WeightAverage::bytes(&model).div_ceil(MB);
        observer.notice(&format!("the average of the weights takes {bytes} MB of memory"));
    }
    let total_epochs = total_steps.div_ceil(steps_per_epoch);
    if let Some(told) = recipe.layers.told(layers, total_steps, total_epochs) {
        observer.notice(&told);
    }
    // As the last step left it, which is what moments are kept of.
    let (steps, epochs) =
        saved.as_ref().map_or((0, 0), |saved| (saved.state.step, saved.state.epoch));
    model = freezer.set(model, recipe.layers.frozen(layers, steps.saturating_sub(1), epochs));
    if let Some(saved) = saved {
        if let Some(decay) = decay {
            average = Some(WeightAverage::new(decay, saved.average(model.valid(), &trained)?));
        }
        (model, best) = saved.restore(model, &trained, &mut optimizer)?;
        if !saved.state.fits(&state) {
            return Err(Error::CheckpointTasks { path: saved.path });
        }
        state = saved.state;
        mixer.state = state.mixer.clone();
        if let Some(best) = &best {
            observer.resume(&|| best.named_parameters())?;
        }
    } else if let Some(agreement) = agreement(&model, &mixer, 0) {
        observer.agreement(&agreement);
    }
    let (start, before) = (Instant::now(), state.train_time);
    let (mut kept_step, mut kept_at) = (state.step, Instant::now());
    let is_over = |state: &TrainingState| {
        let waited = control.patience.is_some_and(|most| state.evaluations.waited >= most);
        waited || state.epoch * steps_per_epoch >= total_steps
    };
    // Where tasks are finished, an epoch has fewer steps, and its rates fall as they would have.
    let position_of = |state: &TrainingState, steps_of_epoch: usize| {
        state.epoch * steps_per_epoch + state.place * steps_per_epoch / steps_of_epoch
    };
    while !is_over(&state) {
        let steps = mixer.epoch(state.epoch);
        let (epoch, steps_of_epoch) = (state.epoch + 1, steps.len());
        if steps_of_epoch == 0 {
            break;
        }
        // The evaluation within the epoch that ends the run.
        let mut ending = None;
        let mut check = match unasked.take_if(|_| state.place < steps_of_epoch) {
            Some(optimizer) => {
                let frozen = recipe.layers.frozen(layers, state.step, state.epoch);
                model = freezer.set(model, frozen);
                let (warmup, peak) = recipe.schedule.peak(total_steps);
                let coming = Coming {
                    sets: mixer.sampler.sets(),
                    epoch: &steps,
                    micro_batch_size: recipe.micro_batch_size,
                    steps: total_steps,
                    warmup_steps: warmup,
                    cut_rows: M::cut_rows(train),
                    regularisation: &recipe.regularisation,
                };
                let thawed = freezer.set(model.clone(), recipe.layers.always_frozen(layers));
                let plan = Plan::new(&thawed, &coming, state.step > 0, &plain)?;
                if let Some(warning) = &plan.warning {
                    observer.notice(&format!("warning: {warning}"));
                }
                let rates = learning_rates(recipe, layers, peak);
                Some(Checking::begin(&model, &optimizer, &rates, plan)?)
            }
            None => None,
        };
        for parts in steps.into_iter().skip(state.place) {
            let position = position_of(&state, steps_of_epoch);
            if position >= total_steps {
                break;
            }
            let frozen = recipe.layers.frozen(layers, state.step, state.epoch);
            model = freezer.set(model, frozen);
            let factor = recipe.schedule.factor(position, total_steps);
            let rates = learning_rates(recipe, layers, factor);
            let weights = mixer.weights();
            let cut = micro_batches::<M>(train, &parts, recipe.micro_batch_size);
            let of_rows = |model: &M, rows: &MicroBatch| {
                let part = Part {
                    data: train,
                    rows,
                    lengths: &mixer.sampler.sets()[rows.batch.set].lengths,
                    weights: &weights,
                    regularisation: &recipe.regularisation,
                    device: &device,
                };
                let step = state.step as u32;
                part.gradients(model, |pass| pass_key(recipe.seed, step, rows.number, pass))
            };
            let gradients = |model: &M, part: &Vec<MicroBatch>| add_up(model, part, of_rows);
            if let Some(check) = &mut check {
                let others = other_tasks(&mixer.sampler, &parts);
                for other in micro_batches::<M>(train, &others, recipe.micro_batch_size) {
                    let (losses, squares) = on_workers(&device, || {
                        let part = gradients(&model, &other);
                        (part.losses, part.gradients.map(|own| squares(&model, &own)))
                    });
                    let Some(squares) = squares else {
                        let (value, step) = (losses[0], state.step + 1);
                        return Err(Error::NotFinite { what: "loss", step, epoch, value });
                    };
                    check.see(&losses, &squares);
                }
            }
            let shared = mixer.shared(&model);
            let combine = mixer.combine(&shared, state.step);
            let begun = Instant::now();
            let taken = train_step(model, &mut optimizer, &device, &cut, gradients, combine, rates);
            let Step { model: moved, losses, grad_norm, gram } = taken;
            model = moved;
            let values = losses.iter().flatten().map(|loss| ("loss", *loss));
            for (what, value) in values.chain([("norm of the gradients", grad_norm)]) {
                if !value.is_finite() {
                    return Err(Error::NotFinite { what, step: state.step + 1, epoch, value });
                }
            }
            if let Some(mut check) = check.take() {
                check.see(&losses.concat(), optimizer.squares());
                let tokens = tokens(mixer.sampler.sets(), &parts);
                check.plan.measure(tokens, begun.elapsed(), total_steps - position);
                observer.checked(&check.end(state.step + 1)?)?;
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
                    state.head_losses[*head].add(*value, part.rows.len());
                    by_head.push((*head, *value));
                }
            }
            state.step += 1;
            average = average.map(|average| average.with(&model, state.step, &device));
            state.place += 1;
            state.rows += step_rows;
            state.epoch_loss.add(loss, step_rows);
            state.train_time = before + start.elapsed();
            observer.step(&StepReport {
                step: state.step - 1,
                total_steps,
                epoch,
                epochs: total_epochs,
                loss,
                losses: by_head,
                learning_rate: recipe.learning_rate * factor,
                grad_norm,
                rows: state.rows,
                elapsed: state.train_time,
            });

            let is_last =
                state.place == steps_of_epoch || position_of(&state, steps_of_epoch) >= total_steps;
            let mut rests = false;
            if let Every::Steps(every) = control.eval_every
                && state.step.is_multiple_of(every)
                && !is_last
            {
                let evaluated = evaluated_of(&model, average.as_ref());
                let dev = evaluate(&evaluated, dev, recipe, &state, &plain)?;
                let report = state.judge(dev, control, Some(state.step))?;
                observer.epoch(&report, &|| evaluated.named_parameters())?;
                if report.best {
                    best = Some(evaluated);
                }
                if is_over(&state) {
                    ending = Some(report);
                    break;
                }
                rests = does_rest(&state, observer)?;
            }
            let is_interrupted = observer.is_interrupted() || rests;
            let (steps, time) = (state.step - kept_step, kept_at.elapsed());
            let is_due = !is_last && control.checkpoint_every.is_due(steps, time, false);
            // What rests is to go on, whatever becomes of what is interrupted.
            if is_due || rests || is_interrupted && control.checkpoint_every != Every::Never {
                state.mixer = mixer.state.clone();
                keep(
                    &state,
                    &trained,
                    &model,
                    average.as_ref(),
                    best.as_ref(),
                    &optimizer,
                    observer,
                )?;
                (kept_step, kept_at) = (state.step, Instant::now());
            }
            if is_interrupted {
                return Err(Error::Interrupted { step: state.step, kept: kept_step, out: None });
            }
        }

        if let Some(report) = ending {
            state.end_epoch(report);
            break;
        }
        if let Some(agreement) = agreement(&model, &mixer, state.step) {
            observer.agreement(&agreement);
        }
        let evaluated = evaluated_of(&model, average.as_ref());
        let dev = evaluate(&evaluated, dev, recipe, &state, &plain)?;
        let scores = dev.scores();
        let mut report = state.judge(dev, control, None)?;
        report.finished = mixer.after_epoch(&report.head_losses, &scores);
        report.weights = mixer.told_weights(&evaluated, &plain);
        observer.epoch(&report, &|| evaluated.named_parameters())?;
        if report.best {
            best = Some(evaluated);
        }
        state.end_epoch(report);
        let rests = !is_over(&state) && does_rest(&state, observer)?;
        let (steps, time) = (state.step - kept_step, kept_at.elapsed());
        let is_due = control.checkpoint_every.is_due(steps, time, true);
        if is_due || rests {
            state.mixer = mixer.state.clone();
            keep(&state, &trained, &model, average.as_ref(), best.as_ref(), &optimizer, observer)?;
            (kept_step, kept_at) = (state.step, Instant::now());
        }
        if rests {
            return Err(Error::Interrupted { step: state.step, kept: kept_step, out: None });
        }
    }

    if let Some(most) = control.patience.filter(|most| state.evaluations.waited >= *most) {
        observer.notice(&format!(
            "ended after step {} of {total_steps}: no better for {most} evaluations (patience)",
            state.step
        ));
    }
    let Evaluations { epochs, best: found, .. } = state.evaluations;
    let model = best.expect("the first evaluation is better than none"); // INVARIANT: `epochs` is at least 1
    let (_, best) = found.expect("the first evaluation is better than none"); // INVARIANT: as above
    Ok(FineTuned {
        model,
        epochs,
        best_epoch: best.epoch,
        best,
        train_time: state.train_time,
        examples_per_second: state.rows as f64 / state.train_time.as_secs_f64(),
    })
}

/// The metrics of a model on the dev rows.
fn evaluate<M: Trainable>(
    model: &M,
    dev: &M::Dev,
    recipe: &Recipe,
    state: &TrainingState,
    device: &Device,
) -> Result<Metrics> {
    let dev = model.evaluate(dev, recipe.rows_at_once(), device);
    if dev.loss().is_finite() {
        return Ok(dev);
    }
    let (step, epoch) = (state.step, state.epoch + 1);
    Err(Error::NotFinite { what: "dev loss", step, epoch, value: dev.loss() })
}

/// The model that is measured and kept, in evaluation.
fn evaluated_of<M: Trainable>(model: &M, average: Option<&WeightAverage<M>>) -> M {
    average.map_or_else(|| model.valid(), |average| average.model().clone())
}

/// Whether the run rests after an evaluation.
fn does_rest(state: &TrainingState, observer: &mut dyn Observer) -> Result<bool> {
    state.reached().map_or(Ok(false), |reached| observer.rests(&reached))
}
