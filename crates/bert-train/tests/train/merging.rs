//! Adapters merged into their model: those of runs to the bit, those of PEFT to its logits, and what is refused.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use bert_core::{Checkpoint, EncoderInput, NamedTensor, write_safetensors};
use bert_heads::{PoolingKind, TaskEmbeddingKind};
use bert_kernels::random::{Purpose, Stream};
use bert_train::{
    Balance, Baselines, Error, RunConfig, Tagger, TextClassifier, TrainEmbeddings, TrainedModel,
    WordConfig, merge, run, run_tasks,
};
use burn::tensor::Device;
use serde_json::{Map, Value, json};

use crate::{
    multi_task::every_kind,
    reference::{
        self, assert_close, cpu_devices, devices, floats, folder, host, packed, padded_batch,
        values,
    },
    runs, taggers,
    words::{self, architecture},
};

const MODEL_FILES: [&str; 7] = [
    "config.json",
    "model.safetensors",
    "bert-tune.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
    "special_tokens_map.json",
];

fn one(dir: &Path) -> (PathBuf, PathBuf) {
    (dir.join("run"), dir.join("merged"))
}

/// What a run wrote as its model is what its adapters alone, elsewhere, and the base give.
fn assert_comes_back(base: &Path, dir: &Path, device: &Device) {
    let (out, merged) = one(dir);
    let sent = dir.join("sent");
    fs::rename(out.join("adapter"), &sent).unwrap();
    merge(base, &sent, &merged, device).unwrap();
    for name in MODEL_FILES {
        let [run, merged] = [&out, &merged].map(|dir| fs::read(dir.join(name)).unwrap());
        assert!(run == merged, "{name}");
    }
    assert_eq!(fs::read_dir(&merged).unwrap().count(), MODEL_FILES.len());
    assert_ne!(
        fs::read(merged.join("model.safetensors")).unwrap(),
        fs::read(base.join("model.safetensors")).unwrap()
    );
}

fn lora(config: RunConfig, lora: &str) -> RunConfig {
    let mut config = RunConfig { lora: Some(lora.parse().unwrap()), ..config };
    config.recipe.epochs = 1;
    config
}

#[test]
fn a_run_comes_back_from_its_adapters() {
    for (_, device) in cpu_devices() {
        for pooling in [PoolingKind::Cls, PoolingKind::Adaptive] {
            let dir = tempfile::tempdir().unwrap();
            let config = runs::files(dir.path(), 30, pooling);
            // A scale of 7.1 / 3, which no float32 is.
            let config = lora(config, "rank=3,alpha=7.1,targets=query+attention-output+output");
            run(&config, &one(dir.path()).0, false, &device, &mut ()).unwrap();
            assert_comes_back(&config.model, dir.path(), &device);
        }
    }
}

#[test]
fn a_tagger_comes_back_from_its_adapters() {
    let (_, device) = devices().remove(0);
    let dir = tempfile::tempdir().unwrap();
    let config = lora(taggers::files(dir.path()), "rank=3,targets=value+intermediate");
    run(&config, &one(dir.path()).0, false, &device, &mut ()).unwrap();
    assert_comes_back(&config.model, dir.path(), &device);
}

#[test]
fn new_words_and_a_task_embedding_come_back_with_the_adapters() {
    let (_, device) = devices().remove(0);
    let (dir, model) = (tempfile::tempdir().unwrap(), words::extended());
    let words = WordConfig {
        task_embedding: Some(TaskEmbeddingKind::LowRank { rank: 3 }),
        train_embeddings: TrainEmbeddings::New,
    };
    let config = words::files(dir.path(), model.path(), words, PoolingKind::Attention);
    let config = RunConfig { layer_mixture: true, ..lora(config, "rank=3") };
    run(&config, &one(dir.path()).0, false, &device, &mut ()).unwrap();
    let table = "embeddings.word_embeddings.weight";
    let [base, run] = [model.path(), &one(dir.path()).0]
        .map(|dir| Checkpoint::open(dir).unwrap().tensor(table).unwrap().1);
    assert!(base[..79 * 32] == run[..79 * 32] && base[79 * 32..] != run[79 * 32..]);
    assert_comes_back(&config.model, dir.path(), &device);
}

