//! The check of the first step: what it says of a sound run, and that it finds planted faults.

use std::{fs, path::Path};

use bert_core::{Bert, EncoderInput, NamedTensor};
use bert_heads::{PoolingKind, SequenceClassifier, TaskEmbeddingKind};
use bert_train::{
    Balance, Baselines, Batch, BatchTargets, Check, Control, DataSet, Error, Every, Freeze,
    GroupTraining, MemoryPlan, Metrics, Observer, Pass, Recipe, RunConfig, Schedule, StepReport,
    StepSize, TaskTable, TrainEmbeddings, Trainable, TrainingSet, check, check_tasks, fine_tune,
    resume, run, run_tasks,
};
use burn::{
    module::Module,
    nn::Linear,
    tensor::{Device, Tensor},
};

use crate::{
    examples,
    multi_task::opposites,
    new_head,
    reference::{cpu_devices, devices},
    regularisation::with_dropout,
    runs::files,
};

/// Remembers the check, and ends the run after so many steps.
struct Watch {
    after: usize,
    steps: usize,
    checks: Vec<Check>,
}

impl Watch {
    fn after(after: usize) -> Self {
        Self { after, steps: 0, checks: vec![] }
    }
}

impl Observer for Watch {
    fn checked(&mut self, check: &Check) -> bert_train::Result<()> {
        self.checks.push(check.clone());
        Ok(())
    }
    fn step(&mut self, _: &StepReport) {
        self.steps += 1;
    }
    fn is_interrupted(&self) -> bool {
        self.steps == self.after
    }
}

fn config(dir: &Path, pooling: PoolingKind) -> RunConfig {
    let mut config = files(dir, 30, pooling);
    config.recipe.epochs = 1;
    config
}

/// How the group is trained that has a parameter of this name.
#[track_caller]
fn training<'a>(check: &'a Check, name: &str) -> &'a GroupTraining {
    let group = check.groups.iter().find(|group| group.names.iter().any(|own| own == name));
    let group = group.unwrap_or_else(|| panic!("{name} is not in {:?}", check.groups));
    group.training.as_ref().unwrap()
}

#[test]
fn a_row_says_what_the_optimiser_does() {
    for (name, device) in devices() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = config(dir.path(), PoolingKind::Adaptive);
        config.recipe = Recipe {
            learning_rate: 2e-4,
            head_learning_rate: Some(1e-3),
            pooling_learning_rate: Some(1e-2),
            weight_decay: 0.03,
            max_grad_norm: 0.7,
            ..config.recipe
        };
        let check = check(&config, &device, &mut ()).unwrap();
        // Bert and pooling and head, each with and without decay.
        assert_eq!(check.groups.len(), 6, "{name}: {check}");
        // 5 embeddings, 16 a layer, 2 layers, pooling and head with weight and bias.
        assert_eq!(check.groups.iter().map(|group| group.tensors).sum::<usize>(), 41);
        for (part, rate) in [
            ("bert.encoder.layer.*.weight", 2e-4),
            ("bert.encoder.layer.*.gamma", 2e-4),
            ("pooling.Adaptive.linear.weight", 1e-2),
            ("pooling.Adaptive.linear.bias", 1e-2),
            ("classifier.weight", 1e-3),
            ("classifier.bias", 1e-3),
        ] {
            let training = training(&check, part);
            let decay = if part.ends_with("weight") { 0.03 } else { 0.0 };
            assert_eq!(training.learning_rate, rate, "{name}, {part}");
            assert_eq!(training.weight_decay, decay, "{name}, {part}");
            assert_eq!(training.clip, Some(0.7), "{name}, {part}");
        }
        assert!(training(&check, "classifier.weight").gradient_norm > 1e-3);
        // 27 training rows in batches of 8: 4 steps, of which floor(0.4) warm up.
        let plan = &check.plan;
        assert_eq!((plan.steps, plan.warmup_steps, plan.rows, plan.cut_rows), (4, 0, 27, 0));
        assert!(plan.seconds > 0.0 && plan.most_tokens as f64 >= plan.mean_tokens);
        let parameters: u64 = check.groups.iter().map(|group| group.values as u64).sum();
        let memory = &plan.memory;
        assert_eq!((memory.parameters, memory.optimizer_state), (4 * parameters, 8 * parameters));
        assert_eq!(memory.total.is_some(), cfg!(target_os = "linux") && name != "wgpu");
        assert_eq!(check.warnings, Vec::<String>::new());
    }
}

