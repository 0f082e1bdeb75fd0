//! What each pooling is worth on texts of varying length: the README's table and picture.

use std::{fs, path::PathBuf, process::Command};

use clap::Args;
use serde_json::Value;

use crate::{
    chart::Chart,
    process::{bert, data, json, number, output, percent},
};

/// Train MiniLM end to end with five poolings on texts of varying length, compare them, and draw the picture
///
/// Every run is kept in --out, and a run that is there is not done again.
#[derive(Debug, Args)]
pub struct Pooling {
    /// Folder for models and results
    #[arg(long, default_value = "target/pooling")]
    out: PathBuf,
    /// Seeds, from 0
    #[arg(long, default_value_t = 5)]
    seeds: u64,
    /// Precision of the products
    #[arg(long, default_value = "float32")]
    precision: String,
    /// Cargo features to build with, beside the default ones
    #[arg(long, default_value = "")]
    features: String,
    /// File to draw the picture to
    #[arg(long)]
    picture: Option<PathBuf>,
}

const POOLINGS: [&str; 5] = ["cls", "mean", "max", "attention", "adaptive"];
const POOLING_RATE: &str = "1e-2";

/// Runs what is not there yet, and prints the comparison on dev and on test.
pub fn pooling(pooling: &Pooling) -> Result<(), String> {
    let [model, train, dev, test] = data([
        "models/all-MiniLM-L6-v2",
        "data/packs/varlen_polarity/train.tsv",
        "data/packs/varlen_polarity/dev.tsv",
        "data/packs/varlen_polarity/test.tsv",
    ])?;
    let program = bert(&pooling.features, &pooling.out)?;
    let mut run = Command::new(&program);
    run.arg("train").arg("--model").arg(model).arg("--train").arg(train).arg("--dev").arg(dev);
    run.args(["--text", "text", "--label", "label", "--pooling", &POOLINGS.join(",")]);
    run.args(["--pooling-lr", POOLING_RATE, "--checkpoint-every", "never"]);
    run.args(["--precision", &pooling.precision, "--seeds", &pooling.seeds.to_string()]);
    println!("On dev:\n{}", output(run.arg("--out").arg(&pooling.out))?);

    let mut compare = Command::new(&program);
    compare.arg("compare");
    for name in POOLINGS {
        let seed = |seed: u64| pooling.out.join(name).join(format!("seed-{seed}"));
        compare.args((0..pooling.seeds).map(seed));
    }
    compare.arg("--data").arg(&test).args(["--precision", &pooling.precision, "--json"]);
    let comparison = json(&output(&mut compare)?)?;
    println!("On test:\n{}", table(&comparison)?);
    let Some(path) = &pooling.picture else { return Ok(()) };
    let charts = charts(&comparison)?;
    fs::write(path, Chart::svg(&charts)).map_err(|error| format!("{}: {error}", path.display()))
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn name_of(group: &Value) -> String {
    group["name"].as_str().unwrap_or_default().replace("pooling ", "")
}

/// The percentages right of each run of a group.
fn runs_of(group: &Value) -> Result<Vec<f64>, String> {
    list(&group["runs"]).iter().map(|run| number(&run["value"])).collect()
}

/// A row a pooling, with the percentages right of all texts and by length, and what the differences come to.
fn table(comparison: &Value) -> Result<String, String> {
    let lengths = list(&comparison["lengths"]);
    let head = |length: &Value| format!(" {} to {} tokens |", length["from"], length["to"]);
    let heads: String = lengths.iter().map(head).collect();
    let mut table =
        format!("| pooling | all |{heads}\n|---|---|{}\n", "---|".repeat(lengths.len()));
    for (group, place) in list(&comparison["groups"]).iter().zip(0..) {
        table += &format!("| `{}` | {} |", name_of(group), percent(&runs_of(group)?));
        for length in lengths {
            table += &format!(" {:.1} |", 100.0 * number(&length["accuracies"][place])?);
        }
        table.push('\n');
    }
    for pair in list(&comparison["pairs"]) {
        table += &format!("\n{}", pair["sentence"].as_str().unwrap_or_default());
    }
    Ok(table)
}

/// All texts, and the longest quarter of them.
fn charts(comparison: &Value) -> Result<[Chart; 2], String> {
    let longest = list(&comparison["lengths"]).last().ok_or("the comparison has no lengths")?;
    let (mut all, mut long) = (vec![], vec![]);
    for (group, of_long) in list(&comparison["groups"]).iter().zip(list(&longest["accuracies"])) {
        all.push((name_of(group), runs_of(group)?.iter().map(|share| 100.0 * share).collect()));
        long.push((name_of(group), vec![100.0 * number(of_long)?]));
    }
    let chart = |title: String, bars| Chart { title, from: 50.0, digits: 1, bars };
    let from = number(&longest["from"])?;
    Ok([
        chart("accuracy in % of all test texts (bars begin at 50)".to_owned(), all),
        chart(format!("of those with {from} tokens or more"), long),
    ])
}
