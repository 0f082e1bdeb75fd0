//! What a run leaves for those who compare it: its score and its answers on the dev rows.

use std::{fs, path::Path};

use bert_core::write_atomically;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    error::{Error, Result},
    exact_json,
    metrics::{Metrics, exact_match},
    model_dir::Settings,
    report::write_page_of,
    run::{RUN_FILE, RunReport},
};

/// The report of a run, written last: where it is, the run has come to its end.
pub(crate) const REPORT_FILE: &str = "report.json";

/// What the best model of a run says of each dev row.
pub(crate) const PREDICTIONS_FILE: &str = "predictions.jsonl";

/// What a model says of a labelled row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AnsweredRow {
    /// The task, where there are several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// The line of the file on which the row starts, from 1.
    pub row: usize,
    /// The truth.
    pub gold: RowAnswer,
    /// The model's answer.
    pub predicted: RowAnswer,
    /// The probability of the answer, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probability: Option<f64>,
    /// The tokens of its text, after it was cut.
    pub tokens: usize,
    /// What was read, long texts shortened: a text, the two of a pair, or the words of a sentence.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub text: Vec<String>,
}

/// What a row is answered with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum RowAnswer {
    /// The label of a text.
    Label(String),
    /// A number.
    Number(f64),
    /// The tags of its words.
    Tags(Vec<String>),
    /// Any number of labels.
    Labels {
        /// Those that it has.
        labels: Vec<String>,
    },
    /// Parts of a text, each as good as another.
    Parts {
        /// None where the text does not answer.
        parts: Vec<String>,
    },
}

/// A score of a model and, where it has them, its answers.
#[derive(Debug, Clone, PartialEq)]
pub struct Score {
    /// What is measured, by the name of its key, after that of the task where it is one of several.
    pub metric: String,
    /// The score.
    pub value: f64,
    /// The rows that were measured on.
    pub rows: Vec<AnsweredRow>,
}

/// Which of a model's scores counts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ScoreChoice {
    /// The task of a model of several; without it, the mean over all.
    pub task: Option<String>,
    /// The name of the score; without it, that by which the best model was chosen.
    pub metric: Option<String>,
}

impl ScoreChoice {
    /// The name and the value of the score among those of the model in `path`, whose best was chosen by `own`.
    ///
    /// # Errors
    /// [`Error::UnknownTask`], [`Error::OneTask`] or [`Error::UnknownMetric`] where there is no such score.
    pub(crate) fn of(
        &self,
        path: &Path,
        metrics: &Metrics,
        own: Option<&str>,
    ) -> Result<(String, f64)> {
        let (metrics, own) = match (metrics, &self.task) {
            (Metrics::Tasks(tasks), Some(name)) => {
                let task = tasks.0.iter().find(|task| task.name == *name);
                let task = task.ok_or_else(|| Error::UnknownTask {
                    path: path.into(),
                    name: name.clone(),
                    known: tasks.0.iter().map(|task| task.name.clone()).collect(),
                })?;
                (&task.metrics, Some(task.metric.as_str()))
            }
            (_, Some(name)) => {
                return Err(Error::OneTask { path: path.into(), name: name.clone() });
            }
            (metrics, None) => (metrics, own),
        };
        let (metric, value) = match self.metric.as_deref().or(own) {
            Some(name) => (name.to_owned(), metrics.named(name)?),
            None => (metrics.main_name(), metrics.main()),
        };
        let of_task = |task: &String| format!("{task} {metric}");
        Ok((self.task.as_ref().map_or_else(|| metric.clone(), of_task), value))
    }
}

impl Score {
    /// The share of rows that are answered rightly; `None` where there is none.
    pub(crate) fn accuracy(&self) -> Option<f64> {
        let right = self.rows.iter().filter(|row| row.is_right()).count();
        (!self.rows.is_empty()).then(|| right as f64 / self.rows.len() as f64)
    }

    /// What always answering the commonest label would score; `None` where rows have no single label.
    pub(crate) fn majority(&self) -> Option<f64> {
        let mut labels: Vec<&str> =
            self.rows.iter().map(|row| row.gold.label()).collect::<Option<_>>()?;
        labels.sort_unstable();
        let most = labels.chunk_by(|one, other| one == other).map(<[_]>::len).max()?;
        Some(most as f64 / labels.len() as f64)
    }
}

impl RowAnswer {
    /// The label, where it is one.
    pub(crate) fn label(&self) -> Option<&str> {
        match self {
            Self::Label(label) => Some(label),
            _ => None,
        }
    }

    /// The tags, where it is some.
    pub(crate) fn tags(&self) -> Option<Vec<&str>> {
        match self {
            Self::Tags(tags) => Some(tags.iter().map(String::as_str).collect()),
            _ => None,
        }
    }

    /// The labels, where it is a set of them.
    pub(crate) fn labels(&self) -> Option<Vec<&str>> {
        match self {
            Self::Labels { labels } => Some(labels.iter().map(String::as_str).collect()),
            _ => None,
        }
    }

    /// The number, where it is one.
    pub(crate) fn number(&self) -> Option<f64> {
        match self {
            Self::Number(number) => Some(*number),
            _ => None,
        }
    }
}

