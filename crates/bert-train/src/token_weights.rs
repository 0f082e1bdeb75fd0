//! How much each token of a text counts in its vector.

use std::fmt;

use bert_core::Encoding;
use burn::tensor::Device;
use serde::Serialize;

use crate::{
    error::Result, evaluate::map_batches_to, examples::Example, prediction::Prediction,
    text_classifier::TextClassifier,
};

/// The answer for a text, and how much each of its tokens counts.
pub type WeightedPrediction = (Prediction, Vec<TokenWeight>);

/// How much a token counts in a text's vector.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TokenWeight {
    /// The token as the vocabulary has it, [CLS] and [SEP] among them.
    pub token: String,
    /// Where it begins in its text, in characters; [CLS] and [SEP] are in no text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start: Option<usize>,
    /// One past its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end: Option<usize>,
    /// Whether its text is the second of a pair.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub pair: bool,
    /// The mean of its weights over the dimensions; over a text they sum to 1.
    pub weight: f32,
    /// Its weight in each dimension, where asked for; over a text those of a dimension sum to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dimensions: Option<Vec<f32>>,
}

impl TextClassifier {
    /// Classifies texts, says how much each of their tokens counted, on request per dimension, and counts the texts that were
    /// cut to `max_length` tokens.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    pub fn predict_with_weights(
        &self,
        examples: &[Example],
        per_dimension: bool,
        max_length: usize,
        batch_size: usize,
        device: &Device,
    ) -> Result<(Vec<WeightedPrediction>, usize)> {
        let (encodings, truncated) = self.encode(examples, max_length)?;
        let results = map_batches_to(&encodings, batch_size, device, |input| {
            let (logits, weights) = self.model.forward_with_weights(&input);
            vec![logits, if per_dimension { weights } else { weights.mean_dim(1) }]
        });
        let [logits, weights] = results.try_into().unwrap_or_default();
        let answers =
            logits.iter().zip(weights).zip(&encodings).map(|((logits, weights), text)| {
                (Prediction::new(logits), token_weights(text, &weights, per_dimension))
            });
        Ok((answers.collect(), truncated))
    }
}

/// The weights of a text's pooled tokens, whose `values` are one a token or, `per_dimension`, a row a token.
fn token_weights(encoding: &Encoding, values: &[f32], per_dimension: bool) -> Vec<TokenWeight> {
    let encoding = encoding.select(&encoding.pooled().collect::<Vec<usize>>());
    let width = values.len() / encoding.tokens.len().max(1);
    let rows = values.chunks(width.max(1)).enumerate();
    rows.map(|(i, row)| {
        let place = (!encoding.special_tokens_mask[i]).then_some(encoding.offsets[i]);
        TokenWeight {
            token: encoding.tokens[i].clone(),
            start: place.map(|(start, _)| start),
            end: place.map(|(_, end)| end),
            pair: place.is_some() && encoding.token_type_ids[i] == 1,
            weight: row.iter().sum::<f32>() / width as f32,
            dimensions: per_dimension.then(|| row.to_vec()),
        }
    })
    .collect()
}

/// The kinds of tokens between which a text's weight is shared out.
const KINDS: [&str; 4] = ["[CLS]", "[SEP]", "punctuation", "words"];

/// How much of a text's weight lies on [CLS], on [SEP], on punctuation and on words, on average over texts.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct WeightShares {
    texts: usize,
    weights: [f64; 4],
    tokens: [f64; 4],
}

/// The share of one kind of token.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct WeightShare {
    /// `[CLS]`, `[SEP]`, `punctuation` or `words`, which is everything else.
    pub kind: &'static str,
    /// The share of a text's weight.
    pub weight: f64,
    /// The share of a text's tokens: the weight that mean pooling would give.
    pub tokens: f64,
}

impl WeightShares {
    /// Counts a text in.
    pub fn add(&mut self, weights: &[TokenWeight]) {
        self.texts += 1;
        for token in weights {
            let is_sign = |c: char| !c.is_alphanumeric() && !c.is_whitespace();
            let kind = match token.start {
                // Each window of a long text has one.
                None if token.token == weights[0].token => 0,
                None => 1,
                Some(_) if token.token.trim_start_matches("##").chars().all(is_sign) => 2,
                Some(_) => 3,
            };
            self.weights[kind] += f64::from(token.weight);
            self.tokens[kind] += 1.0 / weights.len() as f64;
        }
    }

    /// How many texts were counted.
    pub fn texts(&self) -> usize {
        self.texts
    }

    /// The share of each kind; weights and tokens sum to 1 where there is a text.
    pub fn shares(&self) -> [WeightShare; 4] {
        let mean = |sum: f64| sum / self.texts.max(1) as f64;
        std::array::from_fn(|i| WeightShare {
            kind: KINDS[i],
            weight: mean(self.weights[i]),
            tokens: mean(self.tokens[i]),
        })
    }
}

