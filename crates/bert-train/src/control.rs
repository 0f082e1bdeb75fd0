//! When a run is evaluated, keeps checkpoints, and ends early, and what it writes beside.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, Result},
    metrics::{Metrics, sign},
};

/// When a run is evaluated, keeps checkpoints, and ends early; what is left as it is does not stand in a run file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Control {
    /// How often a checkpoint is written.
    #[serde(skip_serializing_if = "is_default_checkpoint")]
    pub checkpoint_every: Every,
    /// The newest checkpoints that are kept.
    #[serde(skip_serializing_if = "is_default_keep")]
    pub keep_checkpoints: usize,
    /// How often the model is evaluated, beside the end of each epoch.
    #[serde(skip_serializing_if = "is_epoch")]
    pub eval_every: Every,
    /// The run ends after so many steps, and its learning rate falls to 0 over them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_steps: Option<usize>,
    /// The run ends after so many evaluations in a row without a better score; of one task only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patience: Option<usize>,
    /// A score is better, for `patience`, where it is by more than this.
    #[serde(skip_serializing_if = "is_zero")]
    pub min_delta: f64,
    /// The score by which the best model is chosen, of one task only; without it, the main one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metric: Option<String>,
    /// Whether a file of events is written for TensorBoard.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub tensorboard: bool,
}

/// How often something is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "String")]
pub enum Every {
    /// At the end of each epoch.
    Epoch,
    /// After so many steps.
    Steps(usize),
    /// After so many seconds, and at the end of each epoch.
    Seconds(u64),
    /// Not at all.
    Never,
}

/// As a run file may have it.
#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Number(usize),
    Text(String),
}

const DEFAULT_CHECKPOINT: Every = Every::Seconds(60);
const DEFAULT_KEEP: usize = 2;

impl Default for Control {
    fn default() -> Self {
        Self {
            checkpoint_every: DEFAULT_CHECKPOINT,
            keep_checkpoints: DEFAULT_KEEP,
            eval_every: Every::Epoch,
            max_steps: None,
            patience: None,
            min_delta: 0.0,
            metric: None,
            tensorboard: false,
        }
    }
}

impl Control {
    /// Refuses numbers out of range.
    pub(crate) fn check(&self) -> Result<()> {
        let at_least_1 = [
            ("keep-checkpoints", Some(self.keep_checkpoints)),
            ("max-steps", self.max_steps),
            ("patience", self.patience),
        ];
        for (key, value) in at_least_1 {
            // A run file has signed numbers.
            if let Some(value) = value.filter(|value| *value == 0 || i64::try_from(*value).is_err())
            {
                let expected = "a whole number from 1 to 9223372036854775807";
                return Err(Error::Recipe { key, got: value.to_string(), expected });
            }
        }
        if !(self.min_delta >= 0.0 && self.min_delta.is_finite()) {
            let got = self.min_delta.to_string();
            return Err(Error::Recipe { key: "min-delta", got, expected: "a number from 0" });
        }
        if self.min_delta > 0.0 && self.patience.is_none() {
            let (got, expected) =
                (self.min_delta.to_string(), "left out where there is no patience");
            return Err(Error::Recipe { key: "min-delta", got, expected });
        }
        if !matches!(self.eval_every, Every::Epoch | Every::Steps(_)) {
            let (got, expected) = (self.eval_every.to_string(), "epoch or a number of steps");
            return Err(Error::Recipe { key: "eval-every", got, expected });
        }
        Ok(())
    }

    /// The score by which the best model is chosen, the higher the better: a loss or an error counts less than nothing.
    ///
    /// # Errors
    /// [`Error::UnknownMetric`] where the metrics have no score of that name.
    pub(crate) fn score(&self, metrics: &Metrics) -> Result<f64> {
        let Some(name) = &self.metric else { return Ok(metrics.main()) };
        Ok(sign(name) * metrics.named(name)?)
    }
}

impl Every {
    /// Whether it is time, so many steps and so long after the last time; `is_end` at the end of an epoch.
    pub(crate) fn is_due(self, steps: usize, time: Duration, is_end: bool) -> bool {
        match self {
            Self::Epoch => is_end,
            Self::Steps(every) => steps >= every,
            Self::Seconds(every) => is_end || time >= Duration::from_secs(every),
            Self::Never => false,
        }
    }
}

impl fmt::Display for Every {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Epoch => f.write_str("epoch"),
            Self::Steps(steps) => write!(f, "{steps}"),
            Self::Seconds(seconds) => write!(f, "{seconds}s"),
            Self::Never => f.write_str("never"),
        }
    }
}

