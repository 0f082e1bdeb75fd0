//! A run as a person follows it: one live line on a terminal, plain lines elsewhere.

use std::{
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bert_core::NamedTensor;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::{
    check::Check,
    error::Result,
    observer::{EpochReport, Observer, StepReport},
};

/// How often a plain line is written where there is no terminal.
const PLAIN_INTERVAL: Duration = Duration::from_secs(10);

/// Writes to standard error how a run goes: loss, learning rate, examples per second and time left.
#[derive(Debug)]
pub struct Progress {
    line: ProgressBar,
    /// When the last plain line was written, since the first batch.
    written: Duration,
    /// The mean loss of the run's steps since its last epoch, weighted towards the latest.
    loss: Option<f64>,
    /// Set where the run is to end.
    interrupt: Option<Arc<AtomicBool>>,
    /// The program with its arguments.
    command: Vec<String>,
}

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}

impl Progress {
    /// Progress on standard error.
    pub fn new() -> Self {
        let line = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
        line.set_style(
            ProgressStyle::with_template("{wide_bar} {pos}/{len} {msg}")
                .unwrap_or_else(|_| ProgressStyle::default_bar()),
        );
        Self { line, written: Duration::ZERO, loss: None, interrupt: None, command: vec![] }
    }

    /// Ends the run after the step in which `flag` becomes true.
    pub fn until(mut self, flag: Arc<AtomicBool>) -> Self {
        self.interrupt = Some(flag);
        self
    }

    /// Runs that are made by this program, with its arguments.
    pub fn of_command(mut self, command: Vec<String>) -> Self {
        self.command = command;
        self
    }

    /// A line of its own, above the live one where there is one.
    pub(crate) fn say(&self, text: &str) {
        if self.line.is_hidden() {
            // Nothing can be done about a closed standard error, and a run must not end for it.
            let _ = writeln!(io::stderr(), "{text}");
        } else {
            self.line.println(text);
        }
    }
}

impl Observer for Progress {
    fn notice(&mut self, text: &str) {
        self.say(text);
    }

    fn checked(&mut self, check: &Check) -> Result<()> {
        // The first step of another run.
        self.loss = None;
        told_check(check).iter().for_each(|text| self.say(text));
        Ok(())
    }

    fn step(&mut self, report: &StepReport) {
        let loss = self.loss.map_or(report.loss, |mean| 0.95 * mean + 0.05 * report.loss);
        self.loss = Some(loss);
        let seconds = report.elapsed.as_secs_f64();
        let done = report.step + 1;
        let left = seconds / done as f64 * (report.total_steps - done) as f64;
        let message = format!(
            "epoch {}  loss {loss:.4}  lr {:.2e}  {:.1} examples/s  {} left",
            report.epoch,
            report.learning_rate,
            report.rows as f64 / seconds,
            clock(left)
        );
        if self.line.is_hidden() {
            // Of several runs, the next may have taken less time so far than the one before.
            if report.step == 0 || report.elapsed.abs_diff(self.written) >= PLAIN_INTERVAL {
                self.written = report.elapsed;
                self.say(&format!("step {done}/{}  {message}", report.total_steps));
            }
        } else {
            self.line.set_length(report.total_steps as u64);
            self.line.set_position(done as u64);
            self.line.set_message(message);
        }
    }

    fn epoch(
        &mut self,
        report: &EpochReport,
        _parameters: &dyn Fn() -> Vec<NamedTensor>,
    ) -> Result<()> {
        self.say(&told_epoch(report));
        self.loss = None;
        Ok(())
    }

    fn command(&self) -> Vec<String> {
        self.command.clone()
    }

    fn is_interrupted(&self) -> bool {
        self.interrupt.as_ref().is_some_and(|flag| flag.load(Ordering::Relaxed))
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.line.finish_and_clear();
    }
}

/// What a person is told of the check.
pub(crate) fn told_check(check: &Check) -> Vec<String> {
    let warnings = check.warnings.iter().map(|warning| format!("warning: {warning}"));
    std::iter::once(check.summary()).chain(warnings).collect()
}

/// What a person is told of an evaluation.
pub(crate) fn told_epoch(report: &EpochReport) -> String {
    format!(
        "epoch {}{}: training loss {:.4}; dev: {}{}",
        report.epoch,
        report.within.map_or(String::new(), |step| format!(", step {step}")),
        report.train_loss,
        report.dev,
        if report.best { " (best so far)" } else { "" }
    )
}

/// Seconds as `1:02:03` or `2:03`.
fn clock(seconds: f64) -> String {
    let seconds = seconds.round() as u64;
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 {
        format!("{hours}:{minutes:02}:{seconds:02}")
    } else {
        format!("{minutes}:{seconds:02}")
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// One line follows several runs; the second was broken off before the first of them was.
    #[test]
    fn a_run_that_goes_on_may_be_younger_than_the_one_before() {
        let mut progress = Progress::new();
        progress.line = ProgressBar::hidden();
        let report = |step, seconds| StepReport {
            step,
            total_steps: 9,
            epoch: 1,
            epochs: 1,
            loss: 0.5,
            losses: vec![],
            learning_rate: 0.1,
            grad_norm: 1.0,
            rows: 8,
            elapsed: Duration::from_secs(seconds),
        };
        progress.step(&report(0, 100));
        progress.step(&report(5, 20));
        assert_eq!(progress.written, Duration::from_secs(20));
    }

    /// The check of the first step comes before what the step says.
    #[test]
    fn the_loss_of_a_run_begins_with_its_own() {
        let mut progress = Progress::new();
        progress.line = ProgressBar::hidden();
        progress.loss = Some(9.0);
        let memory = serde_json::json!({
            "parameters": 1, "gradients": 1, "optimizer_state": 2, "best_model": 1, "average": 0, "activations": 9,
            "free": null, "total": null,
        });
        let plan = serde_json::json!({
            "steps": 9, "warmup_steps": 0, "seconds": 1.0, "rows": 9, "cut_rows": 0, "mean_tokens": 3.0, "most_tokens": 5,
            "memory": memory,
        });
        let check = serde_json::json!({ "step": 1, "groups": [], "plan": plan, "warnings": [] });
        let check = serde_json::from_value(check).unwrap();
        progress.checked(&check).unwrap();
        assert_eq!(progress.loss, None);
    }

    #[test]
    fn clock_shows_hours_where_there_are_some() {
        assert_eq!(clock(0.4), "0:00");
        assert_eq!(clock(59.6), "1:00");
        assert_eq!(clock(3723.0), "1:02:03");
    }
}
