//! What PEFT writes of how adapters are added.

use std::{fs, path::Path};

use serde_json::{Map, Value};

use crate::{
    error::{Error, Result},
    exact_json,
};

/// How adapters are added to their maps: `weight += scale B A`.
#[derive(Debug, PartialEq)]
pub(crate) struct PeftConfig {
    rank: usize,
    /// Whether maps may have other ranks, which their matrices tell.
    has_ranks: bool,
    alpha: f64,
    /// The alphas of modules that have another, by the end of a module's name; the first that fits counts.
    alphas: Vec<(String, f64)>,
    is_rank_stabilised: bool,
    /// Hugging Face's class of the model with a head that they were trained in, where it is known.
    pub(crate) class: Option<String>,
}

/// Keys whose values change nothing of what is added, or are read below.
const KEYS: [&str; 22] = [
    "r",
    "rank_pattern",
    "lora_alpha",
    "alpha_pattern",
    "task_type",
    "auto_mapping",
    "base_model_name_or_path",
    "revision",
    "peft_version",
    "inference_mode",
    "lora_dropout",
    "target_modules",
    "exclude_modules",
    "modules_to_save",
    "layers_to_transform",
    "layers_pattern",
    "loftq_config",
    "corda_config",
    "eva_config",
    "qalora_group_size",
    "megatron_config",
    "megatron_core",
];

/// Ways in which adapters start that leave the model as it was.
const STARTS: [&str; 3] = ["gaussian", "eva", "orthogonal"];

impl PeftConfig {
    /// Reads `adapter_config.json`, and refuses every key that says something and is not understood.
    pub(crate) fn load(path: &Path) -> Result<Self> {
        let bytes = fs::read(path).map_err(|source| Error::Read { path: path.into(), source })?;
        let not_json = |source| bert_core::Error::Json { path: path.into(), source };
        let keys: Map<String, Value> =
            exact_json::from_str(&String::from_utf8_lossy(&bytes)).map_err(not_json)?;
        let refuse = |key: &str, expected| {
            let got = keys.get(key).map_or_else(|| "nothing".to_owned(), Value::to_string);
            Err(Error::AdapterConfig { path: path.into(), key: key.into(), expected, got })
        };
        if keys.get("peft_type").is_none_or(|kind| kind != "LORA") {
            return refuse("peft_type", "\"LORA\"");
        }
        for (key, value) in &keys {
            match key.as_str() {
                "bias" if value != "none" => return refuse(key, "\"none\""),
                "init_lora_weights" => {
                    let is_known = match value {
                        Value::Null | Value::Bool(_) => true,
                        Value::String(start) => STARTS.contains(&start.as_str()),
                        _ => false,
                    };
                    if !is_known {
                        return refuse(key, "true, false, \"gaussian\", \"eva\" or \"orthogonal\"");
                    }
                }
                "use_rslora" if !value.is_boolean() && !value.is_null() => {
                    return refuse(key, "true or false");
                }
                "peft_type" | "bias" | "use_rslora" => {}
                known if KEYS.contains(&known) => {}
                _ if !says_nothing(value) => return refuse(key, "absent, null or false"),
                _ => {}
            }
        }
        let rank = keys.get("r").and_then(Value::as_u64).and_then(|rank| rank.try_into().ok());
        let Some(rank @ 1..) = rank else { return refuse("r", "a whole number from 1") };
        let Some(alpha) = keys.get("lora_alpha").and_then(Value::as_f64) else {
            return refuse("lora_alpha", "a number");
        };
        let Some(alphas) = alphas(keys.get("alpha_pattern").unwrap_or(&Value::Null)) else {
            let expected = "numbers by names of modules (patterns are not followed)";
            return refuse("alpha_pattern", expected);
        };
        let task = keys.get("task_type").and_then(Value::as_str);
        let own = keys.get("auto_mapping").and_then(|own| own["base_model_class"].as_str());
        let class = match task {
            Some("SEQ_CLS") => Some("BertForSequenceClassification"),
            Some("TOKEN_CLS") => Some("BertForTokenClassification"),
            Some("QUESTION_ANS") => Some("BertForQuestionAnswering"),
            _ => own.filter(|own| own.starts_with("BertFor")),
        };
        Ok(Self {
            rank,
            has_ranks: !says_nothing(keys.get("rank_pattern").unwrap_or(&Value::Null)),
            alpha,
            alphas,
            is_rank_stabilised: keys.get("use_rslora").is_some_and(|value| value == true),
            class: class.map(String::from),
        })
    }