#[test]
fn several_tasks_come_back_from_their_adapters() {
    let (_, device) = devices().remove(0);
    let dir = tempfile::tempdir().unwrap();
    let mut config = every_kind(dir.path());
    config.lora = Some("rank=3".parse().unwrap());
    config.recipe.epochs = 1;
    config.mixing.balance = Balance::Uncertainty { weight_lr: 1e-2 };
    let mood = config.tasks.get_mut("mood").unwrap();
    mood.pooling = Some(PoolingKind::Adaptive);
    mood.task_embedding = Some(TaskEmbeddingKind::Diagonal);
    mood.projection = true;
    config.tasks.get_mut("stars").unwrap().share_embedding = Some("mood".into());
    let out = one(dir.path()).0;
    run_tasks(&config, &out, false, &Baselines::None, &device, &mut ()).unwrap();
    assert_comes_back(&config.model, dir.path(), &device);
}

/// With the adapters of PEFT the plain classifier gives PEFT's logits, however its names begin.
#[test]
fn adapters_of_peft_give_its_logits() {
    let expected = floats(&reference::json("lora.json")["logits"]);
    for (name, device) in devices() {
        for has_prefix in [true, false] {
            let (dir, adapter) = peft_adapter(
                |_| {},
                |tensors| {
                    let old = std::mem::take(tensors);
                    tensors.extend(old.into_iter().map(|(name, tensor)| match has_prefix {
                        true => (name, tensor),
                        false => (name.replace("model.bert.", "model."), tensor),
                    }));
                },
            );
            let out = dir.path().join("merged");
            merge(&folder().join("tiny-bert-seqcls"), &adapter, &out, &device).unwrap();
            assert!(!out.join("bert-tune.json").exists());
            assert_eq!(architecture(&out), "BertForSequenceClassification");
            let classifier = TextClassifier::load(&out, &device).unwrap();
            assert_eq!(classifier.labels.names(), ["LABEL_0", "LABEL_1", "LABEL_2"]);
            let (ids, types, mask) = padded_batch(&values()["batch"], &device);
            let input = EncoderInput::from_padded(ids, types, mask);
            let logits = host(classifier.model.forward(&input, None));
            assert_close(name, &logits, &expected, 2e-5);
        }
    }
}

/// Ranks and alphas of single maps, scaled by roots of ranks, beside an encoder that had no head.
#[test]
fn patterns_of_peft_are_followed() {
    let values = values();
    let expected = packed(&reference::json("lora.json")["patterns"]["logits"], &values);
    for (name, device) in devices() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("merged");
        let adapter = folder().join("tiny-bert-lora-patterns");
        merge(&folder().join("tiny-bert"), &adapter, &out, &device).unwrap();
        assert_eq!(architecture(&out), "BertForTokenClassification");
        let tagger = Tagger::load(&out, &device).unwrap();
        assert_eq!(tagger.labels.names()[3..], ["LABEL_3", "LABEL_4"]);
        let (ids, types, mask) = padded_batch(&values["batch"], &device);
        let input = EncoderInput::from_padded(ids, types, mask);
        let logits = host(tagger.model.forward(&input, None));
        assert_close(name, &logits, &expected, 2e-5);
    }
}

/// Adapters beside an encoder alone give an encoder, spelt as it was; its other tensors keep every bit.
#[test]
fn an_encoder_stays_an_encoder() {
    let (_, device) = devices().remove(0);
    let (dir, adapter) = peft_adapter(
        |_| {},
        |tensors| {
            tensors.retain(|name, _| name.contains("layer.1.attention.self.query"));
        },
    );
    for (base, class) in [("tiny-bert", "BertModel"), ("tiny-bert-mlm", "BertForMaskedLM")] {
        let (base, out) = (folder().join(base), dir.path().join(base));
        merge(&base, &adapter, &out, &device).unwrap();
        assert_eq!(architecture(&out), class);
        let [before, after] = [&base, &out].map(|dir| Checkpoint::open(dir).unwrap());
        let spelt = |checkpoint: &Checkpoint| {
            let names = checkpoint.names().map(|name| checkpoint.info(name).unwrap());
            names.map(|info| info.spelling.clone()).collect::<Vec<_>>()
        };
        assert_eq!(spelt(&before), spelt(&after));
        for name in before.names() {
            let [before, after] = [&before, &after].map(|file| file.tensor(name).unwrap());
            let is_map = name == "encoder.layer.1.attention.self.query.weight";
            assert_eq!(before == after, !is_map, "{name}");
        }
    }
}

