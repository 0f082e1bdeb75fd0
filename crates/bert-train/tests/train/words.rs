//! Training task embeddings and new words: what moves, what stays to the bit, and what is written.

use std::{fs, path::Path};

use bert_core::{Checkpoint, EncoderInput, ExtendedModel, WordInit};
use bert_heads::{PoolingKind, TaskEmbeddingKind};
use bert_train::{
    Embedder, Error, Example, Observer, Optimizer, Recipe, RunConfig, Settings, TextClassifier,
    TrainEmbeddings, WordConfig, export, extend_vocabulary, learning_rates, predict_logits, run,
    scan_vocabulary,
};
use burn::{module::Module, tensor::Device};
use tempfile::TempDir;

use crate::{
    examples, one_step,
    reference::{assert_close, devices, folder, host},
};

const KINDS: [TaskEmbeddingKind; 4] = [
    TaskEmbeddingKind::Full,
    TaskEmbeddingKind::LowRank { rank: 3 },
    TaskEmbeddingKind::Diagonal,
    TaskEmbeddingKind::Additive,
];

/// The tiny BERT with three more words.
pub fn extended() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let words = ["goodly", "badly", "movies"].map(String::from);
    let from = folder().join("tiny-bert");
    let extended = ExtendedModel::new(&from, &words, WordInit::Mean, 0).unwrap();
    extended.save(dir.path()).unwrap();
    dir
}

/// Texts with two of the new words in them.
fn texts(count: usize) -> Vec<Example> {
    let mut examples = examples(count);
    for example in &mut examples {
        example.text = example.text.replace("good", "goodly").replace("bad", "badly");
    }
    examples
}

fn classifier(
    dir: &Path,
    task_embedding: Option<TaskEmbeddingKind>,
    device: &Device,
) -> (TextClassifier, Vec<String>) {
    let labels = |_: &[String]| bert_train::LabelMap::of_model(&["bad", "good"].map(String::from));
    let settings = Settings { task_embedding, ..Settings::new(PoolingKind::Mean, 16) };
    TextClassifier::from_checkpoint(dir, labels, settings, 1, device).unwrap()
}

