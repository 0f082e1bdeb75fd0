//! Reading and writing Hugging Face's `config.json`.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::{BertConfig, HiddenAct};
use crate::error::{Error, Result};

impl HiddenAct {
    fn from_name(name: &str) -> Option<Self> {
        match name {
            "gelu" => Some(Self::Gelu),
            "gelu_new" | "gelu_pytorch_tanh" => Some(Self::GeluNew),
            "relu" => Some(Self::Relu),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Gelu => "gelu",
            Self::GeluNew => "gelu_new",
            Self::Relu => "relu",
        }
    }
}

impl BertConfig {
    /// Reads a config from the bytes of a `config.json`; `path` is named in errors.
    ///
    /// # Errors
    /// As [`BertConfig::load`].
    pub fn from_json(path: impl AsRef<Path>, bytes: &[u8]) -> Result<Self> {
        let path = path.as_ref();
        let keys = serde_json::from_slice(bytes)
            .map_err(|source| Error::Json { path: path.into(), source })?;
        let place = path.display().to_string();
        let mut file = File { place: &place, keys };
        file.require_bert()?;

        let base = Self::default();
        let config = Self {
            vocab_size: file.size("vocab_size", base.vocab_size)?,
            hidden_size: file.size("hidden_size", base.hidden_size)?,
            num_hidden_layers: file.size("num_hidden_layers", base.num_hidden_layers)?,
            num_attention_heads: file.size("num_attention_heads", base.num_attention_heads)?,
            intermediate_size: file.size("intermediate_size", base.intermediate_size)?,
            hidden_act: file.hidden_act(base.hidden_act)?,
            hidden_dropout_prob: file
                .number("hidden_dropout_prob")?
                .unwrap_or(base.hidden_dropout_prob),
            attention_probs_dropout_prob: file
                .number("attention_probs_dropout_prob")?
                .unwrap_or(base.attention_probs_dropout_prob),
            classifier_dropout: file.number("classifier_dropout")?,
            max_position_embeddings: file
                .size("max_position_embeddings", base.max_position_embeddings)?,
            type_vocab_size: file.size("type_vocab_size", base.type_vocab_size)?,
            initializer_range: file.number("initializer_range")?.unwrap_or(base.initializer_range),
            layer_norm_eps: file.number("layer_norm_eps")?.unwrap_or(base.layer_norm_eps),
            pad_token_id: file.size("pad_token_id", base.pad_token_id)?,
            id2label: file.id2label()?,
            extra: file.keys,
        };
        config.validate_at(&place)?;
        Ok(config)
    }

    /// The `config.json` in `dir`, which is `config`'s, as it is but for `more` words.
    pub(crate) fn longer(dir: &Path, config: &Self, more: usize) -> Result<String> {
        let path = Self::path(dir);
        let bytes =
            std::fs::read(&path).map_err(|source| Error::Read { path: path.clone(), source })?;
        let mut keys: Map<String, Value> = serde_json::from_slice(&bytes)
            .map_err(|source| Error::Json { path: path.clone(), source })?;
        keys.insert("vocab_size".into(), json!(config.vocab_size + more));
        keys.insert(Self::BASE_VOCAB_SIZE.into(), json!(config.base_vocab_size()?));
        let text = format!("{:#}\n", Value::Object(keys));
        Self::from_json(&path, text.as_bytes())?;
        Ok(text)
    }