/// A model of ours keeps its pooling and settings, and its labels where the head has as many.
#[test]
fn adapters_of_peft_leave_the_settings_of_the_model() {
    let (_, device) = devices().remove(0);
    let dir = tempfile::tempdir().unwrap();
    let mut config = runs::files(dir.path(), 30, PoolingKind::Mean);
    config.recipe.epochs = 1;
    let (base, _) = one(dir.path());
    run(&config, &base, false, &device, &mut ()).unwrap();
    for (has_head, labels) in
        [(false, vec!["bad", "good"]), (true, vec!["LABEL_0", "LABEL_1", "LABEL_2"])]
    {
        let (folder, adapter) = peft_adapter(
            |_| {},
            |tensors| {
                tensors.retain(|name, _| !name.contains("pooler"));
                tensors.retain(|name, _| has_head || !name.contains("classifier"));
            },
        );
        let out = folder.path().join("merged");
        merge(&base, &adapter, &out, &device).unwrap();
        let TrainedModel::Classifier(own) = TrainedModel::load(&out, &device).unwrap() else {
            panic!("no classifier");
        };
        assert_eq!(own.labels.names(), labels);
        assert_eq!((own.settings.pooling, own.settings.max_length), (PoolingKind::Mean, 16));
    }
}

type Tensors = BTreeMap<String, NamedTensor>;

/// PEFT's adapters of the reference with changes, in a folder that has room for more.
fn peft_adapter(
    config: impl FnOnce(&mut Map<String, Value>),
    tensors: impl FnOnce(&mut Tensors),
) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (folder().join("tiny-bert-lora"), dir.path().join("adapter"));
    fs::create_dir(&to).unwrap();
    let text = fs::read(from.join("adapter_config.json")).unwrap();
    let mut keys: Map<String, Value> = serde_json::from_slice(&text).unwrap();
    config(&mut keys);
    fs::write(to.join("adapter_config.json"), Value::Object(keys).to_string()).unwrap();
    let file = Checkpoint::open_file(from.join("adapter_model.safetensors")).unwrap();
    let read = file.names().map(|name| {
        let (shape, values) = file.tensor(name).unwrap();
        (name.to_owned(), NamedTensor { name: name.into(), shape, values })
    });
    let mut read: Tensors = read.collect();
    tensors(&mut read);
    let write: Vec<_> =
        read.into_iter().map(|(name, tensor)| NamedTensor { name, ..tensor }).collect();
    write_safetensors(to.join("adapter_model.safetensors"), &write).unwrap();
    (dir, to)
}

/// What merging into the model that the adapters belong to says; it leaves nothing behind.
#[track_caller]
fn refusal(dir: &Path, adapter: &Path) -> (Error, String) {
    let (_, device) = devices().remove(0);
    let out = dir.join("merged");
    let error = merge(&folder().join("tiny-bert-seqcls"), adapter, &out, &device).unwrap_err();
    assert!(error.is_bad_input() && !out.exists(), "{error}");
    let message = error.to_string();
    (error, message)
}

