//! The tensors of a checkpoint on their way back into a model and its optimiser.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use burn::{
    module::{Module, ModuleMapper, Param},
    tensor::{Tensor, TensorData},
};
use safetensors::{Dtype, SafeTensors};

use crate::{
    error::{Error, Result},
    optimizer::Optimizer,
    trainable::Trainable,
    training_state::TrainingState,
};

/// The moments of a parameter and the steps that it has taken, by its path.
pub(crate) type Moments = BTreeMap<String, Moment>;

/// What AdamW keeps of a parameter.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Moment {
    pub(crate) steps: usize,
    pub(crate) moments: [Vec<f32>; 2],
}

/// The tensors of a checkpoint, whose checksums are right.
#[derive(Debug)]
pub(crate) struct Saved {
    /// The checkpoint's directory.
    pub(crate) path: PathBuf,
    pub(crate) state: TrainingState,
    pub(crate) weights: PathBuf,
    pub(crate) average: Option<PathBuf>,
    pub(crate) best: Option<PathBuf>,
    pub(crate) optimizer: PathBuf,
    /// The steps that each parameter with an optimiser state has taken.
    pub(crate) optimizer_steps: BTreeMap<String, usize>,
}

impl Saved {
    /// Gives `model` the weights that are `trained` and `optimizer` its state; also the best model so far, in evaluation.
    ///
    /// # Errors
    /// [`Error::CheckpointParameter`] for a parameter of the model that the checkpoint lacks or has in another shape, and for
    /// one that had an optimiser state and would not have it again, with the same number of steps.
    pub(crate) fn restore<M: Trainable>(
        &self,
        model: M,
        trained: &BTreeSet<String>,
        optimizer: &mut Optimizer,
    ) -> Result<(M, Option<M>)> {
        let best = match &self.best {
            Some(path) => Some(self.set_weights(model.valid(), trained, path)?),
            None => None,
        };
        let model = self.set_weights(model, trained, &self.weights)?;
        let moments = self.moments()?;
        let model = optimizer
            .restore(model, &moments)
            .map_err(|name| self.refuse(&name, "the model has no such trainable parameter"))?;
        drop(moments);
        let restored = optimizer.states(&model);
        for (name, steps) in &self.optimizer_steps {
            let got = restored.get(name).map_or(0, |state| state.time);
            if got != *steps {
                let reason = format!("its optimiser state is of {got} steps, expected {steps}");
                return Err(self.refuse(name, reason));
            }
        }
        Ok((model, best))
    }

    /// `model`, in evaluation, with the averaged weights.
    ///
    /// # Errors
    /// [`Error::CheckpointParameter`] where there is none, or a parameter of the model is missing or has another shape.
    pub(crate) fn average<M: Module>(&self, model: M, trained: &BTreeSet<String>) -> Result<M> {
        match &self.average {
            Some(path) => self.set_weights(model, trained, path),
            None => Err(self.refuse("average.safetensors", "the file is missing")),
        }
    }

    fn set_weights<M: Module>(
        &self,
        model: M,
        trained: &BTreeSet<String>,
        path: &PathBuf,
    ) -> Result<M> {
        let bytes = read(path)?;
        let tensors = self.open(path, &bytes)?;
        let values = |name: &str| values(&tensors, name);
        let mut setter = Setter { path: vec![], trained, values, failure: None };
        let model = model.map(&mut setter);
        match setter.failure {
            Some((name, reason)) => Err(self.refuse(&name, reason)),
            None => Ok(model),
        }
    }

    fn moments(&self) -> Result<Moments> {
        let bytes = read(&self.optimizer)?;
        let tensors = self.open(&self.optimizer, &bytes)?;
        let of = |(name, steps): (&String, &usize)| {
            let moment = |which: &str| {
                let found = values(&tensors, &format!("{name}.{which}"));
                found
                    .map(|(_, values)| values)
                    .ok_or_else(|| self.refuse(name, "it has no moments"))
            };
            let moments = [moment(MOMENTS[0])?, moment(MOMENTS[1])?];
            Ok((name.clone(), Moment { steps: *steps, moments }))
        };
        self.optimizer_steps.iter().map(of).collect()
    }

    fn open<'a>(&self, path: &Path, bytes: &'a [u8]) -> Result<SafeTensors<'a>> {
        SafeTensors::deserialize(bytes)
            .map_err(|source| Error::CheckpointTensors { path: path.into(), source })
    }

    fn refuse(&self, name: &str, reason: impl Into<String>) -> Error {
        Error::CheckpointParameter {
            path: self.path.clone(),
            name: name.to_owned(),
            reason: reason.into(),
        }
    }
}

/// The fields of an AdamW state that are tensors.
pub(crate) const MOMENTS: [&str; 2] = ["moment_1", "moment_2"];

fn read(path: &PathBuf) -> Result<Vec<u8>> {
    fs::read(path).map_err(|source| Error::Read { path: path.clone(), source })
}

/// Shape and values of a tensor of 32-bit floats.
fn values(tensors: &SafeTensors, name: &str) -> Option<(Vec<usize>, Vec<f32>)> {
    let tensor = tensors.tensor(name).ok().filter(|tensor| tensor.dtype() == Dtype::F32)?;
    let (floats, _) = tensor.data().as_chunks();
    Some((tensor.shape().to_vec(), floats.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()))
}

/// Sets every parameter that is trained.
struct Setter<'a, F> {
    path: Vec<String>,
    trained: &'a BTreeSet<String>,
    values: F,
    /// The first parameter that could not be set, and why.
    failure: Option<(String, String)>,
}

impl<F: Fn(&str) -> Option<(Vec<usize>, Vec<f32>)>> ModuleMapper for Setter<'_, F> {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let (name, expected) = (self.path.join("."), param.lazy_shape().to_vec());
        if !self.trained.contains(&name) {
            return param;
        }
        let reason = match (self.values)(&name) {
            Some((shape, values)) if shape == expected => {
                return param.map(|old| {
                    let new = Tensor::from_data(TensorData::new(values, shape), &old.device());
                    new.set_require_grad(old.is_require_grad())
                });
            }
            Some((shape, _)) => format!("its shape is {shape:?}, expected {expected:?}"),
            None => "there are no 32-bit floats of this name".to_owned(),
        };
        self.failure.get_or_insert((name, reason));
        param
    }
}
