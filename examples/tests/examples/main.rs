//! The examples as a person runs them.

#![allow(clippy::unwrap_used)]

use std::{path::PathBuf, process::Command};

/// Where cargo put the example: beside the folder of this test.
fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let folder = test.parent().unwrap().parent().unwrap().join("examples");
    folder.join(format!("{name}{}", std::env::consts::EXE_SUFFIX))
}

/// With no arguments, on our own data: it says how it did and exits 0 only when it learned.
#[test]
fn adaptive_pooling() {
    let mut program = Command::new(example("adaptive_pooling"));
    let output = program.env("BURN_DEVICE", "flex").output().unwrap();
    let out = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{out}");
    for line in ["the commonest label", "mean pooling", "adaptive pooling", "[CLS]"] {
        assert!(out.contains(line), "{line:?} is not in {out}");
    }
}
