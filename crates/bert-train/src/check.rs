//! The check before a run goes on: whether every parameter that asks for a gradient gets one, and whether the optimiser learns
//! from it.

use std::collections::HashMap;

use burn::{lr_scheduler::module_lr_scheduler::ModuleLearningRate, module::ParamId};
use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, Result},
    optimizer::Optimizer,
    parameter_names::patterns,
    plan::Plan,
    trainable::Trainable,
    twin::{MOST_CLIPPED, Parameter, Treatment, parameters, treatments},
    zero_gradient::reason_for_zero,
};

/// What the check of a run's first step found: all parameters as they are treated, and what the run is going to take.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// The step that was checked, from 1.
    pub step: usize,
    /// Every parameter, with those that are treated alike.
    pub groups: Vec<CheckedGroup>,
    /// What the run is going to take.
    pub plan: Plan,
    /// What a person should look at.
    pub warnings: Vec<String>,
}

/// Parameters that are treated alike.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CheckedGroup {
    /// Patterns of their names, where `*` stands for any number of fields.
    pub names: Vec<String>,
    /// How many they are.
    pub tensors: usize,
    /// The numbers in them.
    pub values: usize,
    /// How they are trained; none where they are frozen.
    pub training: Option<GroupTraining>,
}

/// How a group of parameters is trained: by what the optimiser did, not by what it was told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GroupTraining {
    /// The norm of their gradient, the largest where several batches were checked. Each of them has one, finite and, but for
    /// those of `zero`, other than 0.
    pub gradient_norm: f64,
    /// The highest learning rate of the schedule.
    pub learning_rate: f64,
    /// The share of them that is taken off each step, times the learning rate.
    pub weight_decay: f64,
    /// The global norm that larger gradients are scaled down to; none where nothing is clipped.
    pub clip: Option<f64>,
    /// Those whose gradient is 0, which is right for them.
    pub zero: Vec<ZeroGradients>,
}

/// Parameters whose gradient is 0.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ZeroGradients {
    /// Patterns of their names.
    pub names: Vec<String>,
    /// How many they are.
    pub tensors: usize,
    /// Why that is right.
    pub reason: String,
}

/// A check under way: the optimiser was asked, gradients are to come.
#[derive(Debug)]
pub(crate) struct Checking {
    frozen: Vec<Parameter>,
    trained: Vec<(Parameter, Treatment)>,
    /// The largest sum of squares that the gradient of each parameter had.
    squares: HashMap<ParamId, f64>,
    /// Whether a batch had a loss of 0.
    has_zero_loss: bool,
    /// What the run is going to take.
    pub(crate) plan: Plan,
    warnings: Vec<String>,
}

impl Checking {
    /// Asks `optimizer`, which has taken no step yet, how it treats the parameters of `model` at the highest `rates`.
    ///
    /// # Errors
    /// [`Error::FrozenHead`], [`Error::SharedParameter`], [`Error::NotOptimised`], [`Error::NoRate`], [`Error::NotClipped`].
    pub(crate) fn begin<M: Trainable>(
        model: &M,
        optimizer: &Optimizer,
        rates: &ModuleLearningRate,
        plan: Plan,
    ) -> Result<Self> {
        let (trained, frozen): (Vec<_>, Vec<_>) =
            parameters(model).into_iter().partition(|own| own.is_trained);
        let of_encoder: Vec<ParamId> =
            parameters(model.encoder()).iter().map(|own| own.id).collect();
        let behind = frozen.iter().filter(|own| !of_encoder.contains(&own.id));
        refuse(behind, |names| Error::FrozenHead { names })?;
        let mut places: HashMap<ParamId, &str> = HashMap::new();
        for own in &trained {
            if let Some(first) = places.insert(own.id, &own.path) {
                let (first, second) = (first.to_owned(), own.path.clone());
                return Err(Error::SharedParameter { first, second });
            }
        }
        let asked: Vec<&Parameter> = trained.iter().collect();
        let treatments = treatments(model, optimizer, &asked, rates);
        let trained: Vec<(Parameter, Treatment)> = trained.into_iter().zip(treatments).collect();
        let limit = optimizer.max_grad_norm();
        let is_clipped = |clip: f64| {
            (clip / limit - 1.0).abs() < 1e-3 || !clip.is_finite() && limit >= MOST_CLIPPED
        };
        let with = |is_fault: &dyn Fn(&Treatment) -> bool| {
            let faulty = trained.iter().filter(|(_, treatment)| is_fault(treatment));
            faulty.map(|(own, _)| own).collect::<Vec<_>>().into_iter()
        };
        refuse(with(&|own| !own.is_kept), |names| Error::NotOptimised { names })?;
        refuse(with(&|own| own.rate == 0.0), |names| Error::NoRate { names })?;
        let error = |names| Error::NotClipped { names, limit };
        refuse(with(&|own| !is_clipped(own.clip)), error)?;
        Ok(Self {
            frozen,
            trained,
            squares: HashMap::new(),
            has_zero_loss: false,
            warnings: vec![],
            plan,
        })
    }

