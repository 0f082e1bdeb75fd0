//! Texts that are longer than the encoder has positions for, and encoders that are frozen.

use std::{fs, path::Path};

use bert_core::{EncoderInput, NamedTensor};
use bert_heads::{MeanPooling, Pooling, PoolingKind};
use bert_train::{
    DataSet, Embedder, Error, Example, Freeze, HiddenStates, LabelMap, Long, LongKind, Metrics,
    Observer, Recipe, RunConfig, Settings, StepReport, TextClassifier, evaluate, fine_tune,
    predict_logits, run,
};
use burn::{module::Module, tensor::Device};

use crate::{
    examples,
    reference::{assert_close, cpu_devices, devices, folder, host},
};

const LENGTH: usize = 9;

fn windows(stride: Option<usize>) -> Long {
    Long::new(LongKind::Windows, stride, None).unwrap()
}

/// Texts of up to 40 words, each of some short ones.
fn long_examples(count: usize) -> Vec<Example> {
    let words = examples(5 * count);
    let one = |texts: &[Example]| {
        let label = texts[0].label.clone();
        let of_label = texts.iter().filter(|text| text.label == label);
        let text: Vec<&str> = of_label.map(|text| text.text.as_str()).collect();
        Example { text: text.join(" "), label, ..texts[0].clone() }
    };
    words.chunks(5).map(one).collect()
}

fn classifier(dir: &Path, settings: Settings, device: &Device) -> TextClassifier {
    let labels = |_: &[String]| LabelMap::of_model(&["bad".to_owned(), "good".to_owned()]);
    let mut classifier =
        TextClassifier::from_checkpoint(dir, labels, settings, 3, device).unwrap().0;
    // Away from their start poolings differ from the mean.
    classifier.model.pooling = bert_core::initialise(classifier.model.pooling, "pooling.", 3, 0.3);
    classifier
}

fn tiny(pooling: PoolingKind, long: Long, device: &Device) -> TextClassifier {
    let settings = Settings { long, ..Settings::new(pooling, LENGTH) };
    classifier(&folder().join("tiny-bert"), settings, device)
}

fn logits(classifier: &TextClassifier, texts: &[Example], device: &Device) -> Vec<Vec<f32>> {
    let (encodings, _) = classifier.encode(texts, LENGTH).unwrap();
    predict_logits(&classifier.model, &encodings, 4, device)
}

/// What fits into one window is read as if there were no windows, to the bit.
#[test]
fn a_text_of_one_window_is_a_truncated_text() {
    for (name, device) in cpu_devices() {
        let texts: Vec<Example> =
            examples(30).into_iter().filter(|text| text.text.split(' ').count() < 6).collect();
        assert!(texts.len() > 9);
        for pooling in PoolingKind::ALL {
            let truncated = logits(&tiny(pooling, Long::Truncate, &device), &texts, &device);
            for long in [windows(None), windows(Some(2)), Long::HeadTail] {
                let whole = logits(&tiny(pooling, long, &device), &texts, &device);
                assert_eq!(whole, truncated, "{name}, {pooling}");
            }
        }
    }
}

/// Neither the company of other texts nor their windows change what is said of a text.
#[test]
fn a_text_in_windows_alone_is_the_text_in_the_batch() {
    for (name, device) in devices() {
        for pooling in PoolingKind::ALL {
            let classifier = tiny(pooling, windows(Some(3)), &device);
            let mut texts = long_examples(6);
            texts.extend(examples(3));
            let together = logits(&classifier, &texts, &device);
            for (text, together) in texts.iter().zip(together) {
                let alone = logits(&classifier, std::slice::from_ref(text), &device);
                assert_close(&format!("{name}, {pooling}"), &alone[0], &together, 1e-5);
            }
        }
    }
}

