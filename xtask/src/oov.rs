//! What task embeddings and new words are worth on real text: the README's table and picture.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use clap::Args;

use crate::{
    PEER,
    chart::Chart,
    process::{bert, data, json, mean, number, once, output, percent},
};

/// Train MiniLM to find diseases with and without new words and a task embedding, and print the table
///
/// Every run is kept in --out, and a run that is there is not done again.
#[derive(Debug, Args)]
pub struct Oov {
    /// Folder for models and results
    #[arg(long, default_value = "target/oov")]
    out: PathBuf,
    /// Seeds, from 0
    #[arg(long, default_value_t = 3)]
    seeds: u64,
    /// Python with torch and transformers, for the same job there
    #[arg(long)]
    python: Option<String>,
    /// Cargo features to build with, beside the default ones
    #[arg(long, default_value = "")]
    features: String,
    /// File to draw the picture to
    #[arg(long)]
    picture: Option<PathBuf>,
}

/// New words, at most; they are chosen on the training sentences alone.
const WORDS: &str = "400";
const EPOCHS: &str = "3";
const RATE: &str = "3e-4";
const BATCH: &str = "16";
const MAX_LENGTH: &str = "256";
const TASK_EMBEDDING: [&str; 4] =
    ["--task-embedding", "low-rank=16", "--task-embedding-lr", "1e-3"];

/// A way to train.
struct Way {
    name: &'static str,
    has_new_words: bool,
    has_task_embedding: bool,
}

const WAYS: [Way; 4] = [
    Way { name: "plain", has_new_words: false, has_task_embedding: false },
    Way { name: "task embedding", has_new_words: false, has_task_embedding: true },
    Way { name: "new words", has_new_words: true, has_task_embedding: false },
    Way { name: "both", has_new_words: true, has_task_embedding: true },
];

/// Runs what is not there yet, and prints the table.
pub fn oov(oov: &Oov) -> Result<(), String> {
    let [model, train, dev, test] = data([
        "models/all-MiniLM-L6-v2",
        "data/packs/oov_ncbi_disease/train.conll",
        "data/packs/oov_ncbi_disease/dev.conll",
        "data/packs/oov_ncbi_disease/test.conll",
    ])?;
    let program = bert(&oov.features, &oov.out)?;
    let bert = || Command::new(&program);

    let (words, extended) = (oov.out.join("words.txt"), oov.out.join("extended"));
    if !extended.join("config.json").exists() {
        let mut scan = bert();
        scan.args(["vocab", "scan"]).arg(&train).arg("--model").arg(&model);
        output(scan.args(["--words", WORDS, "--out"]).arg(&words))?;
        let mut extend = bert();
        extend.args(["vocab", "extend", "--model"]).arg(&model);
        output(extend.arg("--words").arg(&words).arg("--out").arg(&extended))?;
    }
    let pieces = |model: &Path| -> Result<f64, String> {
        let mut scan = bert();
        scan.args(["vocab", "scan"]).arg(&test).arg("--model").arg(model).arg("--json");
        number(&json(&output(&mut scan)?)?["now"]["pieces_per_word"])
    };
    let pieces = [pieces(&model)?, pieces(&extended)?];

    // Seed by seed, so that a run that is stopped has something to show for every way.
    let mut scores: Vec<Vec<f64>> = WAYS.iter().map(|_| vec![]).collect();
    let mut theirs = vec![];
    for seed in 0..oov.seeds {
        let seed = &seed.to_string();
        for (way, scores) in WAYS.iter().zip(&mut scores) {
            let dir = oov.out.join(way.name.replace(' ', "-")).join(format!("seed-{seed}"));
            let test = once(&dir.join("test.json"), || {
                let base = if way.has_new_words { &extended } else { &model };
                let mut run = bert();
                run.arg("train").arg("--model").arg(base);
                run.arg("--train").arg(&train).arg("--dev").arg(&dev);
                run.args(["--epochs", EPOCHS, "--lr", RATE, "--batch-size", BATCH]);
                run.args(["--max-length", MAX_LENGTH, "--seed", seed]);
                run.args(TASK_EMBEDDING.iter().filter(|_| way.has_task_embedding));
                output(run.arg("--out").arg(&dir).args(["--overwrite", "--json"]))?;
                let mut eval = bert();
                output(
                    eval.args(["eval", "--model"]).arg(&dir).arg("--data").arg(&test).arg("--json"),
                )
            })?;
            scores.push(number(&test["f1"])?);
        }
        if let Some(python) = &oov.python {
            let run = once(&oov.out.join(format!("pytorch/seed-{seed}.json")), || {
                let mut run = Command::new(python);
                run.args([PEER, "tag", "--model"]).arg(&model).arg("--train").arg(&train);
                run.arg("--dev").arg(&dev).arg("--test").arg(&test);
                run.args(["--epochs", EPOCHS, "--lr", RATE, "--batch", BATCH]);
                run.args(["--max-len", MAX_LENGTH, "--seed", seed, "--group-by-length"]);
                output(&mut run)
            })?;
            theirs.push(number(&run["test_span_f1"])?);
        }
    }
    print(&scores, &theirs, pieces);
    match &oov.picture {
        Some(path) => draw(&scores, pieces, path),
        None => Ok(()),
    }
}

fn print(scores: &[Vec<f64>], theirs: &[f64], pieces: [f64; 2]) {
    println!("| | span F1 on test | against plain | pieces a word |\n|---|---|---|---|");
    let plain = mean(&scores[0]);
    let row = |name: &str, scores: &[f64], pieces: f64| {
        let more = 100.0 * (mean(scores) - plain);
        println!("| {name} | {} | {more:+.1} | {pieces:.3} |", percent(scores));
    };
    for (way, scores) in WAYS.iter().zip(scores) {
        row(way.name, scores, pieces[usize::from(way.has_new_words)]);
    }
    if !theirs.is_empty() {
        row("plain, PyTorch", theirs, pieces[0]);
    }
}

fn draw(scores: &[Vec<f64>], pieces: [f64; 2], path: &Path) -> Result<(), String> {
    let bars = WAYS.iter().zip(scores).map(|(way, scores)| {
        let percent: Vec<f64> = scores.iter().map(|score| 100.0 * score).collect();
        (way.name.to_owned(), percent)
    });
    let charts = [
        Chart {
            title: "pieces a word (bars begin at 1)".to_owned(),
            from: 1.0,
            digits: 2,
            bars: ["before", "with new words"]
                .map(str::to_owned)
                .into_iter()
                .zip(pieces.map(|value| vec![value]))
                .collect(),
        },
        Chart {
            title: "span F1, test sentences".to_owned(),
            from: 0.0,
            digits: 1,
            bars: bars.collect(),
        },
    ];
    fs::write(path, Chart::svg(&charts)).map_err(|error| format!("{}: {error}", path.display()))
}
