//! What a BERT encoder is made of: Hugging Face's `config.json`.

mod json;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde_json::{Map, Value};

use crate::{
    atomic_file::write_atomically,
    error::{Error, Result},
};

/// The activation between the two linear maps of a layer's feed-forward part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HiddenAct {
    /// `x * Phi(x)`, exact; `"gelu"`.
    Gelu,
    /// GELU's tanh approximation; `"gelu_new"`, also spelt `"gelu_pytorch_tanh"`.
    GeluNew,
    /// `max(x, 0)`; `"relu"`.
    Relu,
}

/// The sizes and rates of a BERT encoder, under Hugging Face's names.
///
/// `Default` is BERT base, uncased.
///
/// # Source
/// <https://huggingface.co/docs/transformers/model_doc/bert#transformers.BertConfig>
#[derive(Debug, Clone, PartialEq)]
pub struct BertConfig {
    /// Rows of the word embedding.
    pub vocab_size: usize,
    /// Width of a hidden state.
    pub hidden_size: usize,
    /// Encoder layers.
    pub num_hidden_layers: usize,
    /// Attention heads a layer; divides `hidden_size`.
    pub num_attention_heads: usize,
    /// Width of the feed-forward part.
    pub intermediate_size: usize,
    /// Activation of the feed-forward part.
    pub hidden_act: HiddenAct,
    /// Dropout of embeddings and sublayer outputs, in `0..1`.
    pub hidden_dropout_prob: f64,
    /// Dropout of attention probabilities, in `0..1`.
    pub attention_probs_dropout_prob: f64,
    /// Dropout before a head, in `0..1`; `None`: as `hidden_dropout_prob`.
    pub classifier_dropout: Option<f64>,
    /// Rows of the position embedding: the longest sequence, in tokens.
    pub max_position_embeddings: usize,
    /// Rows of the token type embedding.
    pub type_vocab_size: usize,
    /// Standard deviation of new weights.
    pub initializer_range: f64,
    /// Added to the variance in every layer norm.
    pub layer_norm_eps: f64,
    /// The id of padding.
    pub pad_token_id: usize,
    /// Label names by label id, where the model has a head that names them.
    pub id2label: Option<Vec<String>>,
    /// Every other key of the file, written back as it was.
    pub extra: Map<String, Value>,
}

impl Default for BertConfig {
    fn default() -> Self {
        Self {
            vocab_size: 30522,
            hidden_size: 768,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            intermediate_size: 3072,
            hidden_act: HiddenAct::Gelu,
            hidden_dropout_prob: 0.1,
            attention_probs_dropout_prob: 0.1,
            classifier_dropout: None,
            max_position_embeddings: 512,
            type_vocab_size: 2,
            initializer_range: 0.02,
            layer_norm_eps: 1e-12,
            pad_token_id: 0,
            id2label: None,
            extra: Map::new(),
        }
    }
}

impl BertConfig {
    /// The most rows that a word embedding may have.
    pub const MAX_VOCAB_SIZE: usize = 10_000_000;
    /// The most parameters that an encoder may have: 40 GB of 32-bit floats.
    pub const MAX_PARAMETERS: u64 = 10_000_000_000;

    pub(crate) const BASE_VOCAB_SIZE: &str = "base_vocab_size";

