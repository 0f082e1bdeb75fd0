//! What a run is going to take: steps, time, memory.

use bert_core::Bert;
use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, Result},
    memory::{MB, Memory, activation_bytes},
    quantities::{Bytes, Count, Duration, Share},
    regularisation::Regularisation,
    sampler::{Batch, TrainingSet},
    trainable::Trainable,
    twin::{Parameter, parameters},
};

/// What a run is going to take.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The steps of the whole run.
    pub steps: usize,
    /// Those in which the learning rate rises.
    pub warmup_steps: usize,
    /// About how long the steps take that are left, as the first one did for its tokens; evaluations come on top.
    pub seconds: f64,
    /// The training rows.
    pub rows: usize,
    /// Those that are longer than what is read of them.
    pub cut_rows: usize,
    /// The mean tokens of a step in the epoch under way.
    pub mean_tokens: f64,
    /// The most tokens that go through the model together in the epoch under way.
    pub most_tokens: usize,
    /// What it takes of memory.
    pub memory: MemoryPlan,
    /// Where memory may run out; said before the first step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
}

/// The memory of a run, in bytes, where it is the most: with all layers that thaw.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MemoryPlan {
    /// All parameters.
    pub parameters: u64,
    /// The gradients of those that are trained: one for each of several tasks, which are held against each other.
    pub gradients: u64,
    /// What the optimiser keeps of them.
    pub optimizer_state: u64,
    /// The best model so far.
    pub best_model: u64,
    /// The average of the weights.
    #[serde(default)]
    pub average: u64,
    /// About what a step on the most tokens keeps between forward and backward.
    pub activations: u64,
    /// What the program may still take; none where the device does not say it.
    pub free: Option<u64>,
    /// All memory that there is; none where the device does not say it.
    pub total: Option<u64>,
}

/// The steps of a run that are to come.
pub(crate) struct Coming<'a> {
    /// The data sets.
    pub(crate) sets: &'a [TrainingSet],
    /// The batches of the epoch under way.
    pub(crate) epoch: &'a [Vec<Batch>],
    /// The most rows of a batch that go through the model together.
    pub(crate) micro_batch_size: Option<usize>,
    /// The steps of the whole run.
    pub(crate) steps: usize,
    /// Those in which the learning rate rises.
    pub(crate) warmup_steps: usize,
    /// The training rows that are longer than what is read of them.
    pub(crate) cut_rows: usize,
    /// What a step does beside its pass.
    pub(crate) regularisation: &'a Regularisation,
}

impl Plan {
    /// The plan of a run before its first step, or before the next of one that goes on; `model` as it is when all is trained that
    /// ever is.
    ///
    /// # Errors
    /// [`Error::TooLarge`].
    pub(crate) fn new<M: Trainable>(
        model: &M,
        coming: &Coming,
        goes_on: bool,
        device: &Device,
    ) -> Result<Self> {
        let (mut sum, mut most_tokens) = (0, 0);
        for part in coming.epoch.iter().flatten() {
            for rows in part.rows.chunks(coming.micro_batch_size.unwrap_or(part.rows.len()).max(1))
            {
                let tokens = tokens_of(coming.sets, part.set, rows);
                sum += tokens;
                most_tokens = most_tokens.max(tokens);
            }
        }
        let tasks = coming.sets.iter().flat_map(|set| &set.heads).max().map_or(1, |head| head + 1);
        let memory = MemoryPlan::new(model, tasks, most_tokens, coming.regularisation, device);
        Ok(Self {
            steps: coming.steps,
            warmup_steps: coming.warmup_steps,
            seconds: 0.0,
            rows: coming.sets.iter().map(|set| set.lengths.len()).sum(),
            cut_rows: coming.cut_rows,
            mean_tokens: sum as f64 / coming.epoch.len().max(1) as f64,
            most_tokens,
            warning: memory.check(goes_on, most_tokens)?,
            memory,
        })
    }

