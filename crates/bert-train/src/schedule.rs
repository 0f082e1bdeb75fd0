//! The learning rate over the steps of a run.

use std::{f64::consts::PI, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// How the learning rate rises and falls, as a factor of its peak.
///
/// It rises from 0 over the first `W = floor(warmup_ratio * T)` of `T` steps, `t / W` at step `t`, from 0, while `t < W`; then it
/// falls as its [`Decay`] says.
///
/// # Source
/// Hugging Face Transformers' `get_linear_schedule_with_warmup`, `get_cosine_schedule_with_warmup`,
/// `get_cosine_with_min_lr_schedule_with_warmup`, `get_polynomial_decay_schedule_with_warmup` and
/// `get_constant_schedule_with_warmup` (<https://huggingface.co/docs/transformers/main_classes/optimizer_schedules>). Warm-up
/// and linear decay are BERT's (<https://github.com/google-research/bert/blob/master/optimization.py>), where the line of
/// decay begins at step 0, not at `W`: `(T - t) / T`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Schedule {
    /// The share of the steps in which the rate rises, in `[0, 1]`.
    pub warmup_ratio: f64,
    /// How it falls after them.
    #[serde(rename = "schedule", skip_serializing_if = "is_linear")]
    pub decay: Decay,
}

/// How a learning rate falls, with `left = (T - t) / (T - W)`, what is left of the steps after warm-up; from step `T` on nothing
/// is.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Decay {
    /// In a straight line to 0: `left`.
    #[default]
    Linear,
    /// As half a cosine wave: `end + (1 - end) (1 + cos(pi (1 - left))) / 2`.
    Cosine {
        /// The share of the peak that it falls to, in `[0, 1)`.
        end: f64,
    },
    /// Fast at first where the power is above 1: `end + (1 - end) left^power`.
    Polynomial {
        /// Above 0; 1 is a straight line.
        power: f64,
        /// The share of the peak that it falls to, in `[0, 1)`.
        end: f64,
    },
    /// Not at all.
    Constant,
}

impl Schedule {
    /// The factor of the peak learning rate at `step`, from 0, of a run of `total` steps: from 0 to 1.
    pub fn factor(&self, step: usize, total: usize) -> f64 {
        let warmup = (self.warmup_ratio * total as f64) as usize;
        if step < warmup {
            return step as f64 / warmup as f64;
        }
        // Where there are no steps to decay in, none is left.
        let left = total.saturating_sub(step) as f64 / total.saturating_sub(warmup).max(1) as f64;
        match self.decay {
            Decay::Linear => left,
            Decay::Cosine { end } => end + (1.0 - end) * (1.0 + (PI * (1.0 - left)).cos()) / 2.0,
            Decay::Polynomial { power, end } => end + (1.0 - end) * left.powf(power),
            Decay::Constant => 1.0,
        }
    }

    /// The first step of the highest factor in a run of `total` steps, and that factor.
    pub fn peak(&self, total: usize) -> (usize, f64) {
        let warmup = (self.warmup_ratio * total as f64) as usize;
        let step = warmup.min(total.saturating_sub(1));
        (step, self.factor(step, total))
    }

    /// Refuses numbers out of range.
    pub(crate) fn check(&self) -> Result<()> {
        let refuse = |key, got: String, expected| Err(Error::Recipe { key, got, expected });
        if !(0.0..=1.0).contains(&self.warmup_ratio) {
            return refuse("warmup-ratio", self.warmup_ratio.to_string(), "a share from 0 to 1");
        }
        if !self.decay.is_in_range() {
            let expected = "of a power above 0 and of an end from 0, less than 1";
            return refuse("schedule", self.decay.to_string(), expected);
        }
        Ok(())
    }
}

/// Linear, with a tenth of the steps to warm up, as BERT was fine-tuned (Devlin et al. 2019).
impl Default for Schedule {
    fn default() -> Self {
        Self { warmup_ratio: 0.1, decay: Decay::Linear }
    }
}

impl Decay {
    fn is_in_range(self) -> bool {
        let (power, end) = match self {
            Self::Linear | Self::Constant => (1.0, 0.0),
            Self::Cosine { end } => (1.0, end),
            Self::Polynomial { power, end } => (power, end),
        };
        power > 0.0 && power.is_finite() && (0.0..1.0).contains(&end)
    }
}

