//! How well tokens are tagged: spans against spans.
//!
//! Tags are `O`, or `B-TYPE` and `I-TYPE` as in BIO; `E-TYPE` and `S-TYPE` (the end of a span, and a span of one token)
//! are understood too. Any other tag, as of parts of speech, is a span of one token.
//!
//! # Source
//! The spans of the program conlleval (Tjong Kim Sang, Buchholz: CoNLL-2000), which are those of seqeval in its default mode:
//! a tag that can't go on with the span before it opens one, whatever its prefix.

use std::{
    collections::{BTreeMap, HashSet},
    iter,
    ops::Range,
};

use serde::{Deserialize, Serialize};

use super::{
    classification::{ClassCounts, ClassScores},
    ratio,
};

/// The scores of one tagger on one data set, as fractions.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct TaggingMetrics {
    /// The harmonic mean of precision and recall.
    pub f1: f64,
    /// The share of predicted spans that are there, with the same bounds and type.
    pub precision: f64,
    /// The share of spans that are predicted, with the same bounds and type.
    pub recall: f64,
    /// The share of tokens whose tag is right.
    pub accuracy: f64,
    /// The mean loss of a token.
    pub loss: f64,
}

/// Some tokens that belong together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TagSpan<'a> {
    /// What they are; `_` for the bare tags `B` and `I`.
    pub label: &'a str,
    /// Which they are, from 0.
    pub tokens: Range<usize>,
}

impl TaggingMetrics {
    /// All scores at once: `gold` and `predicted` hold a tag for each token of each sentence; `loss` is the mean loss of
    /// a token.
    ///
    /// # Panics
    /// When `gold` and `predicted` differ in the number of sentences or tokens.
    pub fn new<S: AsRef<str>>(gold: &[Vec<S>], predicted: &[Vec<S>], loss: f64) -> Self {
        assert_eq!(gold.len(), predicted.len(), "gold and predicted must have the same sentences");
        let sentences = gold.iter().zip(predicted);
        let counts = sentences.map(|(gold, predicted)| TagCounts::new(gold, predicted));
        counts.sum::<TagCounts>().metrics(loss)
    }
}

/// What a sentence adds to the scores of a tagger, which are made of sums over sentences.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct TagCounts {
    spans: ClassCounts,
    tokens: usize,
    right: usize,
}

impl TagCounts {
    /// That of a sentence whose tokens have these tags.
    ///
    /// # Panics
    /// When `gold` and `predicted` differ in length.
    pub(crate) fn new<S: AsRef<str>>(gold: &[S], predicted: &[S]) -> Self {
        assert_eq!(gold.len(), predicted.len(), "gold and predicted must have the same tokens");
        let known: HashSet<TagSpan> = spans(gold).into_iter().collect();
        let found = spans(predicted);
        let right = gold.iter().zip(predicted);
        Self {
            spans: ClassCounts {
                gold: known.len(),
                predicted: found.len(),
                right: found.iter().filter(|span| known.contains(span)).count(),
            },
            tokens: gold.len(),
            right: right.filter(|(gold, predicted)| gold.as_ref() == predicted.as_ref()).count(),
        }
    }

    /// The scores of what was counted; `loss` is the mean loss of a token.
    pub(crate) fn metrics(self, loss: f64) -> TaggingMetrics {
        let ClassScores { precision, recall, f1, .. } = self.spans.scores();
        let accuracy = ratio(self.right as f64, self.tokens as f64);
        TaggingMetrics { f1, precision, recall, accuracy, loss }
    }
}

impl iter::Sum for TagCounts {
    fn sum<I: Iterator<Item = Self>>(counts: I) -> Self {
        counts.fold(Self::default(), |sum, one| Self {
            spans: ClassCounts {
                gold: sum.spans.gold + one.spans.gold,
                predicted: sum.spans.predicted + one.spans.predicted,
                right: sum.spans.right + one.spans.right,
            },
            tokens: sum.tokens + one.tokens,
            right: sum.right + one.right,
        })
    }
}

/// The scores of each type of span that occurs, in gold or predicted.
///
/// # Panics
/// When `gold` and `predicted` differ in the number of sentences or tokens.
pub fn span_scores<'a, S: AsRef<str>>(
    gold: &'a [Vec<S>],
    predicted: &'a [Vec<S>],
) -> BTreeMap<&'a str, ClassScores> {
    let counts = counts(gold, predicted).into_iter();
    counts.map(|(label, counts)| (label, counts.scores())).collect()
}

