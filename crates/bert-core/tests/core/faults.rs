//! Classic mistakes, made on purpose: parity must catch each.

use bert_core::{Bert, BertConfig, EncoderInput, HiddenAct};
use burn::tensor::Device;

use crate::{
    batch,
    reference::{devices, distance, host, packed, values},
    tiny, tiny_config,
};

/// How far the last hidden states are from the reference with a fault planted by `plant`.
fn distance_with(
    config: BertConfig,
    plant: impl Fn(Bert) -> Bert,
    change: impl Fn(EncoderInput) -> EncoderInput,
) -> f32 {
    let reference = values();
    let (_, device): (_, Device) = devices().remove(0);
    let model = plant(tiny(&config, &device));
    let states = reference["hidden_states"].as_array().unwrap();
    let expected = packed(states.last().unwrap(), &reference);
    distance(&host(model.forward(&change(batch(&reference, &device)), None)), &expected)
}

/// Parity allows 2e-5.
const ALLOWED: f32 = 2e-5;

#[test]
fn without_a_fault_parity_holds() {
    assert!(distance_with(tiny_config(), |model| model, |input| input) <= ALLOWED);
}

#[test]
fn tanh_gelu_is_caught() {
    let config = BertConfig { hidden_act: HiddenAct::GeluNew, ..tiny_config() };
    assert!(distance_with(config, |model| model, |input| input) > ALLOWED);
}

#[test]
fn another_epsilon_is_caught() {
    let config = BertConfig { layer_norm_eps: 1e-5, ..tiny_config() };
    assert!(distance_with(config, |model| model, |input| input) > ALLOWED);
}

#[test]
fn swapped_norms_are_caught() {
    let swap = |mut model: Bert| {
        for layer in &mut model.encoder.layer {
            let norm = layer.output.layer_norm.clone();
            layer.output.layer_norm =
                std::mem::replace(&mut layer.attention.output.layer_norm, norm);
        }
        model
    };
    assert!(distance_with(tiny_config(), swap, |input| input) > ALLOWED);
}

#[test]
fn missing_token_types_are_caught() {
    let forget = |mut input: EncoderInput| {
        input.token_type_ids = input.token_type_ids.zeros_like();
        input
    };
    assert!(distance_with(tiny_config(), |model| model, forget) > ALLOWED);
}

#[test]
fn exchanged_queries_and_keys_are_caught() {
    let exchange = |mut model: Bert| {
        for layer in &mut model.encoder.layer {
            let attention = &mut layer.attention.self_attention;
            std::mem::swap(&mut attention.query, &mut attention.key);
        }
        model
    };
    assert!(distance_with(tiny_config(), exchange, |input| input) > ALLOWED);
}
