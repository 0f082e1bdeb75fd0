//! The program as a person runs it: what it prints, what it writes, how it refuses.

#![allow(clippy::unwrap_used)]

mod bad_input;
mod breaking_off;
mod checking;
mod commands;
mod dashboard;
mod reports;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use tempfile::TempDir;

/// The tiny models of the reference.
fn reference() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../bert-core/tests/reference")
}

/// A folder with a data file and room for a run.
struct Desk {
    folder: TempDir,
}

impl Desk {
    fn new() -> Self {
        let desk = Self { folder: tempfile::tempdir().unwrap() };
        let rows = (0..40).map(|i| ["the movie was great\tgood\n", "a bad plot\tbad\n"][i % 2]);
        desk.write("train.tsv", rows.collect::<String>());
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.path(name), content).unwrap();
    }

    /// Copies a model directory of the reference.
    fn copy_model(&self, model: &str, name: &str) {
        fs::create_dir_all(self.path(name)).unwrap();
        for entry in fs::read_dir(reference().join(model)).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), self.path(name).join(entry.file_name())).unwrap();
        }
    }

    /// The program in this folder, on the CPU whatever else was compiled in.
    fn program(&self) -> Command {
        self.program_of(env!("CARGO_BIN_EXE_bert"))
    }

    /// Any program in this folder.
    fn program_of(&self, name: &str) -> Command {
        let mut command = Command::new(name);
        command.current_dir(&self.folder).env("BURN_DEVICE", "flex");
        command
    }

    fn bert(&self, arguments: &[&str]) -> Output {
        self.program().args(arguments).output().unwrap()
    }

    /// Trains the tiny BERT on `train.tsv` for two epochs, unless `more` says otherwise.
    fn train(&self, more: &[&str]) -> Output {
        let model = reference().join("tiny-bert");
        let mut arguments = vec!["train", "--train", "train.tsv"];
        if !more.contains(&"--out") {
            arguments.extend(["--out", "run"]);
        }
        if !more.contains(&"--epochs") {
            arguments.extend(["--epochs", "2"]);
        }
        if !more.contains(&"--model") {
            arguments.extend(["--model", text(&model)]);
        }
        arguments.extend(more);
        self.bert(&arguments)
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// The one line of JSON on standard output.
#[track_caller]
fn json(output: &Output) -> serde_json::Value {
    assert!(output.status.success(), "{}", stderr(output));
    let out = stdout(output);
    assert_eq!(out.lines().count(), 1, "{out}");
    serde_json::from_str(&out).unwrap()
}
