//! How tags mark spans, and the one way in which models are trained on them.

use std::{borrow::Cow, fmt};

use crate::labels::LabelMap;
use crate::metrics::{Place, TagSpan, spans, split_tag};
use crate::sentences::Sentence;

/// How the tags of a file mark spans of tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TagScheme {
    /// `B-TYPE` on the first token of a span, `I-TYPE` on all others, `O` outside.
    Bio,
    /// As BIO, but `B-TYPE` only where a span follows another of its type at once.
    Iob1,
    /// As BIO, but `E-TYPE` on the last token of a span (in BILOU `L-TYPE`) and `S-TYPE` on the only one (`U-TYPE`).
    Iobes,
    /// Every token has a tag of its own, as in parts of speech: there are no spans.
    Plain,
}

impl fmt::Display for TagScheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Bio => "BIO",
            Self::Iob1 => "IOB1",
            Self::Iobes => "IOBES",
            Self::Plain => "plain tags",
        })
    }
}

impl TagScheme {
    /// The scheme of the tags of all sentences together.
    ///
    /// A file in BIO in which some spans begin with `I-` by mistake is BIO.
    pub fn of(sentences: &[Sentence]) -> Self {
        let (mut begins, mut opens_inside, mut ends) = (false, false, false);
        for tags in sentences.iter().filter_map(|sentence| sentence.tags.as_deref()) {
            let mut before: Option<&str> = None;
            for tag in tags {
                let (place, label) = place(tag);
                match place {
                    Place::Single if !is_marked(tag) => return Self::Plain,
                    Place::Single | Place::End => ends = true,
                    Place::Begin if before != Some(label) => begins = true,
                    Place::Inside if before != Some(label) => opens_inside = true,
                    Place::Begin | Place::Inside | Place::Outside => {}
                }
                before = (place != Place::Outside).then_some(label);
            }
        }
        match (ends, begins, opens_inside) {
            (true, _, _) => Self::Iobes,
            (false, false, true) => Self::Iob1,
            _ => Self::Bio,
        }
    }

    /// Whether there are spans, marked in another way than BIO.
    pub fn becomes_bio(self) -> bool {
        matches!(self, Self::Iob1 | Self::Iobes)
    }

    /// Writes the same spans in BIO; tags of BIO and plain ones stay as they are.
    pub fn to_bio(self, sentences: &mut [Sentence]) {
        if !self.becomes_bio() {
            return;
        }
        for tags in sentences.iter_mut().filter_map(|sentence| sentence.tags.as_mut()) {
            let known: Vec<Cow<str>> = tags.iter().map(|tag| renamed(tag)).collect();
            let mut bio = vec!["O".to_owned(); tags.len()];
            for TagSpan { label, tokens } in spans(&known) {
                for token in tokens.clone() {
                    let place = if token == tokens.start { 'B' } else { 'I' };
                    bio[token] = format!("{place}-{label}");
                }
            }
            *tags = bio;
        }
    }
}

/// The sentences with the same spans in BIO; where a model has its labels, only if those are BIO and name all the tags.
pub(crate) fn in_bio<'a>(
    sentences: &'a [Sentence],
    labels: Option<&LabelMap>,
) -> Cow<'a, [Sentence]> {
    let is_bio = |tag: &String| tag == "O" || tag.starts_with("B-") || tag.starts_with("I-");
    let scheme = TagScheme::of(sentences);
    let is_wanted = labels.is_none_or(|labels| labels.names().iter().all(is_bio));
    if !scheme.becomes_bio() || !is_wanted {
        return sentences.into();
    }
    let mut converted = sentences.to_vec();
    scheme.to_bio(&mut converted);
    let is_known = |tag: &String| labels.is_none_or(|labels| labels.id(tag).is_some());
    match converted.iter().flat_map(|sentence| &sentence.tags).flatten().all(is_known) {
        true => converted.into(),
        false => sentences.into(),
    }
}

/// BILOU's `L-` and `U-` by the names that they have in IOBES.
fn renamed(tag: &str) -> Cow<'_, str> {
    match tag.split_at_checked(2) {
        Some(("L-", label)) => format!("E-{label}").into(),
        Some(("U-", label)) => format!("S-{label}").into(),
        _ => tag.into(),
    }
}

fn place(tag: &str) -> (Place, &str) {
    match tag.split_at_checked(2) {
        Some(("L-", label)) => (Place::End, label),
        Some(("U-", label)) => (Place::Single, label),
        _ => split_tag(tag),
    }
}

/// Whether a tag says where in a span its token stands.
fn is_marked(tag: &str) -> bool {
    matches!(tag.split_at_checked(2), Some(("S-" | "U-", _)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sentences(lines: &[&str]) -> Vec<Sentence> {
        let tags = |line: &&str| line.split(' ').map(String::from).collect();
        let sentence = |line| Sentence { tags: Some(tags(line)), ..Sentence::default() };
        lines.iter().map(sentence).collect()
    }

    #[test]
    fn schemes_are_recognised() {
        for (lines, expected) in [
            (&["O B-A I-A", "B-A B-B O"][..], TagScheme::Bio),
            (&["O O"], TagScheme::Bio),
            // One span begins with I- by mistake.
            (&["O B-A I-A", "I-B O"], TagScheme::Bio),
            (&["O I-A I-A", "I-A B-A I-B"], TagScheme::Iob1),
            (&["B-A E-A S-A"], TagScheme::Iobes),
            (&["B-A L-A U-A"], TagScheme::Iobes),
            (&["O U-A"], TagScheme::Iobes),
            (&["NOUN O S", "X"], TagScheme::Plain),
            (&["B-A", "NOUN"], TagScheme::Plain),
        ] {
            assert_eq!(TagScheme::of(&sentences(lines)), expected, "{lines:?}");
        }
    }

    #[test]
    fn every_scheme_becomes_bio() {
        let expected = sentences(&["B-A I-A I-A O B-A", "B-B B-B I-B B-A"]);
        for lines in [
            ["B-A I-A I-A O B-A", "B-B B-B I-B B-A"],
            ["I-A I-A I-A O I-A", "I-B B-B I-B I-A"],
            ["B-A I-A E-A O S-A", "S-B B-B E-B S-A"],
            ["B-A I-A L-A O U-A", "U-B B-B L-B U-A"],
        ] {
            let mut sentences = sentences(&lines);
            TagScheme::of(&sentences).to_bio(&mut sentences);
            assert_eq!(sentences, expected, "{lines:?}");
        }
    }

    #[test]
    fn plain_tags_stay() {
        let mut tags = sentences(&["DET NOUN"]);
        TagScheme::of(&tags).to_bio(&mut tags);
        assert_eq!(tags, sentences(&["DET NOUN"]));
    }
}
