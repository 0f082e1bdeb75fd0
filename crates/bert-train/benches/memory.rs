//! The resident memory of a long run at a fixed batch shape, logging, evaluation and checkpoints on.
//!
//! `memory [--steps N] [--device DEVICE]`
//!
//! Prints a line of JSON at steps 100, 500, 1000, ... and ends with an error where one is more than 3 % above the first.

#[path = "../../bert-cli/src/devices.rs"]
#[allow(dead_code)] // INVARIANT: the program lists the devices, this names one.
mod devices;

use std::{env, fmt::Write, fs, io, path::Path, process::ExitCode};

use bert_core::{Bert, BertConfig, Tokenizer, initialise, named_parameters, write_safetensors};
use bert_heads::PoolingKind;
use bert_train::{Error, Every, Observer, Progress, RunConfig, StepReport, run};
use burn::tensor::Device;
use serde_json::json;

/// Why nothing could be measured.
enum Failure {
    Usage(String),
    Train(Error),
    Io(io::Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Train(error)
    }
}

impl From<bert_core::Error> for Failure {
    fn from(error: bert_core::Error) -> Self {
        Self::Train(error.into())
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// How much more than at the first mark is a leak.
const MOST: f64 = 1.03;

fn main() -> ExitCode {
    let message = match measure() {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Failure::Usage(message)) => message,
        Err(Failure::Train(error)) => error.to_string(),
        Err(Failure::Io(error)) => error.to_string(),
    };
    eprintln!("error: {message}");
    ExitCode::FAILURE
}

fn measure() -> Result<(), Failure> {
    // `cargo bench` adds a flag of its own.
    let arguments: Vec<String> = env::args().skip(1).filter(|word| word != "--bench").collect();
    let value = |flag: &str| {
        let at = arguments.iter().position(|word| word == flag)?;
        arguments.get(at + 1).map(String::as_str)
    };
    let steps = value("--steps").unwrap_or("2000").parse();
    let steps: usize = steps.map_err(|_| Failure::Usage("--steps: expected a number".into()))?;
    let device = devices::device(value("--device"))?;
    let folder = tempfile::tempdir()?;
    let (model, train) = (folder.path().join("model"), folder.path().join("train.tsv"));
    write_model(&model, &device)?;
    let dev = folder.path().join("dev.tsv");
    fs::write(&train, rows(640))?;
    fs::write(&dev, rows(160))?;

    let mut config = RunConfig::new(model, train);
    config.dev = Some(dev);
    config.pooling = PoolingKind::Adaptive;
    config.recipe.batch_size = 16;
    config.recipe.epochs = steps.div_ceil(640 / 16);
    config.recipe.control.max_steps = Some(steps);
    config.recipe.control.eval_every = Every::Steps(25);
    config.recipe.control.checkpoint_every = Every::Steps(40);
    let mut watch = Watch { progress: Progress::new(), marks: vec![] };
    run(&config, &folder.path().join("run"), false, &device, &mut watch)?;
    let [first, ..] = watch.marks[..] else {
        return Err(Failure::Usage(
            "expected at least 100 steps, and a system that has /proc".into(),
        ));
    };
    match watch.marks.iter().find(|mark| **mark > MOST * first) {
        Some(mark) => {
            Err(Failure::Usage(format!("{mark:.1} MB are more than 3 % above {first:.1} MB")))
        }
        None => Ok(()),
    }
}

/// Prints the memory at some steps.
struct Watch {
    progress: Progress,
    marks: Vec<f64>,
}

impl Observer for Watch {
    fn step(&mut self, report: &StepReport) {
        self.progress.step(report);
        let step = report.step + 1;
        if step == 100 || step.is_multiple_of(500) {
            let Some(mb) = resident_mb() else { return };
            self.marks.push(mb);
            println!(
                "{}",
                json!({ "step": step, "resident_mb": mb, "of_first": mb / self.marks[0] })
            );
        }
    }
}

/// The memory that the process holds, in MB of 2^20 bytes, where the system says so.
fn resident_mb() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.split_whitespace().next()?.parse::<f64>().ok()? / 1024.0)
}

/// Words that all rows are made of, beside the special ones.
const WORDS: usize = 1000;

/// Two layers of 128, at their starting values.
fn write_model(dir: &Path, device: &Device) -> Result<(), Failure> {
    let special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"].map(str::to_owned);
    let words = special.into_iter().chain((0..WORDS).map(|word| format!("w{word}")));
    let tokenizer = Tokenizer::from_vocab(words, true)?;
    let config = BertConfig {
        vocab_size: tokenizer.vocab_size(),
        hidden_size: 128,
        num_hidden_layers: 2,
        num_attention_heads: 2,
        intermediate_size: 512,
        max_position_embeddings: 64,
        ..BertConfig::default()
    };
    tokenizer.save(dir)?;
    config.save(dir)?;
    let bert = initialise(Bert::new(&config, device), "", 0, config.initializer_range);
    write_safetensors(dir.join("model.safetensors"), &named_parameters(&bert, ""))?;
    Ok(())
}

/// Texts of 30 words each, whose label hangs on the first.
fn rows(count: usize) -> String {
    let mut rows = String::new();
    for row in 0..count {
        for word in 0..30 {
            let _ = write!(rows, "w{} ", (row * 37 + word * 101 + word * row) % WORDS);
        }
        let _ = writeln!(rows, "\t{}", ["even", "odd"][row % 2]);
    }
    rows
}
