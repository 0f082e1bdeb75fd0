//! What a model said of its dev rows: where it is right, and what it takes for what.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    finished_run::{AnsweredRow, RowAnswer},
    html::{escaped, shown},
    metrics::{ClassScores, class_scores, confusion_matrix, label_scores, span_scores},
    report::{
        calibration::Calibration,
        chart::{Chart, Line, Style, bars},
        page::{Columns, table},
    },
};

/// Up to so many labels, what is taken for what is a matrix.
const MOST_OF_MATRIX: usize = 20;

/// The longest lists.
const MOST_ROWS: usize = 25;

/// The characters of a text, of a word and of a label that are shown.
const MOST_OF_TEXT: usize = 400;
const MOST_OF_WORD: usize = 40;

/// The words of a sentence that are shown.
const MOST_WORDS: usize = 60;

/// Every table and drawing that these rows give, which are of one task.
pub(crate) fn of_answers(rows: &[&AnsweredRow]) -> String {
    if let Some(labels) = all(rows, RowAnswer::label) {
        return of_labels(rows, &labels);
    }
    if let Some(tags) = all(rows, RowAnswer::tags) {
        return of_tags(rows, &tags);
    }
    if let Some(numbers) = all(rows, RowAnswer::number) {
        return of_numbers(rows, &numbers);
    }
    if let Some(sets) = all(rows, RowAnswer::labels) {
        return of_label_sets(rows, &sets);
    }
    of_parts(rows)
}

