//! Text to token ids, exactly as Hugging Face's tokenizers do it.

mod encoding;
mod files;
mod settings;
mod special_token;
mod template;
mod words;

use std::panic::{self, AssertUnwindSafe};

use tokenizers::{
    InputSequence, PostProcessor, PostProcessorWrapper,
    parallelism::MaybeParallelRefIterator,
    utils::truncation::{TruncationParams, truncate_encodings},
};

pub use encoding::{Encoding, Window};
use settings::Settings;
pub use special_token::SpecialToken;

use crate::{
    config::BertConfig,
    error::{Error, Result},
};

/// A BERT tokenizer: `[CLS] text [SEP]`, or `[CLS] text [SEP] pair [SEP]`.
///
/// Padding and truncation that a tokenizer file asks for are discarded: the length is the
/// caller's choice, text by text.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    library: tokenizers::Tokenizer,
    /// What puts the special tokens around a text; `library` has the same one.
    template: PostProcessorWrapper,
    settings: Settings,
}

impl Tokenizer {
    /// Encodes a text, or a pair of texts, into at most `max_length` tokens, special tokens
    /// included.
    ///
    /// Of a pair, the longer text is cut first; the special tokens always survive.
    ///
    /// # Errors
    /// [`Error::MaxLengthTooSmall`] when not even the special tokens fit.
    pub fn encode(&self, text: &str, pair: Option<&str>, max_length: usize) -> Result<Encoding> {
        self.encode_inputs(text.into(), pair.map(InputSequence::from), max_length)
    }

    /// Encodes rows of a text and an optional second one, in parallel; the result is in the
    /// order of the rows.
    ///
    /// # Errors
    /// As [`Self::encode`], for one of the rows that fail.
    pub fn encode_batch<S: AsRef<str> + Sync>(
        &self,
        rows: &[(S, Option<S>)],
        max_length: usize,
    ) -> Result<Vec<Encoding>> {
        let encode = |(text, pair): &(S, Option<S>)| {
            self.encode(text.as_ref(), pair.as_ref().map(S::as_ref), max_length)
        };
        rows.maybe_par_iter().map(encode).collect()
    }

    /// Encodes a text that is split into words already, as data for token classification is:
    /// `word_ids` are indices into `words`, `offsets` are within the word.
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub fn encode_words<S: AsRef<str>>(&self, words: &[S], max_length: usize) -> Result<Encoding> {
        let words: Vec<&str> = words.iter().map(S::as_ref).collect();
        self.encode_inputs(words.into(), None, max_length)
    }

    /// How many of `max_length` tokens are left for a text, or a pair of texts, beside the special
    /// tokens.
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub fn room(&self, max_length: usize, is_pair: bool) -> Result<usize> {
        let special_tokens = self.template.added_tokens(is_pair);
        max_length
            .checked_sub(special_tokens)
            .ok_or(Error::MaxLengthTooSmall { max_length, special_tokens })
    }

    /// The id of a token, where it is in the vocabulary.
    pub fn token_to_id(&self, token: &str) -> Option<u32> {
        self.library.token_to_id(token)
    }

    /// The token with this id, where there is one.
    pub fn id_to_token(&self, id: u32) -> Option<String> {
        self.library.id_to_token(id)
    }

    /// The id of a special token, where the vocabulary has it.
    pub fn special_token_id(&self, token: SpecialToken) -> Option<u32> {
        self.token_to_id(&self.settings.spelling(token))
    }

    /// Every token and its id, in no particular order.
    pub fn vocabulary(&self) -> impl Iterator<Item = (String, u32)> {
        self.library.get_vocab(true).into_iter()
    }

    /// One more than the largest id: the rows that a word embedding must have.
    pub fn vocab_size(&self) -> usize {
        self.vocabulary().map(|(_, id)| id as usize + 1).max().unwrap_or(0)
    }

