//! `bert export`.

use std::path::PathBuf;

use clap::Args;

use crate::{Failure, devices::device};

/// Write a trained model as an ordinary BERT, its task embedding folded into the word embeddings.
#[derive(Debug, Args)]
pub struct Export {
    /// Model that `bert train` wrote
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Task of a model of several, to be written by itself: a classification of texts [default: all]
    #[arg(long, value_name = "NAME")]
    task: Option<String>,
    /// Directory to write, absent or empty
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Backend to fold on, see `bert devices`
    #[arg(long, value_name = "DEVICE")]
    device: Option<String>,
}

impl Export {
    /// Exports.
    pub fn run(self) -> Result<(), Failure> {
        let device = device(self.device.as_deref())?;
        Ok(bert_train::export(&self.model, self.task.as_deref(), &self.out, &device)?)
    }
}
