//! Runs that break off: resumed, they are to the bit what they would have been, and damage is named or gone around.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
};

use bert_core::LoraConfig;
use bert_heads::{PoolingKind, TaskEmbeddingKind};
use bert_kernels::random::{Purpose, Stream};
use bert_train::{
    Balance, Baselines, Control, Decay, Error, Every, Freeze, Layers, MultiTaskConfig, Observer,
    Regularisation, RunConfig, Sampling, StepReport, StepSize, TrainEmbeddings, check_tasks,
    resume, run, run_tasks,
};
use burn::tensor::Device;
use safetensors::{SafeTensors, tensor::TensorView};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::{
    multi_task::{every_kind, opposites},
    reference::{cpu_devices, devices},
    regularisation::with_dropout,
    runs::files,
};

/// Ends a run after so many steps, and remembers what it was told.
struct Stop {
    after: usize,
    steps: usize,
    notices: Vec<String>,
}

impl Stop {
    fn after(after: usize) -> Self {
        Self { after, steps: 0, notices: vec![] }
    }

    fn never() -> Self {
        Self::after(usize::MAX)
    }
}

impl Observer for Stop {
    fn notice(&mut self, text: &str) {
        self.notices.push(text.to_owned());
    }
    fn step(&mut self, _: &StepReport) {
        self.steps += 1;
    }
    fn is_interrupted(&self) -> bool {
        self.steps == self.after
    }
}

/// All that a run comes to but its times: every loss and evaluation, the weights and the answers of the best model.
#[derive(Debug, PartialEq)]
struct Outcome {
    log: Vec<Value>,
    report: Value,
    files: Vec<Vec<u8>>,
}

fn outcome(out: &Path) -> Outcome {
    let json = |text: &str| {
        let mut value: Value = serde_json::from_str(text).unwrap();
        for time in ["seconds", "train_seconds", "examples_per_second"] {
            value.as_object_mut().unwrap().remove(time);
        }
        value
    };
    let text = |name: &str| fs::read_to_string(out.join(name)).unwrap();
    let files = ["model.safetensors", "predictions.jsonl", "bert-tune.json", "run.toml"];
    let adapter = Some("adapter/adapter_model.safetensors").filter(|name| out.join(name).exists());
    Outcome {
        log: text("metrics.jsonl").lines().map(json).collect(),
        report: json(&text("report.json")),
        files: adapter
            .into_iter()
            .chain(files)
            .map(|name| fs::read(out.join(name)).unwrap())
            .collect(),
    }
}

/// Stops a run after each of its steps and resumes it; then stops it after every step in one go.
fn assert_resumes(
    name: &str,
    device: &Device,
    begin: impl Fn(&Path, &mut Stop) -> bert_train::Result<()>,
) {
    let dir = tempfile::tempdir().unwrap();
    let whole = dir.path().join("whole");
    let mut steps = Stop::never();
    begin(&whole, &mut steps).unwrap();
    let (expected, steps) = (outcome(&whole), steps.steps);
    assert!((4..40).contains(&steps), "{steps}");
    for after in 1..=steps {
        let out = dir.path().join(format!("after-{after}"));
        let error = begin(&out, &mut Stop::after(after)).unwrap_err();
        assert!(matches!(error, Error::Interrupted { step, .. } if step == after), "{error}");
        let mut rest = Stop::never();
        resume(&out, device, &mut rest).unwrap();
        assert_eq!(rest.steps, steps - after, "{name}, after {after}: {:?}", rest.notices);
        assert!(outcome(&out) == expected, "{name}: stopped after {after} of {steps}");
    }
    let out = dir.path().join("often");
    begin(&out, &mut Stop::after(1)).unwrap_err();
    while let Err(error) = resume(&out, device, &mut Stop::after(1)) {
        assert!(matches!(error, Error::Interrupted { .. }), "{name}: {error}");
    }
    assert!(outcome(&out) == expected, "{name}: stopped after every step");
}

#[test]
fn one_task_resumes_to_the_bit() {
    for (name, device) in cpu_devices() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = files(dir.path(), 30, PoolingKind::Adaptive);
        config.recipe.epochs = 2;
        assert_resumes(name, &device, |out, stop| {
            run(&config, out, false, &device, stop).map(drop)
        });
    }
}