/// Takes three steps on texts with new words; gives the word tables before and after.
fn steps(classifier: TextClassifier, recipe: &Recipe, device: &Device) -> [Vec<f32>; 2] {
    let (encodings, _) = classifier.encode(&texts(8), 16).unwrap();
    let input = EncoderInput::new(&encodings, device);
    let labels: Vec<_> = (0..8).map(|row| Some(row % 2)).collect();
    let mut model = classifier.model.train();
    let before = host(model.bert.embeddings.word_table());
    let mut optimizer = Optimizer::new(recipe);
    for _ in 0..3 {
        let rates = learning_rates(recipe, 2, 1.0);
        model = one_step(model, &mut optimizer, (&input, &labels), rates).model;
    }
    [before, host(model.bert.embeddings.word_table())]
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// What is not trained keeps every bit, decay or not; what is new moves.
#[test]
fn old_words_do_not_drift() {
    let dir = extended();
    let recipe = Recipe { learning_rate: 0.01, weight_decay: 0.5, ..Recipe::default() };
    for (name, device) in devices() {
        let device = device.autodiff();
        for train in TrainEmbeddings::ALL {
            for kind in [None, Some(TaskEmbeddingKind::Full)] {
                let (classifier, _) = classifier(dir.path(), kind, &device);
                let classifier = classifier.train_embeddings(train, dir.path()).unwrap();
                let [before, after] = steps(classifier, &recipe, &device);
                let stays = |from: usize, to: usize| {
                    let rows = from * 32..to * 32;
                    bits(&before[rows.clone()]) == bits(&after[rows])
                };
                let expected = match train {
                    TrainEmbeddings::All => [false, false, false],
                    // `movies` occurs in no text, but decays with the other new words.
                    TrainEmbeddings::New => [true, false, false],
                    TrainEmbeddings::None => [true, true, true],
                };
                let got = [stays(0, 79), stays(79, 81), stays(81, 82)];
                assert_eq!(got, expected, "{name}, {train}, {kind:?}");
            }
        }
    }
}

#[test]
fn only_new_words_are_trained_where_there_are_some() {
    let (_, device) = devices().remove(0);
    let dir = folder().join("tiny-bert");
    let (classifier, _) = classifier(&dir, None, &device);
    let error = classifier.train_embeddings(TrainEmbeddings::New, &dir).unwrap_err();
    assert!(error.is_bad_input());
    assert!(error.to_string().ends_with("train all or none of the word embeddings"), "{error}");
    assert!(error.to_string().contains("bert vocab extend"), "{error}");
}

/// AdamW's first step moves a value by its rate: the task embedding has one of its own.
#[test]
fn a_task_embedding_learns_at_its_own_rate() {
    let dir = extended();
    let recipe = Recipe {
        learning_rate: 1e-4,
        task_embedding_learning_rate: Some(1e-2),
        ..Recipe::default()
    };
    for (name, device) in devices() {
        let device = device.autodiff();
        for kind in KINDS {
            let (classifier, _) = classifier(dir.path(), Some(kind), &device);
            let (encodings, _) = classifier.encode(&texts(4), 16).unwrap();
            let input = EncoderInput::new(&encodings, &device);
            let labels = [Some(0), Some(1), Some(1), Some(1)];
            let model = classifier.model.train();
            let before = model.named_parameters();
            let rates = learning_rates(&recipe, 2, 1.0);
            let mut optimizer = Optimizer::new(&recipe);
            let model = one_step(model, &mut optimizer, (&input, &labels), rates).model;
            for (before, after) in before.iter().zip(model.named_parameters()) {
                let pairs = before.values.iter().zip(&after.values);
                let change = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                let expected = match &before.name[..] {
                    // Behind A stands B, which is 0 at first; A only decays, by rate x 0.01 of at most 0.1.
                    "task_embedding.a.weight" => 0.0..1e-4,
                    name if name.starts_with("task_embedding.") => 0.009..0.0101,
                    _ => 0.0..2e-4,
                };
                assert!(expected.contains(&change), "{name}, {kind}, {}: {change}", before.name);
            }
        }
    }
}

/// Writes rows with new words and gives the config of a run on them, from the extended BERT in `model`.
pub fn files(dir: &Path, model: &Path, words: WordConfig, pooling: PoolingKind) -> RunConfig {
    let rows = texts(60).into_iter();
    let rows: String = rows.map(|e| format!("{}\t{}\n", e.text, e.label.unwrap())).collect();
    fs::write(dir.join("train.tsv"), rows).unwrap();
    RunConfig {
        words,
        pooling,
        recipe: Recipe { epochs: 2, learning_rate: 5e-3, batch_size: 8, ..Recipe::default() },
        max_length: Some(16),
        ..RunConfig::new(model, dir.join("train.tsv"))
    }
}

pub fn architecture(dir: &Path) -> String {
    let config = fs::read_to_string(dir.join("config.json")).unwrap();
    let config: serde_json::Value = serde_json::from_str(&config).unwrap();
    config["architectures"][0].as_str().unwrap().to_owned()
}

fn logits(dir: &Path, device: &Device) -> Vec<f32> {
    let classifier = TextClassifier::load(dir, device).unwrap();
    let (encodings, _) = classifier.encode(&texts(9), 16).unwrap();
    predict_logits(&classifier.model, &encodings, 4, device).concat()
}

/// A run's directory gives back what was trained; exported, it is an ordinary BERT with the same logits.
#[test]
fn a_run_is_loaded_and_exported_with_the_same_logits() {
    let model = extended();
    for (name, device) in devices() {
        for (kind, pooling) in KINDS.into_iter().zip([
            PoolingKind::Cls,
            PoolingKind::Adaptive,
            PoolingKind::Cls,
            PoolingKind::Mean,
        ]) {
            let dir = tempfile::tempdir().unwrap();
            let words =
                WordConfig { task_embedding: Some(kind), train_embeddings: TrainEmbeddings::New };
            let config = files(dir.path(), model.path(), words, pooling);
            let [out, exported] = ["run", "exported"].map(|name| dir.path().join(name));
            let report = run(&config, &out, false, &device, &mut ()).unwrap();
            assert_eq!(RunConfig::load(&out.join("run.toml"), toml::Table::new()).unwrap(), config);
            let trained = TextClassifier::load(&out, &device).unwrap();
            assert_eq!(trained.settings.task_embedding, Some(kind));
            assert_eq!(trained.config.base_vocab_size().unwrap(), 79);
            assert_eq!(architecture(&out), "BertModel");

            // The dev rows are the held-out tenth: the written model gives the reported loss.
            let all = bert_train::read_examples(&config.train, None, &config.columns).unwrap();
            let ids = trained.labels.ids(&config.train, &all).unwrap();
            let split = bert_train::stratified_split(&ids, 0.1, 0).unwrap();
            let dev: Vec<_> = split.dev.iter().map(|row| all[*row].clone()).collect();
            let (dev, _) = trained.data_set(&config.train, &dev, 16).unwrap();
            let again = bert_train::evaluate(&trained.model, &dev, 2, 8, &device);
            assert!((again.loss - report.dev.loss()).abs() < 1e-6, "{name}, {kind}");

            // One table, whose old rows are those of the checkpoint.
            let table = |dir: &Path| {
                let checkpoint = bert_core::Checkpoint::open(dir).unwrap();
                checkpoint.tensor("embeddings.word_embeddings.weight").unwrap()
            };
            let ((shape, written), (_, start)) = (table(&out), table(model.path()));
            assert_eq!(shape, [82, 32]);
            assert_eq!(bits(&written[..79 * 32]), bits(&start[..79 * 32]));
            assert_ne!(written[79 * 32..], start[79 * 32..]);

            export(&out, None, &exported, &device).unwrap();
            assert_close(name, &logits(&exported, &device), &logits(&out, &device), 1e-5);
            let plain = TextClassifier::load(&exported, &device).unwrap();
            assert!(plain.model.task_embedding.is_none());
            let names = plain.model.named_parameters().into_iter().map(|tensor| tensor.name);
            assert!(names.into_iter().all(|name| !name.contains("task_embedding")));
            let expected = match pooling {
                PoolingKind::Cls => "BertForSequenceClassification",
                _ => "BertModel",
            };
            assert_eq!(architecture(&exported), expected);
            assert_ne!(table(&exported).1, written);

            // Vectors are the same too.
            let vectors = |dir: &Path| {
                let embedder = Embedder::load(dir, None, &device).unwrap();
                embedder.embed(&texts(5), true, 16, 2, &device).unwrap().0.concat()
            };
            assert_close(name, &vectors(&exported), &vectors(&out), 1e-5);

            let error = export(&out, None, &exported, &device).unwrap_err();
            assert!(error.is_bad_input() && error.to_string().contains("not empty"), "{error}");
        }
    }
}

/// Training on keeps a task embedding of the same kind, and says when it drops another.
#[test]
fn a_task_embedding_can_be_trained_on() {
    let (_, device) = devices().remove(0);
    let (model, dir) = (extended(), tempfile::tempdir().unwrap());
    let kind = TaskEmbeddingKind::LowRank { rank: 3 };
    let words = WordConfig { task_embedding: Some(kind), ..WordConfig::default() };
    let config = files(dir.path(), model.path(), words, PoolingKind::Mean);
    let out = dir.path().join("run");
    run(&config, &out, false, &device, &mut ()).unwrap();
    let first = TextClassifier::load(&out, &device).unwrap();
    let (same, notices) = classifier(&out, Some(kind), &device);
    assert_eq!(notices, Vec::<String>::new());
    assert_eq!(same.model.named_parameters(), first.model.named_parameters());
    for other in [None, Some(TaskEmbeddingKind::Full)] {
        let (_, notices) = classifier(&out, other, &device);
        let [notice] = &notices[..] else { panic!("{notices:?}") };
        assert!(notice.contains("task_embedding.a.weight"), "{notice}");
        assert!(notice.contains("bert export"), "{notice}");
    }
}

#[test]
fn a_rank_above_the_width_is_refused() {
    let (_, device) = devices().remove(0);
    let (model, dir) = (extended(), tempfile::tempdir().unwrap());
    for rank in [33, usize::MAX] {
        let words = WordConfig {
            task_embedding: Some(TaskEmbeddingKind::LowRank { rank }),
            ..WordConfig::default()
        };
        let config = files(dir.path(), model.path(), words, PoolingKind::Mean);
        let error = run(&config, &dir.path().join("run"), false, &device, &mut ()).unwrap_err();
        assert!(error.is_bad_input(), "{error}");
        assert!(error.to_string().contains("hidden_size 32"), "{error}");
        assert!(!dir.path().join("run").exists());
    }
}

#[test]
fn words_of_a_run_file_are_checked() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run.toml");
    let load = |more: &str| {
        fs::write(&path, format!("model = \"m\"\ntrain = \"t\"\n{more}\n")).unwrap();
        RunConfig::load(&path, toml::Table::new())
    };
    let config = load("task_embedding = \"low-rank=4\"\ntrain_embeddings = \"none\"").unwrap();
    let task_embedding = Some(TaskEmbeddingKind::LowRank { rank: 4 });
    let train_embeddings = TrainEmbeddings::None;
    assert_eq!(config.words, WordConfig { task_embedding, train_embeddings });
    assert_eq!(load("").unwrap().words, WordConfig::default());
    for (wrong, part) in [
        ("task_embedding = \"low-rank\"", "low-rank=R"),
        ("train_embeddings = \"some\"", "some"),
        ("task_embeding = \"full\"", "did you mean \"task_embedding\"?"),
    ] {
        let error = load(wrong).unwrap_err().to_string();
        assert!(error.contains("line 3") && error.contains(part), "{error}");
    }
}

