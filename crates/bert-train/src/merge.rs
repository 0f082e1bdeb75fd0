//! Adapters back in the model that they were trained beside.

use std::path::Path;

use bert_core::{
    Bert, BertConfig, Dtype, NamedTensor, Role, add_adapter, parameter_shapes, role,
    write_atomically,
};
use burn::tensor::Device;
use serde_json::json;

use crate::{
    adapter::{SETTINGS_FOLDER, SavedAdapter, SavedPart},
    error::{Error, Result},
    model_dir::{ModelDir, Settings, copy_settings, save_parameters},
    out_dir::make_out,
    trained_model::TrainedModel,
};

/// Heads of Hugging Face's models, and the classes that have one; the first is the usual one.
const HEADS: [(&str, &[&str]); 2] = [
    (
        "classifier",
        &["BertForSequenceClassification", "BertForTokenClassification", "BertForMultipleChoice"],
    ),
    ("qa_outputs", &["BertForQuestionAnswering"]),
];

/// Writes the model in `model` into `out`, which is made, with the adapters in `adapter` added to its maps, and with what was
/// trained beside them.
///
/// Adapters of a run bring the run's settings and labels with them, and give its own model, to the bit. Those that PEFT has
/// written give a model of Hugging Face's, with the labels of `model`, or `LABEL_0` and so on where its head has others.
///
/// # Errors
/// When `model` is no BERT, `adapter` holds no adapters of plain LoRA or those of another model, or `out` is not empty.
pub fn merge(model: &Path, adapter: &Path, out: &Path, device: &Device) -> Result<()> {
    let adapter = SavedAdapter::open(adapter)?;
    let mut base = ModelDir::open(model)?;
    base.checkpoint.require(&parameter_shapes(&Bert::new(&base.config, device), ""))?;
    let folder = adapter.dir.join(SETTINGS_FOLDER);
    let own = Settings::read(&folder)?;
    let own_config = own.as_ref().map(|_| BertConfig::load(&folder)).transpose()?;
    if let Some(config) = &own_config {
        check_sizes(config, &adapter, &base)?;
    }
    let merged = adapter.parts.iter().map(|(name, part)| merged(name, part, &adapter, &base));
    let merged = merged.collect::<Result<Vec<_>>>()?;
    if own.is_some() {
        // What the run had of a head was trained, and so is in its adapter.
        base.checkpoint.retain(|name| role(name) == Role::Encoder);
    }
    base.checkpoint.put(adapter.weights.path(), merged);

    if let (Some(settings), Some(config)) = (own, own_config) {
        let base = ModelDir { config, settings: Some(settings), ..base };
        let model = TrainedModel::of_dir(base, device)?;
        make_out(out)?;
        model.save(out)?;
        return copy_settings(&folder, out);
    }
    let class = class(&adapter, &base);
    // Those of the base hold on, unless its head is another now.
    let is_of_base = |kind: &str| adapter.config.class.as_ref().is_none_or(|own| own == kind);
    base.settings = base.settings.filter(|own| is_of_base(own.kind.architecture()));
    check_head(&base, &class)?;
    name_labels(&mut base);
    if base.settings.is_none() {
        return save_plain(base, &class, out);
    }
    let model = TrainedModel::of_dir(base, device)?;
    make_out(out)?;
    model.save(out)
}

/// A parameter of the model with what the adapters have of it.
fn merged(
    name: &str,
    part: &SavedPart,
    adapter: &SavedAdapter,
    base: &ModelDir,
) -> Result<NamedTensor> {
    let path = || adapter.weights.path().to_owned();
    let shape_of = |tensor: &str| adapter.weights.info(tensor).map(|info| info.shape.clone());
    let check = |tensor: &str, expected: &[usize]| match shape_of(tensor) {
        Some(got) if got != expected => {
            let (expected, tensor, model) = (expected.into(), tensor.into(), base.path.clone());
            Err(Error::AdapterShape { path: path(), tensor, expected, got, model })
        }
        _ => Ok(()),
    };
    let own = base.checkpoint.info(name);
    match part {
        SavedPart::Whole(tensor) => {
            let is_head = matches!(role(name), Role::Pooler | Role::Head);
            match own {
                // A head may have other labels; what is built of it is checked as any other.
                _ if is_head => {}
                Some(own) => check(tensor, &own.shape)?,
                None => return Err(Error::AdapterTensor { path: path(), tensor: tensor.clone() }),
            }
            adapter.tensor(tensor, name)
        }
        SavedPart::Pair { module, a, b } => {
            let lacks =
                || Error::AdapterMap { path: path(), tensor: a.clone(), model: base.path.clone() };
            let own = own.map(|own| &own.shape[..]).filter(|shape| !shape.contains(&0));
            let Some(&[outputs, inputs]) = own else {
                return Err(lacks());
            };
            let rank = adapter.config.rank(&shape_of(a).unwrap_or_default());
            check(a, &[rank, inputs])?;
            check(b, &[outputs, rank])?;
            let (shape, values) = base.checkpoint.tensor(name)?;
            let mut map = NamedTensor { name: name.into(), shape, values };
            let matrices = [adapter.tensor(a, name)?, adapter.tensor(b, name)?];
            add_adapter(&mut map, [&matrices[0], &matrices[1]], adapter.config.scale(module, rank));
            Ok(map)
        }
    }
}

