//! What each way to read long texts is worth on real reviews: the README's table.

use std::process::{Command, Stdio};

use clap::Args;
use serde_json::Value;

use crate::{
    build::build,
    process::{data, percent},
};

/// Pool film reviews of several pages, read in three ways, over the hidden states of a frozen MiniLM, and print the table
#[derive(Debug, Args)]
pub struct Long {
    /// Seeds, from 0
    #[arg(long, default_value_t = 3)]
    seeds: u64,
    /// Passes over the training texts
    #[arg(long, default_value_t = 10)]
    epochs: u64,
    /// Ways to read long texts
    #[arg(long, default_value = "truncate,head-tail,windows")]
    long: String,
    /// Cargo features to build with, beside the default ones
    #[arg(long, default_value = "")]
    features: String,
}

/// Runs the benchmark `long` of bert-train and prints what it says as a table.
pub fn long(long: &Long) -> Result<(), String> {
    let [model, reviews] = data(["models/all-MiniLM-L6-v2", "data/movie_reviews"])?;
    let [program] = build(["long"], &["--bench", "long"], &long.features)?;
    let mut run = Command::new(program);
    run.arg("--model").arg(model).arg("--data").arg(reviews).args(["--long", &long.long]);
    run.args(["--seeds", &long.seeds.to_string(), "--epochs", &long.epochs.to_string()]);
    run.args(["--lr", "1e-2,3e-2,1e-1", "--pooling-lr", "1e-3,1e-2"]);
    let output = run.stderr(Stdio::inherit()).output().map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Err(format!("long: {}", output.status));
    }
    println!("| read | pooling | rates | dev | test |\n|---|---|---|---|---|");
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let row: Value = serde_json::from_str(line).map_err(|error| format!("{error}: {line}"))?;
        let text = |key: &str| row[key].as_str().unwrap_or_default().to_owned();
        let rates = match row["pooling_lr"].as_f64() {
            Some(pooling) => format!("{:e}, {pooling:e}", row["lr"].as_f64().unwrap_or_default()),
            None => format!("{:e}", row["lr"].as_f64().unwrap_or_default()),
        };
        let (dev, test) = (scores(&row["dev"]), scores(&row["test"]));
        println!("| {} | {} | {rates} | {dev} | {test} |", text("long"), text("pooling"));
    }
    Ok(())
}

fn scores(values: &Value) -> String {
    let values = values.as_array().into_iter().flatten().filter_map(Value::as_f64);
    percent(&values.collect::<Vec<_>>())
}
