//! What a run with LoRA has trained, without the model that it started from: `OUT/adapter`, in PEFT's layout.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use bert_core::{BertConfig, LoraConfig, NamedTensor, write_atomically, write_safetensors};
use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::Tensor;
use serde_json::json;

use crate::{
    error::{Error, Result},
    model_dir::save_parameters,
    observer::Observer,
    recipe::Recipe,
    word_config::TrainEmbeddings,
};

/// Its files in a run's directory.
pub(crate) const ADAPTER_FILES: [&str; 2] =
    ["adapter/adapter_model.safetensors", "adapter/adapter_config.json"];

/// Begins the name of every parameter.
const PREFIX: &str = "base_model.model.";

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

    /// Writes the model with its adapters merged, as any other, and the adapters beside it.
    pub(crate) fn save(&self, out: &Path, parameters: Vec<NamedTensor>) -> Result<()> {
        let dir = out.join("adapter");
        fs::create_dir_all(&dir).map_err(|source| Error::Out { path: dir, source })?;
        let trained = self.trained(&parameters);
        let modules: BTreeSet<&str> =
            trained.iter().filter_map(|tensor| module_to_save(&tensor.name)).collect();
        let config = serde_json::to_string_pretty(&self.config(&modules))
            .expect("plain values under string keys"); // INVARIANT: it is written out below
        let [weights_file, config_file] = ADAPTER_FILES.map(|name| out.join(name));
        write_safetensors(weights_file, &trained)?;
        write_atomically(config_file, (config + "\n").as_bytes())?;
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
                    .replace(".lora.a.weight", ".lora_A.weight")
                    .replace(".lora.b.weight", ".lora_B.weight"),
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