/// By the definition: each window through the encoder by itself, then the vectors of the tokens that belong to it.
#[test]
fn one_vector_of_all_windows_by_definition() {
    let (_, device) = devices().remove(0);
    let classifier = tiny(PoolingKind::Mean, windows(Some(4)), &device);
    let text = long_examples(1).remove(0);
    let (encodings, cut) = classifier.encode(std::slice::from_ref(&text), LENGTH).unwrap();
    let (encoding, model) = (&encodings[0], &classifier.model);
    assert!(cut == 0 && encoding.windows.len() > 2, "{encoding:?}");
    let (mut sum, mut count, mut start) = (vec![0f64; 32], 0, 0);
    let mut first = vec![0f64; 32];
    for window in &encoding.windows {
        let places: Vec<usize> = (start..start + window.length).collect();
        let alone = encoding.select(&places);
        let hidden = host(model.bert.forward(&EncoderInput::new([&alone], &device), None));
        for (place, row) in hidden.chunks(32).enumerate() {
            let is_special = place == 0 || place + 1 == window.length;
            if is_special || window.own.contains(&place) {
                sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += f64::from(*value));
                count += 1;
            }
            if place == 0 {
                first.iter_mut().zip(row).for_each(|(sum, value)| *sum += f64::from(*value));
            }
        }
        start += window.length;
    }
    let over = |sum: &[f64], count: usize| -> Vec<f32> {
        sum.iter().map(|sum| (sum / count as f64) as f32).collect()
    };
    let input = EncoderInput::new([encoding], &device);
    let pooled = host(model.pooled(&input, None));
    assert_close("mean", &pooled, &over(&sum, count), 1e-5);
    // The vector of [CLS] is the mean over the windows.
    let cls = tiny(PoolingKind::First, windows(Some(4)), &device);
    let pooled = host(cls.model.pooled(&input, None));
    assert_close("first", &pooled, &over(&first, encoding.windows.len()), 1e-5);
}

/// Each token of the text is shown once, in order, and the weights of a text sum to 1.
#[test]
fn weights_of_a_text_in_windows() {
    let (_, device) = devices().remove(0);
    let text = long_examples(1).remove(0);
    for pooling in PoolingKind::ALL {
        let whole = {
            let classifier = tiny(pooling, Long::Truncate, &device);
            classifier.tokenizer.encode(&text.text, None, 500).unwrap()
        };
        let classifier = tiny(pooling, windows(None), &device);
        let examples = std::slice::from_ref(&text);
        let (answers, _) =
            classifier.predict_with_weights(examples, true, LENGTH, 2, &device).unwrap();
        let (prediction, weights) = &answers[0];
        let words: Vec<&String> =
            weights.iter().filter(|w| w.start.is_some()).map(|w| &w.token).collect();
        let expected: Vec<&String> = whole.tokens[1..whole.tokens.len() - 1].iter().collect();
        assert_eq!(words, expected);
        let sum: f32 = weights.iter().map(|token| token.weight).sum();
        assert!((sum - 1.0).abs() < 1e-5, "{pooling}: {sum}");
        let (again, _) = classifier.predict(examples, LENGTH, 2, &device).unwrap();
        let (one, other) = (&prediction.probabilities, &again[0].probabilities);
        assert!((one[0] - other[0]).abs() < 1e-5, "{pooling}");
    }
}

/// Remembers losses, parameters and notices.
#[derive(Default)]
struct Memory {
    losses: Vec<f32>,
    notices: Vec<String>,
}

impl Observer for Memory {
    fn step(&mut self, report: &StepReport) {
        self.losses.push(report.loss as f32);
    }
    fn notice(&mut self, text: &str) {
        self.notices.push(text.to_owned());
    }
}

fn recipe() -> Recipe {
    Recipe { epochs: 3, learning_rate: 2e-3, batch_size: 8, ..Recipe::default() }
}

fn data_set(classifier: &TextClassifier, texts: &[Example]) -> DataSet {
    classifier.data_set(Path::new("none"), texts, LENGTH).unwrap().0
}

