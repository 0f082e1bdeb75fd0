//! What a run with LoRA has trained, without the model that it started from: `OUT/adapter`, in PEFT's layout, with our
//! settings and the labels beside it, which PEFT passes over.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use bert_core::{
    BertConfig, Checkpoint, LoraConfig, NamedTensor, write_atomically, write_safetensors,
};
use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::Tensor;
use serde_json::json;

use crate::{
    error::{Error, Result},
    model_dir::{copy_settings, save_parameters},
    observer::Observer,
    peft_config::PeftConfig,
    recipe::Recipe,
    word_config::TrainEmbeddings,
};

/// Its files in a run's directory.
pub(crate) const ADAPTER_FILES: [&str; 4] = [
    "adapter/adapter_model.safetensors",
    "adapter/adapter_config.json",
    "adapter/model/bert-tune.json",
    "adapter/model/config.json",
];

/// The folder of the run's settings beside its adapters, away from them: a `config.json` makes a folder a model for transformers.
pub(crate) const SETTINGS_FOLDER: &str = "model";

/// PEFT's file of settings.
const CONFIG_FILE: &str = "adapter_config.json";

/// The files of weights that PEFT writes, the first that exists being taken.
const WEIGHTS_FILES: [&str; 2] = ["adapter_model.safetensors", "adapter_model.bin"];

/// Begins the name of every parameter.
const PREFIX: &str = "base_model.model.";

/// End the names of an adapter's two matrices.
const SUFFIXES: [&str; 2] = [".lora_A.weight", ".lora_B.weight"];

/// What is written of a run with LoRA.
#[derive(Debug, Clone)]
pub(crate) struct Adapter {
    lora: LoraConfig,
    base: PathBuf,
    words: TrainEmbeddings,
}

impl Adapter {
    /// The adapters of a run that starts from the model in `base`.
    pub(crate) fn new(lora: &LoraConfig, base: &Path, words: TrainEmbeddings) -> Self {
        Self { lora: lora.clone(), base: base.into(), words }
    }

    /// Writes the model with its adapters merged, as any other, and the adapters, with its settings, beside it.
    pub(crate) fn save(&self, out: &Path, parameters: Vec<NamedTensor>) -> Result<()> {
        let dir = out.join("adapter");
        let unusable = |source| Error::Out { path: dir.clone(), source };
        let settings = dir.join(SETTINGS_FOLDER);
        fs::create_dir_all(&settings).map_err(unusable)?;
        let trained = self.trained(&parameters);
        let modules: BTreeSet<&str> =
            trained.iter().filter_map(|tensor| module_to_save(&tensor.name)).collect();
        let config = serde_json::to_string_pretty(&self.config(&modules))
            .expect("plain values under string keys"); // INVARIANT: it is written out below
        write_safetensors(dir.join(WEIGHTS_FILES[0]), &trained)?;
        write_atomically(dir.join(CONFIG_FILE), (config + "\n").as_bytes())?;
        copy_settings(out, &settings)?;
        save_parameters(out, &self.lora.merge(parameters))
    }

    /// What was trained, by PEFT's names: the adapters, and the modules that are none of the encoder's.
    fn trained(&self, parameters: &[NamedTensor]) -> Vec<NamedTensor> {
        let is_trained = |name: &str| {
            let is_of_encoder = name.starts_with("bert.") && !name.starts_with("bert.pooler.");
            let is_table = name == "bert.embeddings.word_embeddings.weight";
            let trains_words = self.words == TrainEmbeddings::New;
            LoraConfig::is_adapter(name) || !is_of_encoder || is_table && trains_words
        };
        let trained = parameters.iter().filter(|tensor| is_trained(&tensor.name)).cloned();
        let named = trained.map(|tensor| NamedTensor {
            name: PREFIX.to_owned()
                + &tensor
                    .name
                    .replace(".lora.a.weight", SUFFIXES[0])
                    .replace(".lora.b.weight", SUFFIXES[1]),
            ..tensor
        });
        named.collect()
    }

    /// PEFT's config.
    fn config(&self, modules: &BTreeSet<&str>) -> serde_json::Value {
        let LoraConfig { rank, alpha, dropout, targets } = &self.lora;
        let paths: Vec<String> =
            targets.iter().map(|target| target.path().replace('.', r"\.")).collect();
        json!({
            "peft_type": "LORA",
            "base_model_name_or_path": self.base,
            "task_type": null,
            "inference_mode": true,
            "r": rank,
            "lora_alpha": alpha,
            "lora_dropout": dropout,
            // PEFT compares it with whole names; the ends of names alone do not tell the two that end in output.dense.
            "target_modules": format!(r"(.*\.)?encoder\.layer\.\d+\.({})", paths.join("|")),
            "modules_to_save": modules,
            "bias": "none",
            "fan_in_fan_out": false,
            "init_lora_weights": true,
        })
    }
}

/// The module, by the end of its name, that PEFT saves whole for a parameter that is none of an adapter.
fn module_to_save(name: &str) -> Option<&str> {
    let name = name.strip_prefix(PREFIX)?;
    let name = name.strip_prefix("bert.").unwrap_or(name);
    let name = name.strip_prefix("embeddings.").unwrap_or(name);
    name.split('.').next().filter(|module| *module != "encoder")
}