    /// Reads `config.json` in `dir`.
    ///
    /// # Errors
    /// The file is absent, is not JSON, describes something other than a BERT encoder, or has a
    /// value out of range.
    pub fn load(dir: impl AsRef<Path>) -> Result<Self> {
        let path = Self::path(dir.as_ref());
        let bytes = fs::read(&path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound if !dir.as_ref().exists() => {
                Error::NoModel { dir: dir.as_ref().into() }
            }
            io::ErrorKind::NotFound => Error::ConfigMissing { dir: dir.as_ref().into() },
            _ => Error::Read { path: path.clone(), source },
        })?;
        Self::from_json(&path, &bytes)
    }

    /// Writes `config.json` in `dir`, whole or not at all.
    ///
    /// # Errors
    /// A value is out of range, or the file cannot be written.
    pub fn save(&self, dir: impl AsRef<Path>) -> Result<()> {
        self.validate()?;
        write_atomically(Self::path(dir.as_ref()), self.to_json().as_bytes())
    }

    /// Checks ranges, for a config made in code; a config that was read has passed already.
    ///
    /// # Errors
    /// [`Error::ConfigValue`] for the first value out of range, [`Error::ModelTooLarge`] when
    /// all are in range but too large together.
    pub fn validate(&self) -> Result<()> {
        self.validate_at("the config made in code")
    }

    /// Width of one attention head.
    pub fn head_size(&self) -> usize {
        self.hidden_size / self.num_attention_heads
    }

    /// Dropout before a head.
    pub fn head_dropout(&self) -> f64 {
        self.classifier_dropout.unwrap_or(self.hidden_dropout_prob)
    }

    /// Parameters of the encoder, pooler included.
    pub fn num_parameters(&self) -> u64 {
        let [vocab, hidden, layers, inner, positions, types] = [
            self.vocab_size,
            self.hidden_size,
            self.num_hidden_layers,
            self.intermediate_size,
            self.max_position_embeddings,
            self.type_vocab_size,
        ]
        .map(|size| size as u64);
        let norm = 2 * hidden;
        let square = hidden * hidden + hidden;
        let embeddings = (vocab + positions + types) * hidden + norm;
        let attention = 4 * square + norm;
        let feed_forward = 2 * hidden * inner + inner + hidden + norm;
        embeddings + layers * (attention + feed_forward) + square
    }

    /// The longest encoded text in tokens: `requested`, or 512 where the model has as many
    /// positions.
    ///
    /// # Errors
    /// [`Error::MaxLengthTooLarge`] when `requested` is beyond the position embeddings.
    pub fn max_length(&self, requested: Option<usize>) -> Result<usize> {
        let max_position_embeddings = self.max_position_embeddings;
        let max_length = requested.unwrap_or(max_position_embeddings.min(512));
        if max_length > max_position_embeddings {
            return Err(Error::MaxLengthTooLarge { max_length, max_position_embeddings });
        }
        Ok(max_length)
    }

    /// The rows of the word embedding that were there before words were added to the vocabulary: all of them where
    /// `base_vocab_size`, a key of ours, is absent.
    ///
    /// # Errors
    /// [`Error::ConfigValue`] when the key is no number from 1 to `vocab_size`.
    pub fn base_vocab_size(&self) -> Result<usize> {
        let Some(value) = self.extra.get(Self::BASE_VOCAB_SIZE) else { return Ok(self.vocab_size) };
        let size = value.as_u64().and_then(|size| usize::try_from(size).ok());
        size.filter(|size| (1..=self.vocab_size).contains(size)).ok_or_else(|| Error::ConfigValue {
            place: "config.json".into(),
            key: Self::BASE_VOCAB_SIZE,
            expected: format!("from 1 to vocab_size = {}", self.vocab_size),
            found: value.to_string(),
        })
    }

    fn path(dir: &Path) -> PathBuf {
        dir.join("config.json")
    }

    /// The single limits keep [`Self::num_parameters`] far from overflow.
    fn validate_at(&self, place: &str) -> Result<()> {
        let sizes = [
            ("vocab_size", self.vocab_size, Self::MAX_VOCAB_SIZE),
            ("hidden_size", self.hidden_size, 65_536),
            ("num_hidden_layers", self.num_hidden_layers, 1024),
            ("num_attention_heads", self.num_attention_heads, 65_536),
            ("intermediate_size", self.intermediate_size, 1_000_000),
            ("max_position_embeddings", self.max_position_embeddings, 1_000_000),
            ("type_vocab_size", self.type_vocab_size, 65_536),
        ];
        let refuse = |key, expected, found: String| {
            Err(Error::ConfigValue { place: place.into(), key, expected, found })
        };
        for (key, size, limit) in sizes {
            if !(1..=limit).contains(&size) {
                return refuse(key, format!("from 1 to {limit}"), size.to_string());
            }
        }
        if !self.hidden_size.is_multiple_of(self.num_attention_heads) {
            let expected = format!("a divisor of hidden_size = {}", self.hidden_size);
            return refuse("num_attention_heads", expected, self.num_attention_heads.to_string());
        }
        let rates = [
            ("hidden_dropout_prob", self.hidden_dropout_prob),
            ("attention_probs_dropout_prob", self.attention_probs_dropout_prob),
            ("classifier_dropout", self.head_dropout()),
        ];
        for (key, rate) in rates {
            if !(0.0..1.0).contains(&rate) {
                return refuse(key, "at least 0 and less than 1".into(), rate.to_string());
            }
        }
        let positives = [
            ("initializer_range", self.initializer_range),
            ("layer_norm_eps", self.layer_norm_eps),
        ];
        for (key, value) in positives {
            if !(value > 0.0 && value <= 1.0) {
                return refuse(key, "more than 0 and at most 1".into(), value.to_string());
            }
        }
        if self.pad_token_id >= self.vocab_size {
            let expected = format!("less than vocab_size = {}", self.vocab_size);
            return refuse("pad_token_id", expected, self.pad_token_id.to_string());
        }
        let found = self.num_parameters();
        if found > Self::MAX_PARAMETERS {
            let limit = Self::MAX_PARAMETERS;
            return Err(Error::ModelTooLarge { place: place.into(), found, limit });
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn refusal(change: impl FnOnce(&mut BertConfig)) -> String {
        let mut config = BertConfig::default();
        change(&mut config);
        config.validate().unwrap_err().to_string()
    }

    #[test]
    fn parameters_are_counted_as_in_bert_base() {
        // Embeddings (30522 + 512 + 2) * 768 + 2 * 768                         = 23 837 184
        // A layer: 4 * (768 * 768 + 768) + 2 * 768                             =  2 363 904
        //        + 2 * 768 * 3072 + 3072 + 768 + 2 * 768                       =  4 723 968
        // Pooler: 768 * 768 + 768                                              =    590 592
        // 23 837 184 + 12 * 7 087 872 + 590 592 = 109 482 240, the figure known for bert-base.
        assert_eq!(BertConfig::default().num_parameters(), 109_482_240);
    }

    #[test]
    fn the_default_is_valid() {
        BertConfig::default().validate().unwrap();
        assert_eq!(BertConfig::default().head_size(), 64);
    }

    #[test]
    fn a_size_of_zero_is_refused() {
        type Change = fn(&mut BertConfig);
        let changes: [(&str, Change); 7] = [
            ("vocab_size", |c| c.vocab_size = 0),
            ("hidden_size", |c| c.hidden_size = 0),
            ("num_hidden_layers", |c| c.num_hidden_layers = 0),
            ("num_attention_heads", |c| c.num_attention_heads = 0),
            ("intermediate_size", |c| c.intermediate_size = 0),
            ("max_position_embeddings", |c| c.max_position_embeddings = 0),
            ("type_vocab_size", |c| c.type_vocab_size = 0),
        ];
        for (key, change) in changes {
            let message = refusal(change);
            let start = format!("the config made in code: {key} must be from 1 to ");
            assert!(message.starts_with(&start) && message.ends_with(", got 0"), "{message}");
        }
    }

    #[test]
    fn heads_must_divide_the_width() {
        assert_eq!(
            refusal(|c| c.num_attention_heads = 7),
            "the config made in code: num_attention_heads must be a divisor of hidden_size = 768, got 7"
        );
    }

    #[test]
    fn rates_must_be_probabilities_below_one() {
        for rate in [1.0, -0.1, f64::NAN] {
            assert_eq!(
                refusal(|c| c.classifier_dropout = Some(rate)),
                format!(
                    "the config made in code: classifier_dropout must be at least 0 and less than 1, got {rate}"
                )
            );
        }
        assert!(refusal(|c| c.hidden_dropout_prob = 1.5).contains("hidden_dropout_prob must be"));
        assert!(refusal(|c| c.attention_probs_dropout_prob = 2.0).contains("attention_probs_"));
    }

    #[test]
    fn epsilon_and_spread_must_be_positive() {
        for value in [0.0, -1e-12, f64::INFINITY, f64::NAN] {
            let end = format!("must be more than 0 and at most 1, got {value}");
            assert!(refusal(|c| c.layer_norm_eps = value).ends_with(&end));
            assert!(refusal(|c| c.initializer_range = value).ends_with(&end));
        }
    }

    #[test]
    fn padding_must_be_a_word() {
        assert_eq!(
            refusal(|c| c.pad_token_id = 30522),
            "the config made in code: pad_token_id must be less than vocab_size = 30522, got 30522"
        );
    }

    #[test]
    fn sizes_that_overflow_together_are_refused() {
        let message = refusal(|c| {
            c.hidden_size = 65_536;
            c.num_attention_heads = 64;
            c.num_hidden_layers = 1024;
            c.vocab_size = BertConfig::MAX_VOCAB_SIZE;
            c.intermediate_size = 1_000_000;
        });
        assert!(
            message.starts_with("the config made in code: the sizes make a model of 1")
                && message.contains("at most 10000000000 are supported"),
            "{message}"
        );
        assert!(refusal(|c| c.vocab_size = usize::MAX).contains("from 1 to 10000000, got"));
    }

    #[test]
    fn the_longest_text_is_bounded_by_the_positions() {
        let short = BertConfig { max_position_embeddings: 64, ..Default::default() };
        let long = BertConfig { max_position_embeddings: 4096, ..Default::default() };
        assert_eq!(short.max_length(None).unwrap(), 64);
        assert_eq!(long.max_length(None).unwrap(), 512);
        assert_eq!(long.max_length(Some(4096)).unwrap(), 4096);
        assert_eq!(
            short.max_length(Some(65)).unwrap_err().to_string(),
            "max_length 65 exceeds the model's 64 position embeddings; use at most 64"
        );
    }
}