/// Remembers what a person should read.
#[derive(Default)]
struct Notices(Vec<String>);

impl Observer for Notices {
    fn notice(&mut self, text: &str) {
        self.0.push(text.to_owned());
    }
}

#[test]
fn files_are_scanned_and_models_extended() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    fs::write(path("a.tsv"), "cab cab\tmovies\tx\ncabs\tmovies movies\ty\n").unwrap();
    fs::write(path("b.csv"), "text,other\ncab,movies\n").unwrap();
    let tiny = folder().join("tiny-bert");
    let scan = |columns: &[&str], files: &[&str]| {
        let text = columns.iter().map(|column| column.parse().unwrap()).collect();
        let columns = bert_train::Columns { text, ..Default::default() };
        let files: Vec<_> = files.iter().map(|file| path(file)).collect();
        scan_vocabulary(&tiny, &files, None, &columns, 10).unwrap()
    };
    // Without columns the first: `text` is a word there too.
    let first = scan(&[], &["a.tsv", "b.csv"]);
    assert_eq!((first.texts, first.words), (4, 5));
    let both = scan(&["1", "2"], &["a.tsv"]);
    assert_eq!((both.texts, both.words, both.chosen.len()), (4, 6, 2));
    assert_eq!(scan(&["other"], &["b.csv"]).words, 1);
    // Of sentences the tokens; a token may be several words.
    fs::write(path("c.conll"), "cab-cab\tO\nmovies\tO\n\ncab\tB-X\n").unwrap();
    let tokens = scan(&[], &["c.conll"]);
    assert_eq!((tokens.texts, tokens.words, tokens.distinct_words), (2, 5, 3));
    let columns = bert_train::Columns { tokens: Some("2".parse().unwrap()), ..Default::default() };
    let tokens = scan_vocabulary(&tiny, &[path("a.tsv")], None, &columns, 10).unwrap();
    assert_eq!((tokens.texts, tokens.words), (2, 3));

    let extend = |words: &str, out: &str| {
        fs::write(path("words.txt"), words).unwrap();
        let mut notices = Notices::default();
        let words = path("words.txt");
        extend_vocabulary(&tiny, &words, WordInit::Mean, 0, &path(out), &mut notices)
            .map(|added| (added, notices.0))
    };
    let (added, notices) = extend("cab\r\nmovie\r\nmovies\r\ncab", "out").unwrap();
    assert_eq!((added, notices.len()), (2, 2));
    assert!(notices[0].ends_with("words.txt, line 2: \"movie\" is there already, skipped"));
    assert!(notices[1].contains("line 4: \"cab\""));
    let error = extend("cab\n\n", "none").unwrap_err();
    assert!(matches!(error, Error::WordsFile { line: 2, .. }), "{error}");
    assert!(error.is_bad_input() && error.to_string().contains("words.txt, line 2: "), "{error}");
    let error = extend("movie\n", "none").unwrap_err();
    assert!(error.is_bad_input() && error.to_string().contains("nothing to add"), "{error}");
    assert!(!path("none").exists());
    let error = extend("cab\n", "out").unwrap_err();
    assert!(matches!(error, Error::OutTaken { .. }), "{error}");
}

