//! Which batches each step takes, from which data sets.

use std::collections::BTreeMap;

use bert_kernels::random::{Purpose, Stream};
use serde::{Deserialize, Serialize};

use crate::{batches::epoch_batches, recipe::Recipe};

/// How the data set of the next step is drawn.
///
/// With `n` the number of a set's rows, its share of the steps is proportional to
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Sampling {
    /// `n`: every row once an epoch, the batches of all sets in random order.
    #[default]
    Proportional,
    /// 1.
    Uniform,
    /// `n^(1/2)`.
    Sqrt,
    /// `n^(1 / temperature)`.
    Temperature {
        /// From 1, which is proportional, up; infinity would be uniform.
        temperature: f64,
    },
    /// `n^a` with `a = 1 - 0.8 e / (E - 1)` in epoch `e` of `E`, from 0: proportional at first, almost uniform at the end.
    ///
    /// # Source
    /// Stickland, Murray: "BERT and PALs" (arXiv:1902.02671), section 4.2.
    Annealed,
    /// What is given for its tasks.
    Weights {
        /// One a task; a set that serves several tasks has the largest of theirs.
        weights: BTreeMap<String, f64>,
    },
    /// One set after the other.
    RoundRobin,
}

/// How much a step takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StepSize {
    /// One batch.
    #[default]
    One,
    /// One batch of every data set; an epoch is over when the largest set is, and smaller ones begin anew.
    All,
}

/// A data set as the sampler sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainingSet {
    /// The tokens of each row.
    pub lengths: Vec<usize>,
    /// The heads that its rows have labels for.
    pub heads: Vec<usize>,
    /// Rows a batch; without it, the recipe's.
    pub batch_size: Option<usize>,
    /// Its share where [`Sampling::Weights`] asks for it.
    pub weight: f64,
}

impl TrainingSet {
    /// The rows of a model with one head.
    pub fn of_one_head(lengths: Vec<usize>) -> Self {
        Self { lengths, heads: vec![0], batch_size: None, weight: 1.0 }
    }
}

/// Rows of one data set that go through the model together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// The place of the data set.
    pub set: usize,
    /// The rows.
    pub rows: Vec<usize>,
    /// The heads that answer.
    pub heads: Vec<usize>,
}

/// Draws the batches of a run: a pure function of its data sets, the seed and the epoch.
#[derive(Debug, Clone)]
pub struct Sampler {
    sets: Vec<TrainingSet>,
    sampling: Sampling,
    step_size: StepSize,
    batch_size: usize,
    epochs: usize,
    seed: u64,
}

impl Sampler {
    /// A sampler over `sets`, as the recipe says.
    pub fn new(sets: Vec<TrainingSet>, recipe: &Recipe) -> Self {
        Self {
            sets,
            sampling: recipe.mixing.sampling.clone(),
            step_size: recipe.mixing.step_size,
            batch_size: recipe.batch_size,
            epochs: recipe.epochs,
            seed: recipe.seed,
        }
    }

    /// The data sets.
    pub fn sets(&self) -> &[TrainingSet] {
        &self.sets
    }

    /// The steps of an epoch in which every head is trained.
    pub fn steps_per_epoch(&self) -> usize {
        self.steps(&(0..self.sets.len()).collect::<Vec<_>>())
    }

    /// The batches of each step of an epoch, from 0, for the heads that `is_trained` names; none where it names none.
    pub fn epoch(&self, epoch: usize, is_trained: impl Fn(usize) -> bool) -> Vec<Vec<Batch>> {
        let is_active = |set: &usize| self.sets[*set].heads.iter().any(|head| is_trained(*head));
        let active: Vec<usize> = (0..self.sets.len()).filter(is_active).collect();
        let mut queues: Vec<Queue> = active
            .iter()
            .map(|set| Queue { sampler: self, set: *set, epoch, pass: 0, next: vec![] })
            .collect();
        let steps: Vec<Vec<usize>> = match self.step_size {
            StepSize::All => vec![(0..active.len()).collect(); self.steps(&active)],
            StepSize::One => {
                let order = self.order(&active, epoch);
                order.into_iter().map(|place| vec![place]).collect()
            }
        };
        let batch = |place: usize, queues: &mut Vec<Queue>| {
            let set = active[place];
            let heads = self.sets[set].heads.iter().copied().filter(|head| is_trained(*head));
            Batch { set, rows: queues[place].pop(), heads: heads.collect() }
        };
        let batches = |places: Vec<usize>| {
            places.into_iter().map(|place| batch(place, &mut queues)).collect()
        };
        steps.into_iter().map(batches).collect()
    }

    /// Batches that a set has.
    fn batches(&self, set: usize) -> usize {
        self.sets[set].lengths.len().div_ceil(self.batch_size_of(set))
    }

    pub(crate) fn batch_size_of(&self, set: usize) -> usize {
        self.sets[set].batch_size.unwrap_or(self.batch_size)
    }

