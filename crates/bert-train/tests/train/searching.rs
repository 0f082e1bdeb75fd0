//! Searches: what they try, how they go on, and what they come to.

use std::{
    fs,
    path::{Path, PathBuf},
};

use bert_heads::PoolingKind;
use bert_train::{
    Check, Error, Observer, SearchConfig, SearchReport, StepReport, TrialState, run, search,
};
use burn::tensor::Device;
use serde_json::Value;
use tempfile::TempDir;

use crate::{multi_task::opposites, reference::devices, runs::files};

/// Counts steps, and ends the work once after so many of them.
#[derive(Default)]
struct Stop {
    after: Option<usize>,
    steps: usize,
    checks: usize,
    notices: Vec<String>,
    /// A file that is written anew when the second trial begins.
    changes: Option<PathBuf>,
}

impl Stop {
    fn after(after: usize) -> Self {
        Self { after: Some(after), ..Self::default() }
    }
}

impl Observer for Stop {
    fn notice(&mut self, text: &str) {
        self.notices.push(text.to_owned());
        if text.starts_with("trial 1: ")
            && let Some(path) = &self.changes
        {
            relabel(path);
        }
    }
    fn checked(&mut self, _: &Check) -> bert_train::Result<()> {
        self.checks += 1;
        Ok(())
    }
    fn step(&mut self, _: &StepReport) {
        self.steps += 1;
    }
    fn is_interrupted(&self) -> bool {
        self.after == Some(self.steps)
    }
}

/// Gives a row of a data file the other label.
fn relabel(path: &Path) {
    let rows = fs::read_to_string(path).unwrap();
    fs::write(path, rows.replacen("bad\n", "good\n", 1)).unwrap();
}

/// A folder with a run file, its data, and a search file.
struct Desk {
    dir: TempDir,
    device: Device,
}

impl Desk {
    fn new(search: &str) -> Self {
        let (_, device) = devices().remove(0);
        let desk = Self { dir: tempfile::tempdir().unwrap(), device };
        let mut config = files(desk.dir.path(), 30, PoolingKind::Mean);
        config.recipe.epochs = 2;
        fs::write(desk.path("run.toml"), config.to_toml().unwrap()).unwrap();
        desk.write(search);
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, search: &str) {
        let run = format!("run = '{}'\n", self.path("run.toml").display());
        let text = if search.contains("[run]") { search.to_owned() } else { run + search };
        fs::write(self.path("search.toml"), text).unwrap();
    }

    /// The run file with other values at some of its keys.
    fn set(&self, keys: &str) {
        let path = self.path("run.toml");
        let mut run: toml::Table = toml::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        run.extend(toml::from_str::<toml::Table>(keys).unwrap());
        fs::write(path, toml::to_string(&run).unwrap()).unwrap();
    }

    fn search(&self, out: &str, stop: &mut Stop) -> bert_train::Result<SearchReport> {
        let config = SearchConfig::load(&self.path("search.toml"))?;
        search(&config, &self.path(out), false, &self.device, stop)
    }

    fn overwrite(&self, out: &str, stop: &mut Stop) -> bert_train::Result<SearchReport> {
        let config = SearchConfig::load(&self.path("search.toml"))?;
        search(&config, &self.path(out), true, &self.device, stop)
    }

    /// Asserts that a search that is there is not gone on with.
    fn assert_changed(&self, out: &str, parts: [&str; 2]) {
        let error = self.search(out, &mut Stop::default()).unwrap_err();
        assert!(
            matches!(error, Error::CheckpointChanged { .. }) && error.is_bad_input(),
            "{error}"
        );
        for part in parts {
            assert!(error.to_string().contains(part), "{part:?} is not in {error}");
        }
    }

    /// The report, and how many steps it took.
    fn finish(&self, out: &str) -> (SearchReport, usize) {
        let mut stop = Stop::default();
        let report = self.search(out, &mut stop).unwrap();
        (report, stop.steps)
    }

    fn refusal(&self) -> String {
        let error = self.search("refused", &mut Stop::default()).unwrap_err();
        assert!(error.is_bad_input(), "{error}");
        assert!(!self.path("refused").exists(), "{error}");
        error.to_string()
    }
}

