//! Taggers: from files of tagged words to spans in texts.

use std::{fs, path::Path};

use bert_core::EncoderInput;
use bert_heads::{CrossEntropy, PoolingKind, TaskEmbeddingKind};
use bert_train::{
    Batch, Columns, DataSet, Embedder, Error, Example, Format, LabelMap, Metrics, Observer, Recipe,
    RunConfig, Sentence, Settings, Tagger, TaggingMetrics, TextClassifier, Trainable, TrainedModel,
    WordConfig, WordTags, export, predict_token_logits, read_sentences, run,
};
use burn::tensor::Device;

use crate::reference::{assert_close, devices, floats, folder, host, values};

/// Hugging Face's tagger of the reference, whose five labels are LABEL_0 to LABEL_4.
fn pretrained(device: &Device) -> Tagger {
    Tagger::load(&folder().join("tiny-bert-tokcls"), device).unwrap()
}

/// Sentences of one to nine words of the reference's vocabulary: `good` and what follows it is a span, `bad` another.
fn sentences(count: usize) -> Vec<Sentence> {
    let words = ["the", "movie", "was", "a", "film", "plot", "and", "is", "it", "this"];
    let mut stream = bert_kernels::random::Stream::new(2, bert_kernels::random::Purpose::Sample, 0);
    (0..count)
        .map(|line| {
            let length = 1 + stream.below(8);
            let mut tokens: Vec<String> =
                (0..length).map(|_| words[stream.below(10)].to_owned()).collect();
            let mut tags = vec!["O".to_owned(); length];
            let place = stream.below(length);
            if line % 2 == 0 && place + 1 < length {
                tokens[place] = "good".into();
                (tags[place], tags[place + 1]) = ("B-G".into(), "I-G".into());
            } else {
                tokens[place] = "bad".into();
                tags[place] = "B-B".into();
            }
            Sentence { tokens, tags: Some(tags), label: None, line: line + 1 }
        })
        .collect()
}

fn conll(sentences: &[Sentence]) -> String {
    let sentence = |sentence: &Sentence| {
        let pairs = sentence.tokens.iter().zip(sentence.tags.iter().flatten());
        pairs.map(|(token, tag)| format!("{token}\t{tag}\n")).collect::<String>() + "\n"
    };
    sentences.iter().map(sentence).collect()
}

fn recipe() -> Recipe {
    Recipe { epochs: 12, learning_rate: 5e-3, batch_size: 8, ..Recipe::default() }
}

/// Writes training and dev sentences and gives the config of a run on them.
pub fn files(dir: &Path) -> RunConfig {
    let all = sentences(120);
    fs::write(dir.join("train.conll"), conll(&all[..90])).unwrap();
    fs::write(dir.join("dev.conll"), conll(&all[90..])).unwrap();
    RunConfig {
        dev: Some(dir.join("dev.conll")),
        recipe: recipe(),
        max_length: Some(16),
        ..RunConfig::new(folder().join("tiny-bert"), dir.join("train.conll"))
    }
}

#[derive(Default)]
struct Notices(Vec<String>);

impl Observer for Notices {
    fn notice(&mut self, text: &str) {
        self.0.push(text.to_owned());
    }
}

#[test]
fn what_a_run_writes_is_what_was_trained() {
    for (name, device) in devices() {
        let dir = tempfile::tempdir().unwrap();
        let config = files(dir.path());
        let out = dir.path().join("run");
        let report = run(&config, &out, false, &device, &mut ()).unwrap();
        assert!(report.dev.main() > 0.8, "{name}: {:?}", report.dev);
        assert!(matches!(report.dev, Metrics::Tagging(_)));

        let TrainedModel::Tagger(tagger) = TrainedModel::load(&out, &device).unwrap() else {
            panic!("{name}: no tagger");
        };
        assert_eq!(tagger.labels.names(), ["B-B", "B-G", "I-G", "O"]);
        let path = dir.path().join("dev.conll");
        let dev = read_sentences(&path, None, &Columns::default()).unwrap();
        let (dev, cut) = tagger.tagged_set(&path, &dev, 16).unwrap();
        assert_eq!((tagger.model.evaluate(&dev, 8, &device), cut), (report.dev, 0), "{name}");
        assert_eq!(RunConfig::load(&out.join("run.toml"), toml::Table::new()).unwrap(), config);

        // Its config is that of Hugging Face's tagger.
        let written = fs::read_to_string(out.join("config.json")).unwrap();
        assert!(written.contains("\"BertForTokenClassification\""), "{written}");
        // An encoder that never pooled gives vectors by the mean.
        let embedder = Embedder::load(&out, None, &device).unwrap();
        let text = Example { text: "it".into(), pair: None, label: None, line: 1 };
        assert_eq!(embedder.embed(&[text], false, 16, 1, &device).unwrap().0[0].len(), 32);
    }
}

