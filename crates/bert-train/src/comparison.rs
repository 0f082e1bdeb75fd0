//! What a comparison of runs comes to, and how a person reads it.

use std::{fmt, path::PathBuf};

use serde::Serialize;

use crate::statistics::{SignTest, Summary, TTest};

/// Runs by what differs between them; its JSON is the closing line of `bert compare --json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// What is measured.
    pub metric: String,
    /// Whether less of it is better, as of a loss.
    pub is_error: bool,
    /// Runs that differ in nothing but the seed, in the order of their first ones.
    pub groups: Vec<Group>,
    /// Each group against each later one.
    pub pairs: Vec<Pair>,
    /// The share of right answers by length, from the shortest; empty where rows have no single label.
    pub lengths: Vec<LengthBucket>,
}

/// Runs that differ in nothing but the seed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Group {
    /// What sets them apart from the other groups, such as `pooling adaptive`.
    pub name: String,
    /// How their scores lie.
    #[serde(flatten)]
    pub summary: Summary,
    /// How many of them are no better than always answering the commonest label.
    pub not_above_majority: Option<usize>,
    /// Each run.
    pub runs: Vec<ComparedRun>,
}

/// A run in a comparison.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ComparedRun {
    /// Its directory.
    pub path: PathBuf,
    /// Its seed.
    pub seed: u64,
    /// Its score.
    pub value: f64,
}

/// Two groups, compared by the seeds that they have in common.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Pair {
    /// The name of one group.
    pub first: String,
    /// The name of the other.
    pub second: String,
    /// How many seeds both have.
    pub seeds: usize,
    /// The mean over seeds of the first's score less the second's.
    pub difference: Option<f64>,
    /// Whether that could be chance; `None` where too few seeds are there, or their differences do not vary.
    pub t_test: Option<TTest>,
    /// The rows of all seeds that only one of both answers rightly. The same row in several seeds is no new evidence, so
    /// that its `p` is too small where there are several.
    pub sign_test: Option<SignTest>,
    /// What the difference comes to, in one sentence.
    pub sentence: String,
}

/// The texts of like length.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LengthBucket {
    /// The fewest tokens.
    pub from: usize,
    /// The most tokens.
    pub to: usize,
    /// How many rows a run has of them, on average.
    pub rows: usize,
    /// The share of right answers of each group, over all of its runs.
    pub accuracies: Vec<Option<f64>>,
}

/// The chance below which a difference is called one.
const LEVEL: f64 = 0.05;

impl Pair {
    /// The groups of these names, whose scores differ by so much in each seed that both have.
    pub(crate) fn new(
        first: &str,
        second: &str,
        differences: &[f64],
        sign_test: Option<SignTest>,
        is_error: bool,
    ) -> Self {
        let difference = Summary::new(differences).map(|summary| summary.mean);
        let t_test = TTest::new(differences);
        let unit = Unit { is_error };
        let sentence = unit.sentence(short(first, second), differences.len(), difference, t_test);
        Self {
            first: first.to_owned(),
            second: second.to_owned(),
            seeds: differences.len(),
            difference,
            t_test,
            sign_test,
            sentence,
        }
    }
}

/// How scores are written: shares in hundredths, errors as they are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unit {
    pub(crate) is_error: bool,
}

impl Unit {
    fn sentence(
        self,
        (first, second): (&str, &str),
        seeds: usize,
        difference: Option<f64>,
        t_test: Option<TTest>,
    ) -> String {
        let Some(difference) = difference else {
            return format!(
                "{first} and {second} have no seed in common: train both with the same seeds to compare them"
            );
        };
        let (better, worse) =
            if (difference < 0.0) != self.is_error { (second, first) } else { (first, second) };
        let points = self.difference(difference.abs());
        let better_by = if self.is_error { "below" } else { "above" };
        match (t_test, seeds) {
            (Some(TTest { interval: [low, high], p }), _) if p < LEVEL => {
                let (low, high) = if difference < 0.0 { (-high, -low) } else { (low, high) };
                let (low, high) = (self.bound(low), self.bound(high));
                format!(
                    "{better} is better than {worse} by {points} (95 % interval {low} to {high}, {seeds} seeds)"
                )
            }
            (Some(TTest { p, .. }), _) => {
                let p = probability(p);
                format!(
                    "the difference between {better} and {worse}, {points}, is within noise ({p}, {seeds} seeds)"
                )
            }
            (None, _) if difference == 0.0 => {
                format!("{first} and {second} score the same with every seed in common ({seeds})")
            }
            (None, 1) => format!(
                "{better} is {points} {better_by} {worse}, but with one seed in common nothing says whether that is chance: train \
             more with --seeds"
            ),
            (None, _) => format!(
                "{better} is {points} {better_by} {worse} in each of {seeds} seeds, which leaves no spread to test against"
            ),
        }
    }