    fn steps(&self, active: &[usize]) -> usize {
        let batches = active.iter().map(|set| self.batches(*set));
        match self.step_size {
            StepSize::One => batches.sum(),
            StepSize::All => batches.max().unwrap_or(0),
        }
    }

    /// Which of the active sets each step of an epoch takes a batch of.
    fn order(&self, active: &[usize], epoch: usize) -> Vec<usize> {
        let steps = self.steps(active);
        let mut random = Stream::new(self.seed, Purpose::Sample, epoch as u64);
        match self.sampling {
            Sampling::Proportional => {
                let places = active.iter().enumerate();
                let mut order: Vec<usize> = places
                    .flat_map(|(place, set)| std::iter::repeat_n(place, self.batches(*set)))
                    .collect();
                random.shuffle(&mut order);
                order
            }
            Sampling::RoundRobin => (0..steps).map(|step| step % active.len()).collect(),
            _ => {
                let shares = self.shares(active, epoch);
                let draw = |_| {
                    let mut left = f64::from(random.uniform());
                    // Rounding may leave a little of the last share.
                    let place = shares.iter().position(|share| {
                        left -= share;
                        left < 0.0
                    });
                    place.unwrap_or(shares.len() - 1)
                };
                (0..steps).map(draw).collect()
            }
        }
    }

    /// The share of the steps of each of the active sets; they sum to 1.
    fn shares(&self, active: &[usize], epoch: usize) -> Vec<f64> {
        let exponent = match &self.sampling {
            Sampling::Proportional => 1.0,
            Sampling::Uniform | Sampling::RoundRobin | Sampling::Weights { .. } => 0.0,
            Sampling::Sqrt => 0.5,
            Sampling::Temperature { temperature } => 1.0 / temperature,
            Sampling::Annealed if self.epochs > 1 => {
                1.0 - 0.8 * epoch as f64 / (self.epochs - 1) as f64
            }
            Sampling::Annealed => 1.0,
        };
        let weights: Vec<f64> = active
            .iter()
            .map(|set| match self.sampling {
                Sampling::Weights { .. } => self.sets[*set].weight,
                _ => (self.sets[*set].lengths.len() as f64).powf(exponent),
            })
            .collect();
        let sum: f64 = weights.iter().sum();
        weights.into_iter().map(|weight| weight / sum).collect()
    }
}

/// The batches of one set in one epoch: when all rows were taken, they come again in another order.
struct Queue<'a> {
    sampler: &'a Sampler,
    set: usize,
    epoch: usize,
    /// How often the rows were begun.
    pass: usize,
    /// The next one last.
    next: Vec<Vec<usize>>,
}

