//! The log of a run, `metrics.jsonl`, as a report reads it.

use std::path::Path;

use serde::Deserialize;
use serde_json::Map;

use crate::{
    agreement::Agreement,
    error::{Error, Result},
    metrics::Metrics,
};

/// What a run has logged so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct Log {
    pub(crate) steps: Vec<LoggedStep>,
    pub(crate) evaluations: Vec<LoggedEvaluation>,
    pub(crate) agreements: Vec<Agreement>,
}

/// A step.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct LoggedStep {
    /// From 1.
    pub(crate) step: usize,
    pub(crate) loss: f64,
    pub(crate) lr: f64,
    pub(crate) grad_norm: f64,
    /// Since the first batch.
    pub(crate) seconds: f64,
    /// Rows trained on so far.
    pub(crate) rows: Option<usize>,
    /// The loss of each of several tasks that the step had.
    #[serde(default)]
    pub(crate) losses: Map<String, serde_json::Value>,
}

/// An evaluation.
#[derive(Debug, Clone)]
pub(crate) struct LoggedEvaluation {
    /// The steps taken before.
    pub(crate) step: usize,
    pub(crate) dev: Metrics,
    /// Whether the model was better than at every earlier one.
    pub(crate) is_best: bool,
}

/// A line of an evaluation.
#[derive(Deserialize)]
struct EvaluationLine {
    dev: Metrics,
    best: bool,
}

/// A line that compares the gradients of tasks.
#[derive(Deserialize)]
struct AgreementLine {
    step: usize,
    gradient_cosines: Vec<Vec<f64>>,
    gradient_norms: Vec<f64>,
}

/// What a line is known by.
#[derive(Deserialize)]
struct Kind {
    dev: Option<serde::de::IgnoredAny>,
    gradient_cosines: Option<serde::de::IgnoredAny>,
    loss: Option<serde::de::IgnoredAny>,
}

impl Log {
    /// Reads the text of the log at `path`.
    ///
    /// # Errors
    /// [`Error::RunRecord`] for a line that no run writes.
    pub(crate) fn parse(path: &Path, text: &str) -> Result<Self> {
        let mut log = Self::default();
        for (number, line) in (1..).zip(text.lines()) {
            log.add(line).map_err(|error| Error::RunRecord {
                path: path.into(),
                reason: format!("line {number}: {error}"),
            })?;
        }
        Ok(log)
    }

    fn add(&mut self, line: &str) -> serde_json::Result<()> {
        let kind: Kind = serde_json::from_str(line)?;
        if kind.dev.is_some() {
            let EvaluationLine { dev, best } = serde_json::from_str(line)?;
            let step = self.steps.last().map_or(0, |step| step.step);
            self.evaluations.push(LoggedEvaluation { step, dev, is_best: best });
        } else if kind.gradient_cosines.is_some() {
            let AgreementLine { step, gradient_cosines, gradient_norms } =
                serde_json::from_str(line)?;
            let (cosines, norms) = (gradient_cosines, gradient_norms);
            self.agreements.push(Agreement { step, cosines, norms });
        } else if kind.loss.is_some() {
            self.steps.push(serde_json::from_str(line)?);
        }
        // Other lines are those of a later version.
        Ok(())
    }

    /// A number of each step, by the step.
    pub(crate) fn by_step(&self, of: impl Fn(&LoggedStep) -> Option<f64>) -> Vec<(f64, f64)> {
        self.steps.iter().filter_map(|step| Some((step.step as f64, of(step)?))).collect()
    }

    /// A number of each evaluation, by the step after which it was.
    pub(crate) fn by_evaluation(&self, of: impl Fn(&Metrics) -> Option<f64>) -> Vec<(f64, f64)> {
        let point = |at: &LoggedEvaluation| Some((at.step as f64, of(&at.dev)?));
        self.evaluations.iter().filter_map(point).collect()
    }

    /// Rows a second, over about a hundred parts of the run.
    pub(crate) fn throughput(&self) -> Vec<(f64, f64)> {
        let every = self.steps.len().div_ceil(100).max(1);
        let ends: Vec<&LoggedStep> = self
            .steps
            .iter()
            .enumerate()
            .filter(|(place, _)| (place + 1).is_multiple_of(every))
            .map(|(_, step)| step)
            .collect();
        // The time of the first step counts from the first batch.
        let (mut seconds, mut rows) = (0.0, 0);
        let mut points = vec![];
        for end in ends {
            let Some(rows_at_end) = end.rows else { continue };
            let (time, done) = (end.seconds - seconds, rows_at_end.saturating_sub(rows));
            if time > 0.0 {
                points.push((end.step as f64, done as f64 / time));
            }
            (seconds, rows) = (end.seconds, rows_at_end);
        }
        points
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const LINES: &str = r#"{"step":0,"tasks":["a","b"],"gradient_cosines":[[1.0,0.5],[0.5,1.0]],"gradient_norms":[1.0,2.0]}
{"step":1,"epoch":1,"loss":0.5,"lr":0.1,"grad_norm":2.0,"seconds":2.0,"rows":8,"losses":{"a":0.25}}
{"step":2,"epoch":1,"loss":0.25,"lr":0.05,"grad_norm":1.0,"seconds":3.0,"rows":16}
{"epoch":1,"train_loss":0.375,"dev":{"accuracy":0.5,"f1_macro":0.5,"f1_micro":0.5,"matthews":0.0,"loss":0.7},"best":true,"finished":[]}
{"note":"of another version"}
"#;

    #[test]
    fn lines_by_kind() {
        let log = Log::parse("metrics.jsonl".as_ref(), LINES).unwrap();
        assert_eq!(log.by_step(|step| Some(step.loss)), [(1.0, 0.5), (2.0, 0.25)]);
        assert_eq!(log.by_step(|step| step.losses.get("a")?.as_f64()), [(1.0, 0.25)]);
        assert_eq!(log.by_evaluation(|dev| dev.score("accuracy")), [(2.0, 0.5)]);
        assert_eq!((log.agreements[0].step, log.agreements[0].cosines[0][1]), (0, 0.5));
        // 8 rows in 2 s, then 8 in 1 s.
        assert_eq!(log.throughput(), [(1.0, 4.0), (2.0, 8.0)]);
    }

    #[test]
    fn a_damaged_line_is_named() {
        let text = format!("{LINES}{{\"step\":3,");
        let error = Log::parse("metrics.jsonl".as_ref(), &text).unwrap_err();
        assert!(error.to_string().contains("metrics.jsonl is damaged: line 6: EOF"), "{error}");
        assert_eq!(Log::parse("a".as_ref(), "").unwrap().steps.len(), 0);
    }
}
