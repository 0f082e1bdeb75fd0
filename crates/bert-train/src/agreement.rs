//! Whether the tasks of a model pull the encoder in the same direction.

use bert_kernels::on_workers;
use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use crate::{
    gradients::{Gram, gram},
    sampler::{Batch, Sampler, TrainingSet},
    step::{PartLoss, parameters_of},
    trainable::Trainable,
};

/// The most rows of each task that gradients are compared on.
const ROWS: usize = 64;

/// How the gradients of the tasks agree on the encoder that they share.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Agreement {
    /// The steps taken before.
    pub step: usize,
    /// The cosine of the angle between the gradients of two tasks, `[tasks][tasks]`, from -1 to 1: below 0, a step that helps
    /// one hurts the other.
    pub cosines: Vec<Vec<f64>>,
    /// The norm of each task's gradient.
    pub norms: Vec<f64>,
}

impl Agreement {
    /// Compares the gradients of the tasks on the same rows of each, spread evenly over its data; nothing is dropped.
    ///
    /// Of each set at most `most` rows are taken, and as many as a batch has. There is nothing to compare where there is one task, or where a loss is no finite number.
    pub(crate) fn measure<M: Trainable>(
        model: &M,
        data: &M::Data,
        sampler: &Sampler,
        most: usize,
        step: usize,
        device: &Device,
    ) -> Option<Self> {
        let sets = sampler.sets().iter().enumerate();
        let taken = |set| sampler.batch_size_of(set).min(most);
        let mut batches: Vec<Batch> =
            sets.flat_map(|(set, rows)| probes(set, rows, taken(set))).collect();
        batches.sort_by_key(|batch| batch.heads[0]);
        if batches.len() < 2 {
            return None;
        }
        let gram = on_workers(device, || {
            let gradients = batches.iter().map(|batch| {
                let loss = model.losses(data, batch, device, None).swap_remove(0);
                PartLoss::from(loss).gradients(model).gradients
            });
            let gradients: Option<Vec<_>> = gradients.collect();
            gradients.map(|gradients| gram(model, &gradients, &parameters_of(model.encoder())))
        })?;
        Some(Self::new(step, &gram))
    }

    fn new(step: usize, gram: &Gram) -> Self {
        let tasks = 0..gram.len();
        let cosines = |a| tasks.clone().map(|b| gram.cosine(a, b)).collect();
        Self {
            step,
            cosines: tasks.clone().map(cosines).collect(),
            norms: tasks.clone().map(|task| gram.norm(task)).collect(),
        }
    }
}

/// Some rows of a set, spread evenly over it, once for each of its heads.
pub(crate) fn probes(
    set: usize,
    rows: &TrainingSet,
    batch_size: usize,
) -> impl Iterator<Item = Batch> + use<> {
    let count = rows.lengths.len();
    let taken = count.min(ROWS).min(batch_size);
    let places: Vec<usize> = (0..taken).map(|place| place * count / taken).collect();
    let heads = rows.heads.clone().into_iter();
    heads.map(move |head| Batch { set, rows: places.clone(), heads: vec![head] })
}

/// A batch of each task that a step does not hold.
pub(crate) fn other_tasks(sampler: &Sampler, parts: &[Batch]) -> Vec<Batch> {
    let is_held = |head: &usize| parts.iter().any(|part| part.heads.contains(head));
    let sets = sampler.sets().iter().enumerate();
    let batches = sets.flat_map(|(set, rows)| probes(set, rows, sampler.batch_size_of(set)));
    batches.filter(|batch| !batch.heads.iter().any(is_held)).collect()
}
