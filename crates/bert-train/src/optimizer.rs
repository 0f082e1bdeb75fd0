//! Which parameters decay, at which rate each group learns, and how large a step may be.

use std::{
    collections::{BTreeMap, BTreeSet},
    iter,
};

use bert_kernels::{AdamW, AdamWState, GradientScale, Handover, sum_of_squares};
use burn::{
    lr_scheduler::module_lr_scheduler::{ModuleLearningRate, ModuleLrScheduler},
    module::{Module, ModuleVisitor, Param, ParamGroup, ParamId},
    optim::{GradientsParams, ModuleOptimizer},
    tensor::{Tensor, TensorData},
};

use crate::{
    recipe::Recipe,
    saved::{MOMENTS, Moments},
};

/// The parts of a path by which parameters are grouped; paths are those of the model's fields.
const NO_DECAY: &str = r"(^|\.)(bias|beta|gamma|log_variance)$";
const HEAD: &str = r"^(tasks\.\d+\.)?(classifier|projection)\.";
const POOLING: &str = r"^(tasks\.\d+\.)?(pooling|layer_mixture)\.";
const TASK_EMBEDDING: &str = r"^(tasks\.\d+\.)?task_embedding\.";
const EMBEDDINGS: &str = r"^bert\.embeddings\.";
const LOG_VARIANCE: &str = r"^tasks\.\d+\.log_variance$";

/// AdamW with gradients clipped by their global norm.
#[derive(Clone)]
pub struct Optimizer {
    groups: ModuleOptimizer,
    /// What every gradient is multiplied with in the step, shared by all groups.
    scale: GradientScale,
    /// The way of states in and out, shared by all groups.
    handover: Handover,
    max_grad_norm: f64,
    /// What the last step saw.
    squares: Vec<(ParamId, f64)>,
}

impl Optimizer {
    /// AdamW with the recipe's decay on all parameters but biases and norms.
    pub fn new(recipe: &Recipe) -> Self {
        let (scale, handover) = (GradientScale::new(), Handover::default());
        let adamw = |weight_decay: f64| AdamW {
            gradient_scale: scale.clone(),
            handover: handover.clone(),
            ..AdamW::new(weight_decay)
        };
        Self {
            groups: ModuleOptimizer::from(adamw(recipe.weight_decay)).with_group(
                group(NO_DECAY),
                adamw(0.0),
                None,
            ),
            scale,
            handover,
            max_grad_norm: recipe.max_grad_norm,
            squares: vec![],
        }
    }

    /// The largest global norm of the gradients; larger ones are scaled down to it.
    pub(crate) fn max_grad_norm(&self) -> f64 {
        self.max_grad_norm
    }

    /// The sum of squares of each gradient that the last step was given, before clipping.
    pub(crate) fn squares(&self) -> &[(ParamId, f64)] {
        &self.squares
    }

    /// Moves `model` along its gradients, unless their global norm is no finite number; returns that norm.
    pub fn step<M: Module>(
        &mut self,
        model: M,
        gradients: GradientsParams,
        rates: ModuleLearningRate,
    ) -> (M, f64) {
        self.squares = squares(&model, &gradients);
        let norm = self.squares.iter().fold(0.0, |sum, (_, squares)| sum + squares).sqrt();
        if !norm.is_finite() {
            return (model, norm);
        }
        self.scale.set(clip_factor(norm, self.max_grad_norm) as f32);
        (self.groups.step(rates, model, gradients), norm)
    }

    /// What is kept of each parameter of `model`, flat, by its path; nothing is copied.
    pub(crate) fn states<M: Module>(&self, model: &M) -> BTreeMap<String, AdamWState<1>> {
        let mut numbered =
            Numbered { path: vec![], names: vec![], gradients: GradientsParams::new() };
        model.visit(&mut numbered);
        let mut groups = self.groups.clone();
        let mut states = self.handover.hand_out(|| {
            groups.step(ModuleLearningRate::from(0.0), model.clone(), numbered.gradients);
        });
        let names = numbered.names.into_iter().enumerate();
        names.filter_map(|(number, name)| Some((name, states.remove(&number)?))).collect()
    }

