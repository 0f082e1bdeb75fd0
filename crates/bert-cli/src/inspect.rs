//! `bert inspect`.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    path::PathBuf,
};

use bert_core::{BertConfig, Checkpoint, Role, Tokenizer, role};
use bert_train::Settings;
use clap::Args;

use crate::Failure;

/// Show what a model directory holds: architecture, tensors, parameters.
#[derive(Debug, Args)]
pub struct Inspect {
    /// Model directory in Hugging Face's layout
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// List every tensor
    #[arg(long)]
    tensors: bool,
}

/// More labels of a task are counted, not listed.
const MOST_LABELS: usize = 20;

impl Inspect {
    /// Inspects.
    pub fn run(self) -> Result<(), Failure> {
        let config = BertConfig::load(&self.model)?;
        let checkpoint = Checkpoint::open(&self.model)?;
        let mut out = io::stdout().lock();
        writeln!(
            out,
            "BERT: {} layers, hidden {}, {} heads, intermediate {}, {} words, {} positions",
            config.num_hidden_layers,
            config.hidden_size,
            config.num_attention_heads,
            config.intermediate_size,
            config.vocab_size,
            config.max_position_embeddings
        )?;
        match Tokenizer::load(&self.model) {
            Ok(tokenizer) => writeln!(out, "tokenizer: {} entries", tokenizer.vocab_size())?,
            Err(error) => writeln!(out, "tokenizer: {error}")?,
        }
        if let Some(labels) = &config.id2label {
            writeln!(out, "labels: {}", labels.join(", "))?;
        }
        for task in Settings::read(&self.model)?.into_iter().flat_map(|settings| settings.tasks) {
            let pooling = task.pooling.map_or(String::new(), |kind| format!(", pooling {kind}"));
            let labels = match task.labels.len() {
                0 => String::new(),
                count if count > MOST_LABELS => format!(", {count} labels"),
                _ => format!(", labels {}", task.labels.join(", ")),
            };
            writeln!(out, "task {}: {}{pooling}{labels}", task.name, task.kind)?;
        }
        writeln!(out, "weights: {}", checkpoint.path().display())?;

        let mut parts: BTreeMap<&str, usize> = BTreeMap::new();
        for name in checkpoint.names() {
            let Some(info) = checkpoint.info(name) else { continue };
            let count = info.shape.iter().product::<usize>();
            *parts.entry(part(name)).or_default() += count;
            if self.tensors {
                writeln!(out, "  {name}  {:?}  {:?}", info.shape, info.dtype)?;
            }
        }
        for (part, count) in &parts {
            writeln!(out, "{part:>12}: {count:>12} parameters")?;
        }
        writeln!(out, "{:>12}: {:>12} parameters", "all", parts.values().sum::<usize>())?;
        Ok(())
    }
}

fn part(name: &str) -> &'static str {
    match role(name) {
        Role::Encoder if name.starts_with("embeddings.") => "embeddings",
        Role::Encoder if name.starts_with("encoder.") => "encoder",
        Role::Encoder => "unknown",
        Role::Pooler => "pooler",
        Role::Head => "head",
        Role::Ignorable => "not used",
    }
}
