//! `bert embed`.

use std::{
    io::{self, Write},
    path::PathBuf,
};

use bert_heads::PoolingKind;
use bert_train::Embedder;
use clap::Args;
use serde_json::json;

use crate::{
    Failure,
    arguments::{PART, Running, Texts, in_parts, say_truncated},
};

/// Turn texts into vectors: one line of JSON a text.
#[derive(Debug, Args)]
pub struct Embed {
    /// Checkpoint, or a model that `bert train` wrote
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    #[command(flatten)]
    texts: Texts,
    /// cls, first, mean, max, attention, multi-head[=HEADS] or adaptive [default: the model's own, else mean]
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
        let device = self.running.device()?;
        let embedder = Embedder::load(&self.model, self.pooling, &device)?;
        let max_length = self.running.max_length.unwrap_or(embedder.max_length());
        let texts = self.texts.column.len().max(1);
        let mut out = io::stdout().lock();
        let (mut rows, mut truncated) = (0, 0);
        in_parts(self.texts.examples(path, texts)?, PART, |part| {
            let batch_size = self.running.batch_size;
            let (vectors, cut) =
                embedder.embed(part, self.normalize, max_length, batch_size, &device)?;
            (rows, truncated) = (rows + part.len(), truncated + cut);
            for (example, vector) in part.iter().zip(vectors) {
                writeln!(out, "{}", json!({ "text": example.text, "embedding": vector }))?;
            }
            Ok(())
        })?;
        say_truncated(truncated, rows, &embedder.long().limit(max_length));
        Ok(())
    }
}
