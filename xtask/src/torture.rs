//! Kills a small run again and again, and holds what it comes to against a run that nobody killed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use clap::Args;

use crate::build::build;

/// Kill a small run at random moments, resume it, and compare every loss and weight
#[derive(Debug, Args)]
pub struct Torture {
    /// Runs that are begun, killed once each and resumed to their end
    #[arg(long, default_value_t = 200)]
    kills: u64,
    /// What the moments depend on
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// A program `bert` that was built before [default: one is built]
    #[arg(long)]
    bert: Option<PathBuf>,
}

const MODEL: &str = "crates/bert-core/tests/reference/tiny-bert";

/// With a checkpoint after each step, most of the run is spent in writing them.
const FLAGS: [&str; 8] =
    ["--epochs", "8", "--batch-size", "8", "--lr", "1e-3", "--checkpoint-every", "1"];

pub fn torture(arguments: &Torture) -> Result<(), String> {
    let bert = match &arguments.bert {
        Some(bert) => bert.clone(),
        None => {
            let [bert] = build(["bert"], &["--bin", "bert"], "ndarray,wgpu,dashboard")?;
            bert
        }
    };
    let absolute = |path: &Path| {
        path.canonicalize().map_err(|error| format!("no {}: {error}", path.display()))
    };
    let (bert, model) = (absolute(&bert)?, absolute(Path::new(MODEL))?);
    let failed = |error: std::io::Error| error.to_string();
    let folder = tempfile::tempdir().map_err(failed)?;
    let dir = folder.path();
    let rows: String =
        (0..40).map(|row| ["the movie was great\tgood\n", "a bad plot\tbad\n"][row % 2]).collect();
    fs::write(dir.join("train.tsv"), rows).map_err(failed)?;
    let desk = Desk { bert, model, dir };

    let start = Instant::now();
    desk.finish(desk.begin("whole")?)?;
    let whole = start.elapsed().as_micros() as u64;
    let expected = desk.outcome("whole")?;
    let (mut random, mut in_time) = (arguments.seed, 0);
    for kill in 1..=arguments.kills {
        let mut child = desk.begin("run")?;
        random = mixed(random);
        sleep(Duration::from_micros(random % whole.max(1)));
        in_time += u64::from(child.try_wait().map_err(failed)?.is_none());
        // One that has just come to its end can't be killed any more.
        let _ = child.kill();
        child.wait().map_err(failed)?;
        if dir.join("run/run.toml").exists() {
            desk.finish(desk.spawn(&["train", "--resume", "run"])?)?;
        } else {
            desk.finish(desk.begin("run")?)?;
        }
        if desk.outcome("run")? != expected {
            let kept = folder.keep();
            return Err(format!("kill {kill}: the run came to something else: {}", kept.display()));
        }
        eprintln!("kill {kill} of {}: the same to the bit", arguments.kills);
    }
    let kills = arguments.kills;
    println!(
        "{kills} of {kills} runs came to the same to the bit; {in_time} were killed before their end"
    );
    Ok(())
}

/// Where runs are made.
struct Desk<'a> {
    bert: PathBuf,
    model: PathBuf,
    dir: &'a Path,
}

impl Desk<'_> {
    /// Begins a run anew.
    fn begin(&self, out: &str) -> Result<Child, String> {
        let old = self.dir.join(out);
        if old.exists() {
            fs::remove_dir_all(&old).map_err(|error| format!("{}: {error}", old.display()))?;
        }
        let model = self.model.to_string_lossy();
        let first = ["train", "--train", "train.tsv", "--model", &model, "--out", out];
        self.spawn(&[&first[..], &FLAGS].concat())
    }

    fn spawn(&self, arguments: &[&str]) -> Result<Child, String> {
        let mut command = Command::new(&self.bert);
        command.current_dir(self.dir).env("BURN_DEVICE", "flex").args(arguments);
        let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
        child.map_err(|error| format!("{} could not be started: {error}", self.bert.display()))
    }

    fn finish(&self, child: Child) -> Result<(), String> {
        let output = child.wait_with_output().map_err(|error| error.to_string())?;
        match output.status.success() {
            true => Ok(()),
            false => Err(format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr))),
        }
    }

    /// The log without its times, and the weights.
    fn outcome(&self, out: &str) -> Result<(Vec<serde_json::Value>, Vec<u8>), String> {
        let read = |name: &str| {
            let path = self.dir.join(out).join(name);
            fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))
        };
        let line = |line: &str| {
            let mut line: serde_json::Value =
                serde_json::from_str(line).map_err(|error| format!("{line}: {error}"))?;
            line.as_object_mut().map(|line| line.remove("seconds"));
            Ok(line)
        };
        let log = String::from_utf8_lossy(&read("metrics.jsonl")?).into_owned();
        let log = log.lines().map(line).collect::<Result<_, String>>()?;
        Ok((log, read("model.safetensors")?))
    }
}

/// The next number of a sequence that looks random (SplitMix64's increment and mix).
fn mixed(state: u64) -> u64 {
    let mut x = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
