//! Whole runs.

use std::{fs, path::Path};

use bert_core::NamedTensor;
use bert_heads::{PoolingKind, SequenceClassifier};
use bert_train::{
    DataSet, Embedder, EpochReport, Error, LabelMap, Metrics, Observer, Recipe, RunConfig,
    Schedule, StepReport, TextClassifier, fine_tune, predict_logits, resume, run,
};
use burn::tensor::Device;

use crate::{
    examples, new_head,
    reference::{assert_close, cpu_devices, devices, folder},
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
    fn epoch(
        &mut self,
        _: &EpochReport,
        parameters: &dyn Fn() -> Vec<NamedTensor>,
    ) -> bert_train::Result<()> {
        self.weights.push(parameters().into_iter().flat_map(|tensor| tensor.values).collect());
        Ok(())
    }
}

fn train(
    seed: u64,
    epochs: usize,
    device: &Device,
) -> (bert_train::FineTuned<SequenceClassifier>, Memory) {
    let classifier = new_head(PoolingKind::Adaptive, seed, device);
    let (train, dev) = (data(&classifier, 0, 60), data(&classifier, 60, 90));
    let mut memory = Memory::default();
    let recipe = Recipe { seed, epochs, ..recipe() };
    let tuned = fine_tune(classifier.model, &train, &dev, &recipe, device, &mut memory).unwrap();
    (tuned, memory)
}

