//! A classifier of texts with everything that applying it needs, in a directory and out of one.

use std::path::Path;

use bert_core::{Bert, BertConfig, Encoding, LoraConfig, Tokenizer, initialise};
use bert_heads::{PoolingKind, SequenceClassifier};
use burn::{module::Module, tensor::Device};

use crate::{
    adapter::check_lora,
    data_set::DataSet,
    encode::encode_long,
    error::Result,
    examples::Example,
    labels::LabelMap,
    long::Long,
    model_dir::{ModelDir, Settings, save_settings},
    recipe::Recipe,
    task_kind::TaskKind,
    word_config::TrainEmbeddings,
};

/// A classifier with its tokenizer, labels and settings.
#[derive(Debug, Clone)]
pub struct TextClassifier {
    /// Encoder, pooling and head.
    pub model: SequenceClassifier,
    /// The encoder's config; its `id2label` are the labels.
    pub config: BertConfig,
    /// From text to ids.
    pub tokenizer: Tokenizer,
    /// The labels by id.
    pub labels: LabelMap,
    /// How it is put together and fed.
    pub settings: Settings,
}

impl TextClassifier {
    /// A classifier to be trained, from the checkpoint in `dir`, and a line for each thing that was made new or dropped.
    ///
    /// What the checkpoint holds of pooling and head is kept where pooling and labels agree.
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
        let kind = settings.pooling;
        let own = base.settings.as_ref();
        let own_kind = own.map_or(PoolingKind::Cls, |own| own.pooling);
        let own_task_embedding = own.and_then(|own| own.task_embedding);
        let own_mixture = own.is_some_and(|own| own.layer_mixture);
        let same_mixture = own_mixture == settings.layer_mixture;
        let is_classifier = base.kind() == Some(TaskKind::Classify);
        let same_labels = is_classifier && base.labels() == labels.names();
        let keep_pooling =
            kind == own_kind && (kind != PoolingKind::Cls || base.has("pooler.dense.weight"));
        let keep_head = same_labels && kind == own_kind && same_mixture;

        let mut notices = vec![];
        if kind == PoolingKind::Cls && !keep_pooling {
            let dir = dir.display();
            notices.push(format!("{dir} has no pooler: made a new one, normal(0.02)"));
        }
        let is_new = |name: &str| match name.split('.').next() {
            Some("classifier") => !keep_head,
            Some("pooler" | "pooling") => !keep_pooling,
            Some("layer_mixture") => !own_mixture,
            Some("task_embedding") => own_task_embedding != settings.task_embedding,
            _ => false,
        };
        let (model, dropped) = build(&base, &settings, labels.len(), seed, is_new, device)?;
        let why = match (is_classifier, same_labels) {
            (false, _) => "not those of a classifier of texts",
            (true, false) => "made for other labels",
            (true, true) => "made for another pooling",
        };
        notices.extend(base.dropped(dropped, why));
        let ModelDir { config, tokenizer, .. } = base;
        Ok((Self { model, config, tokenizer, labels, settings }, notices))
    }

    /// A classifier to be trained from nothing: `dir` gives config and tokenizer, all weights are drawn from `seed`.
    ///
    /// # Errors
    /// When config and tokenizer can't be read, or do not belong together.
    pub fn from_scratch(
        dir: &Path,
        labels: LabelMap,
        settings: Settings,
        seed: u64,
        device: &Device,
    ) -> Result<Self> {
        let config = BertConfig::load(dir)?;
        let tokenizer = Tokenizer::load(dir)?;
        tokenizer.check_vocabulary(&config)?;
        let parts = settings.parts(&config, labels.len())?;
        let bert = initialise(Bert::new(&config, device), "", seed, config.initializer_range);
        let model = SequenceClassifier::new(bert, &config, parts, seed, device);
        Ok(Self { model, config, tokenizer, labels, settings })
    }

    /// Loads a classifier that was trained here, or Hugging Face's `BertForSequenceClassification`.
    ///
    /// # Errors
    /// When the directory holds neither, or its files do not belong together.
    pub fn load(dir: &Path, device: &Device) -> Result<Self> {
        Self::of_dir(ModelDir::open(dir)?, device)
    }

    pub(crate) fn of_dir(base: ModelDir, device: &Device) -> Result<Self> {
        base.require_kind(TaskKind::Classify)?;
        let labels = LabelMap::of_model(&base.labels())?;
        let settings = match &base.settings {
            Some(settings) => settings.clone(),
            None => Settings::new(PoolingKind::Cls, base.config.max_length(None)?),
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
    /// [`Error::NoNewWords`], which names `dir`, when only new words are to be trained and there are none.
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

    /// The same classifier without a task embedding: it is folded into the word embeddings.
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
        let is_hugging_face = self.settings.pooling == PoolingKind::Cls
            && !self.settings.layer_mixture
            && self.settings.task_embedding.is_none()
            && !matches!(self.settings.long, Long::Windows { .. });
        save_settings(
            dir,
            &self.config,
            &self.tokenizer,
            Some(&self.labels),
            &self.settings,
            is_hugging_face,
        )
    }

    /// Encodes texts, in sequences of at most `max_length` tokens, and counts those that were cut.
    ///
    /// # Errors
    /// When `max_length` is more than the model has positions for, or less than the special tokens and the stride of windows
    /// need; and for pairs, where long texts are not truncated.
    pub fn encode(
        &self,
        examples: &[Example],
        max_length: usize,
    ) -> Result<(Vec<Encoding>, usize)> {
        encode_long(&self.tokenizer, &self.config, examples, self.settings.long, max_length)
    }

    /// Encodes labelled texts from the file `path`, and counts those that were cut.
    ///
    /// # Errors
    /// As [`encode`](Self::encode); and for a label that training never saw.
    pub fn data_set(
        &self,
        path: &Path,
        examples: &[Example],
        max_length: usize,
    ) -> Result<(DataSet, usize)> {
        let labels = self.labels.ids(path, examples)?.into_iter().map(Some).collect();
        let (encodings, truncated) = self.encode(examples, max_length)?;
        Ok((DataSet { encodings, labels, states: None }, truncated))
    }
}

/// Builds the classifier, and names the parts of the checkpoint that it leaves; parameters that are new stay at their
/// starting values.
fn build(
    dir: &ModelDir,
    settings: &Settings,
    num_labels: usize,
    seed: u64,
    is_new: impl Fn(&str) -> bool,
    device: &Device,
) -> Result<(SequenceClassifier, Vec<String>)> {
    let parts = settings.parts(&dir.config, num_labels)?;
    let bert = Bert::new(&dir.config, device);
    dir.fill(SequenceClassifier::new(bert, &dir.config, parts, seed, device), is_new)
}
