//! How much each task's loss counts.

use serde::{Deserialize, Serialize};

use crate::gradients::Gram;

/// How the losses of several tasks are balanced, beside the weights that are given for them.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum Balance {
    /// By those weights alone.
    #[default]
    Fixed,
    /// By a noise `s = log sigma^2` that is learned for each task: `exp(-s) L + s / 2`, and for a squared error
    /// `exp(-s) L / 2 + s / 2`.
    ///
    /// # Source
    /// Kendall, Gal, Cipolla: "Multi-Task Learning Using Uncertainty to Weigh Losses" (arXiv:1705.07115), equations 7 and 10.
    Uncertainty {
        /// The highest learning rate of `s`.
        #[serde(default = "default_noise_lr")]
        weight_lr: f64,
    },
    /// So that all tasks learn at like speed: see [`Balancer::after_step`].
    GradNorm {
        /// How strongly a task that lags is favoured, from 0.
        #[serde(default = "default_alpha")]
        alpha: f64,
        /// The learning rate of the weights.
        #[serde(default = "default_weight_lr")]
        weight_lr: f64,
    },
    /// By the weights, of gradients that have lost what opposes another task: see [`projections`](crate::projections).
    PcGrad,
    /// By how fast each loss falls from epoch to epoch: see [`Balancer::after_epoch`].
    Dwa {
        /// How even the weights are, above 0.
        #[serde(default = "default_temperature")]
        temperature: f64,
    },
}

impl Balance {
    /// The highest learning rate of the noise of each task, where it is learned.
    pub(crate) fn noise_learning_rate(self) -> Option<f64> {
        match self {
            Self::Uncertainty { weight_lr } => Some(weight_lr),
            _ => None,
        }
    }
}

/// Large enough to move `s` by 1 in a few hundred steps of Adam.
fn default_noise_lr() -> f64 {
    1e-2
}

/// What Chen et al. take for tasks that differ much.
fn default_alpha() -> f64 {
    1.5
}

fn default_weight_lr() -> f64 {
    0.025
}

/// What Liu et al. take.
fn default_temperature() -> f64 {
    2.0
}

/// No weight of GradNorm falls below it, so that a task can come back.
const LEAST_WEIGHT: f64 = 0.01;

/// The weights of the tasks as a run goes on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Balancer {
    balance: Balance,
    /// What is given.
    base: Vec<f64>,
    /// What is found; on average 1.
    found: Vec<f64>,
    /// GradNorm: each task's first loss.
    first: Vec<Option<f64>>,
    /// Weight averaging: the losses of the last two epochs, the latest last.
    epochs: Vec<Vec<Option<f64>>>,
}

impl Balancer {
    /// A balancer that begins with the weights `base`, one a task.
    pub fn new(balance: Balance, base: Vec<f64>) -> Self {
        let tasks = base.len();
        Self { balance, base, found: vec![1.0; tasks], first: vec![None; tasks], epochs: vec![] }
    }

    /// Whether it is of as many tasks as another one.
    pub(crate) fn fits(&self, other: &Self) -> bool {
        let tasks = other.base.len();
        [self.base.len(), self.found.len(), self.first.len()] == [tasks; 3]
            && self.epochs.iter().all(|epoch| epoch.len() == tasks)
    }

    /// What each task's loss is multiplied with.
    pub fn weights(&self) -> Vec<f64> {
        self.base.iter().zip(&self.found).map(|(base, found)| base * found).collect()
    }