/// Refuses a model that is not of the sizes of the one that a run started from.
fn check_sizes(own: &BertConfig, adapter: &SavedAdapter, base: &ModelDir) -> Result<()> {
    let sizes = |config: &BertConfig| {
        [
            ("vocab_size", config.vocab_size),
            ("hidden_size", config.hidden_size),
            ("num_hidden_layers", config.num_hidden_layers),
            ("num_attention_heads", config.num_attention_heads),
            ("intermediate_size", config.intermediate_size),
            ("max_position_embeddings", config.max_position_embeddings),
            ("type_vocab_size", config.type_vocab_size),
        ]
    };
    let differing = sizes(own).into_iter().zip(sizes(&base.config)).find(|(own, base)| own != base);
    match differing {
        None => Ok(()),
        Some(((key, expected), (_, got))) => {
            let (path, model) = (adapter.dir.clone(), base.path.clone());
            Err(Error::AdapterBase { path, model, key, expected, got })
        }
    }
}

/// Hugging Face's class of the merged model: one that has the head that is there.
fn class(adapter: &SavedAdapter, merged: &ModelDir) -> String {
    let base = merged.architecture();
    let head = HEADS.iter().find(|(head, _)| merged.has(&format!("{head}.weight")));
    let class = match head {
        None => base.unwrap_or("BertModel"),
        Some((_, classes)) => {
            let named = [adapter.config.class.as_deref(), base].into_iter().flatten();
            named.into_iter().find(|class| classes.contains(class)).unwrap_or(classes[0])
        }
    };
    class.to_owned()
}

/// Refuses a head, or BERT's pooler, that is not whole or of another width.
fn check_head(merged: &ModelDir, class: &str) -> Result<()> {
    let (checkpoint, width) = (&merged.checkpoint, merged.config.hidden_size);
    let names = |module: &str| ["weight", "bias"].map(|part| format!("{module}.{part}"));
    let mut needed = vec![];
    for (head, _) in HEADS {
        let [weight, bias] = names(head);
        if let Some(info) = checkpoint.info(&weight).or(checkpoint.info(&bias)) {
            let outputs = info.shape.first().copied().unwrap_or_default();
            needed.extend([(weight, vec![outputs, width]), (bias, vec![outputs])]);
        }
    }
    let [weight, bias] = names("pooler.dense");
    let pools = ["BertForSequenceClassification", "BertForMultipleChoice"].contains(&class);
    // Our settings say which pooling there is.
    if pools && merged.settings.is_none() || merged.has(&weight) || merged.has(&bias) {
        needed.extend([(weight, vec![width, width]), (bias, vec![width])]);
    }
    Ok(checkpoint.require(&needed)?)
}

/// Gives a classifier the names of its labels, where it has others than the base.
fn name_labels(merged: &mut ModelDir) {
    let rows = merged.checkpoint.info("classifier.weight").and_then(|info| info.shape.first());
    if let Some(rows) = rows {
        let is_of_base = |labels: &Vec<String>| labels.len() == *rows;
        merged.config.id2label = merged.config.id2label.take().filter(is_of_base);
        merged.config.id2label = Some(merged.labels());
    }
}

/// Writes a model of Hugging Face's.
fn save_plain(merged: ModelDir, class: &str, out: &Path) -> Result<()> {
    let ModelDir { mut config, tokenizer, checkpoint, .. } = merged;
    let spelt = |name: &str| match role(name) {
        Role::Encoder | Role::Pooler if class != "BertModel" => format!("bert.{name}"),
        _ => name.to_owned(),
    };
    // Counts of positions, which old checkpoints have, are no parameters.
    let is_parameter =
        |name: &&str| checkpoint.info(name).is_some_and(|info| info.dtype != Dtype::I64);
    let parameters = checkpoint.names().filter(is_parameter).map(|name| {
        let (shape, values) = checkpoint.tensor(name)?;
        Ok(NamedTensor { name: spelt(name), shape, values })
    });
    let parameters = parameters.collect::<Result<Vec<_>>>()?;
    make_out(out)?;
    config.extra.insert("architectures".into(), json!([class]));
    write_atomically(out.join("config.json"), config.to_json().as_bytes())?;
    tokenizer.save(out)?;
    save_parameters(out, &parameters)
}
