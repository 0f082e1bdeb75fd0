//! A search as a file describes it: what `bert search SEARCH.toml` reads.

use std::{fmt, path::Path};

use burn::tensor::Device;
use toml::Value;

use crate::{
    error::{Error, Result},
    multi_task_config::MultiTaskConfig,
    run_config::RunConfig,
    run_file::RunFile,
    sampler::Sampling,
    space::{Draws, Space},
    trial_config::TrialConfig,
};

/// Everything that a search is made of, besides the directory it writes.
#[derive(Debug)]
pub struct SearchConfig {
    file: RunFile,
    /// The run that all trials are like but for what is drawn.
    run: RunFile,
    /// What is drawn.
    space: Space,
    /// How many times.
    trials: usize,
    /// What all draws depend on.
    seed: u64,
    pub(crate) method: Method,
}

/// How the trials share the work.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Method {
    /// Each trial is a whole run.
    ///
    /// # Source
    /// Bergstra, Bengio: "Random search for hyper-parameter optimization" (JMLR 13, 2012).
    #[default]
    Random,
    /// Trials rest after a part of their run, and the best of them go on.
    Halving(Halving),
}

/// Successive halving: all trials are trained for a while, one in `eta` of them `eta` times as long, and so on; who goes on is
/// who has the best evaluation so far.
///
/// A trial's learning rate falls over the whole run from the beginning, so that whoever goes on is trained as if it had never
/// rested, to the bit.
///
/// # Source
/// Jamieson, Talwalkar: "Non-stochastic best arm identification and hyperparameter optimization" (arXiv:1502.07943).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Halving {
    /// One in so many trials goes on, for so many times as long.
    pub eta: usize,
    /// What the next two count.
    pub resource: Resource,
    /// How long every trial is trained.
    pub least: usize,
    /// How long the last ones are trained.
    pub most: usize,
}

/// What the length of a training is counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    /// Passes over the training rows.
    Epochs,
    /// Steps.
    Steps,
}

/// The keys of a search file.
const KEYS: [&str; 5] = ["run", "trials", "seed", "method", "space"];

/// No search has more trials.
const LARGEST: i64 = 10_000;

/// No trial is longer, in epochs or steps; a recipe takes as many epochs.
const LONGEST: i64 = 1_000_000;

impl SearchConfig {
    /// Reads a search file.
    ///
    /// # Errors
    /// When the file or the run file that it names can't be read, is no TOML, lacks a key or holds an unknown one, or a range
    /// that holds nothing: with file, line and key.
    pub fn load(path: &Path) -> Result<Self> {
        let file = RunFile::read(path)?;
        file.check_keys(&[], &KEYS)?;
        let run = match file.table().get("run") {
            Some(Value::String(path)) => RunFile::read(Path::new(path))?,
            Some(Value::Table(_)) => file.part("run").expect("it is a table"), // INVARIANT: by this arm
            _ => {
                let message = "run: expected the path of a run file, or a table [run] of its keys";
                return Err(file.refuse(&["run"], message.to_owned()));
            }
        };
        let trials = match file.table().get("trials") {
            Some(Value::Integer(trials @ 1..=LARGEST)) => *trials as usize,
            other => {
                let got = other.map_or("none".to_owned(), Value::to_string);
                let message =
                    format!("trials: expected a whole number from 1 to {LARGEST}, got {got}");
                return Err(file.refuse(&["trials"], message));
            }
        };
        let seed = match file.table().get("seed") {
            None => 0,
            Some(Value::Integer(seed @ 0..)) => *seed as u64,
            Some(other) => {
                let message = format!("seed: expected a whole number from 0, got {other}");
                return Err(file.refuse(&["seed"], message));
            }
        };
        let (method, space) = (Method::of(&file)?, Space::of(&file)?);
        let config = Self { file, run, space, trials, seed, method };
        config.check_method()?;
        Ok(config)
    }

    /// The file as it is written.
    pub(crate) fn text(&self) -> &str {
        self.file.text()
    }

