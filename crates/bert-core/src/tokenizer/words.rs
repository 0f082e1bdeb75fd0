//! The words of a text, the pieces of a word, and vocabularies with more words.

use std::collections::BTreeSet;

use tokenizers::{
    Model, ModelWrapper, OffsetReferential, OffsetType, PreTokenizer, models::wordpiece::WordPiece,
};

use super::Tokenizer;
use crate::error::{Error, Result};

impl Tokenizer {
    /// The words of a text as BERT sees them: normalised, and split at blanks and punctuation. Special tokens that the
    /// text spells out are left out.
    ///
    /// # Errors
    /// [`Error::Tokenize`] when the library refuses the text.
    pub fn words(&self, text: &str) -> Result<Vec<String>> {
        let refuse = |source| {
            let text = text.chars().take(60).collect();
            Error::Tokenize { text, source }
        };
        let added = self.library.get_added_vocabulary();
        let mut split = added.extract_and_normalize(self.library.get_normalizer(), text);
        if let Some(pre_tokenizer) = self.library.get_pre_tokenizer() {
            pre_tokenizer.pre_tokenize(&mut split).map_err(refuse)?;
        }
        let parts = split.get_splits(OffsetReferential::Normalized, OffsetType::None).into_iter();
        let words = parts.filter(|(word, _, tokens)| tokens.is_none() && !word.is_empty());
        Ok(words.map(|(word, ..)| word.to_owned()).collect())
    }

    /// The ids of the tokens that spell a word, which one of [`words`](Self::words) gave.
    ///
    /// # Errors
    /// [`Error::Tokenize`] when the library refuses the word.
    pub fn pieces(&self, word: &str) -> Result<Vec<u32>> {
        let refuse = |source| Error::Tokenize { text: word.chars().take(60).collect(), source };
        let tokens = self.library.get_model().tokenize(word).map_err(refuse)?;
        Ok(tokens.into_iter().map(|token| token.id).collect())
    }

    /// Refuses what could not become a whole word of the vocabulary, or would never be looked up there.
    ///
    /// # Errors
    /// [`Error::Word`], and [`Error::NotWordPiece`] where the vocabulary is of another kind.
    pub fn check_word(&self, word: &str) -> Result<()> {
        let (length, limit) = (word.chars().count(), self.word_piece()?.max_input_chars_per_word);
        let problem = if word.is_empty() {
            "is empty; remove the line".to_owned()
        } else if word.contains(char::is_whitespace) {
            "has white space in it; give one word a line".to_owned()
        } else if length > limit {
            format!("has {length} characters, at most {limit} are looked up; remove the line")
        } else {
            match &self.words(word)?[..] {
                [same] if same == word => return Ok(()),
                [] => "is nothing once it is normalised; remove the line".to_owned(),
                [other] => format!("is normalised to {other:?}; give that"),
                parts => format!("is split into {}; give one word a line", parts.join(" ")),
            }
        };
        Err(Error::Word { word: word.chars().take(60).collect(), problem })
    }

    /// The same tokenizer with whole words behind its vocabulary, the first of which has the id `first`.
    ///
    /// They are words of WordPiece itself, found longest first as all others, and no added tokens. Ids below `first` that
    /// no token has are named `[rowN]`, so that the vocabulary has no gap.
    ///
    /// # Errors
    /// As [`check_word`](Self::check_word); [`Error::DuplicateWord`] for a word that is there already.
    ///
    /// # Panics
    /// When `first` is the id of a token.
    pub fn with_words<S: AsRef<str>>(&self, words: &[S], first: usize) -> Result<Self> {
        let rows = self.vocab_size();
        assert!(rows <= first, "with_words: {rows} ids are in use, {first} was to be the first");
        let model = self.word_piece()?;
        let mut seen = BTreeSet::new();
        for word in words.iter().map(AsRef::as_ref) {
            self.check_word(word)?;
            if model.token_to_id(word).is_some() || !seen.insert(word) {
                return Err(Error::DuplicateWord { word: word.to_owned() });
            }
        }

        let mut tokens: Vec<Option<String>> = vec![None; first];
        for (token, id) in self.vocabulary() {
            tokens[id as usize] = Some(token);
        }
        let known =
            tokens.into_iter().zip(0..).map(|(token, id)| token.unwrap_or(format!("[row{id}]")));
        let new = words.iter().map(|word| word.as_ref().to_owned());
        // The library does not export its type of map, but gives an empty one.
        let unbuilt =
            |source| Error::TokenizerCorrupt { path: "the longer vocabulary".into(), source };
        let mut vocabulary = WordPiece::read_bytes(b"").map_err(unbuilt)?;
        vocabulary.extend(known.chain(new).zip(0..));
        let longer = WordPiece::builder()
            .vocab(vocabulary)
            .unk_token(model.unk_token.clone())
            .continuing_subword_prefix(model.continuing_subword_prefix.clone())
            .max_input_chars_per_word(model.max_input_chars_per_word)
            .build()
            .map_err(unbuilt)?;
        let mut tokenizer = self.clone();
        tokenizer.library.with_model(longer);
        Ok(tokenizer)
    }

    fn word_piece(&self) -> Result<&WordPiece> {
        match self.library.get_model() {
            ModelWrapper::WordPiece(model) => Ok(model),
            _ => Err(Error::NotWordPiece),
        }
    }
}
