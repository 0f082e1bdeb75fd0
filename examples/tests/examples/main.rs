//! The examples as a person runs them.

#![allow(clippy::unwrap_used)]

use std::{path::PathBuf, process::Command};

/// Where cargo put the example: beside the folder of this test.
fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let folder = test.parent().unwrap().parent().unwrap().join("examples");
    folder.join(format!("{name}{}", std::env::consts::EXE_SUFFIX))
}

/// On our own data: it says how it did and exits 0 only when it learned.
fn assert_learns(name: &str, arguments: &[&str], lines: &[&str]) {
    let mut program = Command::new(example(name));
    let output = program.args(arguments).env("BURN_DEVICE", "flex").output().unwrap();
    let out = String::from_utf8(output.stdout).unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{out}{error}");
    for line in lines {
        assert!(out.contains(line), "{line:?} is not in {out}");
    }
}

#[test]
fn adaptive_pooling() {
    let lines = ["the commonest label", "mean pooling", "adaptive pooling", "[CLS]"];
    assert_learns("adaptive_pooling", &[], &lines);
}

#[test]
fn task_embedding() {
    let lines = ["pieces a word", "plain", "task embedding", "new words", "both", "MATERIAL"];
    assert_learns("task_embedding", &["--seeds", "1"], &lines);
}

/// The task with few labels gains by the others, or the example fails.
#[test]
fn multi_task() {
    let mut program = Command::new(example("multi_task"));
    let program = program.args(["--seeds", "1"]).env("BURN_DEVICE", "flex");
    let output = program.output().unwrap();
    let out = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{out}");
    for line in ["together", "first and things", "step     0", "topic"] {
        assert!(out.contains(line), "{line:?} is not in {out}");
    }
}

/// One model with every technique: it exits 0 only when both tasks were learned.
#[test]
fn all_together() {
    let output = Command::new(example("all_together")).env("BURN_DEVICE", "flex").output().unwrap();
    let out = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{out}");
    assert!(out.contains("things: ") && out.contains("topic listens most to: "), "{out}");
}