/// As a person reads them, on one line.
impl fmt::Display for WeightShares {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "weight (and tokens) of {} texts:", self.texts)?;
        for (i, WeightShare { kind, weight, tokens }) in self.shares().into_iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            write!(f, "{comma} {kind} {:.1} % ({:.1} %)", 100.0 * weight, 100.0 * tokens)?;
        }
        Ok(())
    }
}

/// A stretch of a text as it is shown: a token with its weight, or what lies between tokens.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Piece {
    pub(crate) text: String,
    /// `None` between tokens, and where the text was cut.
    pub(crate) weight: Option<f32>,
    /// Whether it is a [CLS] or [SEP] that was put in.
    pub(crate) is_special: bool,
}

/// The text, or pair of texts, piece by piece, with [CLS] and [SEP] where they were put in.
pub(crate) fn pieces(example: &Example, weights: &[TokenWeight]) -> Vec<Piece> {
    let texts = [&example.text, example.pair.as_ref().unwrap_or(&example.text)]
        .map(|text| text.chars().map(visible).collect::<Vec<char>>());
    let mut pieces: Vec<Piece> = vec![];
    let mut push = |text: &[char], weight: Option<f32>, is_special: bool| {
        if !text.is_empty() {
            pieces.push(Piece { text: text.iter().collect(), weight, is_special });
        } else if let (Some(last), Some(more)) = (pieces.last_mut(), weight) {
            // A token that stands where another does.
            last.weight = Some(last.weight.unwrap_or(0.0) + more);
        }
    };
    // How much of each text has been shown; a second text that is not there has been.
    let mut shown = [0, if example.pair.is_some() { 0 } else { texts[1].len() }];
    let mut specials = 0;
    #[allow(clippy::explicit_counter_loop)] // INVARIANT: it counts special tokens, not all.
    for (i, token) in weights.iter().enumerate() {
        let (Some(start), Some(end)) = (token.start, token.end) else {
            // After [CLS] each text ends with a [SEP], which comes after what was cut off; a single text may have several windows.
            let is_pair = example.pair.is_some();
            let which = usize::checked_sub(specials, 1).map(|text| if is_pair { text } else { 0 });
            let goes_on = || !is_pair && weights[i..].iter().any(|token| token.start.is_some());
            if let Some(which @ (0 | 1)) = which
                && !goes_on()
            {
                push(&texts[which][shown[which]..], None, false);
                shown[which] = texts[which].len();
            }
            specials += 1;
            push(&token.token.chars().collect::<Vec<char>>(), Some(token.weight), true);
            continue;
        };
        let which = usize::from(token.pair);
        let text = &texts[which];
        let (start, end) = (start.clamp(shown[which], text.len()), end.min(text.len()));
        push(&text[shown[which]..start], None, false);
        push(&text[start..end.max(start)], Some(token.weight), false);
        shown[which] = end.max(start);
    }
    for (text, shown) in texts.iter().zip(shown) {
        push(&text[shown..], None, false);
    }
    pieces
}

/// A line break is a space, and a character that would command a terminal, or turn what follows it round, is none.
fn visible(c: char) -> char {
    match c {
        '\n' | '\r' | '\t' => ' ',
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '\u{fffd}',
        c if c.is_control() => '\u{fffd}',
        c => c,
    }
}

