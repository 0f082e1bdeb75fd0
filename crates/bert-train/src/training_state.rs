//! All that a run needs to go on where it stands: every random draw is a pure function of the seed and these numbers.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use bert_core::LazyTensor;
use bert_kernels::AdamWState;
use burn::{
    module::{Module, ModuleVisitor, Param},
    tensor::Tensor,
};
use serde::{Deserialize, Serialize};

use crate::{
    control::Control,
    error::Result,
    metrics::Metrics,
    mixer::MixerState,
    observer::{EpochReport, Observer, Reached},
    optimizer::Optimizer,
    task_sets::MeasuredTask,
    trainable::Trainable,
    weight_average::WeightAverage,
};

/// Where a run stands between two steps, beside the weights and what the optimiser keeps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct TrainingState {
    /// The steps taken.
    pub(crate) step: usize,
    /// The epochs that are over.
    pub(crate) epoch: usize,
    /// The steps taken of the epoch under way.
    pub(crate) place: usize,
    /// The rows trained on.
    pub(crate) rows: usize,
    /// From the first batch to the end of the last step.
    pub(crate) train_time: Duration,
    /// The loss over the epoch under way, and that of each head.
    pub(crate) epoch_loss: Mean,
    pub(crate) head_losses: Vec<Mean>,
    pub(crate) mixer: MixerState,
    pub(crate) evaluations: Evaluations,
}

/// What the evaluations so far came to.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Evaluations {
    /// Every epoch.
    pub(crate) epochs: Vec<EpochReport>,
    /// The best of all evaluations, and after which step it was.
    pub(crate) best: Option<(usize, EpochReport)>,
    /// The score that another has to be better than, for the run to go on.
    pub(crate) to_beat: Option<f64>,
    /// How many in a row were not.
    pub(crate) waited: usize,
}

/// A mean that rows are added to.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Mean {
    sum: f64,
    rows: usize,
}

impl Mean {
    /// Adds the mean of some rows.
    pub(crate) fn add(&mut self, mean: f64, rows: usize) {
        self.sum += mean * rows as f64;
        self.rows += rows;
    }

    pub(crate) fn get(&self) -> Option<f64> {
        (self.rows > 0).then(|| self.sum / self.rows as f64)
    }
}

impl TrainingState {
    /// Before the first step.
    pub(crate) fn new(mixer: MixerState, heads: usize) -> Self {
        Self {
            step: 0,
            epoch: 0,
            place: 0,
            rows: 0,
            train_time: Duration::ZERO,
            epoch_loss: Mean::default(),
            head_losses: vec![Mean::default(); heads],
            mixer,
            evaluations: Evaluations::default(),
        }
    }

    /// Holds an evaluation against those before.
    ///
    /// # Errors
    /// As [`Control::score`].
    pub(crate) fn judge(
        &mut self,
        dev: Metrics,
        control: &Control,
        within: Option<usize>,
    ) -> Result<EpochReport> {
        let score = control.score(&dev)?;
        let Evaluations { best, to_beat, waited, .. } = &mut self.evaluations;
        let highest = match best {
            Some((_, best)) => Some(control.score(&best.dev)?),
            None => None,
        };
        let report = EpochReport {
            epoch: self.epoch + 1,
            within,
            train_loss: self.epoch_loss.get().unwrap_or(0.0),
            head_losses: self.head_losses.iter().map(Mean::get).collect(),
            weights: vec![],
            finished: vec![],
            dev,
            best: highest.is_none_or(|highest| score > highest),
        };
        if report.best {
            *best = Some((self.step, report.clone()));
        }
        if to_beat.is_none_or(|to_beat| score > to_beat + control.min_delta) {
            (*to_beat, *waited) = (Some(score), 0);
        } else {
            *waited += 1;
        }
        Ok(report)
    }

    /// Whether it is of a run of as many tasks as another one.
    pub(crate) fn fits(&self, other: &Self) -> bool {
        self.head_losses.len() == other.head_losses.len() && self.mixer.fits(&other.mixer)
    }

