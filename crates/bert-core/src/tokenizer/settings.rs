//! `tokenizer_config.json`, with `special_tokens_map.json` and `added_tokens.json` beside it.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde_json::{Map, Value, json};
use tokenizers::{NormalizerWrapper, normalizers::BertNormalizer};

use super::SpecialToken;
use crate::{
    atomic_file::write_atomically,
    error::{Error, Result},
};

const SETTINGS: &str = "tokenizer_config.json";
const SPECIAL_TOKENS: &str = "special_tokens_map.json";
const ADDED_TOKENS: &str = "added_tokens.json";

/// The classes of transformers that split words as BERT does.
const BERT_CLASSES: [&str; 2] = ["BertTokenizer", "BertTokenizerFast"];

/// How a tokenizer treats text and spells its special tokens, under transformers' keys.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    /// The file, or where it would be.
    path: PathBuf,
    keys: Map<String, Value>,
}

impl Settings {
    /// Reads the settings of a model directory, of which every file may be absent.
    pub(super) fn load(dir: &Path) -> Result<Self> {
        let path = dir.join(SETTINGS);
        let mut keys = read_json(&path)?.unwrap_or_default();
        for (key, value) in read_json(&dir.join(SPECIAL_TOKENS))?.unwrap_or_default() {
            keys.entry(key).or_insert(value);
        }
        Ok(Self { path, keys })
    }

    /// Settings of a new tokenizer.
    pub(super) fn new(lowercase: bool) -> Self {
        let keys = [("do_lower_case".into(), json!(lowercase))].into_iter().collect();
        Self { path: SETTINGS.into(), keys }
    }

    /// Writes the files that transformers expects.
    pub(super) fn save(&self, dir: &Path) -> Result<()> {
        write_json(&dir.join(SETTINGS), &self.keys)?;
        let is_token = |key: &str| key.ends_with("_token") || key == "additional_special_tokens";
        let is_named = |value: &Value| value.is_string() || value.is_object() || value.is_array();
        let tokens = self.keys.iter().filter(|(key, value)| is_token(key) && is_named(value));
        write_json(
            &dir.join(SPECIAL_TOKENS),
            &tokens.map(|(k, v)| (k.clone(), v.clone())).collect(),
        )
    }

    /// How the vocabulary spells a special token: a string here, or an object with more detail.
    pub(super) fn spelling(&self, token: SpecialToken) -> String {
        let setting = self.keys.get(token.key());
        let spelling = setting.map(|setting| setting.get("content").unwrap_or(setting));
        spelling.and_then(Value::as_str).unwrap_or(token.as_str()).into()
    }

    /// Whether transformers would take the treatment of text from here, whatever
    /// `tokenizer.json` says.
    pub(super) fn is_bert_class(&self) -> bool {
        let class = self.keys.get("tokenizer_class").and_then(Value::as_str);
        class.is_none_or(|class| BERT_CLASSES.contains(&class))
    }

    /// `own`, with what is set here instead.
    pub(super) fn normalizer(&self, own: BertNormalizer) -> Result<BertNormalizer> {
        // Null is a setting of its own here: strip accents where case is folded.
        let strip_accents = match self.keys.contains_key("strip_accents") {
            true => self.switch("strip_accents")?,
            false => own.strip_accents,
        };
        Ok(BertNormalizer::new(
            own.clean_text,
            self.switch("tokenize_chinese_chars")?.unwrap_or(own.handle_chinese_chars),
            strip_accents,
            self.switch("do_lower_case")?.unwrap_or(own.lowercase),
        ))
    }

    /// Writes down what a tokenizer does where nothing is set, for transformers to do the same.
    pub(super) fn complete(&mut self, library: &tokenizers::Tokenizer) {
        let mut set = |key: &str, value: Value| {
            self.keys.entry(key).or_insert(value);
        };
        if let Some(NormalizerWrapper::BertNormalizer(own)) = library.get_normalizer() {
            set("do_lower_case", json!(own.lowercase));
            set("strip_accents", json!(own.strip_accents));
            set("tokenize_chinese_chars", json!(own.handle_chinese_chars));
            set("tokenizer_class", json!(BERT_CLASSES[0]));
        }
        set("tokenizer_class", json!("PreTrainedTokenizerFast"));
        for token in SpecialToken::ALL {
            let spelling = self.spelling(token);
            if library.token_to_id(&spelling).is_some() {
                self.keys.entry(token.key()).or_insert(json!(spelling));
            }
        }
    }