/// The truth and the answer of each row, where all are of one kind.
fn all<'a, T>(
    rows: &[&'a AnsweredRow],
    of: impl Fn(&'a RowAnswer) -> Option<T>,
) -> Option<Vec<(T, T)>> {
    rows.iter().map(|row| Some((of(&row.gold)?, of(&row.predicted)?))).collect()
}

fn of_labels(rows: &[&AnsweredRow], labels: &[(&str, &str)]) -> String {
    let names: BTreeSet<&str> =
        labels.iter().flat_map(|(gold, predicted)| [*gold, *predicted]).collect();
    let names: Vec<&str> = names.into_iter().collect();
    let id = |label: &str| names.partition_point(|name| *name < label) as u32;
    let (gold, predicted): (Vec<u32>, Vec<u32>) =
        labels.iter().map(|(gold, predicted)| (id(gold), id(predicted))).unzip();
    let scores = class_scores(&gold, &predicted, names.len());
    let mut html = score_table(["label", "rows"], names.iter().copied().zip(scores));
    let is_matrix = names.len() <= MOST_OF_MATRIX;
    if is_matrix {
        html += &matrix(&names, &confusion_matrix(&gold, &predicted, names.len()));
    } else {
        html += &confusions(labels.iter().copied());
    }
    let probabilities: Option<Vec<(f64, bool)>> =
        rows.iter().map(|row| Some((row.probability?, row.is_right()))).collect();
    if let Some(answers) = probabilities {
        let calibration = Calibration::new(answers.into_iter());
        html += &format!(
            "<h3>Calibration</h3><p>Rows by the probability of their answer: in a calibrated model, answers with a probability of \
             0.8 are right in 8 of 10 rows. Expected calibration error {:.4}.</p><div class=\"charts\">{}</div>",
            calibration.expected_error(),
            calibration.diagram()
        );
    }
    let mut wrong: Vec<&&AnsweredRow> = rows.iter().filter(|row| !row.is_right()).collect();
    wrong.sort_by(|a, b| b.probability.unwrap_or(0.0).total_cmp(&a.probability.unwrap_or(0.0)));
    let lines: Vec<Vec<String>> = wrong
        .iter()
        .take(MOST_ROWS)
        .map(|row| {
            let probability =
                row.probability.map_or(String::new(), |p| format!("{:.1} %", 100.0 * p));
            vec![
                row.row.to_string(),
                probability,
                label(&row.predicted),
                label(&row.gold),
                text(row),
            ]
        })
        .collect();
    html + &worst(
        "Most confident wrong answers",
        wrong.len(),
        rows.len(),
        &["line", "probability", "answer", "truth", "text"],
        &lines,
    )
}

fn of_tags(rows: &[&AnsweredRow], tags: &[(Vec<&str>, Vec<&str>)]) -> String {
    let (gold, predicted): (Vec<Vec<&str>>, Vec<Vec<&str>>) = tags.iter().cloned().unzip();
    let mut html = score_table(["type", "spans"], span_scores(&gold, &predicted));
    let words = tags
        .iter()
        .flat_map(|(gold, predicted)| gold.iter().copied().zip(predicted.iter().copied()));
    html += &confusions(words);
    let wrong_words = |row: usize| {
        let (gold, predicted) = &tags[row];
        gold.iter().zip(predicted).filter(|(gold, predicted)| gold != predicted).count()
    };
    let mut wrong: Vec<(usize, usize)> = (0..rows.len())
        .map(|row| (wrong_words(row), row))
        .filter(|(words, _)| *words > 0)
        .collect();
    wrong.sort_by_key(|(words, row)| (usize::MAX - words, *row));
    let lines: Vec<Vec<String>> = wrong
        .iter()
        .take(MOST_ROWS)
        .map(|(words, row)| {
            let (gold, predicted) = &tags[*row];
            vec![
                rows[*row].row.to_string(),
                words.to_string(),
                sentence(&rows[*row].text, gold, predicted),
            ]
        })
        .collect();
    html + &worst(
        "Worst sentences",
        wrong.len(),
        rows.len(),
        &["line", "wrong words", "words, and the answer in place of the truth"],
        &lines,
    )
}

fn of_numbers(rows: &[&AnsweredRow], numbers: &[(f64, f64)]) -> String {
    let chart = Chart {
        title: "Answer by truth".into(),
        axis: "truth",
        lines: vec![Line {
            name: None,
            points: every(numbers, 2000),
            colour: 0,
            style: Style::Points,
        }],
        level: None,
    };
    let mut html = format!("<div class=\"charts\">{}</div>", chart.to_html());
    let mut order: Vec<usize> = (0..rows.len()).collect();
    let off = |row: usize| (numbers[row].0 - numbers[row].1).abs();
    order.sort_by(|a, b| off(*b).total_cmp(&off(*a)));
    let lines: Vec<Vec<String>> = order
        .iter()
        .take(MOST_ROWS)
        .map(|row| {
            let (truth, answer) = numbers[*row];
            vec![
                rows[*row].row.to_string(),
                format!("{answer:.3}"),
                format!("{truth:.3}"),
                text(rows[*row]),
            ]
        })
        .collect();
    html += "<h3>Answers that are furthest off</h3>";
    html + &table(Columns::Texts, &["line", "answer", "truth", "text"], &lines)
}

fn of_label_sets(rows: &[&AnsweredRow], sets: &[(Vec<&str>, Vec<&str>)]) -> String {
    let names: BTreeSet<&str> =
        sets.iter().flat_map(|(gold, predicted)| gold.iter().chain(predicted)).copied().collect();
    let flags =
        |labels: &Vec<&str>| names.iter().map(|name| labels.contains(name)).collect::<Vec<bool>>();
    let (gold, predicted): (Vec<Vec<bool>>, Vec<Vec<bool>>) =
        sets.iter().map(|(gold, predicted)| (flags(gold), flags(predicted))).unzip();
    let html =
        score_table(["label", "rows"], names.iter().copied().zip(label_scores(&gold, &predicted)));
    let off = |row: usize| {
        gold[row].iter().zip(&predicted[row]).filter(|(gold, predicted)| gold != predicted).count()
    };
    let mut wrong: Vec<usize> = (0..rows.len()).filter(|row| off(*row) > 0).collect();
    wrong.sort_by_key(|row| (usize::MAX - off(*row), *row));
    let lines: Vec<Vec<String>> = wrong
        .iter()
        .take(MOST_ROWS)
        .map(|row| {
            vec![
                rows[*row].row.to_string(),
                label(&rows[*row].predicted),
                label(&rows[*row].gold),
                text(rows[*row]),
            ]
        })
        .collect();
    html + &worst(
        "Most wrong labels",
        wrong.len(),
        rows.len(),
        &["line", "answer", "truth", "text"],
        &lines,
    )
}

fn of_parts(rows: &[&AnsweredRow]) -> String {
    let wrong: Vec<&&AnsweredRow> = rows.iter().filter(|row| !row.is_right()).collect();
    let line = |row: &&&AnsweredRow| {
        vec![row.row.to_string(), label(&row.predicted), label(&row.gold), text(row)]
    };
    let lines: Vec<Vec<String>> = wrong.iter().take(MOST_ROWS).map(line).collect();
    worst("Wrong answers", wrong.len(), rows.len(), &["row", "answer", "truth", "text"], &lines)
}

/// Precision, recall and F1 of each label that occurs; `counted` are what occurs.
fn score_table<'a>(
    [name, counted]: [&str; 2],
    scores: impl IntoIterator<Item = (&'a str, ClassScores)>,
) -> String {
    let row = |(name, scores): (&str, ClassScores)| {
        let ClassScores { precision, recall, f1, support } = scores;
        let numbers = [precision, recall, f1].map(|score| format!("{score:.4}"));
        [vec![shown(name, MOST_OF_WORD)], numbers.to_vec(), vec![support.to_string()]].concat()
    };
    let rows: Vec<Vec<String>> = scores.into_iter().map(row).collect();
    format!("<h3>Scores by {name}</h3>")
        + &table(Columns::Numbers, &[name, "precision", "recall", "F1", counted], &rows)
}

/// How many rows of each label are answered with each; the darker, the greater its share of the row.
fn matrix(names: &[&str], counts: &[Vec<usize>]) -> String {
    let names: Vec<String> =
        names.iter().map(|name| crate::html::shortened(name, MOST_OF_WORD)).collect();
    let head: Vec<&str> =
        std::iter::once("truth").chain(names.iter().map(String::as_str)).collect();
    let rows: Vec<Vec<String>> = names
        .iter()
        .zip(counts)
        .map(|(name, counts)| {
            let all: usize = counts.iter().sum::<usize>().max(1);
            let cell = |count: &usize| {
                let share = *count as f64 / all as f64;
                format!("<td class=\"cell\" style=\"--w:{share:.2}\">{count}</td>")
            };
            std::iter::once(shown(name, MOST_OF_WORD)).chain(counts.iter().map(cell)).collect()
        })
        .collect();
    "<h3>Answers by truth</h3>".to_owned() + &table(Columns::Numbers, &head, &rows)
}

/// What is most often taken for something else.
fn confusions<'a>(answers: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for (gold, predicted) in answers.filter(|(gold, predicted)| gold != predicted) {
        *counts.entry((gold, predicted)).or_default() += 1;
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|(_, count)| usize::MAX - count);
    let row = |((gold, predicted), count): &((&str, &str), usize)| {
        vec![shown(gold, MOST_OF_WORD), shown(predicted, MOST_OF_WORD), count.to_string()]
    };
    let rows: Vec<Vec<String>> = counts.iter().take(MOST_ROWS).map(row).collect();
    if rows.is_empty() {
        return String::new();
    }
    "<h3>What is taken for what</h3>".to_owned()
        + &table(Columns::Words, &["truth", "answer", "times"], &rows)
}

