//! What is done to the layers of the encoder one by one.

use std::{collections::BTreeMap, fs, path::Path};

use bert_core::NamedTensor;
use bert_heads::PoolingKind;
use bert_train::{
    Balance, Baselines, EpochReport, Error, Every, Freeze, LabelMap, Layers, Observer, Optimizer,
    Recipe, RunConfig, Settings, StepSize, TextClassifier, TrainEmbeddings, learning_rates, run,
    run_tasks,
};
use burn::{module::Module, tensor::Device};

use crate::{
    multi_task::every_kind,
    new_head, one_step,
    reference::{cpu_devices, devices, folder},
    runs::files,
    steps::batch,
};

type Weights = BTreeMap<String, Vec<f32>>;

fn weights(tensors: Vec<NamedTensor>) -> Weights {
    tensors.into_iter().map(|tensor| (tensor.name, tensor.values)).collect()
}

/// The largest change of a parameter whose name begins with `prefix`.
fn change(before: &Weights, after: &Weights, prefix: &str) -> f32 {
    let of_prefix = before.iter().filter(|(name, _)| name.starts_with(prefix));
    let pairs = of_prefix.flat_map(|(name, before)| before.iter().zip(&after[name]));
    pairs.map(|(before, after)| (before - after).abs()).fold(0.0, f32::max)
}

/// AdamW's first step moves a weight by its rate (times the sign of its gradient), and a little by decay.
#[test]
fn lower_layers_learn_slower() {
    let (_, device) = devices().remove(0);
    let device = device.autodiff();
    let layers = Layers { lr_decay: Some(0.5), ..Layers::default() };
    let recipe = Recipe { learning_rate: 1e-3, layers, ..Recipe::default() };
    let model = new_head(PoolingKind::Cls, 0, &device).model;
    let before = weights(model.named_parameters());
    let (input, labels) = batch(&device);
    let rates = learning_rates(&recipe, 2, 1.0);
    let mut optimizer = Optimizer::new(&recipe);
    let step = one_step(model.train(), &mut optimizer, (&input, &labels), rates);
    let after = weights(step.model.named_parameters());
    for (prefix, rate) in [
        ("bert.embeddings.", 1e-3 / 8.0),
        ("bert.encoder.layer.0.", 1e-3 / 4.0),
        ("bert.encoder.layer.1.", 1e-3 / 2.0),
        ("bert.pooler.", 1e-3),
        ("classifier.", 1e-3),
    ] {
        let change = change(&before, &after, prefix);
        assert!((change / rate - 1.0).abs() < 0.05, "{prefix}: {change}, not {rate}");
    }
}

fn reinitialised(base: &TextClassifier, layers: usize, seed: u64) -> Weights {
    let layers = Layers { reinit: Some(layers), ..Layers::default() };
    let recipe = Recipe { seed, layers, ..Recipe::default() };
    let begun = base.clone().reinitialise(&recipe, Path::new("base")).unwrap();
    weights(begun.model.named_parameters())
}

#[test]
fn the_highest_layers_begin_anew() {
    for (name, device) in cpu_devices() {
        let base = new_head(PoolingKind::Cls, 0, &device);
        let before = weights(base.model.named_parameters());
        let after = reinitialised(&base, 1, 3);
        assert_eq!(after, reinitialised(&base, 1, 3), "{name}");
        assert_ne!(after, reinitialised(&base, 1, 4), "{name}");
        for (parameter, values) in &after {
            let is_new = parameter.contains("layer.1.") || parameter.contains("pooler.");
            let what = format!("{name}: {parameter}");
            if !is_new {
                assert_eq!(values, &before[parameter], "{what}");
            } else if parameter.ends_with("LayerNorm.weight") {
                assert!(values.iter().all(|value| *value == 1.0), "{what}");
            } else if parameter.ends_with("bias") {
                assert!(values.iter().all(|value| *value == 0.0), "{what}");
            } else {
                // 1024 draws or more: three standard errors of a deviation are 7 %, of a mean 9 % of it.
                let count = values.len() as f32;
                let mean = values.iter().sum::<f32>() / count;
                let variance =
                    values.iter().map(|value| (value - mean).powi(2)).sum::<f32>() / count;
                let expected = base.config.initializer_range as f32;
                assert!(mean.abs() < 0.1 * expected, "{what}: {mean}");
                assert!((variance.sqrt() / expected - 1.0).abs() < 0.08, "{what}: {variance}");
            }
        }
        // As in a model that is made from nothing.
        let labels = LabelMap::of_model(&["bad".to_owned(), "good".to_owned()]).unwrap();
        let (dir, settings) = (folder().join("tiny-bert"), Settings::new(PoolingKind::Cls, 16));
        let new = TextClassifier::from_scratch(&dir, labels, settings, 3, &device).unwrap();
        let new = weights(new.model.named_parameters());
        for (parameter, values) in reinitialised(&base, 2, 3) {
            if parameter.contains("layer.") || parameter.contains("pooler.") {
                assert_eq!(values, new[&parameter], "{name}: {parameter}");
            }
        }
    }
}