    /// Checks that every id has a row in the model's word embedding.
    ///
    /// # Errors
    /// [`Error::VocabularyTooLarge`].
    pub fn check_vocabulary(&self, config: &BertConfig) -> Result<()> {
        let (found, vocab_size) = (self.vocab_size(), config.vocab_size);
        if found > vocab_size {
            return Err(Error::VocabularyTooLarge { found, vocab_size });
        }
        Ok(())
    }

    fn encode_inputs<'s>(
        &self,
        text: InputSequence<'s>,
        pair: Option<InputSequence<'s>>,
        max_length: usize,
    ) -> Result<Encoding> {
        let room = self.room(max_length, pair.is_some())?;
        // The library panics where parts that do not fit cut a text between the bytes of a character.
        let encode = AssertUnwindSafe(|| self.encode_within(room, text.clone(), pair));
        let encoded = panic::catch_unwind(encode)
            .unwrap_or_else(|_| Err("the parts of the tokenizer do not fit this text".into()));
        encoded.map_err(|source| {
            let text = beginning(&text);
            Error::Tokenize { text, source }
        })
    }

    /// Encodes into at most `room` tokens and the special tokens.
    fn encode_within<'s>(
        &self,
        room: usize,
        text: InputSequence<'s>,
        pair: Option<InputSequence<'s>>,
    ) -> tokenizers::Result<Encoding> {
        let encode = |text| self.library.encode_char_offsets(text, false);
        let (text, pair) = (encode(text)?, pair.map(encode).transpose()?);
        let length = text.len() + pair.as_ref().map_or(0, tokenizers::Encoding::len);

        let params = TruncationParams { max_length: room, ..Default::default() };
        let (mut text, mut pair) = truncate_encodings(text, pair, &params)?;
        // What was cut off would be put together too, in every combination.
        text.take_overflowing();
        pair.as_mut().map(tokenizers::Encoding::take_overflowing);
        let encoding = self.template.process(text, pair, true)?;
        Ok(Encoding::new(&encoding, length > room))
    }
}