/// All that a search comes to but times and the folder: the table, and the weights of every trial that came to its end.
fn outcome(out: &Path) -> (Value, Vec<Vec<u8>>) {
    let text = fs::read_to_string(out.join("search.json")).unwrap();
    let text = text.replace(out.to_str().unwrap(), "");
    let mut report: Value = serde_json::from_str(&text).unwrap();
    let mut weights = vec![];
    for trial in report["trials"].as_array_mut().unwrap() {
        trial.as_object_mut().unwrap().remove("seconds");
        if trial["state"] == "finished" {
            let path = out.join(format!("trial-{}/model.safetensors", trial["trial"]));
            weights.push(fs::read(path).unwrap());
        }
    }
    (report, weights)
}

const RANDOM: &str =
    "trials = 4\n[space]\nlr = { log = [1e-4, 1e-2] }\npooling = { choice = ['mean', 'max'] }\n";

#[test]
fn a_random_search_ranks_whole_runs_and_reads_what_is_there() {
    let desk = Desk::new(RANDOM);
    let (report, steps) = desk.finish("out");
    assert_eq!(report.trials.len(), 4);
    assert!(report.trials.is_sorted_by(|one, other| one.score >= other.score));
    assert_eq!(report.best.as_ref(), Some(&report.trials[0].path));
    assert_eq!(report.metric, "accuracy");
    for trial in &report.trials {
        assert_eq!(trial.state, TrialState::Finished);
        let run = fs::read_to_string(trial.path.join("run.toml")).unwrap();
        let run: toml::Table = toml::from_str(&run).unwrap();
        assert_eq!(run["lr"], trial.settings["lr"]);
        assert_eq!(run["pooling"], trial.settings["pooling"]);
        assert!(!trial.path.join("checkpoints").exists());
    }
    assert!(steps >= 4 && desk.finish("out") == (report.clone(), 0));

    // More trials, and none of those before is another or trained again.
    desk.write(&RANDOM.replace("trials = 4", "trials = 5"));
    let (more, more_steps) = desk.finish("out");
    assert_eq!(more_steps, steps / 4);
    let old = more.trials.into_iter().filter(|trial| trial.trial < 4).collect::<Vec<_>>();
    assert_eq!(old, report.trials);

    // Other settings in a directory that holds a trial already.
    desk.write(&RANDOM.replace("1e-2", "1e-3"));
    let error = desk.search("out", &mut Stop::default()).unwrap_err();
    assert!(matches!(error, Error::OutNotEmpty { .. }), "{error}");
}

const BY_EPOCHS: &str = "trials = 5\nseed = 7\nmethod = { kind = 'halving', eta = 2, epochs = [1, 3] }\n\
    [space]\nlr = { log = [1e-4, 1e-2] }\nweight_decay = { uniform = [0, 0.1] }\n";

const BY_STEPS: &str = "trials = 4\nmethod = { kind = 'halving', eta = 2, steps = [2, 7] }\n\
    [space]\nlr = { log = [1e-4, 1e-2] }\n";

/// Rungs of 1 and 2 epochs of 3, of which two in five go on and then one; whoever goes on was trained as by a run of its own.
#[test]
fn halving_goes_on_from_checkpoints_to_the_bit() {
    let desk = Desk::new(BY_EPOCHS);
    let (report, steps) = desk.finish("out");
    let stopped = |after: &str| {
        let is = |state: &TrialState| matches!(state, TrialState::Stopped { after: own } if own == after);
        report.trials.iter().filter(|trial| is(&trial.state)).count()
    };
    assert_eq!((stopped("1 epoch"), stopped("2 epochs")), (3, 1));
    assert_eq!(report.trials[0].state, TrialState::Finished);
    let best = report.best.clone().unwrap();

    let config = bert_train::RunConfig::load(&best.join("run.toml"), Default::default()).unwrap();
    let whole = desk.path("whole");
    let mut stop = Stop::default();
    run(&config, &whole, false, &desk.device, &mut stop).unwrap();
    // 5 trials for an epoch, 2 for another, 1 for a third.
    assert_eq!(steps, stop.steps / 3 * (5 + 2 + 1));
    for name in ["model.safetensors", "predictions.jsonl"] {
        assert!(
            fs::read(whole.join(name)).unwrap() == fs::read(best.join(name)).unwrap(),
            "{name}"
        );
    }
}

