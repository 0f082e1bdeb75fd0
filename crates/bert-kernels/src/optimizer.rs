//! AdamW, one pass over each parameter where the backend has it, and what clipping by the global norm needs.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use burn::{
    optim::{LearningRate, Optimizer, RecordState, StateSink, StateSource},
    tensor::{Device, Tensor},
};

/// A factor for all gradients, shared by the optimisers of a module's groups and set before each step.
///
/// Clipping by the global norm sets it to `min(1, limit / norm)`, so that no gradient is written for clipping.
#[derive(Debug, Clone)]
pub struct GradientScale(Arc<AtomicU32>);

impl GradientScale {
    /// The factor 1.
    pub fn new() -> Self {
        Self(Arc::new(AtomicU32::new(1f32.to_bits())))
    }

    /// Sets the factor for the steps that follow.
    pub fn set(&self, factor: f32) {
        self.0.store(factor.to_bits(), Ordering::Relaxed);
    }

    /// The factor.
    pub fn get(&self) -> f32 {
        f32::from_bits(self.0.load(Ordering::Relaxed))
    }
}

impl Default for GradientScale {
    fn default() -> Self {
        Self::new()
    }
}

/// Hands what [`AdamW`] keeps of parameters in and out, shared by the optimisers of a module's groups.
///
/// Burn's own ways go through its default device, which may be one that is not there, and through copies of everything. Here both
/// are steps of a kind that move no weight.
#[derive(Debug, Clone, Default)]
pub struct Handover(Arc<Mutex<Handing>>);

/// What a step does.
#[derive(Debug, Default)]
enum Handing {
    /// It moves weights.
    #[default]
    Nothing,
    /// It takes moments in, of parameters that have taken so many steps.
    In(usize),
    /// It gives states out, by the number that each parameter has for its gradient.
    Out(BTreeMap<usize, AdamWState<1>>),
}

impl Handover {
    /// Hands in the state of parameters that have taken `time` steps: first `step` has the first moments for its gradients, then
    /// that of another call the second.
    pub fn hand_in<R>(&self, time: usize, step: impl FnOnce() -> R) -> R {
        *self.lock() = Handing::In(time);
        let result = step();
        *self.lock() = Handing::Nothing;
        result
    }