    /// All trials: their settings, and the runs that these make.
    ///
    /// # Errors
    /// For the first of all ends, choices and draws that the run file would refuse, by its key.
    pub(crate) fn trials(&self, device: &Device) -> Result<Vec<(Draws, TrialConfig)>> {
        let first = self.space.draw(self.seed, 0);
        for (place, value) in self.space.extremes() {
            let mut draws = first.clone();
            for (own, drawn) in &mut draws {
                if own == place {
                    *drawn = value.clone();
                }
            }
            self.checked(&draws, device)?;
        }
        let trial = |trial| {
            let draws = self.space.draw(self.seed, trial);
            self.checked(&draws, device).map(|config| (draws, config))
        };
        (0..self.trials).map(trial).collect()
    }

    fn checked(&self, draws: &Draws, device: &Device) -> Result<TrialConfig> {
        self.with(draws, device).map_err(|error| self.blame(draws, error, device))
    }

    fn with(&self, draws: &Draws, device: &Device) -> Result<TrialConfig> {
        let file = self.run.with(draws).with(&self.settings());
        let config = match file.has_tasks() {
            true => TrialConfig::Several(Box::new(MultiTaskConfig::of(&file, toml::Table::new())?)),
            false => TrialConfig::One(Box::new(RunConfig::of(&file, toml::Table::new())?)),
        };
        config.check(device)?;
        self.check_annealed(&config)?;
        Ok(config)
    }

    /// Refuses what goes by the number of epochs where steps are counted, and the data decide how many epochs these are.
    fn check_annealed(&self, config: &TrialConfig) -> Result<()> {
        match (&self.method, config) {
            (
                Method::Halving(Halving { resource: Resource::Steps, .. }),
                TrialConfig::Several(config),
            ) if config.mixing.sampling == Sampling::Annealed => {
                let message = "sampling: annealed goes from the first epoch to the last, and the method counts steps: \
                     count epochs, or take another sampling";
                Err(self.run.refuse(&["sampling"], message.to_owned()))
            }
            _ => Ok(()),
        }
    }

    /// The fault of draws, at the key without which the others make a run.
    fn blame(&self, draws: &Draws, error: Error, device: &Device) -> Error {
        let others = |key: usize| {
            let mut others = draws.clone();
            others.remove(key);
            others
        };
        let culprit = (0..draws.len()).find(|key| self.with(&others(*key), device).is_ok());
        if culprit.is_none()
            && let Err(error) = self.with(&vec![], device)
        {
            return error;
        }
        let message = match error {
            Error::RunFile { message, .. } => message,
            other => other.to_string(),
        };
        match culprit.map(|key| &draws[key]) {
            Some((place, value)) => {
                let message = format!("{} = {value}: {message}", place.join("."));
                self.file.refuse(&Space::place_in_file(place), message)
            }
            None => {
                let message = format!("{}: {message}", settings_in_words(draws));
                self.file.refuse(&["space"], message)
            }
        }
    }

    /// What the method sets in every run.
    fn settings(&self) -> Draws {
        let Method::Halving(halving) = &self.method else { return vec![] };
        let set = |key: &str, value: usize| (vec![key.to_owned()], Value::Integer(value as i64));
        match halving.resource {
            Resource::Epochs => vec![set("epochs", halving.most)],
            // An epoch has a step at least, so that the steps and not the epochs end the run.
            Resource::Steps => {
                let mut settings =
                    vec![set("max_steps", halving.most), set("epochs", halving.most)];
                if !self.run.table().contains_key("eval_every") {
                    settings.push(set("eval_every", halving.least));
                }
                settings
            }
        }
    }

