//! One step of training: forward, backward, clipping, update.

use bert_core::EncoderInput;
use bert_kernels::{on_workers, random::Key};
use burn::{lr_scheduler::module_lr_scheduler::ModuleLearningRate, optim::GradientsParams};

use crate::{optimizer::Optimizer, trainable::Trainable};

/// A model after a step, and what the step saw.
#[derive(Debug)]
pub struct Step<M> {
    /// The model with its new weights.
    pub model: M,
    /// The mean loss of the batch, before the step.
    pub loss: f64,
    /// The global norm of the gradients, before clipping; 0 where the loss is no finite number.
    pub grad_norm: f64,
}

/// Takes one step on a batch. Where the loss or the norm of the gradients is no finite number, the
/// weights stay as they are.
///
/// `dropout` is the key of the pass; with `None` nothing is dropped.
///
/// # Panics
/// When the number of labels is not the number of sequences, or `model` is not on a device with autodiff.
pub fn train_step<M: Trainable>(
    model: M,
    optimizer: &mut Optimizer,
    (input, labels): (&EncoderInput, &[M::Label]),
    dropout: Option<Key>,
    rates: ModuleLearningRate,
) -> Step<M> {
    on_workers(&input.input_ids.device(), || {
        let loss = model.loss(input, labels, dropout);
        let value = f64::from(loss.clone().into_scalar::<f32>());
        if !value.is_finite() {
            return Step { model, loss: value, grad_norm: 0.0 };
        }
        let gradients = GradientsParams::from_grads(loss.backward(), &model);
        let (model, grad_norm) = optimizer.step(model, gradients, rates);
        Step { model, loss: value, grad_norm }
    })
}