#[test]
fn a_run_learns_and_reports() {
    for (name, device) in cpu_devices() {
        let (tuned, memory) = train(0, 8, &device);
        // 60 rows in batches of 8: 8 steps an epoch.
        assert_eq!(memory.losses.len(), 64, "{name}");
        assert_eq!(tuned.epochs.len(), 8);
        assert!(tuned.best().main() > 0.9, "{name}: {:?}", tuned.epochs);
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
    let accuracies: Vec<f64> = tuned.epochs.iter().map(|epoch| epoch.dev.main()).collect();
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
    // The first step has rate 0, the second ruins the weights, the third sees it.
    assert!(matches!(error, Error::NotFinite { step: 3, epoch: 1, .. }), "{error}");
    assert!(!error.is_bad_input());
    assert!(error.to_string().contains("at step 3 (epoch 1)"), "{error}");
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
        (
            Recipe { epochs: 0, ..recipe() },
            "epochs must be a whole number from 1 to 1000000, got 0",
        ),
        (
            Recipe { batch_size: 0, ..recipe() },
            "batch-size must be a whole number from 1 to 1000000, got 0",
        ),
        (
            Recipe { schedule: Schedule { warmup_ratio: 1.5, ..Schedule::default() }, ..recipe() },
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
pub fn files(dir: &Path, count: usize, pooling: PoolingKind) -> RunConfig {
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
    for (name, device) in cpu_devices() {
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
            assert_eq!(Metrics::Classification(again), report.dev, "{name}, {pooling}");

            // The run file repeats the run.
            assert_eq!(RunConfig::load(&out.join("run.toml"), toml::Table::new()).unwrap(), config);
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
    for overwrite in [false, true] {
        // There is no run in it that could be replaced.
        let error = run(&config, &out, overwrite, &device, &mut ()).unwrap_err();
        assert!(error.is_bad_input() && error.to_string().contains("another --out"), "{error}");
        assert_eq!(fs::read_to_string(out.join("config.json")).unwrap(), "precious");
    }
    // A person's own run file makes no run of what is beside it.
    let own = config.to_toml().unwrap();
    fs::write(out.join("run.toml"), &own).unwrap();
    let refused = [
        run(&config, &out, false, &device, &mut ()).unwrap_err(),
        run(&config, &out, true, &device, &mut ()).unwrap_err(),
        resume(&out, &device, &mut ()).unwrap_err(),
    ];
    for error in refused {
        assert!(matches!(error, Error::OutNotRun { .. }) && error.is_bad_input(), "{error}");
        assert_eq!(fs::read_to_string(out.join("config.json")).unwrap(), "precious");
        assert_eq!(fs::read_to_string(out.join("run.toml")).unwrap(), own);
    }
    fs::write(out.join("metrics.jsonl"), "").unwrap();
    let error = run(&config, &out, false, &device, &mut ()).unwrap_err();
    assert!(error.to_string().contains("--overwrite"), "{error}");
    run(&config, &out, true, &device, &mut ()).unwrap();
    TextClassifier::load(&out, &device).unwrap();
}

/// Killed before its first step, a run has a log without a line, and before that its run file is not there yet.
#[test]
fn a_directory_of_a_run_that_has_hardly_begun_is_taken() {
    let (_, device) = devices().remove(0);
    let dir = tempfile::tempdir().unwrap();
    let config = files(dir.path(), 30, PoolingKind::Mean);
    let out = dir.path().join("run");
    fs::create_dir(&out).unwrap();
    fs::write(out.join("metrics.jsonl"), "{}\n").unwrap();
    let error = run(&config, &out, false, &device, &mut ()).unwrap_err();
    assert!(matches!(error, Error::OutNotRun { .. }), "{error}");
    fs::write(out.join("metrics.jsonl"), "").unwrap();
    run(&config, &out, false, &device, &mut ()).unwrap();
    for entry in fs::read_dir(&out).unwrap() {
        let path = entry.unwrap().path();
        if !["metrics.jsonl", "run.toml"].iter().any(|name| path.ends_with(name)) {
            let _ = fs::remove_file(&path).or_else(|_| fs::remove_dir_all(&path));
        }
    }
    fs::write(out.join("metrics.jsonl"), "").unwrap();
    resume(&out, &device, &mut ()).unwrap();
    TextClassifier::load(&out, &device).unwrap();
}

/// A run that stops keeps the best model it had, and its log.
/// A directory that can't be cleared holds a run file all the same: what is in it can be gone on with or replaced.
#[test]
fn a_directory_that_is_half_cleared_is_that_of_a_run() {
    let (_, device) = devices().remove(0);
    let dir = tempfile::tempdir().unwrap();
    let config = files(dir.path(), 30, PoolingKind::Mean);
    let out = dir.path().join("run");
    fs::create_dir_all(out.join("vocab.txt")).unwrap();
    fs::write(out.join("run.toml"), "model = \"m\"\ntrain = \"t\"\n").unwrap();
    fs::write(out.join("metrics.jsonl"), "{}\n").unwrap();
    let error = run(&config, &out, true, &device, &mut ()).unwrap_err();
    assert!(matches!(error, Error::Out { .. }), "{error}");
    assert_eq!(RunConfig::load(&out.join("run.toml"), toml::Table::new()).unwrap(), config);
}

#[test]
fn the_last_good_model_survives() {
    struct Stop;
    impl Observer for Stop {
        fn epoch(
            &mut self,
            report: &EpochReport,
            _: &dyn Fn() -> Vec<NamedTensor>,
        ) -> bert_train::Result<()> {
            match report.epoch {
                1 => Ok(()),
                _ => Err(Error::NoRows { name: "any" }),
            }
        }
    }
    let (_, device) = devices().remove(0);
    let dir = tempfile::tempdir().unwrap();
    let config = files(dir.path(), 40, PoolingKind::Mean);
    let out = dir.path().join("run");
    run(&config, &out, false, &device, &mut Stop).unwrap_err();
    TextClassifier::load(&out, &device).unwrap();
    // 36 rows in batches of 8: 5 steps an epoch, two of them, each with a line of its own at its end.
    let log = fs::read_to_string(out.join("metrics.jsonl")).unwrap();
    assert_eq!(log.lines().count(), 12);
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

/// Columns go by name where there are names: a dev file may have them in another order.
#[test]
fn dev_columns_may_stand_in_another_order() {
    let (_, device) = devices().remove(0);
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, content: String| fs::write(dir.path().join(name), content).unwrap();
    let rows = |row: &dyn Fn(&str, &str) -> String| -> String {
        examples(40).iter().map(|e| row(&e.text, e.label.as_ref().unwrap())).collect()
    };
    write("train.csv", format!("q,a,label\n{}", rows(&|t, l| format!("{t},it,{l}\n"))));
    write("dev.csv", format!("a,q,label\n{}", rows(&|t, l| format!("it,{t},{l}\n"))));
    write("same.csv", format!("q,a,label\n{}", rows(&|t, l| format!("{t},it,{l}\n"))));
    let report = |dev: &str| {
        let config = RunConfig {
            dev: Some(dir.path().join(dev)),
            columns: bert_train::Columns { header: true, ..Default::default() },
            recipe: recipe(),
            ..RunConfig::new(folder().join("tiny-bert"), dir.path().join("train.csv"))
        };
        run(&config, &dir.path().join(dev).with_extension("run"), false, &device, &mut ()).unwrap()
    };
    assert_eq!(report("dev.csv").dev, report("same.csv").dev);
}

/// A mixture starts anew beside a pooler that is kept.
#[test]
fn a_layer_mixture_can_start_from_a_plain_bert() {
    let (_, device) = devices().remove(0);
    let labels = |_: &[String]| LabelMap::of_model(&["bad".to_owned(), "good".to_owned()]);
    let settings = bert_train::Settings {
        layer_mixture: true,
        ..bert_train::Settings::new(PoolingKind::Cls, 16)
    };
    let dir = folder().join("tiny-bert");
    let (mixed, notices) =
        TextClassifier::from_checkpoint(&dir, labels, settings, 0, &device).unwrap();
    assert_eq!(notices, Vec::<String>::new());
    let pooler = |classifier: &TextClassifier| {
        let tensors = classifier.model.named_parameters().into_iter();
        tensors.filter(|tensor| tensor.name.contains("pooler")).collect::<Vec<_>>()
    };
    assert_eq!(pooler(&mixed), pooler(&new_head(PoolingKind::Cls, 0, &device)));
    let names: Vec<String> =
        mixed.model.named_parameters().into_iter().map(|tensor| tensor.name).collect();
    assert!(names.contains(&"layer_mixture.gamma".to_owned()), "{names:?}");
}

/// Copies the classifier of the reference with another config.
fn with_config(change: impl Fn(&mut serde_json::Value)) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(folder().join("tiny-bert-seqcls")).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), dir.path().join(entry.file_name())).unwrap();
    }
    let path = dir.path().join("config.json");
    let mut config = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    change(&mut config);
    fs::write(path, config.to_string()).unwrap();
    dir
}

#[test]
fn a_classifier_of_several_labels_a_text_is_refused() {
    let (_, device) = devices().remove(0);
    let dir = with_config(|config| config["problem_type"] = "multi_label_classification".into());
    let error = TextClassifier::load(dir.path(), &device).unwrap_err();
    assert!(error.is_bad_input(), "{error}");
    assert!(error.to_string().contains("multi_label_classification"), "{error}");
}

/// Hugging Face leaves out the names of labels where they are the default ones.
#[test]
fn labels_without_names_have_the_default_ones() {
    let (_, device) = devices().remove(0);
    let dir = with_config(|config| {
        let config = config.as_object_mut().unwrap();
        config.remove("id2label");
        config.remove("label2id");
    });
    let classifier = TextClassifier::load(dir.path(), &device).unwrap();
    assert_eq!(classifier.labels.names(), ["LABEL_0", "LABEL_1", "LABEL_2"]);
}

/// Training from a model with another head says what it leaves.
#[test]
fn a_head_of_another_kind_is_dropped_with_a_word() {
    let (_, device) = devices().remove(0);
    let labels = |_: &[String]| LabelMap::of_model(&["bad".to_owned(), "good".to_owned()]);
    for (model, part) in
        [("tiny-bert-qa", "qa_outputs.weight"), ("tiny-bert-tokcls", "classifier.weight")]
    {
        let settings = bert_train::Settings::new(PoolingKind::Mean, 16);
        let dir = folder().join(model);
        let (_, notices) =
            TextClassifier::from_checkpoint(&dir, labels, settings, 0, &device).unwrap();
        assert!(notices.len() == 1 && notices[0].contains(part), "{notices:?}");
    }
}

/// A head for tokens has the same names in a checkpoint, and is not taken for one for texts.
#[test]
fn a_head_for_tokens_is_no_classifier_of_texts() {
    let (_, device) = devices().remove(0);
    let dir = folder().join("tiny-bert-tokcls");
    let error = TextClassifier::load(&dir, &device).unwrap_err();
    assert!(error.is_bad_input(), "{error}");
    assert!(error.to_string().contains("BertForTokenClassification"), "{error}");
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
