//! Runs that are killed, interrupted, or find the disk full, and go on.
#![cfg(unix)]

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use crate::{Desk, json, reference, stderr, stdout, text};

/// A run of a second or two, with a checkpoint after every step or two.
const FLAGS: [&str; 8] =
    ["--epochs", "10", "--batch-size", "8", "--lr", "1e-3", "--checkpoint-every", "2"];

fn begin(desk: &Desk, out: &str) -> Child {
    let model = reference().join("tiny-bert");
    let mut command = desk.program();
    command.args(["train", "--train", "train.tsv", "--model", text(&model), "--out", out]);
    command.args(FLAGS).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// The log without times, and the weights of the best model.
fn outcome(dir: &Path) -> (Vec<serde_json::Value>, Vec<u8>) {
    let log = fs::read_to_string(dir.join("metrics.jsonl")).unwrap();
    let line = |line| {
        let mut line: serde_json::Value = serde_json::from_str(line).unwrap();
        line.as_object_mut().unwrap().remove("seconds");
        line
    };
    (log.lines().map(line).collect(), fs::read(dir.join("model.safetensors")).unwrap())
}

fn wait_for(path: &Path) {
    let start = Instant::now();
    while !path.exists() {
        assert!(start.elapsed() < Duration::from_secs(60), "{} never came", path.display());
        sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_run_that_is_killed_again_and_again_comes_to_the_same() {
    let desk = Desk::new();
    let start = Instant::now();
    let output = begin(&desk, "whole").wait_with_output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let whole = u64::try_from(start.elapsed().as_millis()).unwrap();

    let (mut kills, mut random) = (0, 1u64);
    let mut child = begin(&desk, "run");
    wait_for(&desk.path("run/run.toml"));
    while kills < 10 {
        // Numbers that look random, the same in every test.
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        sleep(Duration::from_millis((random >> 33) % (whole / 3).max(1)));
        let _ = child.kill();
        child.wait().unwrap();
        kills += 1;
        let mut command = desk.program();
        command.args(["train", "--resume", "run"]);
        child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    }
    child.wait().unwrap();
    let first = desk.bert(&["train", "--resume", "run", "--json"]);
    json(&first);
    assert!(outcome(&desk.path("run")) == outcome(&desk.path("whole")));
    // A finished run is read, not trained.
    let report = fs::read(desk.path("run/report.json")).unwrap();
    assert_eq!(stdout(&desk.bert(&["train", "--resume", "run", "--json"])), stdout(&first));
    assert_eq!(fs::read(desk.path("run/report.json")).unwrap(), report);
}

#[test]
fn an_interrupt_ends_the_step_and_says_how_to_go_on() {
    let desk = Desk::new();
    assert!(begin(&desk, "whole").wait_with_output().unwrap().status.success());
    let child = begin(&desk, "run");
    wait_for(&desk.path("run/checkpoints/step-2"));
    let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
    let output = child.wait_with_output().unwrap();
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(130), "{said}");
    let last = said.lines().last().unwrap();
    assert!(last.starts_with("interrupted after step "), "{said}");
    assert!(last.ends_with("go on with bert train --resume run"), "{said}");
    assert!(!desk.path("run/report.json").exists());

    // Another device by name, and no default device is asked for: there may be none.
    let mut command = desk.program();
    command.env("BURN_DEVICE", "none").args(["train", "--resume", "run", "--device", "flex"]);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stderr(&output).contains("going on after step "), "{}", stderr(&output));
    assert!(stdout(&output).contains("the model is in run"), "{}", stdout(&output));
    assert!(outcome(&desk.path("run")) == outcome(&desk.path("whole")));
}

/// Where no checkpoint is kept, nobody is told to go on from one.
#[test]
fn an_interrupt_without_checkpoints_says_so() {
    let desk = Desk::new();
    let model = reference().join("tiny-bert");
    let mut command = desk.program();
    command.args(["train", "--train", "train.tsv", "--model", text(&model), "--out", "run"]);
    command.args(["--epochs", "1000", "--checkpoint-every", "never"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_for(&desk.path("run/model.safetensors"));
    let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
    let output = child.wait_with_output().unwrap();
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(130), "{said}");
    let last = said.lines().last().unwrap();
    assert!(last.contains("no checkpoint was written (checkpoint-every never)"), "{said}");
    assert!(last.ends_with("bert train --resume run begins at step 0"), "{said}");
    assert!(!desk.path("run/checkpoints").exists());
}

/// Two processes would mix their files.
#[test]
fn a_run_is_written_by_one_process() {
    let desk = Desk::new();
    let model = reference().join("tiny-bert");
    let mut command = desk.program();
    command.args(["train", "--train", "train.tsv", "--model", text(&model), "--out", "run"]);
    command.args(["--epochs", "100000", "--checkpoint-every", "never"]);
    let mut first = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_for(&desk.path("run/model.safetensors"));
    for second in [
        desk.train(&["--overwrite"]),
        desk.bert(&["train", "--resume", "run"]),
        desk.train(&["--out", "run", "--lr", "1e-3", "--overwrite"]),
    ] {
        let said = stderr(&second);
        assert_eq!(second.status.code(), Some(2), "{said}");
        assert!(said.contains("run is being written by another process: wait"), "{said}");
    }
    assert!(first.try_wait().unwrap().is_none());
    first.kill().unwrap();
    first.wait().unwrap();
    // What a killed process held is free.
    assert!(desk.train(&["--overwrite"]).status.success());
}

#[test]
fn a_run_that_no_longer_gets_better_says_why_it_ends() {
    let desk = Desk::new();
    let flags = [
        "--epochs",
        "50",
        "--patience",
        "2",
        "--min-delta",
        "2",
        "--eval-every",
        "3",
        "--lr",
        "1e-9",
    ];
    let output = desk.train(&flags);
    let said = stderr(&output);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("no better for 2 evaluations (patience)"), "{said}");
    assert!(said.contains("ended after step 4 of 100"), "{said}");
}

/// The limit on the size of files stands for a disk that is full.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_leaves_the_last_checkpoint() {
    let desk = Desk::new();
    assert!(begin(&desk, "whole").wait_with_output().unwrap().status.success());
    let mut child = begin(&desk, "run");
    wait_for(&desk.path("run/checkpoints/step-4"));
    child.kill().unwrap();
    child.wait().unwrap();
    // In KiB: enough for the weights, too little for the two moments of each.
    let weights = fs::metadata(desk.path("run/checkpoints/step-4/weights.safetensors"));
    let limit = weights.unwrap().len() * 3 / 2 / 1024;
    let program = env!("CARGO_BIN_EXE_bert");
    let script = format!("trap '' XFSZ; ulimit -f {limit}; exec {program} train --resume run");
    let output = desk.program_of("bash").args(["-c", &script]).output().unwrap();
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.lines().last().unwrap().starts_with("error: cannot write "), "{said}");
    assert!(said.contains("optimizer.safetensors"), "{said}");
    let names = fs::read_dir(desk.path("run/checkpoints")).unwrap();
    let names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
    assert!(names.iter().all(|name| name.to_string_lossy().starts_with("step-")), "{names:?}");
    let output = desk.bert(&["train", "--resume", "run"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(!stderr(&output).contains("damaged"), "{}", stderr(&output));
    assert!(outcome(&desk.path("run")) == outcome(&desk.path("whole")));
}

/// Seeds go on in the middle of a run, too.
#[test]
fn seeds_that_broke_off_go_on() {
    let desk = Desk::new();
    let flags = [&FLAGS[..], &["--seeds", "2", "--out", "runs"]].concat();
    let model = reference().join("tiny-bert");
    let mut command = desk.program();
    command.args(["train", "--train", "train.tsv", "--model", text(&model)]).args(&flags);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_for(&desk.path("runs/cls/seed-0/checkpoints/step-4"));
    child.kill().unwrap();
    child.wait().unwrap();
    let output = desk.train(&flags);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stderr(&output).contains("going on after step "), "{}", stderr(&output));
    assert!(begin(&desk, "whole").wait_with_output().unwrap().status.success());
    assert!(outcome(&desk.path("runs/cls/seed-0")) == outcome(&desk.path("whole")));
}