#[test]
fn configs_that_say_more_than_plain_lora_are_refused() {
    let cases: [(&str, Value, &str); 22] = [
        ("peft_type", json!("LOHA"), "must be \"LORA\", got \"LOHA\""),
        ("peft_type", Value::Null, "must be \"LORA\", got null"),
        ("use_dora", json!(true), "must be absent, null or false, got true"),
        ("bias", json!("all"), "must be \"none\", got \"all\""),
        ("lora_bias", json!(true), "got true"),
        ("fan_in_fan_out", json!(true), "got true"),
        ("layer_replication", json!([[0, 1]]), "got [[0,1]]"),
        ("trainable_token_indices", json!([7]), "got [7]"),
        ("alora_invocation_tokens", json!([3, 5]), "got [3,5]"),
        ("never_heard_of", json!("x"), "got \"x\""),
        ("init_lora_weights", json!("pissa_niter_4"), "\"orthogonal\", got \"pissa_niter_4\""),
        ("init_lora_weights", json!(1), "got 1"),
        ("use_rslora", json!("yes"), "must be true or false, got \"yes\""),
        ("r", Value::Null, "must be a whole number from 1, got null"),
        ("r", json!(0), "must be a whole number from 1, got 0"),
        ("r", json!(-3), "got -3"),
        ("r", json!(2.5), "got 2.5"),
        ("r", json!("8"), "got \"8\""),
        ("lora_alpha", json!("1e3"), "must be a number, got \"1e3\""),
        ("alpha_pattern", json!({".*query": 3}), "must be numbers by names of modules"),
        ("alpha_pattern", json!({"query": "3"}), "must be numbers by names of modules"),
        ("alpha_pattern", json!([3]), "must be numbers by names of modules"),
    ];
    for (key, value, expected) in cases {
        let (dir, adapter) = peft_adapter(|keys| _ = keys.insert(key.into(), value), |_| {});
        let (error, message) = refusal(dir.path(), &adapter);
        assert!(matches!(error, Error::AdapterConfig { .. }), "{message}");
        let start = format!("{}: {key} must be", adapter.join("adapter_config.json").display());
        assert!(message.starts_with(&start) && message.contains(expected), "{message}");
    }
    for key in ["r", "lora_alpha", "peft_type"] {
        let (dir, adapter) = peft_adapter(|keys| _ = keys.remove(key), |_| {});
        let (_, message) = refusal(dir.path(), &adapter);
        assert!(message.contains(&format!("{key} must be")), "{message}");
        assert!(message.contains("got nothing: only adapters of plain LoRA"), "{message}");
    }
}

#[test]
fn tensors_that_do_not_fit_are_refused() {
    const MAP: &str = "base_model.model.bert.encoder.layer.1.intermediate.dense";
    let (a, b) = (format!("{MAP}.lora_A.weight"), format!("{MAP}.lora_B.weight"));
    let tensor = |shape: &[usize]| NamedTensor {
        name: String::new(),
        shape: shape.into(),
        values: vec![0.5; shape.iter().product()],
    };
    let refused = |change: &dyn Fn(&mut Tensors)| {
        let (dir, adapter) = peft_adapter(|_| {}, change);
        refusal(dir.path(), &adapter)
    };
    let is_half = |error: &Error| matches!(error, Error::AdapterHalf { .. });
    let (error, message) = refused(&|tensors| _ = tensors.remove(&b));
    assert!(is_half(&error) && message.contains(&format!("lacks {b}")), "{message}");
    let (error, message) = refused(&|tensors| _ = tensors.remove(&a));
    assert!(is_half(&error) && message.contains(&format!("lacks {a}")), "{message}");

    // The map is [64, 32], the rank 5.
    for (name, shape, expected) in [
        (&a, [4, 32], "[5, 32], got [4, 32]"),
        (&a, [5, 64], "[5, 32], got [5, 64]"),
        (&b, [64, 4], "[64, 5], got [64, 4]"),
        (&b, [5, 64], "[64, 5], got [5, 64]"),
        (&b, [0, 5], "[64, 5], got [0, 5]"),
    ] {
        let (error, message) = refused(&|tensors| _ = tensors.insert(name.clone(), tensor(&shape)));
        assert!(matches!(error, Error::AdapterShape { .. }), "{message}");
        assert!(message.contains(&format!("{name} must have shape {expected}")), "{message}");
    }
    let (error, message) = refused(&|tensors| _ = tensors.insert(a.clone(), tensor(&[160])));
    assert!(matches!(error, Error::AdapterShape { .. }), "{message}");

    for (from, to) in [("layer.1.", "layer.2."), ("intermediate.dense", "gate.dense")] {
        let (error, message) = refused(&|tensors| {
            for name in [&a, &b] {
                let moved = tensors.remove(name).unwrap();
                tensors.insert(name.replace(from, to), moved);
            }
        });
        assert!(matches!(error, Error::AdapterMap { .. }), "{message}");
        assert!(message.contains("belongs to a map that"), "{message}");
    }

    for name in [
        "base_model.model.bert.embeddings.word_embeddings.lora_embedding_A",
        "base_model.model.bert.encoder.layer.0.output.dense.lora_magnitude_vector.weight",
        "base_model.model.bert.encoder.layer.0.output.dense.lora_B.bias",
        "base_model.model.score.weight",
        "classifier.weight",
    ] {
        let (error, message) =
            refused(&|tensors| _ = tensors.insert(name.into(), tensor(&[5, 32])));
        assert!(matches!(error, Error::AdapterTensor { .. }), "{message}");
        assert!(message.contains(&format!(": {name} is no lora_A.weight")), "{message}");
    }
    let whole = "base_model.model.bert.encoder.layer.0.output.LayerNorm.weight";
    let (error, message) = refused(&|tensors| _ = tensors.insert(whole.into(), tensor(&[31])));
    assert!(matches!(error, Error::AdapterShape { .. }), "{message}");

    // Once under each spelling, and whole beside an adapter.
    for other in [a.replace("bert.", ""), format!("{MAP}.weight")] {
        let (_, message) = refused(&|tensors| _ = tensors.insert(other.clone(), tensor(&[5, 32])));
        assert!(
            message.contains("are both encoder.layer.1.intermediate.dense.weight"),
            "{message}"
        );
    }
}