    /// The rank of an adapter whose A has this shape.
    pub(crate) fn rank(&self, a: &[usize]) -> usize {
        match a {
            [rank, _] if self.has_ranks && *rank > 0 => *rank,
            _ => self.rank,
        }
    }

    /// What the product of a module's matrices is multiplied with.
    ///
    /// # Source
    /// Root of the rank: Kalajdzievski (arXiv:2312.03732).
    pub(crate) fn scale(&self, module: &str, rank: usize) -> f64 {
        let is_of = |name: &str| {
            let rest = module.strip_suffix(name);
            rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        let own = self.alphas.iter().find(|(name, _)| is_of(name));
        let alpha = own.map_or(self.alpha, |(_, alpha)| *alpha);
        let rank = rank as f64;
        alpha / if self.is_rank_stabilised { rank.sqrt() } else { rank }
    }
}

/// Whether a value is what a key has that is not used.
fn says_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(values) => values.is_empty(),
        Value::Object(values) => values.is_empty(),
        _ => false,
    }
}

/// The alphas of modules, where their names are plain: PEFT takes them for regular expressions.
fn alphas(value: &Value) -> Option<Vec<(String, f64)>> {
    let is_of_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
    let alpha = |(name, alpha): (&String, &Value)| {
        let name = name.replace(r"\.", ".");
        let is_name = !name.is_empty() && name.chars().all(is_of_name);
        Some((name, alpha.as_f64()?)).filter(|_| is_name)
    };
    match value {
        Value::Null => Some(vec![]),
        Value::Object(alphas) => alphas.iter().map(alpha).collect(),
        _ => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn read(text: &str) -> PeftConfig {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("adapter_config.json");
        fs::write(&path, text).unwrap();
        PeftConfig::load(&path).unwrap()
    }

    #[test]
    fn scales_by_hand() {
        let plain = r#"{"peft_type": "LORA", "r": 4, "lora_alpha": 10"#;
        assert_eq!(read(&format!("{plain}}}")).scale("query", 4), 2.5);
        let rooted = read(&format!("{plain}, \"use_rslora\": true}}"));
        assert_eq!((rooted.scale("query", 4), rooted.scale("query", 25)), (5.0, 2.0));
        // The first that fits counts, and only at the end of a name, from a dot.
        let alphas = r#""alpha_pattern": {"1.output.dense": 8, "output\\.dense": 2, "dense": 6}"#;
        let own = read(&format!("{plain}, {alphas}}}"));
        for (module, alpha) in [
            ("layer.1.output.dense", 8.0),
            ("layer.11.output.dense", 2.0),
            ("output.dense", 2.0),
            ("layer.1.attention.output.dense", 2.0),
            ("layer.1.intermediate.dense", 6.0),
            ("pooler.dense.more", 10.0),
            ("condense", 10.0),
        ] {
            assert_eq!(own.scale(module, 2), alpha / 2.0, "{module}");
        }
    }

    /// An alpha is read to the bit, as a run wrote it; `serde_json` alone reads this one as its neighbour.
    #[test]
    fn ranks_and_alphas_as_they_are_written() {
        let alpha = 1.0715660391465826e-75_f64;
        assert_ne!(serde_json::from_str::<f64>(&format!("{alpha:e}")).unwrap(), alpha);
        let own = read(&format!(r#"{{"peft_type": "LORA", "r": 1, "lora_alpha": {alpha:e}}}"#));
        assert_eq!(own.scale("query", 1).to_bits(), alpha.to_bits());
        assert_eq!(own.rank(&[7, 32]), 1);
        let ranks = r#"{"peft_type": "LORA", "r": 3, "lora_alpha": 1, "rank_pattern": {"q.*": 7}}"#;
        let own = read(ranks);
        assert_eq!((own.rank(&[7, 32]), own.rank(&[0, 32]), own.rank(&[7])), (7, 3, 3));
    }

    #[test]
    fn the_class_of_the_model_where_it_has_a_head() {
        let class = |more: &str| {
            read(&format!(r#"{{"peft_type": "LORA", "r": 1, "lora_alpha": 1{more}}}"#)).class
        };
        let own = |name: &str| format!(r#", "auto_mapping": {{"base_model_class": "{name}"}}"#);
        assert_eq!(class(""), None);
        assert_eq!(class(&own("BertModel")), None);
        let questions = own("BertForQuestionAnswering");
        assert_eq!(class(&questions).unwrap(), "BertForQuestionAnswering");
        let task = questions + r#", "task_type": "TOKEN_CLS""#;
        assert_eq!(class(&task).unwrap(), "BertForTokenClassification");
    }
}