    /// Puts back what was kept of the parameters of `model`, which stay as they are.
    ///
    /// # Errors
    /// The path of what is no trainable parameter of the model, or has another size.
    pub(crate) fn restore<M: Module>(
        &mut self,
        mut model: M,
        moments: &Moments,
    ) -> std::result::Result<M, String> {
        let mut left: BTreeSet<&str> = moments.keys().map(String::as_str).collect();
        let counts: BTreeSet<usize> = moments.values().map(|moment| moment.steps).collect();
        for steps in counts {
            for which in 0..MOMENTS.len() {
                let gradients = GradientsParams::new();
                let mut visitor =
                    AsGradients { path: vec![], moments, steps, which, gradients, found: vec![] };
                model.visit(&mut visitor);
                left.retain(|name| !visitor.found.iter().any(|found| found == name));
                let step =
                    || self.groups.step(ModuleLearningRate::from(0.0), model, visitor.gradients);
                model = self.handover.hand_in(steps, step);
            }
        }
        match left.first() {
            Some(name) => Err((*name).to_owned()),
            None => Ok(model),
        }
    }
}

/// Each parameter's number, in place of its gradient.
struct Numbered {
    path: Vec<String>,
    names: Vec<String>,
    gradients: GradientsParams,
}

impl ModuleVisitor for Numbered {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let number = Tensor::<D>::full([1; D], self.names.len() as f64, &param.device().inner());
        self.gradients.register(param.id, number);
        self.names.push(self.path.join("."));
    }
}

/// The moments of one kind, of the parameters that have taken so many steps, as gradients.
struct AsGradients<'a> {
    path: Vec<String>,
    moments: &'a Moments,
    steps: usize,
    which: usize,
    gradients: GradientsParams,
    found: Vec<String>,
}

impl ModuleVisitor for AsGradients<'_> {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let name = self.path.join(".");
        let moment = self.moments.get(&name).filter(|moment| moment.steps == self.steps);
        let Some(moment) = moment else { return };
        let (values, shape) = (&moment.moments[self.which], param.shape());
        if param.is_require_grad() && values.len() == shape.num_elements() {
            let data = TensorData::new(values.clone(), shape);
            let gradient = Tensor::<D>::from_data(data, &param.device().inner());
            self.gradients.register(param.id, gradient);
            self.found.push(name);
        }
    }
}

/// What gradients of this global norm are multiplied with, so that it is at most `max_norm`.
///
/// `max_norm / (norm + 1e-6)` where that is below 1, as PyTorch's `clip_grad_norm_`.
pub(crate) fn clip_factor(norm: f64, max_norm: f64) -> f64 {
    (max_norm / (norm + 1e-6)).min(1.0)
}

/// The rate of each group, of a model whose encoder has so many layers, where the schedule stands at `factor`.
pub fn learning_rates(recipe: &Recipe, layers: usize, factor: f64) -> ModuleLearningRate {
    let base = recipe.learning_rate;
    let mut rates = ModuleLrScheduler::new(base * factor);
    if let Some(decay) = recipe.layers.lr_decay {
        // From the embeddings up: the highest power is theirs.
        let powers = (1..=layers as i32 + 1).rev();
        let depths = (0..layers).map(|layer| group(&format!(r"^bert\.encoder\.layer\.{layer}\.")));
        for (depth, power) in iter::once(group(EMBEDDINGS)).chain(depths).zip(powers) {
            rates = rates.with_group(depth, base * decay.powi(power) * factor);
        }
    }
    let groups = [
        (HEAD, recipe.head_learning_rate),
        (POOLING, recipe.pooling_learning_rate),
        (TASK_EMBEDDING, recipe.task_embedding_learning_rate),
        (LOG_VARIANCE, recipe.mixing.balance.noise_learning_rate()),
    ];
    let own = |rates: ModuleLrScheduler, (pattern, rate): (&str, Option<f64>)| {
        rates.with_group(group(pattern), rate.unwrap_or(base) * factor)
    };
    groups.into_iter().fold(rates, own).step()
}

/// The sum of squares of each gradient, in the order of the parameters of `model`.
pub(crate) fn squares<M: Module>(model: &M, gradients: &GradientsParams) -> Vec<(ParamId, f64)> {
    struct Squares<'a> {
        gradients: &'a GradientsParams,
        found: Vec<(ParamId, f64)>,
    }
    impl ModuleVisitor for Squares<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if let Some(gradient) = self.gradients.get::<D>(param.id) {
                self.found.push((param.id, sum_of_squares(gradient)));
            }
        }
    }
    let mut squares = Squares { gradients, found: vec![] };
    model.visit(&mut squares);
    squares.found
}

