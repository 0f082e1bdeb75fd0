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

/// Writes the model in `dir` once more into `out`, a directory that exists, with these words behind its vocabulary.
///
/// Words and rows that were there keep their ids and every bit, as do all other tensors; a head for masked words gets
/// elements for the new words too. `base_vocab_size` in `config.json` says how many rows there were at first.
///
/// # Errors
/// The directory holds no BERT with a WordPiece vocabulary, a word is there already or cannot be one
/// ([`Tokenizer::check_word`]), or a file cannot be written.
pub fn extend_vocabulary(
    dir: &Path,
    words: &[String],
    init: WordInit,
    seed: u64,
    out: &Path,
) -> Result<()> {
    let config = BertConfig::load(dir)?;
    let (rows, width) = (config.vocab_size, config.hidden_size);
    let longer_config = BertConfig::longer(dir, &config, words.len())?;
    let tokenizer = Tokenizer::load(dir)?;
    tokenizer.check_vocabulary(&config)?;
    let longer_tokenizer = tokenizer.with_words(words, rows)?;
    let checkpoint = Checkpoint::open(dir)?;
    checkpoint.require(&[(TABLE.into(), vec![rows, width])])?;

    let pieces: Vec<Vec<u32>> =
        words.iter().map(|word| tokenizer.pieces(word)).collect::<Result<_>>()?;
    let (_, table) = checkpoint.tensor(TABLE)?;
    let new_rows = match init {
        WordInit::Mean => means(&table, width, &pieces),
        WordInit::Sample => samples(&table, width, words, seed),
    };
    let mut new = BTreeMap::new();
    if checkpoint.info(DECODER).is_some_and(|info| info.shape == [rows, width]) {
        new.insert(DECODER, new_rows.clone());
    }
    for name in BIASES {
        if checkpoint.info(name).is_some_and(|info| info.shape == [rows]) {
            new.insert(name, means(&checkpoint.tensor(name)?.1, 1, &pieces));
        }
    }
    new.insert(TABLE, new_rows);

    checkpoint.write_longer(&out.join(Checkpoint::FILE_NAMES[0]), &new)?;
    longer_tokenizer.save(out)?;
    // Last, since without it the directory is not taken for a model.
    write_atomically(out.join("config.json"), longer_config.as_bytes())
}
