//! A model with more words.

use std::{collections::BTreeMap, path::Path};

use crate::{
    atomic_file::write_atomically,
    checkpoint::Checkpoint,
    config::BertConfig,
    error::Result,
    tokenizer::Tokenizer,
    word_rows::{WordInit, means, samples},
};

const TABLE: &str = "embeddings.word_embeddings.weight";
/// The word table once more, where it was saved as part of the head for masked words.
const DECODER: &str = "cls.predictions.decoder.weight";
/// What else has an element a word.
const BIASES: [&str; 2] = ["cls.predictions.bias", "cls.predictions.decoder.bias"];

/// The model of a directory with words behind its vocabulary, ready to be written.
///
/// Words and rows that were there keep their ids and every bit, as do all other tensors; a head for masked words gets
/// elements for the new words too. `base_vocab_size` in `config.json` says how many rows there were at first.
#[derive(Debug)]
pub struct ExtendedModel {
    config: String,
    tokenizer: Tokenizer,
    checkpoint: Checkpoint,
    /// By name: what comes behind the values of the tensor.
    new_rows: BTreeMap<&'static str, Vec<f32>>,
}

impl ExtendedModel {
    /// Adds `words` to the model in `dir`; what is random in their rows is drawn from `seed`.
    ///
    /// # Errors
    /// The directory holds no BERT with a WordPiece vocabulary, or a word is there already or cannot be one
    /// ([`Tokenizer::check_word`]).
    pub fn new(dir: &Path, words: &[String], init: WordInit, seed: u64) -> Result<Self> {
        let config = BertConfig::load(dir)?;
        let (rows, width) = (config.vocab_size, config.hidden_size);
        let tokenizer = Tokenizer::load(dir)?;
        tokenizer.check_vocabulary(&config)?;
        let checkpoint = Checkpoint::open(dir)?;
        checkpoint.require(&[(TABLE.into(), vec![rows, width])])?;

        let pieces: Vec<Vec<u32>> =
            words.iter().map(|word| tokenizer.pieces(word)).collect::<Result<_>>()?;
        let (_, table) = checkpoint.tensor(TABLE)?;
        let of_words = match init {
            WordInit::Mean => means(&table, width, &pieces),
            WordInit::Sample => samples(&table, width, words, seed),
        };
        let mut new_rows = BTreeMap::new();
        if checkpoint.info(DECODER).is_some_and(|info| info.shape == [rows, width]) {
            new_rows.insert(DECODER, of_words.clone());
        }
        for name in BIASES {
            if checkpoint.info(name).is_some_and(|info| info.shape == [rows]) {
                new_rows.insert(name, means(&checkpoint.tensor(name)?.1, 1, &pieces));
            }
        }
        new_rows.insert(TABLE, of_words);
        Ok(Self {
            config: BertConfig::longer(dir, &config, words.len())?,
            tokenizer: tokenizer.with_words(words, rows)?,
            checkpoint,
            new_rows,
        })
    }

    /// Writes config, tokenizer and weights into `out`, which is made where it is absent.
    ///
    /// # Errors
    /// When a file can't be read or written.
    pub fn save(&self, out: &Path) -> Result<()> {
        self.tokenizer.save(out)?;
        self.checkpoint.write_longer(&out.join(Checkpoint::FILE_NAMES[0]), &self.new_rows)?;
        // Last, since without it the directory is not taken for a model.
        write_atomically(out.join("config.json"), self.config.as_bytes())
    }
}