#[test]
fn flags_beside_resume_are_refused() {
    let desk = Desk::new();
    for flags in [&["--resume", "run", "--lr", "1"][..], &["--resume", "run", "--out", "o"], &[]] {
        let output = desk.bert(&[&["train"], flags].concat());
        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    }
    let output = desk.bert(&["train", "--resume", "nowhere"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("nowhere"), "{}", stderr(&output));
    for (flag, value) in [("--checkpoint-every", "0"), ("--eval-every", "9s"), ("--metric", "f2")] {
        let output = desk.train(&[flag, value]);
        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
        assert!(stderr(&output).contains(value), "{}", stderr(&output));
        assert!(!desk.path("run").exists());
    }
}

/// The table of a search, without times.
fn table(desk: &Desk, out: &str) -> serde_json::Value {
    let text = fs::read_to_string(desk.path(out).join("search.json")).unwrap();
    let mut report: serde_json::Value =
        serde_json::from_str(&text.replace(&format!("{out}/"), "")).unwrap();
    for trial in report["trials"].as_array_mut().unwrap() {
        trial.as_object_mut().unwrap().remove("seconds");
    }
    report
}

#[test]
fn a_search_that_is_killed_again_and_again_comes_to_the_same() {
    let desk = Desk::new();
    let model = reference().join("tiny-bert");
    desk.write(
        "search.toml",
        format!(
            "trials = 4\nmethod = {{ kind = 'halving', eta = 2, epochs = [1, 4] }}\n\
             [space]\nlr = {{ log = [1e-4, 1e-2] }}\n\
             [run]\nmodel = '{}'\ntrain = 'train.tsv'\nbatch_size = 8\ncheckpoint_every = 2\n",
            text(&model)
        ),
    );
    let begin = |out: &str| {
        let mut command = desk.program();
        command.args(["search", "search.toml", "--out", out, "--json"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let start = Instant::now();
    let whole = begin("whole").wait_with_output().unwrap();
    let report = json(&whole);
    assert_eq!(report["best"], report["trials"][0]["path"]);
    let time = u64::try_from(start.elapsed().as_millis()).unwrap();

    let mut random = 1u64;
    for _ in 0..8 {
        let mut child = begin("found");
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        sleep(Duration::from_millis((random >> 33) % (time / 3).max(1)));
        let _ = child.kill();
        child.wait().unwrap();
    }
    let output = begin("found").wait_with_output().unwrap();
    json(&output);
    assert_eq!(table(&desk, "found"), table(&desk, "whole"));
    let best = report["best"].as_str().unwrap();
    assert!(outcome(&desk.path(&best.replace("whole", "found"))) == outcome(&desk.path(best)));
    // A finished search is read, and printed again.
    assert_eq!(
        stdout(&desk.bert(&["search", "search.toml", "--out", "found", "--json"])),
        stdout(&output)
    );
}