/// Ended after some step, or after each, and begun again, a search comes to the same table and weights.
#[test]
fn a_search_that_breaks_off_comes_to_the_same() {
    for search in [RANDOM, BY_EPOCHS, BY_STEPS] {
        let desk = Desk::new(search);
        let (_, steps) = desk.finish("whole");
        let expected = outcome(&desk.path("whole"));
        for after in (1..=steps).step_by(7) {
            let out = format!("after-{after}");
            let error = desk.search(&out, &mut Stop::after(after)).unwrap_err();
            assert!(error.is_interruption() && !error.is_bad_input(), "{error}");
            desk.finish(&out);
            assert!(outcome(&desk.path(&out)) == expected, "stopped after {after} of {steps}");
        }
    }
    let desk = Desk::new(BY_STEPS);
    let (_, steps) = desk.finish("whole");
    let mut ends = 0;
    while let Err(error) = desk.search("often", &mut Stop::after(1)) {
        assert!(matches!(error, Error::SearchInterrupted { .. }), "{error}");
        ends += 1;
    }
    assert!(ends >= steps - 1 && outcome(&desk.path("often")) == outcome(&desk.path("whole")));
}

/// A trial that rests is kept though no other checkpoints are: whoever goes on begins where it rested.
#[test]
fn halving_without_checkpoints_keeps_those_of_a_rest() {
    let desk = Desk::new(BY_STEPS);
    let (_, steps) = desk.finish("out");
    desk.set("checkpoint_every = 'never'");
    let (_, same) = desk.finish("never");
    assert!(outcome(&desk.path("never")) == outcome(&desk.path("out")));
    // Rungs at 2 and 4 steps of 7: 4 x 2 + 2 x 2 + 1 x 3.
    assert_eq!((steps, same), (15, 15));
}

/// 27 rows in batches of 8 are 4 steps an epoch, and there is one: the 7 steps of the method are taken all the same.
#[test]
fn halving_by_steps_goes_on_behind_the_epochs_of_the_run_file() {
    let desk = Desk::new(BY_STEPS);
    desk.set("epochs = 1");
    let (report, steps) = desk.finish("out");
    assert_eq!(steps, 15);
    let log = fs::read_to_string(report.trials[0].path.join("metrics.jsonl")).unwrap();
    assert!(log.contains("\"step\":7"), "{log}");

    let run = opposites(desk.dir.path()).to_toml().unwrap();
    fs::write(desk.path("run.toml"), run).unwrap();
    desk.set("sampling = { kind = 'annealed' }");
    let message = desk.refusal();
    assert!(
        message.contains("run.toml, line ") && message.contains("sampling: annealed"),
        "{message}"
    );
}

/// The first three trials have seen other rows than the next two would.
#[test]
fn a_table_is_of_one_data_set() {
    let desk = Desk::new(&RANDOM.replace("trials = 4", "trials = 3"));
    let data = desk.path("train.tsv");
    let rows = fs::read_to_string(&data).unwrap();
    let (report, _) = desk.finish("out");
    let changed = ["trial-0/trial.json", "train.tsv has other content"];
    desk.write(&RANDOM.replace("trials = 4", "trials = 5"));
    relabel(&data);
    desk.assert_changed("out", changed);
    assert!(!desk.path("out/trial-3").exists());
    fs::write(&data, &rows).unwrap();
    let (more, _) = desk.finish("out");
    assert!(report.trials.iter().all(|trial| more.trials.contains(trial)));

    // Also where they change while it searches.
    let mut stop = Stop { changes: Some(data.clone()), ..Stop::default() };
    let error = desk.search("meanwhile", &mut stop).unwrap_err();
    assert!(error.to_string().contains(changed[1]), "{error}");
    fs::write(&data, &rows).unwrap();

    // Of trials that were stopped and failed nothing is left but the journal.
    desk.write(BY_STEPS);
    desk.finish("halved");
    relabel(&data);
    desk.assert_changed("halved", changed);
    fs::write(&data, &rows).unwrap();
    desk.write("trials = 1\n[space]\nlr = { choice = [1e30] }");
    desk.finish("failed");
    relabel(&data);
    desk.assert_changed("failed", changed);
    // Who trains all anew gets a table of the new rows.
    desk.overwrite("failed", &mut Stop::default()).unwrap();
}