/// Evaluations within epochs, another metric, frozen words, batches in parts, layers that
/// begin anew, and an end by steps.
#[test]
fn a_run_with_everything_resumes_to_the_bit() {
    let (name, device) = devices().remove(0);
    let dir = tempfile::tempdir().unwrap();
    let mut config = files(dir.path(), 30, PoolingKind::Cls);
    config.words.train_embeddings = TrainEmbeddings::None;
    config.words.task_embedding = Some(TaskEmbeddingKind::LowRank { rank: 3 });
    config.layer_mixture = true;
    config.recipe.micro_batch_size = Some(3);
    config.recipe.schedule.decay = Decay::Cosine { end: 0.1 };
    config.recipe.layers = Layers { lr_decay: Some(0.9), reinit: Some(1), ..Layers::default() };
    config.recipe.control = Control {
        eval_every: Every::Steps(3),
        max_steps: Some(10),
        patience: Some(3),
        metric: Some("loss".into()),
        ..Control::default()
    };
    assert_resumes(name, &device, |out, stop| run(&config, out, false, &device, stop).map(drop));
}

/// Layers that thaw as the run goes on, of one task by steps and of several by epochs.
#[test]
fn a_run_that_thaws_resumes_to_the_bit() {
    let (name, device) = devices().remove(0);
    let dir = tempfile::tempdir().unwrap();
    let mut config = files(dir.path(), 30, PoolingKind::Adaptive);
    config.recipe.epochs = 2;
    config.recipe.regularisation.ema = 0.9;
    config.recipe.layers =
        Layers { unfreeze_every: Some(Every::Steps(2)), lr_decay: Some(0.9), ..Layers::default() };
    assert_resumes(name, &device, |out, stop| run(&config, out, false, &device, stop).map(drop));

    let mut config = every_kind(dir.path());
    (config.recipe.epochs, config.recipe.batch_size) = (3, 32);
    config.recipe.layers = Layers {
        freeze: Some(Freeze::Layers(1)),
        unfreeze_every: Some(Every::Epoch),
        ..Layers::default()
    };
    assert_resumes(name, &device, |out, stop| {
        run_tasks(&config, out, false, &Baselines::None, &device, stop).map(drop)
    });
}

/// What regularises a run, of one task and of several of every kind.
#[test]
fn a_regularised_run_resumes_to_the_bit() {
    let (name, device) = devices().remove(0);
    let dir = tempfile::tempdir().unwrap();
    let regularisation = Regularisation { label_smoothing: 0.1, r_drop: 1.0, fgm: 0.5, ema: 0.9 };
    let mut config = files(dir.path(), 30, PoolingKind::Adaptive);
    config.model = with_dropout(dir.path(), 0.1);
    let model = config.model.clone();
    (config.recipe.epochs, config.recipe.regularisation) = (2, regularisation);
    assert_resumes(name, &device, |out, stop| run(&config, out, false, &device, stop).map(drop));

    let mut config = MultiTaskConfig { model, ..every_kind(dir.path()) };
    (config.recipe.epochs, config.recipe.regularisation) = (2, regularisation);
    (config.recipe.batch_size, config.mixing.step_size) = (32, StepSize::All);
    assert_resumes(name, &device, |out, stop| {
        run_tasks(&config, out, false, &Baselines::None, &device, stop).map(drop)
    });
}

/// The average of the weights is part of a checkpoint: one that is damaged is named.
#[test]
fn a_damaged_average_is_named_and_the_checkpoint_before_it_is_used() {
    let (_, device) = devices().remove(0);
    let dir = tempfile::tempdir().unwrap();
    let mut config = files(dir.path(), 30, PoolingKind::Mean);
    config.recipe.regularisation.ema = 0.9;
    config.recipe.control.checkpoint_every = Every::Steps(3);
    run(&config, &dir.path().join("whole"), false, &device, &mut ()).unwrap();
    let (out, expected) = (dir.path().join("stopped"), outcome(&dir.path().join("whole")));
    run(&config, &out, false, &device, &mut Stop::after(7)).unwrap_err();
    let notices = assert_goes_around((&out, &expected, &device), |dir| {
        let path = dir.join("step-7/average.safetensors");
        let mut bytes = fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::remove_file(&path).unwrap();
        fs::write(path, bytes).unwrap();
    });
    let is_named = |line: &String| line.contains("step-7") && line.contains("average.safetensors");
    assert!(notices.iter().any(is_named), "{notices:?}");
}

