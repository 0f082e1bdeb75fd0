//! The directory that a run, or a model at once, is written to.

use std::{
    fs::{self, File, TryLockError},
    io,
    path::Path,
};

use bert_core::write_atomically;

use crate::{
    about::ABOUT_FILE,
    adapter::ADAPTER_FILES,
    checkpoints::{PARTIAL, clear_checkpoints},
    error::{Error, Result},
    finished_run::{PREDICTIONS_FILE, REPORT_FILE},
    model_dir::SETTINGS_FILE,
    recorder::CHECK_FILE,
    report::{LOG_FILE, PAGE_FILE},
    run::RUN_FILE,
    tensorboard::clear_events,
};

/// Makes the directory `out` of a model, which must be absent or empty.
pub(crate) fn make_out(out: &Path) -> Result<()> {
    let unusable = |source| Error::Out { path: out.into(), source };
    fs::create_dir_all(out).map_err(unusable)?;
    match fs::read_dir(out).map_err(unusable)?.next() {
        Some(_) => Err(Error::OutTaken { path: out.into() }),
        None => Ok(()),
    }
}

/// The files of a run beside its log, its run file and its report.
const FILES: [&str; 11] = [
    PREDICTIONS_FILE,
    CHECK_FILE,
    "model.safetensors",
    PAGE_FILE,
    ABOUT_FILE,
    "config.json",
    SETTINGS_FILE,
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
    "special_tokens_map.json",
];

/// What tells a run beside its run file, which may be a person's own. The log is there as long as the run file is.
const MARKS: [&str; 3] = [LOG_FILE, SETTINGS_FILE, ABOUT_FILE];

/// Whether a directory holds a run, however far it came.
fn holds_run(dir: &Path) -> bool {
    dir.join(RUN_FILE).exists() && MARKS.iter().any(|mark| dir.join(mark).exists())
}

/// Refuses a directory that a run may not be written to.
pub(crate) fn check_out(out: &Path, model: &Path, overwrite: bool) -> Result<()> {
    let unusable = |source| Error::Out { path: out.into(), source };
    if !out.exists() {
        return Ok(());
    }
    if let (Ok(out), Ok(model)) = (out.canonicalize(), model.canonicalize())
        && out == model
    {
        return Err(Error::OutIsModel { path: out });
    }
    if is_vacant(out).map_err(unusable)? {
        return Ok(());
    }
    match (holds_run(out), overwrite) {
        (false, _) => Err(Error::OutNotRun { path: out.into() }),
        (true, false) => Err(Error::OutNotEmpty { path: out.into() }),
        (true, true) => Ok(()),
    }
}

/// Whether a directory holds nothing; what was being written when a run was killed, and a log without a line, is nothing yet.
pub(crate) fn is_vacant(dir: &Path) -> io::Result<bool> {
    let is_empty = |entry: &fs::DirEntry| entry.metadata().is_ok_and(|file| file.len() == 0);
    let is_nothing = |entry: fs::DirEntry| {
        let name = entry.file_name();
        name.to_string_lossy().starts_with(PARTIAL) || name == LOG_FILE && is_empty(&entry)
    };
    Ok(fs::read_dir(dir)?.flatten().all(is_nothing))
}

/// A run's directory that no other process may write to until this is dropped.
#[derive(Debug)]
pub(crate) struct Locked {
    /// Only Unix lets a directory be opened, and not every file system locks.
    _dir: Option<File>,
}

impl Locked {
    /// Makes the directory, where it is not there, and locks it.
    ///
    /// # Errors
    /// [`Error::OutLocked`] while another process has it, [`Error::Out`] where it can't be made.
    pub(crate) fn take(out: &Path) -> Result<Self> {
        fs::create_dir_all(out).map_err(|source| Error::Out { path: out.into(), source })?;
        let dir = File::open(out).ok().filter(|_| cfg!(unix));
        match dir.as_ref().map(File::try_lock) {
            Some(Err(TryLockError::WouldBlock)) => Err(Error::OutLocked { path: out.into() }),
            _ => Ok(Self { _dir: dir }),
        }
    }
}

/// Makes the directory, takes an earlier run's files out of it, so that none is taken for this run's, and writes this run's file:
/// wherever it breaks off, the directory holds the one or the other run.
pub(crate) fn begin_out(out: &Path, run_file: &str) -> Result<()> {
    let unusable = |source| Error::Out { path: out.into(), source };
    let remove = |file: &str| match fs::remove_file(out.join(file)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(unusable(error)),
        _ => Ok(()),
    };
    fs::create_dir_all(out).map_err(unusable)?;
    remove(REPORT_FILE)?;
    ADAPTER_FILES.into_iter().try_for_each(remove)?;
    clear_checkpoints(out).map_err(unusable)?;
    clear_events(out).map_err(unusable)?;
    // First, so that no run file of ours is ever without it.
    write_atomically(out.join(LOG_FILE), b"")?;
    write_atomically(out.join(RUN_FILE), run_file.as_bytes())?;
    FILES.into_iter().try_for_each(remove)
}