    /// A score in a table.
    pub(crate) fn value(self, value: f64) -> String {
        if self.is_error { format!("{value:.4}") } else { percent(value) }
    }

    /// A difference with its unit.
    fn difference(self, difference: f64) -> String {
        if self.is_error { format!("{difference:.4}") } else { points(difference) }
    }

    /// The bound of an interval of differences.
    fn bound(self, bound: f64) -> String {
        if self.is_error { format!("{bound:.4}") } else { points_of(bound) }
    }
}

impl Comparison {
    /// What is measured, with its unit.
    pub(crate) fn title(&self) -> String {
        match self.is_error {
            true => self.metric.clone(),
            false => format!("{} in %", self.metric),
        }
    }

    /// What the differences come to: a sentence a pair, and what to mind about them.
    pub(crate) fn sentences(&self) -> Vec<String> {
        let of_pair = |pair: &Pair| {
            let Some(SignTest { first, second, p }) = pair.sign_test else {
                return pair.sentence.clone();
            };
            let (one, other) = short(&pair.first, &pair.second);
            format!(
                "{}; rows that only {one} has right: {first}, only {other}: {second} ({})",
                pair.sentence,
                probability(p)
            )
        };
        let mut sentences: Vec<String> = self.pairs.iter().map(of_pair).collect();
        if self.pairs.iter().any(|pair| pair.sign_test.is_some() && pair.seeds > 1) {
            sentences.push(
                "the p of rows takes the same row for another one in every seed, and so is too small"
                    .to_owned(),
            );
        }
        if self.pairs.len() > 1 {
            let chance = 1.0 - (1.0 - LEVEL).powi(self.pairs.len() as i32);
            sentences.push(format!(
                "of {} comparisons without any difference, at least one would look like one with a chance of up to {:.0} %",
                self.pairs.len(),
                100.0 * chance
            ));
        }
        sentences
    }
}

/// As a person reads it: a table of the groups, one of lengths, and a sentence a pair.
impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.groups.iter().map(|group| group.name.as_str()).collect();
        let wide = names.iter().map(|name| name.chars().count()).max().unwrap_or(0).max(14);
        let unit = Unit { is_error: self.is_error };
        let title = self.title();
        writeln!(
            f,
            "{title:wide$} {:>4} {:>7} {:>7} {:>7} {:>7} {:>7}",
            "runs", "mean", "sd", "median", "min", "max"
        )?;
        for group in &self.groups {
            let Summary { n, mean, sd, median, min, max } = group.summary;
            let sd = sd.map_or("-".to_owned(), |sd| unit.value(sd));
            let [mean, median, min, max] = [mean, median, min, max].map(|value| unit.value(value));
            writeln!(
                f,
                "{:wide$} {n:>4} {mean:>7} {sd:>7} {median:>7} {min:>7} {max:>7}",
                group.name
            )?;
        }
        for group in &self.groups {
            if let Some(failed @ 1..) = group.not_above_majority {
                let (name, n) = (&group.name, group.summary.n);
                writeln!(f, "{failed} of {n} of {name} did not beat the commonest label")?;
            }
        }
        if self.lengths.len() > 1 {
            writeln!(f, "\naccuracy in % by length in tokens")?;
            write!(f, "{:wide$}", "tokens")?;
            for bucket in &self.lengths {
                write!(f, " {:>9}", format!("{}-{}", bucket.from, bucket.to))?;
            }
            write!(f, "\n{:wide$}", "rows")?;
            for bucket in &self.lengths {
                write!(f, " {:>9}", bucket.rows)?;
            }
            for (i, name) in names.iter().enumerate() {
                write!(f, "\n{name:wide$}")?;
                for bucket in &self.lengths {
                    write!(f, " {:>9}", bucket.accuracies[i].map_or("-".to_owned(), percent))?;
                }
            }
            writeln!(f)?;
        }
        if !self.pairs.is_empty() {
            writeln!(f)?;
        }
        self.sentences().iter().try_for_each(|sentence| writeln!(f, "{sentence}"))
    }
}

/// The names of two groups in a sentence: a word alone where it says enough.
fn short<'a>(first: &'a str, second: &'a str) -> (&'a str, &'a str) {
    let word = |name: &'a str| {
        let (_, value) = name.split_once(' ')?;
        let is_word = value.starts_with(char::is_alphabetic) && !value.contains(' ');
        (is_word && !["true", "false"].contains(&value)).then_some(value)
    };
    match (word(first), word(second)) {
        (Some(one), Some(other)) if !first.starts_with("no ") && !second.starts_with("no ") => {
            (one, other)
        }
        _ => (first, second),
    }
}