impl fmt::Display for Decay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = match self {
            Self::Linear => return f.write_str("linear"),
            Self::Constant => return f.write_str("constant"),
            Self::Cosine { end } => {
                f.write_str("cosine")?;
                end
            }
            Self::Polynomial { power, end } => {
                write!(f, "polynomial={power}")?;
                end
            }
        };
        if *end == 0.0 { Ok(()) } else { write!(f, ",end={end}") }
    }
}

/// What stands for no schedule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown schedule {0:?}: expected linear, cosine, polynomial=POWER (POWER above 0, for example polynomial=2) or constant; \
     cosine and polynomial may end above 0, at a share of the highest rate: cosine,end=0.1"
)]
pub struct ParseDecayError(String);

impl FromStr for Decay {
    type Err = ParseDecayError;

    fn from_str(text: &str) -> std::result::Result<Self, ParseDecayError> {
        let read = || {
            let (kind, end) = match text.split_once(",end=") {
                Some((kind, end)) => (kind, Some(end.parse().ok()?)),
                None => (text, None),
            };
            let of_power = kind.strip_prefix("polynomial=");
            Some(match (kind, of_power, end) {
                ("linear", _, None) => Self::Linear,
                ("constant", _, None) => Self::Constant,
                ("cosine", ..) => Self::Cosine { end: end.unwrap_or(0.0) },
                (_, Some(power), _) => {
                    Self::Polynomial { power: power.parse().ok()?, end: end.unwrap_or(0.0) }
                }
                _ => return None,
            })
        };
        read().filter(|decay| decay.is_in_range()).ok_or_else(|| ParseDecayError(text.to_owned()))
    }
}

impl TryFrom<String> for Decay {
    type Error = ParseDecayError;

    fn try_from(text: String) -> std::result::Result<Self, ParseDecayError> {
        text.parse()
    }
}

impl From<Decay> for String {
    fn from(decay: Decay) -> Self {
        decay.to_string()
    }
}