/// The same sentences in another form and another scheme train the same model.
#[test]
fn every_form_of_sentences_trains_the_same_model() {
    let (_, device) = devices().remove(0);
    let dir = tempfile::tempdir().unwrap();
    let base = RunConfig { recipe: Recipe { epochs: 1, ..recipe() }, ..files(dir.path()) };
    let path = |name: &str| dir.path().join(name);
    let all = sentences(90);
    let lines = |values: &dyn Fn(&Sentence) -> Vec<String>| -> Vec<String> {
        all.iter().map(|sentence| values(sentence).join(" ")).collect()
    };
    let (tokens, tags) =
        (lines(&|s| s.tokens.clone()), lines(&|s| s.tags.clone().unwrap_or_default()));
    let rows: String = tokens.iter().zip(&tags).map(|(a, b)| format!("{b}\t{a}\n")).collect();
    fs::write(path("train.tsv"), format!("slots\twords\n{rows}")).unwrap();
    fs::write(path("train.in"), tokens.join("\n")).unwrap();
    fs::write(path("train.out"), tags.join("\n")).unwrap();
    // Spans of one token are `B-B`, of two `B-G I-G`.
    let iobes = conll(&all).replace("B-B", "S-B").replace("I-G", "E-G");
    fs::write(path("iobes.conll"), iobes).unwrap();

    let train = |name: &str, config: RunConfig| {
        let mut notices = Notices::default();
        let out = path(name);
        let report = run(&config, &out, false, &device, &mut notices).unwrap();
        (fs::read(out.join("model.safetensors")).unwrap(), report.dev, notices.0)
    };
    let (weights, dev, notices) = train("a", base.clone());
    assert_eq!(notices, Vec::<String>::new());
    let columns = Columns {
        tokens: Some("words".parse().unwrap()),
        tags: Some("slots".parse().unwrap()),
        ..Columns::default()
    };
    let dev_rows = dir.path().join("dev.tsv");
    let held: String = sentences(120)[90..]
        .iter()
        .map(|s| format!("{}\t{}\n", s.tokens.join(" "), s.tags.as_ref().unwrap().join(" ")))
        .collect();
    fs::write(&dev_rows, format!("words\tslots\n{held}")).unwrap();
    let table =
        RunConfig { train: path("train.tsv"), dev: Some(dev_rows), columns, ..base.clone() };
    assert!(train("b", table) == (weights.clone(), dev.clone(), vec![]));
    let parallel = format!("{},{}", path("train.in").display(), path("train.out").display());
    assert!(
        train("c", RunConfig { train: parallel.into(), ..base.clone() })
            == (weights.clone(), dev.clone(), vec![])
    );
    let (same, same_dev, notices) =
        train("d", RunConfig { train: path("iobes.conll"), ..base.clone() });
    assert!((same, same_dev) == (weights, dev));
    assert!(
        notices.len() == 1 && notices[0].ends_with("its tags in IOBES: they are written in BIO")
    );
    // Without a dev file some sentences are held out.
    let (_, _, notices) = train("e", RunConfig { dev: None, ..base });
    assert!(
        notices[0].ends_with("9 of 90 rows are held out for dev, at random, with seed 0"),
        "{notices:?}"
    );
}

/// Only first pieces count, [CLS] and [SEP] do not: the loss is that of those tokens alone.
#[test]
fn the_loss_is_that_of_first_pieces() {
    for (name, device) in devices() {
        let tagger = pretrained(&device);
        let words = |words: &[&str]| words.iter().map(|word| word.to_string()).collect();
        let sentence = |tokens| Sentence { tokens, ..Sentence::default() };
        let rows = [sentence(words(&["playing", "movie"])), sentence(words(&["a", "éa", "film"]))];
        let (encodings, _) = tagger.encode(&rows, 16).unwrap();
        // [CLS] play ##ing movie [SEP]; [CLS] a e ##a film [SEP]
        assert_eq!([encodings[0].input_ids.len(), encodings[1].input_ids.len()], [5, 6]);
        let labels =
            [WordTags::new(vec![2, 4], &encodings[0]), WordTags::new(vec![1, 3, 0], &encodings[1])];
        let input = EncoderInput::new(&encodings, &device);
        let data = DataSet { encodings, labels: labels.to_vec(), states: None };
        let batch = Batch { set: 0, rows: vec![0, 1], heads: vec![0] };
        let targets =
            [None, Some(2), None, Some(4), None, None, Some(1), Some(3), None, Some(0), None];
        let expected =
            CrossEntropy::default().forward(tagger.model.forward(&input, None), &targets);
        let loss = tagger.model.losses(&data, &batch, &device, None).remove(0);
        assert_close(name, &host(loss), &host(expected), 1e-6);
    }
}