/// A run leaves what was checked, and a check by itself leaves nothing.
#[test]
fn a_run_writes_its_check() {
    let (_, device) = devices().remove(0);
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path(), PoolingKind::Cls);
    let before = fs::read_dir(dir.path()).unwrap().count();
    let alone = check(&config, &device, &mut ()).unwrap();
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), before);
    let (out, mut watch) = (dir.path().join("run"), Watch::after(usize::MAX));
    run(&config, &out, false, &device, &mut watch).unwrap();
    let [told] = &watch.checks[..] else { panic!("{:?}", watch.checks) };
    let written = fs::read_to_string(out.join("check.json")).unwrap();
    let written: Check = serde_json::from_str(&written).unwrap();
    for other in [&written, told] {
        assert_eq!((other.step, &other.groups), (alone.step, &alone.groups));
        assert_eq!(other.plan.memory.activations, alone.plan.memory.activations);
    }
    let page = fs::read_to_string(out.join("report.html")).unwrap();
    for group in &written.groups {
        let names = group.names.join(", ");
        let row = page.split("<tr>").find(|row| row.contains(&format!(">{names}<"))).unwrap();
        let GroupTraining { learning_rate, gradient_norm, .. } = group.training.as_ref().unwrap();
        assert!(row.contains(&format!(">{learning_rate:e}<")), "{row}");
        assert!(row.contains(&format!(">{gradient_norm:.2e}<")), "{row}");
    }
}

/// Every way to train passes, with nothing to warn of.
#[test]
fn sound_runs_pass() {
    let (_, device) = devices().remove(0);
    let dir = tempfile::tempdir().unwrap();
    for pooling in PoolingKind::ALL {
        let mut config = config(dir.path(), pooling);
        config.layer_mixture = true;
        for kind in [
            TaskEmbeddingKind::Full,
            TaskEmbeddingKind::LowRank { rank: 3 },
            TaskEmbeddingKind::Diagonal,
            TaskEmbeddingKind::Additive,
        ] {
            config.words.task_embedding = Some(kind);
            let check = check(&config, &device, &mut ()).unwrap();
            assert_eq!(check.warnings, Vec::<String>::new(), "{pooling}, {kind}");
        }
    }
}

#[test]
fn what_is_frozen_is_a_row_of_its_own() {
    let (_, device) = devices().remove(0);
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path(), PoolingKind::Attention);
    config.words.train_embeddings = TrainEmbeddings::None;
    let words = check(&config, &device, &mut ()).unwrap();
    let frozen = words.groups.last().unwrap();
    assert_eq!(frozen.names, ["bert.embeddings.word_embeddings.weight"]);
    assert_eq!(frozen.training, None);

    config.words.train_embeddings = TrainEmbeddings::All;
    config.recipe.layers.freeze = Some(Freeze::Encoder);
    let encoder = check(&config, &device, &mut ()).unwrap();
    // 5 embeddings and 16 a layer.
    assert_eq!(encoder.groups.last().unwrap().tensors, 37);
    // The vector of attention pooling starts at 0, and hides the map before it.
    let zero: usize = encoder
        .groups
        .iter()
        .filter_map(|group| group.training.as_ref())
        .flat_map(|training| &training.zero)
        .map(|zero| zero.tensors)
        .sum();
    assert_eq!(zero, 2, "{encoder}");
    let activations = |check: &Check| check.plan.memory.activations;
    assert!(activations(&encoder) == 0 && activations(&words) > 0);
}