    /// Refuses what the method decides and the space draws.
    fn check_method(&self) -> Result<()> {
        let Method::Halving(Halving { resource, least, .. }) = self.method else { return Ok(()) };
        let fixed = ["epochs", "max_steps", "eval_every"];
        let fixed = if resource == Resource::Epochs { &fixed[..2] } else { &fixed };
        let drawn = self.space.places().find(|place| match place {
            [key] => fixed.contains(&key.as_str()),
            _ => false,
        });
        if let Some(place) = drawn {
            let message = format!(
                "{} says how long a trial is trained, which halving decides: leave it out, or take the method random",
                place.join(".")
            );
            return Err(self.file.refuse(&Space::place_in_file(place), message));
        }
        let every = self.run.table().get("eval_every");
        let divides = |every: &Value| match every.as_integer().map(usize::try_from) {
            Some(Ok(every @ 1..)) => least.is_multiple_of(every),
            _ => false,
        };
        if resource == Resource::Steps
            && let Some(every) = every.filter(|every| !divides(every))
        {
            let message = format!(
                "eval_every = {every} does not divide the {least} steps after which trials are compared: choose a divisor, \
                 or leave it out"
            );
            return Err(self.run.refuse(&["eval_every"], message));
        }
        Ok(())
    }
}

impl Method {
    fn of(file: &RunFile) -> Result<Self> {
        let Some(value) = file.table().get("method") else { return Ok(Self::Random) };
        let refuse = |key: &str, message: &str| {
            Err(file.refuse(&["method", key], format!("method: {message}")))
        };
        let kinds = "expected { kind = \"random\" } or { kind = \"halving\", epochs = [1, 9] }";
        let Some(table) = value.as_table() else { return refuse("", kinds) };
        match table.get("kind").and_then(Value::as_str) {
            Some("random") => {
                file.check_keys(&["method"], &["kind"])?;
                return Ok(Self::Random);
            }
            Some("halving") => file.check_keys(&["method"], &["kind", "eta", "epochs", "steps"])?,
            _ => return refuse("kind", kinds),
        }
        let eta = match table.get("eta") {
            None => 3,
            Some(Value::Integer(eta @ 2..=1000)) => *eta as usize,
            Some(_) => return refuse("eta", "eta must be a whole number from 2"),
        };
        let (key, resource, ends) = match (table.get("epochs"), table.get("steps")) {
            (Some(ends), None) => ("epochs", Resource::Epochs, ends),
            (None, Some(ends)) => ("steps", Resource::Steps, ends),
            _ => {
                return refuse(
                    "kind",
                    "expected epochs = [FEWEST, MOST] or steps = [FEWEST, MOST]",
                );
            }
        };
        let ends: Option<Vec<i64>> =
            ends.as_array().and_then(|ends| ends.iter().map(Value::as_integer).collect());
        match ends.as_deref() {
            Some([least, most]) if *least > 0 && least < most && *most <= LONGEST => {
                let (least, most) = (*least as usize, *most as usize);
                Ok(Self::Halving(Halving { eta, resource, least, most }))
            }
            _ => {
                let message =
                    format!("expected two whole numbers from 1 to {LONGEST}, [FEWEST, MOST]");
                refuse(key, &message)
            }
        }
    }
}

/// As a search file says it.
impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Halving(Halving { eta, resource, least, most }) = self else {
            return f.write_str("{ kind = \"random\" }");
        };
        let key = match resource {
            Resource::Epochs => "epochs",
            Resource::Steps => "steps",
        };
        write!(f, "{{ kind = \"halving\", eta = {eta}, {key} = [{least}, {most}] }}")
    }
}

impl Halving {
    /// How long trials have been trained where they are compared, but at the end.
    pub(crate) fn rungs(&self) -> Vec<usize> {
        let next = |rung: &usize| rung.checked_mul(self.eta);
        std::iter::successors(Some(self.least), next).take_while(|rung| *rung < self.most).collect()
    }
}

/// The settings of a trial in words, on one line.
pub(crate) fn settings_in_words(draws: &Draws) -> String {
    let words =
        draws.iter().map(|(place, value)| format!("{} {}", place.join("."), in_words(value)));
    words.collect::<Vec<_>>().join(", ")
}

/// A value as a person reads it.
pub(crate) fn in_words(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Float(number) if *number != 0.0 && number.abs() < 1e-3 => format!("{number:e}"),
        other => other.to_string(),
    }
}