    /// Refuses what a vocabulary alone does not determine: another way of splitting words, and
    /// further tokens, whose ids and spelling would be guesswork.
    pub(super) fn require_plain_vocabulary(&self) -> Result<()> {
        let refuse = |path: &Path, key, found: &Value| {
            let (path, found) = (path.into(), found.to_string());
            Err(Error::TokenizerUnsupported { path, key, found })
        };
        if !self.is_bert_class() {
            return refuse(&self.path, "tokenizer_class", &self.keys["tokenizer_class"]);
        }
        let special = SpecialToken::ALL.map(|token| self.spelling(token));
        let is_further = |token: &Value| !special.iter().any(|special| token == special);

        let path = self.path.with_file_name(ADDED_TOKENS);
        let added = read_json(&path)?.unwrap_or_default();
        if let Some(token) = added.into_iter().map(|(token, _)| json!(token)).find(is_further) {
            return refuse(&path, "added token", &token);
        }
        let decoder = self.keys.get("added_tokens_decoder").and_then(Value::as_object);
        let contents = decoder.into_iter().flatten().map(|(_, token)| &token["content"]);
        let listed = self.keys.get("additional_special_tokens").and_then(Value::as_array);
        match contents.chain(listed.into_iter().flatten()).find(|token| is_further(token)) {
            Some(token) => refuse(&self.path, "added token", token),
            None => Ok(()),
        }
    }

    fn switch(&self, key: &'static str) -> Result<Option<bool>> {
        match self.keys.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Bool(switch)) => Ok(Some(*switch)),
            Some(found) => Err(Error::ConfigValue {
                place: self.path.display().to_string(),
                key,
                expected: "true, false or null".into(),
                found: found.to_string(),
            }),
        }
    }
}

/// The file's content, `None` where it is absent.
fn read_json(path: &Path) -> Result<Option<Map<String, Value>>> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(Error::Read { path: path.into(), source }),
    };
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(|source| Error::Json { path: path.into(), source })
}

fn write_json(path: &Path, keys: &Map<String, Value>) -> Result<()> {
    write_atomically(path, format!("{:#}\n", Value::Object(keys.clone())).as_bytes())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn settings(json: &str) -> Settings {
        Settings {
            path: "m/tokenizer_config.json".into(),
            keys: serde_json::from_str(json).unwrap(),
        }
    }

    #[test]
    fn special_tokens_may_be_spelt_otherwise() {
        let settings = settings(
            r#"{"cls_token": "<s>", "sep_token": {"content": "</s>", "lstrip": false}, "pad_token": null}"#,
        );
        let spellings = SpecialToken::ALL.map(|token| settings.spelling(token));
        assert_eq!(spellings, ["[PAD]", "[UNK]", "<s>", "</s>", "[MASK]"]);
    }

    #[test]
    fn settings_win_over_the_tokenizers_own_treatment() {
        let read = |json: &str, own| {
            let n = settings(json).normalizer(own).unwrap();
            (n.lowercase, n.strip_accents, n.handle_chinese_chars)
        };
        let own = BertNormalizer::new(true, false, Some(false), false);
        assert_eq!(read("{}", own), (false, Some(false), false));
        assert_eq!(
            read(r#"{"do_lower_case": true, "strip_accents": null}"#, own),
            (true, None, false)
        );
        assert_eq!(
            read(r#"{"tokenize_chinese_chars": true, "strip_accents": true}"#, own),
            (false, Some(true), true)
        );
    }

    #[test]
    fn a_switch_must_be_true_or_false() {
        assert_eq!(
            settings(r#"{"do_lower_case": "yes"}"#)
                .normalizer(BertNormalizer::default())
                .unwrap_err()
                .to_string(),
            "m/tokenizer_config.json: do_lower_case must be true, false or null, got \"yes\""
        );
    }

    #[test]
    fn what_a_vocabulary_does_not_determine_is_refused() {
        let refusal = |json| settings(json).require_plain_vocabulary().unwrap_err().to_string();
        let end =
            "is not supported without a tokenizer.json; save one with transformers' AutoTokenizer";
        assert_eq!(
            refusal(r#"{"tokenizer_class": "BertJapaneseTokenizer"}"#),
            format!("m/tokenizer_config.json: tokenizer_class = \"BertJapaneseTokenizer\" {end}")
        );
        let token = format!("m/tokenizer_config.json: added token = \"<e1>\" {end}");
        assert_eq!(refusal(r#"{"additional_special_tokens": ["[MASK]", "<e1>"]}"#), token);
        let decoder =
            r#"{"added_tokens_decoder": {"0": {"content": "[PAD]"}, "9": {"content": "<e1>"}}}"#;
        assert_eq!(refusal(decoder), token);
        settings(r#"{"tokenizer_class": "BertTokenizerFast"}"#).require_plain_vocabulary().unwrap();
    }

    #[test]
    fn added_tokens_in_a_file_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(ADDED_TOKENS);
        fs::write(&path, r#"{"[MASK]": 4}"#).unwrap();
        Settings::load(dir.path()).unwrap().require_plain_vocabulary().unwrap();
        fs::write(&path, r#"{"<e1>": 9}"#).unwrap();
        let message =
            Settings::load(dir.path()).unwrap().require_plain_vocabulary().unwrap_err().to_string();
        assert!(
            message.starts_with(&format!("{}: added token = \"<e1>\"", path.display())),
            "{message}"
        );
    }

    #[test]
    fn a_broken_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        for name in [SPECIAL_TOKENS, SETTINGS] {
            let path = dir.path().join(name);
            fs::write(&path, "[]").unwrap();
            let message = Settings::load(dir.path()).unwrap_err().to_string();
            assert!(
                message.starts_with(&format!("{} is not the JSON", path.display())),
                "{message}"
            );
        }
    }
}