impl Queue<'_> {
    fn pop(&mut self) -> Vec<usize> {
        loop {
            if let Some(batch) = self.next.pop() {
                return batch;
            }
            let Self { sampler, set, epoch, pass, .. } = *self;
            // Sets and passes have shuffles of their own; the first pass of the only set has the epoch's number.
            let shuffle = (set << 40) | (pass << 24) | epoch;
            let lengths = &sampler.sets[set].lengths;
            let size = sampler.batch_size_of(set);
            self.next = epoch_batches(lengths, size, sampler.seed, shuffle);
            self.next.reverse();
            self.pass += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sets(rows: &[usize]) -> Vec<TrainingSet> {
        let set = |(head, rows): (usize, &usize)| TrainingSet {
            lengths: vec![5; *rows],
            heads: vec![head],
            batch_size: None,
            weight: [2.0, 0.0, 6.0][head % 3],
        };
        rows.iter().enumerate().map(set).collect()
    }

    fn of(
        sets: Vec<TrainingSet>,
        sampling: Sampling,
        step_size: StepSize,
        batch_size: usize,
        seed: u64,
    ) -> Sampler {
        Sampler { sets, sampling, step_size, batch_size, epochs: 3, seed }
    }

    fn sampler(rows: &[usize], sampling: Sampling, step_size: StepSize) -> Sampler {
        of(sets(rows), sampling, step_size, 4, 9)
    }

    /// Each set's share of the steps of the first epoch.
    fn drawn(sampler: &Sampler) -> Vec<f64> {
        let steps = sampler.epoch(0, |_| true);
        let of = |set| steps.iter().filter(|step| step[0].set == set).count();
        (0..sampler.sets.len()).map(|set| of(set) as f64 / steps.len() as f64).collect()
    }

    #[test]
    fn shares_by_hand() {
        let shares = |sampling, epoch| {
            let shares =
                sampler(&[100, 400, 1600], sampling, StepSize::One).shares(&[0, 1, 2], epoch);
            shares.iter().map(|share| (share * 1000.0).round() / 1000.0).collect::<Vec<_>>()
        };
        // 100 / 2100, 400 / 2100, 1600 / 2100
        assert_eq!(shares(Sampling::Proportional, 0), [0.048, 0.19, 0.762]);
        assert_eq!(shares(Sampling::Uniform, 0), [0.333, 0.333, 0.333]);
        // 10, 20, 40 of 70
        assert_eq!(shares(Sampling::Sqrt, 0), [0.143, 0.286, 0.571]);
        // 100^(1/4) = 3.162, 4.472, 6.325 of 13.959
        assert_eq!(shares(Sampling::Temperature { temperature: 4.0 }, 0), [0.227, 0.32, 0.453]);
        // Three epochs: exponents 1, 0.6 and 0.2. 100^0.6 = 15.849, 36.411, 83.651 of 135.911; 100^0.2 = 2.512, 3.314, 4.373 of 10.199.
        assert_eq!(shares(Sampling::Annealed, 0), [0.048, 0.19, 0.762]);
        assert_eq!(shares(Sampling::Annealed, 1), [0.117, 0.268, 0.615]);
        assert_eq!(shares(Sampling::Annealed, 2), [0.246, 0.325, 0.429]);
        // 2, 0, 6 of 8
        let weights = Sampling::Weights { weights: BTreeMap::new() };
        assert_eq!(shares(weights, 0), [0.25, 0.0, 0.75]);
        let mut once = sampler(&[100, 400, 1600], Sampling::Annealed, StepSize::One);
        once.epochs = 1;
        assert_eq!(once.shares(&[0, 1], 0), [0.2, 0.8]);
    }

    #[test]
    fn steps_are_drawn_in_their_shares() {
        for (sampling, expected) in [
            (Sampling::Uniform, [1.0 / 3.0, 1.0 / 3.0, 1.0 / 3.0]),
            (Sampling::Sqrt, [1.0 / 7.0, 2.0 / 7.0, 4.0 / 7.0]),
            (Sampling::Weights { weights: BTreeMap::new() }, [0.25, 0.0, 0.75]),
            (Sampling::RoundRobin, [1.0 / 3.0, 1.0 / 3.0, 1.0 / 3.0]),
        ] {
            // 10500 steps: three deviations of a share of a half are 0.015.
            let drawn = drawn(&sampler(&[2000, 8000, 32000], sampling.clone(), StepSize::One));
            for (drawn, expected) in drawn.iter().zip(expected) {
                assert!((drawn - expected).abs() < 0.015, "{sampling:?}: {drawn} {expected}");
            }
        }
    }

    #[test]
    fn a_step_of_all_has_a_batch_of_each() {
        let sampler = sampler(&[9, 3], Sampling::Proportional, StepSize::All);
        let steps = sampler.epoch(0, |_| true);
        assert_eq!(steps.len(), 3);
        for step in &steps {
            assert_eq!(step.iter().map(|batch| batch.set).collect::<Vec<_>>(), [0, 1]);
            // The smaller set begins anew.
            assert_eq!(step[1].rows.len(), 3);
        }
    }

    #[test]
    fn a_head_that_is_finished_is_left_out() {
        let mut both = sets(&[8, 8]);
        both[0].heads = vec![0, 2];
        let sampler = of(both, Sampling::Proportional, StepSize::One, 4, 0);
        let steps = sampler.epoch(0, |head| head == 2);
        assert_eq!(steps.len(), 2);
        assert!(steps.iter().flatten().all(|batch| batch.set == 0 && batch.heads == [2]));
        assert!(sampler.epoch(0, |_| false).is_empty());
        for sampling in [Sampling::Uniform, Sampling::RoundRobin] {
            let sampler = Sampler { sampling, ..sampler.clone() };
            assert!(sampler.epoch(0, |head| head == 1).iter().flatten().all(|b| b.set == 1));
        }
    }

    /// One set alone has the batches that [`epoch_batches`] gives.
    #[test]
    fn one_set_is_taken_as_it_is() {
        let lengths: Vec<usize> = (1..60).collect();
        let set = TrainingSet::of_one_head(lengths.clone());
        let sampler = of(vec![set], Sampling::Proportional, StepSize::One, 7, 5);
        for epoch in 0..2 {
            let steps = sampler.epoch(epoch, |_| true);
            let rows: Vec<_> = steps.iter().map(|step| step[0].rows.clone()).collect();
            assert_eq!(rows, epoch_batches(&lengths, 7, 5, epoch));
        }
    }

    proptest! {
        /// Proportional: each row of each set once an epoch.
        #[test]
        fn proportional_takes_each_row_once(
            rows in prop::collection::vec(1usize..40, 1..4),
            epoch in 0usize..3,
            seed: u64,
        ) {
            let sampler = of(sets(&rows), Sampling::Proportional, StepSize::One, 4, seed);
            let steps = sampler.epoch(epoch, |_| true);
            prop_assert_eq!(steps.len(), sampler.steps_per_epoch());
            for (set, count) in rows.iter().enumerate() {
                let of_set = steps.iter().flatten().filter(|batch| batch.set == set);
                let mut taken: Vec<usize> = of_set.flat_map(|batch| batch.rows.clone()).collect();
                taken.sort_unstable();
                prop_assert_eq!(taken, (0..*count).collect::<Vec<_>>());
            }
        }
    }
}
