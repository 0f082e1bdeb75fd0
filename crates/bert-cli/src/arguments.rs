//! Arguments that several commands share.

use std::{
    env,
    path::{Path, PathBuf},
};

use bert_kernels::{Precision, set_precision};
use bert_train::{Column, Columns, Examples, Format};
use burn::tensor::Device;
use clap::Args;

use crate::{Failure, devices::device};

/// Which columns of a labelled file are read.
#[derive(Debug, Args)]
pub struct LabelledColumns {
    /// Column of the text: a name, or a number from 1; twice for a pair [default: all but the last; of a model that is
    /// measured, what it was trained on]
    #[arg(long, value_name = "COL")]
    pub text: Vec<Column>,
    /// Column of the label: a name, or a number from 1 [default: the last; of a model that is measured, what it
    /// was trained on]
    #[arg(long, value_name = "COL")]
    pub label: Option<Column>,
    /// Column of the words of a sentence, for tagging: a name, or a number from 1 [default: the first of a .conll file]
    #[arg(long, value_name = "COL", conflicts_with = "text")]
    pub tokens: Option<Column>,
    /// Column of the tags of the words: a name, or a number from 1 [default: the last of a .conll file]
    #[arg(long, value_name = "COL", conflicts_with_all = ["text", "label"])]
    pub tags: Option<Column>,
    /// The first row is a header (as it is wherever a column is given by name)
    #[arg(long)]
    pub header: bool,
    /// tsv, csv, jsonl, json, conll or txt [default: by the file's extension]
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<Format>,
}

impl LabelledColumns {
    /// The columns, each from `default` where it is not given.
    pub fn or(&self, default: &Columns) -> Columns {
        let labels = [&self.label, &self.tokens, &self.tags];
        let is_given = !self.text.is_empty() || labels.iter().any(|column| column.is_some());
        Columns {
            text: if self.text.is_empty() { default.text.clone() } else { self.text.clone() },
            label: self.label.clone().or_else(|| default.label.clone()),
            // Whoever names the columns anew speaks of another file, with or without a header.
            tokens: self.tokens.clone().or_else(|| default.tokens.clone()),
            tags: self.tags.clone().or_else(|| default.tags.clone()),
            header: self.header || (default.header && !is_given),
            ..default.clone()
        }
    }
}

/// The texts that a trained model is applied to.
#[derive(Debug, Args)]
pub struct Texts {
    /// File of texts
    #[arg(long, value_name = "FILE")]
    pub input: Option<PathBuf>,
    /// Column of the text: a name, or a number from 1; twice for a pair [default: the first, as many as the model takes]
    #[arg(long, value_name = "COL", requires = "input")]
    pub column: Vec<Column>,
    /// The first row is a header (as it is wherever a column is given by name)
    #[arg(long, requires = "input")]
    pub header: bool,
    /// tsv, csv, jsonl, json, conll or txt [default: by the file's extension]
    #[arg(long, value_name = "FORMAT", requires = "input")]
    pub format: Option<Format>,
}

/// How many texts of a file are held at once.
pub const PART: usize = 4096;

impl Texts {
    /// The texts of the file, `texts` a row where no column is given.
    pub fn examples(&self, path: &Path, texts: usize) -> Result<Examples, Failure> {
        let columns =
            Columns { text: self.column.clone(), header: self.header, ..Columns::default() };
        let examples = Examples::unlabelled(path, self.format, &columns, texts)?;
        let (all, path) = (examples.columns(), path.display());
        if self.column.is_empty() && all > texts {
            let read = if texts == 1 { "first is" } else { "first two are" };
            eprintln!(
                "{path} has {all} columns, of which the {read} read: name others with --column COL"
            );
        }
        Ok(examples)
    }
}

/// Hands rows to `apply` part by part, each of so many rows.
pub fn in_parts<R>(
    mut rows: impl Iterator<Item = bert_train::Result<R>>,
    part: usize,
    mut apply: impl FnMut(&[R]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    loop {
        let rows = rows.by_ref().take(part).collect::<bert_train::Result<Vec<R>>>()?;
        if rows.is_empty() {
            return Ok(());
        }
        apply(&rows)?;
    }
}

/// How a trained model is run.
#[derive(Debug, Args)]
pub struct Running {
    /// Most tokens of a text that are read together [default: the model's]
    #[arg(long, value_name = "N")]
    pub max_length: Option<usize>,
    /// Texts run together
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = positive)]
    pub batch_size: usize,
    /// float32, or bfloat16 for the products of affine maps, on CPUs with AVX-512 BF16
    #[arg(long, value_name = "PRECISION", default_value_t)]
    pub precision: Precision,
    /// Backend to run on, see `bert devices` [default: BURN_DEVICE, else the first there]
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<String>,
}

impl Running {
    /// Opens the device and sets the precision.
    pub fn device(&self) -> Result<Device, Failure> {
        let device = device(self.device.as_deref())?;
        if !self.precision.is_available(&device) {
            return Err(bert_train::Error::Precision { precision: self.precision }.into());
        }
        set_precision(self.precision);
        Ok(device)
    }
}

/// A whole number from 1.
pub fn positive(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("expected a whole number from 1".to_owned()),
        Ok(number) => Ok(number),
    }
}

/// The program with its arguments, as it was called.
pub fn typed() -> Vec<String> {
    env::args_os().map(|word| word.to_string_lossy().into_owned()).collect()
}

/// Puts a flag, where it is given, in the place of what was there.
pub fn set<T: Clone>(place: &mut T, flag: &Option<T>) {
    if let Some(value) = flag {
        place.clone_from(value);
    }
}

/// Says on standard error that texts were cut to `limit`.
pub fn say_truncated(truncated: usize, rows: usize, limit: &str) {
    if truncated > 0 {
        eprintln!("{truncated} of {rows} texts are longer than {limit} and were cut");
    }
}
