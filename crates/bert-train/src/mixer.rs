//! The tasks of a run as it goes on: what each step takes, how much each loss counts, and which tasks are finished.

use std::collections::HashSet;

use bert_kernels::random::{Purpose, Stream};
use burn::{
    module::ParamId,
    tensor::{Device, Tensor},
};
use serde::{Deserialize, Serialize};

use crate::{
    balance::{Balance, Balancer},
    gradients::Gram,
    recipe::Recipe,
    sampler::{Batch, Sampler, TrainingSet},
    step::{Combine, parameters_of},
    trainable::Trainable,
};

/// What a run of several tasks decides as it goes on; of a single task it takes every batch as it comes.
#[derive(Debug, Clone)]
pub(crate) struct Mixer {
    pub(crate) sampler: Sampler,
    pub(crate) state: MixerState,
    balance: Balance,
    seed: u64,
}

/// What a run has learned of its tasks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct MixerState {
    balancer: Balancer,
    /// One a head.
    patience: Vec<Patience>,
}

impl MixerState {
    /// Whether it is of as many tasks as another one.
    pub(crate) fn fits(&self, other: &Self) -> bool {
        self.patience.len() == other.patience.len() && self.balancer.fits(&other.balancer)
    }
}

/// How long a task has waited for a better score.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
struct Patience {
    /// The evaluations that it waits for.
    limit: Option<usize>,
    best: Option<f64>,
    waited: usize,
}

impl Patience {
    fn is_finished(&self) -> bool {
        self.limit.is_some_and(|limit| self.waited >= limit)
    }
}

impl Mixer {
    pub(crate) fn new(sets: Vec<TrainingSet>, recipe: &Recipe) -> Self {
        let mixing = &recipe.mixing;
        let heads = sets.iter().flat_map(|set| &set.heads).max().map_or(0, |last| last + 1);
        let tasks = (0..heads).map(|head| mixing.task(head));
        let patience = |limit| Patience { limit, ..Patience::default() };
        Self {
            state: MixerState {
                patience: tasks.clone().map(|task| patience(task.patience)).collect(),
                balancer: Balancer::new(mixing.balance, tasks.map(|task| task.weight).collect()),
            },
            balance: mixing.balance,
            seed: recipe.seed,
            sampler: Sampler::new(sets, recipe),
        }
    }

    /// The number of heads.
    pub(crate) fn heads(&self) -> usize {
        self.state.patience.len()
    }

    /// The parts of each step of an epoch, from 0; none where every task is finished.
    ///
    /// A part is a batch for all its heads, or for one of them where each head's gradients are wanted by themselves.
    pub(crate) fn epoch(&self, epoch: usize) -> Vec<Vec<Batch>> {
        let steps = self.sampler.epoch(epoch, |head| !self.state.patience[head].is_finished());
        if !matches!(self.balance, Balance::PcGrad | Balance::GradNorm { .. }) {
            return steps;
        }
        let alone = |batch: Batch| {
            let heads = batch.heads.clone();
            heads.into_iter().map(move |head| Batch { heads: vec![head], ..batch.clone() })
        };
        steps.into_iter().map(|step| step.into_iter().flat_map(alone).collect()).collect()
    }

    /// What each head's loss is multiplied with.
    pub(crate) fn weights(&self) -> Vec<f64> {
        self.state.balancer.weights()
    }

    /// What each head's loss counts in all, where that is learned or found; else none.
    pub(crate) fn told_weights<M: Trainable>(&self, model: &M, device: &Device) -> Vec<f64> {
        if self.balance == Balance::Fixed || self.balance == Balance::PcGrad {
            return vec![];
        }
        // An objective is the loss times what the model has learned for it, and more that does not hang on the loss.
        let objective = |head, loss: f32| -> f64 {
            model.objective(head, Tensor::from_floats([loss], device)).into_scalar::<f32>().into()
        };
        let weight =
            |(head, weight): (usize, f64)| weight * (objective(head, 1.0) - objective(head, 0.0));
        self.weights().into_iter().enumerate().map(weight).collect()
    }

    /// The parameters that gradients are compared on, where they are.
    pub(crate) fn shared<M: Trainable>(&self, model: &M) -> HashSet<ParamId> {
        match (self.balance, model.encoder().encoder.layer.last()) {
            (Balance::PcGrad, _) => parameters_of(model.encoder()),
            (Balance::GradNorm { .. }, Some(last)) => parameters_of(last),
            _ => HashSet::new(),
        }
    }

    /// How the gradients of a step's parts become one.
    pub(crate) fn combine<'a>(&self, shared: &'a HashSet<ParamId>, step: usize) -> Combine<'a> {
        match self.balance {
            Balance::PcGrad => {
                // The sampler's draws are by epoch: those of steps begin behind all of them.
                let index = (1 << 32) | step as u64;
                Combine::Project(shared, Stream::new(self.seed, Purpose::Sample, index))
            }
            Balance::GradNorm { .. } => Combine::Measure(shared),
            Balance::Fixed | Balance::Uncertainty { .. } | Balance::Dwa { .. } => Combine::Sum,
        }
    }

    /// Learns from the losses of a step's parts, and how their gradients agree.
    pub(crate) fn after_step(&mut self, parts: &[Batch], losses: &[Vec<f64>], gram: Option<&Gram>) {
        if let Some(gram) = gram {
            let heads: Vec<usize> = parts.iter().flat_map(|part| part.heads.clone()).collect();
            self.state.balancer.after_step(&heads, &losses.concat(), gram);
        }
    }

    /// Learns from an epoch's mean training losses and dev scores, one a head; the tasks that are finished with it.
    pub(crate) fn after_epoch(&mut self, losses: &[Option<f64>], scores: &[f64]) -> Vec<usize> {
        self.state.balancer.after_epoch(losses);
        let mut finished = vec![];
        for (head, (patience, score)) in self.state.patience.iter_mut().zip(scores).enumerate() {
            if patience.is_finished() {
                continue;
            }
            if patience.best.is_none_or(|best| *score > best) {
                patience.best = Some(*score);
                patience.waited = 0;
            } else {
                patience.waited += 1;
            }
            if patience.is_finished() {
                finished.push(head);
            }
        }
        finished
    }
}