/// Trained on states that are kept, pooling and head come out as behind an encoder that has no gradient.
#[test]
fn kept_states_are_what_a_frozen_encoder_gives() {
    let dir = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(folder().join("tiny-bert")).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), dir.path().join(entry.file_name())).unwrap();
    }
    let config = fs::read_to_string(dir.path().join("config.json")).unwrap();
    let mut config: serde_json::Value = serde_json::from_str(&config).unwrap();
    for rate in ["hidden_dropout_prob", "attention_probs_dropout_prob"] {
        config[rate] = 0.0.into();
    }
    fs::write(dir.path().join("config.json"), config.to_string()).unwrap();
    let (_, device) = devices().remove(0);
    for (pooling, long, layer_mixture) in [
        (PoolingKind::Adaptive, windows(None), false),
        (PoolingKind::Cls, windows(None), false),
        (PoolingKind::First, windows(None), true),
        (PoolingKind::Attention, Long::HeadTail, true),
        (PoolingKind::Max, Long::Truncate, false),
    ] {
        let settings = Settings { long, layer_mixture, ..Settings::new(pooling, LENGTH) };
        let start = classifier(dir.path(), settings, &device);
        let texts = long_examples(50);
        let [train, dev] = [&texts[..40], &texts[40..]].map(|texts| data_set(&start, texts));
        let keep = |data: &DataSet| {
            let states = HiddenStates::new(&start.model, &data.encodings, 3, &device);
            DataSet { states: Some(states), ..data.clone() }
        };
        let (kept, kept_dev) = (keep(&train), keep(&dev));
        let mut frozen = start.model.clone();
        frozen.bert = frozen.bert.no_grad();
        let (mut one, mut other) = (Memory::default(), Memory::default());
        let through = fine_tune(frozen, &train, &dev, &recipe(), &device, &mut one).unwrap();
        let mut start = start.model;
        start.bert = start.bert.freeze();
        let cached =
            fine_tune(start.clone(), &kept, &kept_dev, &recipe(), &device, &mut other).unwrap();
        assert_close(&format!("{pooling}"), &other.losses, &one.losses, 1e-6);
        let pairs = through.model.named_parameters().into_iter();
        for (one, other) in pairs.zip(cached.model.named_parameters()) {
            assert_close(&one.name, &other.values, &one.values, 1e-5);
        }
        let of_encoder = |tensor: &NamedTensor| !tensor.name.contains("pool");
        let encoder = |model: &bert_heads::SequenceClassifier| -> Vec<NamedTensor> {
            let all = model.named_parameters().into_iter();
            all.filter(|tensor| tensor.name.starts_with("bert.") && of_encoder(tensor)).collect()
        };
        assert_eq!(encoder(&cached.model), encoder(&start), "{pooling}");
        assert_ne!(
            cached.model.named_parameters(),
            start.named_parameters(),
            "{pooling}: nothing was learned"
        );
    }
}

#[test]
fn the_size_of_what_is_kept_by_hand() {
    let (_, device) = devices().remove(0);
    let bytes = |pooling, long, layer_mixture| {
        let settings = Settings { long, layer_mixture, ..Settings::new(pooling, LENGTH) };
        let classifier = classifier(&folder().join("tiny-bert"), settings, &device);
        let text = |text: &str| Example {
            text: text.to_owned(),
            pair: None,
            label: Some("bad".to_owned()),
            line: 1,
        };
        let texts = [text("the movie"), text(&["the"; 10].join(" "))];
        HiddenStates::bytes(&classifier.model, &data_set(&classifier, &texts).encodings)
    };
    // Rows of 32 numbers of 4 bytes. [CLS], 2 words, [SEP]; and 10 words in windows from 0 and from 3: 10 + 2 x 2.
    assert_eq!(bytes(PoolingKind::Mean, windows(None), false), (4 + 14) * 128);
    assert_eq!(bytes(PoolingKind::Mean, Long::Truncate, false), (4 + 9) * 128);
    // One row a window.
    assert_eq!(bytes(PoolingKind::Cls, windows(None), false), (1 + 2) * 128);
    // The embeddings and two layers.
    assert_eq!(bytes(PoolingKind::Mean, windows(None), true), 3 * (4 + 14) * 128);
}

fn files(dir: &Path, count: usize) -> RunConfig {
    let rows = long_examples(count).into_iter();
    let rows: String = rows.map(|e| format!("{}\t{}\n", e.text, e.label.unwrap())).collect();
    fs::write(dir.join("train.tsv"), rows).unwrap();
    RunConfig {
        pooling: PoolingKind::Adaptive,
        recipe: recipe(),
        max_length: Some(LENGTH),
        ..RunConfig::new(folder().join("tiny-bert"), dir.join("train.tsv"))
    }
}

