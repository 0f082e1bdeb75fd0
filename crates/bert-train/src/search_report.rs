//! What a search comes to.

use std::{fmt, path::PathBuf};

use serde::Serialize;

use crate::search_config::in_words;

/// All trials of a search, the best first; its JSON is `search.json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SearchReport {
    /// The score by which the trials are ranked.
    pub metric: String,
    /// The trials, the best first, those that failed last.
    pub trials: Vec<Trial>,
    /// The directory of the best model; `None` where no trial has come to its end.
    pub best: Option<PathBuf>,
}

/// One trial.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Trial {
    /// Its number, from 0.
    pub trial: usize,
    /// The values of the keys that the search draws.
    pub settings: toml::Table,
    /// How it ended.
    #[serde(flatten)]
    pub state: TrialState,
    /// The score on dev of its best model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub score: Option<f64>,
    /// How long it was trained.
    pub seconds: f64,
    /// Its directory.
    pub path: PathBuf,
}

/// How a trial ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum TrialState {
    /// It came to its end.
    Finished,
    /// Others were better when it had been trained for a part of its run.
    Stopped {
        /// How long that was, in what the search counts.
        after: String,
    },
    /// It could not go on.
    Failed {
        /// Why.
        reason: String,
    },
}

impl SearchReport {
    /// Ranks the trials, each with the score by which it is, the higher the better.
    pub(crate) fn new(metric: String, mut trials: Vec<(Option<f64>, Trial)>) -> Self {
        let place = |(rank, trial): &(Option<f64>, Trial)| {
            (rank.is_none(), -rank.unwrap_or(0.0), trial.state != TrialState::Finished, trial.trial)
        };
        trials.sort_by(|one, other| {
            let ((no, rank, rested, trial), other) = (place(one), place(other));
            (no.cmp(&other.0))
                .then(rank.total_cmp(&other.1))
                .then(rested.cmp(&other.2))
                .then(trial.cmp(&other.3))
        });
        let trials: Vec<Trial> = trials.into_iter().map(|(_, trial)| trial).collect();
        let best = trials.iter().find(|trial| trial.state == TrialState::Finished);
        Self { metric, best: best.map(|trial| trial.path.clone()), trials }
    }
}

/// A table as a person reads it.
impl fmt::Display for SearchReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut keys = vec![];
        self.trials.iter().for_each(|trial| dotted("", &trial.settings, &mut keys));
        keys.sort_unstable();
        keys.dedup_by(|one, other| one.0 == other.0);
        let keys: Vec<String> = keys.into_iter().map(|(key, _)| key).collect();
        let mut rows = vec![];
        let head = ["trial", &self.metric].map(str::to_owned);
        rows.push(head.into_iter().chain(keys.iter().cloned()).chain(["seconds".into()]).collect());
        for trial in &self.trials {
            let mut own = vec![];
            dotted("", &trial.settings, &mut own);
            let value = |key: &String| {
                own.iter()
                    .find(|(own, _)| own == key)
                    .map_or("-".into(), |(_, value)| value.clone())
            };
            let score = trial.score.map_or("-".into(), |score| format!("{score:.4}"));
            let cells = [trial.trial.to_string(), score].into_iter().chain(keys.iter().map(value));
            let seconds = format!("{:.1}", trial.seconds);
            rows.push(cells.chain([seconds]).collect::<Vec<String>>());
        }
        let widths: Vec<usize> = (0..rows[0].len())
            .map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0))
            .collect();
        for (number, row) in rows.iter().enumerate() {
            let cells = row.iter().zip(&widths).map(|(cell, wide)| format!("{cell:>wide$}"));
            write!(f, "{}", cells.collect::<Vec<_>>().join("  "))?;
            match number.checked_sub(1).map(|trial| &self.trials[trial].state) {
                Some(TrialState::Stopped { after }) => write!(f, "  stopped after {after}")?,
                Some(TrialState::Failed { reason }) => write!(f, "  failed: {reason}")?,
                Some(TrialState::Finished) | None => {}
            }
            writeln!(f)?;
        }
        if let Some(best) = &self.best {
            writeln!(f, "the best model is in {}", best.display())?;
        }
        Ok(())
    }
}

/// The values of a table in words, under dotted keys.
fn dotted(prefix: &str, table: &toml::Table, into: &mut Vec<(String, String)>) {
    for (key, value) in table {
        match value {
            toml::Value::Table(inner) => dotted(&format!("{prefix}{key}."), inner, into),
            other => into.push((format!("{prefix}{key}"), in_words(other))),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn trial(trial: usize, settings: &str, state: TrialState, score: Option<f64>) -> Trial {
        let (settings, path) = (toml::from_str(settings).unwrap(), format!("out/trial-{trial}"));
        Trial { trial, settings, state, score, seconds: 1.25, path: path.into() }
    }

    fn report() -> SearchReport {
        let failed = TrialState::Failed { reason: "the loss is NaN at step 3".into() };
        let stopped = TrialState::Stopped { after: "1 epoch".into() };
        let trials = vec![
            (None, trial(0, "lr = 0.5\npooling = 'max'", failed, None)),
            (Some(-0.5), trial(1, "lr = 0.0003162\npooling = 'mean'", stopped, Some(0.5))),
            (Some(-0.25), trial(2, "lr = 0.02", TrialState::Finished, Some(0.25))),
            (Some(-0.25), trial(3, "lr = 0.02\na.b = 7", TrialState::Finished, Some(0.25))),
        ];
        SearchReport::new("loss".into(), trials)
    }

    #[test]
    fn the_table_has_the_best_first_and_says_what_failed() {
        let expected = "\
trial    loss  a.b        lr  pooling  seconds
    2  0.2500    -      0.02        -      1.2
    3  0.2500    7      0.02        -      1.2
    1  0.5000    -  3.162e-4     mean      1.2  stopped after 1 epoch
    0       -    -       0.5      max      1.2  failed: the loss is NaN at step 3
the best model is in out/trial-2
";
        assert_eq!(report().to_string(), expected);
    }

    #[test]
    fn json_has_a_row_a_trial() {
        let json = serde_json::to_value(report()).unwrap();
        assert_eq!(json["metric"], "loss");
        assert_eq!(json["best"], "out/trial-2");
        assert_eq!(json["trials"][1]["settings"]["a"]["b"], 7);
        assert_eq!(json["trials"][2]["state"], "stopped");
        assert_eq!(json["trials"][2]["after"], "1 epoch");
        assert_eq!(json["trials"][3]["reason"], "the loss is NaN at step 3");
        assert!(json["trials"][3].get("score").is_none());
    }

    #[test]
    fn where_all_failed_there_is_no_best() {
        let failed = TrialState::Failed { reason: "the loss is NaN at step 3".into() };
        let report = SearchReport::new("loss".into(), vec![(None, trial(0, "", failed, None))]);
        assert_eq!(report.best, None);
    }
}