#[test]
fn a_search_goes_on_by_its_method() {
    let desk = Desk::new(BY_EPOCHS);
    desk.finish("out");
    desk.write(&BY_EPOCHS.replace("eta = 2", "eta = 3"));
    let said = "method was { kind = \"halving\", eta = 2, epochs = [1, 3] } and is { kind = \"halving\", eta = 3,";
    desk.assert_changed("out", [said, "trial-0/trial.json"]);
    // eval_every says by itself where steps are looked at.
    desk.set("eval_every = 1");
    desk.write(BY_STEPS);
    desk.finish("steps");
    desk.write(&BY_STEPS.replace("[2, 7]", "[3, 7]"));
    desk.assert_changed("steps", ["steps = [2, 7]", "steps = [3, 7]"]);
    desk.set("epochs = 7\nmax_steps = 7");
    desk.write("trials = 4\n[space]\nlr = { log = [1e-4, 1e-2] }\n");
    desk.assert_changed("steps", ["steps = [2, 7]", "kind = \"random\""]);
}

/// What an earlier search has left is no part of the new one, wherever that breaks off.
#[test]
fn overwriting_begins_anew_and_goes_on_without() {
    for search in [RANDOM, BY_EPOCHS] {
        let desk = Desk::new(search);
        let (_, steps) = desk.finish("whole");
        // One of other settings, and one of the same.
        for before in [search.replace("1e-2", "1e-3"), search.to_owned()] {
            desk.write(&before);
            desk.finish("out");
            desk.write(search);
            let error = desk.overwrite("out", &mut Stop::after(3)).unwrap_err();
            let said = "the same command without --overwrite goes on";
            assert!(error.is_interruption() && error.to_string().contains(said), "{error}");
            assert_eq!(desk.finish("out").1, steps - 3);
            assert!(outcome(&desk.path("out")) == outcome(&desk.path("whole")));
        }
    }
}

