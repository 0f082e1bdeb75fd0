//! The program `bert`: fine-tunes BERT-family encoders and applies them.

mod arguments;
mod compare;
mod controlling;
mod devices;
mod embed;
mod eval;
mod export;
mod inspect;
mod interrupt;
mod merge;
mod predict;
mod recipe_flags;
mod report;
mod search;
mod train;
mod vocab;
mod watching;
mod weights;

use std::{fmt, io, process::ExitCode};

use clap::{Parser, Subcommand};

/// Fine-tune BERT-family encoders on any backend, in pure Rust.
#[derive(Debug, Parser)]
#[command(name = "bert", version, after_help = EXAMPLES, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  bert train --model all-MiniLM-L6-v2 --train train.tsv --out run
  bert eval --model run --data test.tsv
  bert search search.toml --out found
  bert compare runs/mean/seed-* runs/adaptive/seed-* --html compared.html
  bert report run
  bert predict --model run --text 'a film that lingers' --weights ansi
  bert embed --model all-MiniLM-L6-v2 --input texts.txt > vectors.jsonl
  bert vocab scan texts.txt --model all-MiniLM-L6-v2 --out words.txt
  bert export --model run --out plain
  bert merge --model all-MiniLM-L6-v2 --adapter run/adapter --out merged
  bert inspect --model run

Exit codes: 0 done, 1 failed while working, 2 bad input or usage, 130 interrupted.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Fine-tune a checkpoint on labelled texts
    Train(Box<train::Train>),
    /// Train with many settings drawn from a space, and say which are best
    Search(search::Search),
    /// Measure a trained model on labelled texts
    Eval(eval::Eval),
    /// Say which of several trainings is better, and whether that is more than chance
    Compare(compare::Compare),
    /// Make the page of a run anew from the files in its directory
    Report(report::Report),
    /// Classify texts
    Predict(predict::Predict),
    /// Turn texts into vectors
    Embed(embed::Embed),
    /// Write a trained model as an ordinary BERT
    Export(export::Export),
    /// Add adapters to the model that they were trained beside
    Merge(merge::Merge),
    /// Find words that the vocabulary breaks, and add them to it
    Vocab(vocab::Vocab),
    /// Show what a model directory holds
    Inspect(inspect::Inspect),
    /// List the devices of the backends that were compiled in
    Devices,
}

/// Why the program ends without having done its work.
#[derive(Debug)]
enum Failure {
    /// What the libraries report.
    Train(bert_train::Error),
    /// A flag that no library knows of.
    Usage(String),
    /// Standard output or an input could not be used.
    Io(io::Error),
}

impl From<bert_train::Error> for Failure {
    fn from(error: bert_train::Error) -> Self {
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

impl Failure {
    fn code(&self) -> u8 {
        match self {
            Self::Train(error) if error.is_interruption() => interrupt::CODE,
            Self::Train(error) if error.is_bad_input() => 2,
            Self::Usage(_) => 2,
            Self::Train(_) | Self::Io(_) => 1,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(message) => f.write_str(message),
            Self::Train(error) => error.fmt(f),
            Self::Io(error) => write!(f, "input or output failed: {error}"),
        }
    }
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Train(arguments) => arguments.run(),
        Command::Search(arguments) => arguments.run(),
        Command::Eval(arguments) => arguments.run(),
        Command::Compare(arguments) => arguments.run(),
        Command::Report(arguments) => arguments.run(),
        Command::Predict(arguments) => arguments.run(),
        Command::Embed(arguments) => arguments.run(),
        Command::Export(arguments) => arguments.run(),
        Command::Merge(arguments) => arguments.run(),
        Command::Vocab(arguments) => arguments.run(),
        Command::Inspect(arguments) => arguments.run(),
        Command::Devices => devices::run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads the output has read enough, as `head` does.
        Err(Failure::Io(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(Failure::Train(error)) if error.is_interruption() => {
            eprintln!("{error}");
            ExitCode::from(interrupt::CODE)
        }
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::from(failure.code())
        }
    }
}
