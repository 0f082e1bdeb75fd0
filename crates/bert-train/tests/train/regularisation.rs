//! Label smoothing and R-Drop, in whole steps.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use bert_core::pass_key;
use bert_heads::PoolingKind;
use bert_train::{
    Baselines, Batch, Control, DataSet, Error, LabelMap, MultiTaskConfig, Observer, Recipe,
    Regularisation, RunConfig, Settings, StepReport, StepSize, TextClassifier, Trainable,
    epoch_batches, fine_tune, run, run_tasks,
};

use crate::{
    examples,
    multi_task::every_kind,
    new_head,
    reference::{devices, folder, host},
    runs::files,
};

/// The tiny BERT of the reference, which drops nothing, with this rate of dropout.
pub fn with_dropout(dir: &Path, rate: f64) -> PathBuf {
    let (from, to) = (folder().join("tiny-bert"), dir.join("dropping"));
    fs::create_dir(&to).unwrap();
    for file in fs::read_dir(&from).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
    let json = fs::read_to_string(from.join("config.json")).unwrap();
    let mut json: serde_json::Value = serde_json::from_str(&json).unwrap();
    for key in ["hidden_dropout_prob", "attention_probs_dropout_prob"] {
        json[key] = rate.into();
    }
    fs::remove_file(to.join("config.json")).unwrap();
    fs::write(to.join("config.json"), json.to_string()).unwrap();
    to
}

/// What the steps of a run reported.
#[derive(Default)]
struct Steps(Vec<StepReport>);

impl Observer for Steps {
    fn step(&mut self, report: &StepReport) {
        self.0.push(report.clone());
    }
}

/// One step of a run.
fn first_step() -> Control {
    Control { max_steps: Some(1), ..Control::default() }
}

fn softmax(logits: &[f32]) -> Vec<f64> {
    let sum: f64 = logits.iter().map(|logit| f64::from(*logit).exp()).sum();
    logits.iter().map(|logit| f64::from(*logit).exp() / sum).collect()
}

/// Two passes with keys of their own: the mean of the smoothed losses, and alpha times half of both divergences.
#[test]
fn the_loss_of_a_step_by_hand() {
    let dir = tempfile::tempdir().unwrap();
    let base = with_dropout(dir.path(), 0.2);
    for (name, device) in devices() {
        let labels = |_: &[String]| LabelMap::of_model(&["bad".to_owned(), "good".to_owned()]);
        let settings = Settings::new(PoolingKind::Mean, 16);
        let (classifier, _) =
            TextClassifier::from_checkpoint(&base, labels, settings, 3, &device).unwrap();
        let (train, _) = classifier.data_set(Path::new("none"), &examples(30), 16).unwrap();
        let regularisation = Regularisation { label_smoothing: 0.2, r_drop: 3.0 };
        let control = first_step();
        let recipe =
            Recipe { seed: 5, batch_size: 7, regularisation, control, ..Recipe::default() };
        let mut steps = Steps::default();
        let model = classifier.model.clone();
        fine_tune(model, &train, &train, &recipe, &device, &mut steps).unwrap();

        let rows = epoch_batches(&train.lengths(), 7, 5, 0).remove(0);
        let batch = Batch { set: 0, rows, heads: vec![0] };
        let pass = |number| -> Vec<Vec<f64>> {
            let key = Some(pass_key(5, 0, 0, number));
            let logits = classifier.model.logits(&train, &batch, &device, key).remove(0);
            host(logits).chunks(2).map(softmax).collect()
        };
        let (one, other) = (pass(0), pass(1));
        let mut expected = 0.0;
        for (row, (p, q)) in batch.rows.iter().zip(one.iter().zip(&other)) {
            let label = train.labels[*row].unwrap() as usize;
            // 1 - 0.2 + 0.2 / 2 of the target lies on the label, 0.2 / 2 on the other class.
            let loss = |p: &[f64]| -(0.9 * p[label].ln() + 0.1 * p[1 - label].ln());
            let kl = |p: &[f64], q: &[f64]| -> f64 {
                p.iter().zip(q).map(|(p, q)| p * (p / q).ln()).sum()
            };
            expected += (loss(p) + loss(q)) / 2.0 + 3.0 * (kl(p, q) + kl(q, p)) / 2.0;
        }
        expected /= batch.rows.len() as f64;
        assert_ne!(one, other);
        let got = steps.0[0].loss;
        assert!((got - expected).abs() < 2e-5, "{name}: {got}, expected {expected}");
    }
}

/// The losses of each task of a run's first step, which has all of them.
fn first_losses(
    config: &MultiTaskConfig,
    out: &Path,
    change: Regularisation,
) -> BTreeMap<usize, f64> {
    let (_, device) = devices().remove(0);
    let mut config = config.clone();
    (config.recipe.regularisation, config.recipe.control) = (change, first_step());
    config.mixing.step_size = StepSize::All;
    let mut steps = Steps::default();
    run_tasks(&config, out, true, &Baselines::None, &device, &mut steps).unwrap();
    steps.0[0].losses.iter().copied().collect()
}

