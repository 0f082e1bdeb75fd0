//! What one part of a step makes small: the losses of a batch, with what regularises them.

use bert_kernels::random::Key;
use burn::tensor::{Device, Tensor};

use crate::{regularisation::Regularisation, sampler::Batch, step::PartLoss, trainable::Trainable};

/// A batch of a step, and how its losses count.
pub(crate) struct Part<'a, M: Trainable> {
    pub(crate) data: &'a M::Data,
    pub(crate) batch: &'a Batch,
    /// What each head's loss is multiplied with.
    pub(crate) weights: &'a [f64],
    pub(crate) regularisation: &'a Regularisation,
    pub(crate) device: &'a Device,
}

impl<M: Trainable> Part<'_, M> {
    /// The losses of the batch, and the sum of its heads' objectives by weight; `dropout` gives the key of each pass through
    /// the model, counted from 0.
    pub(crate) fn loss(&self, model: &M, dropout: impl Fn(u32) -> Key) -> PartLoss {
        let losses = self.losses(model, dropout);
        let objectives = self.batch.heads.iter().zip(&losses).map(|(head, loss)| {
            let objective = model.objective(*head, loss.clone());
            let weight = self.weights[*head];
            if weight == 1.0 { objective } else { objective * weight }
        });
        let sum = objectives.reduce(|sum, objective| sum + objective);
        let objective = sum.expect("a batch has a head"); // INVARIANT: the sampler leaves out sets without one
        PartLoss { objective, losses }
    }

    fn losses(&self, model: &M, dropout: impl Fn(u32) -> Key) -> Vec<Tensor<1>> {
        let Regularisation { label_smoothing, r_drop, .. } = *self.regularisation;
        let pass = |number| model.logits(self.data, self.batch, self.device, Some(dropout(number)));
        let targets = M::targets(self.data, self.batch);
        let one = pass(0).into_iter();
        if r_drop == 0.0 {
            let heads = targets.iter().zip(one);
            return heads.map(|(targets, logits)| targets.loss(logits, label_smoothing)).collect();
        }
        let heads = targets.iter().zip(one.zip(pass(1)));
        let loss = |(targets, (one, other)): (&crate::BatchTargets, (Tensor<2>, Tensor<2>))| {
            let loss = |logits: &Tensor<2>| targets.loss(logits.clone(), label_smoothing);
            (loss(&one) + loss(&other)) * 0.5 + targets.divergence(one, other) * r_drop
        };
        heads.map(loss).collect()
    }
}
