//! Our side and PyTorch's of the same job, in turn.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use crate::{
    PEER,
    build::build,
    side::{Clock, Run, Side},
};

/// The longest text in tokens, and texts a step, of the jobs on real data; those of the other jobs hang on the shape.
const SEQ: usize = 128;
const BATCH: usize = 32;

/// Time our side and PyTorch's in turn, and print the ratios
///
/// Both sides run on two threads of the CPU, or on a GPU. Of several rounds the fastest counts.
#[derive(Debug, Args)]
pub struct Bench {
    /// Only this job
    #[arg(long)]
    job: Option<Job>,
    /// Only this shape, of the jobs that have one
    #[arg(long)]
    shape: Option<Shape>,
    /// Print one line of JSON a job and side, and nothing else on standard output
    #[arg(long)]
    json: bool,
    /// Python with torch and transformers; without them only our side runs
    #[arg(long, default_value = "python3")]
    python: String,
    /// How often each side runs: ours, PyTorch's, ours, PyTorch's, ...
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Cargo features to build our side with, beside the default ones
    #[arg(long, default_value = "")]
    features: String,
    /// Device of our side, see `bert devices`; PyTorch takes a GPU where there is one, unless this is the CPU
    #[arg(long, default_value = "flex")]
    device: String,
    /// float32, or bfloat16 for products on our side and autocast to bfloat16 on PyTorch's
    #[arg(long, default_value = "float32")]
    precision: String,
    /// Pooling of the model; PyTorch's steps and inference always have cls
    #[arg(long, default_value = "cls")]
    pooling: String,
    /// With the job epoch: also PyTorch with every text padded to 128 tokens
    #[arg(long)]
    pad_max: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Job {
    /// One step of training
    Step,
    /// One pass in evaluation
    Infer,
    /// One epoch of MiniLM on SST-2
    Epoch,
    /// Until the first step of MiniLM on SST-2 is done
    Startup,
    /// One step on texts of equal length and of mixed lengths, as many tokens each (ours only)
    Flat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Shape {
    /// 2 layers of 128, batches of 32
    Tiny,
    /// 6 layers of 384, batches of 32
    Minilm,
    /// 12 layers of 768, batches of 8
    Base,
}

impl Shape {
    fn batch(self) -> usize {
        if self == Self::Base { 8 } else { 32 }
    }
}

/// As on the command line.
fn name(value: &impl ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

/// What several sides do in turn.
struct Case {
    job: Job,
    shape: Shape,
    batch: usize,
    sides: Vec<Side>,
}

/// Times what `bench` asks for.
pub fn bench(bench: &Bench) -> Result<(), String> {
    let build = Build::new(&bench.features)?;
    let has_torch = Command::new(&bench.python)
        .args(["-c", "import torch, transformers"])
        .output()
        .is_ok_and(|output| output.status.success());
    if !has_torch {
        eprintln!(
            "{}: no torch and transformers; only our side runs (--python PATH)",
            bench.python
        );
    }
    let folder = tempfile::tempdir().map_err(|error| format!("no temporary folder: {error}"))?;
    let mut cases = bench.cases(&build, folder.path())?;
    if !has_torch {
        cases.iter_mut().for_each(|case| case.sides.retain(|side| side.side == "ours"));
    }
    let mut table = vec![];
    for case in &mut cases {
        let runs = case.run(bench.rounds)?;
        for (side, runs) in case.sides.iter().zip(&runs).filter(|_| bench.json) {
            println!("{}", case.json(side, runs));
        }
        table.extend(case.rows(&runs));
    }
    if !table.is_empty() && !bench.json {
        println!("The fastest of {} rounds; the ratio is ours over that row's.\n", bench.rounds);
        table.iter().for_each(|row| println!("{row}"));
    }
    Ok(())
}

impl Bench {
    fn cases(&self, build: &Build, folder: &Path) -> Result<Vec<Case>, String> {
        let shapes = |default: &[Shape]| self.shape.map_or(default.to_vec(), |shape| vec![shape]);
        let all = [Shape::Tiny, Shape::Minilm, Shape::Base];
        let mut cases = vec![];
        let wanted = |job| self.job.is_none_or(|only| only == job);
        for job in [Job::Step, Job::Infer].into_iter().filter(|job| wanted(*job)) {
            cases.extend(shapes(&all).into_iter().map(|shape| self.step(build, job, shape)));
        }
        if wanted(Job::Flat) {
            let shapes = shapes(&[Shape::Minilm]).into_iter();
            cases.extend(shapes.map(|shape| self.flat(build, shape)));
        }
        let data = Data::find();
        for job in [Job::Epoch, Job::Startup].into_iter().filter(|job| wanted(*job)) {
            match &data {
                Err(absent) => {
                    eprintln!("{}: skipped: no {absent} (BERT_TUNE_DATA)", name(&job));
                }
                Ok(data) if job == Job::Epoch => cases.push(self.epoch(build, data, folder)),
                Ok(data) => cases.push(self.startup(build, data, folder)?),
            }
        }
        Ok(cases)
    }

    fn step(&self, build: &Build, job: Job, shape: Shape) -> Case {
        let what = "median of 6 after 2 to warm up";
        let [job_name, shape_name] = [name(&job), name(&shape)];
        let (batch, seq) = (shape.batch().to_string(), SEQ.to_string());
        let arguments = [&job_name, "--shape", &shape_name, "--batch", &batch, "--seq", &seq]
            .map(str::to_owned);
        let mut ours = self.ours(&build.jobs);
        ours.args(&arguments).args(self.running());
        let mut theirs = self.pytorch();
        theirs.args(&arguments).args(self.autocast());
        let sides = [("ours", ours), ("pytorch", theirs)].map(|(side, command)| Side {
            side,
            what: what.to_owned(),
            command,
            clock: Clock::Printed("ms", 1.0),
        });
        Case { job, shape, batch: shape.batch(), sides: sides.into() }
    }

    fn flat(&self, build: &Build, shape: Shape) -> Case {
        let tokens = shape.batch() * SEQ;
        let sides = ["equal", "mixed"].map(|lengths| {
            let (batch, seq) = (shape.batch().to_string(), SEQ.to_string());
            let mut command = self.ours(&build.jobs);
            command
                .args(["step", "--shape", &name(&shape), "--batch", &batch, "--seq", &seq])
                .args(["--lengths", lengths])
                .args(self.running());
            Side {
                side: "ours",
                what: format!("a step on {tokens} tokens, per 1000 of them, {lengths} lengths"),
                command,
                clock: Clock::Printed("ms", 1e3 / tokens as f64),
            }
        });
        Case { job: Job::Flat, shape, batch: shape.batch(), sides: sides.into() }
    }

    fn epoch(&self, build: &Build, data: &Data, folder: &Path) -> Case {
        let what = |more: &str| format!("train_seconds of one epoch{more}");
        let mut ours = self.train(build, data, folder);
        ours.args(["--epochs", "1", "--json"]);
        let clock = || Clock::Printed("train_seconds", 1e3);
        let mut sides = vec![Side { side: "ours", what: what(""), command: ours, clock: clock() }];
        for pad in ["longest", "max"].into_iter().take(1 + usize::from(self.pad_max)) {
            let mut command = self.finetune(&data.model, &data.train, &data.dev);
            command.args(["--pad", pad]);
            let what = what(&format!(", padded to the {pad}"));
            sides.push(Side { side: "pytorch", what, command, clock: clock() });
        }
        Case { job: Job::Epoch, shape: Shape::Minilm, batch: BATCH, sides }
    }

    fn startup(&self, build: &Build, data: &Data, folder: &Path) -> Result<Case, String> {
        let text = fs::read_to_string(&data.train)
            .map_err(|error| format!("{}: {error}", data.train.display()))?;
        let [train, dev] = [("train.tsv", BATCH), ("dev.tsv", 2)].map(|(file, rows)| {
            let path = folder.join(file);
            let rows: String = text.split_inclusive('\n').take(rows).collect();
            fs::write(&path, rows).map(|()| path).map_err(|error| format!("{file}: {error}"))
        });
        let ours = Side {
            side: "ours",
            what: "from the start of the process to the end of the first step on all rows".into(),
            command: self.train(build, data, folder),
            clock: Clock::Until("step 1/"),
        };
        let pytorch = Side {
            side: "pytorch",
            what: "the whole process: one step on 32 rows, 2 rows evaluated".into(),
            command: self.finetune(&data.model, &train?, &dev?),
            clock: Clock::Whole,
        };
        let sides = vec![ours, pytorch];
        Ok(Case { job: Job::Startup, shape: Shape::Minilm, batch: BATCH, sides })
    }

    fn ours(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        // As many as the script takes.
        command.env("RAYON_NUM_THREADS", "2");
        command
    }

    fn train(&self, build: &Build, data: &Data, folder: &Path) -> Command {
        let mut command = self.ours(&build.bert);
        command.arg("train");
        for (flag, path) in [
            ("--model", &data.model),
            ("--train", &data.train),
            ("--dev", &data.dev),
            ("--out", &folder.join("run")),
        ] {
            command.arg(flag).arg(path);
        }
        command.args(["--max-length", &SEQ.to_string(), "--batch-size", &BATCH.to_string()]);
        command.arg("--overwrite").args(self.running());
        command
    }

    /// How our side runs.
    fn running(&self) -> [&str; 6] {
        ["--device", &self.device, "--precision", &self.precision, "--pooling", &self.pooling]
    }

    /// How PyTorch runs where our side multiplies in bfloat16.
    fn autocast(&self) -> Option<&'static str> {
        (self.precision == "bfloat16").then_some("--amp")
    }

    fn pytorch(&self) -> Command {
        let mut command = Command::new(&self.python);
        command.arg(PEER);
        if ["flex", "ndarray", "tch", "wgpu:cpu"].contains(&self.device.as_str()) {
            command.env("CUDA_VISIBLE_DEVICES", "");
        }
        command
    }

    /// One epoch with batches of like lengths, as ours.
    fn finetune(&self, model: &Path, train: &Path, dev: &Path) -> Command {
        let mut command = self.pytorch();
        command.arg("finetune");
        for (flag, path) in [("--model", model), ("--train", train), ("--dev", dev)] {
            command.arg(flag).arg(path);
        }
        command.args(["--max-len", &SEQ.to_string(), "--batch", &BATCH.to_string()]);
        command.args(["--epochs", "1", "--group-by-length", "--pooling", &self.pooling]);
        command.args(self.autocast());
        command
    }
}

/// MiniLM and SST-2.
struct Data {
    model: PathBuf,
    train: PathBuf,
    dev: PathBuf,
}

impl Data {
    /// In `BERT_TUNE_DATA`, else the path that is absent.
    fn find() -> Result<Self, String> {
        let folder = PathBuf::from(env::var_os("BERT_TUNE_DATA").unwrap_or_default());
        let find = |path| {
            let path = folder.join(path);
            if path.exists() { Ok(path) } else { Err(path.display().to_string()) }
        };
        Ok(Self {
            model: find("models/all-MiniLM-L6-v2")?,
            train: find("data/sst2/train.tsv")?,
            dev: find("data/sst2/dev.tsv")?,
        })
    }
}

/// The programs of our side.
struct Build {
    bert: PathBuf,
    jobs: PathBuf,
}

impl Build {
    fn new(features: &str) -> Result<Self, String> {
        let targets = ["--bin", "bert", "--bench", "jobs"];
        let [bert, jobs] = build(["bert", "jobs"], &targets, features)?;
        Ok(Self { bert, jobs })
    }
}

impl Case {
    /// The runs of each side, which take turns.
    fn run(&mut self, rounds: u32) -> Result<Vec<Vec<Run>>, String> {
        let mut runs: Vec<Vec<Run>> = self.sides.iter().map(|_| vec![]).collect();
        let what = format!("{} {}", name(&self.job), name(&self.shape));
        for round in 1..=rounds {
            for (side, runs) in self.sides.iter_mut().zip(&mut runs) {
                let run = side.run().map_err(|error| format!("{what}, {}: {error}", side.side))?;
                eprintln!("{what}, round {round}: {} {:.1} ms", side.side, run.ms);
                runs.push(run);
            }
        }
        Ok(runs)
    }

    fn json(&self, side: &Side, runs: &[Run]) -> Value {
        json!({
            "side": side.side,
            "job": name(&self.job),
            "shape": name(&self.shape),
            "batch": self.batch,
            "seq": SEQ,
            "ms": fastest(runs),
            "peak_mb": peak(runs),
            "what": side.what,
            "runs_ms": runs.iter().map(|run| run.ms).collect::<Vec<_>>(),
        })
    }

    /// A line of the table for each side.
    fn rows(&self, runs: &[Vec<Run>]) -> Vec<String> {
        let ours = fastest(&runs[0]);
        let rows = self.sides.iter().zip(runs).map(|(side, runs)| {
            let peak = peak(runs).map_or("?".to_owned(), |peak| peak.to_string());
            format!(
                "{:8} {:7} {:2} x {SEQ}  {:8}{:>11.1} ms{peak:>7} MB   ratio {:.2}   {}",
                name(&self.job),
                name(&self.shape),
                self.batch,
                side.side,
                fastest(runs),
                ours / fastest(runs),
                side.what
            )
        });
        rows.collect()
    }
}

fn fastest(runs: &[Run]) -> f64 {
    runs.iter().map(|run| run.ms).fold(f64::INFINITY, f64::min)
}

fn peak(runs: &[Run]) -> Option<u64> {
    runs.iter().filter_map(|run| run.peak_mb).max()
}
