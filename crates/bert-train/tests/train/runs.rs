//! Whole runs.

use std::{fs, path::Path};

use bert_heads::{PoolingKind, SequenceClassifier};
use bert_train::{
    DataSet, Embedder, EpochReport, Error, Observer, Recipe, RunConfig, StepReport, TextClassifier,
    fine_tune, predict_logits, run,
};
use burn::tensor::Device;

use crate::{
    examples, new_head,
    reference::{assert_close, devices, folder},
};

fn recipe() -> Recipe {
    Recipe { epochs: 3, learning_rate: 2e-3, batch_size: 8, ..Recipe::default() }
}

fn data(classifier: &TextClassifier, from: usize, to: usize) -> DataSet {
    let examples = &examples(to)[from..];
    classifier.data_set(Path::new("none"), examples, 16).unwrap().0
}

/// Remembers every loss, and the parameters after every epoch.
#[derive(Default)]
struct Memory {
    losses: Vec<f64>,
    weights: Vec<Vec<f32>>,
}

impl Observer for Memory {
    fn step(&mut self, report: &StepReport) {
        self.losses.push(report.loss);
    }
    fn epoch(&mut self, _: &EpochReport, model: &SequenceClassifier) -> bert_train::Result<()> {
        let tensors = model.named_parameters();
        self.weights.push(tensors.into_iter().flat_map(|tensor| tensor.values).collect());
        Ok(())
    }
}

fn train(seed: u64, epochs: usize, device: &Device) -> (bert_train::FineTuned, Memory) {
    let classifier = new_head(PoolingKind::Adaptive, seed, device);
    let (train, dev) = (data(&classifier, 0, 60), data(&classifier, 60, 90));
    let mut memory = Memory::default();
    let recipe = Recipe { seed, epochs, ..recipe() };
    let tuned = fine_tune(classifier.model, &train, &dev, &recipe, device, &mut memory).unwrap();
    (tuned, memory)
}

#[test]
fn a_run_learns_and_reports() {
    for (name, device) in devices() {
        let (tuned, memory) = train(0, 8, &device);
        // 60 rows in batches of 8: 8 steps an epoch.
        assert_eq!(memory.losses.len(), 64, "{name}");
        assert_eq!(tuned.epochs.len(), 8);
        assert!(tuned.best().accuracy > 0.9, "{name}: {:?}", tuned.epochs);
        assert_eq!(tuned.best(), &tuned.epochs[tuned.best_epoch - 1].dev);
        assert_eq!(tuned.last(), &tuned.epochs[7].dev);
        assert!(tuned.examples_per_second > 0.0);
    }
}

#[test]
fn the_same_seed_gives_the_same_run_to_the_bit() {
    let (_, device) = devices().remove(0);
    let ((_, first), (_, second), (_, other)) =
        (train(4, 3, &device), train(4, 3, &device), train(5, 3, &device));
    assert_eq!(first.losses, second.losses);
    assert_eq!(first.weights, second.weights);
    assert_ne!(first.losses, other.losses);
}

/// The best is the highest accuracy, and the earlier epoch on ties.
#[test]
fn the_best_epoch_is_the_earliest_of_the_highest() {
    let (_, device) = devices().remove(0);
    let (tuned, memory) = train(1, 3, &device);
    let accuracies: Vec<f64> = tuned.epochs.iter().map(|epoch| epoch.dev.accuracy).collect();
    let highest = accuracies.iter().copied().fold(0.0, f64::max);
    let earliest = accuracies.iter().position(|accuracy| *accuracy == highest).unwrap();
    assert_eq!(tuned.best_epoch, earliest + 1, "{accuracies:?}");
    let best = tuned.model.named_parameters();
    let best: Vec<f32> = best.into_iter().flat_map(|tensor| tensor.values).collect();
    assert_eq!(best, memory.weights[earliest]);
}

#[test]
fn a_loss_that_is_no_number_ends_the_run_by_step() {
    let (_, device) = devices().remove(0);
    let classifier = new_head(PoolingKind::Mean, 0, &device);
    let (train, dev) = (data(&classifier, 0, 60), data(&classifier, 60, 90));
    let recipe = Recipe { learning_rate: 1e30, ..recipe() };
    let error = fine_tune(classifier.model, &train, &dev, &recipe, &device, &mut ()).unwrap_err();
    assert!(matches!(error, Error::NotFinite { epoch: 1, .. }), "{error}");
    assert!(!error.is_bad_input());
    assert!(error.to_string().contains("step"), "{error}");
}

