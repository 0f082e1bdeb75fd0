//! The numbers of a fine-tuning run.

use bert_core::BertConfig;
use serde::{Deserialize, Serialize};

use crate::{
    balance::Balance,
    control::Control,
    error::{Error, Result},
    layers::Layers,
    mixing::Mixing,
    regularisation::Regularisation,
    schedule::Schedule,
};

/// How a model is fine-tuned. The defaults are the published recipe.
///
/// AdamW with betas 0.9 and 0.999, epsilon 1e-8 and bias correction; no decay on biases and norms; linear warm-up, then
/// linear decay to 0; gradients clipped by their global norm.
///
/// # Source
/// Devlin et al. (arXiv:1810.04805), appendix A.3, for batch size, rates, epochs and warm-up; Mosbach, Andriushchenko,
/// Klakow (arXiv:2006.04884) for why bias correction matters; Loshchilov, Hutter (arXiv:1711.05101) for AdamW.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Recipe {
    /// Passes over the training rows.
    pub epochs: usize,
    /// The highest learning rate, reached at the end of warm-up.
    #[serde(rename = "lr")]
    pub learning_rate: f64,
    /// The highest learning rate of the head; `None` is that of the encoder.
    #[serde(rename = "head_lr", skip_serializing_if = "Option::is_none")]
    pub head_learning_rate: Option<f64>,
    /// The highest learning rate of the pooling and the layer mixture; `None` is that of the encoder.
    #[serde(rename = "pooling_lr", skip_serializing_if = "Option::is_none")]
    pub pooling_learning_rate: Option<f64>,
    /// The highest learning rate of the task embedding; `None` is that of the encoder.
    #[serde(rename = "task_embedding_lr", skip_serializing_if = "Option::is_none")]
    pub task_embedding_learning_rate: Option<f64>,
    /// Rows a step.
    pub batch_size: usize,
    /// The most rows that run together: the batch of a step is run in parts of so many, whose gradients are added up, and the
    /// step is that of the whole batch. `None` runs it at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub micro_batch_size: Option<usize>,
    /// How the rates rise and fall.
    #[serde(flatten)]
    pub schedule: Schedule,
    /// What is done to the layers of the encoder one by one.
    #[serde(flatten)]
    pub layers: Layers,
    /// The share of a weight that is taken off each step, times the learning rate.
    pub weight_decay: f64,
    /// The largest global norm of the gradients; larger ones are scaled down to it.
    pub max_grad_norm: f64,
    /// What every random draw depends on.
    pub seed: u64,
    /// What keeps the model from leaning too much on its training rows.
    #[serde(flatten)]
    pub regularisation: Regularisation,
    /// When it is evaluated, keeps checkpoints, and ends early.
    #[serde(flatten)]
    pub control: Control,
    /// How several tasks share the steps.
    #[serde(skip)]
    pub mixing: Mixing,
}

/// No run has more epochs, nor more rows a step; steps can be counted without overflow.
const LARGEST: usize = 1_000_000;

impl Default for Recipe {
    fn default() -> Self {
        Self {
            epochs: 3,
            learning_rate: 5e-5,
            head_learning_rate: None,
            pooling_learning_rate: None,
            task_embedding_learning_rate: None,
            batch_size: 32,
            micro_batch_size: None,
            schedule: Schedule::default(),
            layers: Layers::default(),
            weight_decay: 0.01,
            max_grad_norm: 1.0,
            seed: 0,
            regularisation: Regularisation::default(),
            control: Control::default(),
            mixing: Mixing::default(),
        }
    }
}

impl Recipe {
    /// Its keys in a run file, of one task and of several alike.
    pub(crate) const KEYS: &[&str] = &[
        "epochs",
        "lr",
        "head_lr",
        "pooling_lr",
        "task_embedding_lr",
        "batch_size",
        "micro_batch_size",
        "warmup_ratio",
        "schedule",
        "freeze",
        "unfreeze_every",
        "layer_lr_decay",
        "reinit_layers",
        "recompute",
        "weight_decay",
        "max_grad_norm",
        "seed",
        "label_smoothing",
        "r_drop",
        "fgm",
        "ema",
        "checkpoint_every",
        "keep_checkpoints",
        "eval_every",
        "max_steps",
        "tensorboard",
    ];

    /// The most rows that run together, in training and where nothing is learned.
    pub(crate) fn rows_at_once(&self) -> usize {
        self.micro_batch_size.map_or(self.batch_size, |most| most.min(self.batch_size))
    }

    /// Refuses to compare the gradients of an encoder that has none.
    pub(crate) fn check_balance(&self, config: &BertConfig) -> Result<()> {
        let balance = match self.mixing.balance {
            Balance::PcGrad => "pcgrad",
            Balance::GradNorm { .. } => "gradnorm",
            Balance::Fixed | Balance::Uncertainty { .. } | Balance::Dwa { .. } => return Ok(()),
        };
        let layers = config.num_hidden_layers;
        match self.layers.always_frozen(layers) > layers {
            true => Err(Error::FrozenBalance { balance }),
            false => Ok(()),
        }
    }

    /// Refuses what no run can be made with.
    ///
    /// # Errors
    /// [`Error::Recipe`] with the value, and the range that is expected.
    pub fn check(&self) -> Result<()> {
        let positive = "a number above 0";
        let rates = [
            ("lr", Some(self.learning_rate)),
            ("head-lr", self.head_learning_rate),
            ("pooling-lr", self.pooling_learning_rate),
            ("task-embedding-lr", self.task_embedding_learning_rate),
            ("max-grad-norm", Some(self.max_grad_norm)),
        ];
        for (key, value) in rates {
            if let Some(value) = value.filter(|value| !(*value > 0.0 && value.is_finite())) {
                return Err(refuse(key, value, positive));
            }
        }
        let counts = [
            ("epochs", self.epochs),
            ("batch-size", self.batch_size),
            ("micro-batch-size", self.rows_at_once()),
        ];
        for (key, value) in counts {
            if !(1..=LARGEST).contains(&value) {
                return Err(refuse(key, value, "a whole number from 1 to 1000000"));
            }
        }
        // A run file has signed numbers.
        if i64::try_from(self.seed).is_err() {
            return Err(refuse("seed", self.seed, "a whole number to 9223372036854775807"));
        }
        if !(self.weight_decay >= 0.0 && self.weight_decay.is_finite()) {
            return Err(refuse("weight-decay", self.weight_decay, "a number from 0"));
        }
        self.schedule.check()?;
        self.layers.check()?;
        self.regularisation.check()?;
        self.control.check()?;
        self.mixing.check()
    }
}

fn refuse(key: &'static str, got: impl ToString, expected: &'static str) -> Error {
    Error::Recipe { key, got: got.to_string(), expected }
}
