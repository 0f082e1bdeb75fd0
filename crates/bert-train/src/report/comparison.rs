//! Several runs on one page: their curves over each other, and what is said of them.

use std::path::Path;

use bert_core::write_atomically;

use crate::{
    comparison::{ComparedRun, Comparison, Group, Unit},
    error::Result,
    html::escaped,
    metrics::Metrics,
    report::{
        chart::{Chart, Line, Style, smoothed},
        curves::line,
        log::Log,
        page::{Columns, Page, table},
        read_log,
    },
    statistics::Summary,
};

/// Writes the page of a comparison of runs.
///
/// # Errors
/// Where the log of a run is damaged, or the page can't be written.
pub fn write_comparison(comparison: &Comparison, to: &Path) -> Result<()> {
    let mut logs = vec![];
    for group in &comparison.groups {
        for run in &group.runs {
            logs.push((group, read_log(&run.path)?));
        }
    }
    write_atomically(to, page(comparison, &logs).to_html().as_bytes())?;
    Ok(())
}

fn page(comparison: &Comparison, logs: &[(&Group, Log)]) -> Page {
    let runs = logs.len();
    let groups = comparison.groups.len();
    let top = format!(
        "<p>{runs} runs, of which those that differ in nothing but the seed are one of {groups} groups, by {} on dev rows or on \
         the data that was given.</p>",
        escaped(&comparison.metric)
    );
    let mut page = Page::new("Runs compared", top);
    page.add("Scores", scores(comparison));
    page.add("What that says", sentences(comparison));
    page.add("Curves", curves(comparison, logs));
    page.add("By length", lengths(comparison));
    page.add("Runs", all_runs(comparison));
    page
}

fn scores(comparison: &Comparison) -> String {
    let unit = Unit { is_error: comparison.is_error };
    let row = |group: &Group| {
        let Summary { n, mean, sd, median, min, max } = group.summary;
        let sd = sd.map_or("-".to_owned(), |sd| unit.value(sd));
        let mut row = vec![escaped(&group.name), n.to_string(), unit.value(mean), sd];
        row.extend([median, min, max].map(|value| unit.value(value)));
        row
    };
    let rows: Vec<Vec<String>> = comparison.groups.iter().map(row).collect();
    let title = comparison.title();
    let head = [title.as_str(), "runs", "mean", "sd", "median", "min", "max"];
    table(Columns::Numbers, &head, &rows)
}

fn sentences(comparison: &Comparison) -> String {
    let each = comparison.sentences().into_iter();
    each.map(|sentence| format!("<p>{}.</p>\n", escaped(&sentence))).collect()
}

fn curves(comparison: &Comparison, logs: &[(&Group, Log)]) -> String {
    let of = |title: &str, points: &dyn Fn(&Log) -> Vec<(f64, f64)>, style| {
        let mut lines: Vec<Line> = vec![];
        for (group, log) in logs {
            let colour = comparison.groups.iter().position(|own| own.name == group.name);
            let colour = colour.unwrap_or(0);
            // The key has each group once.
            let name = Some(group.name.as_str());
            let is_named = lines.iter().any(|line| line.name.as_deref() == name);
            let name = name.filter(|_| !is_named);
            lines.push(line(name, points(log), colour, style));
        }
        Chart { title: title.into(), axis: "step", lines, level: None }.to_html()
    };
    let loss = |log: &Log| smoothed(&log.by_step(|step| Some(step.loss)));
    let dev_loss = |log: &Log| log.by_evaluation(|dev| Some(dev.loss()));
    let score = |log: &Log| log.by_evaluation(|dev| Some(dev.main()));
    let first = logs.iter().find_map(|(_, log)| log.evaluations.first());
    let name = match first.map(|first| &first.dev) {
        Some(Metrics::Tasks(_)) | None => "Mean score on dev".to_owned(),
        Some(dev) => format!("{} on dev", dev.main_name().replace('_', " ")),
    };
    let charts = of("Training loss, mean of the latest steps", &loss, Style::Plain)
        + &of(&name, &score, Style::Dots)
        + &of("Loss on dev", &dev_loss, Style::Dots);
    if charts.is_empty() { charts } else { format!("<div class=\"charts\">{charts}</div>\n") }
}

fn lengths(comparison: &Comparison) -> String {
    if comparison.lengths.len() < 2 {
        return String::new();
    }
    let buckets = || comparison.lengths.iter();
    let head: Vec<String> = std::iter::once("accuracy in %".to_owned())
        .chain(buckets().map(|bucket| format!("{} to {} tokens", bucket.from, bucket.to)))
        .collect();
    let head: Vec<&str> = head.iter().map(String::as_str).collect();
    let rows = |of: &dyn Fn(usize) -> String| (0..comparison.lengths.len()).map(of).collect();
    let mut lines: Vec<Vec<String>> = vec![];
    let counts: Vec<String> = rows(&|place| comparison.lengths[place].rows.to_string());
    lines.push(std::iter::once("rows".to_owned()).chain(counts).collect());
    for (number, group) in comparison.groups.iter().enumerate() {
        let shares: Vec<String> = rows(&|place| {
            let share = comparison.lengths[place].accuracies.get(number).copied().flatten();
            share.map_or("-".to_owned(), percent)
        });
        lines.push(std::iter::once(escaped(&group.name)).chain(shares).collect());
    }
    table(Columns::Numbers, &head, &lines)
}

fn all_runs(comparison: &Comparison) -> String {
    let unit = Unit { is_error: comparison.is_error };
    let row = |group: &Group, run: &ComparedRun| {
        let path = run.path.display().to_string();
        vec![escaped(&group.name), run.seed.to_string(), unit.value(run.value), escaped(&path)]
    };
    let of_group = |group: &Group| group.runs.iter().map(|run| row(group, run)).collect::<Vec<_>>();
    let rows: Vec<Vec<String>> = comparison.groups.iter().flat_map(of_group).collect();
    table(Columns::Texts, &["group", "seed", "score", "directory"], &rows)
}

fn percent(fraction: f64) -> String {
    format!("{:.2}", 100.0 * fraction)
}
