//! How a person watches a run.

use std::io::{self, IsTerminal};

use bert_train::{Observer, Progress};
use clap::Args;

use crate::{Failure, arguments::typed, interrupt};

/// How a run is watched.
#[derive(Debug, Args)]
pub struct Watching {
    /// Show the run on the whole terminal, with curves of loss and scores: arrows choose another, q ends; for programs built
    /// with the feature dashboard
    #[arg(long)]
    dashboard: bool,
}

impl Watching {
    /// What follows a run that Ctrl-C ends; what it shows is gone when it is dropped.
    ///
    /// # Errors
    /// [`Failure::Usage`] where a dashboard can't be shown.
    pub fn observer(&self) -> Result<Box<dyn Observer>, Failure> {
        let progress = Progress::new().until(interrupt::flag()?).of_command(typed());
        if !self.dashboard {
            return Ok(Box::new(progress));
        }
        if !io::stdout().is_terminal() {
            let message = "--dashboard expected a terminal as standard output, which is something else: leave the flag out";
            return Err(Failure::Usage(message.to_owned()));
        }
        dashboard(progress)
    }
}

#[cfg(feature = "dashboard")]
fn dashboard(progress: Progress) -> Result<Box<dyn Observer>, Failure> {
    Ok(Box::new(bert_train::Dashboard::new(progress)))
}

#[cfg(not(feature = "dashboard"))]
fn dashboard(_: Progress) -> Result<Box<dyn Observer>, Failure> {
    let message = "--dashboard is not in this program: build it with --features dashboard";
    Err(Failure::Usage(message.to_owned()))
}