/// The plan counts what comes later or beside: layers that thaw, an average, a second pass, words that are moved.
#[test]
fn the_plan_is_of_the_most_that_a_run_takes() {
    let (_, device) = devices().remove(0);
    let dir = tempfile::tempdir().unwrap();
    let model = with_dropout(dir.path(), 0.1);
    let memory = |set: &dyn Fn(&mut Recipe)| {
        let mut config = config(dir.path(), PoolingKind::Mean);
        config.model = model.clone();
        set(&mut config.recipe);
        check(&config, &device, &mut ()).unwrap().plan.memory
    };
    let plain = memory(&|_| ());
    assert_eq!(plain.average, 0);
    let average = memory(&|recipe| recipe.regularisation.ema = 0.9);
    assert_eq!(
        average,
        MemoryPlan { average: plain.gradients, free: average.free, ..plain.clone() }
    );
    let twice = memory(&|recipe| recipe.regularisation.r_drop = 1.0).activations;
    assert_eq!(twice, 2 * plain.activations);
    // Of two layers, the input of the first and the second whole: 7 + 1 widths of 32, and two of 64.
    let again = memory(&|recipe| recipe.layers.recompute = true).activations;
    assert_eq!(again * 2 * (7 * 32 + 2 * 64), plain.activations * (8 * 32 + 2 * 64));
    let freeze = |recipe: &mut Recipe| recipe.layers.freeze = Some(Freeze::Layers(1));
    let frozen = memory(&freeze);
    assert!(frozen.gradients < plain.gradients && frozen.activations < plain.activations);
    let moved = memory(&|recipe| {
        freeze(recipe);
        recipe.regularisation.fgm = 0.1;
    });
    assert_eq!((moved.gradients, moved.activations), (frozen.gradients, plain.activations));
    let thawing = memory(&|recipe| {
        freeze(recipe);
        recipe.layers.unfreeze_every = Some(Every::Epoch);
    });
    assert_eq!((thawing.gradients, thawing.activations), (plain.gradients, plain.activations));
}

#[test]
fn a_tagger_is_checked() {
    let (_, device) = devices().remove(0);
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path(), PoolingKind::Cls);
    let tagged = |example: bert_train::Example| {
        let words = example.text.split(' ');
        let tag = |word| if ["good", "bad"].contains(&word) { "B-M" } else { "O" };
        words.map(|word| format!("{word}\t{}\n", tag(word))).collect::<String>() + "\n"
    };
    config.train = dir.path().join("train.conll");
    fs::write(&config.train, examples(30).into_iter().map(tagged).collect::<String>()).unwrap();
    let check = check(&config, &device, &mut ()).unwrap();
    assert_eq!(check.groups.len(), 2, "{check}");
}

/// With several tasks every head is checked, also those that the first step does not train.
#[test]
fn every_task_is_checked() {
    let (_, device) = devices().remove(0);
    let balances = [
        (Balance::Fixed, StepSize::One),
        (Balance::Uncertainty { weight_lr: 0.1 }, StepSize::One),
        (Balance::GradNorm { alpha: 1.5, weight_lr: 0.025 }, StepSize::All),
        (Balance::PcGrad, StepSize::All),
    ];
    for (balance, step_size) in balances {
        let dir = tempfile::tempdir().unwrap();
        let mut config = opposites(dir.path());
        (config.mixing.balance, config.mixing.step_size) = (balance, step_size);
        let check = check_tasks(&config, &device, &mut ()).unwrap();
        for task in 0..config.tasks.len() {
            let training = training(&check, &format!("tasks.{task}.classifier.weight"));
            assert!(training.gradient_norm > 0.0, "{balance:?}");
        }
        if let Balance::Uncertainty { weight_lr } = balance {
            let training = training(&check, "tasks.1.log_variance");
            assert_eq!((training.learning_rate, training.weight_decay), (weight_lr, 0.0));
        }
    }
}

/// A run that goes on is checked at its next step, also where a task is finished by then.
#[test]
fn a_run_that_goes_on_is_checked_again() {
    let (_, device) = devices().remove(0);
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path(), PoolingKind::Adaptive);
    config.recipe.control = Control { checkpoint_every: Every::Steps(1), ..Control::default() };
    let out = dir.path().join("run");
    run(&config, &out, false, &device, &mut Watch::after(2)).unwrap_err();
    let mut watch = Watch::after(usize::MAX);
    resume(&out, &device, &mut watch).unwrap();
    assert_eq!(watch.checks.iter().map(|check| check.step).collect::<Vec<_>>(), [3]);

    let mut config = opposites(dir.path());
    config.recipe.epochs = 4;
    config.recipe.control = Control { checkpoint_every: Every::Steps(1), ..Control::default() };
    config.tasks.values_mut().next().unwrap().patience = Some(1);
    let (out, mut whole) = (dir.path().join("tasks"), Watch::after(usize::MAX));
    run_tasks(&config, &out, false, &Baselines::None, &device, &mut whole).unwrap();
    let log = fs::read_to_string(out.join("metrics.jsonl")).unwrap();
    assert!(log.contains("\"finished\":[\""), "{log}");
    let stop = &mut Watch::after(whole.steps - 1);
    run_tasks(&config, &out, true, &Baselines::None, &device, stop).unwrap_err();
    let mut watch = Watch::after(usize::MAX);
    resume(&out, &device, &mut watch).unwrap();
    assert_eq!(watch.checks.len(), 1);
}