/// A word that was cut off is answered with `O`, which is wrong where it has another tag.
#[test]
fn words_that_were_cut_off_count_as_outside() {
    let (_, device) = devices().remove(0);
    let labels = |_: &[String]| LabelMap::of_model(&["O", "B-X", "I-X"].map(String::from));
    let dir = folder().join("tiny-bert");
    let settings = Settings::new(PoolingKind::Cls, 16);
    let (tagger, _) = Tagger::from_checkpoint(&dir, labels, settings, 0, &device).unwrap();
    let rows: Vec<Sentence> = [("the movie was bad", "O B-X O B-X"), ("a film", "B-X O")]
        .iter()
        .map(|(tokens, tags)| Sentence {
            tokens: tokens.split(' ').map(String::from).collect(),
            tags: Some(tags.split(' ').map(String::from).collect()),
            ..Sentence::default()
        })
        .collect();
    // [CLS] the movie [SEP]: two words are lost.
    let (data, cut) = tagger.tagged_set(Path::new("none"), &rows, 4).unwrap();
    assert_eq!(cut, 1);
    let logits = predict_token_logits(&tagger.model, &data.rows.encodings, 2, &device);
    let answer = |row: usize, token: usize| {
        let names = tagger.labels.names();
        names[bert_train::argmax(&logits[row][3 * token..3 * token + 3]) as usize].as_str()
    };
    let predicted = [vec![answer(0, 1), answer(0, 2), "O", "O"], vec![answer(1, 1), answer(1, 2)]];
    let gold = [vec!["O", "B-X", "O", "B-X"], vec!["B-X", "O"]];
    let Metrics::Tagging(got) = tagger.model.evaluate(&data, 2, &device) else {
        panic!("no metrics of a tagger")
    };
    assert_eq!(got, TaggingMetrics::new(&gold, &predicted, got.loss));
    assert!(got.loss.is_finite() && got.loss > 0.0);
}

/// The probabilities of Hugging Face's tagger on a text of the reference; places are in characters.
#[test]
fn a_plain_hugging_face_tagger_is_applied() {
    let reference = values();
    let expected = floats(&reference["token_classification"]["logits"][0]);
    for (name, device) in devices() {
        let tagger = pretrained(&device);
        let text = |text: &str| Example { text: text.into(), pair: None, label: None, line: 1 };
        let texts = [text("the movie was great !"), text("É  playing")];
        let (taggings, cut) = tagger.predict(&texts, 16, 2, &device).unwrap();
        assert_eq!(cut, 0);
        assert_eq!(taggings[0].tokens.len(), 5, "{name}");
        for (word, token) in taggings[0].tokens.iter().enumerate() {
            let logits = &expected[5 * (word + 1)..5 * (word + 2)];
            let sum: f32 = logits.iter().map(|logit| logit.exp()).sum();
            let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            assert_close(name, &[token.probability as f32], &[largest.exp() / sum], 2e-5);
        }
        let places = |row: usize| -> Vec<(&str, usize, usize)> {
            let tokens = taggings[row].tokens.iter();
            tokens.map(|token| (token.text.as_str(), token.start, token.end)).collect()
        };
        assert_eq!(places(1), [("É", 0, 1), ("playing", 3, 10)], "{name}");
        // These labels mark no spans.
        assert_eq!(taggings[0].spans, []);

        let sentence = Sentence {
            tokens: ["É", "playing", "movie!"].map(String::from).into(),
            ..Sentence::default()
        };
        let (taggings, cut) =
            tagger.predict_sentences(std::slice::from_ref(&sentence), 16, 2, &device).unwrap();
        assert_eq!((taggings[0].text.as_str(), cut), ("É playing movie!", 0));
        let places: Vec<_> =
            taggings[0].tokens.iter().map(|t| (t.text.as_str(), t.start, t.end)).collect();
        assert_eq!(places, [("É", 0, 1), ("playing", 2, 9), ("movie!", 10, 16)]);
        // The last word is cut off, and `playing` is one word with its first piece alone.
        let (taggings, cut) = tagger.predict_sentences(&[sentence], 4, 2, &device).unwrap();
        let places: Vec<_> =
            taggings[0].tokens.iter().map(|t| (t.text.as_str(), t.start, t.end)).collect();
        assert_eq!((places, cut), (vec![("É", 0, 1), ("playing", 2, 9)], 1));
    }
}

#[test]
fn spans_are_found_in_texts() {
    let (_, device) = devices().remove(0);
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("run");
    run(&files(dir.path()), &out, false, &device, &mut ()).unwrap();
    let tagger = Tagger::load(&out, &device).unwrap();
    let text = Example { text: "It was   good film".into(), pair: None, label: None, line: 1 };
    let tagging = &tagger.predict(&[text], 16, 1, &device).unwrap().0[0];
    let spans: Vec<_> =
        tagging.spans.iter().map(|s| (s.text.as_str(), s.start, s.end, s.label.as_str())).collect();
    assert_eq!(spans, [("good film", 9, 18, "G")], "{tagging:?}");
}