    /// Takes note of a batch: its losses, and the sum of squares of each gradient.
    pub(crate) fn see(&mut self, losses: &[f64], squares: &[(ParamId, f64)]) {
        self.has_zero_loss |= losses.contains(&0.0);
        for (id, squares) in squares {
            let largest = self.squares.entry(*id).or_insert(0.0);
            *largest = largest.max(*squares);
        }
    }

    /// The check after all batches.
    ///
    /// # Errors
    /// [`Error::NoGradient`], and [`Error::ZeroGradient`] for a gradient of 0 where that is not right.
    pub(crate) fn end(mut self, step: usize) -> Result<Check> {
        let squares = |own: &Parameter| self.squares.get(&own.id).copied();
        let trained = || self.trained.iter().map(|(own, _)| own);
        let absent = trained().filter(|own| squares(own).is_none());
        refuse(absent, |names| Error::NoGradient { names })?;
        let is_wrong =
            |own: &&Parameter| squares(own) == Some(0.0) && reason_for_zero(&own.path).is_none();
        let wrong = trained().filter(is_wrong);
        // From a batch without loss there is nothing to learn, and nothing to see.
        if self.has_zero_loss && wrong.clone().next().is_some() {
            let paths: Vec<&str> = wrong.map(|own| own.path.as_str()).collect();
            let warning = format!(
                "the loss of a batch that was checked is 0, so that {} of {} parameters got a gradient of 0 from it: {}",
                paths.len(),
                self.trained.len(),
                patterns(&paths, &[]).join(", ")
            );
            self.warnings.push(warning);
        } else {
            refuse(wrong, |names| Error::ZeroGradient { names })?;
        }
        let groups = self.groups();
        Ok(Check { step, groups, plan: self.plan, warnings: self.warnings })
    }

    fn groups(&self) -> Vec<CheckedGroup> {
        let mut alike: Vec<(Treatment, Vec<&Parameter>)> = vec![];
        for (own, treatment) in &self.trained {
            let treatment = treatment.rounded();
            match alike.iter_mut().find(|(other, _)| *other == treatment) {
                Some((_, group)) => group.push(own),
                None => alike.push((treatment, vec![own])),
            }
        }
        let mut groups: Vec<CheckedGroup> =
            alike.iter().map(|(treatment, own)| self.group(own, Some(treatment))).collect();
        if !self.frozen.is_empty() {
            groups.push(self.group(&self.frozen.iter().collect::<Vec<_>>(), None));
        }
        groups
    }

    fn group(&self, own: &[&Parameter], treatment: Option<&Treatment>) -> CheckedGroup {
        let squares = |own: &&Parameter| self.squares.get(&own.id).copied().unwrap_or(0.0);
        let mut zero: Vec<(&str, Vec<&str>)> = vec![];
        for own in own.iter().filter(|own| squares(own) == 0.0) {
            let Some(reason) = reason_for_zero(&own.path) else { continue };
            match zero.iter_mut().find(|(other, _)| *other == reason) {
                Some((_, paths)) => paths.push(&own.path),
                None => zero.push((reason, vec![&own.path])),
            }
        }
        let all = self.trained.iter().map(|(own, _)| own).chain(&self.frozen);
        let all: Vec<&str> = all.map(|own| own.path.as_str()).collect();
        let named = |paths: &[&str]| {
            let is_other = |path: &&&str| !paths.contains(path);
            patterns(paths, &all.iter().filter(is_other).copied().collect::<Vec<_>>())
        };
        let zero = zero.into_iter().map(|(reason, paths)| ZeroGradients {
            names: named(&paths),
            tensors: paths.len(),
            reason: reason.to_owned(),
        });
        let paths: Vec<&str> = own.iter().map(|own| own.path.as_str()).collect();
        CheckedGroup {
            names: named(&paths),
            tensors: own.len(),
            values: own.iter().map(|own| own.values).sum(),
            training: treatment.map(|treatment| GroupTraining {
                gradient_norm: own.iter().map(squares).sum::<f64>().sqrt(),
                learning_rate: treatment.rate,
                weight_decay: treatment.decay,
                clip: Some(treatment.clip).filter(|clip| clip.is_finite()),
                zero: zero.collect(),
            }),
        }
    }
}

impl Treatment {
    /// With as many digits as can be trusted of what was computed in single precision.
    fn rounded(self) -> Self {
        // Written and read again, so that numbers that are said alike are equal.
        let round = |value: f64| format!("{value:.3e}").parse().unwrap_or(value);
        let Self { is_kept, rate, decay, clip } = self;
        // One that is far smaller than the digits of 1 is none.
        let decay = if decay.abs() < 1e-6 { 0.0 } else { round(decay) };
        Self { is_kept, rate: round(rate), decay, clip: round(clip) }
    }
}