    /// GradNorm: moves the weights by the norms of the gradients of `tasks` on the layer that they share last.
    ///
    /// With `G_i` the norm of task `i`'s gradient times the weight that was found (not the one that is given), and `r_i` how much of its first loss is left, over the mean of all
    /// tasks: `w_i -= rate * sign(G_i - mean(G) r_i^alpha) * G_i / w_i`, and then all are scaled to a mean of 1.
    ///
    /// `losses` has the loss of each of `tasks`, before any weight; `gram` the dot products of their gradients.
    ///
    /// # Source
    /// Chen et al.: "GradNorm" (arXiv:1711.02257), equations 1 and 2.
    pub fn after_step(&mut self, tasks: &[usize], losses: &[f64], gram: &Gram) {
        let Balance::GradNorm { alpha, weight_lr } = self.balance else { return };
        for (task, loss) in tasks.iter().zip(losses) {
            self.first[*task].get_or_insert(*loss);
        }
        let left = |(task, loss): (&usize, &f64)| match self.first[*task] {
            Some(first) if first > 0.0 => loss / first,
            _ => 1.0,
        };
        let left: Vec<f64> = tasks.iter().zip(losses).map(left).collect();
        let count = tasks.len() as f64;
        let mean_left = left.iter().sum::<f64>() / count;
        // What is given stands beside what is found, and is not made up for.
        let norm = |(place, task): (usize, &usize)| gram.norm(place) / self.base[*task];
        let norms: Vec<f64> = tasks.iter().enumerate().map(norm).collect();
        let mean_norm = norms.iter().sum::<f64>() / count;
        if !(mean_left > 0.0 && mean_norm > 0.0) {
            return;
        }
        for ((task, norm), left) in tasks.iter().zip(&norms).zip(left) {
            let difference = norm - mean_norm * (left / mean_left).powf(alpha);
            let sign = if difference == 0.0 { 0.0 } else { difference.signum() };
            let moved = self.found[*task] - weight_lr * sign * norm / self.found[*task];
            self.found[*task] = moved.max(LEAST_WEIGHT);
        }
        self.normalise(tasks);
    }

    /// Weight averaging: sets the weights by the mean losses of the epoch that ended, where a task had one.
    ///
    /// `w_i = K exp(r_i / T) / sum of exp(r_k / T)` over the `K` tasks, where `r_i` is the last epoch's loss over that of the
    /// epoch before, and 1 until there are two.
    ///
    /// # Source
    /// Liu, Johns, Davison: "End-to-End Multi-Task Learning with Attention" (arXiv:1803.10704), equation 7.
    pub fn after_epoch(&mut self, losses: &[Option<f64>]) {
        let Balance::Dwa { temperature } = self.balance else { return };
        self.epochs.push(losses.to_vec());
        let [.., before, last] = self.epochs.as_slice() else { return };
        let rate = |(before, last): (&Option<f64>, &Option<f64>)| match (before, last) {
            (Some(before), Some(last)) if *before > 0.0 => Some(last / before),
            _ => None,
        };
        let rates: Vec<Option<f64>> = before.iter().zip(last).map(rate).collect();
        let tasks: Vec<usize> = (0..rates.len()).filter(|task| rates[*task].is_some()).collect();
        let largest = rates.iter().flatten().copied().fold(f64::NEG_INFINITY, f64::max);
        for (found, rate) in self.found.iter_mut().zip(&rates) {
            if let Some(rate) = rate {
                *found = ((rate - largest) / temperature).exp();
            }
        }
        self.normalise(&tasks);
        self.epochs.remove(0);
    }