/// What can't be extended leaves no directory behind.
#[test]
fn a_model_without_a_word_table_is_refused_before_anything_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let [model, file, out] = ["model", "words.txt", "out"].map(|name| dir.path().join(name));
    fs::create_dir(&model).unwrap();
    for name in ["config.json", "tokenizer.json", "tokenizer_config.json"] {
        fs::copy(folder().join("tiny-bert").join(name), model.join(name)).unwrap();
    }
    bert_core::write_safetensors(model.join("model.safetensors"), &[]).unwrap();
    fs::write(&file, "cab\n").unwrap();
    let error = extend_vocabulary(&model, &file, WordInit::Mean, 0, &out, &mut ()).unwrap_err();
    assert!(error.is_bad_input() && error.to_string().contains("word_embeddings"), "{error}");
    assert!(!out.exists());
}

/// A run that is extended stays a run: its settings and its head go along.
#[test]
fn a_run_can_be_extended() {
    let (_, device) = devices().remove(0);
    let (model, dir) = (extended(), tempfile::tempdir().unwrap());
    let words =
        WordConfig { task_embedding: Some(TaskEmbeddingKind::Diagonal), ..WordConfig::default() };
    let config = files(dir.path(), model.path(), words, PoolingKind::Adaptive);
    let [out, longer, file] = ["run", "longer", "words.txt"].map(|name| dir.path().join(name));
    run(&config, &out, false, &device, &mut ()).unwrap();
    fs::write(&file, "cab\n").unwrap();
    extend_vocabulary(&out, &file, WordInit::Sample, 3, &longer, &mut ()).unwrap();
    assert_eq!(logits(&longer, &device), logits(&out, &device));
    let classifier = TextClassifier::load(&longer, &device).unwrap();
    assert_eq!(classifier.config.base_vocab_size().unwrap(), 79);
    assert_eq!(classifier.tokenizer.token_to_id("cab"), Some(82));
}

