//! The files of a tokenizer, as Hugging Face lays them out.

use std::{collections::BTreeSet, fs, io, panic, path::Path};

use tokenizers::{
    AddedToken, Model, ModelWrapper, NormalizerWrapper, decoders, models::wordpiece::WordPiece,
    normalizers::BertNormalizer, pre_tokenizers::bert::BertPreTokenizer,
};

use super::{SpecialToken, Tokenizer, settings::Settings, template};
use crate::{
    atomic_file::write_atomically,
    config::BertConfig,
    error::{Error, Result},
};

const TOKENIZER: &str = "tokenizer.json";
const VOCABULARY: &str = "vocab.txt";

/// No word of a list of words with their scores is as long, in bytes, nor any token that is added to a vocabulary.
const LONGEST_WORD: usize = 1000;

/// What replaces may make of a text at most: so many times its length.
const MOST_GROWTH: f64 = 1000.0;

impl Tokenizer {
    /// Reads the tokenizer of a model directory: `tokenizer.json`, else `vocab.txt`; either with
    /// `tokenizer_config.json`, whose casing wins, as it does in transformers.
    ///
    /// # Errors
    /// The files are absent or damaged, or ask for something other than BERT's way.
    pub fn load(dir: impl AsRef<Path>) -> Result<Self> {
        let dir = dir.as_ref();
        let settings = Settings::load(dir)?;
        if let Some(bytes) = read(&dir.join(TOKENIZER))? {
            return Self::from_tokenizer_json(&dir.join(TOKENIZER), &bytes, settings);
        }
        let Some(bytes) = read(&dir.join(VOCABULARY))? else {
            return Err(Error::TokenizerMissing { dir: dir.into() });
        };
        settings.require_plain_vocabulary()?;
        let path = dir.join(VOCABULARY);
        let text = str::from_utf8(&bytes).map_err(|error| {
            let line_ends = bytes[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n');
            Error::NotUtf8 { path: path.clone(), line: 1 + line_ends.count() }
        })?;
        Self::from_words(&path, text.lines().map(String::from), settings)
    }

    /// A WordPiece tokenizer of these words, whose ids are their positions; pieces inside a word
    /// begin with `##`. The words must contain `[PAD]`, `[UNK]`, `[CLS]` and `[SEP]` (see
    /// [`SpecialToken::as_str`]).
    ///
    /// # Errors
    /// A special token is missing, or a word comes twice.
    pub fn from_vocab<S: AsRef<str>>(
        words: impl IntoIterator<Item = S>,
        lowercase: bool,
    ) -> Result<Self> {
        let words: Vec<String> = words.into_iter().map(|word| word.as_ref().into()).collect();
        let mut seen = BTreeSet::new();
        if let Some(word) = words.iter().find(|word| !seen.insert(*word)) {
            return Err(Error::DuplicateWord { word: word.clone() });
        }
        Self::from_words(Path::new("the list of words"), words, Settings::new(lowercase))
    }

    /// Writes `tokenizer.json` (without truncation and padding), `tokenizer_config.json`,
    /// `special_tokens_map.json` and, for WordPiece, `vocab.txt` into `dir`, which is made where
    /// it is absent.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn save(&self, dir: impl AsRef<Path>) -> Result<()> {
        let dir = dir.as_ref();
        fs::create_dir_all(dir).map_err(|source| Error::Write { path: dir.into(), source })?;
        let path = dir.join(TOKENIZER);
        let tokenizer = self.library.to_string(true).map_err(corrupt(&path))?;
        write_atomically(path, tokenizer.as_bytes())?;
        if let ModelWrapper::WordPiece(model) = self.library.get_model() {
            write_atomically(dir.join(VOCABULARY), vocab_txt(model).as_bytes())?;
        }
        self.settings.save(dir)
    }