/// A list of wrong rows, from the worst.
fn worst(title: &str, wrong: usize, rows: usize, head: &[&str], lines: &[Vec<String>]) -> String {
    let shown = if wrong > lines.len() {
        format!(", the first {} here", lines.len())
    } else {
        String::new()
    };
    format!("<h3>{title}</h3><p>{wrong} of {rows} rows are wrong{shown}.</p>")
        + &table(Columns::Texts, head, lines)
}

/// How many tokens rows have: of each set of rows, the share that lies in each part.
pub(crate) fn lengths(title: &str, sets: &[(&str, &BTreeMap<usize, usize>)]) -> String {
    let tokens = || sets.iter().flat_map(|(_, lengths)| lengths.keys().copied());
    let (Some(least), Some(most)) = (tokens().min(), tokens().max()) else { return String::new() };
    let all = (most - least).saturating_add(1);
    let width = all.div_ceil(24);
    let parts = all.div_ceil(width);
    let edges: Vec<f64> = (0..=parts).map(|part| least as f64 + (part * width) as f64).collect();
    let share = |lengths: &BTreeMap<usize, usize>| {
        let all: f64 = lengths.values().map(|rows| *rows as f64).sum();
        let mut heights = vec![0.0; parts];
        for (tokens, rows) in lengths {
            heights[(tokens - least) / width] += *rows as f64 / all;
        }
        heights
    };
    let series: Vec<(&str, Vec<f64>)> = sets
        .iter()
        .filter(|(_, lengths)| !lengths.is_empty())
        .map(|(name, lengths)| (*name, share(lengths)))
        .collect();
    bars(title, "tokens", &edges, &series)
}

/// What is read or answered, shortened.
fn text(row: &AnsweredRow) -> String {
    row.text.iter().map(|text| format!("<div>{}</div>", shown(text, MOST_OF_TEXT))).collect()
}

fn label(answer: &RowAnswer) -> String {
    match answer {
        RowAnswer::Label(label) => shown(label, MOST_OF_WORD),
        RowAnswer::Number(number) => number.to_string(),
        RowAnswer::Tags(labels) | RowAnswer::Labels { labels } => match labels.is_empty() {
            true => "none".to_owned(),
            false => shown(&labels.join(", "), MOST_OF_TEXT),
        },
        RowAnswer::Parts { parts } => match parts.first() {
            None => "none".to_owned(),
            Some(part) => shown(part, MOST_OF_TEXT),
        },
    }
}

/// Words, those with a wrong tag marked, from a little before the first of these.
fn sentence(words: &[String], gold: &[&str], predicted: &[&str]) -> String {
    let is_wrong = |place: &usize| gold[*place] != predicted[*place];
    let first = (0..gold.len()).find(is_wrong).unwrap_or(0).saturating_sub(MOST_WORDS / 6);
    let last = (first + MOST_WORDS).min(gold.len());
    let word = |place: usize| {
        let word = words.get(place).map_or("?", String::as_str);
        let word = shown(word, MOST_OF_WORD);
        match is_wrong(&place) {
            true => format!(
                "<mark>{word} <small>{} for {}</small></mark>",
                escaped(predicted[place]),
                escaped(gold[place])
            ),
            false => word,
        }
    };
    let shown: Vec<String> = (first..last).map(word).collect();
    let (before, after) = (
        if first > 0 { "\u{2026} " } else { "" },
        if last < gold.len() { " \u{2026}" } else { "" },
    );
    format!("{before}{}{after}", shown.join(" "))
}

/// At most `most` of the points, spread evenly.
fn every(points: &[(f64, f64)], most: usize) -> Vec<(f64, f64)> {
    let step = points.len().div_ceil(most).max(1);
    points.iter().copied().step_by(step).collect()
}