    /// Sets the time by that of a step, as long for each token: `left` steps are to be taken.
    pub(crate) fn measure(&mut self, tokens: usize, time: std::time::Duration, left: usize) {
        let of_token = time.as_secs_f64() / tokens.max(1) as f64;
        self.seconds = of_token * self.mean_tokens * left as f64;
    }
}

impl MemoryPlan {
    fn new<M: Trainable>(
        model: &M,
        tasks: usize,
        most_tokens: usize,
        regularisation: &Regularisation,
        device: &Device,
    ) -> Self {
        let all = parameters(model);
        let bytes = |parameters: &mut dyn Iterator<Item = &Parameter>| {
            let values: usize = parameters.map(|own| own.values).sum();
            (values * size_of::<f32>()) as u64
        };
        let (own, trained) =
            (bytes(&mut all.iter()), bytes(&mut all.iter().filter(|own| own.is_trained)));
        let memory = Memory::of(device);
        let Regularisation { r_drop, fgm, ema, .. } = *regularisation;
        // Two passes of R-Drop wait for their way back together.
        let passes = if r_drop > 0.0 { 2 } else { 1 };
        Self {
            parameters: own,
            gradients: tasks as u64 * trained,
            optimizer_state: 2 * trained,
            best_model: own,
            average: if ema > 0.0 { trained } else { 0 },
            activations: passes * activations(model.encoder(), &all, fgm > 0.0, most_tokens),
            free: memory.map(|memory| memory.free),
            total: memory.map(|memory| memory.total),
        }
    }

    /// Refuses what cannot fit into all memory that there is; says what may not fit into what is free of it.
    ///
    /// # Errors
    /// [`Error::TooLarge`] where parameters and optimiser state with the gradients, or with half of what the activations were
    /// estimated at, are more than all memory.
    fn check(&self, goes_on: bool, most_tokens: usize) -> Result<Option<String>> {
        let (Some(free), Some(total)) = (self.free, self.total) else { return Ok(None) };
        let kept = self.parameters + self.optimizer_state + self.average;
        // Activations go as gradients come. They are an estimate: what is refused must be certain.
        if kept + self.gradients.max(self.activations / 2) > total {
            return Err(Error::TooLarge {
                kept: kept.div_ceil(MB),
                gradients: self.gradients.div_ceil(MB),
                activations: self.activations.div_ceil(MB),
                tokens: most_tokens,
                total: total / MB,
            });
        }
        // Of a run that goes on it is there already.
        let state = if goes_on { 0 } else { self.optimizer_state + self.average };
        let needed = state + self.best_model + self.gradients.max(self.activations);
        Ok((needed > free).then(|| {
            format!(
                "memory may run out: the run takes about {} more, and {} are free; a smaller batch-size or max-length takes less",
                Bytes(needed),
                Bytes(free)
            )
        }))
    }

    /// All of it together, where it is the most.
    pub(crate) fn most(&self) -> u64 {
        let kept = self.parameters + self.optimizer_state + self.best_model + self.average;
        kept + self.gradients.max(self.activations)
    }
}

/// Steps, time, texts and memory, a line each.
impl std::fmt::Display for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let memory = &self.memory;
        writeln!(
            f,
            "steps   {}, {} of them warm-up; about {} without evaluations",
            Count(self.steps),
            Count(self.warmup_steps),
            Duration(self.seconds)
        )?;
        writeln!(
            f,
            "texts   {}, {} of them cut ({})",
            Count(self.rows),
            Count(self.cut_rows),
            Share(self.cut_rows, self.rows)
        )?;
        write!(
            f,
            "memory  about {}: parameters {}, gradients {}, optimiser {}, best model {}, ",
            Bytes(memory.most()),
            Bytes(memory.parameters),
            Bytes(memory.gradients),
            Bytes(memory.optimizer_state),
            Bytes(memory.best_model),
        )?;
        if memory.average > 0 {
            write!(f, "average {}, ", Bytes(memory.average))?;
        }
        write!(
            f,
            "activations of {} tokens {}",
            Count(self.most_tokens),
            Bytes(memory.activations)
        )?;
        match (memory.free, memory.total) {
            (Some(free), Some(total)) => {
                write!(f, "; {} of {} are free", Bytes(free), Bytes(total))
            }
            _ => Ok(()),
        }
    }
}