fn is_linear(decay: &Decay) -> bool {
    *decay == Decay::Linear
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn factors(decay: Decay, warmup_ratio: f64, total: usize) -> Vec<f64> {
        let schedule = Schedule { warmup_ratio, decay };
        (0..=total).map(|step| schedule.factor(step, total)).collect()
    }

    fn assert_close(got: &[f64], expected: &[f64]) {
        let is_close = |(got, expected): (&f64, &f64)| (got - expected).abs() < 1e-15;
        assert!(
            got.len() == expected.len() && got.iter().zip(expected).all(is_close),
            "{got:?} {expected:?}"
        );
    }

    #[test]
    fn the_peak_is_the_end_of_warmup() {
        for (warmup_ratio, total, peak) in
            [(0.5, 5, (2, 1.0)), (0.0, 5, (0, 1.0)), (1.0, 5, (4, 0.8)), (1.0, 1, (0, 0.0))]
        {
            for decay in [Decay::Linear, Decay::Polynomial { power: 1.0, end: 0.0 }] {
                assert_eq!(Schedule { warmup_ratio, decay }.peak(total), peak);
            }
        }
    }

    #[test]
    fn linear_rises_and_falls_in_straight_lines() {
        // W = floor(0.5 * 5) = 2: 0/2, 1/2, then 3/3, 2/3, 1/3, 0/3.
        assert_eq!(factors(Decay::Linear, 0.5, 5), [0.0, 0.5, 1.0, 2.0 / 3.0, 1.0 / 3.0, 0.0]);
        // W = floor(0.1 * 19) = 1: the first step has rate 0, the second the peak.
        let default: Vec<f64> = (0..3).map(|step| Schedule::default().factor(step, 19)).collect();
        assert_eq!(default, [0.0, 1.0, 17.0 / 18.0]);
    }

    #[test]
    fn cosine_falls_as_half_a_wave() {
        // W = 2, then cos of 0, 60, 120, 180 degrees: 1, 1/2, -1/2, -1.
        let cosine = |end| factors(Decay::Cosine { end }, 0.5, 5);
        assert_close(&cosine(0.0), &[0.0, 0.5, 1.0, 0.75, 0.25, 0.0]);
        // 0.2 + 0.8 of each.
        assert_close(&cosine(0.2), &[0.0, 0.5, 1.0, 0.8, 0.4, 0.2]);
    }

    #[test]
    fn polynomial_falls_as_a_power_of_what_is_left() {
        // W = 1; 4/4, 3/4, 2/4, 1/4 and 0 are left.
        let polynomial = |power, end| factors(Decay::Polynomial { power, end }, 0.2, 5);
        assert_close(&polynomial(2.0, 0.0), &[0.0, 1.0, 0.5625, 0.25, 0.0625, 0.0]);
        // 0.1 + 0.9 of each.
        assert_close(&polynomial(2.0, 0.1), &[0.0, 1.0, 0.60625, 0.325, 0.15625, 0.1]);
        assert_close(&polynomial(0.5, 0.0), &[0.0, 1.0, 0.75f64.sqrt(), 0.5f64.sqrt(), 0.5, 0.0]);
        assert_eq!(polynomial(1.0, 0.0), factors(Decay::Linear, 0.2, 5));
    }

    #[test]
    fn constant_rises_and_stays() {
        assert_eq!(factors(Decay::Constant, 0.5, 4), [0.0, 0.5, 1.0, 1.0, 1.0]);
    }

    #[test]
    fn no_warmup_starts_at_the_peak() {
        assert_eq!(factors(Decay::Linear, 0.0, 2), [1.0, 0.5, 0.0]);
        // W = floor(0.9) = 0.
        assert_eq!(Schedule::default().factor(0, 9), 1.0);
    }

    #[test]
    fn warmup_alone_never_decays() {
        assert_eq!(factors(Decay::Linear, 1.0, 2), [0.0, 0.5, 0.0]);
    }

    #[test]
    fn a_run_of_no_steps_has_rate_zero() {
        assert_eq!(Schedule::default().factor(0, 0), 0.0);
        assert_eq!(Schedule::default().factor(7, 0), 0.0);
    }

    #[test]
    fn schedules_are_written_as_they_are_read() {
        let all = [
            "linear",
            "constant",
            "cosine",
            "cosine,end=0.1",
            "polynomial=2",
            "polynomial=0.5,end=0.25",
        ];
        for text in all {
            assert_eq!(text.parse::<Decay>().unwrap().to_string(), text);
        }
        let wrong = [
            "",
            "cosin",
            "linear,end=0.1",
            "constant,end=0",
            "polynomial",
            "polynomial=",
            "polynomial=0",
            "polynomial=-1",
            "polynomial=inf",
            "polynomial=nan",
            "cosine=2",
            "cosine,end=1",
            "cosine,end=-0.1",
            "cosine,end=",
            "polynomial=2,end=x",
        ];
        for text in wrong {
            let error = text.parse::<Decay>().unwrap_err().to_string();
            assert!(error.contains("polynomial=POWER"), "{text}: {error}");
        }
        let keys = "warmup_ratio = 0.2\nschedule = \"cosine,end=0.1\"\n";
        let read: Schedule = toml::from_str(keys).unwrap();
        assert_eq!(read, Schedule { warmup_ratio: 0.2, decay: Decay::Cosine { end: 0.1 } });
        assert_eq!(toml::to_string(&read).unwrap(), keys);
        assert_eq!(toml::to_string(&Schedule::default()).unwrap(), "warmup_ratio = 0.1\n");
    }

    #[test]
    fn numbers_out_of_range_are_refused() {
        let of = |decay| Schedule { decay, ..Schedule::default() };
        for (wrong, expected) in [
            (Schedule { warmup_ratio: f64::NAN, ..Schedule::default() }, "warmup-ratio must be a"),
            (of(Decay::Polynomial { power: 0.0, end: 0.0 }), "schedule must be of a power above 0"),
            (of(Decay::Cosine { end: 1.0 }), "schedule must be of a power above 0 and of an end"),
        ] {
            let error = wrong.check().unwrap_err();
            assert!(error.is_bad_input() && error.to_string().starts_with(expected), "{error}");
        }
    }

    proptest! {
        #[test]
        fn factors_are_from_zero_to_one(
            warmup_ratio in 0.0f64..=1.0,
            total in 0usize..200,
            step in 0usize..300,
            power in 0.1f64..9.0,
            end in 0.0f64..1.0,
        ) {
            for decay in [
                Decay::Linear,
                Decay::Cosine { end },
                Decay::Polynomial { power, end },
                Decay::Constant,
            ] {
                let factor = Schedule { warmup_ratio, decay }.factor(step, total);
                prop_assert!((0.0..=1.0).contains(&factor));
                if step >= total && total > 0 && !matches!(decay, Decay::Linear | Decay::Constant) {
                    prop_assert_eq!(factor, end);
                }
            }
        }
    }
}
