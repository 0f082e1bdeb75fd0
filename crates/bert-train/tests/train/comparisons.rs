//! Several runs, and what they come to side by side.

use std::{
    fs,
    path::{Path, PathBuf},
};

use bert_heads::PoolingKind;
use bert_train::{
    Comparison, Error, Every, Measurement, Observer, Recipe, RunConfig, ScoreChoice, Scoring,
    StepReport, TrainedModel, compare, run, run_seeds,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    examples,
    reference::{devices, folder},
};

/// A run on 40 texts, measured on 20 others.
fn config(dir: &Path) -> RunConfig {
    let row = |e: &bert_train::Example| format!("{}\t{}\n", e.text, e.label.as_ref().unwrap());
    let rows: Vec<String> = examples(60).iter().map(row).collect();
    fs::write(dir.join("train.tsv"), rows[..40].concat()).unwrap();
    fs::write(dir.join("dev.tsv"), rows[40..].concat()).unwrap();
    RunConfig {
        dev: Some(dir.join("dev.tsv")),
        max_length: Some(16),
        recipe: Recipe { epochs: 2, learning_rate: 2e-3, batch_size: 8, ..Recipe::default() },
        ..RunConfig::new(folder().join("tiny-bert"), dir.join("train.tsv"))
    }
}

/// Ends the work after so many steps.
struct Stop(usize);

impl Observer for Stop {
    fn step(&mut self, _: &StepReport) {
        self.0 = self.0.saturating_sub(1);
    }
    fn is_interrupted(&self) -> bool {
        self.0 == 0
    }
}

#[derive(Default)]
struct Notices(Vec<String>);

impl Observer for Notices {
    fn notice(&mut self, text: &str) {
        self.0.push(text.to_owned());
    }
}

/// By the scores that chose the best models.
fn on_dev(runs: &[PathBuf]) -> bert_train::Result<Comparison> {
    compare(runs, Scoring::Dev(&ScoreChoice::default()))
}

fn measured_on<'a>(path: &'a Path, metric: Option<&str>) -> Measurement<'a> {
    Measurement {
        path,
        format: None,
        columns: &Clone::clone,
        score: ScoreChoice { task: None, metric: metric.map(String::from) },
        max_length: None,
        batch_size: 4,
    }
}

const POOLINGS: [PoolingKind; 2] = [PoolingKind::Mean, PoolingKind::MultiHead { heads: 4 }];

