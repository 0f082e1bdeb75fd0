//! Label smoothing, R-Drop, adversarial training and averaged weights, in whole steps and runs.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::{Path, PathBuf},
};

use bert_core::{Encoding, LoraConfig, NamedTensor, pass_key};
use bert_heads::{PoolingKind, SequenceClassifier};
use bert_train::{
    Balance, Baselines, Batch, Control, DataSet, EpochReport, Error, Every, Freeze, LabelMap,
    MultiTaskConfig, Observer, Optimizer, Pass, Recipe, Regularisation, RunConfig, Schedule,
    Settings, StepReport, StepSize, TaskForm, TextClassifier, TrainEmbeddings, Trainable,
    epoch_batches, fine_tune, learning_rates, predict_logits, resume, run, run_tasks,
};
use burn::{
    module::Module,
    optim::GradientsParams,
    tensor::{Device, Int, Tensor, TensorData},
};
use safetensors::{SafeTensors, tensor::TensorView};
use serde_json::Value;

use crate::{
    examples,
    multi_task::{every_kind, opposites},
    new_head, pretrained,
    reference::{assert_close, devices, floats, folder, host, integers},
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
    let mut json: Value = serde_json::from_str(&json).unwrap();
    for key in ["hidden_dropout_prob", "attention_probs_dropout_prob"] {
        json[key] = rate.into();
    }
    fs::remove_file(to.join("config.json")).unwrap();
    fs::write(to.join("config.json"), json.to_string()).unwrap();
    to
}

#[derive(Default)]
struct Notices(Vec<String>);

impl Observer for Notices {
    fn notice(&mut self, text: &str) {
        self.0.push(text.to_owned());
    }
}

fn dropping_classifier(base: &Path, device: &Device) -> TextClassifier {
    let labels = |_: &[String]| LabelMap::of_model(&["bad".to_owned(), "good".to_owned()]);
    let settings = Settings::new(PoolingKind::Mean, 16);
    TextClassifier::from_checkpoint(base, labels, settings, 3, device).unwrap().0
}

/// What the steps of a run reported, and the weights that its last evaluation was of.
#[derive(Default)]
struct Steps(Vec<StepReport>, HashMap<String, Vec<f32>>);

