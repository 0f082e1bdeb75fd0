//! What one part of a step makes small: the losses of a batch, with what regularises them.

use bert_kernels::random::Key;
use burn::tensor::{Device, Tensor};

use crate::{
    batch_targets::BatchTargets,
    fgm::adverse_shift,
    gradients::add,
    micro_batches::MicroBatch,
    regularisation::Regularisation,
    step::{PartGradients, PartLoss, part_gradients},
    trainable::{Pass, Trainable},
};

/// Rows of a step that run together, and how their losses count.
pub(crate) struct Part<'a, M: Trainable> {
    pub(crate) data: &'a M::Data,
    pub(crate) rows: &'a MicroBatch,
    /// The tokens of each row of the batch's data set.
    pub(crate) lengths: &'a [usize],
    /// What each head's loss is multiplied with.
    pub(crate) weights: &'a [f64],
    pub(crate) regularisation: &'a Regularisation,
    pub(crate) device: &'a Device,
}

/// The passes through the model before those over texts that were moved; R-Drop has a second one of each.
const ADVERSE: u32 = 2;

impl<M: Trainable> Part<'_, M> {
    /// What the rows add to the losses of their batch, and to the gradients; `dropout` gives the key of each pass through the
    /// model, counted from 0.
    ///
    /// With FGM, the gradients on the same texts with words that were moved are added.
    pub(crate) fn gradients(&self, model: &M, dropout: impl Fn(u32) -> Key) -> PartGradients {
        let epsilon = self.regularisation.fgm;
        if epsilon == 0.0 {
            return self.loss(model, None, dropout).gradients(model);
        }
        let rows = &self.rows.batch.rows;
        let lengths: Vec<usize> = rows.iter().map(|row| self.lengths[*row]).collect();
        let hidden_size = model.encoder().embeddings.word_embeddings.weight.shape()[1];
        let zero = Tensor::zeros([lengths.iter().sum(), hidden_size], self.device).require_grad();
        let loss = self.loss(model, Some(zero.clone()), &dropout);
        let (mut sum, slope) = part_gradients(model, loss, Some(&zero));
        if let (Some(gradients), Some(slope)) = (&mut sum.gradients, slope) {
            let shift = Tensor::from_inner(adverse_shift(slope, &lengths, epsilon));
            let loss = self.loss(model, Some(shift), |pass| dropout(ADVERSE + pass));
            match loss.gradients(model).gradients {
                Some(adverse) => add(model, gradients, adverse, |_| 1.0),
                None => sum.gradients = None,
            }
        }
        sum
    }

    /// What the rows add to the losses of their batch, and to the sum of its heads' objectives by weight.
    fn loss(&self, model: &M, shift: Option<Tensor<2>>, dropout: impl Fn(u32) -> Key) -> PartLoss {
        let MicroBatch { batch, shares, .. } = self.rows;
        let times = |loss: Tensor<1>, factor: f64| if factor == 1.0 { loss } else { loss * factor };
        let means = self.losses(model, shift, dropout);
        let heads = batch.heads.iter().zip(shares).zip(&means);
        let objectives = heads.clone().map(|((head, share), mean)| {
            times(model.objective(*head, mean.clone()), self.weights[*head] * share)
        });
        let losses = heads.map(|((_, share), mean)| times(mean.clone(), *share)).collect();
        let sum = objectives.reduce(|sum, objective| sum + objective);
        let objective = sum.expect("a batch has a head"); // INVARIANT: the sampler leaves out sets without one
        PartLoss { objective, losses }
    }

    fn losses(
        &self,
        model: &M,
        shift: Option<Tensor<2>>,
        dropout: impl Fn(u32) -> Key,
    ) -> Vec<Tensor<1>> {
        let batch = &self.rows.batch;
        let Regularisation { label_smoothing, r_drop, .. } = *self.regularisation;
        let logits = |number| {
            let pass = Pass { dropout: Some(dropout(number)), shift: shift.clone() };
            model.logits(self.data, batch, self.device, pass)
        };
        let targets = M::targets(self.data, batch);
        let one = logits(0).into_iter();
        if r_drop == 0.0 {
            let heads = targets.iter().zip(one);
            return heads.map(|(targets, logits)| targets.loss(logits, label_smoothing)).collect();
        }
        let heads = targets.iter().zip(one.zip(logits(1)));
        let loss = |(targets, (one, other)): (&BatchTargets, (Tensor<2>, Tensor<2>))| {
            let loss = |logits: &Tensor<2>| targets.loss(logits.clone(), label_smoothing);
            (loss(&one) + loss(&other)) * 0.5 + targets.divergence(one, other) * r_drop
        };
        heads.map(loss).collect()
    }
}