/// The head and the pooler are checked as those of any checkpoint.
#[test]
fn heads_that_are_not_whole_are_refused() {
    let refused = |base: &str, change: &dyn Fn(&mut Tensors)| {
        let (_, device) = devices().remove(0);
        let (dir, adapter) = peft_adapter(|_| {}, change);
        let out = dir.path().join("merged");
        let error = merge(&folder().join(base), &adapter, &out, &device).unwrap_err();
        assert!(error.is_bad_input() && !out.exists());
        error.to_string()
    };
    let name = |part: &str| format!("base_model.model.{part}");
    let message = refused("tiny-bert", &|tensors| _ = tensors.remove(&name("classifier.bias")));
    assert!(message.contains("lacks 1 tensor that the model needs: classifier.bias"), "{message}");
    let change = |tensors: &mut Tensors| {
        let weight = tensors.get_mut(&name("classifier.weight")).unwrap();
        weight.shape = vec![32, 3];
    };
    let message = refused("tiny-bert-seqcls", &change);
    assert!(
        message.contains("classifier.weight must have shape [32, 32], got [32, 3]"),
        "{message}"
    );
    let change = |tensors: &mut Tensors| {
        let empty = NamedTensor { name: String::new(), shape: vec![1 << 40, 0], values: vec![] };
        tensors.insert(name("classifier.weight"), empty);
    };
    let message = refused("tiny-bert-seqcls", &change);
    assert!(message.contains("classifier.weight must have shape"), "{message}");
    // A classifier without BERT's pooler would get one at random.
    let change = |tensors: &mut Tensors| tensors.retain(|name, _| !name.contains("pooler"));
    let message = refused("tiny-bert-tokcls", &change);
    assert!(message.contains("lacks 2 tensors that the model needs: pooler.dense"), "{message}");
}

#[test]
fn files_that_are_not_there_or_no_adapters_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (error, message) = refusal(dir.path(), &dir.path().join("nowhere"));
    assert!(matches!(error, Error::Read { .. }) && message.contains("nowhere"), "{message}");
    let (dir, adapter) = peft_adapter(|_| {}, |_| {});
    fs::remove_file(adapter.join("adapter_model.safetensors")).unwrap();
    let (_, message) = refusal(dir.path(), &adapter);
    assert!(
        message.ends_with("looked for adapter_model.safetensors, adapter_model.bin"),
        "{message}"
    );
    for text in ["", "[]", "{\"r\": 1", "7"] {
        fs::write(adapter.join("adapter_config.json"), text).unwrap();
        let (_, message) = refusal(dir.path(), &adapter);
        let start = format!("{} is not the JSON", adapter.join("adapter_config.json").display());
        assert!(message.starts_with(&start), "{message}");
    }
    let (dir, adapter) = peft_adapter(|_| {}, |_| {});
    let (_, device) = devices().remove(0);
    let base = folder().join("tiny-bert-seqcls");
    for taken in [&adapter, &base, dir.path()] {
        let error = merge(&base, &adapter, taken, &device).unwrap_err();
        assert!(matches!(error, Error::OutTaken { .. }) && error.is_bad_input(), "{error}");
    }
    let error = merge(dir.path(), &adapter, &dir.path().join("merged"), &device).unwrap_err();
    assert!(error.is_bad_input() && error.to_string().contains("has no config.json"), "{error}");
}

