//! Hostile input in bulk, read by a process that may die of it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

use clap::Args;
use tempfile::TempDir;

use crate::build::build;

/// Read changed inputs by the million, and keep those that end in a panic, a hang or runaway memory
#[derive(Debug, Args)]
pub struct Fuzz {
    /// What is read: config, weights, tokenizer, data, run_file or checkpoint
    #[arg(long)]
    target: String,
    /// How many inputs
    #[arg(long, default_value_t = 1_000_000)]
    inputs: u64,
    /// What all changes depend on
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// The first one's index
    #[arg(long, default_value_t = 0)]
    from: u64,
}

const CORPUS: &str = "crates/bert-train/tests/fuzz/corpus";

/// After so many deaths there is enough to look into.
const MOST_DEATHS: u64 = 20;

pub fn fuzz(fuzz: &Fuzz) -> Result<(), String> {
    let [program] = build(["fuzz"], &["--test", "fuzz"], "ndarray,wgpu,dashboard")?;
    let failed = |error: std::io::Error| error.to_string();
    let start = Instant::now();
    let (mut from, mut deaths, mut kept) = (fuzz.from, 0, 0);
    let end = fuzz.from + fuzz.inputs;
    while from < end && deaths < MOST_DEATHS {
        let memory = Path::new("/dev/shm");
        let work = if memory.is_dir() { TempDir::new_in(memory) } else { TempDir::new() };
        let work = work.map_err(failed)?;
        let mut command = Command::new(&program);
        command.arg("--work").arg(work.path()).args(["--target", &fuzz.target]);
        command.args(["--seed", &fuzz.seed.to_string(), "--from", &from.to_string()]);
        command.args(["--inputs", &end.to_string()]);
        let status = command.stdin(Stdio::null()).status().map_err(failed)?;
        let read = |name: &str| fs::read_to_string(work.path().join(name)).map_err(failed);
        from = match status.code() {
            Some(0 | 1) => end,
            _ => {
                let index = read("index")?;
                println!("input {index} failed: the process ended with {status}");
                let dir = work.path().join(read("place")?);
                keep(&dir, &work.path().join("failed").join(&index))?;
                deaths += 1;
                index.parse::<u64>().map_err(|error| error.to_string())? + 1
            }
        };
        for entry in fs::read_dir(work.path().join("failed")).into_iter().flatten().flatten() {
            let name = format!("found-{}-{}", fuzz.seed, entry.file_name().to_string_lossy());
            let dir: PathBuf = [CORPUS, &fuzz.target, &name].iter().collect();
            keep(&entry.path(), &dir)?;
            println!("kept in {}", dir.display());
            kept += 1;
        }
    }
    println!("{} inputs, {kept} failed, {:.0} s", from - fuzz.from, start.elapsed().as_secs_f64());
    if kept > 0 { Err(format!("{kept} inputs failed")) } else { Ok(()) }
}

/// Copies the files of a folder.
fn keep(from: &Path, to: &Path) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("{}: {error}", from.display());
    fs::create_dir_all(to).map_err(failed)?;
    for entry in fs::read_dir(from).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        fs::copy(entry.path(), to.join(entry.file_name())).map_err(failed)?;
    }
    Ok(())
}
