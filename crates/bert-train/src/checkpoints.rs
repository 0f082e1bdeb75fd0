//! The checkpoints of a run, `OUT/checkpoints/step-N`: each appears whole or not at all, and is used only where every byte is
//! as it was written.
//!
//! `weights.safetensors` has every parameter that is trained by the path of its field, `optimizer.safetensors` the two moments of each that has
//! taken a step (`PATH.moment_1`, `PATH.moment_2`), `average.safetensors` the average of the weights where it is kept, `best.safetensors` the parameters of the best model so far, `state.json` all
//! else, and `SHA256SUMS` what `sha256sum -c` checks. Names stand for parameters: Burn's own ids are new in every process.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use bert_core::{LazyTensor, write_atomically, write_safetensors_lazily};
use bert_kernels::AdamWState;
use serde::{Deserialize, Serialize};

use crate::{
    control::Control,
    error::{Error, Result},
    exact_json,
    fingerprint::{Fingerprint, checksum},
    observer::Observer,
    recorder::Record,
    saved::{MOMENTS, Saved},
    training_state::{Evaluations, Snapshot, TrainingState},
};

/// The layout of a checkpoint that this version writes and reads.
const FORMAT: u32 = 1;

/// The folder of all checkpoints in a run's directory.
const FOLDER: &str = "checkpoints";

const WEIGHTS: &str = "weights.safetensors";
const OPTIMIZER: &str = "optimizer.safetensors";
const AVERAGE: &str = "average.safetensors";
const BEST: &str = "best.safetensors";
const STATE: &str = "state.json";
const SUMS: &str = "SHA256SUMS";

/// Begins the name of what is not whole yet.
pub(crate) const PARTIAL: &str = ".partial-";

/// The checkpoints of one run.
#[derive(Debug)]
pub(crate) struct Checkpoints {
    dir: PathBuf,
    keep: usize,
    fingerprint: Fingerprint,
    /// The newest, and the step of the best model in it.
    newest: Option<(PathBuf, Option<usize>)>,
}

/// What `state.json` holds.
#[derive(Debug, Serialize, Deserialize)]
struct State {
    format: u32,
    training: TrainingState,
    /// The steps that each parameter with an optimiser state has taken, by its path.
    optimizer_steps: BTreeMap<String, usize>,
    record: Record,
    fingerprint: Fingerprint,
}

/// The layout alone: what another version wrote may hold anything else.
#[derive(Deserialize)]
struct Format {
    format: u32,
}

impl Checkpoints {
    /// Those of the run in `out`.
    pub(crate) fn new(out: &Path, control: &Control, fingerprint: Fingerprint) -> Self {
        let (dir, keep) = (out.join(FOLDER), control.keep_checkpoints);
        Self { dir, keep, fingerprint, newest: None }
    }

    /// Writes one, and takes away those that are too many.
    ///
    /// # Errors
    /// When the disk refuses: then the checkpoints before are as they were.
    pub(crate) fn write(&mut self, snapshot: &Snapshot, record: &Record) -> Result<()> {
        let state = snapshot.state;
        let target = self.dir.join(format!("step-{}", state.step));
        let unwritable = |source| bert_core::Error::Write { path: target.clone(), source };
        fs::create_dir_all(&self.dir).map_err(unwritable)?;
        let staged =
            tempfile::Builder::new().prefix(PARTIAL).tempdir_in(&self.dir).map_err(unwritable)?;
        let dir = staged.path();
        let best_step = state.evaluations.best.as_ref().map(|(step, _)| *step);

        write_safetensors_lazily(dir.join(WEIGHTS), (snapshot.weights)())?;
        let states = (snapshot.optimizer)();
        let optimizer_steps =
            states.iter().map(|(name, state)| (name.clone(), state.time)).collect();
        write_safetensors_lazily(dir.join(OPTIMIZER), moments(states))?;
        if let Some(average) = snapshot.average {
            write_safetensors_lazily(dir.join(AVERAGE), average())?;
        }
        if best_step.is_some() {
            // The best model is mostly one that lies on the disk already, in a file that nobody writes to again.
            let source = match &self.newest {
                _ if best_step == Some(state.step) => {
                    Some(dir.join(if snapshot.average.is_some() { AVERAGE } else { WEIGHTS }))
                }
                Some((newest, best)) if *best == best_step => Some(newest.join(BEST)),
                _ => None,
            };
            let is_linked =
                source.is_some_and(|source| fs::hard_link(source, dir.join(BEST)).is_ok());
            if !is_linked {
                write_safetensors_lazily(dir.join(BEST), (snapshot.best)())?;
            }
        }
        let state = State {
            format: FORMAT,
            training: state.clone(),
            optimizer_steps,
            record: record.clone(),
            fingerprint: self.fingerprint.clone(),
        };
        let json = serde_json::to_string(&state).expect("plain values under string keys"); // INVARIANT: they are numbers, strings, lists and maps by strings
        write_atomically(dir.join(STATE), json.as_bytes())?;
        let mut sums = String::new();
        for name in [WEIGHTS, OPTIMIZER, AVERAGE, BEST, STATE] {
            let path = dir.join(name);
            if path.exists() {
                sums += &format!("{}  {name}\n", checksum(&path).map_err(unwritable)?);
            }
        }
        write_atomically(dir.join(SUMS), sums.as_bytes())?;
        publish(staged, &target).map_err(unwritable)?;
        self.newest = Some((target, best_step));
        self.remove_old(state.training.step);
        Ok(())
    }