/// The adapters of a run belong to the model that it started from, and have all of what was trained.
#[test]
fn another_base_and_lost_parts_of_a_run_are_refused() {
    let (_, device) = devices().remove(0);
    let dir = tempfile::tempdir().unwrap();
    let config = lora(runs::files(dir.path(), 30, PoolingKind::Cls), "rank=3");
    let (out, merged) = one(dir.path());
    run(&config, &out, false, &device, &mut ()).unwrap();
    let adapter = out.join("adapter");
    let other = words::extended();
    let error = merge(other.path(), &adapter, &merged, &device).unwrap_err();
    assert!(matches!(error, Error::AdapterBase { .. }) && error.is_bad_input(), "{error}");
    let message = error.to_string();
    assert!(message.contains("trained on a model with vocab_size 79, got 82 in"), "{message}");

    // A head of the same shape, were it the base's, would be another model.
    let weights = adapter.join("adapter_model.safetensors");
    let file = Checkpoint::open_file(&weights).unwrap();
    let kept = file.names().filter(|name| !name.ends_with("pooler.dense.bias")).map(|name| {
        let (shape, values) = file.tensor(name).unwrap();
        NamedTensor { name: name.into(), shape, values }
    });
    let kept: Vec<_> = kept.collect();
    write_safetensors(&weights, &kept).unwrap();
    let message = merge(&config.model, &adapter, &merged, &device).unwrap_err().to_string();
    let start =
        format!("{} lacks 1 tensor that the model needs: pooler.dense.bias", weights.display());
    assert!(message.starts_with(&start), "{message}");

    let settings = adapter.join("model");
    fs::write(settings.join("bert-tune.json"), "{}").unwrap();
    let error = merge(&config.model, &adapter, &merged, &device).unwrap_err();
    assert!(matches!(error, Error::Settings { .. }) && error.is_bad_input(), "{error}");
    fs::remove_file(settings.join("config.json")).unwrap();
    fs::copy(out.join("bert-tune.json"), settings.join("bert-tune.json")).unwrap();
    let message = merge(&config.model, &adapter, &merged, &device).unwrap_err().to_string();
    assert!(message.contains("adapter/model has no config.json") && !merged.exists(), "{message}");
}

/// Whatever byte of the config or of the tensors' header is another: an answer or a refusal.
#[test]
fn damage_never_panics() {
    let (_, device) = devices().remove(0);
    let base = folder().join("tiny-bert-seqcls");
    let (dir, adapter) = peft_adapter(|_| {}, |_| {});
    let mut stream = Stream::new(5, Purpose::Sample, 0);
    let mut refused = 0;
    for file in ["adapter_config.json", "adapter_model.safetensors"] {
        let path = adapter.join(file);
        let bytes = fs::read(&path).unwrap();
        for _ in 0..150 {
            let mut damaged = bytes.clone();
            let at = stream.below(bytes.len().min(3000));
            damaged[at] = b"0123456789\"[]{}:,-.aAbB_ \xFF"[stream.below(26)];
            fs::write(&path, &damaged).unwrap();
            let out = dir.path().join("merged");
            match merge(&base, &adapter, &out, &device) {
                Ok(()) => fs::remove_dir_all(&out).unwrap(),
                Err(error) => {
                    assert!(error.is_bad_input() && !out.exists(), "{error}");
                    refused += 1;
                }
            }
        }
        fs::write(&path, bytes).unwrap();
    }
    assert!(refused > 100, "{refused}");
}
