//! How an optimiser treats each parameter, seen on a twin of the model in which every parameter is one number.
//!
//! The twin has the paths and the ids of the model's parameters, which is all that an optimiser tells them apart by. So the
//! optimiser of the run is asked, and not the settings that it was made from, at next to no cost.

use std::collections::{BTreeMap, HashMap};

use bert_kernels::AdamWState;
use burn::{
    lr_scheduler::module_lr_scheduler::ModuleLearningRate,
    module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId},
    optim::GradientsParams,
    tensor::Tensor,
};

use crate::optimizer::{Optimizer, clip_factor};

/// A parameter of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Parameter {
    /// The fields that lead to it.
    pub(crate) path: String,
    pub(crate) id: ParamId,
    /// The numbers in it.
    pub(crate) values: usize,
    /// Whether it asks for a gradient.
    pub(crate) is_trained: bool,
}

/// What an optimiser does with the gradient of a parameter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Treatment {
    /// Whether it keeps a state of the parameter.
    pub(crate) is_kept: bool,
    /// How far the first step moves it.
    pub(crate) rate: f64,
    /// The share of it that a step of rate 1 takes off.
    pub(crate) decay: f64,
    /// The global norm that larger gradients are scaled down to; infinite where none was.
    pub(crate) clip: f64,
}

/// Every parameter of a model, frozen ones among them.
pub(crate) fn parameters<M: Module>(model: &M) -> Vec<Parameter> {
    struct Parameters {
        path: Vec<String>,
        found: Vec<Parameter>,
    }
    impl ModuleVisitor for Parameters {
        fn enter_module(&mut self, name: &str, _container_type: &str) {
            self.path.push(name.to_owned());
        }

        fn exit_module(&mut self, _name: &str, _container_type: &str) {
            self.path.pop();
        }

        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.found.push(Parameter {
                path: self.path.join("."),
                id: param.id,
                values: param.shape().num_elements(),
                is_trained: param.is_require_grad(),
            });
        }
    }
    let mut parameters = Parameters { path: vec![], found: vec![] };
    model.visit(&mut parameters);
    parameters.found
}

/// How `optimizer`, which has taken no step yet, treats each of the `trained` parameters of `model` at these rates, in their
/// order.
pub(crate) fn treatments<M: Module>(
    model: &M,
    optimizer: &Optimizer,
    trained: &[&Parameter],
    rates: &ModuleLearningRate,
) -> Vec<Treatment> {
    let limit = optimizer.max_grad_norm();
    let root = (trained.len() as f64).sqrt();
    // All gradients are the same number: first far below what is clipped, then above it.
    let small = 0.1 * limit.min(1.0) / root;
    let norm = 10.0 * limit;
    let large = norm / root;
    // What is clipped is a little shorter than the limit.
    let clipped_by = limit / (norm * clip_factor(norm, limit));
    let free = step(model, optimizer, 0.0, small, rates);
    let clipped = match limit < MOST_CLIPPED {
        true => Some(step(model, optimizer, 0.0, large, rates)),
        false => None,
    };
    let decayed = step(model, optimizer, 1.0, 0.0, &ModuleLearningRate::from(1.0));
    let treatment = |parameter: &&Parameter| {
        let moment = |stepped: &Stepped| stepped.moment(&parameter.path);
        // The first moment is proportional to the gradient that was used.
        let used = clipped.as_ref().and_then(|clipped| Some(moment(clipped)? / moment(&free)?));
        Treatment {
            is_kept: moment(&free).is_some(),
            // AdamW's first step moves a weight by the rate times g / (g + epsilon).
            rate: -free.weight(parameter.id) * (small + EPSILON) / small,
            decay: 1.0 - decayed.weight(parameter.id),
            clip: used.map_or(f64::INFINITY, |used| used * small * root * clipped_by),
        }
    };
    trained.iter().map(treatment).collect()
}

/// That of [`AdamW`](bert_kernels::AdamW).
const EPSILON: f64 = 1e-8;

/// A limit from here on clips nothing that can be computed with.
pub(crate) const MOST_CLIPPED: f64 = 1e6;

/// The twin after a step.
struct Stepped {
    weights: HashMap<ParamId, f64>,
    states: BTreeMap<String, AdamWState<1>>,
}

impl Stepped {
    fn weight(&self, id: ParamId) -> f64 {
        self.weights.get(&id).copied().unwrap_or(f64::NAN)
    }

    fn moment(&self, path: &str) -> Option<f64> {
        let moment = self.states.get(path)?.moment_1.clone();
        moment.into_data().iter::<f64>().next()
    }
}

/// Takes a step with a twin whose parameters all have this weight and this gradient; optimiser and model stay as they are.
fn step<M: Module>(
    model: &M,
    optimizer: &Optimizer,
    weight: f64,
    gradient: f64,
    rates: &ModuleLearningRate,
) -> Stepped {
    let twin = model.clone().map(&mut Shrink(weight));
    let mut gradients = Fill { value: gradient, gradients: GradientsParams::new() };
    twin.visit(&mut gradients);
    let mut optimizer = optimizer.clone();
    let (twin, _) = optimizer.step(twin, gradients.gradients, rates.clone());
    let mut weights = Read(HashMap::new());
    twin.visit(&mut weights);
    Stepped { weights: weights.0, states: optimizer.states(&twin) }
}

