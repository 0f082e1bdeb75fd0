//! How a vocabulary breaks the words of texts, and which new words would mend it.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use serde::Serialize;

use crate::{
    error::Result,
    tokenizer::{SpecialToken, Tokenizer},
};

/// How often each word occurs in texts.
#[derive(Debug, Clone, Default)]
pub struct WordCounts {
    texts: usize,
    counts: BTreeMap<String, usize>,
}

impl WordCounts {
    /// Counts the words of a text.
    ///
    /// # Errors
    /// As [`Tokenizer::words`].
    pub fn add(&mut self, tokenizer: &Tokenizer, text: &str) -> Result<()> {
        for word in tokenizer.words(text)? {
            *self.counts.entry(word).or_default() += 1;
        }
        self.texts += 1;
        Ok(())
    }
}

/// What a vocabulary makes of the words of texts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Fragmentation {
    /// Tokens that the words take, special tokens apart.
    pub pieces: usize,
    /// `pieces` over the number of words.
    pub pieces_per_word: f64,
    /// The share of the words that take more than one token.
    pub split: f64,
    /// The share of the words that are not spelt at all, `[UNK]`.
    pub unknown: f64,
}

/// A word that would be worth a token of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Candidate {
    /// The word, normalised.
    pub word: String,
    /// How often it occurs.
    pub count: usize,
    /// The tokens that spell it now.
    pub pieces: Vec<String>,
    /// Tokens that it saves over all texts: one less than its pieces, times `count`.
    pub saved: usize,
}

/// A word that is spelt otherwise because a new word is its beginning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ChangedWord {
    /// The word, normalised.
    pub word: String,
    /// How often it occurs.
    pub count: usize,
    /// The tokens that spell it now.
    pub before: Vec<String>,
    /// The tokens that would spell it.
    pub after: Vec<String>,
}

/// What is to be known before words are added to a vocabulary.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct VocabularyScan {
    /// The texts that were read.
    pub texts: usize,
    /// The words in them.
    pub words: usize,
    /// The different ones among them.
    pub distinct_words: usize,
    /// What the vocabulary makes of them now.
    pub now: Fragmentation,
    /// All that occur at least twice and take more than one token, or are unknown.
    pub candidates: usize,
    /// The candidates that save the most tokens, the best first.
    pub chosen: Vec<Candidate>,
    /// What the vocabulary would make of the texts with the chosen words.
    pub extended: Fragmentation,
    /// By how much the texts would be shorter in tokens, as a share; special tokens apart.
    pub shorter: f64,
    /// Words that are not chosen and would be spelt otherwise, the most frequent first.
    ///
    /// WordPiece takes the longest token that a word begins with, so that a new word also begins longer words.
    pub changed: Vec<ChangedWord>,
}

impl VocabularyScan {
    /// Chooses at most `most` words, and sees what they would change.
    ///
    /// Candidates are ranked by the tokens that they save; among equals the more frequent comes first, then the
    /// alphabet decides.
    ///
    /// # Errors
    /// [`NotWordPiece`](crate::Error::NotWordPiece) where the vocabulary is of another kind.
    pub fn new(tokenizer: &Tokenizer, counts: &WordCounts, most: usize) -> Result<Self> {
        let before = spellings(tokenizer, counts)?;
        let mut candidates = vec![];
        for ((word, &count), pieces) in counts.counts.iter().zip(&before) {
            let is_broken = pieces.len() > 1 || is_unknown(tokenizer, pieces);
            if count > 1 && is_broken && tokenizer.check_word(word).is_ok() {
                candidates.push((word, count, pieces, (pieces.len() - 1) * count));
            }
        }
        candidates.sort_by_key(|&(word, count, _, saved)| (Reverse((saved, count)), word));
        let found = candidates.len();
        candidates.truncate(most);

        let words: Vec<&String> = candidates.iter().map(|(word, ..)| *word).collect();
        let longer = tokenizer.with_words(&words, tokenizer.vocab_size())?;
        let after = spellings(&longer, counts)?;
        let (now, extended) = (
            Fragmentation::of(tokenizer, counts, &before),
            Fragmentation::of(&longer, counts, &after),
        );
        let chosen: BTreeSet<&String> = words.into_iter().collect();
        let mut changed = vec![];
        for ((word, &count), (before, after)) in counts.counts.iter().zip(before.iter().zip(&after))
        {
            if before != after && !chosen.contains(word) {
                let (before, after) = (tokens(tokenizer, before), tokens(&longer, after));
                changed.push(ChangedWord { word: word.clone(), count, before, after });
            }
        }
        changed.sort_by_key(|changed| Reverse(changed.count));
        let candidate =
            |(word, count, pieces, saved): &(&String, usize, &Vec<u32>, usize)| Candidate {
                word: (*word).clone(),
                count: *count,
                pieces: tokens(tokenizer, pieces),
                saved: *saved,
            };
        Ok(Self {
            texts: counts.texts,
            words: counts.counts.values().sum(),
            distinct_words: counts.counts.len(),
            now,
            candidates: found,
            chosen: candidates.iter().map(candidate).collect(),
            extended,
            shorter: 1.0 - share(extended.pieces, now.pieces, 1.0),
            changed,
        })
    }
}

impl Fragmentation {
    fn of(tokenizer: &Tokenizer, counts: &WordCounts, spellings: &[Vec<u32>]) -> Self {
        let words: usize = counts.counts.values().sum();
        let sum = |value: &dyn Fn(&Vec<u32>) -> usize| -> usize {
            counts.counts.values().zip(spellings).map(|(count, pieces)| count * value(pieces)).sum()
        };
        let pieces = sum(&Vec::len);
        Self {
            pieces,
            pieces_per_word: share(pieces, words, 0.0),
            split: share(sum(&|pieces| usize::from(pieces.len() > 1)), words, 0.0),
            unknown: share(sum(&|pieces| usize::from(is_unknown(tokenizer, pieces))), words, 0.0),
        }
    }
}

/// `part / whole`, or `empty` where there is nothing.
fn share(part: usize, whole: usize, empty: f64) -> f64 {
    if whole == 0 { empty } else { part as f64 / whole as f64 }
}

/// The pieces of every word, in the order of `counts`.
fn spellings(tokenizer: &Tokenizer, counts: &WordCounts) -> Result<Vec<Vec<u32>>> {
    counts.counts.keys().map(|word| tokenizer.pieces(word)).collect()
}

fn is_unknown(tokenizer: &Tokenizer, pieces: &[u32]) -> bool {
    matches!(pieces, [id] if tokenizer.special_token_id(SpecialToken::Unk) == Some(*id))
}

fn tokens(tokenizer: &Tokenizer, ids: &[u32]) -> Vec<String> {
    ids.iter().filter_map(|id| tokenizer.id_to_token(*id)).collect()
}
