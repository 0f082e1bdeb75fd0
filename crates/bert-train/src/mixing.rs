//! How the tasks of a run share its steps.

use serde::{Deserialize, Serialize};

use crate::{
    balance::Balance,
    error::{Error, Result},
    sampler::{Sampling, StepSize},
};

/// How the tasks of a run share its steps; a run of one task needs none of it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Mixing {
    /// Which data set comes next.
    pub sampling: Sampling,
    /// How the losses are balanced.
    pub balance: Balance,
    /// How much a step takes.
    #[serde(rename = "step")]
    pub step_size: StepSize,
    /// One a task; without them, each task counts 1 and is never finished early.
    #[serde(skip)]
    pub tasks: Vec<TaskMixing>,
}

/// How one task takes part.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TaskMixing {
    /// What its loss is multiplied with.
    pub weight: f64,
    /// The task is finished after so many evaluations in a row without a better score: it is trained no more, and its head
    /// stays as it is. Without it, it is trained to the end.
    pub patience: Option<usize>,
}

impl Default for TaskMixing {
    fn default() -> Self {
        Self { weight: 1.0, patience: None }
    }
}

impl Mixing {
    /// How the task of this head takes part.
    pub(crate) fn task(&self, head: usize) -> TaskMixing {
        self.tasks.get(head).copied().unwrap_or_default()
    }

    /// Refuses numbers out of range, and choices that do not go together.
    pub(crate) fn check(&self) -> Result<()> {
        let refuse =
            |key, got: f64, expected| Err(Error::Recipe { key, got: got.to_string(), expected });
        match self.sampling {
            Sampling::Temperature { temperature } if !(1.0..).contains(&temperature) => {
                return refuse("sampling: temperature", temperature, "a number from 1");
            }
            _ => {}
        }
        match self.balance {
            Balance::GradNorm { alpha, .. } if !(alpha >= 0.0 && alpha.is_finite()) => {
                return refuse("balance: alpha", alpha, "a number from 0");
            }
            Balance::GradNorm { weight_lr, .. } | Balance::Uncertainty { weight_lr }
                if !(weight_lr > 0.0 && weight_lr.is_finite()) =>
            {
                return refuse("balance: weight_lr", weight_lr, "a number above 0");
            }
            Balance::Dwa { temperature } if !(temperature > 0.0 && temperature.is_finite()) => {
                return refuse("balance: temperature", temperature, "a number above 0");
            }
            _ => {}
        }
        let needs_all = match self.balance {
            Balance::GradNorm { .. } => Some("gradnorm"),
            Balance::PcGrad => Some("pcgrad"),
            Balance::Dwa { .. } => Some("dwa"),
            Balance::Fixed | Balance::Uncertainty { .. } => None,
        };
        if self.step_size == StepSize::All && self.sampling != Sampling::Proportional {
            return Err(Error::SamplingOfAll);
        }
        match needs_all {
            Some(balance) if self.step_size == StepSize::One => Err(Error::StepOfAll { balance }),
            _ => Ok(()),
        }
    }
}