impl Observer for Steps {
    fn step(&mut self, report: &StepReport) {
        self.0.push(report.clone());
    }
    fn epoch(
        &mut self,
        _: &EpochReport,
        parameters: &dyn Fn() -> Vec<NamedTensor>,
    ) -> bert_train::Result<()> {
        self.1 = parameters().into_iter().map(|tensor| (tensor.name, tensor.values)).collect();
        Ok(())
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
        let classifier = dropping_classifier(&base, &device);
        let (train, _) = classifier.data_set(Path::new("none"), &examples(30), 16).unwrap();
        let regularisation =
            Regularisation { label_smoothing: 0.2, r_drop: 3.0, ..Regularisation::default() };
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
            let logits = classifier.model.logits(&train, &batch, &device, key.into()).remove(0);
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

/// What `regularised_steps.py`, beside this file, gave.
fn reference() -> Value {
    serde_json::from_str(include_str!("regularised_steps.json")).unwrap()
}

/// The rows of the reference, as one batch of Hugging Face's classifier.
fn reference_rows(reference: &Value) -> DataSet {
    let encoding = |ids: &Value| {
        let input_ids: Vec<u32> = integers(ids).into_iter().map(|id| id as u32).collect();
        let length = input_ids.len();
        Encoding {
            input_ids,
            token_type_ids: vec![0; length],
            tokens: vec![String::new(); length],
            offsets: vec![(0, 0); length],
            word_ids: vec![None; length],
            special_tokens_mask: vec![false; length],
            truncated: false,
            windows: vec![],
        }
    };
    DataSet {
        encodings: reference["rows"].as_array().unwrap().iter().map(encoding).collect(),
        labels: integers(&reference["labels"]).iter().map(|label| Some(*label as u32)).collect(),
        states: None,
    }
}

/// Trains as `regularised_steps.py` does: losses, norms of gradients, and what the model says of the rows in the end.
#[track_caller]
fn assert_steps(regularisation: Regularisation, expected: &Value) {
    let reference = reference();
    let rows = reference_rows(&reference);
    for (name, device) in devices() {
        let steps = expected["steps"].as_array().unwrap();
        let recipe = Recipe {
            epochs: steps.len(),
            learning_rate: reference["rate"].as_f64().unwrap(),
            batch_size: rows.len(),
            schedule: Schedule { warmup_ratio: 0.0, ..Schedule::default() },
            regularisation,
            ..Recipe::default()
        };
        let mut seen = Steps::default();
        let model = pretrained(&device).model;
        fine_tune(model, &rows, &rows, &recipe, &device, &mut seen).unwrap();
        for (got, expected) in seen.0.iter().zip(steps) {
            let what = format!("{name}, step {}", got.step);
            assert_close(&what, &[got.loss as f32], &floats(&expected["loss"]), 1e-4);
            let norm = expected["grad_norm"].as_f64().unwrap();
            assert!((got.grad_norm / norm - 1.0).abs() < 1e-3, "{what}: {} {norm}", got.grad_norm);
        }
        let model = pretrained(&device).model;
        let model = model.set_parameters(|name, _| Ok(seen.1.get(name).cloned())).unwrap();
        let logits = predict_logits(&model, &rows.encodings, rows.len(), &device);
        assert_close(name, &logits.concat(), &floats(&expected["logits"]), 1e-3);
    }
}

/// Six steps of adversarial training as PyTorch took them: same weights, same rows, no dropout.
#[test]
fn steps_of_fgm_are_those_of_pytorch() {
    let expected = &reference()["fgm"];
    let fgm = expected["epsilon"].as_f64().unwrap();
    assert_steps(Regularisation { fgm, ..Regularisation::default() }, expected);
}

/// The average of the weights is what is measured, and the steps themselves are those without it.
#[test]
fn averaged_weights_are_those_of_pytorch() {
    let expected = &reference()["ema"];
    let ema = expected["decay"].as_f64().unwrap();
    assert_steps(Regularisation { ema, ..Regularisation::default() }, expected);
    let mut without = expected.clone();
    without["logits"] = expected["last_logits"].clone();
    assert_steps(Regularisation::default(), &without);
}

/// What does not move has itself for an average, to the bit: frozen words, and an encoder that runs but once.
#[test]
fn what_is_frozen_stays_as_it_is() {
    let (_, device) = devices().remove(0);
    let dir = tempfile::tempdir().unwrap();
    let mut config = files(dir.path(), 30, PoolingKind::Mean);
    config.words.train_embeddings = TrainEmbeddings::None;
    config.recipe.regularisation.ema = 0.37;
    let out = dir.path().join("run");
    let mut notices = Notices::default();
    run(&config, &out, false, &device, &mut notices).unwrap();
    let kept = |dir: &Path, part: &str| -> BTreeMap<String, Vec<u8>> {
        let bytes = fs::read(dir.join("model.safetensors")).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap().tensors().into_iter();
        let tensors = tensors.map(|(name, tensor)| {
            (name.trim_start_matches("bert.").to_owned(), tensor.data().to_vec())
        });
        tensors.filter(|(name, _)| name.contains(part)).collect()
    };
    let table = "word_embeddings.weight";
    assert_eq!(kept(&out, table), kept(&config.model, table));
    assert_eq!(kept(&out, table).len(), 1);
    assert_ne!(kept(&out, "encoder.layer"), kept(&config.model, "encoder.layer"));
    let said = "the average of the weights takes 1 MB of memory";
    assert!(notices.0.iter().any(|notice| notice == said), "{:?}", notices.0);

    config.words.train_embeddings = TrainEmbeddings::All;
    config.recipe.layers.freeze = Some(Freeze::Encoder);
    run(&config, &out, true, &device, &mut ()).unwrap();
    assert_eq!(kept(&out, "encoder.layer"), kept(&config.model, "encoder.layer"));
}

/// A checkpoint has the weights, their average, and the best model, which is an average.
#[test]
fn checkpoints_have_both_the_weights_and_their_average() {
    let (_, device) = devices().remove(0);
    let dir = tempfile::tempdir().unwrap();
    let mut config = files(dir.path(), 30, PoolingKind::Mean);
    config.recipe.epochs = 1;
    config.recipe.regularisation.ema = 0.9;
    let out = dir.path().join("run");
    run(&config, &out, false, &device, &mut ()).unwrap();
    let read = |name: &str| fs::read(out.join("checkpoints/step-4").join(name)).unwrap();
    assert_ne!(read("weights.safetensors"), read("average.safetensors"));
    assert_eq!(read("best.safetensors"), read("average.safetensors"));
    let sums = String::from_utf8(read("SHA256SUMS")).unwrap();
    assert_eq!(sums.lines().count(), 5, "{sums}");
}

/// Passes 0 and 1 are over the texts as they are, 2 and 3 over those that were moved: their gradients, added by hand.
#[test]
fn each_pass_of_a_step_drops_something_else() {
    let (_, device) = devices().remove(0);
    let dir = tempfile::tempdir().unwrap();
    let classifier = dropping_classifier(&with_dropout(dir.path(), 0.2), &device);
    let (train, _) = classifier.data_set(Path::new("none"), &examples(30), 16).unwrap();
    for r_drop in [0.0, 0.5] {
        let regularisation = Regularisation { r_drop, fgm: 3.0, ..Regularisation::default() };
        let control = first_step();
        let recipe =
            Recipe { seed: 5, batch_size: 7, regularisation, control, ..Recipe::default() };
        let mut steps = Steps::default();
        let model = classifier.model.clone();
        fine_tune(model, &train, &train, &recipe, &device, &mut steps).unwrap();

        let device = device.clone().autodiff();
        let model = classifier.model.clone().train();
        let rows = epoch_batches(&train.lengths(), 7, 5, 0).remove(0);
        let batch = Batch { set: 0, rows, heads: vec![0] };
        let lengths: Vec<usize> = batch.rows.iter().map(|row| train.lengths()[*row]).collect();
        let targets = SequenceClassifier::targets(&train, &batch).remove(0);
        let loss = |shift: &Tensor<2>, first: u32| {
            let logits = |number| {
                let dropout = Some(pass_key(5, 0, 0, number));
                let pass = Pass { dropout, shift: Some(shift.clone()) };
                model.logits(&train, &batch, &device, pass).remove(0)
            };
            let one = logits(first);
            if r_drop == 0.0 {
                return targets.loss(one, 0.0);
            }
            let other = logits(first + 1);
            let losses = targets.loss(one.clone(), 0.0) + targets.loss(other.clone(), 0.0);
            losses / 2.0 + targets.divergence(one, other) * r_drop
        };
        let zero = Tensor::<2>::zeros([lengths.iter().sum(), 32], &device).require_grad();
        let clean = loss(&zero, 0);
        let gradients = clean.backward();
        let mut slopes = host(zero.grad(&gradients).unwrap());
        let mut left = slopes.as_mut_slice();
        for length in &lengths {
            let (text, rest) = left.split_at_mut(length * 32);
            let norm = text.iter().map(|value| value * value).sum::<f32>().sqrt();
            text.iter_mut().for_each(|value| *value *= 3.0 / norm);
            left = rest;
        }
        let shift = Tensor::from_data(TensorData::new(slopes, zero.dims()), &device);
        // One backward over both losses has the sum of their gradients.
        let both = loss(&zero, 0) + loss(&shift, 2);
        let gradients = GradientsParams::from_grads(both.backward(), &model);
        let rates = learning_rates(&recipe, 2, 0.0);
        let (_, norm) = Optimizer::new(&recipe).step(model.clone(), gradients, rates);
        let got = steps.0[0].grad_norm;
        assert!((got / norm - 1.0).abs() < 1e-4, "{r_drop}: {got}, expected {norm}");
    }
}

/// The losses of each task of a run's first step, which has all of them, and the norm of their gradients.
fn first_losses(
    config: &MultiTaskConfig,
    out: &Path,
    change: Regularisation,
) -> (BTreeMap<usize, f64>, f64) {
    let (_, device) = devices().remove(0);
    let mut config = config.clone();
    (config.recipe.regularisation, config.recipe.control) = (change, first_step());
    config.mixing.step_size = StepSize::All;
    let mut steps = Steps::default();
    run_tasks(&config, out, true, &Baselines::None, &device, &mut steps).unwrap();
    let step = &steps.0[0];
    (step.losses.iter().copied().collect(), step.grad_norm)
}

/// R-Drop changes the loss of each kind of task, and smoothing that of each cross-entropy.
#[test]
fn every_kind_of_task_is_regularised() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = every_kind(dir.path());
    config.model = with_dropout(dir.path(), 0.1);
    let losses = |change| first_losses(&config, &dir.path().join("run"), change);
    let none = Regularisation::default();
    let (plain, norm) = losses(none);
    assert_eq!(plain.len(), config.tasks.len());
    let (apart, _) = losses(Regularisation { r_drop: 1e5, ..none });
    let (smoothed, _) = losses(Regularisation { label_smoothing: 0.5, ..none });
    // A loss is that of the texts as they are; nearby the slope is the same, and both count.
    let (adverse, twice) = losses(Regularisation { fgm: 1e-6, ..none });
    assert_eq!(adverse, plain);
    assert!(twice > norm && twice < 2.5 * norm, "{twice}, {norm}");
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
    config.recipe.regularisation =
        Regularisation { label_smoothing: 0.25, r_drop: 0.5, fgm: 0.75, ema: 0.5 };
    run(&config, &out, true, &device, &mut ()).unwrap();
    assert!(
        written().contains("label_smoothing = 0.25\nr_drop = 0.5\nfgm = 0.75\nema = 0.5\n"),
        "{}",
        written()
    );
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
    // Adapters drop by themselves.
    config.lora = Some(LoraConfig { dropout: 0.0, ..LoraConfig::new(3) });
    assert!(run(&config, &out, false, &device, &mut ()).is_err());
    config.lora = Some(LoraConfig::new(3));
    run(&config, &out, false, &device, &mut ()).unwrap();
}

/// Words that no gradient of a task comes to cannot be moved.
#[test]
fn fgm_without_a_gradient_is_refused() {
    let (_, device) = devices().remove(0);
    let dir = tempfile::tempdir().unwrap();
    let mut config = opposites(dir.path());
    config.recipe.regularisation.fgm = 0.1;
    config.tasks.get_mut("opposite").unwrap().gradient_factor = 0.0;
    let out = dir.path().join("run");
    let error = run_tasks(&config, &out, false, &Baselines::None, &device, &mut ()).unwrap_err();
    assert!(error.is_bad_input() && !out.exists(), "{error}");
    assert!(error.to_string().contains("of task \"opposite\""), "{error}");
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
        head.logits(&train, &batch, &device, Pass::default()).remove(0)
    };
    let mut labels = train.labels.clone();
    labels[1] = None;
    let without = DataSet { labels, ..train.clone() };
    let (one, other) = (logits(0), logits(1));
    let of = |data: &DataSet, rows: &[usize]| {
        let targets =
            SequenceClassifier::targets(data, &Batch { rows: rows.to_vec(), ..batch.clone() });
        targets.into_iter().next().unwrap()
    };
    let select = |places: &[i64]| {
        let places = Tensor::<1, Int>::from_data(places, &device);
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

/// The base model with a word, "play", of which no number is one: a step fails as soon as its texts have that word.
fn with_a_word_that_is_none(dir: &Path) -> PathBuf {
    let base = with_dropout(dir, 0.1);
    let words = fs::read_to_string(base.join("vocab.txt")).unwrap();
    let row = words.lines().position(|word| word == "play").unwrap();
    let path = base.join("model.safetensors");
    let bytes = fs::read(&path).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let name = tensors.names().into_iter().find(|name| name.ends_with("word_embeddings.weight"));
    let name = name.unwrap().to_owned();
    let mut table = tensors.tensor(&name).unwrap().data().to_vec();
    table[row * 32 * 4..][..4].copy_from_slice(&f32::NAN.to_le_bytes());
    let mut all: HashMap<String, TensorView> = tensors.tensors().into_iter().collect();
    let shape = all[&name].shape().to_vec();
    all.insert(name, TensorView::new(safetensors::Dtype::F32, shape, &table).unwrap());
    let changed = safetensors::serialize(&all, None).unwrap();
    fs::remove_file(&path).unwrap();
    fs::write(path, changed).unwrap();
    base
}

/// Runs to the step that fails, resumes, and fails there again: each time the checkpoint before it is the newest, and whole.
#[track_caller]
fn assert_ends_named(
    what: &str,
    out: &Path,
    device: &Device,
    begin: impl FnOnce(&mut Steps) -> bert_train::Result<()>,
) -> String {
    let mut steps = Steps::default();
    let error = begin(&mut steps).unwrap_err();
    let taken = steps.0.len();
    let Error::NotFinite { step, .. } = error else { panic!("{what}: {error}") };
    assert_eq!(step, taken + 1, "{what}: {error}");
    assert!(taken > 0 && !error.is_bad_input(), "{what}: {taken} steps");
    for part in ["learning rate", "r-drop", "fgm", "--precision float32"] {
        assert!(error.to_string().contains(part), "{what}: {error}");
    }
    let newest = out.join(format!("checkpoints/step-{taken}"));
    let files = |dir: &Path| -> BTreeMap<String, Vec<u8>> {
        let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
        let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
        entries.map(|path| (name(&path), fs::read(path).unwrap())).collect()
    };
    let before = files(&newest);
    assert!(!out.join(format!("checkpoints/step-{step}")).exists());
    assert!(!out.join("report.json").exists());
    let mut rest = Steps::default();
    let again = resume(out, device, &mut rest).unwrap_err();
    assert_eq!(again.to_string(), error.to_string(), "{what}");
    assert_eq!(rest.0.len(), 0, "{what}");
    assert_eq!(files(&newest), before, "{what}");
    error.to_string()
}

fn options() -> [(&'static str, Regularisation); 6] {
    let none = Regularisation::default();
    [
        ("nothing", none),
        ("label smoothing", Regularisation { label_smoothing: 0.1, ..none }),
        ("r-drop", Regularisation { r_drop: 1.0, ..none }),
        ("fgm", Regularisation { fgm: 1.0, ..none }),
        ("ema", Regularisation { ema: 0.9, ..none }),
        ("all", Regularisation { label_smoothing: 0.1, r_drop: 1.0, fgm: 1.0, ema: 0.9 }),
    ]
}

/// A loss that is no number ends a run by name, and writes over nothing.
#[test]
fn a_loss_that_is_no_number_leaves_the_last_checkpoint() {
    let (_, device) = devices().remove(0);
    let dir = tempfile::tempdir().unwrap();
    let base = with_a_word_that_is_none(dir.path());
    for (place, (what, regularisation)) in options().into_iter().enumerate() {
        let mut config = files(dir.path(), 60, PoolingKind::Mean);
        let rows = fs::read_to_string(&config.train).unwrap();
        let last = rows.lines().last().unwrap().to_owned();
        let rows = rows
            .replace(&last, &last.replacen("bad", "bad play", 1).replacen("good", "good play", 1));
        fs::write(&config.train, rows).unwrap();
        let dev = dir.path().join("dev.tsv");
        fs::write(&dev, "the bad film\tbad\nthe good film\tgood\n").unwrap();
        (config.model, config.dev) = (base.clone(), Some(dev));
        config.recipe.seed = 2;
        config.recipe.regularisation = regularisation;
        config.recipe.control.checkpoint_every = Every::Steps(1);
        let out = dir.path().join(format!("run-{place}"));
        assert_ends_named(what, &out, &device, |steps| {
            run(&config, &out, false, &device, steps).map(drop)
        });
    }
}

/// Of several tasks too, with each balance: the target of one row is so far off that its square is no number.
#[test]
fn a_task_whose_loss_is_no_number_leaves_the_last_checkpoint() {
    let (_, device) = devices().remove(0);
    let balances = [
        Balance::Fixed,
        Balance::Uncertainty { weight_lr: 0.1 },
        Balance::GradNorm { alpha: 1.5, weight_lr: 0.025 },
        Balance::PcGrad,
        Balance::Dwa { temperature: 2.0 },
    ];
    let dir = tempfile::tempdir().unwrap();
    let model = with_dropout(dir.path(), 0.1);
    let every = every_kind(dir.path());
    let (name, score) =
        every.tasks.iter().find(|(_, task)| task.kind.to_string().ends_with("regress")).unwrap();
    let rows = fs::read_to_string(&score.train).unwrap();
    let far = rows.lines().nth(40).unwrap();
    let fields: Vec<&str> = far.split('\t').collect();
    let mut other = fields.clone();
    other[4] = "3e30";
    fs::write(&score.train, rows.replace(far, &other.join("\t"))).unwrap();
    let dev = dir.path().join("dev.tsv");
    fs::write(&dev, rows.lines().take(9).collect::<Vec<_>>().join("\n") + "\n").unwrap();
    for (place, (what, regularisation)) in options().into_iter().enumerate() {
        let mut config = every.clone();
        config.model = model.clone();
        config.tasks.retain(|own, task| {
            own == name || task.kind == TaskForm::Ordinal || task.kind == TaskForm::Classify
        });
        for task in config.tasks.values_mut() {
            task.dev = Some(dev.clone());
        }
        config.recipe.regularisation = regularisation;
        config.recipe.control.checkpoint_every = Every::Steps(1);
        config.mixing.balance = balances[place % balances.len()];
        config.mixing.step_size = StepSize::All;
        let out = dir.path().join(format!("tasks-{place}"));
        assert_ends_named(what, &out, &device, |steps| {
            run_tasks(&config, &out, false, &Baselines::None, &device, steps).map(drop)
        });
    }
}

/// Losses that are numbers where the texts are as they are, and none where they were moved.
#[test]
fn adverse_texts_whose_loss_is_no_number_end_the_run() {
    let (_, device) = devices().remove(0);
    let dir = tempfile::tempdir().unwrap();
    let mut config = files(dir.path(), 30, PoolingKind::Mean);
    config.recipe.regularisation.fgm = 1e38;
    let out = dir.path().join("run");
    let error = run(&config, &out, false, &device, &mut ()).unwrap_err();
    let is_named = matches!(error, Error::NotFinite { what: "norm of the gradients", step: 1, .. });
    assert!(is_named, "{error}");
    assert!(!out.join("model.safetensors").exists() && !out.join("checkpoints").exists());
}
