//! A run of several tasks as a page: scores, comparisons, losses, and how the tasks' gradients agree.

use std::fmt::Write;

use crate::{
    agreement::Agreement,
    baselines::Verdict,
    html::escaped,
    metrics::{Metrics, TasksMetrics},
    observer::EpochReport,
    run::RunReport,
};

const STYLE: &str = "\
:root{color-scheme:light dark}body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:0 auto;padding:1rem}\
table{border-collapse:collapse;margin:.5rem 0 1.5rem}td,th{padding:.25rem .75rem;text-align:right;border-bottom:1px solid #8884}\
td:first-child,th:first-child,.all{text-align:left}.scroll{overflow-x:auto}svg{max-width:100%;height:auto}svg text{fill:currentColor;font:12px system-ui,sans-serif}\
.grid{stroke:#8884}pre{background:#8882;padding:.75rem;overflow-x:auto;font-size:13px}.cell{color:#000}";

/// Colours of lines that are told apart without red and green.
const COLOURS: [&str; 6] = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00"];

/// The page, complete in itself.
pub(crate) fn page(
    tasks: &[String],
    epochs: &[EpochReport],
    agreements: &[Agreement],
    report: &RunReport,
    run_file: &str,
) -> String {
    let mut html = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\"><title>bert-tune: {} tasks</title>\
         <style>{STYLE}</style></head><body><h1>{}</h1>",
        tasks.len(),
        escaped(&tasks.join(", ")),
    );
    let _ = write!(
        html,
        "<p>Best epoch {} of {}, trained in {:.0} s ({:.1} rows a second).</p>",
        report.best_epoch,
        epochs.len(),
        report.train_seconds,
        report.examples_per_second
    );
    scores(&mut html, &report.dev);
    comparisons(&mut html, report);
    let dev: Vec<Option<&TasksMetrics>> = epochs
        .iter()
        .map(|epoch| match &epoch.dev {
            Metrics::Tasks(tasks) => Some(tasks),
            _ => None,
        })
        .collect();
    let by_epoch = |value: &dyn Fn(usize, usize) -> Option<f64>| -> Vec<Line> {
        let line = |(head, name): (usize, &String)| Line {
            name: name.clone(),
            points: (0..epochs.len())
                .filter_map(|epoch| Some(((epoch + 1) as f64, value(head, epoch)?)))
                .collect(),
        };
        tasks.iter().enumerate().map(line).collect()
    };
    let score = |head: usize, epoch: usize| Some(dev[epoch]?.0.get(head)?.main());
    let loss = |head: usize, epoch: usize| *epochs[epoch].head_losses.get(head)?;
    html += "<h2>Score on dev by epoch</h2>";
    chart(&mut html, &by_epoch(&score), "epoch");
    html += "<h2>Training loss by epoch</h2>";
    chart(&mut html, &by_epoch(&loss), "epoch");
    agreement(&mut html, tasks, agreements);
    let _ = writeln!(html, "<h2>Run file</h2><pre>{}</pre></body></html>", escaped(run_file));
    html
}

fn scores(html: &mut String, dev: &Metrics) {
    let Metrics::Tasks(tasks) = dev else { return };
    *html += "<h2>Scores on dev</h2><div class=\"scroll\"><table><tr><th>task</th><th>judged by</th><th>score</th><th class=\"all\">all</th></tr>";
    for task in &tasks.0 {
        let all: Vec<String> = task
            .metrics
            .by_name()
            .iter()
            .map(|(name, score)| format!("{name} {score:.4}"))
            .collect();
        let _ = write!(
            html,
            "<tr><td>{}</td><td>{}</td><td>{:.4}</td><td class=\"all\">{}</td></tr>",
            escaped(&task.name),
            escaped(&task.metric),
            task.main(),
            all.join(", ")
        );
    }
    *html += "</table></div>";
}

fn comparisons(html: &mut String, report: &RunReport) {
    if report.comparisons.is_empty() {
        return;
    }
    *html += "<h2>Together against alone</h2><div class=\"scroll\"><table><tr><th>task</th><th>together</th><th>alone</th><th>difference, points</th><th>95 % interval</th><th>verdict</th></tr>";
    for comparison in &report.comparisons {
        let [low, high] = comparison.interval;
        let verdict = match comparison.verdict {
            Verdict::Gained => "gained",
            Verdict::Lost => "lost",
            Verdict::WithinNoise => "within noise",
        };
        let _ = write!(
            html,
            "<tr><td>{}</td><td>{:.4}</td><td>{:.4}</td><td>{:+.1}</td><td>{:.1} to {:.1}</td><td>{verdict}</td></tr>",
            escaped(&comparison.task),
            comparison.together,
            comparison.alone,
            100.0 * (comparison.together - comparison.alone),
            100.0 * low,
            100.0 * high
        );
    }
    *html += "</table></div>";
}

