//! `bert embed`.

use std::{
    io::{self, Write},
    path::PathBuf,
};

use bert_heads::PoolingKind;
use bert_train::{Embedder, Examples};
use clap::Args;
use serde_json::json;

use crate::{
    Failure,
    arguments::{Running, Texts, say_truncated},
    devices::device,
};

/// How many texts of a file are held at once.
const CHUNK: usize = 4096;

/// Turn texts into vectors: one line of JSON a text.
#[derive(Debug, Args)]
pub struct Embed {
    /// Checkpoint, or a model that `bert train` wrote
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    #[command(flatten)]
    texts: Texts,
    /// cls, first, mean, max, attention or adaptive [default: the model's own, else mean]
    #[arg(long, value_name = "POOLING")]
    pooling: Option<PoolingKind>,
    /// Scale every vector to length 1
    #[arg(long)]
    normalize: bool,
    #[command(flatten)]
    running: Running,
}

impl Embed {
    /// Embeds.
    pub fn run(self) -> Result<(), Failure> {
        let Some(path) = &self.texts.input else {
            return Err(Failure::Usage("expected --input FILE with the texts".to_owned()));
        };
        let device = device(self.running.device.as_deref())?;
        let embedder = Embedder::load(&self.model, self.pooling, &device)?;
        let max_length = self.running.max_length.unwrap_or(embedder.max_length());
        let columns = self.texts.columns();
        let texts = columns.text.len().max(1);
        let mut examples = Examples::unlabelled(path, self.texts.format, &columns, texts)?;
        let mut out = io::stdout().lock();
        let (mut rows, mut truncated) = (0, 0);
        loop {
            let chunk = examples.by_ref().take(CHUNK).collect::<bert_train::Result<Vec<_>>>()?;
            if chunk.is_empty() {
                break;
            }
            let (vectors, cut) = embedder.embed(
                &chunk,
                self.normalize,
                max_length,
                self.running.batch_size,
                &device,
            )?;
            (rows, truncated) = (rows + chunk.len(), truncated + cut);
            for (example, vector) in chunk.iter().zip(vectors) {
                writeln!(out, "{}", json!({ "text": example.text, "embedding": vector }))?;
            }
        }
        say_truncated(truncated, rows, max_length);
        Ok(())
    }
}
