//! What only runs of several tasks have: each beside the others.

use crate::{
    agreement::Agreement,
    baselines::Verdict,
    html::escaped,
    metrics::{TaskMetrics, TasksMetrics},
    report::{
        chart::{Chart, Style},
        curves::line,
        page::{Columns, table},
    },
    run::RunReport,
};

/// The scores of each task of the best model, and what it is judged by of the last.
pub(crate) fn scores(best: &TasksMetrics, last: &TasksMetrics) -> String {
    let row = |task: &TaskMetrics| {
        let score = |(name, score): (&str, f64)| format!("{} {score:.4}", name.replace('_', " "));
        let all: Vec<String> = task.metrics.by_name().into_iter().map(score).collect();
        let at_end = last.0.iter().find(|own| own.name == task.name);
        let at_end = at_end.map_or("-".to_owned(), |task| format!("{:.4}", task.main()));
        let judged = task.metric.replace('_', " ");
        vec![
            escaped(&task.name),
            escaped(&judged),
            format!("{:.4}", task.main()),
            at_end,
            all.join(", "),
        ]
    };
    let rows: Vec<Vec<String>> = best.0.iter().map(row).collect();
    table(
        Columns::Texts,
        &["task", "judged by", "best model", "last", "all of the best model"],
        &rows,
    )
}

/// Each task against itself alone.
pub(crate) fn comparisons(report: &RunReport) -> String {
    let rows: Vec<Vec<String>> = report
        .comparisons
        .iter()
        .map(|comparison| {
            let [low, high] = comparison.interval;
            let verdict = match comparison.verdict {
                Verdict::Gained => "gained",
                Verdict::Lost => "lost",
                Verdict::WithinNoise => "within noise",
            };
            vec![
                escaped(&comparison.task),
                format!("{:.4}", comparison.together),
                format!("{:.4}", comparison.alone),
                format!("{:+.1}", 100.0 * comparison.gain()),
                format!("{:.1} to {:.1}", 100.0 * low, 100.0 * high),
                verdict.to_owned(),
            ]
        })
        .collect();
    let head = ["task", "together", "alone", "difference, points", "95 % interval", "verdict"];
    table(Columns::Numbers, &head, &rows)
}

/// The cosines between the tasks' gradients: the matrix at the end of training, and each pair over the steps.
pub(crate) fn agreement(tasks: &[String], agreements: &[Agreement]) -> String {
    let is_whole = |at: &&Agreement| {
        at.cosines.len() == tasks.len() && at.cosines.iter().all(|row| row.len() == tasks.len())
    };
    let agreements: Vec<&Agreement> = agreements.iter().filter(is_whole).collect();
    let (Some(last), true) = (agreements.last(), tasks.len() > 1) else { return String::new() };
    let head: Vec<&str> = std::iter::once("").chain(tasks.iter().map(String::as_str)).collect();
    let row = |(task, row): (&String, &Vec<f64>)| {
        let cell = |cosine: &f64| {
            format!("<td class=\"cell\" style=\"{}\">{cosine:.2}</td>", heat(*cosine))
        };
        std::iter::once(escaped(task)).chain(row.iter().map(cell)).collect()
    };
    let rows: Vec<Vec<String>> = tasks.iter().zip(&last.cosines).map(row).collect();
    let mut lines = vec![];
    for a in 0..tasks.len() {
        for b in a + 1..tasks.len() {
            let point = |at: &&Agreement| (at.step as f64, at.cosines[a][b]);
            let name = format!("{} and {}", tasks[a], tasks[b]);
            let points = agreements.iter().map(point).collect();
            lines.push(line(Some(&name), points, lines.len(), Style::Dots));
        }
    }
    let chart = Chart { title: "Cosine".into(), axis: "step", lines, level: None };
    format!(
        "<p>Cosine of the angle between two tasks' gradients on the shared encoder, after {} steps: 1 they pull the same way, 0 \
         they do not touch each other, below 0 a step for one hurts the other.</p>\n{}<div class=\"charts\">{}</div>\n",
        last.step,
        table(Columns::Numbers, &head, &rows),
        chart.to_html()
    )
}

/// Blue towards 1, orange towards -1.
fn heat(cosine: f64) -> String {
    let hue = if cosine >= 0.0 { "" } else { "--heat:30 90% 50%;" };
    format!("{hue}--w:{:.2}", cosine.abs().min(1.0))
}
