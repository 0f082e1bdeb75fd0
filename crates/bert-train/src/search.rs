//! Many runs with settings drawn from a space, and which of them is best.

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
};

use bert_core::write_atomically;
use burn::tensor::Device;

use crate::{
    checkpoints::clear_checkpoints,
    error::{Error, Result},
    fingerprint::Fingerprint,
    finished_run::{finished_report, is_finished},
    observer::Observer,
    out_dir::is_vacant,
    resume::Start,
    search_config::{Halving, Method, Resource, SearchConfig, settings_in_words},
    search_report::{SearchReport, Trial, TrialState},
    seeds::Planned,
    space::Draws,
    trial_config::TrialConfig,
    trial_follower::Follower,
    trial_journal::{Failure, JOURNAL_FILE, Journal, Origin, Score},
};

/// The search as its file has it, and by which a directory is known to hold one.
const SEARCH_FILE: &str = "search.toml";

/// The report of a search.
const REPORT_FILE: &str = "search.json";

/// Trains the trials of `config`, each into `out/trial-K`, and ranks them; the table is also written to `out/search.json`.
///
/// Begun again, it goes on where it broke off and comes to the same table: a trial that has come to its end, or has failed, is
/// read, one that was broken off is resumed. With more trials in the file, those are added. A trial whose settings are those
/// of an earlier one is left out. The checkpoints of trials that are over are taken away. With `overwrite` all trials begin
/// anew: what is there of them is taken away first, so that the call without it goes on with what then breaks off.
///
/// A loss that is no number, a run that memory can't hold, and settings by which something would learn nothing are the end of
/// their trial, not of the search.
///
/// # Errors
/// Before the first trial, where the run file would refuse any end of a range, choice or draw, and where a directory holds
/// another run, but with `overwrite`; [`Error::CheckpointChanged`] where a trial was of another method or of files that have
/// changed; [`Error::SearchInterrupted`] where it was told to end; else as [`run`](crate::run).
pub fn search(
    config: &SearchConfig,
    out: &Path,
    overwrite: bool,
    device: &Device,
    observer: &mut dyn Observer,
) -> Result<SearchReport> {
    let unusable = |source| Error::Out { path: out.into(), source };
    let search_file = out.join(SEARCH_FILE);
    if out.exists() && !search_file.exists() && !is_vacant(out).map_err(unusable)? {
        return Err(Error::OutNotSearch { path: out.into() });
    }
    let rungs = match &config.method {
        Method::Random => vec![],
        Method::Halving(halving) => halving.rungs(),
    };
    let mut trials: Vec<Running> = vec![];
    let mut known: HashMap<String, usize> = HashMap::new();
    for (number, (draws, run)) in config.trials(device)?.into_iter().enumerate() {
        let run_file = run.to_toml()?;
        if let Some(same) = known.get(&run_file) {
            let settings = settings_in_words(&draws);
            observer
                .notice(&format!("trial {number} is trial {same} again ({settings}): left out"));
            continue;
        }
        known.insert(run_file.clone(), number);
        let path = out.join(format!("trial-{number}"));
        let planned = Planned::new(run_file, path, run.model(), overwrite)?.with(run);
        trials.push(Running::new(number, draws, planned, &config.method)?);
    }
    fs::create_dir_all(out).map_err(unusable)?;
    write_atomically(search_file, config.text().as_bytes())?;
    if overwrite {
        trials.iter().try_for_each(Running::clear)?;
    }

    let read = trials.iter().filter_map(Running::read).collect();
    let mut desk = Desk { out, rungs: &rungs, method: &config.method, read, device, observer };
    let mut alive: Vec<usize> = (0..trials.len()).collect();
    for until in rungs.iter().copied().map(Some).chain([None]) {
        let mut ranked = vec![];
        for &place in &alive {
            desk.advance(&mut trials[place], until)?;
            if let Some(score) = trials[place].score(until)? {
                ranked.push((score.rank, place));
            }
        }
        let Some(until) = until else { break };
        // The earlier one on ties.
        ranked.sort_by(|one, other| other.0.total_cmp(&one.0).then(one.1.cmp(&other.1)));
        let going_on = (alive.len() / desk.eta()).max(1);
        for (_, place) in ranked.iter().skip(going_on) {
            trials[*place].stop(until)?;
        }
        alive = ranked.into_iter().take(going_on).map(|(_, place)| place).collect();
        // In the order of their numbers, whoever is best.
        alive.sort_unstable();
    }

    let rows: Vec<_> = trials.iter().map(|trial| desk.row(trial)).collect::<Result<_>>()?;
    let metric = rows.iter().find_map(|(metric, ..)| metric.clone()).unwrap_or("score".into());
    let rows = rows.into_iter().map(|(_, rank, row)| (rank, row)).collect();
    let report = SearchReport::new(metric, rows);
    let json = serde_json::to_string_pretty(&report).expect("plain values under string keys"); // INVARIANT: they are numbers, strings, lists and maps by strings
    write_atomically(out.join(REPORT_FILE), (json + "\n").as_bytes())?;
    Ok(report)
}

