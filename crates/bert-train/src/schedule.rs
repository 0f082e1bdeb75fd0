//! The learning rate over the steps of a run.

use std::f64::consts::PI;

use serde::{Deserialize, Serialize};

/// How the learning rate rises and falls, as a factor of its peak.
///
/// Each kind rises from 0 over the first `W = floor(warmup_ratio * T)` of `T` steps: the factor at step `t`,
/// from 0, is `t / W` while `t < W`.
///
/// # Source
/// Hugging Face Transformers' `get_linear_schedule_with_warmup`, `get_cosine_schedule_with_warmup` and
/// `get_constant_schedule_with_warmup`
/// (<https://huggingface.co/docs/transformers/main_classes/optimizer_schedules>). Warm-up and linear decay are
/// BERT's (<https://github.com/google-research/bert/blob/master/optimization.py>), where the line of decay
/// begins at step 0, not at `W`: `(T - t) / T`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Schedule {
    /// Falls in a straight line: `(T - t) / (T - W)`.
    Linear {
        /// The share of steps in which the rate rises, from 0 to 1.
        warmup_ratio: f64,
    },
    /// Falls as half a cosine wave: `(1 + cos(pi (t - W) / (T - W))) / 2`.
    Cosine {
        /// The share of steps in which the rate rises, from 0 to 1.
        warmup_ratio: f64,
    },
    /// Stays at its peak.
    Constant {
        /// The share of steps in which the rate rises, from 0 to 1.
        warmup_ratio: f64,
    },
}

impl Schedule {
    /// The factor of the peak learning rate at `step`, from 0, of a run of `total` steps: from 0 to 1.
    ///
    /// From step `total` on, the decaying schedules give 0.
    pub fn factor(&self, step: usize, total: usize) -> f64 {
        let warmup = (self.warmup_ratio() * total as f64) as usize;
        if step < warmup {
            return step as f64 / warmup as f64;
        }
        // The share of the decay that is still ahead; where there are no steps to decay in, none is.
        let left = total.saturating_sub(step) as f64 / total.saturating_sub(warmup).max(1) as f64;
        match self {
            Self::Linear { .. } => left,
            Self::Cosine { .. } => (1.0 + (PI * (1.0 - left)).cos()) / 2.0,
            Self::Constant { .. } => 1.0,
        }
    }

    fn warmup_ratio(&self) -> f64 {
        match *self {
            Self::Linear { warmup_ratio }
            | Self::Cosine { warmup_ratio }
            | Self::Constant { warmup_ratio } => warmup_ratio,
        }
    }
}

/// Linear, with a tenth of the steps to warm up, as BERT was fine-tuned (Devlin et al. 2019).
impl Default for Schedule {
    fn default() -> Self {
        Self::Linear { warmup_ratio: 0.1 }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn factors(schedule: Schedule, total: usize) -> Vec<f64> {
        (0..=total).map(|step| schedule.factor(step, total)).collect()
    }

    #[test]
    fn linear_rises_and_falls_in_straight_lines() {
        // W = floor(0.5 * 5) = 2: 0/2, 1/2, then 3/3, 2/3, 1/3, 0/3.
        assert_eq!(
            factors(Schedule::Linear { warmup_ratio: 0.5 }, 5),
            [0.0, 0.5, 1.0, 2.0 / 3.0, 1.0 / 3.0, 0.0]
        );
        // W = floor(0.1 * 19) = 1: the first step has rate 0, the second the peak.
        assert_eq!(factors(Schedule::default(), 19)[..3], [0.0, 1.0, 17.0 / 18.0]);
    }

    #[test]
    fn cosine_falls_as_half_a_wave() {
        // W = 2, then cos of 0, 60, 120, 180 degrees: 1, 1/2, -1/2, -1.
        let expected = [0.0, 0.5, 1.0, 0.75, 0.25, 0.0];
        for (factor, expected) in
            factors(Schedule::Cosine { warmup_ratio: 0.5 }, 5).iter().zip(expected)
        {
            assert!((factor - expected).abs() < 1e-15, "{factor} {expected}");
        }
    }

    #[test]
    fn constant_rises_and_stays() {
        assert_eq!(factors(Schedule::Constant { warmup_ratio: 0.5 }, 4), [0.0, 0.5, 1.0, 1.0, 1.0]);
    }

    #[test]
    fn no_warmup_starts_at_the_peak() {
        assert_eq!(factors(Schedule::Linear { warmup_ratio: 0.0 }, 2), [1.0, 0.5, 0.0]);
        // W = floor(0.9) = 0.
        assert_eq!(Schedule::default().factor(0, 9), 1.0);
    }

    #[test]
    fn warmup_alone_never_decays() {
        assert_eq!(factors(Schedule::Linear { warmup_ratio: 1.0 }, 2), [0.0, 0.5, 0.0]);
    }

    #[test]
    fn a_run_of_no_steps_has_rate_zero() {
        assert_eq!(Schedule::default().factor(0, 0), 0.0);
        assert_eq!(Schedule::default().factor(7, 0), 0.0);
    }

    #[test]
    fn a_run_file_names_the_kind() {
        let schedule: Schedule =
            serde_json::from_str(r#"{"kind":"linear","warmup_ratio":0.1}"#).unwrap();
        assert_eq!(schedule, Schedule::default());
        assert!(
            serde_json::from_str::<Schedule>(r#"{"kind":"linear","warmup_ratio":0.1,"x":1}"#)
                .is_err()
        );
    }

    proptest! {
        #[test]
        fn factors_are_from_zero_to_one(warmup_ratio in 0.0f64..=1.0, total in 0usize..200, step in 0usize..300) {
            for schedule in [
                Schedule::Linear { warmup_ratio },
                Schedule::Cosine { warmup_ratio },
                Schedule::Constant { warmup_ratio },
            ] {
                prop_assert!((0.0..=1.0).contains(&schedule.factor(step, total)));
            }
        }
    }
}
