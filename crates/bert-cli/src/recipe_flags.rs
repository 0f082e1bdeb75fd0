//! Flags of the numbers of a fine-tuning run.

use bert_train::{Decay, Every, Freeze, Recipe};
use clap::Args;

use crate::arguments::set;

/// The numbers of a fine-tuning run, of one task or several.
#[derive(Debug, Args)]
pub struct RecipeFlags {
    /// Passes over the training rows [default: 3]
    #[arg(long, value_name = "N")]
    epochs: Option<usize>,
    /// Highest learning rate [default: 5e-5]
    #[arg(long, value_name = "RATE")]
    lr: Option<f64>,
    /// Highest learning rate of the head [default: --lr]
    #[arg(long, value_name = "RATE")]
    head_lr: Option<f64>,
    /// Highest learning rate of the pooling and the layer mixture [default: --lr]
    #[arg(long, value_name = "RATE")]
    pooling_lr: Option<f64>,
    /// Highest learning rate of the task embedding [default: --lr]
    #[arg(long, value_name = "RATE")]
    task_embedding_lr: Option<f64>,
    /// Share of the steps in which the rates rise [default: 0.1]
    #[arg(long, value_name = "SHARE")]
    warmup_ratio: Option<f64>,
    /// How the rates fall after warm-up: linear, cosine[,end=SHARE], polynomial=POWER[,end=SHARE] or constant; SHARE of the
    /// highest rate is what they end at, 0 by default [default: linear]
    #[arg(long, value_name = "SCHEDULE")]
    schedule: Option<Decay>,
    /// What is kept as it is: embeddings, layers=N (the embeddings and the N layers above them), or encoder, which then runs
    /// once over all texts of one label, without dropout, and pooling and head learn from its hidden states, kept in memory
    #[arg(long, value_name = "PART")]
    freeze: Option<Freeze>,
    /// Gradual unfreezing: after so many steps, or each epoch, one more layer of what is frozen is trained, from the top, the
    /// embeddings last [default: never; without --freeze the whole encoder is frozen at first]
    #[arg(long, value_name = "N|epoch")]
    unfreeze_every: Option<Every>,
    /// Factor from the rate of each layer to that of the one below, the embeddings lowest, for example 0.9 [default: 1]
    #[arg(long, value_name = "FACTOR")]
    layer_lr_decay: Option<f64>,
    /// So many layers from the top begin anew, at random, and BERT's pooler with them [default: 0]
    #[arg(long, value_name = "LAYERS")]
    reinit_layers: Option<usize>,
    /// Keep of each layer its input alone for the way back, and run it again there (gradient checkpointing): less memory, longer
    /// steps, the same numbers
    #[arg(long)]
    recompute: bool,
    /// Rows a step [default: 32]
    #[arg(long, value_name = "N")]
    batch_size: Option<usize>,
    /// Most rows that run together (gradient accumulation): a step's batch runs in parts of N rows, with less memory, and the
    /// step is that of the whole batch [default: --batch-size]
    #[arg(long, value_name = "N")]
    micro_batch_size: Option<usize>,
    /// Share of each target that is spread over all classes, of labels, tags and answers in texts [default: 0]
    #[arg(long, value_name = "SHARE")]
    label_smoothing: Option<f64>,
    /// R-Drop: weight of the difference between two passes over the same rows, which drop other things; a step takes twice
    /// as long [default: 0]
    #[arg(long, value_name = "ALPHA")]
    r_drop: Option<f64>,
    /// Adversarial training: how far the words of each text are moved the way its loss grows fastest, for a second pass; a
    /// step takes twice as long; a word is about 1 long, and 1 is too far to learn from [default: 0]
    #[arg(long, value_name = "EPSILON")]
    fgm: Option<f64>,
    /// Measure and keep an exponential moving average of the weights in their place, with this decay, such as 0.999; it
    /// takes as much memory as the trained weights [default: 0]
    #[arg(long, value_name = "DECAY")]
    ema: Option<f64>,
    /// Share of each weight that a step takes off, times the rate; of biases and norms none [default: 0.01]
    #[arg(long, value_name = "SHARE")]
    weight_decay: Option<f64>,
    /// Largest norm of all gradients together; longer ones are scaled down to it [default: 1]
    #[arg(long, value_name = "NORM")]
    max_grad_norm: Option<f64>,
    /// What every random draw depends on [default: 0]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

impl RecipeFlags {
    /// The flags over those of a run file.
    pub fn set(&self, recipe: &mut Recipe) {
        set(&mut recipe.epochs, &self.epochs);
        set(&mut recipe.learning_rate, &self.lr);
        set(&mut recipe.batch_size, &self.batch_size);
        set(&mut recipe.schedule.warmup_ratio, &self.warmup_ratio);
        set(&mut recipe.schedule.decay, &self.schedule);
        set(&mut recipe.weight_decay, &self.weight_decay);
        set(&mut recipe.max_grad_norm, &self.max_grad_norm);
        recipe.layers.freeze = self.freeze.or(recipe.layers.freeze);
        recipe.layers.unfreeze_every = self.unfreeze_every.or(recipe.layers.unfreeze_every);
        recipe.layers.lr_decay = self.layer_lr_decay.or(recipe.layers.lr_decay);
        recipe.layers.reinit = self.reinit_layers.or(recipe.layers.reinit);
        recipe.layers.recompute |= self.recompute;
        recipe.micro_batch_size = self.micro_batch_size.or(recipe.micro_batch_size);
        set(&mut recipe.seed, &self.seed);
        let regularisation = &mut recipe.regularisation;
        set(&mut regularisation.label_smoothing, &self.label_smoothing);
        set(&mut regularisation.r_drop, &self.r_drop);
        set(&mut regularisation.fgm, &self.fgm);
        set(&mut regularisation.ema, &self.ema);
        recipe.head_learning_rate = self.head_lr.or(recipe.head_learning_rate);
        recipe.pooling_learning_rate = self.pooling_lr.or(recipe.pooling_learning_rate);
        recipe.task_embedding_learning_rate =
            self.task_embedding_lr.or(recipe.task_embedding_learning_rate);
    }
}
