//! Flags of when a run is evaluated, keeps checkpoints, and ends early.

use bert_train::{Control, Every};
use clap::Args;

/// When a run is evaluated, keeps checkpoints, and ends early.
#[derive(Debug, Args)]
pub struct Controlling {
    /// How often a checkpoint is written: epoch, never, after N steps, or Ns for every N seconds and each epoch [default: 60s]
    #[arg(long, value_name = "WHEN")]
    checkpoint_every: Option<Every>,
    /// Newest checkpoints that are kept in OUT/checkpoints [default: 2]
    #[arg(long, value_name = "N")]
    keep_checkpoints: Option<usize>,
    /// Evaluate after every N steps too, or at the end of each epoch only [default: epoch]
    #[arg(long, value_name = "WHEN")]
    eval_every: Option<Every>,
    /// End after so many steps, over which the learning rate falls to 0
    #[arg(long, value_name = "N")]
    max_steps: Option<usize>,
    /// End after so many evaluations in a row without a better score
    #[arg(long, value_name = "N")]
    pub patience: Option<usize>,
    /// By how much a score must be better for --patience [default: 0]
    #[arg(long, value_name = "X")]
    pub min_delta: Option<f64>,
    /// Score by which the best model is chosen, a loss being made small [default: accuracy, F1 of tags]
    #[arg(long, value_name = "NAME")]
    pub metric: Option<String>,
    /// Also write what TensorBoard reads, loss, learning rate, norm of the gradients and scores on dev, to OUT/tensorboard
    #[arg(long)]
    tensorboard: bool,
}

impl Controlling {
    /// The flags over those of a run file.
    pub fn set(&self, control: &mut Control) {
        control.checkpoint_every = self.checkpoint_every.unwrap_or(control.checkpoint_every);
        control.keep_checkpoints = self.keep_checkpoints.unwrap_or(control.keep_checkpoints);
        control.eval_every = self.eval_every.unwrap_or(control.eval_every);
        control.max_steps = self.max_steps.or(control.max_steps);
        control.patience = self.patience.or(control.patience);
        control.min_delta = self.min_delta.unwrap_or(control.min_delta);
        control.metric = self.metric.clone().or(control.metric.take());
        control.tensorboard |= self.tensorboard;
    }
}