    /// The `config.json` of this config: all keys in alphabetical order, indented, as Hugging
    /// Face writes it.
    pub fn to_json(&self) -> String {
        let mut keys = self.extra.clone();
        let known = json!({
            "model_type": "bert",
            "vocab_size": self.vocab_size,
            "hidden_size": self.hidden_size,
            "num_hidden_layers": self.num_hidden_layers,
            "num_attention_heads": self.num_attention_heads,
            "intermediate_size": self.intermediate_size,
            "hidden_act": self.hidden_act.name(),
            "hidden_dropout_prob": self.hidden_dropout_prob,
            "attention_probs_dropout_prob": self.attention_probs_dropout_prob,
            "classifier_dropout": self.classifier_dropout,
            "max_position_embeddings": self.max_position_embeddings,
            "type_vocab_size": self.type_vocab_size,
            "initializer_range": self.initializer_range,
            "layer_norm_eps": self.layer_norm_eps,
            "pad_token_id": self.pad_token_id,
        });
        if let Value::Object(known) = known {
            keys.extend(known);
        }
        if let Some(labels) = &self.id2label {
            let ids = labels.iter().enumerate();
            let id2label: Map<_, _> = ids.clone().map(|(i, l)| (i.to_string(), json!(l))).collect();
            let label2id: Map<_, _> = ids.map(|(i, l)| (l.clone(), json!(i))).collect();
            keys.insert("id2label".into(), id2label.into());
            keys.insert("label2id".into(), label2id.into());
        }
        // Weights are 32-bit floats here, whatever type they were read from.
        for key in ["dtype", "torch_dtype"] {
            if let Some(dtype) = keys.get_mut(key) {
                *dtype = json!("float32");
            }
        }
        keys.sort_keys();
        format!("{:#}\n", Value::Object(keys))
    }
}

/// The keys of a config file that are not read yet.
struct File<'a> {
    place: &'a str,
    keys: Map<String, Value>,
}

