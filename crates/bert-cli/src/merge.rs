//! `bert merge`.

use std::path::PathBuf;

use clap::Args;

use crate::{Failure, devices::device};

const EXAMPLES: &str = "\
Examples:
  # a run with adapters leaves what it has trained in run/adapter
  bert train --model all-MiniLM-L6-v2 --train train.tsv --lora rank=8 --out run

  # with the model that it started from, that is the run's model again
  bert merge --model all-MiniLM-L6-v2 --adapter run/adapter --out merged
  bert predict --model merged --text 'a film that lingers'";

/// Add adapters, of `bert train --lora` or of PEFT, to the model that they were trained beside, and write it whole.
///
/// Adapters of `bert train` bring settings and labels with them. Those of PEFT give a model in Hugging Face's layout, with the
/// labels of DIR, or LABEL_0 and so on where there are more or fewer.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Merge {
    /// Model that the adapters were trained beside, in Hugging Face's layout
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Directory of the adapters: adapter_config.json and adapter_model.safetensors
    #[arg(long, value_name = "DIR")]
    adapter: PathBuf,
    /// Directory to write, absent or empty
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

impl Merge {
    /// Merges.
    pub fn run(self) -> Result<(), Failure> {
        Ok(bert_train::merge(&self.model, &self.adapter, &self.out, &device(None)?)?)
    }
}
