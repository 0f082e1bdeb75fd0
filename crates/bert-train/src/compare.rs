//! Runs against runs: which settings are better, and by more than chance.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use toml::Value;

use crate::{
    comparison::{ComparedRun, Comparison, Group, LengthBucket, Pair},
    error::{Error, Result},
    finished_run::{
        AnsweredRow, RowAnswer, Score, ScoreChoice, answered_rows, run_score, run_settings,
    },
    metrics::is_error,
    statistics::{SignTest, Summary},
};

/// How a run's model is scored.
#[derive(Clone, Copy)]
pub enum Scoring<'a> {
    /// On the dev rows of its run.
    Dev(&'a ScoreChoice),
    /// In another way, such as on other data, by the run's directory.
    Model(&'a dyn Fn(&Path) -> Result<Score>),
}

/// Compares finished runs; runs that differ in nothing but the seed are one group.
///
/// # Errors
/// [`Error::FewRuns`] for fewer than two; where a directory holds no run or one that has not come to its end; where two
/// runs are the same but for their directories, or were measured on different rows or by different scores.
pub fn compare(runs: &[PathBuf], scoring: Scoring<'_>) -> Result<Comparison> {
    if runs.len() < 2 {
        return Err(Error::FewRuns { got: runs.len() });
    }
    compare_runs(runs, scoring)
}

/// Keys that change nothing of what is compared.
const FREE: [&str; 5] =
    ["checkpoint_every", "keep_checkpoints", "tensorboard", "recompute", "baselines"];

/// [`compare`], which may be of one run.
pub(crate) fn compare_runs(runs: &[PathBuf], scoring: Scoring<'_>) -> Result<Comparison> {
    let runs: Vec<Run> = runs
        .iter()
        .map(|path| {
            let mut settings = BTreeMap::new();
            flatten("", run_settings(path)?, &mut settings);
            FREE.iter().for_each(|key| drop(settings.remove(*key)));
            let seed = settings.remove("seed").and_then(|seed| seed.parse().ok()).unwrap_or(0);
            let (score, measured) = match scoring {
                Scoring::Dev(choice) => {
                    let score = run_score(path, choice)?;
                    let mut rows = answered_rows(path)?;
                    rows.retain(|row| choice.task.is_none() || row.task == choice.task);
                    let holds_out = |task: &Option<String>| match task {
                        None => !settings.contains_key("dev"),
                        Some(task) => !settings.contains_key(&format!("task.{task}.dev")),
                    };
                    (score, measured(&rows, |task| holds_out(task).then_some(seed)))
                }
                Scoring::Model(score) => {
                    let score = score(path)?;
                    let measured = measured(&score.rows, |_| None);
                    (score, measured)
                }
            };
            Ok(Run { path: path.clone(), settings, seed, measured, score })
        })
        .collect::<Result<_>>()?;
    check_rows(&runs)?;
    let groups = groups(&runs)?;
    let metric = runs[0].score.metric.clone();
    let is_error = is_error(&metric);
    let pairs = (0..groups.len())
        .flat_map(|first| (first + 1..groups.len()).map(move |second| (first, second)))
        .map(|(first, second)| pair(&groups[first], &groups[second], is_error))
        .collect();
    Ok(Comparison {
        metric,
        is_error,
        lengths: lengths(&groups),
        pairs,
        groups: groups.iter().map(group).collect(),
    })
}

/// A run with all that it is compared by.
struct Run {
    path: PathBuf,
    /// All that was set but the seed, as text.
    settings: BTreeMap<String, String>,
    seed: u64,
    /// What it was measured on, by the task where there are several.
    measured: BTreeMap<Option<String>, Measured>,
    score: Score,
}

/// The rows that a model was measured on, each with its truth.
#[derive(PartialEq)]
struct Measured {
    /// The seed, where it decided which rows were held out.
    held_out: Option<u64>,
    rows: Vec<(usize, RowAnswer)>,
}

/// The rows by task, which were held out by `seed_of` it.
fn measured(
    rows: &[AnsweredRow],
    seed_of: impl Fn(&Option<String>) -> Option<u64>,
) -> BTreeMap<Option<String>, Measured> {
    let mut measured: BTreeMap<Option<String>, Measured> = BTreeMap::new();
    for row in rows {
        let of_task = || Measured { held_out: seed_of(&row.task), rows: vec![] };
        let own = measured.entry(row.task.clone()).or_insert_with(of_task);
        own.rows.push((row.row, row.gold.clone()));
    }
    measured
}

/// Runs that differ in nothing but the seed.
struct Seeds<'a> {
    name: String,
    runs: Vec<&'a Run>,
}

/// The values of a table under dotted keys.
fn flatten(prefix: &str, table: toml::Table, into: &mut BTreeMap<String, String>) {
    for (key, value) in table {
        let key = format!("{prefix}{key}");
        match value {
            Value::Table(table) => flatten(&format!("{key}."), table, into),
            Value::String(text) => drop(into.insert(key, text)),
            other => drop(into.insert(key, other.to_string())),
        }
    }
}