    /// How far the run has come, at an evaluation.
    pub(crate) fn reached(&self) -> Option<Reached<'_>> {
        let (_, best) = self.evaluations.best.as_ref()?;
        Some(Reached { steps: self.step, epochs: self.epoch, best, train_time: self.train_time })
    }

    /// Says by which score each task is judged, which its metrics don't say as they are written down.
    pub(crate) fn judge_by(&mut self, tasks: &[MeasuredTask]) {
        let best = self.evaluations.best.iter_mut().map(|(_, report)| report);
        for report in self.evaluations.epochs.iter_mut().chain(best) {
            report.dev.judge_by(|name| {
                tasks.iter().find(|task| task.name == name).map(|task| task.metric.clone())
            });
        }
    }

    /// Ends the epoch under way.
    pub(crate) fn end_epoch(&mut self, report: EpochReport) {
        self.evaluations.epochs.push(report);
        (self.epoch, self.place) = (self.epoch + 1, 0);
        self.epoch_loss = Mean::default();
        self.head_losses.fill(Mean::default());
    }
}

/// A run between two steps, as a checkpoint holds it; tensors are made when they are asked for.
pub struct Snapshot<'a> {
    pub(crate) state: &'a TrainingState,
    /// Every parameter that is trained by its path, as it lies in memory.
    pub(crate) weights: &'a dyn Fn() -> Vec<LazyTensor<'static>>,
    /// Their average, where it is kept.
    pub(crate) average: Option<&'a dyn Fn() -> Vec<LazyTensor<'static>>>,
    /// Those of the best model, where there was an evaluation.
    pub(crate) best: &'a dyn Fn() -> Vec<LazyTensor<'static>>,
    /// What the optimiser keeps of each parameter, by its path.
    pub(crate) optimizer: &'a dyn Fn() -> BTreeMap<String, AdamWState<1>>,
}

impl Snapshot<'_> {
    /// The steps taken.
    pub fn step(&self) -> usize {
        self.state.step
    }
}

impl fmt::Debug for Snapshot<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot").field("state", self.state).finish_non_exhaustive()
    }
}

/// Hands a checkpoint to the observer.
pub(crate) fn keep<M: Trainable>(
    state: &TrainingState,
    trained: &BTreeSet<String>,
    model: &M,
    average: Option<&WeightAverage<M>>,
    best: Option<&M>,
    optimizer: &Optimizer,
    observer: &mut dyn Observer,
) -> Result<()> {
    let averaged = average.map(|average| || weights_of(average.model(), trained));
    observer.checkpoint(&Snapshot {
        state,
        weights: &|| weights_of(model, trained),
        average: averaged.as_ref().map(|averaged| averaged as &dyn Fn() -> _),
        best: &|| best.map(|best| weights_of(best, trained)).unwrap_or_default(),
        optimizer: &|| optimizer.states(model),
    })
}

/// The paths of the parameters that are trained; all others are what they were at the start.
pub(crate) fn trained_paths<M: Module>(module: &M) -> BTreeSet<String> {
    struct Trained {
        path: Vec<String>,
        paths: BTreeSet<String>,
    }
    impl ModuleVisitor for Trained {
        fn enter_module(&mut self, name: &str, _container_type: &str) {
            self.path.push(name.to_owned());
        }

        fn exit_module(&mut self, _name: &str, _container_type: &str) {
            self.path.pop();
        }

        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if param.is_require_grad() {
                self.paths.insert(self.path.join("."));
            }
        }
    }
    let mut trained = Trained { path: vec![], paths: BTreeSet::new() };
    module.visit(&mut trained);
    trained.paths
}

/// The parameters of a module that are `trained` by their paths, as they lie in memory.
pub(crate) fn weights_of<M: Module>(
    module: &M,
    trained: &BTreeSet<String>,
) -> Vec<LazyTensor<'static>> {
    struct Collector<'a> {
        path: Vec<String>,
        trained: &'a BTreeSet<String>,
        tensors: Vec<LazyTensor<'static>>,
    }
    impl ModuleVisitor for Collector<'_> {
        fn enter_module(&mut self, name: &str, _container_type: &str) {
            self.path.push(name.to_owned());
        }

        fn exit_module(&mut self, _name: &str, _container_type: &str) {
            self.path.pop();
        }

        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let name = self.path.join(".");
            if self.trained.contains(&name) {
                let (tensor, shape) = (param.val(), param.shape().to_vec());
                let values = Box::new(|| tensor.into_data().iter::<f32>().collect());
                self.tensors.push(LazyTensor { name, shape, values });
            }
        }
    }
    let mut collector = Collector { path: vec![], trained, tensors: vec![] };
    module.visit(&mut collector);
    collector.tensors
}