/// Hidden states of a frozen encoder are kept in memory, and made again.
#[test]
fn a_head_on_a_frozen_encoder_resumes_to_the_bit() {
    let (name, device) = devices().remove(0);
    let dir = tempfile::tempdir().unwrap();
    let mut config = files(dir.path(), 30, PoolingKind::Attention);
    (config.recipe.epochs, config.recipe.layers.freeze) = (2, Some(Freeze::Encoder));
    assert_resumes(name, &device, |out, stop| run(&config, out, false, &device, stop).map(drop));
}

/// A checkpoint holds what is trained: the encoder is read again from the model that the run started from.
#[test]
fn adapters_resume_to_the_bit() {
    let (name, device) = devices().remove(0);
    let dir = tempfile::tempdir().unwrap();
    let mut config = files(dir.path(), 30, PoolingKind::Cls);
    config.lora = Some("rank=3,dropout=0.2,targets=query+output".parse().unwrap());
    (config.recipe.epochs, config.recipe.learning_rate) = (2, 1e-2);
    assert_resumes(name, &device, |out, stop| run(&config, out, false, &device, stop).map(drop));
    let mut config = opposites(dir.path());
    config.lora = Some("rank=3".parse().unwrap());
    (config.recipe.epochs, config.recipe.batch_size) = (2, 16);
    assert_resumes(name, &device, |out, stop| {
        run_tasks(&config, out, false, &Baselines::None, &device, stop).map(drop)
    });
}

#[test]
fn a_tagger_resumes_to_the_bit() {
    let (name, device) = devices().remove(0);
    let dir = tempfile::tempdir().unwrap();
    let mut config = files(dir.path(), 30, PoolingKind::Cls);
    let sentences: String = crate::examples(30)
        .iter()
        .map(|example| {
            let tag = |word| if ["good", "bad"].contains(&word) { "B-M" } else { "O" };
            let words = example.text.split(' ');
            words.map(|word| format!("{word}\t{}\n", tag(word))).collect::<String>() + "\n"
        })
        .collect();
    config.train = dir.path().join("train.conll");
    fs::write(&config.train, sentences).unwrap();
    config.recipe.epochs = 2;
    assert_resumes(name, &device, |out, stop| run(&config, out, false, &device, stop).map(drop));
}

#[test]
fn several_tasks_resume_to_the_bit_with_each_balance() {
    let (name, device) = devices().remove(0);
    let balances = [
        Balance::Fixed,
        Balance::Uncertainty { weight_lr: 0.1 },
        Balance::GradNorm { alpha: 1.5, weight_lr: 0.025 },
        Balance::PcGrad,
        Balance::Dwa { temperature: 2.0 },
    ];
    for (place, balance) in balances.into_iter().enumerate() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = opposites(dir.path());
        (config.recipe.epochs, config.recipe.batch_size) = (3, 16);
        config.mixing.balance = balance;
        config.mixing.step_size = if place < 2 { StepSize::One } else { StepSize::All };
        config.mixing.sampling = if place < 2 { Sampling::Uniform } else { Sampling::default() };
        let first = config.tasks.values_mut().next().unwrap();
        (first.patience, first.metric) = (Some(1), Some("f1_macro".into()));
        assert_resumes(&format!("{name}, {balance:?}"), &device, |out, stop| {
            run_tasks(&config, out, false, &Baselines::None, &device, stop).map(drop)
        });
    }
}

/// What tasks are held against is in the run file, and is not forgotten.
#[test]
fn baselines_are_trained_after_a_resumed_run_too() {
    let (_, device) = devices().remove(0);
    let dir = tempfile::tempdir().unwrap();
    let mut config = opposites(dir.path());
    config.recipe.epochs = 1;
    let out = dir.path().join("run");
    let mut stop = Stop::after(2);
    run_tasks(&config, &out, false, &Baselines::Train, &device, &mut stop).unwrap_err();
    let report = resume(&out, &device, &mut ()).unwrap();
    assert_eq!(report.comparisons.len(), 2);
    let written = MultiTaskConfig::load(&out.join("run.toml"), toml::Table::new()).unwrap();
    assert_eq!(written.baselines, Baselines::Train);
    // A finished run is read, exactly.
    assert_eq!(resume(&out, &device, &mut ()).unwrap(), report);
}