/// A classifier with a fault.
#[derive(Module, Debug)]
struct Faulty {
    model: SequenceClassifier,
    /// Used by nobody, or shared with the head.
    other: Option<Linear>,
    #[module(skip)]
    detached: Option<usize>,
    #[module(skip)]
    factor: f64,
}

impl Faulty {
    fn sound(device: &Device) -> Self {
        let model = new_head(PoolingKind::Mean, 0, device).model;
        Self { model, other: None, detached: None, factor: 1.0 }
    }
}

impl Trainable for Faulty {
    type Data = DataSet;
    type Dev = DataSet;

    fn sets(data: &DataSet) -> Vec<TrainingSet> {
        SequenceClassifier::sets(data)
    }
    fn cut_rows(data: &DataSet) -> usize {
        data.cut_rows()
    }
    fn logits(&self, data: &DataSet, batch: &Batch, device: &Device, pass: Pass) -> Vec<Tensor<2>> {
        let mut model = self.model.clone();
        if let Some(layer) = self.detached {
            // The same weights, which nobody asks for a gradient.
            model.bert.encoder.layer[layer] = model.bert.encoder.layer[layer].clone().freeze();
        }
        let encodings = batch.rows.iter().map(|row| &data.encodings[*row]);
        let logits = model.forward(&EncoderInput::new(encodings, device), pass.dropout);
        // The same logits where the factor is 1; at 0 the head's bias alone sees the labels.
        let bias = model.classifier.bias.as_ref().unwrap().val().unsqueeze();
        vec![(logits - bias.clone()) * self.factor + bias]
    }
    fn targets(data: &DataSet, batch: &Batch) -> Vec<BatchTargets> {
        SequenceClassifier::targets(data, batch)
    }
    fn encoder(&self) -> &Bert {
        &self.model.bert
    }
    fn encoder_mut(&mut self) -> &mut Bert {
        &mut self.model.bert
    }
    fn rows(dev: &DataSet) -> usize {
        dev.len()
    }
    fn evaluate(&self, dev: &DataSet, batch_size: usize, device: &Device) -> Metrics {
        Trainable::evaluate(&self.model, dev, batch_size, device)
    }
    fn parameter_shapes(&self) -> Vec<(String, Vec<usize>)> {
        self.model.parameter_shapes()
    }
    fn set_parameters(
        self,
        _: impl FnMut(&str, &[usize]) -> bert_core::Result<Option<Vec<f32>>>,
    ) -> bert_core::Result<Self> {
        Ok(self)
    }
    fn named_parameters(&self) -> Vec<NamedTensor> {
        self.model.named_parameters()
    }
}

/// What a run of a model comes to in its first step.
fn first_step(
    model: Faulty,
    labels: impl Fn(Option<u32>) -> Option<u32>,
    recipe: Recipe,
    device: &Device,
) -> bert_train::Result<Check> {
    let classifier = new_head(PoolingKind::Mean, 0, device);
    let set = |from, to| {
        let rows = &examples(to)[from..];
        classifier.data_set(Path::new("none"), rows, 16).unwrap().0
    };
    let (mut train, dev) = (set(0, 16), set(16, 20));
    train.labels.iter_mut().for_each(|label| *label = labels(*label));
    let mut watch = Watch::after(1);
    match fine_tune(model, &train, &dev, &recipe, device, &mut watch) {
        Err(Error::Interrupted { .. }) => Ok(watch.checks.remove(0)),
        Err(error) => {
            assert_eq!(watch.steps, 0, "{error}");
            Err(error)
        }
        Ok(_) => panic!("the run goes on"),
    }
}

fn fault(model: Faulty, device: &Device) -> Error {
    first_step(model, |label| label, Recipe::default(), device).unwrap_err()
}