    fn from_tokenizer_json(path: &Path, bytes: &[u8], settings: Settings) -> Result<Self> {
        // The library panics on some files that are no JSON, and on strings that are no Unicode, which no parser sees that
        // passes over them.
        let json: serde_json::Value = serde_json::from_slice(bytes)
            .map_err(|source| Error::Json { path: path.into(), source })?;
        // It also takes its tree of words down by recursion, a level for each byte.
        // Of tokens that are added it makes an automaton, in time that grows with the square of their length.
        let list = |value: &serde_json::Value| value.as_array().cloned().unwrap_or_default();
        let words = list(&json["model"]["vocab"]).into_iter().map(|word| word[0].clone());
        let added = list(&json["added_tokens"]).into_iter().map(|token| token["content"].clone());
        let longest = words.chain(added).filter_map(|word| word.as_str().map(str::len)).max();
        if let Some(length @ LONGEST_WORD..) = longest {
            let message =
                format!("a word has {length} bytes, fewer than {LONGEST_WORD} are supported");
            return Err(corrupt(path)(message.into()));
        }
        // Each of these makes a text longer, so that a few dozen fill any memory.
        if json["pre_tokenizer"].to_string().matches("\"ByteLevel\"").count() > 1 {
            return Err(corrupt(path)("pre_tokenizer has ByteLevel more than once".into()));
        }
        let growth = growth(&json["normalizer"]);
        if growth > MOST_GROWTH {
            let message = format!(
                "the replacements of normalizer may make a text {growth:.0} times as long, at most {MOST_GROWTH} are supported"
            );
            return Err(corrupt(path)(message.into()));
        }
        // Nor does it look before it cuts merges of byte pairs where a prefix should end.
        // Made of what was looked at: in the file a key may come twice, and the library reads both.
        let library = panic::catch_unwind(|| serde_json::from_value::<tokenizers::Tokenizer>(json));
        let library = library.map(|library| library.map_err(Into::into));
        let library = library.unwrap_or_else(|_| Err("the parts of the model do not fit".into()));
        let mut library = library.map_err(corrupt(path))?;
        library.with_truncation(None).map_err(corrupt(path))?;
        library.with_padding(None);
        if settings.is_bert_class()
            && let Some(NormalizerWrapper::BertNormalizer(own)) = library.get_normalizer().cloned()
        {
            library.with_normalizer(Some(settings.normalizer(own)?));
        }
        if let ModelWrapper::WordPiece(model) = library.get_model() {
            require(&model.unk_token, model, path)?;
        }
        Self::new(path, library, settings)
    }

    /// Of a word that comes twice the later position counts, as in transformers.
    fn from_words(
        path: &Path,
        words: impl IntoIterator<Item = String>,
        settings: Settings,
    ) -> Result<Self> {
        // The library does not export its type of map, but gives an empty one.
        let mut vocabulary = WordPiece::read_bytes(b"").map_err(corrupt(path))?;
        vocabulary.extend((0..).zip(words).map(|(id, word)| (word, id)));
        let unk = settings.spelling(SpecialToken::Unk);
        let model =
            WordPiece::builder().vocab(vocabulary).unk_token(unk).build().map_err(corrupt(path))?;

        // Only pre-training cannot do without the last one, [MASK].
        let special = SpecialToken::ALL.map(|token| settings.spelling(token));
        special[..4].iter().try_for_each(|token| require(token, &model, path))?;
        let known = special.iter().filter(|token| model.token_to_id(token).is_some());
        let special: Vec<_> = known.map(|token| AddedToken::from(token.as_str(), true)).collect();
        let template = template::bert(&settings, &model)
            .map_err(|problem| Error::TokenizerTemplate { path: path.into(), problem })?;

        let mut library = tokenizers::Tokenizer::new(model);
        library.with_normalizer(Some(settings.normalizer(BertNormalizer::default())?));
        library.with_pre_tokenizer(Some(BertPreTokenizer));
        library.with_post_processor(Some(template));
        library.with_decoder(Some(decoders::wordpiece::WordPiece::default()));
        library.add_special_tokens(&special);
        Self::new(path, library, settings)
    }

