//! `bert compare`.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};

use bert_train::{
    Comparison, Measurement, ScoreChoice, Scoring, TrainedModel, compare, write_comparison,
};
use clap::Args;

use crate::{
    Failure,
    arguments::{LabelledColumns, Running},
};

const EXAMPLES: &str = "\
Examples:
  # runs that differ in nothing but the seed are one group
  bert compare runs/mean/seed-* runs/adaptive/seed-*

  # also as a page, with the curves of all runs over each other
  bert compare runs/*/seed-* --html compared.html

  # the same models on data that no run has seen
  bert compare runs/*/seed-* --data test.tsv

  # by another score than chose the best models; one task of several
  bert compare runs/*/seed-* --metric f1_macro
  bert compare together-* --task polarity --data test.tsv

`bert train --pooling mean,adaptive --seeds 5 --out runs` trains such runs and ends with this comparison.";

/// Say which of several trainings is better, and whether that is more than chance.
#[derive(Debug, Args)]
#[command(
    after_help = EXAMPLES,
    mut_group("LabelledColumns", |group| group.requires("data")),
    mut_group("Running", |group| group.requires("data")),
)]
pub struct Compare {
    /// Directories that `bert train` wrote
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// Labelled rows to measure the models on, which the flags of columns and of how models are run belong to [default: what
    /// each run said of its dev rows]
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    #[command(flatten)]
    columns: LabelledColumns,
    /// Task of models of several to compare by [default: the mean over all]
    #[arg(long, value_name = "NAME")]
    task: Option<String>,
    /// Score to compare by, such as f1_macro or loss [default: that by which the runs chose their best models]
    #[arg(long, value_name = "NAME")]
    metric: Option<String>,
    #[command(flatten)]
    running: Running,
    /// Also write a page with tables and the curves of all runs
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

impl Compare {
    /// Compares.
    pub fn run(self) -> Result<(), Failure> {
        let score = ScoreChoice { task: self.task, metric: self.metric };
        let comparison = match &self.data {
            None => compare(&self.runs, Scoring::Dev(&score))?,
            Some(data) => {
                let device = self.running.device()?;
                let on = Measurement {
                    path: data,
                    format: self.columns.format,
                    columns: &|own| self.columns.or(own),
                    score,
                    max_length: self.running.max_length,
                    batch_size: self.running.batch_size,
                };
                let score = |run: &Path| TrainedModel::load(run, &device)?.score(run, &on, &device);
                compare(&self.runs, Scoring::Model(&score))?
            }
        };
        // The page comes after what has taken long to measure, and without regard to who reads that.
        let printed = print(&comparison, self.json);
        if let Some(path) = &self.html {
            write_comparison(&comparison, path)?;
        }
        printed
    }
}

/// Prints a comparison on standard output.
pub fn print(comparison: &Comparison, as_json: bool) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    if as_json {
        writeln!(out, "{}", serde_json::to_string(comparison).map_err(io::Error::from)?)?;
    } else {
        write!(out, "{comparison}")?;
    }
    Ok(())
}