fn percent(fraction: f64) -> String {
    format!("{:.2}", 100.0 * fraction)
}

/// A difference of fractions in points of a hundred, without a sign of its own on zero.
fn points_of(difference: f64) -> String {
    let points = 100.0 * difference;
    let digits = if points.abs() < 0.095 { 2 } else { 1 };
    let text = format!("{points:.digits$}");
    if text.trim_start_matches('-').chars().all(|c| c == '0' || c == '.') {
        return "0".to_owned();
    }
    text
}

fn points(difference: f64) -> String {
    match points_of(difference).as_str() {
        "1.0" => "1.0 point".to_owned(),
        points => format!("{points} points"),
    }
}

fn probability(p: f64) -> String {
    match p {
        p if p < 0.001 => "p < 0.001".to_owned(),
        p if p < 0.1 => format!("p = {p:.3}"),
        p => format!("p = {p:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(names: [&str; 2], differences: &[f64]) -> String {
        Pair::new(names[0], names[1], differences, None, false).sentence
    }

    /// As below, of a loss: less is better, and a loss is no share.
    #[test]
    fn a_loss_is_better_where_it_is_lower() {
        let [mean, adaptive] = POOLINGS;
        let said = |names: [&str; 2], differences: &[f64]| {
            Pair::new(names[0], names[1], differences, None, true).sentence
        };
        let sentence =
            "mean is better than adaptive by 0.0080 (95 % interval 0.0030 to 0.0130, 3 seeds)";
        assert_eq!(said([mean, adaptive], &[-0.006, -0.008, -0.01]), sentence);
        assert_eq!(said([adaptive, mean], &[0.006, 0.008, 0.01]), sentence);
        let one = said([mean, adaptive], &[-0.5]);
        assert!(one.starts_with("mean is 0.5000 below adaptive, but with one seed"), "{one}");
    }

    const POOLINGS: [&str; 2] = ["pooling mean", "pooling adaptive"];

    /// Mean 0.008, sd 0.002 over three: 0.008 -+ 4.3027 * 0.002 / sqrt(3) is 0.00303 to 0.01297.
    #[test]
    fn a_difference_is_said_from_its_better_side() {
        let sentence =
            "adaptive is better than mean by 0.8 points (95 % interval 0.3 to 1.3, 3 seeds)";
        assert_eq!(said(POOLINGS, &[-0.006, -0.008, -0.01]), sentence);
        let [mean, adaptive] = POOLINGS;
        assert_eq!(said([adaptive, mean], &[0.006, 0.008, 0.01]), sentence);
    }

    /// Mean 0.002, sd 0.004 over four: t = 1 with 3 degrees of freedom, p = 0.391.
    #[test]
    fn noise_is_called_noise() {
        let sd = 0.004 * 0.75f64.sqrt();
        let differences = [0.002 + sd, 0.002 - sd, 0.002 + sd, 0.002 - sd];
        assert_eq!(
            said(POOLINGS, &differences),
            "the difference between mean and adaptive, 0.2 points, is within noise (p = 0.39, 4 seeds)"
        );
    }

    #[test]
    fn what_cannot_be_tested_is_said() {
        assert_eq!(
            said(POOLINGS, &[]),
            "mean and adaptive have no seed in common: train both with the same seeds to compare them"
        );
        assert_eq!(
            said(POOLINGS, &[0.0, 0.0]),
            "mean and adaptive score the same with every seed in common (2)"
        );
        assert_eq!(
            said(POOLINGS, &[0.01]),
            "mean is 1.0 point above adaptive, but with one seed in common nothing says whether that is chance: train more \
             with --seeds"
        );
        assert_eq!(
            said(POOLINGS, &[-0.02, -0.02]),
            "adaptive is 2.0 points above mean in each of 2 seeds, which leaves no spread to test against"
        );
    }

    #[test]
    fn names_are_short_where_a_word_says_enough() {
        assert_eq!(short("pooling mean", "pooling max"), ("mean", "max"));
        for (one, other) in [
            ("lr 0.001", "lr 0.01"),
            ("no task_embedding", "task_embedding full"),
            ("pooling mean, lr 0.1", "pooling max, lr 0.1"),
            ("layer_mixture true", "no layer_mixture"),
        ] {
            assert_eq!(short(one, other), (one, other));
        }
    }

    #[test]
    fn points_keep_the_digits_that_count() {
        let texts = [0.008, 0.01, 0.0004, -0.0123, -0.00001, 0.25].map(points);
        assert_eq!(
            texts,
            ["0.8 points", "1.0 point", "0.04 points", "-1.2 points", "0 points", "25.0 points"]
        );
        let texts = [0.41234, 0.0412, 0.00041].map(probability);
        assert_eq!(texts, ["p = 0.41", "p = 0.041", "p < 0.001"]);
    }
}
