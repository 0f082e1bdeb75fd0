//! `bert search`.

use std::{
    io::{self, Write},
    path::PathBuf,
};

use bert_train::{Error, SearchConfig, search};
use clap::Args;

use crate::{Failure, devices::device, watching::Watching};

const EXAMPLES: &str = "\
A search file names a run file, or holds its keys in a table [run], and says what is drawn for each trial:

  run = \"run.toml\"
  trials = 20
  seed = 0                                   # what all draws depend on [default: 0]
  method = { kind = \"random\" }               # the default; or successive halving: one in eta trials goes on, eta times as long
  # method = { kind = \"halving\", eta = 3, epochs = [1, 9] }       # or steps = [100, 900]

  [space]                                    # any keys of the run file
  lr = { log = [1e-5, 1e-3] }
  epochs = { int = [2, 5] }
  weight_decay = { uniform = [0, 0.1] }
  pooling = { choice = [\"mean\", \"adaptive\"] }
  [space.task.intent]                        # of several tasks
  weight = { uniform = [0.5, 2] }

Examples:
  bert search search.toml --out found
  bert train found/trial-7/run.toml --seeds 5 --out best      # the best settings again, with five seeds

The same command, without --overwrite, goes on with a search that broke off, and adds the trials that the file has more by \
now. What trials of the same table read must not change: neither data nor model, nor the method.";

/// Train with many settings drawn from a space, and say which are best.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Search {
    /// Search file
    search_file: PathBuf,
    /// Directory to write the trials to, each as a run of its own: OUT/trial-K
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Backend to train on, see `bert devices` [default: BURN_DEVICE, else the first there]
    #[arg(long, value_name = "DEVICE")]
    device: Option<String>,
    /// Train all trials anew: what is there of them is taken away first
    #[arg(long)]
    overwrite: bool,
    #[command(flatten)]
    watching: Watching,
    /// Print the table as one line of JSON on standard output
    #[arg(long)]
    json: bool,
}

impl Search {
    /// Searches.
    pub fn run(self) -> Result<(), Failure> {
        let config = SearchConfig::load(&self.search_file)?;
        let device = device(self.device.as_deref())?;
        let mut observer = self.watching.observer()?;
        let report = search(&config, &self.out, self.overwrite, &device, &mut *observer)?;
        drop(observer);
        let mut out = io::stdout().lock();
        if self.json {
            writeln!(out, "{}", serde_json::to_string(&report).map_err(io::Error::from)?)?;
        } else {
            write!(out, "{report}")?;
        }
        match report.best {
            Some(_) => Ok(()),
            None => Err(Error::NoTrial { trials: report.trials.len() }.into()),
        }
    }
}
