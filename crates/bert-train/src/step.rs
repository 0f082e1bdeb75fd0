//! One step of training: forward, backward, clipping, update.

use std::collections::HashSet;

use bert_kernels::{on_workers, random::Stream};
use burn::{
    lr_scheduler::module_lr_scheduler::ModuleLearningRate,
    module::{Module, ModuleVisitor, ParamId},
    optim::GradientsParams,
    tensor::{Device, Tensor},
};

use crate::{
    gradients::{Gram, add, gram},
    optimizer::Optimizer,
    pcgrad::projections,
};

/// The losses of a part of a step.
#[derive(Debug)]
pub struct PartLoss {
    /// What is made small, `[1]`.
    pub objective: Tensor<1>,
    /// What is reported, `[1]` each.
    pub losses: Vec<Tensor<1>>,
}

/// What going back from the losses of a part gave.
#[derive(Debug)]
pub struct PartGradients {
    /// What is reported.
    pub losses: Vec<f64>,
    /// The gradients of what is made small; none where a loss is no finite number.
    pub gradients: Option<GradientsParams>,
}

impl PartGradients {
    /// Adds what other rows of the same part gave.
    pub fn add<M: Module>(&mut self, model: &M, other: Self) {
        self.losses.iter_mut().zip(other.losses).for_each(|(sum, loss)| *sum += loss);
        match (&mut self.gradients, other.gradients) {
            (Some(sum), Some(own)) => add(model, sum, own, |_| 1.0),
            (sum, _) => *sum = None,
        }
    }
}

impl PartLoss {
    /// Goes back to the parameters of `model`.
    ///
    /// # Panics
    /// When the losses are not on a device with autodiff.
    pub fn gradients<M: Module>(self, model: &M) -> PartGradients {
        part_gradients(model, self, None).0
    }
}

impl From<Tensor<1>> for PartLoss {
    fn from(loss: Tensor<1>) -> Self {
        Self { objective: loss.clone(), losses: vec![loss] }
    }
}

/// How the gradients of a step's parts become one.
#[derive(Debug)]
pub enum Combine<'a> {
    /// Their sum.
    Sum,
    /// Their sum; how they agree is measured on these parameters.
    Measure(&'a HashSet<ParamId>),
    /// Their sum, on these parameters after each has lost what opposes another, in the order that is drawn; see [`projections`].
    Project(&'a HashSet<ParamId>, Stream),
}

/// A model after a step, and what the step saw.
#[derive(Debug)]
pub struct Step<M> {
    /// The model with its new weights.
    pub model: M,
    /// The reported losses of each part, before the step.
    pub losses: Vec<Vec<f64>>,
    /// The global norm of the gradients, before clipping; no number where a loss or an objective is none.
    pub grad_norm: f64,
    /// How the gradients of the parts agree, where it was measured.
    pub gram: Option<Gram>,
}

/// Takes one step along the gradients of one part or several. Where a loss or the norm of the gradients is no finite number,
/// the weights stay as they are.
///
/// # Panics
/// When `model` is not on a device with autodiff.
pub fn train_step<M: Module, P: Sync>(
    model: M,
    optimizer: &mut Optimizer,
    device: &Device,
    parts: &[P],
    gradients: impl Fn(&M, &P) -> PartGradients + Send,
    combine: Combine,
    rates: ModuleLearningRate,
) -> Step<M> {
    on_workers(device, move || {
        let (mut losses, mut all) = (vec![], vec![]);
        for part in parts {
            let of_part = gradients(&model, part);
            losses.push(of_part.losses);
            let Some(of_part) = of_part.gradients else {
                return Step { model, losses, grad_norm: f64::NAN, gram: None };
            };
            match (&combine, all.last_mut()) {
                (Combine::Sum, Some(sum)) => add(&model, sum, of_part, |_| 1.0),
                _ => all.push(of_part),
            }
        }
        let (mut factors, mut measured) = (vec![1.0; all.len()], None);
        if let Combine::Measure(shared) | Combine::Project(shared, _) = &combine {
            measured = Some(gram(&model, &all, shared));
        }
        let shared = match (combine, &measured) {
            (Combine::Project(shared, mut order), Some(gram)) => {
                factors = projections(gram, &mut order);
                Some(shared)
            }
            _ => None,
        };
        let mut sum = GradientsParams::new();
        for (gradients, factor) in all.into_iter().zip(factors) {
            let is_shared = |id: &ParamId| shared.is_some_and(|shared| shared.contains(id));
            add(&model, &mut sum, gradients, |id| if is_shared(id) { factor } else { 1.0 });
        }
        let (model, grad_norm) = optimizer.step(model, sum, rates);
        Step { model, losses, grad_norm, gram: measured }
    })
}

/// The reported losses of a part, and its gradients where the losses are finite; also that at `leaf`, a tensor that the losses
/// hang on beside the parameters.
pub(crate) fn part_gradients<M: Module>(
    model: &M,
    part: PartLoss,
    leaf: Option<&Tensor<2>>,
) -> (PartGradients, Option<Tensor<2>>) {
    let PartLoss { objective, losses } = part;
    let mut values = losses;
    values.push(objective.clone());
    let mut values: Vec<f64> = Tensor::cat(values, 0).into_data().iter::<f64>().collect();
    let is_finite = values.iter().all(|value| value.is_finite());
    values.pop();
    if !is_finite {
        return (PartGradients { losses: values, gradients: None }, None);
    }
    let gradients = objective.backward();
    let at_leaf = leaf.and_then(|leaf| leaf.grad(&gradients));
    let gradients = Some(GradientsParams::from_grads(gradients, model));
    (PartGradients { losses: values, gradients }, at_leaf)
}

/// The parameters of a module, frozen ones among them.
pub(crate) fn parameters_of<M: Module>(module: &M) -> HashSet<ParamId> {
    parameters_with(module, |_| true)
}

/// The parameters of a module that are taken, by whether they are trained.
pub(crate) fn parameters_with<M: Module>(
    module: &M,
    is_taken: impl Fn(bool) -> bool,
) -> HashSet<ParamId> {
    struct Ids<F> {
        is_taken: F,
        ids: HashSet<ParamId>,
    }
    impl<F: Fn(bool) -> bool> ModuleVisitor for Ids<F> {
        fn visit_float<const D: usize>(&mut self, param: &burn::module::Param<Tensor<D>>) {
            if (self.is_taken)(param.is_require_grad()) {
                self.ids.insert(param.id);
            }
        }
    }
    let mut ids = Ids { is_taken, ids: HashSet::new() };
    module.visit(&mut ids);
    ids.ids
}