#[test]
fn a_finished_run_is_not_trained_again() {
    let (_, device) = devices().remove(0);
    let dir = tempfile::tempdir().unwrap();
    let config = files(dir.path(), 30, PoolingKind::Mean);
    let out = dir.path().join("run");
    let report = run(&config, &out, false, &device, &mut ()).unwrap();
    let mut stop = Stop::never();
    assert_eq!(resume(&out, &device, &mut stop).unwrap(), report);
    assert_eq!(stop.steps, 0);
    // Of 4 epochs' checkpoints the newest two are kept.
    let mut kept: Vec<String> = fs::read_dir(out.join("checkpoints"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    kept.sort();
    assert_eq!(kept, ["step-12", "step-8"]);
    let error = resume(&dir.path().join("nowhere"), &device, &mut ()).unwrap_err();
    assert!(matches!(error, Error::NoRun { .. }) && error.is_bad_input(), "{error}");
}

/// A run whose config is in `dir`, stopped after step 7 of 12 with checkpoints of steps 6 and 7, and what it would come to.
fn stopped(dir: &Path, device: &Device) -> (RunConfig, PathBuf, Outcome) {
    let mut config = files(dir, 30, PoolingKind::Mean);
    config.recipe.control.checkpoint_every = Every::Steps(3);
    run(&config, &dir.join("whole"), false, device, &mut ()).unwrap();
    let out = dir.join("stopped");
    run(&config, &out, false, device, &mut Stop::after(7)).unwrap_err();
    (config, out, outcome(&dir.join("whole")))
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (path, name) = (entry.as_ref().unwrap().path(), entry.unwrap().file_name());
        match path.is_dir() {
            true => copy(&path, &to.join(name)),
            false => drop(fs::copy(path, to.join(name)).unwrap()),
        }
    }
}

/// Damages a copy of a stopped run and resumes it; the outcome must be the right one.
#[track_caller]
fn assert_goes_around(
    (stopped, expected, device): (&Path, &Outcome, &Device),
    damage: impl FnOnce(&Path),
) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("run");
    copy(stopped, &out);
    damage(&out.join("checkpoints"));
    let mut stop = Stop::never();
    resume(&out, device, &mut stop).unwrap();
    assert!(outcome(&out) == *expected, "{:?}", stop.notices);
    stop.notices
}

const FILES: [&str; 5] = [
    "weights.safetensors",
    "optimizer.safetensors",
    "best.safetensors",
    "state.json",
    "SHA256SUMS",
];

#[test]
fn a_damaged_checkpoint_is_named_and_the_one_before_it_is_used() {
    let (_, device) = devices().remove(0);
    let dir = tempfile::tempdir().unwrap();
    let (_, out, expected) = stopped(dir.path(), &device);
    let base = (out.as_path(), &expected, &device);
    let named = |notices: &[String], step: &str| {
        notices.iter().filter(|line| line.contains(step) && line.contains("is damaged")).count()
    };
    for file in FILES {
        let cut = |path: PathBuf, keep: usize| {
            let bytes = fs::read(&path).unwrap();
            fs::remove_file(&path).unwrap();
            fs::write(path, &bytes[..keep.min(bytes.len() - 2)]).unwrap();
        };
        for keep in [0, 9, usize::MAX] {
            let notices = assert_goes_around(base, |dir| cut(dir.join("step-7").join(file), keep));
            assert_eq!(
                (named(&notices, "step-7"), named(&notices, "step-6")),
                (1, 0),
                "{notices:?}"
            );
            assert!(notices.iter().any(|line| line.contains("going on after step 6")));
        }
        let notices = assert_goes_around(base, |dir| {
            fs::remove_file(dir.join("step-7").join(file)).unwrap();
            fs::create_dir(dir.join("step-7").join(file)).unwrap();
        });
        assert_eq!(named(&notices, "step-7"), 1, "{notices:?}");
    }
    // One file of another checkpoint, and a whole checkpoint under another name.
    let notices = assert_goes_around(base, |dir| {
        let [older, newer] = ["step-6", "step-7"].map(|step| dir.join(step).join(FILES[0]));
        fs::rename(older, newer).unwrap();
    });
    assert_eq!((named(&notices, "step-7"), named(&notices, "step-6")), (1, 1), "{notices:?}");
    assert!(notices.iter().any(|line| line.contains("starting at step 0")), "{notices:?}");
    let notices = assert_goes_around(base, |dir| {
        fs::rename(dir.join("step-7"), dir.join("step-9")).unwrap();
        fs::write(dir.join("step-x"), "").unwrap();
    });
    assert_eq!(named(&notices, "step-9"), 1, "{notices:?}");
    // What a kill leaves behind is taken away, also beside the model.
    assert_goes_around(base, |dir| {
        copy(&dir.join("step-6"), &dir.join(".partial-a"));
        fs::write(dir.join("../.partial-b"), "half").unwrap();
    });
    // The best model is in the checkpoint too.
    assert_goes_around(base, |dir| fs::remove_file(dir.join("../model.safetensors")).unwrap());
    let notices = assert_goes_around(base, |dir| fs::remove_dir_all(dir).unwrap());
    assert!(notices.iter().any(|line| line.contains("no checkpoint in")), "{notices:?}");
}

