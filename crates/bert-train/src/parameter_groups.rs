//! The parameters of a model as its optimiser sees them: which learn, how fast, and which decay.

use burn::{
    lr_scheduler::module_lr_scheduler::ModuleLearningRate,
    module::{Module, ModuleVisitor, Param},
    tensor::Tensor,
};
use serde::{Deserialize, Serialize};

use crate::{
    optimizer::{decays, learning_rates},
    recipe::Recipe,
};

/// Parameters of one part of a model that are treated alike.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ParameterGroup {
    /// How their paths begin.
    pub(crate) name: String,
    pub(crate) tensors: usize,
    /// Their numbers.
    pub(crate) values: usize,
    /// The schedule's highest rate; none where they are frozen.
    pub(crate) learning_rate: Option<f64>,
    pub(crate) weight_decay: f64,
}

/// The groups of a model, whose encoder has so many layers, in the order of their first parameters.
pub(crate) fn parameter_groups<M: Module>(
    model: &M,
    recipe: &Recipe,
    layers: usize,
) -> Vec<ParameterGroup> {
    let mut visitor = Visitor {
        path: vec![],
        rates: learning_rates(recipe, layers, 1.0),
        weight_decay: recipe.weight_decay,
        groups: vec![],
    };
    model.visit(&mut visitor);
    visitor.groups
}

struct Visitor {
    path: Vec<String>,
    rates: ModuleLearningRate,
    weight_decay: f64,
    groups: Vec<ParameterGroup>,
}

impl ModuleVisitor for Visitor {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let path = self.path.join(".");
        let rate = self.rates.lr_from_param(param.id, Some(&path));
        let group = ParameterGroup {
            name: part_of(&self.path),
            tensors: 1,
            values: param.lazy_shape().num_elements(),
            learning_rate: param.is_require_grad().then_some(rate),
            weight_decay: if decays(&param.id, &path) { self.weight_decay } else { 0.0 },
        };
        let is_alike = |other: &&mut ParameterGroup| {
            let same = |group: &ParameterGroup| (group.learning_rate, group.weight_decay);
            other.name == group.name && same(other) == same(&group)
        };
        match self.groups.iter_mut().find(is_alike) {
            Some(other) => {
                (other.tensors, other.values) = (other.tensors + 1, other.values + group.values);
            }
            None => self.groups.push(group),
        }
    }
}

/// The part of a model that a path lies in: two names of the encoder, a task's number and its part, or the first name.
fn part_of(path: &[String]) -> String {
    let names = match path.first().map(String::as_str) {
        Some("bert") => 2,
        Some("tasks") => 3,
        _ => 1,
    };
    path[..names.min(path.len())].join(".")
}
