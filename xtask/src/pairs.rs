//! Fine-tuning on pairs of texts, beside PyTorch: the README's table.

use std::{path::PathBuf, process::Command};

use clap::Args;

use crate::{
    PEER,
    process::{bert, data, json, number, once, output, percent},
};

/// Fine-tune MiniLM on entailment and paraphrase, here and in PyTorch, and test whether the two differ
///
/// Every run is kept in --out, and a run that is there is not done again.
#[derive(Debug, Args)]
pub struct Pairs {
    /// Folder for models and results
    #[arg(long, default_value = "target/pairs")]
    out: PathBuf,
    /// Seeds, from 0
    #[arg(long, default_value_t = 6)]
    seeds: u64,
    /// Python with torch, transformers and scipy
    #[arg(long, default_value = "python3")]
    python: PathBuf,
    /// Cargo features to build with, beside the default ones
    #[arg(long, default_value = "")]
    features: String,
}

/// A data set as both sides are told of it.
struct Set {
    name: &'static str,
    train: &'static str,
    dev: &'static str,
    ours: &'static [&'static str],
    theirs: &'static [&'static str],
}

const SETS: [Set; 2] = [
    Set {
        name: "rte",
        train: "data/rte/train.tsv",
        dev: "data/rte/dev.tsv",
        ours: &["--text", "sentence1", "--text", "sentence2", "--label", "label"],
        theirs: &["--text", "2", "--text", "3", "--label", "4", "--header"],
    },
    Set {
        name: "mrpc",
        train: "data/mrpc/msr_paraphrase_train.txt",
        dev: "data/mrpc/msr_paraphrase_test.txt",
        ours: &["--format", "tsv", "--text", "4", "--text", "5", "--label", "1"],
        theirs: &["--text", "4", "--text", "5", "--label", "1"],
    },
];

const MAX_LENGTH: &str = "128";

/// Runs what is not there yet, and prints accuracy after the last epoch on both sides.
pub fn pairs(pairs: &Pairs) -> Result<(), String> {
    let [model] = data(["models/all-MiniLM-L6-v2"])?;
    let program = bert(&pairs.features, &pairs.out)?;
    println!("| data | bert-tune | PyTorch | Welch's p |\n|---|---|---|---|");
    for set in &SETS {
        let [train, dev] = data([set.train, set.dev])?;
        let out = pairs.out.join(set.name);
        let (mut ours, mut theirs) = (vec![], vec![]);
        for seed in 0..pairs.seeds {
            let seed = &seed.to_string();
            let run = once(&out.join(format!("ours-{seed}.json")), || {
                let mut run = Command::new(&program);
                run.arg("train").arg("--model").arg(&model).arg("--train").arg(&train);
                run.arg("--dev").arg(&dev).args(set.ours).args(["--max-length", MAX_LENGTH]);
                run.args(["--seed", seed, "--overwrite", "--json", "--out"]);
                output(run.arg(out.join(format!("run-{seed}"))))
            })?;
            ours.push(number(&run["last"]["accuracy"])?);
            let run = once(&out.join(format!("pytorch-{seed}.json")), || {
                let mut run = Command::new(&pairs.python);
                run.args([PEER, "finetune", "--model"]).arg(&model).arg("--train").arg(&train);
                run.arg("--dev").arg(&dev).args(set.theirs).args(["--max-len", MAX_LENGTH]);
                output(run.args(["--seed", seed, "--group-by-length"]))
            })?;
            let epochs = run["dev_accuracy"].as_array().and_then(|epochs| epochs.last());
            theirs.push(number(epochs.ok_or("PyTorch's side names no dev_accuracy")?)?);
        }
        let script = format!(
            "from scipy.stats import ttest_ind; print(ttest_ind({ours:?}, {theirs:?}, equal_var=False).pvalue)"
        );
        let p = number(&json(&output(Command::new(&pairs.python).args(["-c", &script]))?)?)?;
        println!("| {} | {} | {} | {p:.2} |", set.name, percent(&ours), percent(&theirs));
    }
    Ok(())
}