    /// The newest checkpoint whose files are as they were written; those that are not are named.
    ///
    /// # Errors
    /// [`Error::CheckpointFormat`] for one of another version, [`Error::CheckpointChanged`] for one of other settings or data.
    pub(crate) fn load(&mut self, observer: &mut dyn Observer) -> Result<Option<(Saved, Record)>> {
        self.clear_partial();
        let steps = self.steps();
        for step in &steps {
            let path = self.dir.join(format!("step-{step}"));
            match self.open(&path, *step) {
                Ok(found) => {
                    let best = found.0.state.evaluations.best.as_ref().map(|(step, _)| *step);
                    self.newest = Some((path, best));
                    return Ok(Some(found));
                }
                Err(Unusable::Damaged(reason)) => observer.notice(&format!(
                    "checkpoint {} is damaged ({reason}) and is not used",
                    path.display()
                )),
                Err(Unusable::Refused(error)) => return Err(error),
            }
        }
        let found =
            if steps.is_empty() { "no checkpoint" } else { "no checkpoint that can be used" };
        observer.notice(&format!("there is {found} in {}: starting at step 0", self.dir.display()));
        Ok(None)
    }

    fn open(&self, path: &Path, step: usize) -> std::result::Result<(Saved, Record), Unusable> {
        let sums = path.join(SUMS);
        // What is no file may never end.
        if !sums.is_file() {
            return Err(Unusable::Damaged(format!("{SUMS} is missing")));
        }
        let damaged = |name: &str, reason: &dyn std::fmt::Display| {
            Unusable::Damaged(format!("{name}: {reason}"))
        };
        let sums = fs::read_to_string(sums).map_err(|error| damaged(SUMS, &error))?;
        let sums: BTreeMap<&str, &str> = sums
            .lines()
            .filter_map(|line| line.split_once("  "))
            .map(|(sum, name)| (name, sum))
            .collect();
        let verify = |name: &str| {
            let sum = checksum(&path.join(name)).map_err(|error| damaged(name, &error))?;
            match sums.get(name) {
                Some(expected) if *expected == sum => Ok(path.join(name)),
                _ => Err(damaged(name, &"its checksum is another")),
            }
        };
        let state = verify(STATE)?;
        let json = fs::read_to_string(state).map_err(|error| damaged(STATE, &error))?;
        let format: Format = serde_json::from_str(&json).map_err(|error| damaged(STATE, &error))?;
        if format.format != FORMAT {
            let (path, got) = (path.into(), format.format);
            return Err(Unusable::Refused(Error::CheckpointFormat { path, expected: FORMAT, got }));
        }
        let state: State = exact_json::from_str(&json).map_err(|error| damaged(STATE, &error))?;
        if state.training.step != step {
            return Err(damaged(STATE, &format!("it is of step {}", state.training.step)));
        }
        // Each epoch that ended left a report, and the first evaluation is the best so far.
        let Evaluations { epochs: reports, best, .. } = &state.training.evaluations;
        if reports.len() != state.training.epoch || best.is_none() && !reports.is_empty() {
            return Err(damaged(STATE, &"its epochs and their evaluations do not fit"));
        }
        if let Some(difference) = state.fingerprint.difference(&self.fingerprint) {
            let path = path.into();
            return Err(Unusable::Refused(Error::CheckpointChanged { path, difference }));
        }
        let has_best = state.training.evaluations.best.is_some();
        let saved = Saved {
            path: path.into(),
            weights: verify(WEIGHTS)?,
            average: sums.contains_key(AVERAGE).then(|| verify(AVERAGE)).transpose()?,
            optimizer: verify(OPTIMIZER)?,
            best: if has_best { Some(verify(BEST)?) } else { None },
            state: state.training,
            optimizer_steps: state.optimizer_steps,
        };
        Ok((saved, state.record))
    }

