//! A run as a page, `report.html`, made of the files that a run leaves: at its end, or at any time.

mod answers;
mod calibration;
mod chart;
mod comparison;
mod curves;
mod log;
mod page;
mod parameters;
mod tasks;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use bert_core::write_atomically;

pub use comparison::write_comparison;

use crate::{
    about::{About, Session, as_typed},
    check::Check,
    error::{Error, Result},
    finished_run::{AnsweredRow, answered_rows, finished_report, is_finished, read, run_settings},
    html::escaped,
    metrics::Metrics,
    model_dir::Settings,
    recorder::CHECK_FILE,
    run::{RUN_FILE, RunReport},
};

use answers::{lengths, of_answers};
use curves::{of_run, of_steps};
#[cfg(test)]
pub(crate) use log::LoggedEvaluation;
pub(crate) use log::{Log, LoggedStep};
use page::{Columns, Page, count, duration, facts, table};
use parameters::parameters;

/// The page in a run's directory.
pub(crate) const PAGE_FILE: &str = "report.html";

/// The log in a run's directory.
pub(crate) const LOG_FILE: &str = "metrics.jsonl";

/// Makes the page of the run in `dir` anew from its files, and says where it is: `to`, or `report.html` in `dir`. A run that is
/// under way, or broke off, has what it has written so far.
///
/// # Errors
/// [`Error::NoRun`] where there is no run, [`Error::RunRecord`] where its files are damaged.
pub fn write_report(dir: &Path, to: Option<&Path>) -> Result<PathBuf> {
    let report = if is_finished(dir) { Some(finished_report(dir)?) } else { None };
    let path = to.map_or_else(|| dir.join(PAGE_FILE), Path::to_owned);
    write_atomically(&path, RunFiles::read(dir, report)?.page().to_html().as_bytes())?;
    Ok(path)
}

/// Makes the page of the run in `dir`, which has come to its end with this report or has not come to it.
pub(crate) fn write_page_of(dir: &Path, report: Option<RunReport>) -> Result<()> {
    let html = RunFiles::read(dir, report)?.page().to_html();
    Ok(write_atomically(dir.join(PAGE_FILE), html.as_bytes())?)
}

/// What lies in a run's directory.
struct RunFiles {
    name: String,
    run_file: String,
    settings: toml::Table,
    log: Log,
    rows: Vec<AnsweredRow>,
    about: About,
    /// Where the run has come to its first step.
    check: Option<Check>,
    /// Where the run has come to its end.
    report: Option<RunReport>,
}

impl RunFiles {
    fn read(dir: &Path, report: Option<RunReport>) -> Result<Self> {
        let settings = run_settings(dir)?;
        let log = read_log(dir)?;
        let rows = if report.is_some() { answered_rows(dir)? } else { vec![] };
        Ok(Self {
            name: name_of(dir),
            run_file: read(&dir.join(RUN_FILE))?,
            settings,
            log,
            rows,
            about: About::read(dir).unwrap_or_default(),
            check: read(&dir.join(CHECK_FILE))
                .ok()
                .and_then(|text| serde_json::from_str(&text).ok()),
            report,
        })
    }

    fn page(&self) -> Page {
        let mut page = Page::new(&self.name, self.top());
        // Where tasks have been measured, or the run has come to the first measurement.
        let tasks: Vec<String> = match self.log.evaluations.last().map(|last| &last.dev) {
            Some(Metrics::Tasks(tasks)) => tasks.0.iter().map(|task| task.name.clone()).collect(),
            _ => vec![],
        };
        let clip = self.settings.get("max_grad_norm").and_then(toml::Value::as_float);
        page.add("Training", of_run(&self.log, clip));
        page.add("Scores on dev", self.scores());
        let report = self.report.as_ref();
        page.add("Together against alone", report.map(tasks::comparisons).unwrap_or_default());
        page.add(
            "How the gradients of the tasks agree",
            tasks::agreement(&tasks, &self.log.agreements),
        );
        for task in &tasks {
            let of_task = |row: &&AnsweredRow| row.task.as_ref() == Some(task);
            let rows: Vec<&AnsweredRow> = self.rows.iter().filter(of_task).collect();
            let mut html = of_steps(&self.log, Some(task));
            if !rows.is_empty() {
                html += &of_answers(&rows);
            }
            page.add(&format!("Task {task}"), html);
        }
        let rows: Vec<&AnsweredRow> = self.rows.iter().filter(|row| row.task.is_none()).collect();
        if !rows.is_empty() {
            page.add("Answers on dev", of_answers(&rows));
        }
        page.add("Lengths", self.lengths());
        page.add("Parameters", self.check.as_ref().map(parameters).unwrap_or_default());
        page.add("How it was made", self.making());
        page
    }