impl FromStr for Every {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let number = |digits: &str| digits.parse().ok().filter(|number| *number > 0);
        let every = match (text, text.strip_suffix('s')) {
            ("epoch", _) => Some(Self::Epoch),
            ("never", _) => Some(Self::Never),
            (_, Some(seconds)) => number(seconds).map(|seconds| Self::Seconds(seconds as u64)),
            _ => number(text).map(Self::Steps),
        };
        every.ok_or_else(|| {
            format!("{text:?}: expected epoch, never, a number of steps (100), or of seconds (60s)")
        })
    }
}

impl TryFrom<Written> for Every {
    type Error = String;

    fn try_from(written: Written) -> std::result::Result<Self, String> {
        match written {
            Written::Number(steps) => steps.to_string().parse(),
            Written::Text(text) => text.parse(),
        }
    }
}

impl From<Every> for String {
    fn from(every: Every) -> Self {
        every.to_string()
    }
}

fn is_default_checkpoint(every: &Every) -> bool {
    *every == DEFAULT_CHECKPOINT
}

fn is_default_keep(keep: &usize) -> bool {
    *keep == DEFAULT_KEEP
}

fn is_epoch(every: &Every) -> bool {
    *every == Every::Epoch
}

fn is_zero(value: &f64) -> bool {
    *value == 0.0
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::metrics::RegressionMetrics;

    #[test]
    fn intervals_are_written_as_they_are_read() {
        let all = [Every::Epoch, Every::Never, Every::Steps(7), Every::Seconds(60)];
        for every in all {
            assert_eq!(every.to_string().parse(), Ok(every));
        }
        for wrong in ["", "0", "0s", "-1", "s", "epochs", "1.5s"] {
            assert!(wrong.parse::<Every>().is_err(), "{wrong}");
        }
        let control: Control = toml::from_str("eval_every = 5\ncheckpoint_every = \"9s\"").unwrap();
        assert_eq!(control.eval_every, Every::Steps(5));
        assert_eq!(control.checkpoint_every, Every::Seconds(9));
        assert_eq!(toml::to_string(&Control::default()).unwrap(), "");
    }

    #[test]
    fn what_is_due() {
        let (none, minute) = (Duration::ZERO, Duration::from_secs(60));
        assert!(Every::Epoch.is_due(0, none, true) && !Every::Epoch.is_due(9, minute, false));
        assert!(Every::Steps(3).is_due(3, none, false) && !Every::Steps(3).is_due(2, minute, true));
        let seconds = Every::Seconds(60);
        assert!(seconds.is_due(1, minute, false) && seconds.is_due(1, none, true));
        assert!(!seconds.is_due(1, none, false) && !Every::Never.is_due(9, minute, true));
    }

    #[test]
    fn errors_are_made_small() {
        let metrics = |mean_squared_error| {
            Metrics::Regression(RegressionMetrics {
                spearman: 0.5,
                pearson: 0.25,
                mean_squared_error,
                loss: 2.0,
            })
        };
        let by = |name: &str| Control { metric: Some(name.into()), ..Control::default() };
        let error = by("mean_squared_error");
        assert!(error.score(&metrics(1.0)).unwrap() > error.score(&metrics(2.0)).unwrap());
        assert_eq!(by("pearson").score(&metrics(1.0)).unwrap(), 0.25);
        assert_eq!(Control::default().score(&metrics(1.0)).unwrap(), 0.5);
        let error = by("f1").score(&metrics(1.0)).unwrap_err();
        assert!(error.is_bad_input() && error.to_string().contains("pearson"), "{error}");
    }

    #[test]
    fn numbers_out_of_range_are_refused() {
        let default = Control::default;
        let wrong = [
            (Control { keep_checkpoints: 0, ..default() }, "keep-checkpoints must be a whole"),
            (Control { max_steps: Some(0), ..default() }, "max-steps must be a whole"),
            (Control { patience: Some(0), ..default() }, "patience must be a whole"),
            (Control { min_delta: -1.0, ..default() }, "min-delta must be a number from 0, got -1"),
            (
                Control { min_delta: 0.5, ..default() },
                "min-delta must be left out where there is no patience, got 0.5",
            ),
            (Control { eval_every: Every::Never, ..default() }, "eval-every must be epoch or"),
        ];
        for (control, expected) in wrong {
            let error = control.check().unwrap_err();
            assert!(error.is_bad_input() && error.to_string().starts_with(expected), "{error}");
        }
    }
}