#[test]
fn several_poolings_and_seeds_are_trained_once_and_compared() {
    let (_, device) = devices().remove(0);
    let dir = TempDir::new().unwrap();
    let config = config(dir.path());
    let out = dir.path().join("runs");
    let start = |overwrite: bool| {
        let mut notices = Notices::default();
        let comparison =
            run_seeds(&config, &POOLINGS, 2, &out, overwrite, &device, &mut notices).unwrap();
        let skipped = notices.0.iter().filter(|notice| notice.contains("not trained again"));
        (comparison, skipped.count())
    };
    let (first, skipped) = start(false);
    assert_eq!(skipped, 0);
    let names: Vec<&str> = first.groups.iter().map(|group| group.name.as_str()).collect();
    assert_eq!(names, ["pooling mean", "pooling multi-head=4"]);
    let seeds: Vec<u64> = first.groups[1].runs.iter().map(|run| run.seed).collect();
    assert_eq!(seeds, [0, 1]);
    assert_eq!((first.pairs.len(), first.pairs[0].seeds), (1, 2));
    assert_eq!(first.lengths.iter().map(|bucket| bucket.rows).sum::<usize>(), 20);

    // What each run scored is in its directory, and a single run gives the same.
    let last = out.join("multi-head=4/seed-1");
    assert_eq!(first.groups[1].runs[1].path, last);
    let report: Value = json_of(&last.join("report.json"));
    assert_eq!(report["metric"], "accuracy");
    assert_eq!(report["value"], first.groups[1].runs[1].value);
    assert_eq!(report["value"], report["dev"]["accuracy"]);

    // Nothing is trained twice; what was broken off is, with the same result.
    let (again, skipped) = start(false);
    assert_eq!((again, skipped), (first.clone(), 4));
    fs::remove_file(last.join("report.json")).unwrap();
    fs::remove_file(last.join("model.safetensors")).unwrap();
    let (again, skipped) = start(false);
    assert_eq!((again, skipped), (first.clone(), 3));
    assert!(last.join("model.safetensors").exists());
    let (again, skipped) = start(true);
    assert_eq!((again, skipped), (first.clone(), 0));

    // Begun anew and broken off in the first run, of 5 steps an epoch: the others are none of the new ones.
    let error = run_seeds(&config, &POOLINGS, 2, &out, true, &device, &mut Stop(3)).unwrap_err();
    assert!(error.is_interruption() && !error.is_bad_input(), "{error}");
    let said = ["run 1 of 4, ", "seed-0: the same command without --overwrite goes on"];
    assert!(said.iter().all(|part| error.to_string().contains(part)), "{error}");
    let (again, skipped) = start(false);
    assert_eq!((again, skipped), (first, 0));

    // What changes no number makes no other run of it.
    let mut free = config.clone();
    free.recipe.control.checkpoint_every = Every::Steps(3);
    free.recipe.control.tensorboard = true;
    let mut notices = Notices::default();
    run_seeds(&free, &POOLINGS, 2, &out, false, &device, &mut notices).unwrap();
    let is_skipped = |notice: &&String| notice.ends_with("not trained again");
    assert_eq!(notices.0.iter().filter(is_skipped).count(), 4);

    // What was trained on other data is not taken for the same.
    let rows = fs::read_to_string(&config.train).unwrap();
    fs::write(&config.train, rows.replacen("bad\n", "good\n", 1)).unwrap();
    let error = run_seeds(&config, &POOLINGS, 2, &out, false, &device, &mut ()).unwrap_err();
    assert!(error.is_bad_input() && error.to_string().contains("train.tsv has other"), "{error}");
    fs::write(&config.train, rows).unwrap();

    // Other settings do not replace a run unless told.
    let other = RunConfig { max_length: Some(12), ..config.clone() };
    let error = run_seeds(&other, &POOLINGS, 2, &out, false, &device, &mut ()).unwrap_err();
    assert!(matches!(error, Error::OutNotEmpty { .. }), "{error}");
}