/// The real model's table, row for row, before and after training new words alone: the file that a run writes begins
/// with the very bytes of the checkpoint.
#[test]
fn no_row_of_a_real_model_drifts() {
    let data = Path::new(&std::env::var_os("BERT_TUNE_DATA").unwrap_or_default()).to_path_buf();
    let model = data.join("models/all-MiniLM-L6-v2");
    if !model.is_dir() {
        println!("skipped: no {} (BERT_TUNE_DATA)", model.display());
        return;
    }
    let (_, device) = devices().remove(0);
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    fs::write(path("words.txt"), "dystrophy\nphenylketonuria\n").unwrap();
    let extended = path("extended");
    extend_vocabulary(&model, &path("words.txt"), WordInit::Mean, 0, &extended, &mut ()).unwrap();
    let sentence = "muscular\tB-D\ndystrophy\tI-D\nis\tO\nno\tO\nphenylketonuria\tB-D\n\n";
    fs::write(path("train.conll"), sentence.repeat(3)).unwrap();
    let words = WordConfig { train_embeddings: TrainEmbeddings::New, ..WordConfig::default() };
    let recipe = Recipe { epochs: 3, learning_rate: 1e-2, weight_decay: 0.5, ..Recipe::default() };
    let config = RunConfig {
        dev: Some(path("train.conll")),
        words,
        recipe,
        ..RunConfig::new(&extended, path("train.conll"))
    };
    run(&config, &path("run"), false, &device, &mut ()).unwrap();

    let table = |dir: &Path| {
        let checkpoint = Checkpoint::open(dir).unwrap();
        let name = "embeddings.word_embeddings.weight";
        let (_, values) = checkpoint.tensor(name).unwrap();
        bits(&values)
    };
    let (base, trained) = (table(&model), table(&path("run")));
    assert_eq!((base.len(), trained.len()), (30_522 * 384, 30_524 * 384));
    let (old, new) = trained.split_at(base.len());
    assert!(old == base, "an old row drifted");
    let start = &table(&extended)[base.len()..];
    assert!(new.iter().zip(start).all(|(new, start)| new != start), "a new value was not trained");
}