/// What is trained on windows is applied to windows: evaluation, weights and vectors, as the run measured them.
#[test]
fn what_a_run_on_windows_writes_is_what_was_trained() {
    for (name, device) in cpu_devices() {
        for freeze in [None, Some(Freeze::Encoder)] {
            let dir = tempfile::tempdir().unwrap();
            let mut config = RunConfig { long: windows(Some(3)), ..files(dir.path(), 60) };
            config.recipe.layers.freeze = freeze;
            let (out, mut memory) = (dir.path().join("run"), Memory::default());
            let report = run(&config, &out, false, &device, &mut memory).unwrap();
            let said = memory.notices.join("\n");
            let expected = match freeze {
                None => "the largest batch there can be",
                Some(_) => "the encoder is frozen: it runs once over all 60 texts, whose",
            };
            assert!(said.contains(expected) && said.contains("MB of memory"), "{said}");
            assert!(!said.contains("were cut"), "{said}");

            let classifier = TextClassifier::load(&out, &device).unwrap();
            assert_eq!(classifier.settings.long, windows(Some(3)));
            assert_eq!(RunConfig::load(&out.join("run.toml"), toml::Table::new()).unwrap(), config);
            let all = bert_train::read_examples(&config.train, None, &config.columns).unwrap();
            let ids = classifier.labels.ids(&config.train, &all).unwrap();
            let split = bert_train::stratified_split(&ids, 0.1, 0).unwrap();
            let dev: Vec<_> = split.dev.iter().map(|row| all[*row].clone()).collect();
            let (data, _) = classifier.data_set(&config.train, &dev, LENGTH).unwrap();
            let again = evaluate(&classifier.model, &data, 2, 8, &device);
            let Metrics::Classification(reported) = &report.dev else { panic!("{:?}", report.dev) };
            assert_eq!(again.accuracy, reported.accuracy, "{name}");
            assert!((again.loss - reported.loss).abs() < 1e-5, "{name}");

            let embedder = Embedder::load(&out, None, &device).unwrap();
            let (vectors, cut) = embedder.embed(&dev, false, LENGTH, 2, &device).unwrap();
            let input = EncoderInput::new(&data.encodings[..1], &device);
            let pooled = host(classifier.model.pooled(&input, None));
            assert_eq!(cut, 0);
            assert_close(name, &vectors[0], &pooled, 1e-5);
            if freeze.is_some() {
                let base = tiny(PoolingKind::Adaptive, windows(Some(3)), &device).model;
                let bits = |model: &bert_heads::SequenceClassifier| {
                    let encoder = model.named_parameters().into_iter();
                    let kept = |tensor: &NamedTensor| tensor.name.starts_with("bert.");
                    encoder.filter(kept).collect::<Vec<_>>()
                };
                assert_eq!(bits(&classifier.model), bits(&base), "{name}");
            }
        }
    }
}

/// Through all windows, end to end, the label is learned where its word lies behind the first window.
#[test]
fn words_behind_the_first_window_are_learned() {
    let (_, device) = devices().remove(0);
    let texts: Vec<Example> = long_examples(80)
        .into_iter()
        .map(|example| Example {
            text: format!("the movie was a film and it is {}", example.label.as_ref().unwrap()),
            ..example
        })
        .collect();
    let best = |long| {
        let classifier = tiny(PoolingKind::Mean, long, &device);
        let [train, dev] = [&texts[..60], &texts[60..]].map(|texts| data_set(&classifier, texts));
        let recipe = Recipe { epochs: 6, ..recipe() };
        let tuned = fine_tune(classifier.model, &train, &dev, &recipe, &device, &mut ()).unwrap();
        tuned.best().main()
    };
    // All truncated texts are the same.
    assert!(best(Long::Truncate) < 0.6);
    assert!(best(windows(None)) > 0.9);
    assert!(best(Long::HeadTail) > 0.9);
}