/// Refuses runs that were not measured on the same rows; where rows were held out, those of one seed.
fn check_rows(runs: &[Run]) -> Result<()> {
    for run in runs {
        let metrics = [runs[0].score.metric.clone(), run.score.metric.clone()];
        if metrics[0] != metrics[1] {
            let (first, second) = (runs[0].path.clone(), run.path.clone());
            return Err(Error::DifferentScores { first, second, metrics });
        }
        let tasks: BTreeSet<_> = runs[0].measured.keys().chain(run.measured.keys()).collect();
        for task in tasks {
            let of = |run: &'_ Run| run.measured.get(task).map(|own| own.held_out);
            let is_held_out = |run: &Run| of(run).flatten().is_some();
            // Which rows another seed holds out says nothing.
            let first = match is_held_out(&runs[0]) && is_held_out(run) {
                true => runs.iter().find(|other| of(other) == of(run)).unwrap_or(run),
                false => &runs[0],
            };
            if first.measured.get(task) != run.measured.get(task) {
                return Err(Error::DevRows { first: first.path.clone(), second: run.path.clone() });
            }
        }
    }
    Ok(())
}

/// The runs by what differs between them, in the order of their first ones.
fn groups(runs: &[Run]) -> Result<Vec<Seeds<'_>>> {
    let keys: BTreeSet<&String> = runs.iter().flat_map(|run| run.settings.keys()).collect();
    let differing: Vec<&String> = keys
        .into_iter()
        .filter(|key| runs.iter().any(|run| run.settings.get(*key) != runs[0].settings.get(*key)))
        .collect();
    let name = |run: &Run| match &differing[..] {
        [] => "all runs".to_owned(),
        keys => {
            let parts = keys.iter().map(|key| match run.settings.get(*key) {
                Some(value) => format!("{key} {value}"),
                None => format!("no {key}"),
            });
            parts.collect::<Vec<_>>().join(", ")
        }
    };
    let mut groups: Vec<Seeds<'_>> = vec![];
    for run in runs {
        let name = name(run);
        match groups.iter_mut().find(|group| group.name == name) {
            None => groups.push(Seeds { name, runs: vec![run] }),
            Some(group) => {
                if let Some(same) = group.runs.iter().find(|other| other.seed == run.seed) {
                    return Err(Error::SameRun {
                        first: same.path.clone(),
                        second: run.path.clone(),
                        seed: run.seed,
                    });
                }
                group.runs.push(run);
            }
        }
    }
    Ok(groups)
}

fn group(seeds: &Seeds<'_>) -> Group {
    let values: Vec<f64> = seeds.runs.iter().map(|run| run.score.value).collect();
    let is_above = |run: &&Run| Some(run.score.accuracy()? > run.score.majority()?);
    let is_above: Option<Vec<bool>> = seeds.runs.iter().map(is_above).collect();
    let not_above = is_above.map(|above| above.into_iter().filter(|above| !above).count());
    Group {
        name: seeds.name.clone(),
        summary: Summary::new(&values).expect("a group has a run"), // INVARIANT: groups are made around one
        not_above_majority: not_above,
        runs: seeds
            .runs
            .iter()
            .map(|run| ComparedRun {
                path: run.path.clone(),
                seed: run.seed,
                value: run.score.value,
            })
            .collect(),
    }
}

/// Two groups, seed by seed.
fn pair(first: &Seeds<'_>, second: &Seeds<'_>, is_error: bool) -> Pair {
    let other = |run: &Run| second.runs.iter().find(|other| other.seed == run.seed);
    let pairs: Vec<(&Score, &Score)> =
        first.runs.iter().filter_map(|run| Some((&run.score, &other(run)?.score))).collect();
    let differences: Vec<f64> = pairs.iter().map(|(one, other)| one.value - other.value).collect();
    let has_labels = pairs.iter().all(|(one, _)| one.majority().is_some());
    let sign_test = (has_labels && !pairs.is_empty()).then(|| {
        let rows = pairs.iter().flat_map(|(one, other)| one.rows.iter().zip(&other.rows));
        let alone = |one: bool| {
            let is = |(first, second): &(&AnsweredRow, &AnsweredRow)| {
                first.is_right() == one && second.is_right() != one
            };
            rows.clone().filter(is).count() as u64
        };
        SignTest::new(alone(true), alone(false))
    });
    Pair::new(&first.name, &second.name, &differences, sign_test, is_error)
}

/// How many lengths there are, about the same number of rows in each.
const BUCKETS: usize = 4;

/// The share of right answers by the length of the text; empty where rows have no single label.
fn lengths(groups: &[Seeds<'_>]) -> Vec<LengthBucket> {
    let runs = || groups.iter().flat_map(|group| &group.runs);
    if runs().any(|run| run.score.majority().is_none()) {
        return vec![];
    }
    let mut tokens: Vec<usize> =
        runs().flat_map(|run| &run.score.rows).map(|row| row.tokens).collect();
    tokens.sort_unstable();
    // The longest of each quarter; quarters that end alike are one.
    let mut ends: Vec<usize> =
        (1..=BUCKETS).map(|part| tokens[(tokens.len() * part).div_ceil(BUCKETS) - 1]).collect();
    ends.dedup();
    let mut from = tokens[0];
    let number_of_runs = runs().count();
    ends.into_iter()
        .map(|to| {
            let is_in = |row: &&AnsweredRow| (from..=to).contains(&row.tokens);
            let rows = tokens.iter().filter(|tokens| (from..=to).contains(tokens)).count();
            let accuracy = |group: &Seeds<'_>| {
                let rows = group.runs.iter().flat_map(|run| &run.score.rows).filter(is_in);
                let (right, all) = rows.fold((0, 0), |(right, all), row| {
                    (right + usize::from(row.is_right()), all + 1)
                });
                (all > 0).then(|| right as f64 / all as f64)
            };
            let accuracies = groups.iter().map(accuracy).collect();
            let bucket = LengthBucket { from, to, rows: rows / number_of_runs, accuracies };
            from = to + 1;
            bucket
        })
        .collect()
}
