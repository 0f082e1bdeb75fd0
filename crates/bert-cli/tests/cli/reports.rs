//! Pages of runs: what they hold, that nothing of the data runs in them, and how a browser draws them.

use std::{fmt::Write as _, fs, path::Path, process::Command};

use serde_json::Value;

use crate::{Desk, json, reference, stderr, stdout, text};

/// Texts that would run, break out of their place, turn what follows, or never end.
fn hostile_rows() -> String {
    let texts = [
        "<script>document.title='owned'</script> the movie",
        "\" onload='x' <img src=x onerror=alert(1)> & a bad plot",
        "turned \u{202e}round\u{7} bell \u{0}nul",
        "\u{5e9}\u{5dc}\u{5d5}\u{5dd} \u{645}\u{631}\u{62d}\u{628}\u{627}",
    ];
    let long = format!("{} {}", "x".repeat(50_000), "great ".repeat(10_000));
    let mut rows = String::new();
    for (number, text) in texts.into_iter().chain([long.as_str()]).cycle().take(15).enumerate() {
        let label = ["good", "<b>\"bad\"&"][number % 2];
        rows += &format!("{text} {number}\t{label}\n");
    }
    rows
}

fn page(path: &Path) -> String {
    let html = fs::read_to_string(path).unwrap();
    assert!(
        !html.contains("<script") && !html.contains("<img"),
        "something runs in {}",
        path.display()
    );
    for outside in ["http://", "https://", "src=", "url(", "@import"] {
        assert!(!html.replace("onerror=", "").replace("src=x", "").contains(outside), "{outside}");
    }
    let spelled_out =
        |c: char| c.is_control() && c != '\n' || ('\u{202a}'..='\u{202e}').contains(&c);
    assert_eq!(html.chars().find(|c| spelled_out(*c)), None);
    html
}

#[test]
fn a_page_has_what_its_run_came_to() {
    let desk = Desk::new();
    desk.write("dev.tsv", hostile_rows().replace("<b>\"bad\"&", "bad"));
    let report = json(&desk.train(&["--dev", "dev.tsv", "--eval-every", "1", "--json"]));
    let html = page(&desk.path("run/report.html"));
    assert!(html.contains("This run has come to its end."), "{html}");
    for expected in [
        "<figcaption>Loss",
        "<figcaption>Scores on dev",
        "<figcaption>Learning rate",
        "<figcaption>Norm of the gradients",
        "<figcaption>Rows a second",
        "<figcaption>Calibration",
        "<figcaption>Share of the rows by length in tokens",
        "Most confident wrong answers",
        "Answers by truth",
        ", classifier.weight</td>",
        " --eval-every 1 --json",
        "device Flex(Cpu)",
        "&lt;script&gt;document.title=&#39;owned&#39;&lt;/script&gt;",
        "turned \\u{202e}round\\u{7} bell \\u{0}nul",
    ] {
        assert!(html.contains(expected), "{expected} is not in {html}");
    }
    let accuracy = report["dev"]["accuracy"].as_f64().unwrap();
    assert!(html.contains(&format!("<dt>accuracy on dev</dt><dd>{accuracy:.4}</dd>")), "{html}");
    assert!(html.len() < 100_000, "{} bytes", html.len());
    // Every dev row is in the matrix.
    let counts = html.split("class=\"cell\"").skip(1);
    let counts = counts
        .map(|cell| cell[cell.find('>').unwrap() + 1..cell.find("</").unwrap()].parse::<usize>());
    assert_eq!(counts.map(Result::unwrap).sum::<usize>(), 15);

    // Made anew from the files, it is the same; without its report, the run is not at its end.
    fs::rename(desk.path("run/report.html"), desk.path("first.html")).unwrap();
    assert!(desk.bert(&["report", "run"]).status.success());
    assert_eq!(page(&desk.path("run/report.html")), html);
    fs::remove_file(desk.path("run/report.json")).unwrap();
    assert!(desk.bert(&["report", "run", "--out", "broken.html"]).status.success());
    let html = page(&desk.path("broken.html"));
    assert!(
        html.contains("has not come to its end: here is what it had written down after step 4."),
        "{html}"
    );
    assert!(html.contains("<figcaption>Loss") && !html.contains("Answers on dev"), "{html}");
}

