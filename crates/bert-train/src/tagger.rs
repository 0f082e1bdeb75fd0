//! A tagger of words with everything that applying it needs, in a directory and out of one.

use std::path::Path;

use bert_core::{Bert, BertConfig, Encoding, LoraConfig, Tokenizer};
use bert_heads::{PoolingKind, TokenClassifier, TokenClassifierConfig};
use burn::{module::Module, tensor::Device};

use crate::{
    adapter::check_lora,
    data_set::{DataSet, TaggedSet, WordTags},
    encode::encode_sentences,
    error::Result,
    labels::LabelMap,
    model_dir::{ModelDir, Settings, save_settings},
    recipe::Recipe,
    sentences::Sentence,
    tag_scheme::in_bio,
    task_kind::TaskKind,
    word_config::TrainEmbeddings,
};

/// A tagger with its tokenizer, tags and settings.
#[derive(Debug, Clone)]
pub struct Tagger {
    /// Encoder and head.
    pub model: TokenClassifier,
    /// The encoder's config; its `id2label` are the tags.
    pub config: BertConfig,
    /// From words to ids.
    pub tokenizer: Tokenizer,
    /// The tags by id.
    pub labels: LabelMap,
    /// How it is put together and fed.
    pub settings: Settings,
}

impl Tagger {
    /// A tagger to be trained, from the checkpoint in `dir`, and a line for each thing that was dropped.
    ///
    /// What the checkpoint holds of a head is kept where the tags agree.
    ///
    /// # Errors
    /// When the directory holds no BERT, or its weights, config and tokenizer do not belong together.
    pub fn from_checkpoint(
        dir: &Path,
        labels: impl FnOnce(&[String]) -> Result<LabelMap>,
        settings: Settings,
        seed: u64,
        device: &Device,
    ) -> Result<(Self, Vec<String>)> {
        let base = ModelDir::open(dir)?;
        let labels = labels(base.config.id2label.as_deref().unwrap_or_default())?;
        let is_tagger = base.kind() == Some(TaskKind::Tag);
        let keep_head = is_tagger && base.labels() == labels.names();
        let own_task_embedding = base.settings.as_ref().and_then(|own| own.task_embedding);
        let is_new = |name: &str| match name.split('.').next() {
            Some("classifier") => !keep_head,
            Some("task_embedding") => own_task_embedding != settings.task_embedding,
            _ => false,
        };
        let (model, dropped) = build(&base, &settings, labels.len(), seed, is_new, device)?;
        let why = if is_tagger { "made for other tags" } else { "not those of a tagger of words" };
        let notices = base.dropped(dropped, why);
        let ModelDir { config, tokenizer, .. } = base;
        let settings = Settings { kind: TaskKind::Tag, ..settings };
        Ok((Self { model, config, tokenizer, labels, settings }, notices))
    }

    /// Loads a tagger that was trained here, or Hugging Face's `BertForTokenClassification`.
    ///
    /// # Errors
    /// When the directory holds neither, or its files do not belong together.
    pub fn load(dir: &Path, device: &Device) -> Result<Self> {
        Self::of_dir(ModelDir::open(dir)?, device)
    }

    pub(crate) fn of_dir(base: ModelDir, device: &Device) -> Result<Self> {
        base.require_kind(TaskKind::Tag)?;
        let labels = LabelMap::of_model(&base.labels())?;
        let settings = match &base.settings {
            Some(settings) => settings.clone(),
            None => Settings {
                kind: TaskKind::Tag,
                ..Settings::new(PoolingKind::default(), base.config.max_length(None)?)
            },
        };
        let (model, _) = build(&base, &settings, labels.len(), 0, |_| false, device)?;
        let model = model.valid();
        let ModelDir { config, tokenizer, .. } = base;
        Ok(Self { model, config, tokenizer, labels, settings })
    }

    /// Begins layers anew, where the recipe says so.
    ///
    /// # Errors
    /// [`Error::LayerCount`](crate::Error::LayerCount), which names `dir`, for more layers than the encoder has.
    pub fn reinitialise(mut self, recipe: &Recipe, dir: &Path) -> Result<Self> {
        recipe.layers.check_model(&self.config, dir)?;
        if let Some(layers) = recipe.layers.reinit {
            self.model = self.model.reinitialise(layers, &self.config, recipe.seed);
        }
        Ok(self)
    }

