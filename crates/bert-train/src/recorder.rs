//! What a run writes as it goes on: its log, the best model, checkpoints.

use std::path::Path;

use bert_core::{NamedTensor, write_atomically};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{
    adapter::Adapter,
    agreement::Agreement,
    check::Check,
    checkpoints::Checkpoints,
    error::Result,
    model_dir::save_parameters,
    observer::{EpochReport, Observer, Reached, StepReport},
    report::{LOG_FILE, LoggedStep, log_of},
    tensorboard::EventFile,
    training_state::Snapshot,
};

/// What the check of the first step found.
pub(crate) const CHECK_FILE: &str = "check.json";

/// Writes the log and the best model as the run goes on.
pub(crate) struct Recorder<'a> {
    out: &'a Path,
    record: Record,
    /// The tasks by head, where there are several.
    tasks: Vec<String>,
    checkpoints: Checkpoints,
    adapter: Option<Adapter>,
    /// Where TensorBoard is to read the run.
    events: Option<EventFile>,
    observer: &'a mut dyn Observer,
}

/// What a run has written down so far.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Record {
    /// The lines of the log.
    log: String,
}

impl<'a> Recorder<'a> {
    /// A recorder that goes on with `record`.
    pub(crate) fn new(
        out: &'a Path,
        record: Record,
        tasks: Vec<String>,
        checkpoints: Checkpoints,
        observer: &'a mut dyn Observer,
    ) -> Self {
        Self { out, record, tasks, checkpoints, adapter: None, events: None, observer }
    }

    /// The same recorder, which writes adapters beside the model.
    pub(crate) fn with_adapter(self, adapter: Option<Adapter>) -> Self {
        Self { adapter, ..self }
    }

    fn save_model(&self, parameters: Vec<NamedTensor>) -> Result<()> {
        match &self.adapter {
            Some(adapter) => adapter.save(self.out, parameters),
            None => save_parameters(self.out, &parameters),
        }
    }

    /// The same, which also writes a file of events where that is wanted.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(crate) fn with_events(mut self, are_wanted: bool) -> Result<Self> {
        if are_wanted {
            self.events = Some(EventFile::begin(self.out, &log_of(self.out, &self.record.log)?)?);
        }
        Ok(self)
    }

    pub(crate) fn write(&mut self) -> Result<()> {
        if let Some(events) = &mut self.events {
            events.flush()?;
        }
        Ok(write_atomically(self.out.join(LOG_FILE), self.record.log.as_bytes())?)
    }

    fn log(&mut self, line: serde_json::Value) {
        self.record.log += &line.to_string();
        self.record.log.push('\n');
    }
}

impl Observer for Recorder<'_> {
    fn agreement(&mut self, agreement: &Agreement) {
        self.log(json!({
            "step": agreement.step,
            "tasks": self.tasks,
            "gradient_cosines": agreement.cosines,
            "gradient_norms": agreement.norms,
        }));
        self.observer.agreement(agreement);
    }

    fn notice(&mut self, text: &str) {
        self.observer.notice(text);
    }

    fn checked(&mut self, check: &Check) -> Result<()> {
        let json = serde_json::to_string_pretty(check).expect("plain values under string keys"); // INVARIANT: they are numbers, strings and lists of them
        write_atomically(self.out.join(CHECK_FILE), (json + "\n").as_bytes())?;
        self.observer.checked(check)
    }

    fn step(&mut self, report: &StepReport) {
        let mut line = json!({
            "step": report.step + 1,
            "epoch": report.epoch,
            "loss": report.loss,
            "lr": report.learning_rate,
            "grad_norm": report.grad_norm,
            "seconds": report.elapsed.as_secs_f64(),
            "rows": report.rows,
        });
        if !self.tasks.is_empty() {
            let losses = report.losses.iter();
            let losses = losses.map(|(head, loss)| (self.tasks[*head].clone(), json!(loss)));
            line["losses"] = serde_json::Value::Object(losses.collect());
        }
        if let Some(events) = &mut self.events
            && let Ok(step) = LoggedStep::deserialize(&line)
        {
            events.step(&step);
        }
        self.log(line);
        self.observer.step(report);
    }

    fn epoch(
        &mut self,
        report: &EpochReport,
        parameters: &dyn Fn() -> Vec<NamedTensor>,
    ) -> Result<()> {
        let mut line = json!({
            "epoch": report.epoch,
            "train_loss": report.train_loss,
            "dev": report.dev,
            "best": report.best,
            "finished": report.finished.iter().map(|head| &self.tasks[*head]).collect::<Vec<_>>(),
        });
        let mut told = None;
        if !report.weights.is_empty() {
            let weights = || self.tasks.iter().zip(&report.weights);
            let by_task = weights().map(|(task, weight)| (task.clone(), json!(weight)));
            line["weights"] = serde_json::Value::Object(by_task.collect());
            let words = weights().map(|(task, weight)| format!("{task} {weight:.3}"));
            told = Some(words.collect::<Vec<_>>().join(", "));
        }
        self.log(line);
        if let Some(events) = &mut self.events {
            events.evaluation(&report.dev);
        }
        for head in &report.finished {
            self.observer.notice(&format!(
                "task {} is finished: its score was no better for as many epochs as its patience says, and it is trained no more",
                self.tasks[*head]
            ));
        }
        if report.best {
            self.save_model(parameters())?;
        }
        self.write()?;
        self.observer.epoch(report, parameters)?;
        if let Some(weights) = told {
            self.observer.notice(&format!("what each task's loss counts: {weights}"));
        }
        Ok(())
    }

    fn resume(&mut self, best: &dyn Fn() -> Vec<NamedTensor>) -> Result<()> {
        // What is there may be of an epoch after the checkpoint.
        self.save_model(best())?;
        self.observer.resume(best)
    }

    fn checkpoint(&mut self, snapshot: &Snapshot) -> Result<()> {
        self.checkpoints.write(snapshot, &self.record)?;
        // So that a run under way can be looked at.
        self.write()?;
        self.observer.checkpoint(snapshot)
    }

    fn rests(&mut self, reached: &Reached<'_>) -> Result<bool> {
        self.observer.rests(reached)
    }

    fn is_interrupted(&self) -> bool {
        self.observer.is_interrupted()
    }
}