    fn top(&self) -> String {
        let text = |key: &str| Some(self.settings.get(key)?.as_str()?.to_owned());
        let mut words = vec![match (self.report.is_some(), self.log.steps.last()) {
            (true, _) => "This run has come to its end.".to_owned(),
            (false, Some(step)) => format!(
                "This run has not come to its end: here is what it had written down after step {}.",
                count(step.step)
            ),
            (false, None) => {
                "This run has not come to its first evaluation or checkpoint.".to_owned()
            }
        }];
        if let Some(model) = text("model") {
            words.push(format!("It started from {model}."));
        }
        let mut values = vec![];
        let best = self.log.evaluations.iter().rfind(|evaluation| evaluation.is_best);
        if let Some(best) = best {
            // That by which the best model was chosen.
            let own = text("metric").and_then(|name| Some((best.dev.score(&name)?, name)));
            let (score, name) = match (&best.dev, own) {
                (_, Some((score, name))) => (score, format!("{name} on dev")),
                (Metrics::Tasks(tasks), None) => (tasks.main(), "mean score on dev".to_owned()),
                (dev, None) => (dev.main(), format!("{} on dev", dev.main_name())),
            };
            values.push((name.replace('_', " "), format!("{score:.4}")));
            values.push(("loss on dev".to_owned(), format!("{:.4}", best.dev.loss())));
            values.push(("best after step".to_owned(), count(best.step)));
        }
        if let Some(last) = self.log.steps.last() {
            values.push(("steps".to_owned(), count(last.step)));
            let seconds = self.report.as_ref().map_or(last.seconds, |report| report.train_seconds);
            values.push(("trained for".to_owned(), duration(seconds)));
            let rate = last.rows.map(|rows| rows as f64 / last.seconds);
            let rate = self.report.as_ref().map(|report| report.examples_per_second).or(rate);
            if let Some(rate) = rate {
                values.push(("rows a second".to_owned(), format!("{rate:.1}")));
            }
        }
        let values: Vec<(&str, String)> =
            values.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
        let boxes = if values.is_empty() { String::new() } else { facts(&values) };
        format!("<p>{}</p>\n{boxes}", escaped(&words.join(" ")))
    }

    /// The scores of the best model and of the last.
    fn scores(&self) -> String {
        let best = self.log.evaluations.iter().rfind(|evaluation| evaluation.is_best);
        let (Some(best), Some(last)) = (best, self.log.evaluations.last()) else {
            return String::new();
        };
        if let (Metrics::Tasks(best), Metrics::Tasks(last)) = (&best.dev, &last.dev) {
            return tasks::scores(best, last);
        }
        let row = |(name, score): (&'static str, f64)| {
            let at_end = last.dev.score(name).map_or("-".to_owned(), |score| format!("{score:.4}"));
            vec![name.replace('_', " "), format!("{score:.4}"), at_end]
        };
        let rows: Vec<Vec<String>> = best.dev.by_name().into_iter().map(row).collect();
        table(Columns::Numbers, &["score", "best model", "last"], &rows)
    }

    fn lengths(&self) -> String {
        let mut dev: BTreeMap<usize, usize> = BTreeMap::new();
        // A row that serves several tasks counts once a task, as it does in their scores.
        self.rows.iter().for_each(|row| *dev.entry(row.tokens).or_default() += 1);
        let sets = [("training", &self.about.train_lengths), ("dev", &dev)];
        let chart =
            lengths("Share of the rows by length in tokens", &sets.map(|(name, set)| (name, set)));
        if chart.is_empty() { chart } else { format!("<div class=\"charts\">{chart}</div>") }
    }

    fn making(&self) -> String {
        let mut html = String::new();
        for (place, session) in self.about.sessions.iter().enumerate() {
            let Session { after_step, command, device, version, burn } = session;
            let what = match (place, after_step) {
                (0, _) => "Started".to_owned(),
                (_, step) => format!("Went on after step {}", count(*step)),
            };
            html += &format!(
                "<p>{what} by bert-tune {} on Burn {}, device {}.</p>\n",
                escaped(version),
                escaped(burn),
                escaped(device)
            );
            if !command.is_empty() {
                html += &format!("<pre class=\"wrap\">{}</pre>\n", escaped(&as_typed(command)));
            }
        }
        html + &format!("<h3>run.toml</h3><pre>{}</pre>\n", escaped(&self.run_file))
    }
}

/// The log of the run in `dir`, as far as it is written.
fn read_log(dir: &Path) -> Result<Log> {
    let path = dir.join(LOG_FILE);
    let text = if path.exists() { read(&path)? } else { String::new() };
    log_of(dir, &text)
}

/// The log of the run in `dir`, whose text is this.
pub(crate) fn log_of(dir: &Path, text: &str) -> Result<Log> {
    let mut log = Log::parse(&dir.join(LOG_FILE), text)?;
    // By which score each task is judged its metrics don't say as they are written down.
    let settings = Settings::read(dir)
        .map_err(|error| Error::RunRecord { path: dir.into(), reason: error.to_string() })?;
    let tasks = settings.map(|settings| settings.tasks).unwrap_or_default();
    for evaluation in &mut log.evaluations {
        evaluation.dev.judge_by(|name| {
            tasks.iter().find(|task| task.name == name).map(|task| task.metric.clone())
        });
    }
    Ok(log)
}

/// The name of a directory, however its path is written.
fn name_of(dir: &Path) -> String {
    let full = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    full.file_name().unwrap_or(full.as_os_str()).to_string_lossy().into_owned()
}
