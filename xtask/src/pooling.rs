//! What each pooling is worth on texts of varying length: the README's table and picture.

use std::{fs, path::PathBuf, process::Command};

use clap::Args;
use serde_json::Value;

use crate::{
    chart::Chart,
    process::{bert, data, json, number, output},
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

    let compare = || {
        let mut compare = Command::new(&program);
        compare.arg("compare");
        for pooling_name in POOLINGS {
            for seed in 0..pooling.seeds {
                compare.arg(pooling.out.join(pooling_name).join(format!("seed-{seed}")));
            }
        }
        compare.arg("--data").arg(&test);
        compare
    };
    println!("On test:\n{}", output(&mut compare())?);
    let Some(path) = &pooling.picture else { return Ok(()) };
    let charts = charts(&json(&output(compare().arg("--json"))?)?)?;
    fs::write(path, Chart::svg(&charts)).map_err(|error| format!("{}: {error}", path.display()))
}

/// All texts, and the longest quarter of them.
fn charts(comparison: &Value) -> Result<[Chart; 2], String> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let groups = list(&comparison["groups"]);
    let lengths = list(&comparison["lengths"]);
    let longest = lengths.last().ok_or("the comparison has no lengths")?;
    let (mut all, mut long) = (vec![], vec![]);
    for (group, of_long) in groups.iter().zip(list(&longest["accuracies"])) {
        let name = group["name"].as_str().unwrap_or_default().replace("pooling ", "");
        let runs: Result<Vec<f64>, String> =
            list(&group["runs"]).iter().map(|run| Ok(100.0 * number(&run["value"])?)).collect();
        all.push((name.clone(), runs?));
        long.push((name, vec![100.0 * number(&of_long)?]));
    }
    let chart = |title: String, bars| Chart { title, from: 50.0, digits: 1, bars };
    let from = number(&longest["from"])?;
    Ok([
        chart("accuracy in % of all test texts (bars begin at 50)".to_owned(), all),
        chart(format!("of those with {from} tokens or more"), long),
    ])
}