/// The spans of a sentence, in order.
pub fn spans<S: AsRef<str>>(tags: &[S]) -> Vec<TagSpan<'_>> {
    let mut spans: Vec<TagSpan> = vec![];
    // The type of the span that the next token may go on with.
    let mut open: Option<&str> = None;
    for (token, tag) in tags.iter().enumerate() {
        let (place, label) = split_tag(tag.as_ref());
        match place {
            Place::Outside => {}
            Place::Inside | Place::End if open == Some(label) => {
                if let Some(span) = spans.last_mut() {
                    span.tokens.end = token + 1;
                }
            }
            _ => spans.push(TagSpan { label, tokens: token..token + 1 }),
        }
        open = matches!(place, Place::Begin | Place::Inside).then_some(label);
    }
    spans
}

/// Where in a span a token stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Outside,
    Begin,
    Inside,
    End,
    Single,
}

/// A tag's place and type; a tag without a place of its own is a span of one token.
pub(crate) fn split_tag(tag: &str) -> (Place, &str) {
    match (tag, tag.split_once('-')) {
        ("O", _) => (Place::Outside, ""),
        ("B", _) => (Place::Begin, "_"),
        ("I", _) => (Place::Inside, "_"),
        (_, Some(("B", label))) => (Place::Begin, label),
        (_, Some(("I", label))) => (Place::Inside, label),
        (_, Some(("E", label))) => (Place::End, label),
        (_, Some(("S", label))) => (Place::Single, label),
        _ => (Place::Single, tag),
    }
}