/// The tokens of a step's parts.
pub(crate) fn tokens(sets: &[TrainingSet], parts: &[Batch]) -> usize {
    parts.iter().map(|part| tokens_of(sets, part.set, &part.rows)).sum()
}

fn tokens_of(sets: &[TrainingSet], set: usize, rows: &[usize]) -> usize {
    rows.iter().map(|row| sets[set].lengths[*row]).sum()
}

/// About what a step on so many tokens keeps of the encoder between forward and backward: nothing below what is trained.
fn activations(encoder: &Bert, all: &[Parameter], moves_words: bool, tokens: usize) -> u64 {
    let layers = &encoder.encoder.layer;
    let Some(layer) = layers.first() else { return 0 };
    let is_trained = |parameters: &[Parameter]| parameters.iter().any(|own| own.is_trained);
    // What maps or moves the words has the whole encoder behind it.
    let is_mapped = all.iter().any(|own| own.is_trained && own.path.contains("task_embedding."));
    let lowest = match moves_words || is_mapped || is_trained(&parameters(&encoder.embeddings)) {
        true => 0,
        false => {
            layers.iter().position(|layer| is_trained(&parameters(layer))).unwrap_or(layers.len())
        }
    };
    let [hidden_size, intermediate_size] = layer.intermediate.dense.weight.shape().dims();
    let sizes = [layers.len() - lowest, hidden_size, intermediate_size];
    activation_bytes(sizes, encoder.encoder.recompute, tokens)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn plan(free: Option<u64>, total: Option<u64>) -> MemoryPlan {
        MemoryPlan {
            parameters: 10 * MB,
            gradients: 10 * MB,
            optimizer_state: 20 * MB,
            best_model: 10 * MB,
            average: 0,
            activations: 60 * MB,
            free,
            total,
        }
    }

    #[test]
    fn what_cannot_fit_is_refused() {
        // 10 and 20 stay, and half of 60 is more than 10: 60.
        assert!(plan(Some(0), Some(60 * MB)).check(false, 7).is_ok());
        let error = plan(Some(0), Some(60 * MB - 1)).check(false, 7).unwrap_err();
        assert!(error.is_bad_input());
        let message = error.to_string();
        assert!(message.contains("30 MB") && message.contains("59 MB"), "{message}");
        assert!(message.contains("lower batch-size or max-length"), "{message}");
        assert_eq!(plan(None, None).check(false, 7).unwrap(), None);
    }

    #[test]
    fn what_may_not_fit_is_said() {
        // State 20, best model 10, activations 60: 90 more; 70 where the state is there.
        let warning = |free, is_resumed| {
            plan(Some(free), Some(1000 * MB)).check(is_resumed, 7).unwrap().is_some()
        };
        assert!(!warning(90 * MB, false) && warning(90 * MB - 1, false));
        assert!(!warning(70 * MB, true) && warning(70 * MB - 1, true));
    }

    #[test]
    fn time_goes_by_tokens() {
        let set = TrainingSet::of_one_head(vec![3, 5, 7]);
        let batch = |rows: &[usize]| Batch { set: 0, rows: rows.into(), heads: vec![0] };
        assert_eq!(tokens(&[set], &[batch(&[0, 1]), batch(&[2])]), 15);
        let mut plan = Plan {
            steps: 9,
            warmup_steps: 0,
            seconds: 0.0,
            rows: 3,
            cut_rows: 0,
            mean_tokens: 7.5,
            most_tokens: 8,
            memory: plan(None, None),
            warning: None,
        };
        // 8 tokens in 4 s; 6 steps of 7.5 are left: 4 / 8 * 7.5 * 6.
        plan.measure(8, std::time::Duration::from_secs(4), 6);
        assert_eq!(plan.seconds, 22.5);
    }
}
