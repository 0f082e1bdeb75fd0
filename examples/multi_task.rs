//! Multi-task learning: three related tasks with a few hundred rows each, together on one encoder against each alone.
//!
//!     cargo run --release --example multi_task
//!
//! trains a small encoder from scratch on our own data, with three seeds, in two minutes: which words of a job card are parts,
//! tools or materials (`assets/workshop_notes`, 318 sentences), of which kind the first of them is (106 sentences), and which
//! part of a bicycle a ticket is about (`assets/workshop_tickets`, 160 texts). With tasks of your own, described in a run
//! file:
//!
//!     cargo run --release --example multi_task -- --tasks tasks.toml --seeds 5
//!
//! Each task has a head of its own; the encoder learns from all. Whether that helps is measured, not assumed: every task is
//! also trained alone by the same recipe, and the gradients of the tasks are held against each other.

use std::{
    collections::BTreeMap,
    fmt::Write,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use bert_core::{Bert, BertConfig, initialise, named_parameters, write_safetensors};
use bert_heads::PoolingKind;
use bert_train::{
    Agreement, Baselines, Columns, Mixing, MultiTaskConfig, Observer, Recipe, TaskForm, TaskTable,
    read_sentences, run_tasks, spans,
};
use burn::tensor::Device;
use clap::Parser;

#[derive(Parser)]
struct Arguments {
    /// Run file with tables [task.NAME] [default: our own tasks, from scratch]
    #[arg(long)]
    tasks: Option<PathBuf>,
    /// How often all is trained
    #[arg(long, default_value_t = 3)]
    seeds: u64,
}

fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let arguments = Arguments::parse();
    let device = Device::default();
    let folder = tempfile::tempdir()?;
    let mut config = match &arguments.tasks {
        Some(path) => MultiTaskConfig::load(path, Default::default())?,
        None => own_tasks(folder.path())?,
    };

    let mut scores = BTreeMap::<String, [f64; 2]>::new();
    let mut cosines = Cosines::default();
    for seed in 0..arguments.seeds {
        config.recipe.seed = seed;
        if arguments.tasks.is_none() {
            config.model = from_scratch(&folder.path().join(format!("encoder-{seed}")), seed)?;
        }
        let out = folder.path().join(format!("run-{seed}"));
        let report = run_tasks(&config, &out, false, &Baselines::Train, &device, &mut cosines)?;
        println!("seed {seed}");
        for comparison in &report.comparisons {
            println!("  {comparison}");
            let sums = scores.entry(comparison.task.clone()).or_default();
            sums[0] += comparison.together / arguments.seeds as f64;
            sums[1] += comparison.alone / arguments.seeds as f64;
        }
    }

    let names: Vec<&String> = config.tasks.keys().collect();
    println!("\ncosines between the tasks' gradients on the encoder, last seed");
    for agreement in &cosines.0 {
        print!("  step {:>5}", agreement.step);
        for a in 0..names.len() {
            for b in a + 1..names.len() {
                print!("   {} and {} {:+.2}", names[a], names[b], agreement.cosines[a][b]);
            }
        }
        println!();
    }
    println!("\nheld-out score of the best epoch, mean of {} seeds", arguments.seeds);
    println!("  {:10} {:>10} {:>8}", "task", "together", "alone");
    for (task, [together, alone]) in &scores {
        println!("  {task:10} {together:>10.3} {alone:>8.3}");
    }
    // The task with the fewest labels is the one that others can help.
    if let (None, Some([together, alone])) = (&arguments.tasks, scores.get("first"))
        && together <= alone
    {
        println!("the task with the fewest labels gains nothing by the others");
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

/// The comparisons of the latest run.
#[derive(Default)]
struct Cosines(Vec<Agreement>);

impl Observer for Cosines {
    fn agreement(&mut self, agreement: &Agreement) {
        if agreement.step == 0 {
            self.0.clear();
        }
        self.0.push(agreement.clone());
    }
}

/// Our three tasks; their files are written into `folder`. Two of them have labels for every third text alone.
fn own_tasks(folder: &Path) -> Result<MultiTaskConfig, Box<dyn std::error::Error>> {
    let assets = Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets");
    let third = |part: &str| if part == "train" { 3 } else { 1 };
    for part in ["train", "dev"] {
        let notes = assets.join(format!("workshop_notes/{part}.conll"));
        let mut first = String::new();
        for sentence in
            read_sentences(&notes, None, &Columns::default())?.iter().step_by(third(part))
        {
            let spans = spans(sentence.tags.as_deref().unwrap_or_default());
            let kind = spans.first().map_or("nothing", |span| span.label);
            writeln!(first, "{}\t{kind}", sentence.tokens.join(" "))?;
        }
        fs::write(folder.join(format!("first.{part}.tsv")), first)?;
        let tickets = fs::read_to_string(assets.join(format!("workshop_tickets/{part}.tsv")))?;
        let some: Vec<&str> = tickets.lines().step_by(third(part)).collect();
        fs::write(folder.join(format!("topic.{part}.tsv")), some.join("\n"))?;
    }
    let table = |kind, pooling, train: PathBuf, dev: PathBuf| TaskTable {
        pooling,
        dev: Some(dev),
        ..TaskTable::new(kind, train)
    };
    let (kind, pooling) = (TaskForm::Classify, Some(PoolingKind::Max));
    let own = |name: &str| folder.join(name);
    let notes = assets.join("workshop_notes");
    let tasks = [
        ("first", table(kind, pooling, own("first.train.tsv"), own("first.dev.tsv"))),
        ("things", table(TaskForm::Tag, None, notes.join("train.conll"), notes.join("dev.conll"))),
        ("topic", table(kind, pooling, own("topic.train.tsv"), own("topic.dev.tsv"))),
    ];
    Ok(MultiTaskConfig {
        model: PathBuf::new(),
        train_embeddings: Default::default(),
        lora: None,
        max_length: Some(64),
        precision: Default::default(),
        baselines: Default::default(),
        recipe: Recipe { epochs: 20, learning_rate: 1e-3, batch_size: 16, ..Recipe::default() },
        mixing: Mixing::default(),
        tasks: tasks.map(|(name, table)| (name.to_owned(), table)).into(),
    })
}

/// Writes a small encoder whose weights are drawn from `seed`.
fn from_scratch(out: &Path, seed: u64) -> Result<PathBuf, Box<dyn std::error::Error>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets/tiny_encoder");
    fs::create_dir_all(out)?;
    for file in ["config.json", "vocab.txt", "tokenizer_config.json"] {
        fs::copy(dir.join(file), out.join(file))?;
    }
    let config = BertConfig::load(&dir)?;
    let bert =
        initialise(Bert::new(&config, &Device::default()), "", seed, config.initializer_range);
    write_safetensors(out.join("model.safetensors"), &named_parameters(&bert, ""))?;
    Ok(out.into())
}