/// R-Drop changes the loss of each kind of task, and smoothing that of each cross-entropy.
#[test]
fn every_kind_of_task_is_regularised() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = every_kind(dir.path());
    config.model = with_dropout(dir.path(), 0.1);
    let losses = |change| first_losses(&config, &dir.path().join("run"), change);
    let none = Regularisation::default();
    let plain = losses(none);
    assert_eq!(plain.len(), config.tasks.len());
    let apart = losses(Regularisation { r_drop: 1e5, ..none });
    let smoothed = losses(Regularisation { label_smoothing: 0.5, ..none });
    for (head, (name, task)) in config.tasks.iter().enumerate() {
        assert!(apart[&head] > plain[&head] + 1.0, "{name}: {apart:?}, without {plain:?}");
        let is_smoothed =
            ["classify", "pair-classify", "tag", "span"].contains(&task.kind.to_string().as_str());
        assert_eq!(smoothed[&head] != plain[&head], is_smoothed, "{name}");
    }
}

/// What is off leaves no trace in the files of a run, and what is on stands in them.
#[test]
fn the_run_file_says_how_a_run_was_regularised() {
    let (_, device) = devices().remove(0);
    let dir = tempfile::tempdir().unwrap();
    let mut config = files(dir.path(), 20, PoolingKind::Mean);
    config.model = with_dropout(dir.path(), 0.1);
    config.recipe.control = first_step();
    let out = dir.path().join("run");
    let written = || fs::read_to_string(out.join("run.toml")).unwrap();
    run(&config, &out, false, &device, &mut ()).unwrap();
    assert!(!written().contains("label_smoothing") && !written().contains("r_drop"));
    config.recipe.regularisation = Regularisation { label_smoothing: 0.25, r_drop: 0.5 };
    run(&config, &out, true, &device, &mut ()).unwrap();
    assert!(written().contains("label_smoothing = 0.25\nr_drop = 0.5\n"), "{}", written());
    assert_eq!(RunConfig::load(&out.join("run.toml"), toml::Table::new()).unwrap(), config);
}

/// A model that drops nothing answers the same twice.
#[test]
fn r_drop_without_dropout_is_refused() {
    let (_, device) = devices().remove(0);
    let dir = tempfile::tempdir().unwrap();
    let model = with_dropout(dir.path(), 0.0);
    let mut config = RunConfig { model, ..files(dir.path(), 20, PoolingKind::Mean) };
    config.recipe.regularisation.r_drop = 1.0;
    let out = dir.path().join("run");
    let error = run(&config, &out, false, &device, &mut ()).unwrap_err();
    assert!(matches!(error, Error::NothingDropped { .. }) && error.is_bad_input(), "{error}");
    assert!(!out.exists());
}

/// Of tasks without a cross-entropy nothing can be smoothed.
#[test]
fn smoothing_of_numbers_alone_is_refused() {
    let (_, device) = devices().remove(0);
    let dir = tempfile::tempdir().unwrap();
    let mut config = every_kind(dir.path());
    config.tasks.retain(|_, task| task.kind == bert_train::TaskForm::Ordinal);
    assert_eq!(config.tasks.len(), 1);
    config.recipe.regularisation.label_smoothing = 0.1;
    let out = dir.path().join("run");
    let error = run_tasks(&config, &out, false, &Baselines::None, &device, &mut ()).unwrap_err();
    assert!(matches!(error, Error::NothingSmoothed), "{error}");
    assert!(!out.exists());
}

/// A data set's rows without a label count neither for the loss nor for the divergence.
#[test]
fn rows_without_a_label_do_not_count() {
    let (_, device) = devices().remove(0);
    let classifier = new_head(PoolingKind::Mean, 3, &device);
    let (train, _) = classifier.data_set(Path::new("none"), &examples(9), 16).unwrap();
    let batch = Batch { set: 0, rows: vec![4, 1, 7], heads: vec![0] };
    let logits = |set| {
        let head = new_head(PoolingKind::Mean, set, &device).model;
        head.logits(&train, &batch, &device, None).remove(0)
    };
    let mut labels = train.labels.clone();
    labels[1] = None;
    let without = DataSet { labels, ..train.clone() };
    let (one, other) = (logits(0), logits(1));
    let of = |data: &DataSet, rows: &[usize]| {
        let targets = bert_heads::SequenceClassifier::targets(
            data,
            &Batch { rows: rows.to_vec(), ..batch.clone() },
        );
        targets.into_iter().next().unwrap()
    };
    let select = |places: &[i64]| {
        let places = burn::tensor::Tensor::<1, burn::tensor::Int>::from_data(places, &device);
        (one.clone().select(0, places.clone()), other.clone().select(0, places))
    };
    let (kept_one, kept_other) = select(&[0, 2]);
    let kept = of(&train, &[4, 7]);
    let all = of(&without, &batch.rows);
    let close = |a, b| {
        let (a, b) = (host(a)[0], host(b)[0]);
        assert!((a - b).abs() < 1e-6, "{a} {b}");
    };
    close(all.loss(one.clone(), 0.1), kept.loss(kept_one.clone(), 0.1));
    close(all.divergence(one.clone(), other.clone()), kept.divergence(kept_one, kept_other));
}