/// The largest weight of a text's pieces.
pub(crate) fn largest(pieces: &[Piece]) -> f32 {
    pieces.iter().filter_map(|piece| piece.weight).fold(0.0, f32::max)
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn weight(token: &str, place: Option<(usize, usize)>, weight: f32) -> TokenWeight {
        TokenWeight {
            token: token.into(),
            start: place.map(|(start, _)| start),
            end: place.map(|(_, end)| end),
            pair: false,
            weight,
            dimensions: None,
        }
    }

    fn second(mut token: TokenWeight) -> TokenWeight {
        token.pair = true;
        token
    }

    pub(crate) fn example(text: &str, pair: Option<&str>) -> Example {
        Example { text: text.into(), pair: pair.map(String::from), label: None, line: 1 }
    }

    fn shown(pieces: &[Piece]) -> Vec<(&str, Option<f32>)> {
        pieces.iter().map(|piece| (piece.text.as_str(), piece.weight)).collect()
    }

    /// A text in two windows has two of [CLS] and [SEP]; what is behind the last window was cut off.
    #[test]
    fn windows_by_hand() {
        let weights = [
            weight("[CLS]", None, 0.25),
            weight("so", Some((0, 2)), 0.125),
            weight("[SEP]", None, 0.0625),
            weight("[CLS]", None, 0.0625),
            weight("long", Some((3, 7)), 0.25),
            weight("[SEP]", None, 0.25),
        ];
        let mut shares = WeightShares::default();
        shares.add(&weights);
        let shares = shares.shares().map(|share| share.weight);
        assert_eq!(shares, [0.3125, 0.3125, 0.0, 0.375]);
        let pieces = pieces(&example("so long ago", None), &weights);
        assert_eq!(
            shown(&pieces),
            [
                ("[CLS]", Some(0.25)),
                ("so", Some(0.125)),
                ("[SEP]", Some(0.0625)),
                ("[CLS]", Some(0.0625)),
                (" ", None),
                ("long", Some(0.25)),
                (" ago", None),
                ("[SEP]", Some(0.25)),
            ]
        );
    }

    #[test]
    fn shares_by_hand() {
        let mut shares = WeightShares::default();
        shares.add(&[
            weight("[CLS]", None, 0.5),
            weight("fine", Some((0, 4)), 0.125),
            weight("##!", Some((4, 5)), 0.25),
            weight("[SEP]", None, 0.125),
        ]);
        shares.add(&[weight("[CLS]", None, 0.25), weight("[SEP]", None, 0.75)]);
        // Weights: (0.5 + 0.25) / 2, (0.125 + 0.75) / 2, 0.25 / 2, 0.125 / 2; tokens: (1/4 + 1/2) / 2 twice, 1/8 twice.
        let got = shares.shares().map(|share| (share.weight, share.tokens));
        assert_eq!(got, [(0.375, 0.375), (0.4375, 0.375), (0.125, 0.125), (0.0625, 0.125)]);
        assert_eq!(
            shares.to_string(),
            "weight (and tokens) of 2 texts: [CLS] 37.5 % (37.5 %), [SEP] 43.8 % (37.5 %), \
             punctuation 12.5 % (12.5 %), words 6.2 % (12.5 %)"
        );
    }

    #[test]
    fn pieces_are_the_text_with_what_lies_between() {
        let weights = [
            weight("[CLS]", None, 0.1),
            weight("e", Some((1, 2)), 0.2),
            weight("##t", Some((2, 3)), 0.3),
            weight("x", Some((5, 6)), 0.4),
            weight("[SEP]", None, 0.0),
        ];
        // Characters, not bytes; and the last word was cut off.
        let pieces = pieces(&example(" ét \nx\x1bzz", None), &weights);
        let expected = [
            ("[CLS]", Some(0.1)),
            (" ", None),
            ("é", Some(0.2)),
            ("t", Some(0.3)),
            ("  ", None),
            ("x", Some(0.4)),
            ("\u{fffd}zz", None),
            ("[SEP]", Some(0.0)),
        ];
        assert_eq!(shown(&pieces), expected);
        assert_eq!(largest(&pieces), 0.4);
    }

    proptest! {
        /// Whatever places tokens claim, the pieces are the texts, and no weight is lost.
        #[test]
        fn pieces_are_the_whole_text(
            text in "\\PC{0,12}",
            pair in proptest::option::of("[a-zé\n]{0,9}"),
            tokens in prop::collection::vec((0usize..15, 0usize..15, any::<bool>(), any::<bool>()), 0..9),
        ) {
            let tokens = tokens.into_iter().map(|(start, end, is_special, is_second)| {
                let place = (!is_special).then_some((start, end));
                TokenWeight { pair: is_second && !is_special, ..weight("[SEP]", place, 1.0) }
            });
            let weights: Vec<TokenWeight> =
                [weight("[CLS]", None, 1.0)].into_iter().chain(tokens).collect();
            let pieces = pieces(&example(&text, pair.as_deref()), &weights);
            let sum: f32 = pieces.iter().filter_map(|piece| piece.weight).sum();
            prop_assert_eq!(sum, weights.len() as f32);
            let count = |pieces: &mut dyn Iterator<Item = char>| {
                let mut characters: Vec<char> = pieces.collect();
                characters.sort_unstable();
                characters
            };
            let shown = pieces.iter().filter(|piece| !piece.is_special);
            let pair = pair.unwrap_or_default();
            let given = text.chars().chain(pair.chars()).map(visible);
            prop_assert_eq!(
                count(&mut shown.flat_map(|piece| piece.text.chars())),
                count(&mut given.into_iter())
            );
        }
    }

    #[test]
    fn pieces_of_a_pair_and_of_tokens_in_one_place() {
        let weights = [
            weight("[CLS]", None, 0.0),
            weight("a", Some((0, 1)), 0.25),
            weight("b", Some((0, 1)), 0.25),
            weight("[SEP]", None, 0.0),
            second(weight("c", Some((0, 1)), 0.5)),
            weight("[SEP]", None, 0.0),
        ];
        let pieces = pieces(&example("a", Some("c d")), &weights);
        let specials: Vec<bool> = pieces.iter().map(|piece| piece.is_special).collect();
        assert_eq!(specials, [true, false, true, false, false, true]);
        let expected = [
            ("[CLS]", Some(0.0)),
            ("a", Some(0.5)),
            ("[SEP]", Some(0.0)),
            ("c", Some(0.5)),
            (" d", None),
            ("[SEP]", Some(0.0)),
        ];
        assert_eq!(shown(&pieces), expected);
    }
}
