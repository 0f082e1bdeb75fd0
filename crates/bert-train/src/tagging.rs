//! What a tagger says of texts.

use bert_core::Encoding;
use burn::tensor::Device;
use serde::Serialize;

use crate::{
    encode::encode,
    error::Result,
    evaluate::predict_token_logits,
    examples::Example,
    labels::LabelMap,
    metrics::{Place, argmax, spans, split_tag},
    prediction::softmax,
    sentences::Sentence,
    tagger::Tagger,
};

/// The answer for one text; places are in characters of the text.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Tagging {
    /// The text.
    pub text: String,
    /// Its words with their tags; words that were cut off are left out.
    pub tokens: Vec<TaggedToken>,
    /// The words that belong together, where tags say so: none of plain tags, as of parts of speech.
    pub spans: Vec<TaggedSpan>,
}

/// A word and its tag.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TaggedToken {
    /// The word.
    pub text: String,
    /// Where it begins.
    pub start: usize,
    /// One past its end.
    pub end: usize,
    /// The most probable tag.
    pub label: String,
    /// How probable it is.
    pub probability: f64,
}

/// Words that belong together.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TaggedSpan {
    /// The words, as they stand in the text.
    pub text: String,
    /// Where they begin.
    pub start: usize,
    /// One past their end.
    pub end: usize,
    /// What they are.
    pub label: String,
}

/// A word of a text: where it stands, and the token that answers for it.
pub(crate) struct Word {
    pub(crate) start: usize,
    pub(crate) end: usize,
    pub(crate) token: usize,
}

impl Tagger {
    /// Tags the words of texts, as BERT splits them, and counts the texts that were cut to `max_length` tokens.
    ///
    /// # Errors
    /// When `max_length` is more than the model has positions for, or less than the special tokens need.
    pub fn predict(
        &self,
        examples: &[Example],
        max_length: usize,
        batch_size: usize,
        device: &Device,
    ) -> Result<(Vec<Tagging>, usize)> {
        let (encodings, cut) = encode(&self.tokenizer, &self.config, examples, max_length)?;
        let texts = examples.iter().map(|example| example.text.clone());
        let words = encodings.iter().map(|encoding| words_of(encoding, |_| 0));
        Ok((self.taggings(&encodings, texts.zip(words), batch_size, device), cut))
    }

    /// Tags sentences that are split already, and counts those that were cut to `max_length` tokens. The text of each is its
    /// tokens with a space between them.
    ///
    /// # Errors
    /// As [`predict`](Self::predict).
    pub fn predict_sentences(
        &self,
        sentences: &[Sentence],
        max_length: usize,
        batch_size: usize,
        device: &Device,
    ) -> Result<(Vec<Tagging>, usize)> {
        let (encodings, cut) = self.encode(sentences, max_length)?;
        let texts = sentences.iter().map(|sentence| sentence.tokens.join(" "));
        let words = encodings.iter().zip(sentences);
        let words = words.map(|(encoding, sentence)| words_of_sentence(encoding, sentence));
        Ok((self.taggings(&encodings, texts.zip(words), batch_size, device), cut))
    }

    fn taggings(
        &self,
        encodings: &[Encoding],
        texts: impl Iterator<Item = (String, Vec<Word>)>,
        batch_size: usize,
        device: &Device,
    ) -> Vec<Tagging> {
        let logits = predict_token_logits(&self.model, encodings, batch_size, device);
        let texts = texts.zip(logits);
        texts
            .map(|((text, words), logits)| Tagging::new(text, &words, &logits, &self.labels))
            .collect()
    }
}

impl Tagging {
    /// The tags of the words of a text, whose tokens have these logits, one behind the other.
    pub(crate) fn new(text: String, words: &[Word], logits: &[f32], labels: &LabelMap) -> Self {
        let width = labels.len();
        let has_spans = labels.names().iter().any(|tag| split_tag(tag).0 == Place::Begin);
        let characters: Vec<char> = text.chars().collect();
        let slice = |start: usize, end: usize| characters[start..end].iter().collect();
        let tokens: Vec<TaggedToken> = words
            .iter()
            .map(|&Word { start, end, token }| {
                let logits = &logits[token * width..(token + 1) * width];
                let label = argmax(logits);
                TaggedToken {
                    text: slice(start, end),
                    start,
                    end,
                    label: labels.name(label).unwrap_or("O").into(),
                    probability: softmax(logits)[label as usize],
                }
            })
            .collect();
        let tags: Vec<&str> = tokens.iter().map(|token| token.label.as_str()).collect();
        let spans = spans(&tags).into_iter().filter(|_| has_spans).map(|span| {
            let (start, end) = (tokens[span.tokens.start].start, tokens[span.tokens.end - 1].end);
            TaggedSpan { text: slice(start, end), start, end, label: span.label.into() }
        });
        let spans = spans.collect();
        Self { text, tokens, spans }
    }
}

/// The words of an encoding, each from its first piece to its last; `start` is where a word's offsets count from.
pub(crate) fn words_of(encoding: &Encoding, start: impl Fn(usize) -> usize) -> Vec<Word> {
    let mut words: Vec<(u32, Word)> = vec![];
    for (token, word) in encoding.word_ids.iter().enumerate() {
        let Some(word) = *word else { continue };
        let from = start(word as usize);
        let (begin, end) = encoding.offsets[token];
        match words.last_mut() {
            Some((last, known)) if *last == word => known.end = from + end,
            _ => words.push((word, Word { start: from + begin, end: from + end, token })),
        }
    }
    words.into_iter().map(|(_, word)| word).collect()
}

/// The words of a sentence that is split already, in the text of its tokens with a space between them.
pub(crate) fn words_of_sentence(encoding: &Encoding, sentence: &Sentence) -> Vec<Word> {
    let lengths: Vec<usize> = sentence.tokens.iter().map(|token| token.chars().count()).collect();
    let starts: Vec<usize> = lengths
        .iter()
        .scan(0, |next, length| {
            *next += length + 1;
            Some(*next - length - 1)
        })
        .collect();
    let mut words = words_of(encoding, |word| starts[word]);
    // A word is what its sentence calls one, also where its last pieces were cut off.
    for word in &mut words {
        let index = starts.partition_point(|start| *start <= word.start) - 1;
        (word.start, word.end) = (starts[index], starts[index] + lengths[index]);
    }
    words
}
