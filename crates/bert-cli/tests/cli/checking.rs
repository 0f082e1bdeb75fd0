//! The first step before all others: `bert train --check`, and what every run says of its own.

use crate::{Desk, json, reference, stderr, stdout, text};

/// A check of the tiny BERT on `train.tsv`.
fn check(desk: &Desk, more: &[&str]) -> std::process::Output {
    let model = reference().join("tiny-bert");
    let arguments = ["train", "--check", "--train", "train.tsv", "--model", text(&model)];
    desk.bert(&[&arguments[..], more].concat())
}

#[test]
fn a_check_prints_a_table_and_writes_nothing() {
    let desk = Desk::new();
    let output = check(&desk, &["--head-lr", "1e-3", "--max-length", "5"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let table = stdout(&output);
    let header = table.lines().next().unwrap().split_whitespace();
    let columns = ["tensors", "values", "gradient", "rate", "decay", "clip", "parameters"];
    assert_eq!(header.collect::<Vec<_>>(), columns);
    let row = table.lines().find(|line| line.ends_with("classifier.weight")).unwrap();
    let cells: Vec<&str> = row.split_whitespace().collect();
    // 32 values for each of two labels.
    assert_eq!(
        (cells[0], cells[1], cells[3], cells[4], cells[5]),
        ("1", "64", "1.00e-3", "0.01", "1")
    );
    // 36 rows in batches of 32, 3 epochs: 6 steps; half of them, the 18 of five words, are cut.
    assert!(table.contains("\nsteps   6, 0 of them warm-up; about "), "{table}");
    assert!(table.contains("\ntexts   36, 18 of them cut (50.0 %)\n"), "{table}");
    assert!(table.contains("\nmemory  about "), "{table}");
    let names = std::fs::read_dir(desk.path("")).unwrap();
    assert_eq!(names.count(), 1);

    let check = json(&check(&desk, &["--json"]));
    assert_eq!(check["step"], 1);
    assert_eq!(check["groups"][0]["training"]["clip"], 1.0);
    assert_eq!(check["plan"]["steps"], 6);
}

#[test]
fn every_run_says_that_it_was_checked() {
    let desk = Desk::new();
    let output = desk.train(&[]);
    let said = stderr(&output);
    let lines: Vec<&str> = said.lines().filter(|line| line.starts_with("checked: ")).collect();
    let [line] = lines[..] else { panic!("{said}") };
    assert!(line.starts_with("checked: 41 tensors ("), "{line}");
    assert!(line.contains(" trained in 2 groups; 4 steps, 0 of them warm-up, about "), "{line}");
    let written = std::fs::read_to_string(desk.path("run/check.json")).unwrap();
    let written: serde_json::Value = serde_json::from_str(&written).unwrap();
    assert_eq!(written["plan"]["steps"], 4);
}

#[test]
fn a_fault_is_the_exit_code() {
    let desk = Desk::new();
    let model = reference().join("tiny-bert");
    let file = "warmup_ratio = 1.0\nmax_steps = 1\ntrain = \"train.tsv\"\n".to_owned();
    desk.write("run.toml", file + &format!("model = {:?}\n", text(&model)));
    let output = desk.bert(&["train", "run.toml", "--check"]);
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    let said = stderr(&output);
    assert!(
        said.lines().last().unwrap().starts_with("error: the learning rate of bert."),
        "{said}"
    );
    assert!(said.contains("(41 parameters in all) is 0 in every step"), "{said}");
    assert_eq!(stdout(&output), "");
}
