//! How well answers are found in texts, as SQuAD's evaluation counts it.
//!
//! # Source
//! Rajpurkar et al.: "SQuAD" (arXiv:1606.05250), section 6.1; empty answers as in "Know What You Don't Know"
//! (arXiv:1806.03822).

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::ratio;

/// The scores of answers to questions on one data set, as SQuAD counts them.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct AnswerMetrics {
    /// The mean F1 of the words of each answer.
    pub f1: f64,
    /// The share of questions whose answer is right as a whole.
    pub exact_match: f64,
    /// The mean loss of a question.
    pub loss: f64,
}

impl AnswerMetrics {
    /// All scores at once: for each question the answer and those that are right; `loss` is the mean loss of a question.
    pub fn new<S: AsRef<str>>(questions: &[(&str, &[S])], loss: f64) -> Self {
        let mean = |score: fn(&str, &[S]) -> f64| {
            let sum: f64 = questions.iter().map(|(answer, right)| score(answer, right)).sum();
            sum / questions.len().max(1) as f64
        };
        Self { f1: mean(answer_f1), exact_match: mean(exact_match), loss }
    }
}

/// An answer as it is compared: in lower case, without ASCII punctuation and the articles a, an and the, its words
/// separated by one space.
pub fn normalise_answer(answer: &str) -> String {
    let lower = answer.to_lowercase();
    let plain: String = lower.chars().filter(|c| !c.is_ascii_punctuation()).collect();
    let mut words = String::with_capacity(plain.len());
    // An article is a whole run of letters and digits: other punctuation than ASCII's bounds it too.
    for run in plain.split_inclusive(|c: char| !c.is_alphanumeric()) {
        let word = run.trim_end_matches(|c: char| !c.is_alphanumeric());
        if matches!(word, "a" | "an" | "the") {
            words.push(' ');
            words.push_str(&run[word.len()..]);
        } else {
            words.push_str(run);
        }
    }
    let is_space = |c: char| c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c);
    words.split(is_space).filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

/// Whether the answer is one of the right ones, both [normalised](normalise_answer): 1, else 0.
///
/// A question without a right answer is answered by the empty text.
pub fn exact_match<S: AsRef<str>>(predicted: &str, answers: &[S]) -> f64 {
    let predicted = normalise_answer(predicted);
    best(answers, |answer| f64::from(u8::from(answer == predicted)))
}

/// F1 of the words that the answer shares with a right one, both [normalised](normalise_answer); of several right ones,
/// the best counts.
///
/// A question without a right answer is answered by the empty text.
pub fn answer_f1<S: AsRef<str>>(predicted: &str, answers: &[S]) -> f64 {
    let predicted = normalise_answer(predicted);
    best(answers, |answer| word_f1(&predicted, answer))
}

/// The best score against one of the answers; answers of which nothing is left do not count beside others.
fn best<S: AsRef<str>>(answers: &[S], score: impl Fn(&str) -> f64) -> f64 {
    let normalised = answers.iter().map(|answer| normalise_answer(answer.as_ref()));
    let scores = normalised.filter(|answer| !answer.is_empty()).map(|answer| score(&answer));
    scores.reduce(f64::max).unwrap_or_else(|| score(""))
}

fn word_f1(predicted: &str, answer: &str) -> f64 {
    if predicted.is_empty() || answer.is_empty() {
        return f64::from(u8::from(predicted == answer));
    }
    let mut left: HashMap<&str, usize> = HashMap::new();
    for word in answer.split(' ') {
        *left.entry(word).or_default() += 1;
    }
    let mut shared = 0;
    for word in predicted.split(' ') {
        if let Some(count) = left.get_mut(word).filter(|count| **count > 0) {
            *count -= 1;
            shared += 1;
        }
    }
    let words = predicted.split(' ').count() + answer.split(' ').count();
    ratio(2.0 * f64::from(shared), words as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// transformers 4.44.0, `squad_metrics.normalize_answer`, which is SQuAD's.
    #[test]
    fn answers_are_normalised_as_squad_does() {
        for (answer, expected) in [
            ("The  Broncos'!", "broncos"),
            ("a An the", ""),
            ("“the” end", "“ ” end"),
            ("Theatre; an-other", "theatre another"),
            ("U.S.A.", "usa"),
            ("It's\ta_b", "its ab"),
            ("Ünë the—café", "ünë —café"),
            ("x\u{1c}y a1 the2", "x y a1 the2"),
        ] {
            assert_eq!(normalise_answer(answer), expected);
        }
    }

    /// `compute_exact(gold, predicted)` and `compute_f1` of the same file.
    #[test]
    fn scores_are_those_of_squad() {
        for (predicted, gold, exact, f1) in [
            ("the Denver Broncos", "Denver Broncos!", 1.0, 1.0),
            // 2 of 3 and 2 of 2 words.
            ("Broncos of Denver", "Denver Broncos", 0.0, 0.8),
            // A word counts as often as both have it.
            ("in the in", "in in in", 0.0, 0.8),
            ("San Jose Sharks", "Denver", 0.0, 0.0),
            ("the the cat", "cat", 1.0, 1.0),
            // Where nothing is left of a side, both must be empty.
            ("", "", 1.0, 1.0),
            ("x", "", 0.0, 0.0),
            ("", "x", 0.0, 0.0),
            ("a", "the", 1.0, 1.0),
        ] {
            assert_eq!(exact_match(predicted, &[gold]), exact, "{predicted:?}, {gold:?}");
            assert!((answer_f1(predicted, &[gold]) - f1).abs() < 1e-12, "{predicted:?}, {gold:?}");
        }
    }

    #[test]
    fn the_best_of_several_answers_counts() {
        let answers = ["the", "Denver", "Denver Broncos"];
        assert_eq!(exact_match("denver", &answers), 1.0);
        // Of "Denver" 1 of 3 and 1 of 1 words: 0.5; of the other 2 of 3 and 2 of 2: 0.8.
        assert!((answer_f1("Broncos of Denver", &answers) - 0.8).abs() < 1e-12);
        // "the" does not count beside the others, so that nothing is no answer.
        assert_eq!((exact_match("", &answers), answer_f1("", &answers)), (0.0, 0.0));
    }

    #[test]
    fn a_question_without_answer_is_answered_by_nothing() {
        let none: [&str; 0] = [];
        assert_eq!((exact_match("", &none), answer_f1("", &none)), (1.0, 1.0));
        assert_eq!((exact_match("x", &none), answer_f1("x", &none)), (0.0, 0.0));
    }
}