#[test]
fn a_sound_model_passes() {
    for (_, device) in cpu_devices() {
        let model = Faulty::sound(&device);
        let check = first_step(model, |label| label, Recipe::default(), &device).unwrap();
        assert_eq!(check.warnings, Vec::<String>::new());
    }
}

#[test]
fn a_detached_layer_is_found() {
    for (name, device) in devices() {
        let model = Faulty { detached: Some(1), ..Faulty::sound(&device) };
        let error = fault(model, &device);
        let Error::NoGradient { names } = &error else { panic!("{name}: {error}") };
        assert_eq!(names.len(), 16, "{name}: {names:?}");
        assert!(names.iter().all(|own| own.starts_with("model.bert.encoder.layer.1.")));
        assert!(error.to_string().contains("(16 parameters in all)"), "{error}");
        assert!(!error.is_bad_input());
    }
}

#[test]
fn a_parameter_that_nobody_uses_is_found() {
    let (_, device) = devices().remove(0);
    let sound = Faulty::sound(&device);
    let unused = new_head(PoolingKind::Mean, 1, &device).model.classifier;
    let error = fault(Faulty { other: Some(unused), ..sound }, &device);
    let Error::NoGradient { names } = error else { panic!("{error}") };
    assert_eq!(names, ["other.weight", "other.bias"]);
}

#[test]
fn a_parameter_in_two_places_is_found() {
    let (_, device) = devices().remove(0);
    let sound = Faulty::sound(&device);
    let error = fault(Faulty { other: Some(sound.model.classifier.clone()), ..sound }, &device);
    let Error::SharedParameter { first, second } = error else { panic!("{error}") };
    assert_eq!((&first[..], &second[..]), ("model.classifier.weight", "other.weight"));
}

#[test]
fn a_frozen_head_is_found() {
    let (_, device) = devices().remove(0);
    let mut model = Faulty::sound(&device);
    model.model.classifier = model.model.classifier.freeze();
    let error = fault(model, &device);
    let Error::FrozenHead { names } = error else { panic!("{error}") };
    assert_eq!(names, ["model.classifier.weight", "model.classifier.bias"]);
}

#[test]
fn a_gradient_that_is_zero_is_found() {
    let (_, device) = devices().remove(0);
    let error = fault(Faulty { factor: 0.0, ..Faulty::sound(&device) }, &device);
    let Error::ZeroGradient { names } = error else { panic!("{error}") };
    // All but the two key biases, for which it is right, and the head's bias.
    assert_eq!(names.len(), 39 - 3, "{names:?}");
    assert!(!names.iter().any(|name| name.ends_with("key.bias")));

    // The same by settings: no task lets its gradient into the encoder.
    let dir = tempfile::tempdir().unwrap();
    let mut config = opposites(dir.path());
    config.tasks.values_mut().for_each(|task: &mut TaskTable| task.gradient_factor = 0.0);
    let error = check_tasks(&config, &device, &mut ()).unwrap_err();
    let Error::ZeroGradient { names } = &error else { panic!("{error}") };
    assert!(names.iter().all(|name| name.starts_with("bert.")), "{names:?}");
}

#[test]
fn a_batch_without_loss_is_said_but_no_fault() {
    let (_, device) = devices().remove(0);
    let none = |_| None;
    let check = first_step(Faulty::sound(&device), none, Recipe::default(), &device).unwrap();
    let [warning] = &check.warnings[..] else { panic!("{:?}", check.warnings) };
    assert!(warning.starts_with("the loss of a batch that was checked is 0"), "{warning}");
}

/// One step that is all warm-up, where the rate begins at 0.
#[test]
fn a_rate_of_zero_is_found() {
    let (_, device) = devices().remove(0);
    let control = Control { max_steps: Some(1), ..Control::default() };
    let schedule = Schedule { warmup_ratio: 1.0, ..Schedule::default() };
    let recipe = Recipe { schedule, control, ..Recipe::default() };
    let error = first_step(Faulty::sound(&device), |label| label, recipe, &device).unwrap_err();
    let Error::NoRate { names } = &error else { panic!("{error}") };
    assert_eq!(names.len(), 39, "{names:?}");
    assert!(error.is_bad_input());
}
