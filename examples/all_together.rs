//! Task embedding, adaptive pooling and multi-task learning in one model, from one run file.
//!
//!     cargo run --release --example all_together
//!
//! trains a small encoder from scratch on our own data in a minute: `things` finds parts, tools and materials in job cards
//! (`assets/workshop_notes`) and learns a map of the word embeddings, its task embedding; `topic` tells which part of a bicycle
//! a ticket is about (`assets/workshop_tickets`), reads the same mapped words, and learns with adaptive pooling which of them
//! count. Then one of the tasks is taken out of the model, to be looked into.

use std::{fs, path::Path, process::ExitCode};

use bert_core::{Bert, BertConfig, initialise, named_parameters, write_safetensors};
use bert_train::{
    Baselines, Example, MultiTaskConfig, MultiTasker, Progress, TaskAnswer, run_tasks,
};
use burn::tensor::Device;

const TASKS: &str = r#"
model = "{model}"
epochs = 12
batch_size = 16
lr = 1e-3
pooling_lr = 2e-2
task_embedding_lr = 5e-3
max_length = 64

[task.things]
kind = "tag"
train = "{assets}/workshop_notes/train.conll"
dev = "{assets}/workshop_notes/dev.conll"
task_embedding = "low-rank=16"

[task.topic]
kind = "classify"
train = "{assets}/workshop_tickets/train.tsv"
dev = "{assets}/workshop_tickets/dev.tsv"
share_embedding = "things"
pooling = "adaptive"
"#;

/// What always answering the commonest topic is right for.
const COMMONEST: f64 = 0.263;

fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let device = Device::default();
    let folder = tempfile::tempdir()?;
    let assets = Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets").canonicalize()?;
    let model = folder.path().join("encoder");
    from_scratch(&assets.join("tiny_encoder"), &model)?;
    let text = TASKS
        .replace("{model}", &model.display().to_string())
        .replace("{assets}", &assets.display().to_string());
    let run_file = folder.path().join("tasks.toml");
    fs::write(&run_file, text)?;

    let config = MultiTaskConfig::load(&run_file, Default::default())?;
    let out = folder.path().join("run");
    let report = run_tasks(&config, &out, false, &Baselines::None, &device, &mut Progress::new())?;
    println!("held out, after the best epoch: {}", report.dev);

    let tasker = MultiTasker::load(&out, &device)?;
    let ticket =
        "the front mudguard is fine but the rear brake cable has snapped and the lever flops";
    let example = Example { text: ticket.into(), pair: None, label: None, line: 1 };
    let examples = std::slice::from_ref(&example);
    println!("\n{ticket}");
    let (answers, _) = tasker.predict(examples, tasker.settings.max_length, 1, &device)?;
    for (task, answer) in &answers[0] {
        match answer {
            TaskAnswer::Label { label, probabilities } => {
                println!("  {task}: {label} ({:.2})", probabilities[label]);
            }
            TaskAnswer::Tags { spans, .. } => {
                let spans = spans.iter().map(|span| format!("{} [{}]", span.text, span.label));
                println!("  {task}: {}", spans.collect::<Vec<_>>().join(", "));
            }
            other => println!("  {task}: {other:?}"),
        }
    }
    let topic = tasker.classifier("topic")?;
    let max_length = topic.settings.max_length;
    let (answers, _) = topic.predict_with_weights(examples, false, max_length, 1, &device)?;
    let mut weights = answers[0].1.clone();
    weights.sort_by(|a, b| b.weight.total_cmp(&a.weight));
    let most = weights.iter().take(5).map(|token| format!("{} {:.2}", token.token, token.weight));
    println!("  topic listens most to: {}", most.collect::<Vec<_>>().join(", "));

    let scores = report.dev.scores();
    Ok(if scores[0] > 0.4 && scores[1] > COMMONEST + 0.2 {
        ExitCode::SUCCESS
    } else {
        println!("one of the tasks was not learned");
        ExitCode::FAILURE
    })
}

/// Writes a small encoder whose weights are drawn at random.
fn from_scratch(dir: &Path, out: &Path) -> Result<(), Box<dyn std::error::Error>> {
    fs::create_dir_all(out)?;
    for file in ["config.json", "vocab.txt", "tokenizer_config.json"] {
        fs::copy(dir.join(file), out.join(file))?;
    }
    let config = BertConfig::load(dir)?;
    let bert = initialise(Bert::new(&config, &Device::default()), "", 0, config.initializer_range);
    Ok(write_safetensors(out.join("model.safetensors"), &named_parameters(&bert, ""))?)
}
