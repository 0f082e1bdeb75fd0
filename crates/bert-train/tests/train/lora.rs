//! Runs with adapters: what is trained, what is written, what is refused.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::Path,
};

use bert_core::LoraConfig;
use bert_heads::PoolingKind;
use bert_train::{
    Baselines, Error, Every, Freeze, Layers, Observer, Optimizer, Recipe, RunConfig,
    TextClassifier, TrainedModel, learning_rates, run, run_tasks,
};
use burn::{module::Module, tensor::Device};
use safetensors::SafeTensors;
use serde_json::Value;

use crate::{
    multi_task::opposites,
    new_head, one_step,
    reference::{devices, folder},
    runs::files,
    steps::batch,
};

/// The tensors of a file by name.
fn tensors(path: &Path) -> BTreeMap<String, Vec<f32>> {
    let bytes = fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let of = |(name, view): (&str, safetensors::tensor::TensorView)| {
        let values = view.data().chunks_exact(4);
        let values = values.map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        (name.to_owned(), values)
    };
    file.iter().map(of).collect()
}

#[derive(Default)]
struct Notices(Vec<String>);

impl Observer for Notices {
    fn notice(&mut self, text: &str) {
        self.0.push(text.to_owned());
    }
}

/// A run of `tiny-bert` in `dir/out`, and what it said.
fn run_with(lora: &str, dir: &Path, device: &Device) -> (RunConfig, Notices) {
    let mut config = files(dir, 30, PoolingKind::Cls);
    config.lora = Some(lora.parse().unwrap());
    config.recipe = Recipe { epochs: 2, learning_rate: 1e-2, ..config.recipe };
    config.recipe.control.checkpoint_every = Every::Epoch;
    let mut notices = Notices::default();
    run(&config, &dir.join("out"), false, device, &mut notices).unwrap();
    (config, notices)
}

/// Everything by PEFT's names, and nothing else: adapters of two layers, the pooler and the head.
#[test]
fn what_is_written_is_what_peft_reads() {
    let (_, device) = devices().remove(0);
    let dir = tempfile::tempdir().unwrap();
    let (config, notices) = run_with("rank=3,targets=query+output", dir.path(), &device);
    let out = dir.path().join("out");
    let adapter = tensors(&out.join("adapter/adapter_model.safetensors"));
    let known = tensors(&folder().join("tiny-bert-lora/adapter_model.safetensors"));
    assert!(adapter.keys().all(|name| known.contains_key(name)), "{:?}", adapter.keys());
    // Two matrices of two maps of two layers, a weight and a bias of the pooler and of the head.
    assert_eq!(adapter.len(), 2 * 2 * 2 + 4);
    // Ranks of 3, hidden_size 32, intermediate_size 64, two labels.
    let adapters = 2 * (3 * (32 + 32) + 3 * (64 + 32));
    let trained = adapters + (32 * 32 + 32) + (32 * 2 + 2);
    assert_eq!(adapter.values().map(Vec::len).sum::<usize>(), trained);
    let said = format!("LoRA: {trained} of ");
    assert!(notices.0.iter().any(|text| text.starts_with(&said)), "{:?}", notices.0);

    let json = |path: &Path| -> Value { serde_json::from_slice(&fs::read(path).unwrap()).unwrap() };
    let (own, peft) = (
        json(&out.join("adapter/adapter_config.json")),
        json(&folder().join("tiny-bert-lora/adapter_config.json")),
    );
    let keys = own.as_object().unwrap().keys();
    assert!(keys.clone().all(|key| peft.get(key).is_some()), "{keys:?}");
    assert_eq!((&own["r"], &own["lora_alpha"]), (&3.into(), &16.0.into()));
    assert_eq!(own["modules_to_save"], serde_json::json!(["classifier", "pooler"]));
    assert_eq!(own["base_model_name_or_path"], config.model.to_str().unwrap());
    let expected = r"(.*\.)?encoder\.layer\.\d+\.(attention\.self\.query|output\.dense)";
    assert_eq!(own["target_modules"], expected);

    // A checkpoint is as small: what is trained, and two moments of each.
    let newest = fs::read_dir(out.join("checkpoints")).unwrap().next().unwrap().unwrap().path();
    let numbers = |file: &str| tensors(&newest.join(file)).values().map(Vec::len).sum::<usize>();
    assert_eq!(numbers("weights.safetensors"), trained);
    assert_eq!(numbers("best.safetensors"), trained);
    assert_eq!(numbers("optimizer.safetensors"), 2 * trained);
}

