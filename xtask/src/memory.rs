//! Whether a long run holds its memory.

use std::process::Command;

use clap::Args;

use crate::{build::build, run};

/// Train 2,000 steps at a fixed batch shape, and hold the resident memory on the way against that after 100
#[derive(Debug, Args)]
pub struct Memory {
    /// Cargo features to build with, beside the default ones
    #[arg(long, default_value = "")]
    features: String,
}

pub fn memory(memory: &Memory) -> Result<(), String> {
    let [program] = build(["memory"], &["--bench", "memory"], &memory.features)?;
    run(&mut Command::new(program))
}