    /// Freezes the word embeddings that `train` leaves out.
    ///
    /// # Errors
    /// [`Error::NoNewWords`](crate::Error::NoNewWords), which names `dir`, when only new words are to be trained and there
    /// are none.
    pub fn train_embeddings(mut self, train: TrainEmbeddings, dir: &Path) -> Result<Self> {
        if let Some(frozen) = train.frozen_words(&self.config, dir)? {
            self.model.bert.embeddings = self.model.bert.embeddings.freeze_words(frozen);
        }
        Ok(self)
    }

    /// Puts adapters, drawn from the recipe's seed, beside the encoder's maps, where there is a `lora`, and freezes all else of the
    /// encoder but new words.
    ///
    /// # Errors
    /// [`Error::LoraRank`](crate::Error::LoraRank) when they are wider than the hidden states; for a recipe whose layers begin anew.
    pub fn with_lora(mut self, lora: Option<&LoraConfig>, recipe: &Recipe) -> Result<Self> {
        if let Some(lora) = lora {
            check_lora(lora, &self.config, recipe)?;
            self.model.bert = self.model.bert.with_lora(lora, recipe.seed);
        }
        Ok(self)
    }

    /// The same tagger without a task embedding: it is folded into the word embeddings.
    pub fn fold_task_embedding(mut self) -> Self {
        self.model = self.model.fold_task_embedding();
        self.settings.task_embedding = None;
        self
    }

    /// Writes everything but the weights.
    ///
    /// # Errors
    /// When a file can't be written.
    pub fn save_settings(&self, dir: &Path) -> Result<()> {
        let is_hugging_face = self.settings.task_embedding.is_none();
        save_settings(
            dir,
            &self.config,
            &self.tokenizer,
            Some(&self.labels),
            &self.settings,
            is_hugging_face,
        )
    }

    /// Encodes words, and counts the sentences that were cut to `max_length` tokens.
    ///
    /// # Errors
    /// When `max_length` is more than the model has positions for, or less than the special tokens need.
    pub fn encode(
        &self,
        sentences: &[Sentence],
        max_length: usize,
    ) -> Result<(Vec<Encoding>, usize)> {
        encode_sentences(&self.tokenizer, &self.config, sentences, max_length)
    }

    /// Encodes tagged sentences from the file `path`, and counts those that were cut.
    ///
    /// Where the model's tags are BIO, tags of IOB1 and IOBES are written in it.
    ///
    /// # Errors
    /// As [`encode`](Self::encode); and for a tag that training never saw.
    pub fn data_set(
        &self,
        path: &Path,
        sentences: &[Sentence],
        max_length: usize,
    ) -> Result<(DataSet<WordTags>, usize)> {
        let tags = self.labels.tag_ids(path, &in_bio(sentences, Some(&self.labels)))?;
        let (encodings, truncated) = self.encode(sentences, max_length)?;
        let rows = tags.into_iter().zip(&encodings);
        let labels = rows.map(|(tags, encoding)| WordTags::new(tags, encoding)).collect();
        Ok((DataSet { encodings, labels, states: None }, truncated))
    }

    /// What [`data_set`](Self::data_set) gives, to measure a tagger on.
    ///
    /// # Errors
    /// As [`data_set`](Self::data_set).
    pub fn tagged_set(
        &self,
        path: &Path,
        sentences: &[Sentence],
        max_length: usize,
    ) -> Result<(TaggedSet, usize)> {
        let (rows, truncated) = self.data_set(path, sentences, max_length)?;
        Ok((TaggedSet { rows, labels: self.labels.clone() }, truncated))
    }
}

/// Builds the tagger, and names the parts of the checkpoint that it leaves; parameters that are new stay at their starting
/// values.
fn build(
    dir: &ModelDir,
    settings: &Settings,
    num_labels: usize,
    seed: u64,
    is_new: impl Fn(&str) -> bool,
    device: &Device,
) -> Result<(TokenClassifier, Vec<String>)> {
    let parts = TokenClassifierConfig {
        task_embedding: settings.checked_task_embedding(&dir.config)?,
        num_labels,
    };
    let bert = Bert::new(&dir.config, device);
    dir.fill(TokenClassifier::new(bert, &dir.config, parts, seed, device), is_new)
}