    /// Scales the weights of `tasks` to a mean of 1.
    fn normalise(&mut self, tasks: &[usize]) {
        let sum: f64 = tasks.iter().map(|task| self.found[*task]).sum();
        for task in tasks {
            self.found[*task] *= tasks.len() as f64 / sum;
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Gradients of these norms, at right angles.
    fn gram(norms: [f64; 2]) -> Gram {
        Gram(vec![vec![norms[0] * norms[0], 0.0], vec![0.0, norms[1] * norms[1]]])
    }

    fn assert_close(got: &[f64], expected: &[f64]) {
        let is_close =
            got.iter().zip(expected).all(|(got, expected)| (got - expected).abs() < 1e-9);
        assert!(got.len() == expected.len() && is_close, "{got:?} {expected:?}");
    }

    #[test]
    fn fixed_weights_stay() {
        let mut balancer = Balancer::new(Balance::Fixed, vec![2.0, 0.5]);
        balancer.after_step(&[0, 1], &[1.0, 9.0], &gram([1.0, 5.0]));
        balancer.after_epoch(&[Some(1.0), Some(9.0)]);
        assert_eq!(balancer.weights(), [2.0, 0.5]);
    }

    #[test]
    fn gradnorm_by_hand() {
        let balance = Balance::GradNorm { alpha: 1.0, weight_lr: 0.1 };
        let mut balancer = Balancer::new(balance, vec![1.0, 1.0]);
        // At first all of both losses is left, r = 1: the mean norm is 2, the norms are 1 and 3.
        // w_0 = 1 + 0.1 * 1, w_1 = 1 - 0.1 * 3; their sum is 1.8.
        balancer.after_step(&[0, 1], &[4.0, 2.0], &gram([1.0, 3.0]));
        assert_close(&balancer.weights(), &[2.0 * 1.1 / 1.8, 2.0 * 0.7 / 1.8]);
        // Then 1/4 and 1 are left, r = 0.4 and 1.6: the norms 2 and 2 are held against 0.8 and 3.2.
        // w_0 = 1.2222 - 0.1 * 2 / 1.2222 = 1.0586, w_1 = 0.7778 + 0.1 * 2 / 0.7778 = 1.0349; their sum is 2.0935.
        balancer.after_step(&[0, 1], &[1.0, 2.0], &gram([2.0, 2.0]));
        let (w_0, w_1) = (11.0 / 9.0 - 1.8 / 11.0, 7.0 / 9.0 + 1.8 / 7.0);
        assert_close(&balancer.weights(), &[2.0 * w_0 / (w_0 + w_1), 2.0 * w_1 / (w_0 + w_1)]);
    }

    /// A task of weight 2 has gradients twice as large, and the same weight is found for it.
    #[test]
    fn gradnorm_leaves_given_weights_alone() {
        let balance = Balance::GradNorm { alpha: 1.0, weight_lr: 0.1 };
        let mut plain = Balancer::new(balance, vec![1.0, 1.0]);
        let mut heavy = Balancer::new(balance, vec![2.0, 1.0]);
        for losses in [[4.0, 2.0], [1.0, 2.0]] {
            plain.after_step(&[0, 1], &losses, &gram([1.0, 3.0]));
            heavy.after_step(&[0, 1], &losses, &gram([2.0, 3.0]));
        }
        let [a, b] = plain.weights()[..] else { panic!("two tasks") };
        assert_close(&heavy.weights(), &[2.0 * a, b]);
    }

    #[test]
    fn gradnorm_never_loses_a_task() {
        let balance = Balance::GradNorm { alpha: 1.5, weight_lr: 1.0 };
        let mut balancer = Balancer::new(balance, vec![1.0, 1.0]);
        for _ in 0..5 {
            balancer.after_step(&[0, 1], &[1.0, 1.0], &gram([1.0, 100.0]));
            assert!(balancer.weights().iter().all(|weight| *weight > 0.0));
        }
        // Gradients of zero say nothing.
        let before = balancer.clone();
        balancer.after_step(&[0, 1], &[1.0, 1.0], &gram([0.0, 0.0]));
        assert_eq!(balancer, before);
    }

    #[test]
    fn weight_averaging_by_hand() {
        let mut balancer = Balancer::new(Balance::Dwa { temperature: 2.0 }, vec![1.0, 3.0]);
        balancer.after_epoch(&[Some(1.0), Some(4.0)]);
        assert_eq!(balancer.weights(), [1.0, 3.0]);
        // r = 0.5 and 0.9: 2 exp(0.25) / (exp(0.25) + exp(0.45)) = 0.900332, and 1.099668.
        balancer.after_epoch(&[Some(0.5), Some(3.6)]);
        let expected = 2.0 / (1.0 + 0.2f64.exp());
        assert_close(&balancer.weights(), &[expected, 3.0 * (2.0 - expected)]);
        // r = 1 and 1.
        balancer.after_epoch(&[Some(0.5), Some(3.6)]);
        assert_close(&balancer.weights(), &[1.0, 3.0]);
        // A task that is finished keeps its weight.
        balancer.after_epoch(&[None, Some(1.8)]);
        assert_close(&balancer.weights(), &[1.0, 3.0]);
    }

    #[test]
    fn run_files_name_the_kind() {
        let read = |text: &str| serde_json::from_str::<Balance>(text);
        assert_eq!(read(r#"{"kind":"pcgrad"}"#).unwrap(), Balance::PcGrad);
        assert_eq!(
            read(r#"{"kind":"gradnorm"}"#).unwrap(),
            Balance::GradNorm { alpha: 1.5, weight_lr: 0.025 }
        );
        assert_eq!(read(r#"{"kind":"dwa"}"#).unwrap(), Balance::Dwa { temperature: 2.0 });
        assert!(read(r#"{"kind":"dwa","temprature":2}"#).is_err());
    }
}
