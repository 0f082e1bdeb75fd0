//! What a search remembers of a trial, in `trial.json`.

use std::{fs, path::Path};

use bert_core::write_atomically;
use serde::{Deserialize, Serialize};

use crate::{
    control::Control,
    error::{Error, Result},
    exact_json,
    fingerprint::Fingerprint,
    metrics::Metrics,
    search_config::Method,
    trial_config::TrialConfig,
};

/// The file in a trial's directory.
pub(crate) const JOURNAL_FILE: &str = "trial.json";

/// What a search remembers of a trial.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Journal {
    /// None before its first step.
    pub(crate) origin: Option<Origin>,
    pub(crate) rungs: Vec<Rung>,
    pub(crate) failure: Option<Failure>,
}

/// What a trial's scores are of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Origin {
    /// How the search shares the work, as its file says it.
    pub(crate) method: String,
    pub(crate) fingerprint: Fingerprint,
}

impl Origin {
    /// The first difference to a trial of this method as it would be now, in words.
    pub(crate) fn difference(
        &self,
        method: &Method,
        config: &TrialConfig,
    ) -> Result<Option<String>> {
        let method = method.to_string();
        if self.method != method {
            return Ok(Some(format!("method was {} and is {method}", self.method)));
        }
        Ok(self.fingerprint.difference(&config.fingerprint()?))
    }
}

/// How good a trial was when it had been trained so long.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Rung {
    pub(crate) length: usize,
    pub(crate) score: Score,
}

/// Why a trial could not go on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Failure {
    pub(crate) reason: String,
    pub(crate) seconds: f64,
}

/// The score of a trial's best model so far.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Score {
    pub(crate) metric: String,
    pub(crate) value: f64,
    /// The higher the better, also of a loss.
    pub(crate) rank: f64,
    /// How long it was trained.
    pub(crate) seconds: f64,
}

impl Score {
    pub(crate) fn new(dev: &Metrics, control: &Control, seconds: f64) -> Result<Self> {
        let rank = control.score(dev)?;
        let (metric, value) = match &control.metric {
            Some(name) => (name.clone(), dev.score(name).unwrap_or(rank)),
            None => (dev.main_name(), dev.main()),
        };
        Ok(Self { metric, value, rank, seconds })
    }
}

impl Journal {
    pub(crate) fn at(&self, length: usize) -> Option<&Rung> {
        self.rungs.iter().find(|rung| rung.length == length)
    }

    pub(crate) fn read(path: &Path) -> Result<Self> {
        if !path.exists() {
            return Ok(Self::default());
        }
        let text =
            fs::read_to_string(path).map_err(|source| Error::Read { path: path.into(), source })?;
        exact_json::from_str(&text)
            .map_err(|error| Error::RunRecord { path: path.into(), reason: error.to_string() })
    }

    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let json = serde_json::to_string(self).expect("plain values under string keys"); // INVARIANT: they are numbers and strings
        Ok(write_atomically(path, json.as_bytes())?)
    }
}
