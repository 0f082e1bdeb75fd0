//! From texts to ids.

use bert_core::{BertConfig, Encoding, Tokenizer};

use crate::{
    error::{Error, Result},
    examples::Example,
    long::Long,
    sentences::Sentence,
};

/// The most texts that are held whole before they are cut.
const HELD: usize = 256;

/// Encodes texts for a model, and counts those that were cut to `max_length` tokens.
pub(crate) fn encode(
    tokenizer: &Tokenizer,
    config: &BertConfig,
    examples: &[Example],
    max_length: usize,
) -> Result<(Vec<Encoding>, usize)> {
    encode_long(tokenizer, config, examples, Long::Truncate, max_length)
}

/// Encodes texts for a model, in sequences of at most `max_length` tokens, and counts those that were cut.
pub(crate) fn encode_long(
    tokenizer: &Tokenizer,
    config: &BertConfig,
    examples: &[Example],
    long: Long,
    max_length: usize,
) -> Result<(Vec<Encoding>, usize)> {
    let max_length = config.max_length(Some(max_length))?;
    let has_pairs = examples.iter().any(|example| example.pair.is_some());
    if has_pairs && config.type_vocab_size < 2 {
        return Err(Error::Pairs { got: config.type_vocab_size });
    }
    let texts: Vec<(&str, Option<&str>)> =
        examples.iter().map(|example| (example.text.as_str(), example.pair.as_deref())).collect();
    let encodings = if long == Long::Truncate {
        tokenizer.encode_batch(&texts, max_length)?
    } else if has_pairs {
        return Err(long_of("pairs of texts"));
    } else {
        let room = tokenizer.room(max_length, false)?;
        let mut encodings = Vec::with_capacity(texts.len());
        // Whole texts are long, and most of them may be cut off: few are held at once.
        for texts in texts.chunks(HELD) {
            for whole in tokenizer.encode_batch(texts, usize::MAX)? {
                encodings.push(long.cut(whole, room)?);
            }
        }
        encodings
    };
    let truncated = encodings.iter().filter(|encoding| encoding.truncated).count();
    Ok((encodings, truncated))
}

/// Refuses to read data in windows, or its beginnings and ends, that `holds` no single texts.
pub(crate) fn long_of(holds: &'static str) -> Error {
    Error::WrongData { key: "long", expected: "single texts with one label", holds }
}

/// Encodes sentences that are split into words, and counts those that were cut to `max_length` tokens.
pub(crate) fn encode_sentences(
    tokenizer: &Tokenizer,
    config: &BertConfig,
    sentences: &[Sentence],
    max_length: usize,
) -> Result<(Vec<Encoding>, usize)> {
    let max_length = config.max_length(Some(max_length))?;
    let encodings = sentences
        .iter()
        .map(|sentence| tokenizer.encode_words(&sentence.tokens, max_length))
        .collect::<bert_core::Result<Vec<Encoding>>>()?;
    let truncated = encodings.iter().filter(|encoding| encoding.truncated).count();
    Ok((encodings, truncated))
}