/// Makes one number of every parameter.
struct Shrink(f64);

impl ModuleMapper for Shrink {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.map(|old| {
            let one = Tensor::full([1; D], self.0, &old.device());
            one.set_require_grad(old.is_require_grad())
        })
    }
}

/// Gives every trained parameter the same gradient.
struct Fill {
    value: f64,
    gradients: GradientsParams,
}

impl ModuleVisitor for Fill {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if param.is_require_grad() {
            let gradient = Tensor::<D>::full([1; D], self.value, &param.device().inner());
            self.gradients.register(param.id, gradient);
        }
    }
}

/// Reads every parameter.
struct Read(HashMap<ParamId, f64>);

impl ModuleVisitor for Read {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let value = param.val().into_data().iter::<f64>().next();
        self.0.insert(param.id, value.unwrap_or(f64::NAN));
    }
}

#[cfg(all(test, feature = "flex"))]
#[allow(clippy::unwrap_used)]
mod tests {
    use bert_kernels::{AdamW, AdamWState, GradientScale};
    use burn::{
        nn::{Linear, LinearConfig},
        tensor::Device,
    };

    use super::*;
    use crate::{optimizer::learning_rates, recipe::Recipe};

    #[derive(Module, Debug)]
    struct Two {
        classifier: Linear,
        other: Linear,
    }

    fn recipe() -> Recipe {
        let rate = Some(3e-3);
        Recipe { head_learning_rate: rate, max_grad_norm: 2.5, ..Recipe::default() }
    }

    /// How the four parameters are treated: weight and bias of the head, weight and bias of the other.
    fn asked(optimizer: &Optimizer, recipe: &Recipe, factor: f64) -> Vec<Treatment> {
        let device = Device::flex().autodiff();
        let linear = || LinearConfig::new(3, 2).init(&device);
        let model = Two { classifier: linear(), other: linear() };
        let all = parameters(&model);
        let rates = learning_rates(recipe, 0, factor);
        treatments(&model, optimizer, &all.iter().collect::<Vec<_>>(), &rates)
    }

    #[track_caller]
    fn assert_close(got: f64, expected: f64) {
        assert!((got - expected).abs() <= 1e-4 * expected.abs(), "{got}, not {expected}");
    }

    #[test]
    fn rate_decay_and_clip_are_seen() {
        let recipe = recipe();
        let treatments = asked(&Optimizer::new(&recipe), &recipe, 0.5);
        // Half of 3e-3 and of 5e-5; weights decay by 0.01.
        let expected = [(1.5e-3, 0.01), (1.5e-3, 0.0), (2.5e-5, 0.01), (2.5e-5, 0.0)];
        assert_eq!(treatments.len(), 4);
        for (treatment, (rate, decay)) in treatments.iter().zip(expected) {
            assert!(treatment.is_kept);
            assert_close(treatment.rate, rate);
            assert_close(treatment.decay, decay);
            assert_close(treatment.clip, 2.5);
        }
        let none = Recipe { max_grad_norm: 1e9, ..recipe };
        assert_eq!(asked(&Optimizer::new(&none), &none, 1.0)[0].clip, f64::INFINITY);
    }

    #[test]
    fn a_group_with_a_clip_of_its_own_is_seen() {
        let recipe = recipe();
        // Its gradients are not scaled: the scale belongs to the others.
        let optimizer = Optimizer::new(&recipe)
            .with(r"^other\.", |own| AdamW { gradient_scale: GradientScale::new(), ..own });
        let treatments = asked(&optimizer, &recipe, 1.0);
        assert_close(treatments[1].clip, 2.5);
        // Ten times the limit goes through.
        assert_close(treatments[2].clip, 25.0);
    }

    #[test]
    fn a_parameter_that_is_left_out_is_seen() {
        /// Trains nothing.
        #[derive(Clone)]
        struct Nothing;
        impl burn::optim::Optimizer for Nothing {
            type State<const D: usize> = AdamWState<D>;
            fn step<const D: usize>(
                &self,
                _: f64,
                tensor: Tensor<D>,
                _: Tensor<D>,
                state: Option<AdamWState<D>>,
            ) -> (Tensor<D>, Option<AdamWState<D>>) {
                (tensor, state)
            }
            fn to_device<const D: usize>(state: AdamWState<D>, _: &Device) -> AdamWState<D> {
                state
            }
        }
        let recipe = recipe();
        let optimizer = Optimizer::new(&recipe).with("^classifier.bias$", |_| Nothing);
        let kept: Vec<bool> =
            asked(&optimizer, &recipe, 1.0).iter().map(|own| own.is_kept).collect();
        assert_eq!(kept, [true, false, true, true]);
    }
}
