//! `bert vocab`.

use std::{
    io::{self, Write},
    path::PathBuf,
};

use bert_core::{VocabularyScan, WordInit, write_atomically};
use bert_train::{Column, Columns, Format, Progress, extend_vocabulary, scan_vocabulary};
use clap::{Args, Subcommand};

use crate::Failure;

const EXAMPLES: &str = "\
Examples:
  # what breaks, and what 500 words would mend
  bert vocab scan train.tsv --model all-MiniLM-L6-v2 --words 500 \\
    --out words.txt

  # a model that has them, and training their rows alone
  bert vocab extend --model all-MiniLM-L6-v2 --words words.txt --out extended
  bert train --model extended --train train.tsv --train-embeddings new \\
    --task-embedding low-rank=16 --out run";

/// Find words that the vocabulary breaks, and add them to it.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Vocab {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show how the words of texts are broken, and which new words would mend most
    Scan(Scan),
    /// Add words to the vocabulary of a model
    Extend(Extend),
}

#[derive(Debug, Args)]
struct Scan {
    /// Files of texts, or of sentences in tokens (.conll, or --tokens)
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Model directory in Hugging Face's layout
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Column of texts: a name, or a number from 1; may be given again [default: the first]
    #[arg(long, value_name = "COL")]
    text: Vec<Column>,
    /// Column of tokens with spaces between them, in place of texts: a name, or a number from 1
    #[arg(long, value_name = "COL", conflicts_with = "text")]
    tokens: Option<Column>,
    /// The first row is a header (as it is wherever a column is given by name)
    #[arg(long)]
    header: bool,
    /// tsv, csv, jsonl, json, conll or txt [default: by the file's extension]
    #[arg(long, value_name = "FORMAT")]
    format: Option<Format>,
    /// Most words to choose
    #[arg(long, value_name = "N", default_value_t = 1000)]
    words: usize,
    /// Print one line of JSON, with every word
    #[arg(long)]
    json: bool,
    /// File to write the chosen words to, one a line
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct Extend {
    /// Model directory in Hugging Face's layout
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// File of words, one a line, as `bert vocab scan --out` writes it
    #[arg(long, value_name = "FILE")]
    words: PathBuf,
    /// Where new rows start: mean (of the word's pieces) or sample (from the table's mean and covariance)
    #[arg(long, value_name = "INIT", default_value_t = WordInit::Mean)]
    init: WordInit,
    /// What random draws depend on
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Directory to write the extended model to, absent or empty
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

impl Vocab {
    /// Scans or extends.
    pub fn run(self) -> Result<(), Failure> {
        match self.command {
            Command::Scan(arguments) => arguments.run(),
            Command::Extend(arguments) => arguments.run(),
        }
    }
}

impl Scan {
    fn run(self) -> Result<(), Failure> {
        let columns = Columns {
            text: self.text,
            tokens: self.tokens,
            header: self.header,
            ..Columns::default()
        };
        let scan = scan_vocabulary(&self.model, &self.files, self.format, &columns, self.words)?;
        if let Some(path) = &self.out {
            let lines: String = scan.chosen.iter().flat_map(|word| [&word.word, "\n"]).collect();
            write_atomically(path, lines.as_bytes())?;
        }
        let mut out = io::stdout().lock();
        if self.json {
            writeln!(out, "{}", serde_json::to_string(&scan).map_err(io::Error::from)?)?;
        } else {
            print(&scan, &mut out)?;
        }
        Ok(())
    }
}

impl Extend {
    fn run(self) -> Result<(), Failure> {
        let Self { model, words, init, seed, out } = self;
        let added = extend_vocabulary(&model, &words, init, seed, &out, &mut Progress::new())?;
        writeln!(io::stdout(), "{added} words were added; the model is in {}", out.display())?;
        Ok(())
    }
}

/// The most words of a list that a person is shown.
const SHOWN: usize = 20;

fn print(scan: &VocabularyScan, out: &mut impl Write) -> io::Result<()> {
    writeln!(
        out,
        "{} texts, {} words, {} different: {:.3} pieces a word, {:.1} % split, {:.2} % unknown",
        scan.texts,
        scan.words,
        scan.distinct_words,
        scan.now.pieces_per_word,
        100.0 * scan.now.split,
        100.0 * scan.now.unknown
    )?;
    writeln!(
        out,
        "with {} of {} candidates: {:.3} pieces a word, texts {:.1} % shorter\n",
        scan.chosen.len(),
        scan.candidates,
        scan.extended.pieces_per_word,
        100.0 * scan.shorter
    )?;
    writeln!(out, "{:>8} {:>8}  word", "saved", "count")?;
    for word in scan.chosen.iter().take(SHOWN) {
        let pieces = word.pieces.join(" ");
        writeln!(out, "{:>8} {:>8}  {} = {pieces}", word.saved, word.count, word.word)?;
    }
    more(scan.chosen.len(), out)?;
    writeln!(
        out,
        "\n{} other words would be spelt otherwise, since a new word is their beginning",
        scan.changed.len()
    )?;
    for word in scan.changed.iter().take(SHOWN) {
        let (before, after) = (word.before.join(" "), word.after.join(" "));
        writeln!(out, "{:>17}  {} = {before}, then {after}", word.count, word.word)?;
    }
    more(scan.changed.len(), out)
}

fn more(words: usize, out: &mut impl Write) -> io::Result<()> {
    match words.saturating_sub(SHOWN) {
        0 => Ok(()),
        more => writeln!(out, "{:>17}  ... and {more} more (all with --json)", ""),
    }
}