#[test]
fn what_does_not_go_together_is_refused_by_name() {
    let (_, device) = devices().remove(0);
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("run");
    let refused = |config: &RunConfig| -> Error {
        let error = run(config, &out, false, &device, &mut ()).unwrap_err();
        assert!(error.is_bad_input() && !out.exists(), "{error}");
        error
    };
    let config = files(dir.path(), 20);
    let long = windows(Some(LENGTH));
    let message = refused(&RunConfig { long, ..config.clone() }).to_string();
    assert!(message.contains("stride of 9") && message.contains("from 1 to 7"), "{message}");

    let freeze = |mut config: RunConfig| {
        config.recipe.layers.freeze = Some(Freeze::Encoder);
        config
    };
    let mut frozen = freeze(config.clone());
    frozen.words.task_embedding = Some(bert_heads::TaskEmbeddingKind::Diagonal);
    let message = refused(&frozen).to_string();
    assert!(message.contains("task-embedding") && message.contains("freeze"), "{message}");
    let mut frozen = freeze(config.clone());
    frozen.words.train_embeddings = bert_train::TrainEmbeddings::New;
    assert!(refused(&frozen).to_string().contains("train-embeddings"));

    let train = dir.path().join("pairs.tsv");
    fs::write(&train, "the movie\tis bad\tyes\na film\tis good\tno\n".repeat(9)).unwrap();
    let message = refused(&RunConfig { train, long: windows(None), ..config.clone() }).to_string();
    assert_eq!(
        message,
        "long is for single texts with one label, and the data holds pairs of texts: leave it out"
    );

    let train = dir.path().join("train.conll");
    fs::write(&train, "the\tO\nmovie\tB-X\n\n".repeat(20)).unwrap();
    let tags = RunConfig { train, pooling: PoolingKind::Cls, ..config };
    let message = refused(&RunConfig { long: Long::HeadTail, ..tags.clone() }).to_string();
    assert!(message.contains("long is for") && message.contains("tokens with tags"), "{message}");
    let message = refused(&freeze(tags)).to_string();
    assert!(message.contains("tokens with tags") && message.contains("layers=2"), "{message}");
}

/// A run file says it as flags do, and its faults are told with file and line.
#[test]
fn run_files_have_keys_for_long_texts() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run.toml");
    let load = |keys: &str| {
        fs::write(&path, format!("model = \"m\"\ntrain = \"t.tsv\"\n{keys}")).unwrap();
        RunConfig::load(&path, toml::Table::new())
    };
    let config = load("long = \"windows\"\nstride = 100\nmax_windows = 3\nfreeze = \"encoder\"\n");
    let config = config.unwrap();
    assert_eq!(config.long, Long::Windows { stride: Some(100), max_windows: 3 });
    assert_eq!(config.recipe.layers.freeze, Some(Freeze::Encoder));
    assert_eq!(load("").unwrap().long, Long::Truncate);
    for (keys, part) in [
        ("stride = 100\n", "stride says how long texts are cut"),
        ("long = \"windows\"\nmax_windows = 65\n", "from 1 to 64"),
        ("long = \"window\"\n", "window"),
        ("freeze = \"head\"\n", "head"),
        ("max_window = 3\n", "did you mean \"max_windows\"?"),
    ] {
        let error = load(keys).unwrap_err();
        assert!(error.is_bad_input());
        let message = error.to_string();
        assert!(message.contains("run.toml, line ") && message.contains(part), "{message}");
    }
}

/// A pooling of its own reads the same tokens.
#[test]
fn only_tokens_that_are_pooled_are_read() {
    let (_, device) = devices().remove(0);
    let classifier = tiny(PoolingKind::Mean, windows(Some(2)), &device);
    let (encodings, _) = classifier.encode(&long_examples(2), LENGTH).unwrap();
    let input = EncoderInput::new(&encodings, &device);
    let hidden = classifier.model.bert.forward(&input, None);
    let read = Pooling::Mean(MeanPooling).read(hidden, &input);
    let pooled: usize = encodings.iter().map(|encoding| encoding.pooled().count()).sum();
    let tokens: usize = encodings.iter().map(|encoding| encoding.input_ids.len()).sum();
    assert_eq!(read.dims(), [pooled, 32]);
    assert!(pooled < tokens);
}