/// One step that is all warm-up, where the rate begins at 0, and two that are not.
#[test]
fn a_trial_that_would_learn_nothing_is_a_row() {
    let desk = Desk::new(
        "trials = 6\n[space]\nmax_steps = { choice = [1, 2] }\nseed = { int = [0, 99] }\n",
    );
    desk.set("warmup_ratio = 1.0");
    let (report, _) = desk.finish("out");
    let mut failed = 0;
    for trial in &report.trials {
        match (trial.settings["max_steps"].as_integer(), &trial.state) {
            (Some(2), TrialState::Finished) => {}
            (Some(1), TrialState::Failed { reason })
                if reason.starts_with("the learning rate of ") =>
            {
                failed += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!((1..6).contains(&failed), "{report}");
    assert_eq!(desk.finish("out"), (report, 0));
}

#[test]
fn trials_are_checked_as_runs_are() {
    let desk = Desk::new(RANDOM);
    let mut stop = Stop::default();
    desk.search("out", &mut stop).unwrap();
    assert_eq!(stop.checks, 4);
}

#[test]
fn a_trial_that_fails_is_a_row() {
    let desk = Desk::new(
        "trials = 6\n[space]\nlr = { choice = [1e30, 1e-3] }\nseed = { int = [0, 99] }\n",
    );
    let (report, _) = desk.finish("out");
    let failed: Vec<_> =
        report.trials.iter().filter(|trial| trial.settings["lr"].as_float() > Some(1.0)).collect();
    assert!((1..6).contains(&failed.len()), "{report}");
    for trial in &report.trials {
        match &trial.state {
            TrialState::Failed { reason } => {
                assert!(
                    reason.contains(" is NaN at step ") || reason.contains(" is inf"),
                    "{reason}"
                );
                assert!(trial.score.is_none() && trial.settings["lr"].as_float() > Some(1.0));
            }
            state => assert_eq!((state, trial.score.is_some()), (&TrialState::Finished, true)),
        }
    }
    assert_eq!(report.trials[5 - failed.len()].state, TrialState::Finished);
    assert_eq!(desk.finish("out"), (report, 0));
}

/// Two choices have two settings, however many trials there are.
#[test]
fn a_trial_that_is_another_one_again_is_left_out() {
    let desk = Desk::new("trials = 9\n[space]\npooling = { choice = ['mean', 'max'] }\n");
    let mut stop = Stop::default();
    let report = desk.search("out", &mut stop).unwrap();
    assert_eq!(report.trials.len(), 2);
    let left_out = stop.notices.iter().filter(|notice| notice.contains("again (pooling m"));
    assert_eq!(left_out.count(), 7);
}

#[test]
fn tasks_are_searched_too() {
    let desk = Desk::new("");
    let run = opposites(desk.dir.path()).to_toml().unwrap();
    fs::write(desk.path("run.toml"), run).unwrap();
    desk.write(
        "trials = 3\nmethod = { kind = 'halving', epochs = [1, 2] }\n[space]\nlr = { log = [1e-4, 1e-2] }\n\
         [space.task.label]\nweight = { uniform = [0.5, 2] }\n",
    );
    let (report, _) = desk.finish("out");
    let first = &report.trials[0];
    assert!(report.metric.starts_with("mean of label accuracy, "), "{}", report.metric);
    assert!(first.settings["task"]["label"]["weight"].is_float());
    assert_eq!(report.trials.iter().filter(|trial| trial.state == TrialState::Finished).count(), 1);
    assert!(report.to_string().contains("task.label.weight"), "{report}");
}

#[test]
fn a_run_in_the_search_file_itself() {
    let desk = Desk::new("");
    let run = fs::read_to_string(desk.path("run.toml")).unwrap();
    let search =
        |run: &str| format!("trials = 1\n[space]\nlr = {{ log = [1e-4, 1e-2] }}\n[run]\n{run}");
    desk.write(&search(&run));
    assert_eq!(desk.finish("out").0.trials.len(), 1);
    desk.write(&search(&format!("epoch = 3\n{run}")));
    let message = desk.refusal();
    assert!(
        message.contains("search.toml, line 5: unknown key \"epoch\": did you mean"),
        "{message}"
    );
}

#[test]
fn what_cannot_be_searched_is_refused_before_the_first_trial() {
    let cases = [
        ("trials = 0\n[space]\nlr = { log = [1, 2] }", "line 2: trials: expected a whole number"),
        ("[space]\nlr = { log = [1, 2] }", "line 1: trials: expected a whole number"),
        ("trials = 1\nsped = 1\n[space]\nlr = { log = [1, 2] }", "line 3: unknown key \"sped\""),
        ("trials = 1\nseed = -1\n[space]\nlr = { log = [1, 2] }", "line 3: seed: expected a whole"),
        ("trials = 1\n", "line 1: expected a table [space]"),
        ("trials = 1\n[space]\nlrr = { log = [1, 2] }", "line 4: lrr = 1.0: unknown key \"lrr\""),
        // 0 and 3 are refused though no trial may draw them.
        ("trials = 1\n[space]\nepochs = { int = [0, 9] }", "line 4: epochs = 0: epochs must be"),
        (
            "trials = 1\n[space]\nlr = { log = [1e-5, 1e-3] }\npooling = { choice = ['mean', 'multi-head=3'] }",
            "line 5: pooling = \"multi-head=3\": multi-head=3 does not divide",
        ),
        (
            "trials = 1\n[space]\npooling = { choice = ['mean', 'meen'] }",
            "line 4: pooling = \"meen\": pooling: ",
        ),
        (
            "trials = 1\n[space]\nlr = { log = [1, 2] }\nepochs = { uniform = [1, 2] }",
            "line 5: epochs = 1.0: ",
        ),
        ("trials = 1\n[space.task.a]\nweight = { log = [1, 2] }", "line 4: task.a.weight = 1.0: "),
        (
            "trials = 1\nmethod = 3\n[space]\nlr = { log = [1, 2] }",
            "line 3: method: expected { kind",
        ),
        (
            "trials = 1\nmethod = { kind = 'halving', eta = 1, epochs = [1, 2] }\n[space]\nlr = { log = [1, 2] }",
            "line 3: method: eta must be",
        ),
        (
            "trials = 1\nmethod = { kind = 'halving' }\n[space]\nlr = { log = [1, 2] }",
            "line 3: method: expected epochs = ",
        ),
        (
            "trials = 1\nmethod = { kind = 'halving', epochs = [2, 2] }\n[space]\nlr = { log = [1, 2] }",
            "line 3: method: expected two whole numbers",
        ),
        (
            "trials = 1\nmethod = { kind = 'halving', steps = [4, 1000001] }\n[space]\nlr = { log = [1, 2] }",
            "line 3: method: expected two whole numbers from 1 to 1000000",
        ),
        (
            "trials = 1\nmethod = { kind = 'halving', epoch = [1, 2] }\n[space]\nlr = { log = [1, 2] }",
            "line 3: unknown key \"method.epoch\": did you mean \"epochs\"?",
        ),
        (
            "trials = 1\nmethod = { kind = 'halving', epochs = [1, 2] }\n[space]\nepochs = { int = [1, 2] }",
            "line 5: epochs says how long a trial is trained",
        ),
        (
            "trials = 1\n[space]\nmetric = { choice = ['accuracy', 'f1', 'nonsense'] }",
            "line 4: metric = \"nonsense\": there is no metric \"nonsense\" here",
        ),
        ("trials = 1\n[space]\ntext = { choice = [[1], ['7']] }", "line 4: text = [\"7\"]: "),
        (
            "trials = 1\n[space]\ndev_fraction = { choice = [0.5, 7.0] }",
            "line 4: dev_fraction = 7.0: the dev fraction must be above 0",
        ),
    ];
    for (search, expected) in cases {
        let desk = Desk::new(search);
        let message = desk.refusal();
        assert!(message.contains(&format!("search.toml, {expected}")), "{search}\n{message}");
    }

    let desk = Desk::new(
        "trials = 1\nmethod = { kind = 'halving', steps = [4, 9] }\n[space]\nlr = { log = [1, 2] }",
    );
    let run = fs::read_to_string(desk.path("run.toml")).unwrap();
    fs::write(desk.path("run.toml"), format!("eval_every = 3\n{run}")).unwrap();
    assert!(
        desk.refusal().contains("run.toml, line 1: eval_every = 3 does not divide the 4 steps")
    );
    // A fault of the run file itself is told as such.
    fs::write(desk.path("run.toml"), format!("{run}\nold = 0")).unwrap();
    let message = desk.refusal();
    assert!(message.contains("run.toml, line "), "{message}");
    fs::write(desk.path("search.toml"), "trials = 1\nrun = 3\n[space]\nlr = { log = [1, 2] }")
        .unwrap();
    assert!(desk.refusal().contains("search.toml, line 2: run: expected the path of a run file"));
}

/// What hangs on the first row of the data, and on what the data hold.
#[test]
fn what_the_data_do_not_fit_is_refused_before_the_first_trial() {
    // 14 of 16 tokens are the text's.
    let desk = Desk::new("trials = 1\n[space]\nstride = { choice = [3, 15] }");
    desk.set("long = 'windows'");
    let message = desk.refusal();
    assert!(message.contains("search.toml, line 4: stride = 15: a stride of 15"), "{message}");

    fs::write(desk.path("train.conll"), "the\tO\n\n").unwrap();
    let train = desk.path("train.conll");
    desk.set(&format!("train = '{}'\nlong = 'truncate'\npooling = 'cls'", train.display()));
    desk.write("trials = 1\n[space]\npooling = { choice = ['cls', 'mean'] }");
    let message = desk.refusal();
    assert!(message.contains("a tagger pools nothing"), "{message}");

    let run = opposites(desk.dir.path()).to_toml().unwrap();
    fs::write(desk.path("run.toml"), run).unwrap();
    for (space, expected) in [
        (
            "dev_fraction = { choice = [0.5, 7.0] }",
            "task.label.dev_fraction = 7.0: task \"label\": dev_fraction must",
        ),
        (
            "label = { choice = ['label', 'lable'] }",
            "task.label.label = \"lable\": task \"label\": ",
        ),
    ] {
        desk.write(&format!("trials = 1\n[space.task.label]\n{space}"));
        let message = desk.refusal();
        assert!(message.contains(&format!("search.toml, line 4: {expected}")), "{message}");
    }
}

#[test]
fn a_directory_of_something_else_is_refused() {
    let desk = Desk::new(RANDOM);
    fs::create_dir(desk.path("out")).unwrap();
    fs::write(desk.path("out/.partial-a"), "").unwrap();
    // A search that was killed before its first file is there is no search yet, and in nobody's way.
    assert!(desk.search("out", &mut Stop::after(1)).is_err_and(|error| error.is_interruption()));
    fs::create_dir(desk.path("other")).unwrap();
    fs::write(desk.path("other/notes.txt"), "mine").unwrap();
    let error = desk.search("other", &mut Stop::default()).unwrap_err();
    assert!(matches!(error, Error::OutNotSearch { .. }) && error.is_bad_input(), "{error}");
}