/// The weights after each evaluation.
#[derive(Default)]
struct Watch {
    notices: Vec<String>,
    weights: Vec<Weights>,
}

impl Observer for Watch {
    fn notice(&mut self, text: &str) {
        self.notices.push(text.to_owned());
    }
    fn epoch(
        &mut self,
        _: &EpochReport,
        parameters: &dyn Fn() -> Vec<NamedTensor>,
    ) -> bert_train::Result<()> {
        self.weights.push(weights(parameters()));
        Ok(())
    }
}

/// Those of the checkpoint that runs start from, and a head.
fn base(device: &Device) -> Weights {
    weights(new_head(PoolingKind::Cls, 0, device).model.named_parameters())
}

fn watch(config: &RunConfig, out: &Path, device: &Device) -> Watch {
    let mut watch = Watch::default();
    run(config, out, false, device, &mut watch).unwrap();
    watch
}

/// At a rate of next to nothing a run of one task, and one of several, writes the layers that it began with.
#[test]
fn runs_begin_layers_anew() {
    let (_, device) = devices().remove(0);
    let dir = tempfile::tempdir().unwrap();
    let base = base(&device);
    let mut config = files(dir.path(), 30, PoolingKind::Mean);
    (config.recipe.epochs, config.recipe.learning_rate) = (1, 1e-9);
    config.recipe.layers.reinit = Some(1);
    let one = watch(&config, &dir.path().join("one"), &device);

    let tasks = tempfile::tempdir().unwrap();
    let mut config = every_kind(tasks.path());
    (config.recipe.epochs, config.recipe.learning_rate) = (1, 1e-9);
    config.recipe.layers.reinit = Some(1);
    let mut several = Watch::default();
    run_tasks(&config, &tasks.path().join("run"), false, &Baselines::None, &device, &mut several)
        .unwrap();

    for weights in [&one.weights[0], &several.weights[0]] {
        let of = |layer: usize| change(&base, weights, &format!("bert.encoder.layer.{layer}."));
        let (kept, new) = (of(0), of(1));
        assert!(kept < 1e-6 && new > 1e-2, "{kept} {new}");
    }
}

/// The parts of the encoder of two layers, from the input.
const PARTS: [&str; 3] = ["bert.embeddings.", "bert.encoder.layer.0.", "bert.encoder.layer.1."];

/// Which parts have other weights than those before.
fn moved(before: &Weights, after: &Weights) -> [bool; 3] {
    PARTS.map(|part| change(before, after, part) > 0.0)
}

/// What is frozen keeps every bit and has no optimiser state, and the rest learns.
#[test]
fn frozen_layers_do_not_move() {
    for (name, device) in cpu_devices() {
        let base = base(&device);
        let everything = [true; 3];
        for (freeze, expected) in [
            (None, everything),
            (Some(Freeze::Embeddings), [false, true, true]),
            (Some(Freeze::Layers(1)), [false, false, true]),
            (Some(Freeze::Layers(2)), [false; 3]),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let mut config = files(dir.path(), 30, PoolingKind::Adaptive);
            (config.recipe.epochs, config.recipe.layers.freeze) = (1, freeze);
            let out = dir.path().join("run");
            let watched = watch(&config, &out, &device);
            assert_eq!(moved(&base, &watched.weights[0]), expected, "{name}: {freeze:?}");
            let said = watched.notices.iter().any(|notice| notice.ends_with("stay as they are"));
            assert_eq!(said, freeze.is_some(), "{name}: {:?}", watched.notices);
            let steps = optimizer_steps(&out, 4);
            let trained = PARTS.map(|part| steps.keys().any(|path| path.starts_with(part)));
            assert_eq!(trained, expected, "{name}: {freeze:?}");
            assert!(steps.keys().any(|path| path.starts_with("classifier.")));
        }
    }
}

/// The steps that each parameter with an optimiser state has taken, in a checkpoint.
fn optimizer_steps(out: &Path, step: usize) -> BTreeMap<String, usize> {
    let path = out.join(format!("checkpoints/step-{step}/state.json"));
    let state: serde_json::Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    serde_json::from_value(state["optimizer_steps"].clone()).unwrap()
}