/// Training on from a tagger keeps its head where the tags agree, and says what it drops.
#[test]
fn a_head_is_kept_where_the_tags_agree() {
    let (_, device) = devices().remove(0);
    let start = |model: &str, labels: &[&str]| {
        let labels: Vec<String> = labels.iter().map(|label| label.to_string()).collect();
        let settings = Settings::new(PoolingKind::Cls, 16);
        let labels = |_: &[String]| LabelMap::of_model(&labels);
        Tagger::from_checkpoint(&folder().join(model), labels, settings, 0, &device).unwrap()
    };
    let five = ["LABEL_0", "LABEL_1", "LABEL_2", "LABEL_3", "LABEL_4"];
    let (same, notices) = start("tiny-bert-tokcls", &five);
    assert_eq!(notices, Vec::<String>::new());
    assert_eq!(same.model.named_parameters(), pretrained(&device).model.named_parameters());
    for (model, labels, why) in [
        ("tiny-bert-tokcls", &["O", "B-X"][..], "made for other tags"),
        ("tiny-bert-seqcls", &five[..3], "not those of a tagger of words"),
    ] {
        let (_, notices) = start(model, labels);
        assert!(notices.len() == 1 && notices[0].contains(why), "{notices:?}");
        assert!(notices[0].contains("classifier.weight"), "{notices:?}");
    }
}

#[test]
fn models_of_another_kind_are_refused() {
    let (_, device) = devices().remove(0);
    let error = Tagger::load(&folder().join("tiny-bert-seqcls"), &device).unwrap_err();
    assert!(error.is_bad_input(), "{error}");
    assert!(
        error.to_string().contains("holds no tagger of words but BertForSequenceClassification: "),
        "{error}"
    );
    let dir = tempfile::tempdir().unwrap();
    let config = RunConfig { recipe: Recipe { epochs: 1, ..recipe() }, ..files(dir.path()) };
    let out = dir.path().join("run");
    run(&config, &out, false, &device, &mut ()).unwrap();
    let error = TextClassifier::load(&out, &device).unwrap_err();
    assert!(error.to_string().contains("no classifier of texts but a tagger of words"), "{error}");
}

#[test]
fn runs_that_cannot_be_made_are_refused() {
    let (_, device) = devices().remove(0);
    let dir = tempfile::tempdir().unwrap();
    let config = files(dir.path());
    let refuse = |config: RunConfig, expected: &str| {
        let out = dir.path().join("run");
        let error = run(&config, &out, false, &device, &mut ()).unwrap_err();
        assert!(error.is_bad_input() && error.to_string().contains(expected), "{error}");
        assert!(!out.exists());
    };
    refuse(
        RunConfig { pooling: PoolingKind::Max, ..config.clone() },
        "train.conll holds tokens with tags, and a tagger pools nothing: leave out the max pooling",
    );
    let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
    write("dev.conll", "a\tO\nb\tB-NEW\n");
    refuse(config.clone(), "dev.conll, line 1: unknown label \"B-NEW\"");
    write("train.conll", "a\tO\n\nb\tO\n");
    refuse(config, "all rows have the label \"O\"");
    assert!(matches!(
        read_sentences(&dir.path().join("train.conll"), Some(Format::Tsv), &Columns::default()),
        Err(Error::TokenColumns { .. })
    ));
}

/// A task embedding is trained with a tagger too, and folds into an ordinary one that answers alike.
#[test]
fn a_tagger_may_have_a_task_embedding() {
    let (_, device) = devices().remove(0);
    let dir = tempfile::tempdir().unwrap();
    let words =
        WordConfig { task_embedding: Some(TaskEmbeddingKind::Diagonal), ..WordConfig::default() };
    let config = RunConfig { words, ..files(dir.path()) };
    let (out, plain) = (dir.path().join("run"), dir.path().join("plain"));
    run(&config, &out, false, &device, &mut ()).unwrap();
    let tagger = Tagger::load(&out, &device).unwrap();
    assert!(tagger.model.task_embedding.is_some());
    export(&out, None, &plain, &device).unwrap();
    let folded = Tagger::load(&plain, &device).unwrap();
    assert!(folded.model.task_embedding.is_none());
    let (encodings, _) = tagger.encode(&sentences(7), 16).unwrap();
    let logits =
        |tagger: &Tagger| predict_token_logits(&tagger.model, &encodings, 3, &device).concat();
    assert_close("folded", &logits(&folded), &logits(&tagger), 1e-5);
}
