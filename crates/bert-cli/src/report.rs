//! `bert report`.

use std::{
    io::{self, Write},
    path::PathBuf,
};

use bert_train::write_report;
use clap::Args;

use crate::Failure;

const EXAMPLES: &str = "\
Examples:
  # run/report.html anew, of a run that is under way, broke off, or has come to its end
  bert report run

  bert report run --out page.html

`bert train` writes the page itself at the end of each run. `bert compare RUN RUN... --html FILE` puts runs on one page.";

/// Make the page of a run anew from the files in its directory
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Report {
    /// Directory that `bert train` wrote, or is writing
    #[arg(value_name = "RUN")]
    run: PathBuf,
    /// File to write the page to [default: report.html in the run's directory]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

impl Report {
    /// Writes the page, and says where it is.
    pub fn run(self) -> Result<(), Failure> {
        let path = write_report(&self.run, self.out.as_deref())?;
        writeln!(io::stdout(), "{}", path.display())?;
        Ok(())
    }
}