    /// Checks what the library leaves unchecked, and completes the settings.
    fn new(path: &Path, library: tokenizers::Tokenizer, mut settings: Settings) -> Result<Self> {
        let limit = BertConfig::MAX_VOCAB_SIZE;
        let vocabulary = library.get_vocab(true);
        if let Some((token, id)) = vocabulary.iter().find(|(_, id)| **id as usize >= limit) {
            let source = format!("the id of {token:?} is {id}, at most {} is supported", limit - 1);
            return Err(corrupt(path)(source.into()));
        }
        let template = template::checked(&library)
            .map_err(|problem| Error::TokenizerTemplate { path: path.into(), problem })?;
        settings.complete(&library);
        Ok(Self { library, template, settings })
    }
}

fn corrupt(path: &Path) -> impl Fn(tokenizers::Error) -> Error {
    |source| Error::TokenizerCorrupt { path: path.into(), source }
}

fn require(token: &str, model: &WordPiece, path: &Path) -> Result<()> {
    let missing =
        || Error::SpecialTokenMissing { place: path.display().to_string(), token: token.into() };
    model.token_to_id(token).map(drop).ok_or_else(missing)
}

/// How many times as long a text may be after all replacements of a normaliser.
fn growth(normalizer: &serde_json::Value) -> f64 {
    let of_parts = normalizer["normalizers"].as_array().into_iter().flatten().map(growth);
    let own = match normalizer["type"].as_str() {
        Some("Replace") => {
            let length = |value: &serde_json::Value| value.as_str().map(str::len);
            let content = length(&normalizer["content"]).unwrap_or(0);
            // An expression may match a single byte, and even between any two.
            match length(&normalizer["pattern"]["String"]).filter(|length| *length > 0) {
                Some(pattern) => (content as f64 / pattern as f64).max(1.0),
                None => 1.0 + content as f64,
            }
        }
        _ => 1.0,
    };
    own * of_parts.product::<f64>()
}

/// The file's bytes, `None` where it is absent.
fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::Read { path: path.into(), source }),
    }
}

