//! What training three related tasks together is worth: the README's table and picture.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use clap::Args;

use crate::{
    chart::Chart,
    process::{bert, data, number, once, output, percent},
};

/// Train MiniLM on three tasks of few rows, together and each alone, print the table and draw the picture
///
/// Every run is kept in --out, and a run that is there is not done again.
#[derive(Debug, Args)]
pub struct MultiTask {
    /// Folder for models and results
    #[arg(long, default_value = "target/multi_task")]
    out: PathBuf,
    /// Seeds, from 0
    #[arg(long, default_value_t = 5)]
    seeds: u64,
    /// Cargo features to build with, beside the default ones
    #[arg(long, default_value = "")]
    features: String,
    /// File to draw the picture to
    #[arg(long)]
    picture: Option<PathBuf>,
}

const TASKS: [&str; 3] = ["polarity", "product", "subjectivity"];

/// Runs what is not there yet, and prints the table.
pub fn multi_task(arguments: &MultiTask) -> Result<(), String> {
    let [model, opinion] = data(["models/all-MiniLM-L6-v2", "data/packs/multitask_opinion"])?;
    let out = &arguments.out;
    let program = bert(&arguments.features, out)?;
    let file = out.join("opinion.toml");
    let text = run_file(&model, &opinion)?;
    fs::write(&file, text).map_err(|error| format!("{}: {error}", file.display()))?;

    let mut scores = TASKS.map(|_| [vec![], vec![]]);
    for seed in 0..arguments.seeds {
        let seed = &seed.to_string();
        let together = out.join(format!("opinion-{seed}"));
        for (task, scores) in TASKS.iter().zip(&mut scores) {
            let alone = out.join(format!("alone-{task}-{seed}"));
            let test = |model: &Path| {
                let mut eval = Command::new(&program);
                eval.arg("eval").arg("--model").arg(model).arg("--json");
                eval.arg("--data").arg(opinion.join(task).join("test.tsv"));
                eval
            };
            let joint = once(&out.join(format!("opinion-{task}-{seed}.test.json")), || {
                if !together.join("report.json").exists() {
                    let mut run = Command::new(&program);
                    run.arg("train").arg(&file).args(["--seed", seed, "--json", "--overwrite"]);
                    output(run.arg("--out").arg(&together))?;
                }
                output(test(&together).args(["--task", task]))
            })?;
            let single = once(&out.join(format!("alone-{task}-{seed}.test.json")), || {
                let mut run = Command::new(&program);
                run.arg("train").arg("--model").arg(&model);
                run.arg("--train").arg(opinion.join(task).join("train.tsv"));
                run.arg("--dev").arg(opinion.join(task).join("dev.tsv"));
                run.args(["--text", "text", "--label", "label", "--pooling", "mean"]);
                run.args(["--epochs", "3", "--batch-size", "16", "--lr", "1e-4"]);
                run.args(["--seed", seed, "--json", "--overwrite"]);
                output(run.arg("--out").arg(&alone))?;
                output(&mut test(&alone))
            })?;
            scores[0].push(number(&joint["accuracy"])?);
            scores[1].push(number(&single["accuracy"])?);
        }
    }
    println!("| task | together | alone |\n|---|---|---|");
    for (task, [together, alone]) in TASKS.iter().zip(&scores) {
        println!("| {task} | {} | {} |", percent(together), percent(alone));
    }
    let Some(path) = &arguments.picture else { return Ok(()) };
    let charts = TASKS.iter().zip(&scores).map(|(task, scores)| {
        let bars = ["together", "alone"].into_iter().zip(scores);
        let in_percent = |values: &Vec<f64>| values.iter().map(|value| 100.0 * value).collect();
        Chart {
            title: format!("{task}, accuracy in % (from 50)"),
            from: 50.0,
            digits: 1,
            bars: bars.map(|(name, values)| (name.to_owned(), in_percent(values))).collect(),
        }
    });
    let svg = Chart::svg(&charts.collect::<Vec<_>>());
    fs::write(path, svg).map_err(|error| format!("{}: {error}", path.display()))
}

fn run_file(model: &Path, opinion: &Path) -> Result<String, String> {
    let absolute = |path: &Path| {
        let path = path.canonicalize().map_err(|error| format!("{}: {error}", path.display()))?;
        Ok::<_, String>(format!("{:?}", path.display().to_string()))
    };
    let mut text =
        format!("model = {}\nepochs = 3\nbatch_size = 16\nlr = 1e-4\n", absolute(model)?);
    for task in TASKS {
        let file = |name: &str| absolute(&opinion.join(task).join(name));
        text += &format!(
            "\n[task.{task}]\nkind = \"classify\"\ntrain = {}\ndev = {}\ntext = [\"text\"]\nlabel = \"label\"\n\
             pooling = \"mean\"\n",
            file("train.tsv")?,
            file("dev.tsv")?,
        );
    }
    Ok(text)
}
