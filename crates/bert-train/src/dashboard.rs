//! A run on the whole terminal: curves, scores and the time left, drawn by Burn's renderer.

use std::collections::HashSet;
#[cfg(unix)]
use std::{fs::File, io};

use bert_core::NamedTensor;
use burn_train::{
    Interrupter,
    metric::{
        MetricAttributes, MetricDefinition, MetricEntry, MetricId, NumericAttributes, NumericEntry,
        SerializedEntry,
    },
    renderer::{MetricState, MetricsRenderer, default_renderer},
};

use crate::{
    check::Check,
    error::Result,
    metrics::is_error,
    observer::{EpochReport, Observer, StepReport},
    progress::{Progress, told_check, told_epoch},
};

/// Shows a run on the terminal that standard output is, from its first step on; what [`Progress`] says in that time is
/// written to standard error when the screen is given back.
///
/// `q` asks whether the run is to end, after the step under way and with a checkpoint (`s`) or at once (`k`, a panic);
/// Ctrl-C ends it as it does elsewhere. Where standard output is no terminal, Burn's renderer writes lines of its own.
///
/// # Source
/// <https://github.com/tracel-ai/burn/tree/v0.22.1/crates/burn-train/src/renderer/tui>
pub struct Dashboard {
    progress: Progress,
    /// What is to be written when the screen is given back.
    said: Vec<String>,
    screen: Option<Screen>,
}

impl Dashboard {
    /// A dashboard that ends where `progress` would.
    pub fn new(progress: Progress) -> Self {
        Self { progress, said: vec![], screen: None }
    }

    fn say(&mut self, text: String) {
        match self.screen {
            Some(_) => self.said.push(text),
            None => self.progress.say(&text),
        }
    }

    /// Gives the screen back.
    fn close(&mut self) {
        self.screen = None;
        self.said.drain(..).for_each(|text| self.progress.say(&text));
    }
}

impl Observer for Dashboard {
    fn notice(&mut self, text: &str) {
        self.say(text.to_owned());
    }

    fn checked(&mut self, check: &Check) -> Result<()> {
        // The first step of another run.
        self.close();
        told_check(check).into_iter().for_each(|text| self.say(text));
        Ok(())
    }

    fn step(&mut self, report: &StepReport) {
        self.screen.get_or_insert_with(|| Screen::of_run(report)).step(report);
    }

    fn epoch(
        &mut self,
        report: &EpochReport,
        _parameters: &dyn Fn() -> Vec<NamedTensor>,
    ) -> Result<()> {
        self.say(told_epoch(report));
        if let Some(screen) = &mut self.screen {
            screen.evaluation(report);
        }
        Ok(())
    }

    fn command(&self) -> Vec<String> {
        self.progress.command()
    }

    fn is_interrupted(&self) -> bool {
        let is_stopped = |screen: &Screen| screen.interrupter.should_stop();
        self.progress.is_interrupted() || self.screen.as_ref().is_some_and(is_stopped)
    }
}

impl Drop for Dashboard {
    fn drop(&mut self) {
        self.close();
    }
}

/// The screen of one run.
struct Screen {
    renderer: Box<dyn MetricsRenderer>,
    interrupter: Interrupter,
    /// The metrics that the renderer knows.
    known: HashSet<String>,
    epoch: usize,
    steps_per_epoch: usize,
}

/// Whose value it is.
#[derive(Clone, Copy)]
enum Split {
    Train,
    Dev,
}

impl Screen {
    /// The screen of a run whose first step, of this process, was this.
    fn of_run(report: &StepReport) -> Self {
        let interrupter = Interrupter::new();
        let mut renderer = default_renderer(interrupter.clone(), Some(report.epoch - 1));
        let steps_per_epoch = report.total_steps.div_ceil(report.epochs.max(1));
        let items = Some(steps_per_epoch);
        renderer.start(report.epochs, report.epoch, items, Some("an item is a step"));
        Self { renderer, interrupter, known: HashSet::new(), epoch: report.epoch, steps_per_epoch }
    }

    fn step(&mut self, report: &StepReport) {
        #[cfg(unix)]
        let_signals_through();
        if report.epoch != self.epoch {
            self.epoch = report.epoch;
            self.renderer.end_split();
            self.renderer.update_epoch(report.epoch - 1);
            self.renderer.start_split("train", self.steps_per_epoch);
        }
        let before = (report.epoch - 1) * self.steps_per_epoch;
        let speed = report.rows as f64 / report.elapsed.as_secs_f64();
        self.show(Split::Train, "loss", report.loss, format!("{:.4}", report.loss));
        let norm = report.grad_norm;
        self.show(Split::Train, "gradient norm", norm, format!("{norm:.4}"));
        let rate = report.learning_rate;
        self.show(Split::Train, "learning rate", rate, format!("{rate:.2e}"));
        self.show(Split::Train, "examples/s", speed, format!("{speed:.1}"));
        let place = (report.step + 1).saturating_sub(before);
        self.renderer.update_split(place.min(self.steps_per_epoch));
    }

    fn evaluation(&mut self, report: &EpochReport) {
        for (name, value) in report.dev.flattened() {
            self.show(Split::Dev, &name, value, format!("{value:.4}"));
        }
    }

    fn show(&mut self, split: Split, name: &str, value: f64, formatted: String) {
        let id = MetricId::new(name.to_owned().into());
        if self.known.insert(name.to_owned()) {
            let higher_is_better = !is_error(name);
            self.renderer.register_metric(MetricDefinition {
                metric_id: id.clone(),
                name: name.to_owned().into(),
                description: None,
                attributes: MetricAttributes::Numeric(NumericAttributes {
                    unit: None,
                    higher_is_better,
                }),
            });
        }
        let entry = MetricEntry::new(id, SerializedEntry::new(formatted, value.to_string()));
        let state = MetricState::Numeric(entry, Some(NumericEntry::Value(value)));
        match split {
            Split::Train => self.renderer.update_train(state),
            Split::Dev => self.renderer.update_valid(state),
        }
    }
}

/// Has the terminal turn Ctrl-C into its signal again, which it does not do once the renderer reads its keys.
#[cfg(unix)]
fn let_signals_through() {
    use rustix::termios::{LocalModes, OptionalActions, isatty, tcgetattr, tcsetattr};
    let set = |terminal: &dyn std::os::fd::AsFd| {
        // A terminal that can't be asked has no keys either.
        let Ok(mut modes) = tcgetattr(terminal.as_fd()) else { return };
        if !modes.local_modes.contains(LocalModes::ISIG) {
            modes.local_modes.insert(LocalModes::ISIG);
            let _ = tcsetattr(terminal.as_fd(), OptionalActions::Now, &modes);
        }
    };
    // As the renderer finds its keys.
    match isatty(io::stdin()) {
        true => set(&io::stdin()),
        false => {
            if let Ok(terminal) = File::open("/dev/tty") {
                set(&terminal);
            }
        }
    }
}
