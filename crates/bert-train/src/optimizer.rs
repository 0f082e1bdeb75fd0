//! Which parameters decay, at which rate each group learns, and how large a step may be.

use bert_kernels::{AdamW, GradientScale, sum_of_squares};
use burn::{
    lr_scheduler::module_lr_scheduler::{ModuleLearningRate, ModuleLrScheduler},
    module::{Module, ModuleVisitor, Param, ParamGroup},
    optim::{GradientsParams, ModuleOptimizer},
    tensor::Tensor,
};

use crate::recipe::Recipe;

/// The parts of a path by which parameters are grouped; paths are those of the model's fields.
const NO_DECAY: &str = r"(^|\.)(bias|beta|gamma|log_variance)$";
const HEAD: &str = r"^(tasks\.\d+\.)?(classifier|projection)\.";
const POOLING: &str = r"^(tasks\.\d+\.)?(pooling|layer_mixture)\.";
const TASK_EMBEDDING: &str = r"^(tasks\.\d+\.)?task_embedding\.";
const LOG_VARIANCE: &str = r"^tasks\.\d+\.log_variance$";

/// AdamW with gradients clipped by their global norm.
#[derive(Clone)]
pub struct Optimizer {
    groups: ModuleOptimizer,
    /// What every gradient is multiplied with in the step, shared by all groups.
    scale: GradientScale,
    max_grad_norm: f64,
}

impl Optimizer {
    /// AdamW with the recipe's decay on all parameters but biases and norms.
    pub fn new(recipe: &Recipe) -> Self {
        let scale = GradientScale::new();
        let adamw =
            |weight_decay: f64| AdamW { gradient_scale: scale.clone(), ..AdamW::new(weight_decay) };
        Self {
            groups: ModuleOptimizer::from(adamw(recipe.weight_decay)).with_group(
                group(NO_DECAY),
                adamw(0.0),
                None,
            ),
            scale,
            max_grad_norm: recipe.max_grad_norm,
        }
    }

    /// Moves `model` along its gradients, unless their global norm is no finite number; returns that norm.
    pub fn step<M: Module>(
        &mut self,
        model: M,
        gradients: GradientsParams,
        rates: ModuleLearningRate,
    ) -> (M, f64) {
        let mut squares = SumOfSquares { gradients: &gradients, sum: 0.0 };
        model.visit(&mut squares);
        let norm = squares.sum.sqrt();
        if !norm.is_finite() {
            return (model, norm);
        }
        self.scale.set(clip_factor(norm, self.max_grad_norm) as f32);
        (self.groups.step(rates, model, gradients), norm)
    }
}

/// What gradients of this global norm are multiplied with, so that it is at most `max_norm`.
///
/// `max_norm / (norm + 1e-6)` where that is below 1, as PyTorch's `clip_grad_norm_`.
fn clip_factor(norm: f64, max_norm: f64) -> f64 {
    (max_norm / (norm + 1e-6)).min(1.0)
}

/// The rate of each group where the schedule stands at `factor`.
pub fn learning_rates(recipe: &Recipe, factor: f64) -> ModuleLearningRate {
    let base = recipe.learning_rate;
    let groups = [
        (HEAD, recipe.head_learning_rate),
        (POOLING, recipe.pooling_learning_rate),
        (TASK_EMBEDDING, recipe.task_embedding_learning_rate),
        (LOG_VARIANCE, recipe.mixing.balance.noise_learning_rate()),
    ];
    let mut rates = groups.into_iter().fold(ModuleLrScheduler::new(base * factor), |rates, own| {
        rates.with_group(group(own.0), own.1.unwrap_or(base) * factor)
    });
    rates.step()
}

struct SumOfSquares<'a> {
    gradients: &'a GradientsParams,
    sum: f64,
}

impl ModuleVisitor for SumOfSquares<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = self.gradients.get::<D>(param.id) {
            self.sum += sum_of_squares(gradient);
        }
    }
}

fn group(pattern: &str) -> ParamGroup {
    ParamGroup::from_regex(pattern).expect("the pattern is valid") // INVARIANT: patterns are constants of this file
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use bert_core::{BertConfig, Embeddings, EncoderInput, initialise};
    use burn::tensor::{Device, Int};

    use super::*;

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
            optimizer.step(words, gradients, learning_rates(&recipe, 1.0));
            let record = optimizer.groups.to_record();
            assert_eq!(record.len(), 2);
            assert!(bytes.contains(&record.into_bytes().unwrap().len()));
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