/// One word a line; an id without a word is an empty line.
fn vocab_txt(model: &WordPiece) -> String {
    let vocabulary = model.get_vocab();
    let size = vocabulary.values().max().map_or(0, |id| *id as usize + 1);
    let mut lines = vec![String::new(); size];
    for (word, id) in vocabulary {
        lines[id as usize] = word;
    }
    lines.into_iter().flat_map(|line| [line, "\n".into()]).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::path::PathBuf;

    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn reference(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference/tiny-bert").join(name)
    }

    /// A directory with these files.
    fn directory(files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, content) in files {
            fs::write(dir.path().join(name), content).unwrap();
        }
        dir
    }

    /// The message for a directory with these files, without its path.
    fn refusal(files: &[(&str, &[u8])]) -> String {
        let dir = directory(files);
        let message = Tokenizer::load(dir.path()).unwrap_err().to_string();
        message.replace(&format!("{}/", dir.path().display()), "")
    }

    /// The tiny model's `tokenizer.json` after a change.
    fn changed(change: impl FnOnce(&mut Value)) -> Vec<u8> {
        let mut json = serde_json::from_slice(&fs::read(reference(TOKENIZER)).unwrap()).unwrap();
        change(&mut json);
        serde_json::to_vec(&json).unwrap()
    }

    fn refusal_after(change: impl FnOnce(&mut Value)) -> String {
        refusal(&[(TOKENIZER, &changed(change))])
    }

    #[test]
    fn what_grows_without_measure_is_refused() {
        let long = "a".repeat(1000);
        let message = refusal_after(|json| json["added_tokens"][0]["content"] = json!(long));
        assert!(message.contains("a word has 1000 bytes, fewer than 1000"), "{message}");
        let replace = |pattern: Value, to: &str| json!({"type": "Replace", "pattern": pattern, "content": to});
        // 12 x 3 = 36 times as long, and that squared.
        let many = json!([
            replace(json!({"String": "a"}), &"b".repeat(12)),
            replace(json!({"Regex": "."}), "cd")
        ]);
        let sequence = json!({"type": "Sequence", "normalizers": many});
        let twice = json!({"type": "Sequence", "normalizers": [sequence, sequence]});
        let message = refusal_after(|json| json["normalizer"] = twice.clone());
        assert!(message.contains("1296 times as long, at most 1000"), "{message}");
        let dir = directory(&[(TOKENIZER, &changed(|json| json["normalizer"] = sequence.clone()))]);
        Tokenizer::load(dir.path()).unwrap();
    }

    #[test]
    fn truncation_and_padding_of_the_file_are_discarded() {
        let bytes = changed(|json| {
            json["truncation"] = json!({"max_length": 3, "strategy": "LongestFirst", "stride": 0});
            json["padding"] = json!({"strategy": {"Fixed": 9}, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"});
        });
        let dir = directory(&[(TOKENIZER, &bytes)]);
        let tokenizer = Tokenizer::load(dir.path()).unwrap();
        assert_eq!(
            tokenizer.encode("the movie was great", None, 64).unwrap().input_ids,
            [2, 57, 58, 59, 60, 3]
        );
        tokenizer.save(dir.path()).unwrap();
        let saved: Value =
            serde_json::from_slice(&fs::read(dir.path().join(TOKENIZER)).unwrap()).unwrap();
        assert_eq!((&saved["truncation"], &saved["padding"]), (&Value::Null, &Value::Null));
    }

    #[test]
    fn a_tokenizer_of_hugging_face_is_saved_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        Tokenizer::load(reference("")).unwrap().save(dir.path()).unwrap();
        for name in [TOKENIZER, VOCABULARY] {
            let read = |path| fs::read_to_string(path).unwrap();
            assert_eq!(
                read(dir.path().join(name)).trim_end(),
                read(reference(name)).trim_end(),
                "{name}"
            );
        }
        let json = |path| serde_json::from_slice::<Value>(&fs::read(path).unwrap()).unwrap();
        let settings = "tokenizer_config.json";
        assert_eq!(json(dir.path().join(settings)), json(reference(settings)));
        assert_eq!(
            json(dir.path().join("special_tokens_map.json")),
            json!({"cls_token": "[CLS]", "mask_token": "[MASK]", "pad_token": "[PAD]", "sep_token": "[SEP]", "unk_token": "[UNK]"})
        );
    }

    #[test]
    fn casing_follows_the_settings() {
        let vocabulary = fs::read(reference(VOCABULARY)).unwrap();
        let tokenizer = fs::read(reference(TOKENIZER)).unwrap();
        for (name, bytes) in [(VOCABULARY, &vocabulary), (TOKENIZER, &tokenizer)] {
            let dir = directory(&[
                (name, bytes),
                ("tokenizer_config.json", br#"{"do_lower_case": false}"#),
            ]);
            let ids = |text| {
                Tokenizer::load(dir.path()).unwrap().encode(text, None, 9).unwrap().input_ids
            };
            assert_eq!(ids("The the"), [2, 1, 57, 3], "{name}");
            let dir = directory(&[(name, bytes)]);
            let ids = |text| {
                Tokenizer::load(dir.path()).unwrap().encode(text, None, 9).unwrap().input_ids
            };
            assert_eq!(ids("The the"), [2, 57, 57, 3], "{name}");
        }
    }

    #[test]
    fn a_tokenizer_made_of_words_can_be_saved_and_loaded() {
        let words =
            SpecialToken::ALL.map(SpecialToken::as_str).into_iter().chain(["Rust", "##s", "rust"]);
        let made = Tokenizer::from_vocab(words, false).unwrap();
        assert_eq!(made.encode("rusts Rust", None, 9).unwrap().input_ids, [2, 7, 6, 5, 3]);
        let dir = tempfile::tempdir().unwrap();
        made.save(dir.path().join("new")).unwrap();
        let loaded = Tokenizer::load(dir.path().join("new")).unwrap();
        assert_eq!(
            loaded.encode("rusts Rust", None, 9).unwrap(),
            made.encode("rusts Rust", None, 9).unwrap()
        );
    }

    #[test]
    fn words_must_differ_and_include_the_special_tokens() {
        let words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "b", "a"];
        assert_eq!(
            Tokenizer::from_vocab(words, true).unwrap_err().to_string(),
            "the vocabulary names the word \"a\" twice; keep one"
        );
        assert_eq!(
            Tokenizer::from_vocab(["[PAD]", "[UNK]", "[CLS]"], true).unwrap_err().to_string(),
            "the list of words lacks the special token [SEP]; add it to the vocabulary"
        );
        let without_mask = Tokenizer::from_vocab(&words[..6], true).unwrap();
        assert_eq!(without_mask.special_token_id(SpecialToken::Mask), None);
    }

    #[test]
    fn a_word_that_comes_twice_in_a_file_has_its_later_id_and_ids_stay() {
        let dir = directory(&[(VOCABULARY, b"[PAD]\r\n[UNK]\n[CLS]\n[SEP]\nb\na\nb\nc")]);
        let tokenizer = Tokenizer::load(dir.path()).unwrap();
        assert_eq!(tokenizer.encode("a b c", None, 9).unwrap().input_ids, [2, 5, 6, 7, 3]);
        tokenizer.save(dir.path()).unwrap();
        let saved = fs::read_to_string(dir.path().join(VOCABULARY)).unwrap();
        assert_eq!(saved, "[PAD]\n[UNK]\n[CLS]\n[SEP]\n\na\nb\nc\n");
    }

    #[test]
    fn broken_files_are_named() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(
            Tokenizer::load(dir.path()).unwrap_err().to_string(),
            format!(
                "{} has no tokenizer.json and no vocab.txt; copy the files of the model's tokenizer there",
                dir.path().display()
            )
        );
        let message = refusal(&[(TOKENIZER, b"{\"version\":")]);
        assert!(
            message.starts_with("tokenizer.json is not the JSON that was expected: EOF"),
            "{message}"
        );
        assert!(
            refusal(&[(TOKENIZER, b"{}")])
                .starts_with("tokenizer.json is not a usable tokenizer: ")
        );
        assert_eq!(
            refusal(&[(VOCABULARY, b"[PAD]\n[UNK]\n\xff\n")]),
            "vocab.txt line 3 is not valid UTF-8; convert the file to UTF-8"
        );
        assert_eq!(
            refusal(&[(VOCABULARY, b"[PAD]\n[UNK]\n[SEP]\n")]),
            "vocab.txt lacks the special token [CLS]; add it to the vocabulary"
        );
        fs::create_dir(dir.path().join(TOKENIZER)).unwrap();
        let message = Tokenizer::load(dir.path()).unwrap_err().to_string();
        assert!(message.starts_with("cannot read ") && message.contains(TOKENIZER), "{message}");
    }

    #[test]
    fn a_tokenizer_without_its_unknown_token_is_refused() {
        assert_eq!(
            refusal_after(|json| json["model"]["unk_token"] = json!("<unk>")),
            "tokenizer.json lacks the special token <unk>; add it to the vocabulary"
        );
    }

    #[test]
    fn an_absurd_id_is_refused() {
        assert_eq!(
            refusal_after(|json| json["model"]["vocab"]["far"] = json!(4_294_967_295_u32)),
            "tokenizer.json is not a usable tokenizer: the id of \"far\" is 4294967295, at most 9999999 is supported; fetch it anew or save it again from transformers"
        );
    }

    #[test]
    fn a_template_that_does_not_frame_a_text_is_refused() {
        let end = "it must put [CLS] and [SEP] around one text and around a pair";
        assert_eq!(
            refusal_after(|json| json["post_processor"] = Value::Null),
            format!("tokenizer.json: the post_processor is missing; {end}")
        );
        assert_eq!(
            refusal_after(|json| json["post_processor"]["single"]
                .as_array_mut()
                .unwrap()
                .truncate(2)),
            format!(
                "tokenizer.json: the post_processor adds 1 special tokens to one text and 3 to a pair; {end}"
            )
        );
    }

    #[test]
    fn a_template_that_would_panic_is_refused() {
        let misfit = "tokenizer.json: the post_processor has a part that does not fit into ";
        let message = refusal_after(|json| {
            json["post_processor"]["special_tokens"]["[SEP]"] =
                json!({"id": "[SEP]", "ids": [3, 3], "tokens": ["[SEP]"]})
        });
        assert!(
            message.starts_with(&format!("{misfit}\"single\": {{\"SpecialToken\"")),
            "{message}"
        );
        let message = refusal_after(|json| json["post_processor"]["special_tokens"] = json!({}));
        assert!(message.starts_with(misfit), "{message}");
        let message = refusal_after(|json| {
            json["post_processor"]["single"][1]["Sequence"]["id"] = json!("B")
        });
        assert!(message.starts_with(&format!("{misfit}\"single\": {{\"Sequence\"")), "{message}");
        let message =
            refusal_after(|json| json["post_processor"]["pair"][3]["Sequence"]["id"] = json!("A"));
        assert!(message.contains("leaves a text out of \"pair\""), "{message}");
        let message = refusal_after(|json| {
            let pair = json["post_processor"]["pair"].as_array_mut().unwrap();
            let text = pair[3].clone();
            pair.push(text);
        });
        assert!(message.contains("has a text more than once in \"pair\""), "{message}");
        let message = refusal_after(|json| {
            let mut template = json["post_processor"].take();
            template["special_tokens"] = json!({});
            json["post_processor"] = json!({"type": "Sequence", "processors": [template]});
        });
        assert!(message.starts_with(misfit), "{message}");
    }

    #[test]
    fn special_tokens_around_a_text_are_in_the_vocabulary() {
        let message = refusal_after(|json| {
            json["post_processor"]["special_tokens"]["[SEP]"]["ids"] = json!([79]);
        });
        assert!(message.contains("adds a token with id 79, which no word has"), "{message}");
    }

    #[test]
    fn what_the_library_panics_on_is_refused() {
        let text = String::from_utf8(changed(|_| {})).unwrap();
        let text = text.replace("\"movie\"", "\"\\ud800\"");
        let message = refusal(&[(TOKENIZER, text.as_bytes())]);
        assert!(message.contains("is not the JSON that was expected"), "{message}");
        let message = refusal_after(|json| {
            json["model"] = json!({
                "type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": [["a", "b"]],
                "continuing_subword_prefix": "##",
            });
        });
        assert!(message.contains("the parts of the model do not fit"), "{message}");
        let message = refusal_after(|json| {
            let vocab = json!([["[UNK]", 0.0], ["a".repeat(100_000), -1.0]]);
            json["model"] = json!({"type": "Unigram", "unk_id": 0, "vocab": vocab});
        });
        assert!(message.contains("a word has 100000 bytes, fewer than 1000"), "{message}");
        let message = refusal_after(|json| {
            let level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
            json["pre_tokenizer"] = json!({"type": "Sequence", "pretokenizers": [level, level]});
        });
        assert!(message.contains("has ByteLevel more than once"), "{message}");
    }

    /// BERT with another model's way of splitting words, as multilingual MiniLM has it.
    #[test]
    fn a_tokenizer_that_is_not_wordpiece_is_kept_as_it_is() {
        let bytes = changed(|json| {
            let vocab =
                ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "b"].map(|word| json!([word, -1.0]));
            json["model"] =
                json!({"type": "Unigram", "unk_id": null, "vocab": vocab, "byte_fallback": false});
        });
        let dir = directory(&[(TOKENIZER, &bytes)]);
        let tokenizer = Tokenizer::load(dir.path()).unwrap();
        assert_eq!(tokenizer.encode("ab", None, 9).unwrap().input_ids, [2, 4, 5, 3]);
        tokenizer.save(dir.path()).unwrap();
        assert!(!dir.path().join(VOCABULARY).exists());
        let message =
            Tokenizer::load(dir.path()).unwrap().encode("a z", None, 9).unwrap_err().to_string();
        assert!(message.starts_with("cannot tokenize \"a z\": "), "{message}");
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

        #[test]
        fn both_kinds_of_file_give_the_same_tokens(text: String) {
            let dir = directory(&[(VOCABULARY, &fs::read(reference(VOCABULARY)).unwrap())]);
            let [a, b] = [&reference(""), dir.path()].map(|dir| Tokenizer::load(dir).unwrap().encode(&text, None, 64).unwrap());
            prop_assert_eq!(a, b);
        }
    }
}