/// The model in OUT is a plain one: the base to the bit where nothing was trained, and base and adapters elsewhere.
#[test]
fn the_model_is_the_base_with_its_adapters_merged() {
    let (_, device) = devices().remove(0);
    let dir = tempfile::tempdir().unwrap();
    let (config, _) = run_with("rank=3,alpha=6", dir.path(), &device);
    let out = dir.path().join("out");
    let base = tensors(&config.model.join("model.safetensors"));
    let merged = tensors(&out.join("model.safetensors"));
    let adapter = tensors(&out.join("adapter/adapter_model.safetensors"));
    for (name, values) in &merged {
        let plain = name.strip_prefix("bert.").unwrap_or(name);
        if adapter.contains_key(&format!("base_model.model.{name}")) {
            assert!(["pooler", "classifier"].contains(&plain.split('.').next().unwrap()));
            continue;
        }
        let part = |part: &str| {
            let map = name.strip_suffix(".weight")?;
            adapter.get(&format!("base_model.model.{map}.lora_{part}.weight"))
        };
        let Some((a, b)) = part("A").zip(part("B")) else {
            assert_eq!(values, &base[plain], "{name}");
            continue;
        };
        assert!(b.iter().any(|value| *value != 0.0), "{name} was not trained");
        for (place, value) in values.iter().enumerate() {
            let (output, input) = (place / 32, place % 32);
            let product: f32 = (0..3).map(|k| b[output * 3 + k] * a[k * 32 + input]).sum();
            // alpha / rank = 2
            let expected = base[plain][place] + 2.0 * product;
            assert!((value - expected).abs() < 1e-6, "{name}: {value}, not {expected}");
        }
    }
    assert!(matches!(TrainedModel::load(&out, &device).unwrap(), TrainedModel::Classifier(_)));
}

/// Adapters learn at the encoder's rate, the head at its own, and nothing else of the encoder moves.
#[test]
fn adapters_and_head_learn_at_their_rates() {
    let (_, device) = devices().remove(0);
    let device = device.autodiff();
    let classifier = new_head(PoolingKind::Mean, 0, &device);
    let classifier = classifier.with_lora(Some(&LoraConfig::new(3)), &Recipe::default()).unwrap();
    let parameters = |model: &bert_heads::SequenceClassifier| -> HashMap<String, Vec<f32>> {
        model.named_parameters().into_iter().map(|tensor| (tensor.name, tensor.values)).collect()
    };
    let model = classifier.model.train();
    let before = parameters(&model);
    let (input, labels) = batch(&device);
    let recipe =
        Recipe { learning_rate: 1e-4, head_learning_rate: Some(1e-3), ..Recipe::default() };
    let rates = learning_rates(&recipe, 2, 1.0);
    let step = one_step(model, &mut Optimizer::new(&recipe), (&input, &labels), rates);
    for (name, after) in parameters(&step.model) {
        let pairs = before[&name].iter().zip(&after);
        let change = pairs.map(|(before, after)| (before - after).abs()).fold(0.0, f32::max);
        // AdamW's first step moves a weight by its rate where it has a gradient. That of A is 0 as long as B is: it decays
        // by 1e-4 x 0.01 of values up to 1 / sqrt(32).
        let expected = match name.as_str() {
            "classifier.weight" => 9.5e-4..1.05e-3,
            "classifier.bias" => 9.5e-4..1.05e-3,
            name if name.ends_with("lora.b.weight") => 9.5e-5..1.05e-4,
            name if name.ends_with("lora.a.weight") => 1e-9..1.8e-7,
            _ => 0.0..f32::MIN_POSITIVE,
        };
        assert!(expected.contains(&change), "{name}: {change}");
    }
}

