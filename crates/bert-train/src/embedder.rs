//! Texts to vectors, without a head.

use std::path::Path;

use bert_core::{Bert, BertConfig, Tokenizer, parameter_shapes, set_parameters};
use bert_heads::{LayerMixture, Pooling, PoolingKind, TaskEmbedding};
use burn::tensor::{Device, Tensor};

use crate::{
    encode::encode_long,
    error::{Error, Result},
    evaluate::map_batches,
    examples::Example,
    long::Long,
    model_dir::{ModelDir, checked_pooling},
    task_kind::TaskKind,
    task_settings::TaskSettings,
};

/// An encoder with its tokenizer and a pooling.
#[derive(Debug)]
pub struct Embedder {
    task_embedding: Option<TaskEmbedding>,
    bert: Bert,
    layer_mixture: Option<LayerMixture>,
    pooling: Pooling,
    config: BertConfig,
    tokenizer: Tokenizer,
    max_length: usize,
    long: Long,
}

impl Embedder {
    /// Loads the encoder of a model directory; without `pooling`, the one it was trained with, else `mean`.
    ///
    /// # Errors
    /// When the directory holds no BERT, or `pooling` has parameters that it does not hold.
    pub fn load(dir: &Path, pooling: Option<PoolingKind>, device: &Device) -> Result<Self> {
        let files = ModelDir::open(dir)?;
        let own = files.settings.as_ref();
        if own.is_some_and(|own| own.tasks.iter().any(|task| task.task_embedding.is_some())) {
            return Err(Error::EmbedTasks { path: dir.into() });
        }
        // A tagger pools nothing.
        let pooled = own.filter(|own| own.kind == TaskKind::Classify);
        let kind = pooling.or(pooled.map(|own| own.pooling)).unwrap_or(PoolingKind::Mean);
        let is_there = match kind {
            PoolingKind::Cls => files.has("pooler.dense.weight"),
            PoolingKind::Attention | PoolingKind::MultiHead { .. } | PoolingKind::Adaptive => {
                own.is_some_and(|own| own.pooling == kind)
            }
            PoolingKind::First | PoolingKind::Mean | PoolingKind::Max => true,
        };
        let has_it = |task: &&TaskSettings| task.is_classifier() && task.pooling == Some(kind);
        if !is_there && let Some(task) = own.and_then(|own| own.tasks.iter().find(has_it)) {
            let (path, task) = (dir.into(), task.name.clone());
            return Err(Error::PoolingOfTask { path, pooling: kind, task });
        }
        if !is_there {
            return Err(Error::PoolingMissing { path: dir.into(), pooling: kind });
        }
        let config = &files.config;
        let bert = Bert::new(config, device);
        files.checkpoint.require(&parameter_shapes(&bert, ""))?;
        let mut reader = files.checkpoint.reader();
        let bert = set_parameters(bert, "", |name, shape| reader.take(name, shape).map(Some))?;
        let task_embedding = match own {
            Some(own) => own.checked_task_embedding(config)?,
            None => None,
        };
        let task_embedding = task_embedding
            .map(|kind| {
                let map = TaskEmbedding::new(kind, config.hidden_size, 0, device);
                set_parameters(map, "task_embedding.", |name, shape| {
                    reader.take(name, shape).map(Some)
                })
            })
            .transpose()?;
        let pooling = Pooling::new(checked_pooling(kind, config)?, config, 0, device);
        let pooling = set_parameters(pooling, "pooling.", |name, shape| {
            reader.take(&name.replace("pooling.dense.", "pooler.dense."), shape).map(Some)
        })?;
        let mixture = own.filter(|own| own.layer_mixture);
        let mixture = mixture.map(|_| LayerMixture::new(config.num_hidden_layers, device));
        let layer_mixture = mixture
            .map(|mixture| {
                set_parameters(mixture, "layer_mixture.", |name, shape| {
                    reader.take(name, shape).map(Some)
                })
            })
            .transpose()?;
        reader.finish()?;
        Ok(Self {
            task_embedding,
            bert,
            layer_mixture,
            pooling,
            max_length: config.max_length(own.map(|own| own.max_length))?,
            long: own.map_or(Long::Truncate, |own| own.long),
            tokenizer: files.tokenizer,
            config: files.config,
        })
    }

    /// The most tokens of a text where nobody says otherwise.
    pub fn max_length(&self) -> usize {
        self.max_length
    }

    /// What is read of longer texts.
    pub fn long(&self) -> Long {
        self.long
    }

    /// One vector a text, read in sequences of at most `max_length` tokens, and how many texts were cut.
    ///
    /// # Errors
    /// When `max_length` is more than the model has positions for.
    pub fn embed(
        &self,
        examples: &[Example],
        normalize: bool,
        max_length: usize,
        batch_size: usize,
        device: &Device,
    ) -> Result<(Vec<Vec<f32>>, usize)> {
        let (encodings, truncated) =
            encode_long(&self.tokenizer, &self.config, examples, self.long, max_length)?;
        let vectors = map_batches(&encodings, batch_size, device, |input| {
            let words = self.bert.embeddings.words(&input);
            let words = match &self.task_embedding {
                Some(task_embedding) => task_embedding.forward(words),
                None => words,
            };
            let hidden = match &self.layer_mixture {
                Some(mixture) => {
                    mixture.forward(self.bert.hidden_states_words(words, &input, None))
                }
                None => self.bert.forward_words(words, &input, None),
            };
            let read = self.pooling.read(hidden, &input);
            let pooled = self.pooling.pool(read, &input.documents);
            if normalize { unit(pooled) } else { pooled }
        });
        Ok((vectors, truncated))
    }
}

/// Rows scaled to length 1; rows of zeros stay.
fn unit(rows: Tensor<2>) -> Tensor<2> {
    let lengths = (rows.clone() * rows.clone()).sum_dim(1).sqrt().clamp_min(1e-12);
    rows / lengths
}