fn counts<'a, S: AsRef<str>>(
    gold: &'a [Vec<S>],
    predicted: &'a [Vec<S>],
) -> BTreeMap<&'a str, ClassCounts> {
    assert_eq!(gold.len(), predicted.len(), "gold and predicted must have the same sentences");
    let mut counts: BTreeMap<&str, ClassCounts> = BTreeMap::new();
    for (gold, predicted) in gold.iter().zip(predicted) {
        assert_eq!(gold.len(), predicted.len(), "gold and predicted must have the same tokens");
        let gold: HashSet<TagSpan> = spans(gold).into_iter().collect();
        for span in spans(predicted) {
            let count = counts.entry(span.label).or_default();
            count.predicted += 1;
            count.right += usize::from(gold.contains(&span));
        }
        for span in gold {
            counts.entry(span.label).or_default().gold += 1;
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sentences(lines: &[&'static str]) -> Vec<Vec<&'static str>> {
        lines.iter().map(|line| line.split_whitespace().collect()).collect()
    }

    fn shown(tags: &str) -> String {
        let tags: Vec<&str> = tags.split_whitespace().collect();
        let spans = spans(&tags).into_iter();
        let shown = spans.map(|s| format!("{}:{}-{}", s.label, s.tokens.start, s.tokens.end));
        shown.collect::<Vec<_>>().join(" ")
    }

    /// seqeval 1.2.2, `get_entities(tags)` on random tags, ends moved by one.
    #[test]
    fn spans_equal_seqeval() {
        for (tags, expected) in [
            ("S-B I-A E-A E-B B-A O", "B:0-1 A:1-3 B:3-4 A:4-5"),
            ("I-B S-B B-B B-B E-B S-B S-B E-B", "B:0-1 B:1-2 B:2-3 B:3-5 B:5-6 B:6-7 B:7-8"),
            ("I-A B-B I-A S-B S-A O B-A I-A", "A:0-1 B:1-2 A:2-3 B:3-4 A:4-5 A:6-8"),
            ("O I-B O I-B E-B S-A S-A S-A E-B", "B:1-2 B:3-5 A:5-6 A:6-7 A:7-8 B:8-9"),
            ("E-A B-A O I-A E-B B-B", "A:0-1 A:1-2 A:3-4 B:4-5 B:5-6"),
            ("S-A I-B S-A S-B S-A E-A S-B", "A:0-1 B:1-2 A:2-3 B:3-4 A:4-5 A:5-6 B:6-7"),
            ("S-A B-B E-A O I-B I-A E-A S-B B-A", "A:0-1 B:1-2 A:2-3 B:4-5 A:5-7 B:7-8 A:8-9"),
            ("I-B I-B B-A B-A E-B E-B", "B:0-2 A:2-3 A:3-4 B:4-5 B:5-6"),
            ("E-A B-A S-A I-A O", "A:0-1 A:1-2 A:2-3 A:3-4"),
            ("S-A S-A B-A O O S-A E-A", "A:0-1 A:1-2 A:2-3 A:5-6 A:6-7"),
            ("I-B S-B B-B O I-B O B-A B-A S-B", "B:0-1 B:1-2 B:2-3 B:4-5 A:6-7 A:7-8 B:8-9"),
            ("B-B S-A I-B I-B I-A", "B:0-1 A:1-2 B:2-4 A:4-5"),
            ("B-MISC-X I-MISC-X O I-MISC-X", "MISC-X:0-2 MISC-X:3-4"),
            ("B I O I", "_:0-2 _:3-4"),
            ("O O", ""),
        ] {
            assert_eq!(shown(tags), expected, "{tags}");
        }
    }

    #[test]
    fn tags_without_a_place_are_spans_of_one_token() {
        assert_eq!(shown("NOUN NOUN X S"), "NOUN:0-1 NOUN:1-2 X:2-3 S:3-4");
    }

    const GOLD: [&str; 6] = [
        "B-PER I-PER O B-LOC B-LOC I-LOC O",
        "I-ORG I-ORG B-ORG O I-PER I-LOC",
        "O O O",
        "B-PER I-PER I-PER O",
        "B-MISC-X I-MISC-X O I-MISC-X",
        "O B-LOC",
    ];
    const PREDICTED: [&str; 6] = [
        "B-PER I-PER O B-LOC I-LOC I-LOC O",
        "B-ORG I-ORG I-ORG O B-PER B-LOC",
        "O B-LOC O",
        "B-PER I-PER O I-PER",
        "I-MISC-X I-MISC-X O B-MISC-X",
        "B-PER I-LOC",
    ];

    #[test]
    fn scores_equal_seqeval() {
        // seqeval 1.2.2: precision_score(g, p), recall_score, f1_score, accuracy_score, classification_report.
        let (gold, predicted) = (sentences(&GOLD), sentences(&PREDICTED));
        let metrics = TaggingMetrics::new(&gold, &predicted, 0.25);
        assert!((metrics.precision - 0.5).abs() < 1e-12);
        assert!((metrics.recall - 0.5454545454545454).abs() < 1e-12);
        assert!((metrics.f1 - 0.5217391304347826).abs() < 1e-12);
        assert!((metrics.accuracy - 0.5384615384615384).abs() < 1e-12);
        let expected = [
            ("LOC", 0.5, 0.5, 0.5, 4),
            ("MISC-X", 1.0, 1.0, 1.0, 2),
            ("ORG", 0.0, 0.0, 0.0, 2),
            ("PER", 0.4, 2.0 / 3.0, 0.5, 3),
        ];
        let scores = span_scores(&gold, &predicted);
        assert_eq!(scores.len(), expected.len());
        for ((label, scores), expected) in scores.into_iter().zip(expected) {
            let got = (label, scores.precision, scores.recall, scores.f1, scores.support);
            assert_eq!(got, expected);
        }
    }

    #[test]
    fn no_spans_score_zero() {
        // f1_score([["O", "O"]], [["O", "O"]], zero_division=0) is 0; so is precision where all are wrong.
        let none = sentences(&["O O"]);
        let metrics = TaggingMetrics::new(&none, &none, 0.0);
        assert_eq!(
            (metrics.f1, metrics.precision, metrics.recall, metrics.accuracy),
            (0.0, 0.0, 0.0, 1.0)
        );
        let metrics = TaggingMetrics::new(&none, &sentences(&["O B-X"]), 0.0);
        assert_eq!((metrics.f1, metrics.accuracy), (0.0, 0.5));
        let metrics = TaggingMetrics::new::<&str>(&[], &[], 0.0);
        assert_eq!((metrics.f1, metrics.accuracy), (0.0, 0.0));
        assert!(span_scores(&none, &none).is_empty());
    }

    /// Each tag is a span: all scores are the share of tokens that are right.
    #[test]
    fn of_tags_without_places_f1_is_the_accuracy() {
        let metrics = TaggingMetrics::new(
            &sentences(&["DET NOUN VERB", "NOUN"]),
            &sentences(&["DET VERB VERB", "NOUN"]),
            0.0,
        );
        assert_eq!([metrics.f1, metrics.precision, metrics.recall, metrics.accuracy], [0.75; 4]);
    }

    #[test]
    fn metrics_have_the_keys_of_the_output() {
        let gold = sentences(&["B-X"]);
        let json = serde_json::to_string(&TaggingMetrics::new(&gold, &gold, 0.5));
        assert_eq!(
            json.unwrap_or_default(),
            r#"{"f1":1.0,"precision":1.0,"recall":1.0,"accuracy":1.0,"loss":0.5}"#
        );
    }

    #[test]
    #[should_panic(expected = "gold and predicted must have the same tokens")]
    fn other_lengths_panic() {
        span_scores(&sentences(&["O O"]), &sentences(&["O"]));
    }

    proptest! {
        #[test]
        fn spans_are_in_order_and_apart(
            tags in prop::collection::vec(prop::sample::select(vec!["O", "B-A", "I-A", "I-B", "E-A", "S-B"]), 0..30)
        ) {
            let spans = spans(&tags);
            prop_assert!(spans.windows(2).all(|pair| pair[0].tokens.end <= pair[1].tokens.start));
            let tagged = tags.iter().filter(|tag| **tag != "O").count();
            prop_assert_eq!(spans.iter().map(|span| span.tokens.len()).sum::<usize>(), tagged);
        }
    }
}
