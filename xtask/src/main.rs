//! What CI runs, a person can run: `cargo xtask ci`.

mod bench;
mod build;
mod chart;
mod fuzz;
mod long;
mod memory;
mod multi_task;
mod oov;
mod pairs;
mod pooling;
mod process;
mod side;
mod torture;

use std::{
    env,
    process::{Command, ExitCode},
};

use clap::{Parser, Subcommand};

/// Checks, tests, fixtures and benchmarks of the workspace.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Formatting and lints
    Check,
    /// Every test, on every backend that needs no GPU, in one build
    Test,
    /// Every example, as the README runs it
    Examples,
    /// The PyTorch reference that the parity tests compare with (needs Python with torch, transformers, safetensors and peft)
    Fixtures {
        /// Python with the packages
        #[arg(long, default_value = "python3")]
        python: String,
        /// A directory with all-MiniLM-L6-v2
        #[arg(long)]
        minilm: String,
    },
    Bench(bench::Bench),
    Fuzz(fuzz::Fuzz),
    Long(long::Long),
    Memory(memory::Memory),
    MultiTask(multi_task::MultiTask),
    Oov(oov::Oov),
    Pairs(pairs::Pairs),
    Pooling(pooling::Pooling),
    Torture(torture::Torture),
    /// Check and test
    Ci,
}

/// The PyTorch side of every comparison.
const PEER: &str = "xtask/pytorch_peer.py";

/// One build for tests and lints: every backend that needs no GPU.
const FEATURES: [&str; 3] = ["--workspace", "--features", "ndarray,wgpu,dashboard"];

fn main() -> ExitCode {
    let result = match Arguments::parse().task {
        Task::Check => check(),
        Task::Test => test(),
        Task::Examples => examples(),
        Task::Fixtures { python, minilm } => {
            let script = |name| format!("crates/bert-core/tests/reference/{name}");
            run(Command::new(&python).args([&script("make_reference.py"), &minilm]))
                .and_then(|()| run(Command::new(&python).arg(script("make_lora.py"))))
        }
        Task::Bench(arguments) => bench::bench(&arguments),
        Task::Fuzz(arguments) => fuzz::fuzz(&arguments),
        Task::Memory(arguments) => memory::memory(&arguments),
        Task::Long(arguments) => long::long(&arguments),
        Task::MultiTask(arguments) => multi_task::multi_task(&arguments),
        Task::Oov(arguments) => oov::oov(&arguments),
        Task::Pairs(arguments) => pairs::pairs(&arguments),
        Task::Pooling(arguments) => pooling::pooling(&arguments),
        Task::Torture(arguments) => torture::torture(&arguments),
        Task::Ci => check().and_then(|()| test()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}

fn check() -> Result<(), String> {
    run(cargo().args(["fmt", "--all", "--check"]))?;
    run(cargo()
        .args(["clippy", "--release", "--all-targets"])
        .args(FEATURES)
        .args(["--", "-D", "warnings"]))
}

fn test() -> Result<(), String> {
    run(cargo().args(["test", "--release"]).args(FEATURES))
}

fn examples() -> Result<(), String> {
    for example in ["adaptive_pooling", "task_embedding"] {
        run(cargo().args(["run", "--release", "--example", example]))?;
    }
    Ok(())
}

fn cargo() -> Command {
    Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

fn run(command: &mut Command) -> Result<(), String> {
    let shown = format!("{command:?}").replace('"', "");
    eprintln!("$ {shown}");
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{shown}: {status}")),
        Err(error) => Err(format!("{shown} could not be started: {error}")),
    }
}