#[test]
fn data_without_rows_is_refused() {
    let (_, device) = devices().remove(0);
    let classifier = new_head(PoolingKind::Mean, 0, &device);
    let dev = data(&classifier, 0, 4);
    let none = DataSet::default();
    let error = fine_tune(classifier.model, &none, &dev, &recipe(), &device, &mut ()).unwrap_err();
    assert!(error.is_bad_input() && error.to_string().contains("training"), "{error}");
}

#[test]
fn recipes_that_cannot_be_followed_are_refused() {
    let wrong = [
        (Recipe { learning_rate: 0.0, ..recipe() }, "lr must be a number above 0, got 0"),
        (
            Recipe { pooling_learning_rate: Some(-1.0), ..recipe() },
            "pooling-lr must be a number above 0, got -1",
        ),
        (Recipe { epochs: 0, ..recipe() }, "epochs must be a whole number from 1, got 0"),
        (Recipe { batch_size: 0, ..recipe() }, "batch-size must be a whole number from 1, got 0"),
        (
            Recipe { warmup_ratio: 1.5, ..recipe() },
            "warmup-ratio must be a share from 0 to 1, got 1.5",
        ),
        (
            Recipe { weight_decay: f64::NAN, ..recipe() },
            "weight-decay must be a number from 0, got NaN",
        ),
    ];
    for (recipe, expected) in wrong {
        let error = recipe.check().unwrap_err();
        assert_eq!(error.to_string(), expected);
        assert!(error.is_bad_input());
    }
}

/// Writes `count` labelled rows and gives the config of a run on them.
fn files(dir: &Path, count: usize, pooling: PoolingKind) -> RunConfig {
    let rows = examples(count).into_iter();
    let rows: String = rows.map(|e| format!("{}\t{}\n", e.text, e.label.unwrap())).collect();
    fs::write(dir.join("train.tsv"), rows).unwrap();
    RunConfig {
        pooling,
        recipe: recipe(),
        max_length: Some(16),
        ..RunConfig::new(folder().join("tiny-bert"), dir.join("train.tsv"))
    }
}

#[test]
fn what_a_run_writes_is_what_was_trained() {
    for (name, device) in devices() {
        for pooling in [PoolingKind::Cls, PoolingKind::Adaptive] {
            let dir = tempfile::tempdir().unwrap();
            let config = files(dir.path(), 80, pooling);
            let out = dir.path().join("run");
            let report = run(&config, &out, false, &device, &mut ()).unwrap();
            let classifier = TextClassifier::load(&out, &device).unwrap();
            assert_eq!(classifier.labels.names(), ["bad", "good"]);
            assert_eq!(classifier.settings.max_length, 16);

            // The dev rows are the held-out tenth: evaluating the written model gives the reported numbers.
            let all = bert_train::read_examples(&config.train, None, &config.columns).unwrap();
            let ids = classifier.labels.ids(&config.train, &all).unwrap();
            let split = bert_train::stratified_split(&ids, 0.1, 0).unwrap();
            let dev: Vec<_> = split.dev.iter().map(|row| all[*row].clone()).collect();
            let (dev, _) = classifier.data_set(&config.train, &dev, 16).unwrap();
            let again = bert_train::evaluate(&classifier.model, &dev, 2, 8, &device);
            assert_eq!(again, report.dev, "{name}, {pooling}");

            // The run file repeats the run.
            assert_eq!(RunConfig::load(&out.join("run.toml")).unwrap(), config);
            let log = fs::read_to_string(out.join("metrics.jsonl")).unwrap();
            // 72 rows in batches of 8: 9 steps an epoch, 3 epochs, a line for each step and epoch.
            assert_eq!(log.lines().count(), 30);
            assert!(
                log.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok())
            );
            let vocabulary = fs::read(folder().join("tiny-bert/vocab.txt")).unwrap();
            assert_eq!(fs::read(out.join("vocab.txt")).unwrap(), vocabulary);
        }
    }
}