impl File<'_> {
    /// Takes a key; null counts as absent, as it does in transformers.
    fn take(&mut self, key: &str) -> Option<Value> {
        self.keys.shift_remove(key).filter(|value| !value.is_null())
    }

    fn size(&mut self, key: &'static str, default: usize) -> Result<usize> {
        let Some(value) = self.take(key) else { return Ok(default) };
        let size = value.as_u64().and_then(|size| usize::try_from(size).ok());
        size.ok_or_else(|| self.invalid(key, "a whole number", &value))
    }

    fn number(&mut self, key: &'static str) -> Result<Option<f64>> {
        let Some(value) = self.take(key) else { return Ok(None) };
        value.as_f64().map(Some).ok_or_else(|| self.invalid(key, "a number", &value))
    }

    fn hidden_act(&mut self, default: HiddenAct) -> Result<HiddenAct> {
        let Some(value) = self.take("hidden_act") else { return Ok(default) };
        value.as_str().and_then(HiddenAct::from_name).ok_or_else(|| {
            let supported = r#""gelu", "gelu_new", "gelu_pytorch_tanh", "relu""#;
            self.unsupported("hidden_act", &value, supported)
        })
    }

    /// Takes both maps: `label2id` says the same again, and is written anew.
    fn id2label(&mut self) -> Result<Option<Vec<String>>> {
        let Some(value) = self.take("id2label") else { return Ok(None) };
        self.take("label2id");
        let labels = value.as_object().and_then(|map| {
            let label = |id: usize| map.get(&id.to_string())?.as_str().map(String::from);
            (0..map.len()).map(label).collect()
        });
        let expected = "an object of label names under the ids \"0\", \"1\", ... without a gap";
        labels.map(Some).ok_or_else(|| self.invalid("id2label", expected, &value))
    }

    /// Refuses whatever would make the same weights compute something else.
    fn require_bert(&mut self) -> Result<()> {
        match self.take("model_type") {
            Some(model_type) if model_type == "bert" => {}
            Some(model_type) => {
                return Err(self.unsupported("model_type", &model_type, r#""bert""#));
            }
            None => {
                let architectures = self.keys.get("architectures").unwrap_or(&Value::Null);
                let first = architectures.get(0).and_then(Value::as_str);
                if !first.is_some_and(|name| name.starts_with("Bert")) {
                    let supported = r#"names that start with "Bert", or "model_type": "bert""#;
                    return Err(self.unsupported("architectures", architectures, supported));
                }
            }
        }
        type Accepts = fn(&Value) -> bool;
        let allowed: [(&str, &str, Accepts); 4] = [
            ("position_embedding_type", r#""absolute""#, |v| v.is_null() || v == "absolute"),
            ("is_decoder", "false", |v| v.is_null() || v == false),
            ("add_cross_attention", "false", |v| v.is_null() || v == false),
            ("pruned_heads", "{}", |v| v.is_null() || v.as_object().is_some_and(Map::is_empty)),
        ];
        for (key, supported, accepts) in allowed {
            if let Some(value) = self.keys.get(key).filter(|value| !accepts(value)) {
                return Err(self.unsupported(key, value, supported));
            }
        }
        Ok(())
    }

    fn invalid(&self, key: &'static str, expected: &str, found: &Value) -> Error {
        let (expected, found) = (expected.into(), shortened(found));
        Error::ConfigValue { place: self.place.into(), key, expected, found }
    }

    fn unsupported(&self, key: &'static str, found: &Value, supported: &'static str) -> Error {
        let found = shortened(found);
        Error::ConfigUnsupported { place: self.place.into(), key, found, supported }
    }
}

/// A value as JSON, cut where it would fill the screen.
fn shortened(value: &Value) -> String {
    let json = value.to_string();
    match json.char_indices().nth(80) {
        Some((end, _)) => format!("{}...", &json[..end]),
        None => json,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::{fs, path::PathBuf};

    use super::*;

    const BERT: &str = r#"{"model_type": "bert"}"#;

    fn read(json: &str) -> Result<BertConfig> {
        BertConfig::from_json("m/config.json", json.as_bytes())
    }

    /// The message for a config that is right but for `keys`.
    fn refusal(keys: &str) -> String {
        read(&format!(r#"{{"model_type": "bert", {keys}}}"#)).unwrap_err().to_string()
    }

    fn reference(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference").join(name)
    }

    #[test]
    fn absent_keys_and_nulls_have_hugging_faces_defaults() {
        assert_eq!(read(BERT).unwrap(), BertConfig::default());
        let nulls = r#"{"model_type": "bert", "vocab_size": null, "classifier_dropout": null, "id2label": null}"#;
        assert_eq!(read(nulls).unwrap(), BertConfig::default());
    }

    #[test]
    fn a_file_of_transformers_is_read() {
        let config = BertConfig::load(reference("tiny-bert-seqcls")).unwrap();
        assert_eq!((config.vocab_size, config.hidden_size, config.num_hidden_layers), (79, 32, 2));
        assert_eq!((config.num_attention_heads, config.intermediate_size), (4, 64));
        assert_eq!((config.max_position_embeddings, config.type_vocab_size), (64, 2));
        assert_eq!((config.hidden_act, config.layer_norm_eps), (HiddenAct::Gelu, 1e-12));
        assert_eq!((config.hidden_dropout_prob, config.classifier_dropout), (0.0, None));
        assert_eq!(config.id2label.unwrap(), ["LABEL_0", "LABEL_1", "LABEL_2"]);
        assert_eq!(config.extra["architectures"], json!(["BertForSequenceClassification"]));
    }

    #[test]
    fn a_saved_config_holds_every_key_it_was_read_with() {
        for name in ["tiny-bert", "tiny-bert-seqcls", "tiny-bert-tokcls", "tiny-bert-qa"] {
            let dir = tempfile::tempdir().unwrap();
            BertConfig::load(reference(name)).unwrap().save(dir.path()).unwrap();
            let text = |dir: &Path| fs::read_to_string(dir.join("config.json")).unwrap();
            assert_eq!(text(dir.path()), text(&reference(name)), "{name}");
        }
    }

    #[test]
    fn labels_and_weight_type_are_written_as_they_are_now() {
        let mut config = read(r#"{"model_type": "bert", "torch_dtype": "float16"}"#).unwrap();
        config.id2label = Some(vec!["no".into(), "yes".into()]);
        let json: Value = serde_json::from_str(&config.to_json()).unwrap();
        assert_eq!(json["id2label"], json!({"0": "no", "1": "yes"}));
        assert_eq!(json["label2id"], json!({"no": 0, "yes": 1}));
        assert_eq!(json["torch_dtype"], "float32");
        assert_eq!(json["model_type"], "bert");
    }

    #[test]
    fn activations_go_by_name() {
        let act = |name| read(&format!(r#"{{"model_type": "bert", "hidden_act": "{name}"}}"#));
        assert_eq!(act("gelu").unwrap().hidden_act, HiddenAct::Gelu);
        assert_eq!(act("gelu_new").unwrap().hidden_act, HiddenAct::GeluNew);
        assert_eq!(act("gelu_pytorch_tanh").unwrap().hidden_act, HiddenAct::GeluNew);
        assert_eq!(act("relu").unwrap().hidden_act, HiddenAct::Relu);
        assert_eq!(
            act("silu").unwrap_err().to_string(),
            "m/config.json: hidden_act = \"silu\" is not supported; supported: \"gelu\", \"gelu_new\", \"gelu_pytorch_tanh\", \"relu\""
        );
    }

    #[test]
    fn other_models_are_refused_by_name() {
        assert_eq!(
            read(r#"{"model_type": "roberta"}"#).unwrap_err().to_string(),
            "m/config.json: model_type = \"roberta\" is not supported; supported: \"bert\""
        );
        assert_eq!(
            refusal(r#""position_embedding_type": "relative_key""#),
            "m/config.json: position_embedding_type = \"relative_key\" is not supported; supported: \"absolute\""
        );
        assert_eq!(
            refusal(r#""is_decoder": true"#),
            "m/config.json: is_decoder = true is not supported; supported: false"
        );
        assert!(refusal(r#""add_cross_attention": true"#).contains("add_cross_attention = true"));
        assert!(refusal(r#""pruned_heads": {"0": [1]}"#).contains(r#"pruned_heads = {"0":[1]}"#));
    }

    #[test]
    fn without_a_model_type_the_architecture_decides() {
        assert!(read(r#"{"architectures": ["BertForMaskedLM"]}"#).is_ok());
        let message = read(r#"{"architectures": ["GPT2Model"]}"#).unwrap_err().to_string();
        assert!(message.contains(r#"architectures = ["GPT2Model"] is not supported"#), "{message}");
        let message = read("{}").unwrap_err().to_string();
        assert!(message.contains("architectures = null is not supported"), "{message}");
    }

    #[test]
    fn values_of_the_wrong_type_are_refused() {
        assert_eq!(
            refusal(r#""hidden_size": "large""#),
            "m/config.json: hidden_size must be a whole number, got \"large\""
        );
        assert!(refusal(r#""vocab_size": -1"#).ends_with("must be a whole number, got -1"));
        assert!(refusal(r#""vocab_size": 1.5"#).ends_with("must be a whole number, got 1.5"));
        assert!(refusal(r#""layer_norm_eps": []"#).ends_with("must be a number, got []"));
        assert!(
            refusal(r#""vocab_size": 0"#).ends_with("vocab_size must be from 1 to 10000000, got 0")
        );
    }

    #[test]
    fn labels_must_be_numbered_without_a_gap() {
        for labels in [r#"{"0": "a", "2": "b"}"#, r#"{"0": 1}"#, r#"["a"]"#, r#"{"1": "a"}"#] {
            let message = refusal(&format!(r#""id2label": {labels}"#));
            assert!(message.starts_with("m/config.json: id2label must be an object"), "{message}");
        }
        let long = format!(r#""id2label": ["{}"]"#, "é".repeat(200));
        assert!(refusal(&long).ends_with("é..."));
    }

    #[test]
    fn a_file_that_is_not_json_is_named_with_line_and_column() {
        let message = read("{\n\"model_type\": bert}").unwrap_err().to_string();
        assert!(
            message.starts_with("m/config.json is not the JSON that was expected: "),
            "{message}"
        );
        assert!(message.contains("line 2 column 15"), "{message}");
        assert!(read("[]").unwrap_err().to_string().contains("expected a map"));
        assert!(read(&"[".repeat(100_000)).is_err());
    }

    #[test]
    fn a_directory_without_a_config_is_named() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(
            BertConfig::load(dir.path()).unwrap_err().to_string(),
            format!(
                "{} has no config.json; name a directory in Hugging Face layout",
                dir.path().display()
            )
        );
        let absent = dir.path().join("absent");
        assert_eq!(
            BertConfig::load(&absent).unwrap_err().to_string(),
            format!(
                "there is no directory {}; nothing is downloaded: name one in Hugging Face layout",
                absent.display()
            )
        );
        fs::create_dir(dir.path().join("config.json")).unwrap();
        let message = BertConfig::load(dir.path()).unwrap_err().to_string();
        assert!(
            message.starts_with("cannot read ") && message.contains("config.json"),
            "{message}"
        );
    }
}