/// Refuses parameters, by their names, where there are any.
fn refuse<'a>(
    faulty: impl Iterator<Item = &'a Parameter>,
    error: impl FnOnce(Vec<String>) -> Error,
) -> Result<()> {
    let names: Vec<String> = faulty.map(|own| own.path.clone()).collect();
    if names.is_empty() { Ok(()) } else { Err(error(names)) }
}

#[cfg(all(test, feature = "flex"))]
#[allow(clippy::unwrap_used)]
mod tests {
    use bert_core::{Bert, BertConfig, initialise};
    use bert_heads::{TokenClassifier, TokenClassifierConfig};
    use bert_kernels::{AdamW, GradientScale};
    use burn::tensor::Device;

    use super::*;
    use crate::{
        optimizer::learning_rates,
        plan::{Coming, Plan},
        recipe::Recipe,
    };

    fn begin(recipe: &Recipe, optimizer: &Optimizer, factor: f64) -> Result<Checking> {
        let device = Device::flex().autodiff();
        let config = BertConfig {
            vocab_size: 31,
            hidden_size: 12,
            num_attention_heads: 3,
            num_hidden_layers: 2,
            intermediate_size: 17,
            max_position_embeddings: 9,
            ..BertConfig::default()
        };
        let bert = initialise(Bert::new(&config, &device), "", 1, 0.02);
        let parts = TokenClassifierConfig { num_labels: 3, task_embedding: None };
        let model = TokenClassifier::new(bert, &config, parts, 1, &device);
        let coming = Coming {
            sets: &[],
            epoch: &[],
            micro_batch_size: None,
            regularisation: &recipe.regularisation,
            steps: 9,
            warmup_steps: 0,
            cut_rows: 0,
        };
        let plan = Plan::new(&model, &coming, false, &device)?;
        Checking::begin(&model, optimizer, &learning_rates(recipe, 2, factor), plan)
    }

    #[test]
    fn faults_of_the_optimiser_are_found() {
        let recipe = Recipe::default();
        let sound = Optimizer::new(&recipe);
        assert!(begin(&recipe, &sound, 1.0).is_ok());
        let error = begin(&recipe, &sound, 0.0).unwrap_err();
        // 5 embeddings, 16 in each layer, a head of 2.
        assert!(matches!(&error, Error::NoRate { names } if names.len() == 39), "{error}");

        let unclipped = sound
            .clone()
            .with(r"\.weight$", |own| AdamW { gradient_scale: GradientScale::new(), ..own });
        let error = begin(&recipe, &unclipped, 1.0).unwrap_err();
        let Error::NotClipped { names, limit: 1.0 } = &error else { panic!("{error}") };
        assert!(names.iter().all(|name| name.ends_with(".weight")), "{names:?}");
        assert!(!error.is_bad_input());
    }

    #[test]
    fn a_gradient_has_to_come_for_every_parameter() {
        let recipe = Recipe::default();
        // Batches of losses, and the sums of squares by the place of the parameter.
        type Seen<'a> = (&'a [f64], &'a [(usize, f64)]);
        let end = |batches: &[Seen]| {
            let mut checking = begin(&recipe, &Optimizer::new(&recipe), 1.0)?;
            for (losses, squares) in batches {
                let of =
                    |(place, squares): &(usize, f64)| (checking.trained[*place].0.id, *squares);
                let squares: Vec<(ParamId, f64)> = squares.iter().map(of).collect();
                checking.see(losses, &squares);
            }
            checking.end(1)
        };
        let all: Vec<(usize, f64)> = (0..39).map(|place| (place, 4.0)).collect();
        assert!(end(&[(&[0.5], &all)]).is_ok());
        // A second batch may bring what the first lacks.
        assert!(end(&[(&[0.5], &all[1..]), (&[0.5], &all[..1])]).is_ok());
        let error = end(&[(&[0.5], &all[1..])]).unwrap_err();
        assert!(matches!(&error, Error::NoGradient { names } if names.len() == 1), "{error}");

        let mut zero = all.clone();
        zero[0].1 = 0.0;
        let error = end(&[(&[0.5], &zero)]).unwrap_err();
        assert!(matches!(&error, Error::ZeroGradient { names } if names.len() == 1), "{error}");
        assert_eq!(end(&[(&[0.5, 0.0], &zero)]).unwrap().warnings.len(), 1);
        // The norm of a group: 2 for each tensor but one.
        let check = end(&[(&[0.5, 0.0], &zero)]).unwrap();
        let group = &check.groups[0];
        let norm = (4.0 * (group.tensors - 1) as f64).sqrt();
        assert_eq!(group.training.as_ref().unwrap().gradient_norm, norm);
    }
}
