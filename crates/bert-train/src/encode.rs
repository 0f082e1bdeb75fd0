//! From texts to ids.

use bert_core::{BertConfig, Encoding, Tokenizer};

use crate::{
    error::{Error, Result},
    examples::Example,
    sentences::Sentence,
};

/// Encodes texts for a model, and counts those that were cut to `max_length` tokens.
pub(crate) fn encode(
    tokenizer: &Tokenizer,
    config: &BertConfig,
    examples: &[Example],
    max_length: usize,
) -> Result<(Vec<Encoding>, usize)> {
    let max_length = config.max_length(Some(max_length))?;
    let has_pairs = examples.iter().any(|example| example.pair.is_some());
    if has_pairs && config.type_vocab_size < 2 {
        return Err(Error::Pairs { got: config.type_vocab_size });
    }
    let texts: Vec<(&str, Option<&str>)> =
        examples.iter().map(|example| (example.text.as_str(), example.pair.as_deref())).collect();
    let encodings = tokenizer.encode_batch(&texts, max_length)?;
    let truncated = encodings.iter().filter(|encoding| encoding.truncated).count();
    Ok((encodings, truncated))
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