impl AnsweredRow {
    pub(crate) fn is_right(&self) -> bool {
        match (&self.gold, &self.predicted) {
            (RowAnswer::Parts { parts: right }, RowAnswer::Parts { parts }) => {
                exact_match(parts.first().map_or("", String::as_str), right) == 1.0
            }
            (gold, predicted) => gold == predicted,
        }
    }
}

/// The report as it is written down.
#[derive(Serialize)]
struct Report<'a> {
    metric: String,
    value: f64,
    #[serde(flatten)]
    report: &'a RunReport,
}

/// The score of a report that was written down, by which its best model was chosen.
#[derive(Deserialize)]
struct OwnScore {
    metric: String,
    value: f64,
}

/// Writes what a run has come to, its answers, its page, and last its report; `own` is the score by which its best model was
/// chosen, where it is not the main one.
pub(crate) fn save_finished_run(
    out: &Path,
    report: &RunReport,
    own: Option<&str>,
    rows: &[AnsweredRow],
) -> Result<()> {
    let json = |value: serde_json::Result<String>| {
        value.expect("plain values under string keys") // INVARIANT: they are numbers, strings and lists of strings
    };
    let lines: String = rows.iter().map(|row| json(serde_json::to_string(row)) + "\n").collect();
    write_atomically(out.join(PREDICTIONS_FILE), lines.as_bytes())?;
    write_page_of(out, Some(report.clone()))?;
    let (metric, value) = ScoreChoice::default().of(out, &report.dev, own)?;
    let report = Report { metric, value, report };
    let report = json(serde_json::to_string_pretty(&report)) + "\n";
    Ok(write_atomically(out.join(REPORT_FILE), report.as_bytes())?)
}

/// Whether the run in `dir` has come to its end.
pub(crate) fn is_finished(dir: &Path) -> bool {
    dir.join(REPORT_FILE).exists()
}

/// The report of a run that has come to its end.
///
/// # Errors
/// [`Error::RunRecord`] where it can't be read.
pub(crate) fn finished_report(dir: &Path) -> Result<RunReport> {
    let path = dir.join(REPORT_FILE);
    let mut report: RunReport = exact_json::from_str(&read(&path)?)
        .map_err(|error| Error::RunRecord { path, reason: error.to_string() })?;
    let tasks = Settings::read(dir)?.map(|settings| settings.tasks).unwrap_or_default();
    for metrics in [&mut report.dev, &mut report.last] {
        metrics.judge_by(|name| {
            tasks.iter().find(|task| task.name == name).map(|task| task.metric.clone())
        });
    }
    Ok(report)
}

/// The settings that a run wrote down.
///
/// # Errors
/// [`Error::NoRun`] where there is none, [`Error::RunRecord`] where it can't be read.
pub(crate) fn run_settings(dir: &Path) -> Result<toml::Table> {
    let path = dir.join(RUN_FILE);
    if !path.exists() {
        return Err(Error::NoRun { path: dir.into() });
    }
    toml::from_str(&read(&path)?)
        .map_err(|error| Error::RunRecord { path, reason: error.message().to_owned() })
}

/// A score of the best model of the run in `dir`, on its dev rows.
///
/// # Errors
/// [`Error::RunUnfinished`] where the run has not come to its end, [`Error::RunRecord`] where its files are damaged, and where
/// it has no such score.
pub(crate) fn run_score(dir: &Path, choice: &ScoreChoice) -> Result<Score> {
    if !is_finished(dir) {
        return Err(Error::RunUnfinished { path: dir.into() });
    }
    let path = dir.join(REPORT_FILE);
    let OwnScore { metric, value } = parse(&path, &read(&path)?)?;
    let (metric, value) = match *choice == ScoreChoice::default() {
        true => (metric, value),
        false => choice.of(dir, &finished_report(dir)?.dev, Some(&metric))?,
    };
    let rows = answered_rows(dir)?.into_iter().filter(|row| row.task == choice.task).collect();
    Ok(Score { metric, value, rows })
}

/// What the best model of the run in `dir` says of each dev row; nothing before the run has come to its end.
///
/// # Errors
/// [`Error::RunRecord`] where the file is damaged.
pub(crate) fn answered_rows(dir: &Path) -> Result<Vec<AnsweredRow>> {
    let path = dir.join(PREDICTIONS_FILE);
    let lines = match path.exists() {
        true => read(&path)?,
        false => String::new(),
    };
    let row = |line: &str| {
        let row: AnsweredRow = parse(&path, line)?;
        match (row.gold.tags(), row.predicted.tags()) {
            (Some(gold), Some(predicted)) if gold.len() != predicted.len() => {
                let (gold, predicted) = (gold.len(), predicted.len());
                let reason = format!("row {} has {gold} tags and {predicted} answers", row.row);
                Err(Error::RunRecord { path: path.clone(), reason })
            }
            _ => Ok(row),
        }
    };
    lines.lines().map(row).collect()
}

pub(crate) fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(|source| Error::Read { path: path.into(), source })
}

fn parse<T: DeserializeOwned>(path: &Path, json: &str) -> Result<T> {
    let refuse = |error: serde_json::Error| Error::RunRecord {
        path: path.into(),
        reason: error.to_string(),
    };
    serde_json::from_str(json).map_err(refuse)
}