    /// The states that are kept, flat and not copied, by the number that `step` gives each parameter in place of a gradient: a
    /// tensor of that number alone. Numbers are exact up to 2^24.
    pub fn hand_out(&self, step: impl FnOnce()) -> BTreeMap<usize, AdamWState<1>> {
        *self.lock() = Handing::Out(BTreeMap::new());
        step();
        match std::mem::take(&mut *self.lock()) {
            Handing::Out(states) => states,
            Handing::Nothing | Handing::In(_) => BTreeMap::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Handing> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Adam with decoupled weight decay and bias correction, in the form of PyTorch's `torch.optim.AdamW`.
///
/// # Source
/// Loshchilov, Hutter: "Decoupled Weight Decay Regularization" (arXiv:1711.05101), algorithm 2; `epsilon` is added to
/// the root of the corrected second moment.
#[derive(Debug, Clone)]
pub struct AdamW {
    /// Decay of the first moment.
    pub beta_1: f64,
    /// Decay of the second moment.
    pub beta_2: f64,
    /// Added to the denominator.
    pub epsilon: f64,
    /// The share of a weight that a step of learning rate 1 takes off.
    pub weight_decay: f64,
    /// What gradients are multiplied with before they are used.
    pub gradient_scale: GradientScale,
    /// Whether steps hand a state in or out instead of moving weights.
    pub handover: Handover,
}

impl AdamW {
    /// Decays of 0.9 and 0.999, an epsilon of 1e-8, this weight decay, and gradients as they are.
    pub fn new(weight_decay: f64) -> Self {
        Self {
            beta_1: 0.9,
            beta_2: 0.999,
            epsilon: 1e-8,
            weight_decay,
            gradient_scale: GradientScale::new(),
            handover: Handover::default(),
        }
    }
}

/// What [`AdamW`] keeps of a parameter.
#[derive(Debug, Clone)]
pub struct AdamWState<const D: usize> {
    /// The number of steps taken.
    pub time: usize,
    /// Moving average of the gradient.
    pub moment_1: Tensor<D>,
    /// Moving average of the squared gradient.
    pub moment_2: Tensor<D>,
}

impl<const D: usize> AdamWState<D> {
    /// The same values along one axis.
    fn flat(&self) -> AdamWState<1> {
        let flat = |moment: &Tensor<D>| {
            let elements = moment.shape().num_elements();
            moment.clone().reshape([elements])
        };
        AdamWState {
            time: self.time,
            moment_1: flat(&self.moment_1),
            moment_2: flat(&self.moment_2),
        }
    }
}

// By hand: the derive works inside of Burn only.
impl<const D: usize> RecordState for AdamWState<D> {
    fn state_flatten(&self, prefix: &str, out: &mut StateSink) {
        out.push_scalar(prefix, "time", self.time.into());
        out.push_tensor(prefix, "moment_1", self.moment_1.to_data());
        out.push_tensor(prefix, "moment_2", self.moment_2.to_data());
    }

    fn state_unflatten(prefix: &str, source: &mut StateSource, device: &Device) -> Option<Self> {
        Some(Self {
            time: usize::try_from(source.take_scalar(prefix, "time")?).ok()?,
            moment_1: Tensor::from_data(source.take_tensor(prefix, "moment_1")?, device),
            moment_2: Tensor::from_data(source.take_tensor(prefix, "moment_2")?, device),
        })
    }
}

impl Optimizer for AdamW {
    type State<const D: usize> = AdamWState<D>;

    fn step<const D: usize>(
        &self,
        lr: LearningRate,
        tensor: Tensor<D>,
        grad: Tensor<D>,
        state: Option<Self::State<D>>,
    ) -> (Tensor<D>, Option<Self::State<D>>) {
        match &mut *self.handover.lock() {
            Handing::Nothing => {}
            Handing::In(time) => {
                let moment_1 = state.map_or_else(|| grad.clone(), |state| state.moment_1);
                return (tensor, Some(AdamWState { time: *time, moment_1, moment_2: grad }));
            }
            Handing::Out(states) => {
                if let Some(state) = &state {
                    let number: f32 = grad.into_scalar();
                    states.insert(number as usize, state.flat());
                }
                return (tensor, state);
            }
        }
        let (time, moments) = match state {
            Some(state) => (state.time + 1, Some([state.moment_1, state.moment_2])),
            None => (1, None),
        };
        let step = Step {
            gradient_scale: f64::from(self.gradient_scale.get()),
            beta_1: self.beta_1,
            beta_2: self.beta_2,
            rate: lr / (1.0 - self.beta_1.powf(time as f64)),
            root: (1.0 - self.beta_2.powf(time as f64)).sqrt().recip(),
            epsilon: self.epsilon,
            decay: 1.0 - lr * self.weight_decay,
        };
        #[cfg(feature = "flex")]
        if crate::flex::is_fast(&tensor) {
            let (tensor, [moment_1, moment_2]) =
                crate::flex::optimizer::adamw(&step, tensor, grad, moments);
            return (tensor, Some(AdamWState { time, moment_1, moment_2 }));
        }
        let (tensor, [moment_1, moment_2]) = step.take(tensor, grad, moments);
        (tensor, Some(AdamWState { time, moment_1, moment_2 }))
    }

    fn to_device<const D: usize>(state: Self::State<D>, device: &Device) -> Self::State<D> {
        AdamWState {
            time: state.time,
            moment_1: state.moment_1.to_device(device),
            moment_2: state.moment_2.to_device(device),
        }
    }
}

/// The numbers of one step that are the same for each element of a parameter.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Step {
    pub(crate) gradient_scale: f64,
    pub(crate) beta_1: f64,
    pub(crate) beta_2: f64,
    /// The learning rate over `1 - beta_1^time`.
    pub(crate) rate: f64,
    /// The inverse root of `1 - beta_2^time`.
    pub(crate) root: f64,
    pub(crate) epsilon: f64,
    /// What a weight is multiplied with.
    pub(crate) decay: f64,
}

impl Step {
    /// The new weight and moments.
    fn take<const D: usize>(
        &self,
        weight: Tensor<D>,
        grad: Tensor<D>,
        moments: Option<[Tensor<D>; 2]>,
    ) -> (Tensor<D>, [Tensor<D>; 2]) {
        let grad = grad * self.gradient_scale;
        let [m, v] = moments.unwrap_or_else(|| [grad.zeros_like(), grad.zeros_like()]);
        let m = m * self.beta_1 + grad.clone() * (1.0 - self.beta_1);
        let v = v * self.beta_2 + grad.clone() * grad * (1.0 - self.beta_2);
        let deviation = v.clone().sqrt() * self.root + self.epsilon;
        (weight * self.decay - m.clone() / deviation * self.rate, [m, v])
    }
}

/// The sum of the squares of all elements, as [`dot_product`].
pub fn sum_of_squares<const D: usize>(tensor: Tensor<D>) -> f64 {
    dot_product(tensor.clone(), tensor)
}

/// The sum of the products of two tensors' elements, in double precision and a fixed order where the device is a CPU of ours.
///
/// # Panics
/// When the shapes differ.
pub fn dot_product<const D: usize>(x: Tensor<D>, y: Tensor<D>) -> f64 {
    assert_eq!(x.dims(), y.dims(), "dot product: two tensors of one shape are expected");
    #[cfg(feature = "flex")]
    if crate::flex::is_fast(&x) {
        return crate::flex::optimizer::dot_product(x, y);
    }
    // Row by row: a sum over millions of elements at once is in no fixed order on flex.
    let sum: f32 = (x * y).sum_dim(D - 1).sum().into_scalar();
    f64::from(sum)
}
