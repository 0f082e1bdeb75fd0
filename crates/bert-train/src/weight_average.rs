//! The average of the weights over the steps of a run.

use bert_kernels::on_workers;
use burn::{
    module::{Module, ModuleMapper, ModuleVisitor, Param},
    optim::GradientsParams,
    tensor::{Device, Tensor},
};

/// An exponential moving average of the weights that are trained; all others are as they are in the model.
///
/// After step `t`, from 1, `average = d average + (1 - d) weights` with `d = min(decay, (1 + t) / (10 + t))`: a run is a few
/// hundred steps long, and the weights that it began with would else weigh more than all that it found.
///
/// # Source
/// Polyak, Juditsky: "Acceleration of Stochastic Approximation by Averaging" (SIAM J. Control Optim. 30, 1992); why averages
/// generalise better: Izmailov et al. (arXiv:1803.05407). The smaller decay of the first steps is that of TensorFlow's
/// `ExponentialMovingAverage` with `num_updates`.
#[derive(Debug)]
pub(crate) struct WeightAverage<M> {
    decay: f64,
    model: M,
}

impl<M: Module> WeightAverage<M> {
    /// An average that stands at `model`, in evaluation.
    pub(crate) fn new(decay: f64, model: M) -> Self {
        Self { decay, model }
    }

    /// The model with the averaged weights, in evaluation.
    pub(crate) fn model(&self) -> &M {
        &self.model
    }

    /// The average with the weights after so many steps.
    pub(crate) fn with(self, model: &M, steps: usize, device: &Device) -> Self
    where
        M: Send + Sync,
    {
        let decay = self.decay.min((1.0 + steps as f64) / (10.0 + steps as f64));
        let mut weights = Trained(GradientsParams::new());
        model.visit(&mut weights);
        let average = self.model;
        let model = on_workers(device, || average.map(&mut Mean { weights: weights.0, decay }));
        Self { model, ..self }
    }

    /// The bytes that the average of a model's trained weights takes.
    pub(crate) fn bytes(model: &M) -> u64 {
        struct Size(u64);
        impl ModuleVisitor for Size {
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
                if param.is_require_grad() {
                    self.0 += (param.shape().num_elements() * size_of::<f32>()) as u64;
                }
            }
        }
        let mut size = Size(0);
        model.visit(&mut size);
        size.0
    }
}

/// The weights that are trained, by their parameters.
struct Trained(GradientsParams);

impl ModuleVisitor for Trained {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if param.is_require_grad() {
            self.0.register(param.id, param.val().inner());
        }
    }
}

struct Mean {
    weights: GradientsParams,
    decay: f64,
}

impl ModuleMapper for Mean {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        match self.weights.remove::<D>(param.id) {
            // Weights that do not move have themselves for an average, to the bit.
            Some(weights) => param.map(|mean| mean.clone() + (weights - mean) * (1.0 - self.decay)),
            None => param,
        }
    }
}