/// Adapters that a run or PEFT has written into a directory.
#[derive(Debug)]
pub(crate) struct SavedAdapter {
    pub(crate) dir: PathBuf,
    pub(crate) config: PeftConfig,
    pub(crate) weights: Checkpoint,
    /// What there is of each parameter of the model, by the name that the model's checkpoint has for it.
    pub(crate) parts: BTreeMap<String, SavedPart>,
}

/// What a file of adapters has of a parameter; tensors by their names in the file.
#[derive(Debug, PartialEq)]
pub(crate) enum SavedPart {
    /// The parameter itself.
    Whole(String),
    /// What is added to it.
    Pair {
        /// The module that the parameter is the weight of, as PEFT knows it.
        module: String,
        a: String,
        b: String,
    },
}

impl SavedAdapter {
    /// Reads all but the values.
    pub(crate) fn open(dir: &Path) -> Result<Self> {
        let config = PeftConfig::load(&dir.join(CONFIG_FILE))?;
        let file = WEIGHTS_FILES.map(|name| dir.join(name)).into_iter().find(|path| path.is_file());
        let missing = || bert_core::Error::WeightsMissing {
            dir: dir.into(),
            looked_for: WEIGHTS_FILES.join(", "),
        };
        let weights = Checkpoint::open_file(file.ok_or_else(missing)?)?;
        let parts = parts_of(&weights)?;
        Ok(Self { dir: dir.into(), config, weights, parts })
    }

    /// The tensor of this name in the file, as the parameter `name` or a matrix of its adapter.
    pub(crate) fn tensor(&self, tensor: &str, name: &str) -> Result<NamedTensor> {
        let (shape, values) = self.weights.tensor(tensor)?;
        Ok(NamedTensor { name: name.into(), shape, values })
    }
}

/// Sorts the tensors of a file of adapters by the parameters that they are for.
fn parts_of(weights: &Checkpoint) -> Result<BTreeMap<String, SavedPart>> {
    let path = || weights.path().to_owned();
    // The module, and the names of the parameter itself, of A, and of B.
    let mut found: BTreeMap<String, (&str, [Option<&str>; 3])> = BTreeMap::new();
    for name in weights.names() {
        let unknown = || Error::AdapterTensor { path: path(), tensor: name.into() };
        let parameter = name.strip_prefix(PREFIX).ok_or_else(unknown)?;
        let side = SUFFIXES.iter().position(|suffix| parameter.ends_with(suffix));
        let module = side
            .map_or(parameter, |side| parameter.strip_suffix(SUFFIXES[side]).unwrap_or(parameter));
        if module.contains("lora_") {
            return Err(unknown());
        }
        let base = module.strip_prefix("bert.").unwrap_or(module);
        let base = if side.is_some() { format!("{base}.weight") } else { base.to_owned() };
        let (_, names) = found.entry(base.clone()).or_insert((module, [None; 3]));
        let first = match side {
            None => names.iter().flatten().next().copied(),
            Some(side) => names[0].or(names[side + 1]),
        };
        if let Some(first) = first {
            let [first, second] = [first, name].map(String::from);
            return Err(bert_core::Error::DuplicateTensor {
                path: path(),
                tensor: base,
                first,
                second,
            }
            .into());
        }
        names[side.map_or(0, |side| side + 1)] = Some(name);
    }
    let part = |(base, (module, names)): (String, (&str, [Option<&str>; 3]))| {
        let part = match names {
            [Some(whole), ..] => SavedPart::Whole(whole.into()),
            [None, Some(a), Some(b)] => {
                SavedPart::Pair { module: module.into(), a: a.into(), b: b.into() }
            }
            [None, a, _] => {
                let missing = SUFFIXES[usize::from(a.is_some())];
                let missing = format!("{PREFIX}{module}{missing}");
                return Err(Error::AdapterHalf { path: path(), missing });
            }
        };
        Ok((base, part))
    };
    found.into_iter().map(part).collect()
}

/// Refuses adapters that are wider than the maps beside which they stand, and maps that would stay at random values.
pub(crate) fn check_lora(lora: &LoraConfig, config: &BertConfig, recipe: &Recipe) -> Result<()> {
    let (rank, hidden_size) = (lora.rank, config.hidden_size);
    if rank > hidden_size {
        return Err(Error::LoraRank { rank, hidden_size });
    }
    if let Some(layers) = recipe.layers.reinit.filter(|layers| *layers > 0) {
        return Err(Error::LoraAnew { layers });
    }
    if recipe.layers.unfreeze_every.is_some() {
        return Err(Error::LoraFrozen { key: "unfreeze-every trains the layers themselves" });
    }
    let layers = config.num_hidden_layers;
    match recipe.layers.always_frozen(layers) > layers {
        true => Err(Error::LoraFrozen { key: "freeze keeps the adapters of all of them, too" }),
        false => Ok(()),
    }
}

/// Says how much of a model is trained.
pub(crate) fn say_trained<M: Module>(model: &M, observer: &mut dyn Observer) {
    struct Trained(usize);
    impl ModuleVisitor for Trained {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if param.is_require_grad() {
                self.0 += param.shape().num_elements();
            }
        }
    }
    let mut trained = Trained(0);
    model.clone().train().visit(&mut trained);
    let (trained, all) = (trained.0, model.num_params());
    observer.notice(&format!(
        "LoRA: {trained} of {all} parameters are trained ({:.2} %), the encoder keeps its own",
        100.0 * trained as f64 / all as f64
    ));
}