fn json_of(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// What cannot be run is refused before the first of the runs.
#[test]
fn a_pooling_that_does_not_fit_stops_all_before_the_first() {
    let (_, device) = devices().remove(0);
    let dir = TempDir::new().unwrap();
    let config = config(dir.path());
    let out = dir.path().join("runs");
    let poolings = [PoolingKind::Mean, PoolingKind::MultiHead { heads: 5 }];
    let error = run_seeds(&config, &poolings, 1, &out, false, &device, &mut ()).unwrap_err();
    assert!(matches!(error, Error::PoolingHeads { heads: 5, hidden_size: 32 }), "{error}");
    fs::write(dir.path().join("tags.conll"), "the\tO\nmovie\tB-X\n\n".repeat(20)).unwrap();
    let tags = RunConfig { train: dir.path().join("tags.conll"), dev: None, ..config };
    let error = run_seeds(&tags, &POOLINGS[1..], 1, &out, false, &device, &mut ()).unwrap_err();
    assert!(matches!(error, Error::PoolingOfTokens { .. }), "{error}");
    assert!(!out.exists());
}

/// Rows that a seed holds out are compared with those of the same seed; taggers are compared by F1.
#[test]
fn runs_without_a_dev_file_and_taggers() {
    let (_, device) = devices().remove(0);
    let dir = TempDir::new().unwrap();
    let texts = RunConfig { dev: None, dev_fraction: Some(0.3), ..config(dir.path()) };
    let out = dir.path().join("texts");
    let comparison =
        run_seeds(&texts, &[PoolingKind::Mean, PoolingKind::Max], 2, &out, false, &device, &mut ());
    let comparison = comparison.unwrap();
    assert_eq!(comparison.pairs[0].seeds, 2);
    let held_out =
        |seed: &str| fs::read_to_string(out.join(seed).join("predictions.jsonl")).unwrap();
    let rows = |text: String| -> Vec<Value> {
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.map(|line| line["row"].clone()).collect()
    };
    assert_ne!(rows(held_out("mean/seed-0")), rows(held_out("mean/seed-1")));
    assert_eq!(rows(held_out("mean/seed-0")), rows(held_out("max/seed-0")));
    // Other shares of the rows are other rows.
    let other = RunConfig { dev_fraction: Some(0.4), ..texts };
    let single = dir.path().join("other");
    run(&other, &single, false, &device, &mut ()).unwrap();
    let error = on_dev(&[out.join("mean/seed-0"), single]).unwrap_err();
    assert!(matches!(error, Error::DevRows { .. }), "{error}");

    let sentence = "the\tO\nmovie\tB-X\nplot\tI-X\n\na\tO\nfilm\tB-X\n\n";
    fs::write(dir.path().join("tags.conll"), sentence.repeat(15)).unwrap();
    let tags = RunConfig { train: dir.path().join("tags.conll"), ..other };
    let out = dir.path().join("tags");
    let comparison =
        run_seeds(&tags, &[PoolingKind::Cls], 2, &out, false, &device, &mut ()).unwrap();
    assert_eq!(comparison.metric, "f1");
    assert_eq!(comparison.groups[0].name, "all runs");
    assert_eq!((comparison.pairs.len(), comparison.lengths.len()), (0, 0));
    assert_eq!(comparison.groups[0].not_above_majority, None);
    let report = json_of(&out.join("seed-1/report.json"));
    assert_eq!(report["value"], report["dev"]["f1"]);
}

/// The answers that a run writes are those of its model, on its dev rows and on other data.
#[test]
fn answers_are_those_of_the_model() {
    let (_, device) = devices().remove(0);
    let dir = TempDir::new().unwrap();
    let config = config(dir.path());
    let out = dir.path().join("run");
    let report = run(&config, &out, false, &device, &mut ()).unwrap();
    let model = TrainedModel::load(&out, &device).unwrap();
    let score = |path: &str| {
        model.score(&out, &measured_on(&dir.path().join(path), None), &device).unwrap()
    };
    let dev = score("dev.tsv");
    assert_eq!((dev.metric.as_str(), dev.value), ("accuracy", report.dev.main()));
    let written = fs::read_to_string(out.join("predictions.jsonl")).unwrap();
    let lines: Vec<String> =
        dev.rows.iter().map(|row| serde_json::to_string(row).unwrap()).collect();
    assert_eq!(written.lines().collect::<Vec<_>>(), lines);
    let first: Value = serde_json::from_str(&lines[0]).unwrap();
    let text = fs::read_to_string(dir.path().join("dev.tsv")).unwrap();
    let words = text.lines().next().unwrap().split(['\t', ' ']).count() - 1;
    assert_eq!(first["row"], 1);
    assert_eq!(first["gold"], text.lines().next().unwrap().split('\t').nth(1).unwrap());
    // Each word is a token, and there are [CLS] and [SEP].
    assert_eq!(first["tokens"], words + 2);
    assert_eq!(score("train.tsv").rows.len(), 40);
}

/// A run is judged by the score that chose its best model, in its report and in comparisons, unless another one is named.
#[test]
fn the_score_that_chose_the_best_model_is_compared() {
    let (_, device) = devices().remove(0);
    let dir = TempDir::new().unwrap();
    let mut config = config(dir.path());
    config.recipe.control.metric = Some("loss".into());
    let runs = [1, 2].map(|seed| {
        config.recipe.seed = seed;
        let out = dir.path().join(seed.to_string());
        run(&config, &out, false, &device, &mut ()).unwrap();
        out
    });
    let report = json_of(&runs[0].join("report.json"));
    assert_eq!((&report["metric"], &report["value"]), (&json!("loss"), &report["dev"]["loss"]));
    let by_loss = on_dev(&runs).unwrap();
    assert_eq!((by_loss.metric.as_str(), by_loss.is_error), ("loss", true));
    assert_eq!(report["value"], by_loss.groups[0].runs[0].value);
    assert!(by_loss.to_string().starts_with("loss  "), "{by_loss}");
    // Rows have answers all the same.
    assert!(by_loss.groups[0].not_above_majority.is_some() && !by_loss.lengths.is_empty());

    let model = TrainedModel::load(&runs[0], &device).unwrap();
    let dev = dir.path().join("dev.tsv");
    let score = |metric| model.score(&runs[0], &measured_on(&dev, metric), &device);
    let own = score(None).unwrap();
    assert_eq!((own.metric.as_str(), json!(own.value)), ("loss", report["value"].clone()));
    let f1 = score(Some("f1_macro")).unwrap();
    assert_eq!(
        (f1.metric.as_str(), json!(f1.value)),
        ("f1_macro", report["dev"]["f1_macro"].clone())
    );
    let choice = ScoreChoice { task: None, metric: Some("f1_macro".into()) };
    let by_f1 = compare(&runs, Scoring::Dev(&choice)).unwrap();
    assert_eq!((by_f1.metric.as_str(), by_f1.groups[0].runs[0].value), ("f1_macro", f1.value));
    let error = score(Some("kappa")).unwrap_err();
    assert!(matches!(error, Error::UnknownMetric { .. }), "{error}");

    // How often a checkpoint was written makes no other group; another score cannot be compared.
    config.recipe.control.metric = None;
    config.recipe.control.checkpoint_every = bert_train::Every::Never;
    let third = dir.path().join("third");
    run(&config, &third, false, &device, &mut ()).unwrap();
    let error = on_dev(&[runs[0].clone(), third.clone()]).unwrap_err();
    assert!(
        error.to_string().contains("third by accuracy: name a score that both have"),
        "{error}"
    );
    let settings = fs::read_to_string(third.join("run.toml")).unwrap();
    fs::write(third.join("run.toml"), settings + "metric = \"loss\"\n").unwrap();
    let same = compare(&[runs[0].clone(), third], Scoring::Dev(&choice)).unwrap();
    assert_eq!(same.groups[0].name, "all runs");
}

/// A run as it is written down: its rows are (gold, predicted, tokens).
fn write_run(dir: &Path, settings: &str, rows: &[(&str, &str, usize)]) -> PathBuf {
    fs::create_dir_all(dir).unwrap();
    let head = "model = \"m\"\ntrain = \"t\"\ndev = \"d\"\n";
    fs::write(dir.join("run.toml"), format!("{head}{settings}\n")).unwrap();
    let right = rows.iter().filter(|(gold, predicted, _)| gold == predicted).count();
    let value = right as f64 / rows.len() as f64;
    let report = json!({ "metric": "accuracy", "value": value, "dev": { "accuracy": value } });
    fs::write(dir.join("report.json"), report.to_string()).unwrap();
    let lines: String = rows
        .iter()
        .enumerate()
        .map(|(row, (gold, predicted, tokens))| {
            let row = row + 1;
            json!({ "row": row, "gold": gold, "predicted": predicted, "tokens": tokens })
                .to_string()
                + "\n"
        })
        .collect();
    fs::write(dir.join("predictions.jsonl"), lines).unwrap();
    dir.to_owned()
}

/// Eight rows, two of each length; `wrong` are answered wrongly.
fn rows(wrong: &[usize]) -> Vec<(&'static str, &'static str, usize)> {
    (0..8)
        .map(|row| {
            let gold = ["a", "b"][usize::from(row >= 5)];
            let predicted = if wrong.contains(&row) { "c" } else { gold };
            (gold, predicted, 3 + 2 * (row / 2))
        })
        .collect()
}

/// Two settings with three seeds each, written by hand.
fn by_hand(dir: &Path) -> Comparison {
    let wrong: [(&str, &[usize]); 6] = [
        ("lr = 0.1\nseed = 0", &[0]),
        ("lr = 0.1\nseed = 1", &[0, 7]),
        ("lr = 0.1\nseed = 2", &[]),
        ("lr = 0.2\nseed = 0", &[0, 6, 7]),
        ("lr = 0.2\nseed = 1", &[1, 6, 7]),
        ("lr = 0.2\nseed = 2", &[6, 7]),
    ];
    let runs: Vec<PathBuf> = wrong
        .iter()
        .enumerate()
        .map(|(i, (settings, wrong))| write_run(&dir.join(i.to_string()), settings, &rows(wrong)))
        .collect();
    on_dev(&runs).unwrap()
}

#[test]
fn a_comparison_by_hand() {
    let dir = TempDir::new().unwrap();
    let comparison = by_hand(dir.path());
    let [first, second] = &comparison.groups[..] else { panic!("{comparison:?}") };
    assert_eq!((first.name.as_str(), second.name.as_str()), ("lr 0.1", "lr 0.2"));
    // Right of eight: 7, 6, 8 and 5, 5, 6; always answering "a" has 5.
    assert_eq!((first.summary.mean, first.summary.median), (0.875, 0.875));
    assert!((first.summary.sd.unwrap() - 0.125).abs() < 1e-12);
    assert_eq!((second.summary.min, second.summary.max), (0.625, 0.75));
    assert_eq!((first.not_above_majority, second.not_above_majority), (Some(0), Some(2)));

    // Differences 2/8, 1/8, 2/8: mean 5/24, sd sqrt(3)/24, so that t = 5 with 2 degrees of freedom.
    let pair = &comparison.pairs[0];
    assert!((pair.difference.unwrap() - 5.0 / 24.0).abs() < 1e-12);
    let test = pair.t_test.unwrap();
    // scipy.stats.ttest_rel([7/8, 6/8, 1], [5/8, 5/8, 6/8]).pvalue
    assert!((test.p - 0.03774955135062365).abs() < 1e-10, "{test:?}");
    // Only the first is right on rows 6 and 7; 1 and 6; 6 and 7; only the second on row 0 of seed 1.
    let signs = pair.sign_test.unwrap();
    assert_eq!((signs.first, signs.second), (6, 1));
    // 2 * (1 + 7) / 2^7
    assert!((signs.p - 0.125).abs() < 1e-12);

    // The quarters end at 3, 5, 7 and 9 tokens.
    let lengths: Vec<_> = comparison
        .lengths
        .iter()
        .map(|b| (b.from, b.to, b.rows, b.accuracies[0].unwrap(), b.accuracies[1].unwrap()))
        .collect();
    // Of six answers each: rows 0 and 1; 2 and 3; 4 and 5; 6 and 7.
    let expected = [
        (3, 3, 2, 4.0 / 6.0, 4.0 / 6.0),
        (4, 5, 2, 1.0, 1.0),
        (6, 7, 2, 1.0, 1.0),
        (8, 9, 2, 5.0 / 6.0, 0.0),
    ];
    assert_eq!(lengths, expected);

    let shown = comparison.to_string();
    for line in [
        "accuracy in %  runs    mean      sd  median     min     max",
        "lr 0.1            3   87.50   12.50   87.50   75.00  100.00",
        "2 of 3 of lr 0.2 did not beat the commonest label",
        "tokens               3-3       4-5       6-7       8-9",
        "lr 0.2             66.67    100.00    100.00      0.00",
        "lr 0.1 is better than lr 0.2 by 20.8 points (95 % interval 2.9 to 38.8, 3 seeds); rows that only lr 0.1 has right: \
         6, only lr 0.2: 1 (p = 0.12)",
    ] {
        assert!(shown.contains(line), "{line:?} is not in\n{shown}");
    }
    let json = serde_json::to_value(&comparison).unwrap();
    assert_eq!(json["groups"][1]["name"], "lr 0.2");
    assert_eq!(json["groups"][1]["n"], 3);
    assert_eq!(json["pairs"][0]["sentence"], pair.sentence);
}

/// A run that has something no other has is a group of its own; another score replaces that on dev.
#[test]
fn groups_and_scores_of_another_kind() {
    let dir = TempDir::new().unwrap();
    let one = write_run(&dir.path().join("one"), "seed = 4", &rows(&[1]));
    let two = write_run(&dir.path().join("two"), "seed = 4\n[task]\nkind = \"x\"", &rows(&[1]));
    let comparison = on_dev(&[one.clone(), two.clone()]).unwrap();
    let names: Vec<&str> = comparison.groups.iter().map(|group| group.name.as_str()).collect();
    assert_eq!(names, ["no task.kind", "task.kind x"]);
    assert_eq!(comparison.groups[0].summary.sd, None);

    // Without answers there is a score alone.
    fs::remove_file(one.join("report.json")).unwrap();
    let score = |path: &Path| {
        let value = if path.ends_with("one") { 0.5 } else { 0.75 };
        Ok(bert_train::Score { metric: "f1".into(), value, rows: vec![] })
    };
    let comparison = compare(&[one, two], Scoring::Model(&score)).unwrap();
    assert_eq!((comparison.metric.as_str(), comparison.lengths.len()), ("f1", 0));
    let pair = &comparison.pairs[0];
    assert_eq!((pair.difference, pair.sign_test), (Some(-0.25), None));
}

/// A run of the tasks a, with a dev file, and b, as it is written down; its rows are (task, row, gold).
fn write_tasks(dir: &Path, settings: &str, rows: &[(&str, usize, &str)]) -> PathBuf {
    fs::create_dir_all(dir).unwrap();
    let head = "model = 'm'\n[task.a]\ntrain = 't'\ndev = 'd'\n[task.b]\ntrain = 't'\n";
    fs::write(dir.join("run.toml"), format!("{settings}\n{head}")).unwrap();
    let report = json!({ "metric": "mean of a accuracy, b accuracy", "value": 0.5 });
    fs::write(dir.join("report.json"), report.to_string()).unwrap();
    let row = |(task, row, gold): &(&str, usize, &str)| {
        json!({ "task": task, "row": row, "gold": gold, "predicted": "x", "tokens": 3 }).to_string()
            + "\n"
    };
    fs::write(dir.join("predictions.jsonl"), rows.iter().map(row).collect::<String>()).unwrap();
    dir.to_owned()
}

/// Each task is measured on rows of its own, of which those that were held out hang on the seed.
#[test]
fn runs_of_several_tasks_are_compared_on_the_same_rows_of_each() {
    let dir = TempDir::new().unwrap();
    let write = |name: &str, settings: &str, rows: &[(&str, usize, &str)]| {
        write_tasks(&dir.path().join(name), settings, rows)
    };
    let one = write("one", "lr = 0.1\nseed = 1", &[("a", 1, "x"), ("b", 4, "y")]);
    let same = write("same", "lr = 0.2\nseed = 1", &[("a", 1, "x"), ("b", 4, "y")]);
    let next = write("next", "lr = 0.1\nseed = 2", &[("a", 1, "x"), ("b", 5, "z")]);
    on_dev(&[one.clone(), same, next]).unwrap();
    let other_dev = write("dev", "lr = 0.1\nseed = 3", &[("a", 2, "x"), ("b", 6, "y")]);
    let other_share = write("share", "lr = 0.2\nseed = 1", &[("a", 1, "x"), ("b", 5, "y")]);
    let fewer = write("fewer", "lr = 0.2\nseed = 1", &[("a", 1, "x")]);
    for other in [other_dev, other_share, fewer] {
        let error = on_dev(&[one.clone(), other]).unwrap_err();
        assert!(matches!(error, Error::DevRows { .. }), "{error}");
    }
}

#[test]
fn runs_that_cannot_be_compared() {
    let dir = TempDir::new().unwrap();
    let path = |name: &str| dir.path().join(name);
    let one = write_run(&path("one"), "seed = 1", &rows(&[1]));
    let same = write_run(&path("same"), "seed = 1", &rows(&[2]));
    let other_rows = write_run(&path("other"), "seed = 2", &rows(&[])[..7]);
    let broken_off = write_run(&path("broken"), "seed = 3", &rows(&[]));
    fs::remove_file(broken_off.join("report.json")).unwrap();
    let damaged = write_run(&path("damaged"), "seed = 4", &rows(&[]));
    fs::write(damaged.join("predictions.jsonl"), "{\"row\":").unwrap();
    let no_settings = write_run(&path("settings"), "seed = ", &rows(&[]));
    fs::create_dir(path("none")).unwrap();
    for (runs, parts) in [
        (vec![one.clone()], ["at least two runs", "got 1"]),
        (vec![one.clone(), path("none")], ["none holds no run", "bert train"]),
        (vec![one.clone(), same], ["same settings and seed 1", "leave one"]),
        (vec![one.clone(), other_rows], ["different dev rows", "--data FILE"]),
        (vec![one.clone(), broken_off], ["not come to its end", "bert train --resume"]),
        (vec![one.clone(), damaged], ["predictions.jsonl is damaged", "train the run again"]),
        (vec![one, no_settings], ["run.toml is damaged", "train the run again"]),
    ] {
        let error = on_dev(&runs).unwrap_err();
        assert!(error.is_bad_input(), "{error}");
        for part in parts {
            assert!(error.to_string().contains(part), "{part:?} is not in {error}");
        }
    }
}
