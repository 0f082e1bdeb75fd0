//! How much each token counts.

use bert_heads::PoolingKind;
use bert_train::{Example, TextClassifier, TokenWeight};
use burn::tensor::Device;

use crate::{examples, new_head, pretrained, reference::devices};

fn weights(
    classifier: &TextClassifier,
    examples: &[Example],
    batch_size: usize,
    device: &Device,
) -> Vec<Vec<TokenWeight>> {
    let answers = classifier.predict_with_weights(examples, true, 16, batch_size, device);
    answers.unwrap().0.into_iter().map(|(_, weights)| weights).collect()
}

/// The classifier with every parameter of its pooling away from its start.
fn stirred(kind: PoolingKind, device: &Device) -> TextClassifier {
    let mut classifier = new_head(kind, 0, device);
    classifier.model.pooling = bert_core::initialise(classifier.model.pooling, "pooling.", 3, 0.5);
    classifier
}

/// A text's weights are the same alone and among longer ones, and sum to 1 over its own tokens: nothing is left for padding.
#[test]
fn weights_are_those_of_the_text_alone_and_sum_to_one() {
    for (name, device) in devices() {
        for kind in PoolingKind::ALL {
            let classifier = stirred(kind, &device);
            let texts = examples(7);
            let together = weights(&classifier, &texts, 7, &device);
            let lengths: Vec<usize> = together.iter().map(Vec::len).collect();
            assert!(lengths.iter().any(|length| *length != lengths[0]), "{lengths:?}");
            for (text, together) in texts.iter().zip(together) {
                let alone = weights(&classifier, std::slice::from_ref(text), 1, &device);
                let alone = &alone[0];
                assert_eq!(alone.len(), together.len());
                let sum: f32 = together.iter().map(|token| token.weight).sum();
                assert!((sum - 1.0).abs() < 1e-5, "{name}, {kind}: {sum}");
                for (one, other) in alone.iter().zip(&together) {
                    assert_eq!((&one.token, one.start), (&other.token, other.start));
                    let (one, other) = (&one.dimensions, &other.dimensions);
                    let pairs = one.iter().flatten().zip(other.iter().flatten());
                    for (one, other) in pairs {
                        assert!((one - other).abs() < 2e-5, "{name}, {kind}: {one} {other}");
                    }
                }
                for dimension in 0..32 {
                    let of = |token: &TokenWeight| token.dimensions.as_ref().unwrap()[dimension];
                    let sum: f32 = together.iter().map(of).sum();
                    assert!((sum - 1.0).abs() < 1e-5, "{name}, {kind}, {dimension}: {sum}");
                }
            }
        }
    }
}

/// The answers are those of `predict`, and without dimensions the means are the same.
#[test]
fn weights_do_not_change_the_answer() {
    let (_, device) = devices().remove(0);
    for kind in [PoolingKind::Cls, PoolingKind::MultiHead { heads: 4 }, PoolingKind::Adaptive] {
        let classifier = stirred(kind, &device);
        let texts = examples(9);
        let (plain, _) = classifier.predict(&texts, 16, 4, &device).unwrap();
        let (means, _) = classifier.predict_with_weights(&texts, false, 16, 4, &device).unwrap();
        let (full, _) = classifier.predict_with_weights(&texts, true, 16, 4, &device).unwrap();
        for ((plain, (prediction, means)), (_, full)) in plain.iter().zip(&means).zip(&full) {
            assert_eq!(plain.label, prediction.label);
            for (one, other) in plain.probabilities.iter().zip(&prediction.probabilities) {
                assert!((one - other).abs() < 1e-5, "{kind}: {one} {other}");
            }
            for (mean, full) in means.iter().zip(full) {
                assert_eq!(mean.dimensions, None);
                assert!((mean.weight - full.weight).abs() < 1e-6, "{kind}");
            }
        }
    }
}

/// Places are in characters of the text as it was given, and tokens of a second text say so.
#[test]
fn tokens_say_where_they_are() {
    let (_, device) = devices().remove(0);
    let classifier = pretrained(&device);
    let (text, pair) = ("Thé  movie was great", "a bad film");
    let example = Example { text: text.into(), pair: Some(pair.into()), label: None, line: 1 };
    // A token of each does not fit: [CLS] the movie was [SEP] a bad [SEP].
    let (answers, cut) = classifier.predict_with_weights(&[example], false, 8, 1, &device).unwrap();
    assert_eq!(cut, 1);
    let weights = &answers[0].1;
    assert_eq!(weights.len(), 8);
    for token in weights {
        let given: Vec<char> = if token.pair { pair } else { text }.chars().collect();
        match (token.start, token.end) {
            (Some(start), Some(end)) => {
                let word: String = given[start..end].iter().collect();
                let word = word.to_lowercase().replace('é', "e");
                assert_eq!(token.token.trim_start_matches("##"), word);
            }
            _ => assert!(["[CLS]", "[SEP]"].contains(&token.token.as_str()), "{token:?}"),
        }
    }
    assert_eq!(weights.iter().filter(|token| token.pair).count(), 2);
    assert_eq!(weights.iter().filter(|token| token.start.is_none()).count(), 3);
    // All weight of the pooler lies on [CLS].
    assert_eq!(weights[0].weight, 1.0);
}