#[test]
fn two_hundred_flipped_bytes_change_nothing() {
    let (_, device) = devices().remove(0);
    let dir = tempfile::tempdir().unwrap();
    let (_, out, expected) = stopped(dir.path(), &device);
    let mut random = Stream::new(7, Purpose::Sample, 0);
    for _ in 0..200 {
        let file = FILES[random.below(FILES.len())];
        assert_goes_around((&out, &expected, &device), |dir| {
            let path = dir.join("step-7").join(file);
            let mut bytes = fs::read(&path).unwrap();
            let place = random.below(bytes.len());
            bytes[place] ^= 1 << random.below(8);
            fs::remove_file(&path).unwrap();
            fs::write(path, bytes).unwrap();
        });
    }
}

/// Writes the checksums of a checkpoint anew, as somebody would who changes it on purpose.
fn sign(step: &Path) {
    let mut sums = String::new();
    for file in &FILES[..4] {
        let sum = Sha256::digest(fs::read(step.join(file)).unwrap());
        let sum: String = sum.iter().map(|byte| format!("{byte:02x}")).collect();
        sums += &format!("{sum}  {file}\n");
    }
    fs::write(step.join("SHA256SUMS"), sums).unwrap();
}

#[test]
fn a_checkpoint_that_does_not_belong_is_refused_by_name() {
    let (_, device) = devices().remove(0);
    let dir = tempfile::tempdir().unwrap();
    let (config, out, _) = stopped(dir.path(), &device);
    let refused = |parts: &[&str]| {
        let error = resume(&out, &device, &mut ()).unwrap_err();
        assert!(error.is_bad_input(), "{error}");
        for part in parts {
            assert!(error.to_string().contains(part), "{part}: {error}");
        }
    };
    // Settings and data.
    let run_file = fs::read_to_string(out.join("run.toml")).unwrap();
    fs::write(out.join("run.toml"), run_file.replace("lr = 0.002", "lr = 0.003")).unwrap();
    refused(&["step-7", "lr was 0.002 and is 0.003"]);
    fs::write(out.join("run.toml"), &run_file).unwrap();
    let data = fs::read_to_string(&config.train).unwrap();
    fs::write(&config.train, data.replacen("the", "a", 1)).unwrap();
    refused(&["step-7", "train.tsv has other content"]);
    fs::write(&config.train, data).unwrap();

    // From elsewhere, the model is not where the run file says.
    let here = format!("{:?}", config.model.display().to_string());
    fs::write(out.join("run.toml"), run_file.replace(&here, "\"models/tiny\"")).unwrap();
    refused(&["run.toml names models/tiny, which is not here", "in which the run was begun"]);
    fs::write(out.join("run.toml"), &run_file).unwrap();

    // Another version.
    let step = out.join("checkpoints/step-7");
    let state = fs::read_to_string(step.join("state.json")).unwrap();
    for other in [0, 2] {
        let changed = state.replacen("\"format\":1", &format!("\"format\":{other}"), 1);
        fs::write(step.join("state.json"), changed).unwrap();
        sign(&step);
        refused(&["step-7", &format!("has format {other}, expected 1")]);
    }
    fs::write(step.join("state.json"), &state).unwrap();

    // Parameters that are missing, of another shape, or without their optimiser state.
    let bytes = fs::read(step.join("weights.safetensors")).unwrap();
    let with = |change: &dyn Fn(&mut HashMap<String, TensorView>)| {
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let mut tensors: HashMap<String, TensorView> = tensors.tensors().into_iter().collect();
        change(&mut tensors);
        let changed = safetensors::serialize(&tensors, None).unwrap();
        fs::remove_file(step.join("weights.safetensors")).unwrap();
        fs::write(step.join("weights.safetensors"), changed).unwrap();
        sign(&step);
    };
    with(&|tensors| drop(tensors.remove("classifier.bias")));
    refused(&["step-7", "parameter classifier.bias: there are no 32-bit floats"]);
    static NUMBER: [u8; 8] = [0; 8];
    with(&|tensors| {
        let half = TensorView::new(safetensors::Dtype::F64, vec![1], &NUMBER).unwrap();
        tensors.insert("classifier.bias".into(), half);
    });
    refused(&["parameter classifier.bias: there are no 32-bit floats"]);
    with(&|tensors| {
        let other = tensors["bert.embeddings.layer_norm.beta"].clone();
        tensors.insert("classifier.bias".into(), other);
    });
    refused(&["parameter classifier.bias", "[32]", "[2]"]);
    fs::write(step.join("weights.safetensors"), "no tensors").unwrap();
    sign(&step);
    refused(&["weights.safetensors is no file of tensors"]);
    fs::write(step.join("weights.safetensors"), &bytes).unwrap();
    let other = state.replacen("\"classifier.bias\":7", "\"classifier.other\":7", 1);
    assert_ne!(other, state);
    fs::write(step.join("state.json"), other).unwrap();
    sign(&step);
    refused(&["parameter classifier.other"]);
}