/// Enough of a text to find it again.
fn beginning(text: &InputSequence<'_>) -> String {
    let words = match text {
        InputSequence::Raw(text) => text.to_string(),
        InputSequence::PreTokenized(words) => words.join(" "),
        InputSequence::PreTokenizedOwned(words) => words.join(" "),
        InputSequence::PreTokenizedCow(words) => words.join(" "),
    };
    words.chars().take(60).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::path::{Path, PathBuf};

    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn reference(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference").join(name)
    }

    fn tiny() -> Tokenizer {
        Tokenizer::load(reference("tiny-bert")).unwrap()
    }

    fn json(name: &str) -> Value {
        serde_json::from_slice(&std::fs::read(reference(name)).unwrap()).unwrap()
    }

    fn ids(value: &Value) -> Vec<u32> {
        serde_json::from_value(value.clone()).unwrap()
    }

    #[test]
    fn ids_and_types_equal_hugging_faces_on_texts_and_pairs() {
        let expected = json("tiny_bert.json");
        let (texts, batch) = (expected["texts"].as_array().unwrap(), &expected["batch"]);
        for (i, text) in texts.iter().enumerate() {
            let encoding = tiny().encode(text[0].as_str().unwrap(), text[1].as_str(), 64).unwrap();
            let length = ids(&batch["attention_mask"][i]).iter().sum::<u32>() as usize;
            assert_eq!(encoding.input_ids, ids(&batch["input_ids"][i])[..length]);
            assert_eq!(encoding.token_type_ids, ids(&batch["token_type_ids"][i])[..length]);
            assert!(!encoding.truncated);
        }
        assert_eq!(texts.len(), 4);
    }

    /// The real vocabulary of 30522 words, through both kinds of file.
    #[test]
    fn ids_equal_hugging_faces_on_real_sentences() {
        let data = PathBuf::from(std::env::var_os("BERT_TUNE_DATA").unwrap_or_default());
        let model = data.join("models/all-MiniLM-L6-v2");
        if !model.is_dir() {
            println!("skipped: no {} (BERT_TUNE_DATA)", model.display());
            return;
        }
        let only_vocabulary = tempfile::tempdir().unwrap();
        for name in ["vocab.txt", "tokenizer_config.json"] {
            std::fs::copy(model.join(name), only_vocabulary.path().join(name)).unwrap();
        }
        let expected = json("minilm.json");
        for dir in [&model, only_vocabulary.path()] {
            let tokenizer = Tokenizer::load(dir).unwrap();
            for row in expected["single"].as_array().unwrap() {
                let max_length = row["max_length"].as_u64().unwrap() as usize;
                let encoding = tokenizer.encode(row["text"].as_str().unwrap(), None, max_length);
                assert_eq!(encoding.unwrap().input_ids, ids(&row["input_ids"]), "{}", row["text"]);
            }
            tokenizer.check_vocabulary(&BertConfig::default()).unwrap();
        }
        assert_eq!(expected["single"].as_array().unwrap().len(), 12);
    }

    #[test]
    fn pairs_are_cut_as_hugging_face_cuts_them() {
        // 9 and 3 tokens. Expected: transformers 5.23, truncation="longest_first".
        let (long, short) = ("the movie was great and the plot is good", "a bad film");
        let cases: [(&str, &str, usize, &[u32]); 8] = [
            (long, short, 3, &[2, 3, 3]),
            (long, short, 4, &[2, 57, 3, 3]),
            (long, short, 6, &[2, 57, 58, 3, 5, 3]),
            (long, short, 7, &[2, 57, 58, 3, 5, 61, 3]),
            (long, short, 10, &[2, 57, 58, 59, 60, 3, 5, 61, 64, 3]),
            (short, long, 3, &[2, 3, 3]),
            (short, long, 6, &[2, 5, 3, 57, 58, 3]),
            (short, long, 9, &[2, 5, 61, 64, 3, 57, 58, 59, 3]),
        ];
        for (text, pair, max_length, expected) in cases {
            let encoding = tiny().encode(text, Some(pair), max_length).unwrap();
            assert_eq!(encoding.input_ids, expected, "{text} | {pair} in {max_length}");
            assert!(encoding.truncated);
            let first = expected.iter().position(|id| *id == 3).unwrap();
            let types: Vec<u32> = (0..expected.len()).map(|i| u32::from(i > first)).collect();
            assert_eq!(encoding.token_type_ids, types);
        }
        assert!(!tiny().encode(long, Some(short), 15).unwrap().truncated);
        assert!(tiny().encode(long, Some(short), 14).unwrap().truncated);
    }

    #[test]
    fn a_length_without_room_for_special_tokens_is_refused() {
        assert_eq!(tiny().encode("the movie", None, 2).unwrap().input_ids, [2, 3]);
        assert_eq!(
            tiny().encode("the movie", None, 1).unwrap_err().to_string(),
            "max_length 1 has no room for the 2 special tokens around the text; use at least 2"
        );
        let message = tiny().encode("a", Some("a"), 2).unwrap_err().to_string();
        assert!(message.contains("the 3 special tokens"), "{message}");
    }

    #[test]
    fn words_offsets_and_special_tokens_are_told() {
        // Expected: transformers 5.23; offsets count characters, not bytes.
        let encoding = tiny().encode("Playing? ÉCLAIR the  movie [SEP] é", None, 64).unwrap();
        assert_eq!(
            encoding.tokens.join(" "),
            "[CLS] play ##ing ? e ##c ##l ##a ##i ##r the movie [SEP] e [SEP]"
        );
        let spans = [(0, 0), (0, 4), (4, 7), (7, 8), (9, 10), (10, 11), (11, 12), (12, 13)];
        assert_eq!(encoding.offsets[..8], spans);
        let spans = [(13, 14), (14, 15), (16, 19), (21, 26), (27, 32), (33, 34), (0, 0)];
        assert_eq!(encoding.offsets[8..], spans);
        let words = [0, 0, 1, 2, 2, 2, 2, 2, 2, 3, 4, 5, 6].map(Some);
        assert_eq!(encoding.word_ids[1..14], words);
        assert_eq!((encoding.word_ids[0], encoding.word_ids[14]), (None, None));
        let special: Vec<_> = (0..15).map(|i| i == 0 || i == 14).collect();
        assert_eq!(encoding.special_tokens_mask, special);
    }

    #[test]
    fn words_given_apart_keep_their_index() {
        let encoding = tiny().encode_words(&["playing", "", "movie!", "é"], 64).unwrap();
        assert_eq!(encoding.input_ids, [2, 68, 66, 58, 73, 9, 3]);
        let words = [None, Some(0), Some(0), Some(2), Some(2), Some(3), None];
        assert_eq!(encoding.word_ids, words);
        assert_eq!(encoding.offsets[3..6], [(0, 5), (5, 6), (0, 1)]);
        let cut = tiny().encode_words(&["playing", "", "movie!", "é"], 4).unwrap();
        assert_eq!((&cut.input_ids[..], cut.truncated), (&[2, 68, 66, 3][..], true));
    }

    #[test]
    fn a_vocabulary_beyond_the_embedding_is_refused() {
        let config = BertConfig { vocab_size: 79, ..Default::default() };
        tiny().check_vocabulary(&config).unwrap();
        assert_eq!(tiny().vocab_size(), 79);
        let config = BertConfig { vocab_size: 78, ..Default::default() };
        assert_eq!(
            tiny().check_vocabulary(&config).unwrap_err().to_string(),
            "the tokenizer needs 79 word embeddings, but the model has 78 (vocab_size); use the tokenizer that belongs to the model, or extend its vocabulary"
        );
    }

    #[test]
    fn special_tokens_have_ids() {
        let ids = SpecialToken::ALL.map(|token| tiny().special_token_id(token));
        assert_eq!(ids, [0, 1, 2, 3, 4].map(Some));
        assert_eq!((tiny().token_to_id("movie"), tiny().token_to_id("cinema")), (Some(58), None));
        assert_eq!((tiny().id_to_token(58), tiny().id_to_token(79)), (Some("movie".into()), None));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

        #[test]
        fn any_text_fits_and_keeps_its_special_tokens(text: String, pair: Option<String>, max_length in 3..40_usize) {
            let tokenizer = tiny();
            let encoding = tokenizer.encode(&text, pair.as_deref(), max_length).unwrap();
            let length = encoding.input_ids.len();
            prop_assert!(length <= max_length);
            prop_assert!(!encoding.truncated || length == max_length);
            prop_assert_eq!((encoding.input_ids[0], encoding.input_ids[length - 1]), (2, 3));
            let special = encoding.special_tokens_mask.iter().filter(|special| **special).count();
            prop_assert_eq!(special, if pair.is_some() { 3 } else { 2 });
            let lengths = [encoding.token_type_ids.len(), encoding.tokens.len(), encoding.offsets.len(), encoding.word_ids.len()];
            prop_assert_eq!(lengths, [length; 4]);
            for (i, (start, end)) in encoding.offsets.iter().enumerate() {
                let text = if encoding.token_type_ids[i] == 0 { Some(&text) } else { pair.as_ref() };
                prop_assert!(start <= end && *end <= text.unwrap().chars().count());
            }
        }

        #[test]
        fn a_batch_equals_its_rows(rows: Vec<(String, Option<String>)>) {
            let tokenizer = tiny();
            let batch = tokenizer.encode_batch(&rows, 9).unwrap();
            prop_assert_eq!(batch.len(), rows.len());
            for ((text, pair), encoding) in rows.iter().zip(batch) {
                prop_assert_eq!(tokenizer.encode(text, pair.as_deref(), 9).unwrap(), encoding);
            }
        }
    }
}