#[test]
fn a_directory_that_holds_something_is_kept_unless_told() {
    let (_, device) = devices().remove(0);
    let dir = tempfile::tempdir().unwrap();
    let config = files(dir.path(), 40, PoolingKind::Mean);
    let out = dir.path().join("run");
    fs::create_dir(&out).unwrap();
    fs::write(out.join("config.json"), "precious").unwrap();
    let error = run(&config, &out, false, &device, &mut ()).unwrap_err();
    assert!(error.is_bad_input() && error.to_string().contains("--overwrite"), "{error}");
    assert_eq!(fs::read_to_string(out.join("config.json")).unwrap(), "precious");
    run(&config, &out, true, &device, &mut ()).unwrap();
    TextClassifier::load(&out, &device).unwrap();
}

/// A run that stops at a loss that is no number keeps the best model it had.
#[test]
fn the_last_good_model_survives() {
    struct Poison;
    impl Observer for Poison {
        fn epoch(
            &mut self,
            report: &EpochReport,
            _: &SequenceClassifier,
        ) -> bert_train::Result<()> {
            match report.epoch {
                1 => Ok(()),
                _ => Err(Error::NotFinite { step: 7, epoch: 2, loss: f64::NAN }),
            }
        }
    }
    let (_, device) = devices().remove(0);
    let dir = tempfile::tempdir().unwrap();
    let config = files(dir.path(), 40, PoolingKind::Mean);
    let out = dir.path().join("run");
    run(&config, &out, false, &device, &mut Poison).unwrap_err();
    TextClassifier::load(&out, &device).unwrap();
}

/// Training on from a run keeps its head and pooling where they agree, and says what it drops.
#[test]
fn a_run_can_be_trained_on() {
    let (_, device) = devices().remove(0);
    let dir = tempfile::tempdir().unwrap();
    let config = files(dir.path(), 40, PoolingKind::Adaptive);
    let out = dir.path().join("run");
    run(&config, &out, false, &device, &mut ()).unwrap();
    let first = TextClassifier::load(&out, &device).unwrap();

    let labels = |own: &[String]| bert_train::LabelMap::of_model(own);
    let start =
        |settings| TextClassifier::from_checkpoint(&out, labels, settings, 9, &device).unwrap();
    let (same, notices) = start(first.settings.clone());
    assert_eq!(notices, Vec::<String>::new());
    assert_eq!(same.model.named_parameters(), first.model.named_parameters());

    let (_, notices) =
        start(bert_train::Settings { pooling: PoolingKind::Mean, ..first.settings.clone() });
    assert!(notices[0].contains("classifier") && notices[0].contains("pooling"), "{notices:?}");
}

#[test]
fn embeddings_need_the_pooling_they_name() {
    let (_, device) = devices().remove(0);
    let bert = folder().join("tiny-bert");
    let texts = examples(5);
    for (pooling, is_there) in [
        (None, true),
        (Some(PoolingKind::Cls), true),
        (Some(PoolingKind::Max), true),
        (Some(PoolingKind::Adaptive), false),
    ] {
        match Embedder::load(&bert, pooling, &device) {
            Ok(embedder) => {
                assert!(is_there);
                let (vectors, cut) = embedder.embed(&texts, true, 16, 2, &device).unwrap();
                assert_eq!((vectors.len(), cut), (5, 0));
                for vector in vectors {
                    assert_eq!(vector.len(), 32);
                    let norm = vector.iter().map(|v| v * v).sum::<f32>();
                    assert!((norm - 1.0).abs() < 1e-5, "{norm}");
                }
            }
            Err(error) => {
                assert!(!is_there, "{error}");
                assert!(error.to_string().contains("adaptive"), "{error}");
            }
        }
    }
}

/// Rows come back in their own order, whatever order they were run in, and a text alone has the same logits.
#[test]
fn predictions_keep_the_order_of_the_texts() {
    let (_, device) = devices().remove(0);
    let classifier = new_head(PoolingKind::Attention, 3, &device);
    let (encodings, _) = classifier.encode(&examples(11), 16).unwrap();
    let together = predict_logits(&classifier.model, &encodings, 4, &device);
    for (encoding, together) in encodings.iter().zip(together) {
        let alone = predict_logits(&classifier.model, std::slice::from_ref(encoding), 4, &device);
        assert_close("logits", &alone[0], &together, 1e-5);
    }
}