/// The cosines between the tasks' gradients: the matrix at the end of training, and each pair over the steps.
fn agreement(html: &mut String, tasks: &[String], agreements: &[Agreement]) {
    let Some(last) = agreements.last() else { return };
    let _ = write!(
        html,
        "<h2>How the tasks' gradients agree</h2><p>Cosine of the angle between two tasks' gradients on the shared encoder, after {} \
         steps: 1 they pull the same way, 0 they do not touch each other, below 0 a step for one hurts the other.</p>\
         <div class=\"scroll\"><table><tr><th></th>",
        last.step
    );
    for task in tasks {
        let _ = write!(html, "<th>{}</th>", escaped(task));
    }
    *html += "</tr>";
    for (task, row) in tasks.iter().zip(&last.cosines) {
        let _ = write!(html, "<tr><td>{}</td>", escaped(task));
        for cosine in row {
            let colour = heat(*cosine);
            let _ =
                write!(html, "<td class=\"cell\" style=\"background:{colour}\">{cosine:.2}</td>");
        }
        *html += "</tr>";
    }
    *html += "</table></div>";
    let mut lines = vec![];
    for a in 0..tasks.len() {
        for b in a + 1..tasks.len() {
            let point = |at: &Agreement| (at.step as f64, at.cosines[a][b]);
            let name = format!("{} and {}", tasks[a], tasks[b]);
            lines.push(Line { name, points: agreements.iter().map(point).collect() });
        }
    }
    chart(html, &lines, "step");
}

/// White at 0, blue towards 1, orange towards -1.
fn heat(cosine: f64) -> String {
    let towards = |full: f64| (255.0 + (full - 255.0) * cosine.abs()).round() as u8;
    let [r, g, b] = if cosine >= 0.0 { [86.0, 180.0, 233.0] } else { [230.0, 159.0, 0.0] };
    format!("rgb({},{},{})", towards(r), towards(g), towards(b))
}

struct Line {
    name: String,
    points: Vec<(f64, f64)>,
}

/// Lines over a common axis, each named beside it.
fn chart(html: &mut String, lines: &[Line], axis: &str) {
    const SIZE: (f64, f64) = (640.0, 240.0);
    const LEFT: f64 = 56.0;
    const BOTTOM: f64 = 36.0;
    const TOP: f64 = 10.0;
    const RIGHT: f64 = 12.0;
    let points = || lines.iter().flat_map(|line| &line.points);
    let bounds = |of: fn(&(f64, f64)) -> f64| {
        let (low, high) =
            points().map(of).fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
                (low.min(value), high.max(value))
            });
        if high > low { (low, high) } else { (low - 0.5, low + 0.5) }
    };
    if points().next().is_none() {
        return;
    }
    let ((x0, x1), (y0, y1)) = (bounds(|p| p.0), bounds(|p| p.1));
    let x = |value: f64| LEFT + (value - x0) / (x1 - x0) * (SIZE.0 - LEFT - RIGHT);
    let y = |value: f64| SIZE.1 - BOTTOM - (value - y0) / (y1 - y0) * (SIZE.1 - BOTTOM - TOP);
    let height = SIZE.1 + 18.0 * lines.len() as f64;
    let _ =
        write!(html, "<svg viewBox=\"0 0 {} {height}\" width=\"{}\" role=\"img\">", SIZE.0, SIZE.0);
    for part in 0..=4 {
        let value = y0 + (y1 - y0) * f64::from(part) / 4.0;
        let at = y(value);
        let _ = write!(
            html,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/><text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{value:.3}</text>",
            SIZE.0 - RIGHT,
            LEFT - 6.0,
            at + 4.0
        );
    }
    for (value, anchor) in [(x0, "start"), (x1, "end")] {
        let _ = write!(
            html,
            "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"{anchor}\">{axis} {value:.0}</text>",
            x(value),
            SIZE.1 - BOTTOM + 18.0
        );
    }
    for (place, line) in lines.iter().enumerate() {
        let colour = COLOURS[place % COLOURS.len()];
        let path: Vec<String> =
            line.points.iter().map(|(px, py)| format!("{:.1},{:.1}", x(*px), y(*py))).collect();
        let _ = write!(
            html,
            "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" points=\"{}\"/>",
            path.join(" ")
        );
        for (px, py) in &line.points {
            let _ = write!(
                html,
                "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\" fill=\"{colour}\"/>",
                x(*px),
                y(*py)
            );
        }
        let at = SIZE.1 + 18.0 * place as f64 + 4.0;
        let _ = write!(
            html,
            "<rect x=\"{LEFT}\" y=\"{}\" width=\"14\" height=\"4\" fill=\"{colour}\"/><text x=\"{}\" y=\"{at}\">{}</text>",
            at - 6.0,
            LEFT + 20.0,
            escaped(&line.name)
        );
    }
    *html += "</svg>";
}