/// On another device the numbers are others by their last digits, but the run is the same.
#[test]
fn a_run_may_go_on_on_another_device() {
    let dir = tempfile::tempdir().unwrap();
    let config = files(dir.path(), 30, PoolingKind::Adaptive);
    let all = devices();
    let (whole, first) = (dir.path().join("whole"), &all[0].1);
    run(&config, &whole, false, first, &mut ()).unwrap();
    for (place, (name, device)) in all.iter().enumerate() {
        let out = dir.path().join(place.to_string());
        run(&config, &out, false, first, &mut Stop::after(6)).unwrap_err();
        resume(&out, device, &mut ()).unwrap();
        let (got, expected) = (lines(&out, "loss"), lines(&whole, "loss"));
        assert_eq!(got.len(), expected.len());
        for (got, expected) in got.iter().zip(&expected) {
            let [got, expected] = [got, expected].map(|line| line["loss"].as_f64().unwrap());
            assert!((got - expected).abs() < 1e-3, "{name}: {got} {expected}");
        }
    }
}

/// Layers that run again change no bit of a run, and a run that goes on may begin with it.
#[test]
fn a_run_may_go_on_in_less_memory() {
    let (_, device) = devices().remove(0);
    let dir = tempfile::tempdir().unwrap();
    let mut config = files(dir.path(), 30, PoolingKind::Mean);
    config.model = with_dropout(dir.path(), 0.1);
    config.recipe.micro_batch_size = Some(3);
    config.recipe.regularisation =
        Regularisation { r_drop: 0.5, fgm: 0.1, ..Regularisation::default() };
    for (name, lora) in [("whole", None), ("adapters", Some(LoraConfig::new(3)))] {
        config.lora = lora;
        let (whole, out) = (dir.path().join(name), dir.path().join(format!("{name}-less")));
        run(&config, &whole, false, &device, &mut ()).unwrap();
        run(&config, &out, false, &device, &mut Stop::after(6)).unwrap_err();
        let activations = || {
            let check = fs::read_to_string(out.join("check.json")).unwrap();
            let check: Value = serde_json::from_str(&check).unwrap();
            check["plan"]["memory"]["activations"].as_u64().unwrap()
        };
        let (file, before) = (out.join("run.toml"), activations());
        let text = fs::read_to_string(&file).unwrap();
        fs::write(&file, format!("recompute = true\n{text}")).unwrap();
        resume(&out, &device, &mut ()).unwrap();
        assert!(activations() < before, "{name}");
        let [mut got, mut expected] = [outcome(&out), outcome(&whole)];
        // The last two files tell of the settings.
        let at = got.files.len() - 2;
        assert_ne!(got.files.split_off(at), expected.files.split_off(at));
        assert!(got == expected, "{name}");
    }
}

