//! How a run went, as curves.

use crate::{
    metrics::{Metrics, TaskMetrics},
    report::{
        chart::{Chart, Line, Style, smoothed},
        log::Log,
    },
};

/// From so many steps on, a mean is drawn over each step's own value.
const LEAST_TO_SMOOTH: usize = 20;

/// Scores of another kind: the lower, the better.
const ERRORS: [&str; 3] = ["loss", "mean_absolute_error", "mean_squared_error"];

/// Every curve of a run; `clip` is the largest norm of its gradients.
pub(crate) fn of_run(log: &Log, clip: Option<f64>) -> String {
    let chart =
        |title: &str, lines| Chart { title: title.into(), axis: "step", lines, level: None };
    let rates = log.by_step(|step| Some(step.lr));
    // A level far above all norms would make a flat line of them.
    let longest = log.steps.iter().map(|step| step.grad_norm).fold(0.0, f64::max);
    let norms = Chart {
        level: clip
            .filter(|clip| *clip <= 3.0 * longest)
            .map(|clip| (format!("clipped above {clip}"), clip)),
        ..chart("Norm of the gradients", values(log.by_step(|step| Some(step.grad_norm))))
    };
    let throughput = log.throughput();
    let charts = [
        chart("Learning rate", vec![line(None, rates, 0, Style::Plain)]),
        norms,
        chart("Rows a second", vec![line(None, throughput, 0, Style::Plain)]),
    ];
    let rest: String = charts.iter().map(Chart::to_html).collect();
    within(loss_and_scores(log, None) + &rest)
}

/// The loss and the scores of one of several tasks.
pub(crate) fn of_steps(log: &Log, task: Option<&str>) -> String {
    within(loss_and_scores(log, task))
}

fn loss_and_scores(log: &Log, task: Option<&str>) -> String {
    let of_step = log.by_step(|step| match task {
        None => Some(step.loss),
        Some(task) => step.losses.get(task)?.as_f64(),
    });
    let mut lines = values(of_step);
    let dev = log.by_evaluation(|dev| Some(of_task(dev, task)?.loss()));
    lines.push(line(Some("on dev"), dev, 1, Style::Dashed));
    let loss = Chart { title: "Loss".into(), axis: "step", lines, level: None };
    let scores = Chart {
        title: "Scores on dev".into(),
        axis: "step",
        lines: scores(log, task),
        level: None,
    };
    loss.to_html() + &scores.to_html()
}

/// The score of each name over the evaluations, the main one first; of several tasks together, that of each.
fn scores(log: &Log, task: Option<&str>) -> Vec<Line> {
    let Some(first) = log.evaluations.first().and_then(|first| of_task(&first.dev, task)) else {
        return vec![];
    };
    if let Metrics::Tasks(tasks) = first {
        let of = |(place, task): (usize, &TaskMetrics)| {
            let score = |dev: &Metrics| match dev {
                Metrics::Tasks(tasks) => {
                    Some(tasks.0.iter().find(|own| own.name == task.name)?.main())
                }
                _ => None,
            };
            let name = format!("{} ({})", task.name, task.metric.replace('_', " "));
            line(Some(&name), log.by_evaluation(score), place, Style::Dots)
        };
        return tasks.0.iter().enumerate().map(of).collect();
    }
    let mut lines: Vec<Line> = vec![];
    let mut add = |name: String, points: Vec<(f64, f64)>| {
        // One score may be another by definition.
        if !lines.iter().any(|line| line.points == points) {
            lines.push(line(Some(&name), points, lines.len(), Style::Dots));
        }
    };
    let main = first.main_name();
    let names = first.by_name().into_iter().map(|(name, _)| name);
    let names: Vec<&str> = names.filter(|name| !ERRORS.contains(name)).collect();
    let main_first = names.iter().filter(|name| **name == main);
    for name in main_first.chain(names.iter().filter(|name| **name != main)) {
        let score = |dev: &Metrics| of_task(dev, task)?.score(name);
        add(name.replace('_', " "), log.by_evaluation(score));
    }
    lines
}

fn of_task<'a>(dev: &'a Metrics, task: Option<&str>) -> Option<&'a Metrics> {
    match (dev, task) {
        (Metrics::Tasks(tasks), Some(name)) => {
            tasks.0.iter().find(|task| task.name == name).map(|task| &task.metrics)
        }
        (dev, _) => Some(dev),
    }
}

/// A number of each step; of many steps also their moving mean.
fn values(points: Vec<(f64, f64)>) -> Vec<Line> {
    if points.len() < LEAST_TO_SMOOTH {
        return vec![line(Some("each step"), points, 0, Style::Plain)];
    }
    let mean = smoothed(&points);
    let raw = line(Some("each step"), points, 0, Style::Raw);
    vec![Line { name: None, ..raw }, line(Some("mean of the latest steps"), mean, 0, Style::Plain)]
}

pub(crate) fn line(
    name: Option<&str>,
    points: Vec<(f64, f64)>,
    colour: usize,
    style: Style,
) -> Line {
    Line { name: name.map(str::to_owned), points, colour, style }
}

fn within(charts: String) -> String {
    if charts.is_empty() { charts } else { format!("<div class=\"charts\">{charts}</div>\n") }
}
