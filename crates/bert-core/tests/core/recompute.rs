//! Layers that run again on the way back: the same values and gradients, the same dropout.

use std::collections::BTreeMap;

use bert_core::{Bert, BertConfig, Documents, EncoderInput, LoraConfig, initialise, pass_key};
use bert_kernels::Sequences;
use burn::{
    module::{Module, ModuleVisitor, Param},
    tensor::{Device, Gradients, Int, Tensor},
};

use crate::reference::{devices, host};

const LENGTHS: [usize; 3] = [5, 1, 11];

fn model(device: &Device) -> Bert {
    let config = BertConfig {
        vocab_size: 41,
        hidden_size: 22,
        num_hidden_layers: 4,
        num_attention_heads: 2,
        intermediate_size: 37,
        max_position_embeddings: 13,
        hidden_dropout_prob: 0.2,
        attention_probs_dropout_prob: 0.3,
        ..BertConfig::default()
    };
    initialise(Bert::new(&config, device), "", 5, 0.3)
}

fn input(device: &Device) -> EncoderInput {
    let sequences = Sequences::from_lengths(&LENGTHS);
    let ints = |values: Vec<i64>| Tensor::<1, Int>::from_data(values.as_slice(), device);
    let tokens = sequences.tokens() as i64;
    EncoderInput {
        input_ids: ints((0..tokens).map(|token| token * 5 % 41).collect()),
        token_type_ids: ints((0..tokens).map(|token| token % 2).collect()),
        position_ids: ints(sequences.ranges().flat_map(|range| 0..range.len() as i64).collect()),
        documents: Documents::of_sequences(&sequences),
        sequences,
        shift: None,
    }
}

/// The gradients by the paths of their parameters.
struct Named<'a> {
    gradients: &'a Gradients,
    path: Vec<String>,
    found: BTreeMap<String, Vec<f32>>,
}

impl ModuleVisitor for Named<'_> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }
    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = param.val().grad(self.gradients) {
            self.found.insert(self.path.join("."), host(gradient));
        }
    }
}

/// The output of `forward`, and the gradients of a loss that weighs each number of it differently.
fn run(
    mut model: Bert,
    recompute: bool,
    forward: impl Fn(&Bert) -> Tensor<2>,
) -> (Vec<f32>, BTreeMap<String, Vec<f32>>) {
    model.encoder.recompute = recompute;
    let output = forward(&model);
    let numbers: Vec<f32> =
        (0..output.shape().num_elements()).map(|i| (i as f32 * 0.7).sin()).collect();
    let probe = Tensor::<1>::from_data(numbers.as_slice(), &output.device());
    let loss = (output.clone() * probe.reshape(output.dims())).sum();
    let gradients = loss.backward();
    let mut named = Named { gradients: &gradients, path: vec![], found: BTreeMap::new() };
    model.visit(&mut named);
    (host(output.inner()), named.found)
}

fn assert_same(name: &str, model: &Bert, forward: impl Fn(&Bert) -> Tensor<2>) {
    let (values, gradients) = run(model.clone(), false, &forward);
    let (values_again, again) = run(model.clone(), true, &forward);
    assert_eq!(values, values_again, "{name}");
    let norm = |values: &mut dyn Iterator<Item = f32>| {
        values.map(|value| f64::from(value).powi(2)).sum::<f64>().sqrt()
    };
    assert!(gradients.keys().eq(again.keys()), "{name}: {:?}", again.keys());
    for (path, expected) in &gradients {
        let differences = &mut expected.iter().zip(&again[path]).map(|(a, b)| a - b);
        let (difference, norm) = (norm(differences), norm(&mut expected.iter().copied()));
        assert!(difference <= 1e-6 * norm, "{name}, {path}: {difference} of {norm}");
    }
}

fn all(bert: &Bert) -> Tensor<2> {
    bert.forward(&input(&bert.embeddings.layer_norm.gamma.device()), Some(pass_key(3, 1, 0, 0)))
}

#[test]
fn values_and_gradients_are_the_same() {
    let _switch = crate::SWITCH.read();
    for (name, device) in devices() {
        let model = model(&device.autodiff()).train();
        assert_same(name, &model, all);
        assert_same(name, &model, |bert| {
            let input = input(&bert.embeddings.layer_norm.gamma.device());
            bert.forward_first(bert.embeddings.words(&input), &input, Some(pass_key(3, 1, 0, 0)))
        });
        // Every layer's output is used beside being the next one's input.
        assert_same(name, &model, |bert| {
            let input = input(&bert.embeddings.layer_norm.gamma.device());
            let states = bert.hidden_states(&input, Some(pass_key(3, 1, 0, 0)));
            (1..)
                .zip(states)
                .map(|(weight, state)| state * weight as f32)
                .reduce(|sum, state| sum + state)
                .unwrap()
        });
    }
}

#[test]
fn what_is_frozen_has_no_gradient() {
    let _switch = crate::SWITCH.read();
    for (name, device) in devices() {
        let whole = model(&device.autodiff()).train();
        let mut frozen = whole.clone();
        frozen.embeddings = frozen.embeddings.freeze();
        frozen.encoder.layer[0] = frozen.encoder.layer[0].clone().freeze();
        let maps = &mut frozen.encoder.layer[2].intermediate;
        *maps = maps.clone().freeze();
        assert_same(name, &frozen, all);
        let (_, gradients) = run(frozen, true, all);
        let frozen = ["embeddings.", "encoder.layer.0.", "encoder.layer.2.intermediate."];
        assert!(!gradients.keys().any(|path| frozen.iter().any(|part| path.starts_with(part))));
        assert_eq!(gradients.len(), 3 * 16 - 2, "{name}");

        let lora = LoraConfig { dropout: 0.1, .."rank=3".parse().unwrap() };
        let adapted = whole.with_lora(&lora, 7).train();
        assert_same(name, &adapted, all);
        let targets = lora.targets.len();
        assert_eq!(run(adapted, true, all).1.len(), 4 * 2 * targets, "{name}");
    }
}