/// What all trials share.
struct Desk<'a> {
    out: &'a Path,
    rungs: &'a [usize],
    method: &'a Method,
    /// What trials have read so far, by their journals.
    read: Vec<(PathBuf, Fingerprint)>,
    device: &'a Device,
    observer: &'a mut dyn Observer,
}

impl Desk<'_> {
    fn eta(&self) -> usize {
        match self.method {
            Method::Random => 1,
            Method::Halving(halving) => halving.eta,
        }
    }

    /// Trains a trial until it has been trained so long, or to its end.
    fn advance(&mut self, trial: &mut Running, until: Option<usize>) -> Result<()> {
        if trial.is_over() || until.is_some_and(|until| trial.journal.at(until).is_some()) {
            return Ok(());
        }
        let interrupted =
            Error::SearchInterrupted { trial: trial.number, out: self.out.to_owned() };
        if self.observer.is_interrupted() {
            return Err(interrupted);
        }
        self.check_files(trial)?;
        let settings = settings_in_words(&trial.draws);
        let part = until.map_or(String::new(), |until| format!(", to {}", self.said(until)));
        self.observer.notice(&format!("trial {}{part}: {settings}", trial.number));
        let mut follower = Follower {
            observer: self.observer,
            path: trial.journal_file(),
            journal: &mut trial.journal,
            control: trial.planned.config.control(),
            rungs: self.rungs,
            resource: match self.method {
                Method::Random => Resource::Epochs,
                Method::Halving(halving) => halving.resource,
            },
            until,
            rested: false,
            seconds: 0.0,
        };
        let start = std::mem::replace(&mut trial.start, Start::Resume);
        let Planned { config, out, .. } = &trial.planned;
        let result = config.run(start, out, self.device, &mut follower);
        let (rested, seconds) = (follower.rested, follower.seconds);
        match result {
            Ok(()) => trial.end(),
            Err(Error::Interrupted { .. }) if rested => Ok(()),
            Err(Error::Interrupted { .. }) => Err(interrupted),
            Err(error) => {
                let Some(reason) = own_reason(&error) else { return Err(error) };
                self.observer.notice(&format!("trial {} failed: {reason}", trial.number));
                trial.journal.failure = Some(Failure { reason, seconds });
                trial.journal.write(&trial.journal_file())?;
                trial.end()
            }
        }
    }

    /// Refuses files that have changed since this trial or another one read them: a table is of one data set.
    fn check_files(&mut self, trial: &mut Running) -> Result<()> {
        let now = trial.planned.config.fingerprint()?;
        for (path, before) in &self.read {
            if let Some(difference) = before.changed_file(&now) {
                return Err(Error::CheckpointChanged { path: path.clone(), difference });
            }
        }
        self.read.push((trial.journal_file(), now.clone()));
        trial.journal.origin = Some(Origin { method: self.method.to_string(), fingerprint: now });
        Ok(())
    }

    /// The metric, the rank and the row of a trial that is over.
    fn row(&self, trial: &Running) -> Result<(Option<String>, Option<f64>, Trial)> {
        let mut settings = toml::Table::new();
        for (place, value) in &trial.draws {
            crate::run_file::set(&mut settings, place, value);
        }
        let score = trial.score(trial.stopped_after)?;
        let failure = trial.journal.failure.as_ref();
        let state = match (failure, trial.stopped_after) {
            (Some(failure), _) => TrialState::Failed { reason: failure.reason.clone() },
            (None, Some(after)) => TrialState::Stopped { after: self.said(after) },
            (None, None) => TrialState::Finished,
        };
        let seconds = match (&score, failure) {
            (Some(score), _) => score.seconds,
            (None, failure) => failure.map_or(0.0, |failure| failure.seconds),
        };
        let row = Trial {
            trial: trial.number,
            settings,
            state,
            score: score.as_ref().map(|score| score.value),
            seconds,
            path: trial.planned.out.clone(),
        };
        let rank = score.as_ref().map(|score| score.rank);
        Ok((score.map(|score| score.metric), rank, row))
    }

    /// A length of training in words.
    fn said(&self, length: usize) -> String {
        let unit = match self.method {
            Method::Halving(Halving { resource: Resource::Steps, .. }) => "step",
            _ => "epoch",
        };
        format!("{length} {unit}{}", if length == 1 { "" } else { "s" })
    }
}