    /// The steps of all checkpoints, the newest first.
    fn steps(&self) -> Vec<usize> {
        steps_in(&self.dir)
    }

    /// Takes away all checkpoints before the newest ones; what is behind the newest is left from before it was resumed.
    fn remove_old(&self, newest: usize) {
        let steps = self.steps();
        let (later, steps): (Vec<usize>, Vec<usize>) =
            steps.into_iter().partition(|step| *step > newest);
        for step in later.into_iter().chain(steps.into_iter().skip(self.keep)) {
            // What can't be removed costs room, and no run must end for it.
            let _ = remove(&self.dir.join(format!("step-{step}")));
        }
    }

    /// Takes away what was being written when the run broke off.
    fn clear_partial(&self) {
        for dir in [Some(self.dir.as_path()), self.dir.parent()].into_iter().flatten() {
            for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
                if entry.file_name().to_string_lossy().starts_with(PARTIAL) {
                    let _ = remove(&entry.path());
                }
            }
        }
    }
}

/// Why a checkpoint is not used.
enum Unusable {
    /// Another one may be.
    Damaged(String),
    /// The run can't go on.
    Refused(Error),
}

fn steps_in(dir: &Path) -> Vec<usize> {
    let names = fs::read_dir(dir).into_iter().flatten().flatten();
    let step = |entry: fs::DirEntry| {
        entry.file_name().to_str()?.strip_prefix("step-")?.parse::<usize>().ok()
    };
    let mut steps: Vec<usize> = names.filter_map(step).collect();
    steps.sort_unstable_by(|a, b| b.cmp(a));
    steps
}

/// Refuses a run in `out` whose newest checkpoint was written with other settings or files than they are `now`; of one without a
/// checkpoint nothing is known.
///
/// # Errors
/// [`Error::CheckpointChanged`] with the first difference.
pub(crate) fn check_unchanged(out: &Path, now: &Fingerprint) -> Result<()> {
    #[derive(Deserialize)]
    struct Written {
        fingerprint: Fingerprint,
    }
    let dir = out.join(FOLDER);
    let newest = steps_in(&dir).first().map(|step| dir.join(format!("step-{step}")));
    let written = newest.and_then(|path| {
        let json = fs::read_to_string(path.join(STATE)).ok()?;
        let written: Written = serde_json::from_str(&json).ok()?;
        Some((path, written.fingerprint.difference(now)?))
    });
    match written {
        Some((path, difference)) => Err(Error::CheckpointChanged { path, difference }),
        None => Ok(()),
    }
}

/// Takes away the checkpoints of an earlier run in `out`.
pub(crate) fn clear_checkpoints(out: &Path) -> io::Result<()> {
    let dir = out.join(FOLDER);
    for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("step-") || name.starts_with(PARTIAL) {
            remove(&entry.path())?;
        }
    }
    // Where it holds anything else, it stays.
    let _ = fs::remove_dir(dir);
    Ok(())
}

/// Takes away a directory or a file.
fn remove(path: &Path) -> io::Result<()> {
    if fs::symlink_metadata(path)?.is_dir() {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    }
}

/// The moments of all parameters as tensors.
fn moments(states: BTreeMap<String, AdamWState<1>>) -> Vec<LazyTensor<'static>> {
    let of = |(name, AdamWState { moment_1, moment_2, .. }): (String, AdamWState<1>)| {
        MOMENTS.into_iter().zip([moment_1, moment_2]).map(move |(which, moment)| LazyTensor {
            name: format!("{name}.{which}"),
            shape: moment.dims().into(),
            values: Box::new(|| moment.into_data().iter::<f32>().collect()),
        })
    };
    states.into_iter().flat_map(of).collect()
}

/// Gives a whole checkpoint its name, durably; one that has it already was damaged, or is the same.
fn publish(staged: tempfile::TempDir, target: &Path) -> io::Result<()> {
    sync(staged.path())?;
    let parent = target.parent().unwrap_or(Path::new("."));
    let aside = tempfile::Builder::new().prefix(PARTIAL).tempdir_in(parent)?;
    if target.exists() {
        // Taking it away piece by piece would leave half of it where the run is killed.
        fs::rename(target, aside.path().join("old"))?;
    }
    fs::rename(staged.path(), target)?;
    // It is not there any more under its first name.
    let _ = staged.keep();
    drop(aside);
    // A run's first checkpoint also made the folder.
    sync(parent)?;
    sync(parent.parent().unwrap_or(Path::new(".")))
}

/// Makes what is in a directory durable; only Unix lets one be opened for that.
fn sync(dir: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(dir)?.sync_all() } else { Ok(()) }
}