/// Several tasks share the adapters, and their file has the head of each.
#[test]
fn several_tasks_train_adapters() {
    let (_, device) = devices().remove(0);
    let dir = tempfile::tempdir().unwrap();
    let mut config = opposites(dir.path());
    config.lora = Some(LoraConfig::new(3));
    config.recipe.epochs = 1;
    let out = dir.path().join("out");
    run_tasks(&config, &out, false, &Baselines::None, &device, &mut ()).unwrap();
    let adapter = tensors(&out.join("adapter/adapter_model.safetensors"));
    assert_eq!(adapter.len(), 2 * 2 * 2 + 2 * 2);
    assert!(adapter.contains_key("base_model.model.tasks.opposite.classifier.weight"));
    let base = tensors(&config.model.join("model.safetensors"));
    let merged = tensors(&out.join("model.safetensors"));
    let word = "embeddings.word_embeddings.weight";
    assert_eq!(merged[&format!("bert.{word}")], base[word]);
    let text = fs::read_to_string(out.join("run.toml")).unwrap();
    assert!(text.contains("lora = \"rank=3,alpha=16,dropout=0.1,targets=query+value\""), "{text}");
}

/// A run over one with adapters leaves none of them behind.
#[test]
fn adapters_of_an_earlier_run_are_taken_away() {
    let (_, device) = devices().remove(0);
    let dir = tempfile::tempdir().unwrap();
    let (mut config, _) = run_with("rank=3", dir.path(), &device);
    config.lora = None;
    let out = dir.path().join("out");
    let files = || {
        let folders =
            ["adapter", "adapter/model"].map(|name| fs::read_dir(out.join(name)).unwrap());
        folders.into_iter().flatten().filter(|file| file.as_ref().unwrap().path().is_file()).count()
    };
    assert_eq!(files(), 4);
    run(&config, &out, true, &device, &mut ()).unwrap();
    assert_eq!(files(), 0);
    assert!(TextClassifier::load(&out, &device).is_ok());
}

#[test]
fn adapters_that_cannot_be_trained_are_refused() {
    let (_, device) = devices().remove(0);
    let dir = tempfile::tempdir().unwrap();
    let base = files(dir.path(), 30, PoolingKind::Mean);
    let refused = |config: &RunConfig| {
        let out = dir.path().join("out");
        let error = run(config, &out, false, &device, &mut ()).unwrap_err();
        assert!(error.is_bad_input() && !out.exists(), "{error}");
        error
    };
    let wide = RunConfig { lora: Some(LoraConfig::new(33)), ..base.clone() };
    let error = refused(&wide);
    assert!(matches!(error, Error::LoraRank { rank: 33, hidden_size: 32 }), "{error}");
    let mut frozen = RunConfig { lora: Some(LoraConfig::new(3)), ..base };
    frozen.recipe.layers.reinit = Some(1);
    let error = refused(&frozen);
    assert!(matches!(error, Error::LoraAnew { layers: 1 }), "{error}");
    frozen.recipe.layers.reinit = None;
    frozen.recipe.layers.freeze = Some(Freeze::Encoder);
    let error = refused(&frozen);
    assert!(matches!(error, Error::FrozenInput { key: "lora" }), "{error}");
    frozen.recipe.layers.freeze = Some(Freeze::Layers(2));
    let error = refused(&frozen).to_string();
    assert!(error.starts_with("lora trains adapters") && error.contains("fewer layers"), "{error}");
    frozen.recipe.layers = Layers { unfreeze_every: Some(Every::Epoch), ..Layers::default() };
    let error = refused(&frozen).to_string();
    assert!(error.contains("unfreeze-every trains the layers themselves"), "{error}");
    let path = dir.path().join("run.toml");
    let text = frozen.to_toml().unwrap();
    fs::write(&path, text.replace("query+value", "values")).unwrap();
    let error = RunConfig::load(&path, toml::Table::new()).unwrap_err().to_string();
    assert!(error.contains("lora: unknown target \"values\": expected query"), "{error}");
}