/// Tags, answers, pairs and all else that reads every hidden state of the encoder.
#[test]
fn several_tasks_take_the_same_steps_in_less_memory() {
    let (_, device) = devices().remove(0);
    let dir = tempfile::tempdir().unwrap();
    let mut config = every_kind(dir.path());
    config.model = with_dropout(dir.path(), 0.1);
    let train = |config: &MultiTaskConfig, name: &str| {
        let out = dir.path().join(name);
        run_tasks(config, &out, false, &Baselines::None, &device, &mut ()).unwrap();
        let outcome = outcome(&out);
        (outcome.log, outcome.files[0].clone())
    };
    let expected = train(&config, "whole");
    config.recipe.layers.recompute = true;
    assert!(train(&config, "less") == expected);
    let less = check_tasks(&config, &device, &mut ()).unwrap().plan.memory.activations;
    config.recipe.layers.recompute = false;
    assert!(less < check_tasks(&config, &device, &mut ()).unwrap().plan.memory.activations);
}

/// The lines of the log that hold this key.
fn lines(out: &Path, key: &str) -> Vec<Value> {
    let log = fs::read_to_string(out.join("metrics.jsonl")).unwrap();
    let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter(|line| line.get(key).is_some()).collect()
}

#[test]
fn a_run_ends_after_its_steps_and_is_evaluated_between() {
    let (_, device) = devices().remove(0);
    let dir = tempfile::tempdir().unwrap();
    let mut config = files(dir.path(), 30, PoolingKind::Mean);
    // 27 rows in batches of 8: 4 steps an epoch.
    config.recipe.control =
        Control { max_steps: Some(6), eval_every: Every::Steps(3), ..Control::default() };
    let out = dir.path().join("run");
    run(&config, &out, false, &device, &mut ()).unwrap();
    let rates: Vec<f64> =
        lines(&out, "lr").iter().map(|line| line["lr"].as_f64().unwrap()).collect();
    // No step of 6 is warm-up: the rate falls by a sixth of 0.002 each step.
    let expected: Vec<f64> = (0..6).map(|step| 0.002 * (6.0 - f64::from(step)) / 6.0).collect();
    assert_eq!(rates, expected);
    // After steps 3, 4 (an epoch) and 6.
    let epochs: Vec<Value> = lines(&out, "dev").iter().map(|line| line["epoch"].clone()).collect();
    assert_eq!(epochs, [1, 1, 2]);
}

#[test]
fn a_run_without_progress_ends_early() {
    let (_, device) = devices().remove(0);
    let dir = tempfile::tempdir().unwrap();
    let mut config = files(dir.path(), 30, PoolingKind::Mean);
    config.recipe.epochs = 9;
    // No loss falls by 100: the first evaluation counts, the two after it are waited for.
    config.recipe.control = Control {
        patience: Some(2),
        min_delta: 100.0,
        metric: Some("loss".into()),
        ..Control::default()
    };
    let out = dir.path().join("run");
    let report = run(&config, &out, false, &device, &mut ()).unwrap();
    let losses: Vec<f64> =
        lines(&out, "dev").iter().map(|line| line["dev"]["loss"].as_f64().unwrap()).collect();
    assert_eq!(losses.len(), 3);
    let least = losses.iter().copied().fold(f64::INFINITY, f64::min);
    assert_eq!(losses[report.best_epoch - 1], least);

    // Within an epoch, too, and what was measured there is not measured again: after steps 2, 4 (an epoch) and 6 of 12.
    (config.recipe.epochs, config.recipe.control.eval_every) = (3, Every::Steps(2));
    let out = dir.path().join("within");
    run(&config, &out, false, &device, &mut ()).unwrap();
    let steps: Vec<Option<u64>> = fs::read_to_string(out.join("metrics.jsonl"))
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["step"].as_u64())
        .collect();
    let places: Vec<usize> = (0..steps.len()).filter(|place| steps[*place].is_none()).collect();
    assert_eq!((steps.len(), places), (9, vec![2, 5, 8]));

    config.recipe.control.metric = Some("f2".into());
    let error = run(&config, &dir.path().join("no"), false, &device, &mut ()).unwrap_err();
    assert!(error.is_bad_input() && error.to_string().contains("accuracy, f1_macro"), "{error}");
    assert!(!dir.path().join("no").exists());
}