/// A run that goes on says so, and its page has every step once.
#[cfg(unix)]
#[test]
fn a_run_that_broke_off_has_a_page() {
    let desk = Desk::new();
    let model = reference().join("tiny-bert");
    let mut command = desk.program();
    command.args(["train", "--train", "train.tsv", "--model", text(&model), "--out", "run"]);
    command.args(["--epochs", "100", "--batch-size", "4", "--checkpoint-every", "3"]);
    let mut child = command.stderr(std::process::Stdio::null()).spawn().unwrap();
    let start = std::time::Instant::now();
    while !desk.path("run/checkpoints/step-6").exists() {
        assert!(start.elapsed().as_secs() < 60, "the checkpoint never came");
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(desk.bert(&["report", "run"]).status.success());
    let broken = page(&desk.path("run/report.html"));
    assert!(broken.contains("This run has not come to its end"), "{broken}");
    assert!(broken.contains("<figcaption>Loss"), "{broken}");

    let output = desk.bert(&["train", "--resume", "run"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let html = page(&desk.path("run/report.html"));
    assert!(html.contains("Went on after step ") && html.contains("train --resume run"), "{html}");
    assert!(html.contains("<dt>steps</dt><dd>900</dd>"), "{html}");
}

#[test]
fn runs_of_tags_and_of_several_tasks_have_the_same_page() {
    let desk = Desk::new();
    let rows = ["the\tO\nmovie\tB-WHAT\n<i>\tI-WHAT\n\n", "a\tO\nbad\tO\nfilm\tB-WHO\n\n"];
    desk.write("train.conll", (0..40).map(|i| rows[i % 2]).collect::<String>());
    desk.train(&["--train", "train.conll", "--epochs", "1", "--out", "tags"]);
    let model = reference().join("tiny-bert");
    let train = ["train", "--model", text(&model), "--train", "train.conll", "--epochs", "1"];
    let output = desk.bert(&[&train[..], &["--out", "tags"]].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    let html = page(&desk.path("tags/report.html"));
    for expected in [
        "Scores by type",
        "Worst sentences",
        "<td><bdi>WHAT</bdi></td>",
        "<mark><bdi>&lt;i&gt;</bdi>",
    ] {
        assert!(html.contains(expected), "{expected} is not in {html}");
    }

    let rows = (0..40).map(|i| {
        ["the movie was great\tgood\tO O O B-M\t4.5\n", "a bad plot\tbad\tO B-M O\t-1\n"][i % 2]
    });
    desk.write("rows.tsv", "text\tmood\ttags\tstars\n".to_owned() + &rows.collect::<String>());
    let tasks = format!(
        "model = {:?}\nepochs = 2\nlr = 1e-3\n\
         [task.mood]\nkind = \"classify\"\ntrain = \"rows.tsv\"\ntext = [\"text\"]\nlabel = \"mood\"\n\
         [task.stars]\nkind = \"regress\"\ntrain = \"rows.tsv\"\ntext = [\"text\"]\nlabel = \"stars\"\n\
         [task.tags]\nkind = \"tag\"\ntrain = \"rows.tsv\"\ntokens = [\"text\"]\ntags = [\"tags\"]\n",
        text(&model)
    );
    desk.write("tasks.toml", &tasks);
    let output = desk.bert(&["train", "tasks.toml", "--out", "run"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let html = page(&desk.path("run/report.html"));
    for expected in [
        "Task mood",
        "Task tags",
        "Task stars",
        "How the gradients of the tasks agree",
        "mood and tags",
        "Answers by truth",
        "Answer by truth",
        "<figcaption>Calibration",
        "Scores by type",
        "tasks.2.classifier.bias</td>",
    ] {
        assert!(html.contains(expected), "{expected} is not in {html}");
    }
    // The words of a sentence, though the tasks share its text.
    let rows = fs::read_to_string(desk.path("run/predictions.jsonl")).unwrap();
    let rows: Vec<Value> = rows.lines().map(|row| serde_json::from_str(row).unwrap()).collect();
    let of = |task: &str| rows.iter().find(|row| row["task"] == task).unwrap();
    assert_eq!(of("mood")["text"].as_array().unwrap().len(), 1, "{}", of("mood"));
    let words = of("tags")["gold"].as_array().unwrap().len();
    assert_eq!(of("tags")["text"].as_array().unwrap().len(), words, "{}", of("tags"));
    assert!(of("stars")["predicted"].is_f64() && of("mood")["probability"].is_f64());
}

#[test]
fn runs_that_cannot_be_shown_are_refused_by_name() {
    let desk = Desk::new();
    let refused = |arguments: &[&str], expected: &str| {
        let output = desk.bert(arguments);
        let said = stderr(&output);
        assert_eq!((output.status.code(), said.contains(expected)), (Some(2), true), "{said}");
    };
    refused(&["report", "."], "holds no run (run.toml)");
    fs::create_dir(desk.path("run")).unwrap();
    desk.write("run/run.toml", "model = \"m\"\ntrain = \"t\"\n");
    desk.write("run/metrics.jsonl", "{\"step\":1,\"loss\":1.5}\n");
    refused(&["report", "run"], "metrics.jsonl is damaged: line 1: missing field `lr`");
    desk.write("run/metrics.jsonl", "");
    assert!(desk.bert(&["report", "run"]).status.success());
    assert!(page(&desk.path("run/report.html")).contains("has not come to its first evaluation"));
    refused(&["report", "run", "--out", "absent/page.html"], "a directory that is there");
    desk.write("run/run.toml", "model = ");
    refused(&["report", "run"], "run.toml is damaged");
}

/// The log of a run of 100,000 steps.
#[test]
fn a_long_run_has_a_page_that_opens_at_once() {
    let desk = Desk::new();
    fs::create_dir(desk.path("run")).unwrap();
    desk.write("run/run.toml", "model = \"m\"\ntrain = \"t\"\nmax_grad_norm = 1.0\n");
    let mut log = String::new();
    for step in 1..=100_000u32 {
        let noise = f64::from(step.wrapping_mul(2_654_435_761) >> 16) / 65536.0;
        let loss = 1.0 / (1.0 + f64::from(step) / 2e4) + 0.3 * noise;
        let (seconds, rows) = (f64::from(step) * 0.01, step * 32);
        writeln!(
            log,
            "{{\"step\":{step},\"epoch\":1,\"loss\":{loss},\"lr\":0.001,\"grad_norm\":{noise},\"seconds\":{seconds},\"rows\":{rows}}}"
        )
        .unwrap();
    }
    desk.write("run/metrics.jsonl", log);
    assert!(desk.bert(&["report", "run"]).status.success());
    let html = page(&desk.path("run/report.html"));
    assert!(html.len() < 120_000, "{} bytes", html.len());
    assert!(html.contains("<dt>steps</dt><dd>100,000</dd>"), "{html}");
}

/// A browser, where there is one.
fn browser() -> Option<&'static str> {
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let found = names.into_iter().find(|name| {
        Command::new(name).arg("--version").output().is_ok_and(|output| output.status.success())
    });
    if found.is_none() {
        eprintln!("skipped: no chromium to draw pages with");
    }
    found
}

/// What a browser says of a page in a window of this width: by how much it is too wide, the curves with their sizes, and whether its
/// own script would have run.
fn drawn(desk: &Desk, browser: &str, html: &str, width: usize) -> Value {
    let attribute = html.replace('&', "&amp;").replace('"', "&quot;");
    let frame = format!(
        "<!DOCTYPE html><meta charset=utf-8><body><iframe width={width} height=900 style=\"border:0\" srcdoc=\"{attribute}\"></iframe>\
         <pre id=result></pre><script>onload = () => {{\
         const page = document.querySelector('iframe').contentDocument;\
         const size = (shape) => {{ const box = shape.getBBox(); return [box.width, box.height, shape.getAttribute('d').length]; }};\
         document.getElementById('result').textContent = 'RES' + 'ULT' + JSON.stringify({{\
         overflow: page.documentElement.scrollWidth - page.documentElement.clientWidth,\
         drawings: [...page.querySelectorAll('svg')].map((svg) => svg.getBoundingClientRect().width),\
         curves: [...page.querySelectorAll('path.curve')].map(size),\
         bars: [...page.querySelectorAll('rect.bar')].map((bar) => bar.getBBox().height),\
         title: page.title }}) + 'E' + 'ND'; }};</script>"
    );
    desk.write("frame.html", frame);
    let profile = desk.path("profile");
    let output = Command::new(browser)
        .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--dump-dom"])
        .arg(format!("--user-data-dir={}", profile.display()))
        .arg("--window-size=1400,1000")
        .arg(format!("file://{}", desk.path("frame.html").display()))
        .output()
        .unwrap();
    let dom = String::from_utf8_lossy(&output.stdout).into_owned();
    let result = dom.split_once("RESULT").and_then(|(_, rest)| rest.split_once("END"));
    let (result, _) = result.unwrap_or_else(|| panic!("{}", stderr(&output)));
    serde_json::from_str(&result.replace("&quot;", "\"").replace("&amp;", "&")).unwrap()
}

#[test]
fn a_browser_draws_the_curves_and_needs_no_more_room_than_a_phone_has() {
    let Some(browser) = browser() else { return };
    let desk = Desk::new();
    desk.write("train.tsv", hostile_rows() + &hostile_rows());
    let output = desk.train(&["--dev", "train.tsv", "--epochs", "6", "--batch-size", "2"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let html = page(&desk.path("run/report.html"));
    for width in [390, 1280] {
        let drawn = drawn(&desk, browser, &html, width);
        assert_eq!(drawn["overflow"], 0, "{drawn}");
        assert_eq!(drawn["title"], "run", "{drawn}");
        let sizes = |key: &str| drawn[key].as_array().unwrap().clone();
        // Loss by step, its mean and that on dev, three or more scores, the rate, the norm with its mean and its limit, throughput,
        // and the calibrated line.
        let curves = sizes("curves");
        assert!(curves.len() >= 11, "{drawn}");
        for curve in &curves {
            let [width, height, points] = [0, 1, 2].map(|place| curve[place].as_f64().unwrap());
            assert!(width + height > 10.0 && points > 10.0, "{curve} of {drawn}");
        }
        // 90 steps in 6 epochs: the loss of each step takes most of its drawing.
        assert!(
            curves[0][0].as_f64().unwrap() > 350.0 && curves[0][1].as_f64().unwrap() > 50.0,
            "{drawn}"
        );
        assert!(sizes("drawings").iter().all(|width| width.as_f64().unwrap() > 250.0), "{drawn}");
        assert!(
            sizes("bars").iter().filter(|bar| bar.as_f64().unwrap() > 1.0).count() >= 3,
            "{drawn}"
        );
    }
}

#[test]
fn compared_runs_are_on_one_page() {
    let desk = Desk::new();
    desk.train(&["--pooling", "mean,max", "--seeds", "2", "--dev", "train.tsv"]);
    let runs = ["run/mean/seed-0", "run/mean/seed-1", "run/max/seed-0", "run/max/seed-1"];
    let output = desk.bert(&[&["compare"], &runs[..], &["--html", "compared.html"]].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    let html = page(&desk.path("compared.html"));
    for expected in [
        "<td>pooling mean</td><td>2</td>",
        "<figcaption>Training loss, mean of the latest steps",
        "<figcaption>accuracy on dev",
        "run/max/seed-1",
        "mean and max",
    ] {
        assert!(html.contains(expected), "{expected} is not in {html}");
    }
    // What was measured is printed though there is no place for the page.
    let nowhere = desk.bert(&[&["compare"], &runs[..], &["--html", "nowhere/x.html"]].concat());
    assert_eq!((nowhere.status.code(), stdout(&nowhere)), (Some(2), stdout(&output)));
    // A curve of each run and a key of each group, in three charts.
    assert_eq!(html.matches("class=\"curve c0\"").count(), 6, "{html}");
    assert_eq!(html.matches("<span class=\"key c1\">pooling max</span>").count(), 3, "{html}");
}

/// Where a run goes on, there is one file of events again; a run that writes none takes away those of the run before.
#[test]
fn tensorboard_has_a_file_of_events() {
    let desk = Desk::new();
    let files = || -> Vec<u64> {
        let entries = fs::read_dir(desk.path("run/tensorboard")).unwrap();
        entries.map(|entry| entry.unwrap().metadata().unwrap().len()).collect()
    };
    let output = desk.train(&["--tensorboard"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let whole = files();
    // 4 steps and 2 evaluations, each with the names of its scalars.
    assert!(whole.len() == 1 && whole[0] > 600, "{whole:?}");
    assert!(fs::read_to_string(desk.path("run/run.toml")).unwrap().contains("tensorboard = true"));
    fs::remove_file(desk.path("run/report.json")).unwrap();
    let output = desk.bert(&["train", "--resume", "run"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(files(), whole);
    let output = desk.train(&["--overwrite"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(files(), Vec::<u64>::new());
}
