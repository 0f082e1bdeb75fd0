//! Adapters against PEFT: values, gradients, and what is merged.

use std::collections::HashMap;

use bert_core::{BertConfig, EncoderInput, LoraConfig};
use bert_heads::{CrossEntropy, SequenceClassifier};
use burn::{
    module::{Module, ModuleMapper, Param},
    tensor::{Device, Gradients, Tensor},
};
use safetensors::SafeTensors;

use crate::{
    classifier::classifier,
    reference::{
        assert_close, assert_gradient, devices, floats, folder, host, integers, json, padded_batch,
        values,
    },
};

const CONFIG: &str =
    "rank=5,alpha=7.5,dropout=0,targets=query+key+value+attention-output+intermediate+output";

/// The tensors of a file by name.
fn tensors(file: &str) -> HashMap<String, (Vec<usize>, Vec<f32>)> {
    let bytes = std::fs::read(folder().join(file)).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let of = |(name, view): (&str, safetensors::tensor::TensorView)| {
        let values = view.data().chunks_exact(4);
        let values = values.map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        (name.to_owned(), (view.shape().to_vec(), values))
    };
    file.iter().map(of).collect()
}

/// PEFT's name of one of our parameters.
fn peft(name: &str) -> String {
    let name = name.replace(".lora.a.", ".lora_A.").replace(".lora.b.", ".lora_B.");
    format!("base_model.model.{name}")
}

/// The classifier of the reference with the adapters, the pooler and the head that PEFT wrote.
fn adapted(device: &Device) -> SequenceClassifier {
    let mut model = classifier(device);
    model.bert = model.bert.with_lora(&CONFIG.parse().unwrap(), 0);
    let mut written = tensors("tiny-bert-lora/adapter_model.safetensors");
    let model = model
        .set_parameters(|name, shape| {
            let found = written.remove(&peft(name));
            Ok(found.map(|(found, values)| {
                assert_eq!(found, shape, "{name}");
                values
            }))
        })
        .unwrap();
    assert!(written.is_empty(), "{:?}", written.keys());
    model
}

fn batch(device: &Device) -> EncoderInput {
    let (ids, types, mask) = padded_batch(&values()["batch"], device);
    EncoderInput::from_padded(ids, types, mask)
}

/// Puts the gradient of each parameter that is trained in its place, and sees that the others have none.
struct IntoGradients<'a>(&'a Gradients);

impl ModuleMapper for IntoGradients<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let gradient = param.val().grad(self.0);
        assert_eq!(gradient.is_some(), param.is_require_grad());
        match gradient {
            Some(gradient) => Param::initialized(param.id, gradient),
            None => param,
        }
    }
}

#[test]
fn logits_loss_and_gradients_are_those_of_peft() {
    let reference = values();
    let expected = json("lora.json");
    let labels = integers(&reference["sequence_classification"]["labels"]);
    let labels: Vec<Option<u32>> = labels.into_iter().map(|label| Some(label as u32)).collect();
    for (name, device) in devices() {
        let device = device.autodiff();
        let model = adapted(&device);
        let logits = model.forward(&batch(&device), None);
        assert_close(name, &host(logits.clone()), &floats(&expected["logits"]), 2e-5);
        let loss = CrossEntropy::default().forward(logits, &labels);
        assert_close(name, &host(loss.clone()), &floats(&expected["loss"]), 2e-5);

        let grads = loss.backward();
        let mut expected = tensors("lora_gradients.safetensors");
        for tensor in model.map(&mut IntoGradients(&grads)).named_parameters() {
            if let Some((shape, values)) = expected.remove(&peft(&tensor.name)) {
                assert_eq!(tensor.shape, shape, "{}", tensor.name);
                assert_gradient(&tensor.name, &tensor.values, &values);
            }
        }
        assert!(expected.is_empty(), "{:?}", expected.keys());
    }
}

/// With the adapters merged, the plain classifier computes the same.
#[test]
fn merged_is_unmerged() {
    let config: LoraConfig = CONFIG.parse().unwrap();
    for (name, device) in devices() {
        let model = adapted(&device);
        let merged = config.merge(model.named_parameters());
        let mut merged: HashMap<String, Vec<f32>> =
            merged.into_iter().map(|tensor| (tensor.name, tensor.values)).collect();
        let plain = classifier(&device).set_parameters(|name, _| Ok(merged.remove(name))).unwrap();
        assert!(merged.is_empty(), "{:?}", merged.keys());
        let [plain, adapted] =
            [plain, model].map(|model| host(model.forward(&batch(&device), None)));
        assert_close(name, &plain, &adapted, 2e-5);
    }
}

/// Until the first step the adapters do nothing, with dropout and without.
#[test]
fn a_new_adapter_changes_no_bit() {
    let config = BertConfig::load(folder().join("tiny-bert-seqcls")).unwrap();
    assert_eq!(config.num_hidden_layers, 2);
    for (name, device) in devices() {
        let plain = classifier(&device);
        let mut adapted = plain.clone();
        adapted.bert = adapted.bert.with_lora(&LoraConfig::new(3), 7);
        // Two layers, two maps, two matrices of 32 x 3.
        assert_eq!(adapted.num_params() - plain.num_params(), 2 * 2 * 2 * 96);
        for key in [None, Some(bert_core::pass_key(3, 1, 0, 0))] {
            let [plain, adapted] =
                [&plain, &adapted].map(|model| host(model.forward(&batch(&device), key)));
            assert_eq!(plain, adapted, "{name}");
        }
    }
}

/// What an adapter drops of its input it drops in training alone, and it is other elements in each map.
#[test]
fn an_adapter_drops_in_training() {
    let (_, device) = devices().remove(0);
    let with = |config: &str| {
        let mut model = adapted(&device);
        let values = model.named_parameters();
        model.bert = model.bert.with_lora(&config.parse().unwrap(), 0);
        let value = |name: &str| values.iter().find(|tensor| tensor.name == name);
        model.set_parameters(|name, _| Ok(value(name).map(|tensor| tensor.values.clone()))).unwrap()
    };
    let key = Some(bert_core::pass_key(3, 1, 0, 0));
    let never = with(CONFIG);
    let often = with(&CONFIG.replace("dropout=0", "dropout=0.5"));
    let run = |model: &SequenceClassifier, key| host(model.forward(&batch(&device), key));
    assert_eq!(run(&never, None), run(&often, None));
    assert_eq!(run(&never, None), run(&never, key));
    assert_ne!(run(&often, None), run(&often, key));
    assert_eq!(run(&often, key), run(&often, key));
}