fn group(pattern: &str) -> ParamGroup {
    ParamGroup::from_regex(pattern).expect("the pattern is valid") // INVARIANT: patterns are written in this file
}

#[cfg(test)]
impl Optimizer {
    /// The optimiser with another one for some parameters, made of AdamW as it is here.
    pub(crate) fn with<O: burn::optim::Optimizer>(
        mut self,
        pattern: &str,
        other: impl FnOnce(AdamW) -> O,
    ) -> Self {
        let (gradient_scale, handover) = (self.scale.clone(), self.handover.clone());
        let own = AdamW { gradient_scale, handover, ..AdamW::new(0.01) };
        self.groups = self.groups.with_group(group(pattern), other(own), None);
        self
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use bert_core::{BertConfig, Embeddings, EncoderInput, initialise};
    use burn::{
        module::ParamId,
        tensor::{Device, Int},
    };

    use super::*;
    use crate::layers::Layers;

    /// Nothing is kept of the whole table where words are frozen: two moments of the new rows.
    #[cfg(feature = "flex")]
    #[test]
    fn there_is_no_state_of_frozen_words() {
        let device = Device::flex().autodiff();
        let config = BertConfig { vocab_size: 997, hidden_size: 24, ..BertConfig::default() };
        // Two moments of 997 x 24 or of 7 x 24 floats, and what a record takes besides.
        for (frozen, bytes) in [(0, 191_424..200_000), (990, 1_344..10_000)] {
            let mut words = initialise(Embeddings::new(&config, &device), "", 1, 0.02);
            if frozen > 0 {
                words = words.freeze_words(frozen);
            }
            let ids = Tensor::<2, Int>::from_data([[1, 993, 995]], &device);
            let input =
                EncoderInput::from_padded(ids.clone(), ids.zeros_like(), ids.greater_elem(0));
            let loss = words.words(&input).square().sum();
            let gradients = GradientsParams::from_grads(loss.backward(), &words);
            assert_eq!(gradients.len(), 1);
            let recipe = Recipe::default();
            let mut optimizer = Optimizer::new(&recipe);
            optimizer.step(words, gradients, learning_rates(&recipe, 0, 1.0));
            let record = optimizer.groups.to_record();
            assert_eq!(record.len(), 2);
            assert!(bytes.contains(&record.into_bytes().unwrap().len()));
        }
    }

    #[test]
    fn rates_by_depth() {
        let rate = |recipe: &Recipe, path: &str| {
            learning_rates(recipe, 3, 0.5).lr_from_param(ParamId::new(), Some(path))
        };
        let plain =
            Recipe { learning_rate: 0.2, head_learning_rate: Some(0.4), ..Recipe::default() };
        let layers = Layers { lr_decay: Some(0.5), ..Layers::default() };
        let decayed = Recipe { layers, ..plain.clone() };
        // Half of 0.2, times 0.5^4 for the embeddings, and 0.5^3, 0.5^2, 0.5 for the layers.
        for (path, expected) in [
            ("bert.embeddings.word_embeddings.weight", 0.1 / 16.0),
            ("bert.embeddings.layer_norm.gamma", 0.1 / 16.0),
            ("bert.encoder.layer.0.attention.self_attention.key.bias", 0.1 / 8.0),
            ("bert.encoder.layer.1.output.dense.weight", 0.1 / 4.0),
            ("bert.encoder.layer.2.output.layer_norm.beta", 0.1 / 2.0),
            ("pooling.Cls.dense.weight", 0.1),
            ("classifier.weight", 0.2),
            ("tasks.1.classifier.bias", 0.2),
            ("tasks.0.task_embedding.Full.difference", 0.1),
        ] {
            assert!((rate(&decayed, path) - expected).abs() < 1e-15, "{path}");
            let own = if path.contains("classifier") { 0.2 } else { 0.1 };
            assert_eq!(rate(&plain, path), own, "{path}");
        }
    }

    #[test]
    fn only_gradients_above_the_largest_norm_are_scaled() {
        assert_eq!(clip_factor(0.5, 1.0), 1.0);
        assert_eq!(clip_factor(0.0, 1.0), 1.0);
        // 1 / (4 + 0.000001)
        assert!((clip_factor(4.0, 1.0) - 0.249_999_937_5).abs() < 1e-12);
    }
}