/// Part after part begins to move, from the top, and counts its own steps.
#[test]
fn layers_thaw_one_after_the_other() {
    let (_, device) = devices().remove(0);
    let base = base(&device);
    let dir = tempfile::tempdir().unwrap();
    let mut config = files(dir.path(), 30, PoolingKind::Adaptive);
    config.recipe.epochs = 4;
    config.recipe.layers.unfreeze_every = Some(Every::Epoch);
    let out = dir.path().join("epochs");
    let watched = watch(&config, &out, &device);
    let moved: Vec<[bool; 3]> = watched.weights.iter().map(|after| moved(&base, after)).collect();
    let expected = [[false; 3], [false, false, true], [false, true, true], [true; 3]];
    assert_eq!(moved, expected);
    assert!(
        watched.notices.iter().any(|notice| notice.contains("2 of 2 layers are frozen at first"))
    );
    // 27 rows in batches of 8: four steps an epoch.
    let steps = optimizer_steps(&out, 16);
    let of = |path: &str| steps[path];
    assert_eq!(of("classifier.weight"), 16);
    assert_eq!(of("bert.encoder.layer.1.output.dense.weight"), 12);
    assert_eq!(of("bert.encoder.layer.0.output.dense.weight"), 8);
    assert_eq!(of("bert.embeddings.word_embeddings.weight"), 4);

    config.recipe.epochs = 2;
    let layers = &mut config.recipe.layers;
    (layers.freeze, layers.unfreeze_every) = (Some(Freeze::Layers(1)), Some(Every::Steps(5)));
    config.words.train_embeddings = TrainEmbeddings::None;
    let out = dir.path().join("steps");
    watch(&config, &out, &device);
    // After five of eight steps the first layer is trained; words that are frozen would stay so.
    let steps = optimizer_steps(&out, 8);
    assert_eq!(steps["bert.encoder.layer.1.output.dense.weight"], 8);
    assert_eq!(steps["bert.encoder.layer.0.output.dense.weight"], 3);
    assert!(!steps.contains_key("bert.embeddings.layer_norm.gamma"));

    config.recipe.layers.unfreeze_every = Some(Every::Steps(2));
    let out = dir.path().join("words");
    watch(&config, &out, &device);
    let steps = optimizer_steps(&out, 8);
    assert_eq!(steps["bert.embeddings.layer_norm.gamma"], 4);
    assert!(!steps.contains_key("bert.embeddings.word_embeddings.weight"));
}

/// Several tasks, and gradients that are balanced on what is left.
#[test]
fn the_encoder_of_several_tasks_is_frozen_in_part() {
    let (_, device) = devices().remove(0);
    let base = base(&device);
    for balance in [Balance::Fixed, Balance::PcGrad] {
        let dir = tempfile::tempdir().unwrap();
        let mut config = every_kind(dir.path());
        (config.recipe.epochs, config.mixing.step_size) = (1, StepSize::All);
        (config.mixing.balance, config.recipe.layers.freeze) = (balance, Some(Freeze::Layers(1)));
        let mut watched = Watch::default();
        let out = dir.path().join("run");
        run_tasks(&config, &out, false, &Baselines::None, &device, &mut watched).unwrap();
        assert_eq!(moved(&base, &watched.weights[0]), [false, false, true], "{balance:?}");
    }
}

#[test]
fn what_does_not_go_with_frozen_layers_is_refused() {
    let (_, device) = devices().remove(0);
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("run");
    let refused = |result: Result<bert_train::RunReport, Error>, parts: &[&str]| {
        let error = result.unwrap_err();
        assert!(error.is_bad_input() && !out.exists(), "{error}");
        parts.iter().for_each(|part| assert!(error.to_string().contains(part), "{part}: {error}"));
    };
    let mut config = files(dir.path(), 30, PoolingKind::Mean);
    config.recipe.layers.freeze = Some(Freeze::Layers(3));
    refused(run(&config, &out, false, &device, &mut ()), &["freeze layers is 3", "has 2 layers"]);
    config.recipe.layers = Layers { reinit: Some(3), ..Layers::default() };
    refused(run(&config, &out, false, &device, &mut ()), &["reinit-layers is 3", "1 to 2"]);
    config.recipe.layers =
        Layers { freeze: Some(Freeze::Layers(2)), reinit: Some(1), ..Layers::default() };
    refused(run(&config, &out, false, &device, &mut ()), &["2 layers are frozen", "layers=1"]);
    config.recipe.layers = Layers { freeze: Some(Freeze::Embeddings), ..Layers::default() };
    config.words.train_embeddings = TrainEmbeddings::New;
    refused(run(&config, &out, false, &device, &mut ()), &["train-embeddings", "freeze keeps"]);

    let mut tasks = every_kind(dir.path());
    let tasks_refused = |tasks: &bert_train::MultiTaskConfig, parts: &[&str]| {
        refused(run_tasks(tasks, &out, false, &Baselines::None, &device, &mut ()), parts);
    };
    tasks.recipe.layers.freeze = Some(Freeze::Encoder);
    tasks_refused(&tasks, &["several tasks", "layers=2"]);
    tasks.recipe.layers.freeze = Some(Freeze::Layers(2));
    tasks.mixing.step_size = StepSize::All;
    for balance in [Balance::PcGrad, Balance::GradNorm { alpha: 1.5, weight_lr: 0.025 }] {
        tasks.mixing.balance = balance;
        tasks_refused(&tasks, &["balance = ", "freeze fewer layers"]);
    }
}