/// A trial, and how far it is.
struct Running {
    number: usize,
    draws: Draws,
    planned: Planned<TrialConfig>,
    /// How it is begun, the next time.
    start: Start,
    journal: Journal,
    /// Where others were better.
    stopped_after: Option<usize>,
}

impl Running {
    /// A trial, which goes on where it is there already.
    fn new(
        number: usize,
        draws: Draws,
        planned: Planned<TrialConfig>,
        method: &Method,
    ) -> Result<Self> {
        let (start, path) = (planned.start(), planned.out.join(JOURNAL_FILE));
        let journal = match start {
            Start::Resume => Journal::read(&path)?,
            _ => Journal::default(),
        };
        if let Some(origin) = &journal.origin
            && let Some(difference) = origin.difference(method, &planned.config)?
        {
            return Err(Error::CheckpointChanged { path, difference });
        }
        Ok(Self { number, draws, planned, start, journal, stopped_after: None })
    }

    fn journal_file(&self) -> PathBuf {
        self.planned.out.join(JOURNAL_FILE)
    }

    /// Takes away what an earlier search has left.
    fn clear(&self) -> Result<()> {
        match fs::remove_file(self.journal_file()) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(Error::Out { path: self.planned.out.clone(), source })
            }
            _ => self.planned.clear(),
        }
    }

    /// What it has read, by its journal.
    fn read(&self) -> Option<(PathBuf, Fingerprint)> {
        let origin = self.journal.origin.as_ref()?;
        Some((self.journal_file(), origin.fingerprint.clone()))
    }

    /// Whether it is not trained any more.
    fn is_over(&self) -> bool {
        let is_there = self.start == Start::Resume;
        self.journal.failure.is_some() || is_there && is_finished(&self.planned.out)
    }

    /// The score when it had been trained so long, or at its end.
    fn score(&self, until: Option<usize>) -> Result<Option<Score>> {
        if self.journal.failure.is_some() {
            return Ok(None);
        }
        match until.and_then(|until| self.journal.at(until)) {
            Some(rung) => Ok(Some(rung.score.clone())),
            None => {
                let Planned { config, out, .. } = &self.planned;
                let report = finished_report(out)?;
                Score::new(&report.dev, config.control(), report.train_seconds).map(Some)
            }
        }
    }

    fn stop(&mut self, after: usize) -> Result<()> {
        // One that came to its end early is complete.
        if !is_finished(&self.planned.out) {
            self.stopped_after = Some(after);
        }
        self.end()
    }

    /// Takes away what only a run that goes on needs.
    fn end(&self) -> Result<()> {
        let path = &self.planned.out;
        clear_checkpoints(path).map_err(|source| Error::Out { path: path.clone(), source })
    }
}

/// Why a trial can't go on where others can; `None` for what no other could get over either.
fn own_reason(error: &Error) -> Option<String> {
    match error {
        Error::NotFinite { what, step, epoch, value } => {
            Some(format!("the {what} is {value} at step {step} (epoch {epoch})"))
        }
        Error::TooLarge { .. } | Error::NoRate { .. } | Error::ZeroGradient { .. } => {
            Some(error.to_string())
        }
        _ => None,
    }
}
