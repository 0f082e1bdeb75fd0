//! Single steps: AdamW, schedule and clipping against PyTorch; which parameters move.

use std::collections::HashMap;

use bert_core::EncoderInput;
use bert_heads::{CrossEntropy, PoolingKind, SequenceClassifier};
use bert_train::{Optimizer, Recipe, Schedule, learning_rates};
use burn::{
    module::{Module, ModuleVisitor, Param},
    tensor::{Device, Tensor},
};

use crate::{
    new_head, one_step, pretrained,
    reference::{assert_close, devices, floats, host, integers, padded_batch, values},
};

/// Thirty steps as PyTorch took them: same weights, same batches, no dropout.
#[test]
fn thirty_steps_are_those_of_pytorch() {
    let reference = values();
    let trajectory = &reference["adamw_trajectory"];
    let steps = trajectory["steps"].as_array().unwrap();
    let recipe = Recipe { learning_rate: 1e-3, ..Recipe::default() };
    // 6 of 30 steps warm up.
    let schedule = Schedule { warmup_ratio: 0.2, ..Schedule::default() };
    for (name, device) in devices() {
        let device = device.autodiff();
        let mut model = pretrained(&device).model.train();
        let mut optimizer = Optimizer::new(&recipe);
        for (number, expected) in steps.iter().enumerate() {
            let what = format!("{name}, step {number}");
            let factor = schedule.factor(number, steps.len());
            let rate = expected["lr"].as_f64().unwrap();
            assert!((recipe.learning_rate * factor - rate).abs() < 1e-12, "{what}: rate");
            let (ids, types, mask) = padded_batch(expected, &device);
            let input = EncoderInput::from_padded(ids, types, mask);
            let labels: Vec<Option<u32>> =
                integers(&expected["labels"]).iter().map(|label| Some(*label as u32)).collect();
            let rates = learning_rates(&recipe, 2, factor);
            let step = one_step(model, &mut optimizer, (&input, &labels), rates);
            let grad_norm = step.grad_norm;
            model = step.model;
            assert_close(&what, &[step.losses[0][0] as f32], &floats(&expected["loss"]), 1e-4);
            let norm = expected["grad_norm_before_clip"].as_f64().unwrap();
            assert!((grad_norm / norm - 1.0).abs() < 1e-3, "{what}: norm {grad_norm}, not {norm}");
        }
        let (ids, types, mask) = padded_batch(&reference["batch"], &device);
        let logits = model.forward(&EncoderInput::from_padded(ids, types, mask), None);
        assert_close(name, &host(logits), &floats(&trajectory["final_logits_on_batch"]), 1e-3);
    }
}

/// A batch of two texts of the reference's vocabulary.
pub fn batch(device: &Device) -> (EncoderInput, [Option<u32>; 2]) {
    let reference = values();
    let (ids, types, mask) = padded_batch(&reference["batch"], device);
    let rows = |x: Tensor<2, burn::tensor::Int>| x.slice(0..2);
    let mask = mask.slice(0..2);
    (EncoderInput::from_padded(rows(ids), rows(types), mask), [Some(1), Some(0)])
}

fn parameters(model: &SequenceClassifier) -> HashMap<String, Vec<f32>> {
    model.named_parameters().into_iter().map(|tensor| (tensor.name, tensor.values)).collect()
}

/// Whether each parameter has a gradient that is not zero throughout.
struct Gradients {
    gradients: burn::tensor::Gradients,
    path: Vec<String>,
    without: Vec<String>,
}

impl ModuleVisitor for Gradients {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }
    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let gradient = param.val().grad(&self.gradients).map(host);
        if !gradient.is_some_and(|values| values.iter().any(|value| value.abs() > 1e-9)) {
            self.without.push(self.path.join("."));
        }
    }
}

/// Every parameter is in the graph. Zero is right for attention's key biases (softmax does not see them), and at the
/// start for adaptive's bias and the inner map of attention and multi-head pooling, behind which stands a zero.
#[test]
fn every_parameter_gets_a_gradient() {
    for (name, device) in devices() {
        for kind in PoolingKind::ALL {
            let device = device.clone().autodiff();
            let model = new_head(kind, 0, &device).model.train();
            let (input, labels) = batch(&device);
            let loss = CrossEntropy::default().forward(model.forward(&input, None), &labels);
            let gradients = loss.backward();
            let mut visitor = Gradients { gradients, path: vec![], without: vec![] };
            model.visit(&mut visitor);
            let expected = |path: &String| {
                path.ends_with("self_attention.key.bias")
                    || path.ends_with("Adaptive.linear.bias")
                    || path.ends_with("Attention.linear.weight")
                    || path.ends_with("Attention.linear.bias")
                    || path.ends_with("MultiHead.linear.weight")
                    || path.ends_with("MultiHead.linear.bias")
            };
            visitor.without.retain(|path| !expected(path));
            assert_eq!(visitor.without, Vec::<String>::new(), "{name}, {kind}");
        }
    }
}

/// What a step moves, by group: a rate of zero moves nothing; each group has its own.
#[test]
fn each_group_learns_at_its_own_rate() {
    let (_, device) = devices().remove(0);
    let device = device.autodiff();
    let moved = |recipe: &Recipe| {
        let model = new_head(PoolingKind::Adaptive, 0, &device).model.train();
        let before = parameters(&model);
        let (input, labels) = batch(&device);
        let rates = learning_rates(recipe, 2, 1.0);
        let after = one_step(model, &mut Optimizer::new(recipe), (&input, &labels), rates);
        let after = parameters(&after.model);
        let change = |prefix: &str| {
            let names = before.keys().filter(|name| name.starts_with(prefix));
            let pairs = names.flat_map(|name| before[name].iter().zip(&after[name]));
            pairs.map(|(before, after)| (before - after).abs()).fold(0.0, f32::max)
        };
        [change("bert."), change("pooling."), change("classifier.")]
    };
    // AdamW's first step moves a weight by its rate (times the sign of its gradient), and a little by decay.
    let recipe = Recipe {
        learning_rate: 1e-4,
        head_learning_rate: Some(1e-3),
        pooling_learning_rate: Some(1e-2),
        ..Recipe::default()
    };
    let changes = moved(&recipe);
    for (got, rate) in changes.into_iter().zip([1e-4, 1e-2, 1e-3]) {
        assert!((got / rate - 1.0).abs() < 0.05, "{changes:?}");
    }
}

/// What is frozen stays to the bit, and the rest learns.
#[test]
fn a_frozen_encoder_does_not_move() {
    let (_, device) = devices().remove(0);
    let device = device.autodiff();
    let mut model = new_head(PoolingKind::Mean, 0, &device).model.train();
    model.bert = model.bert.freeze();
    let before = parameters(&model);
    let (input, labels) = batch(&device);
    let recipe = Recipe { learning_rate: 0.1, ..Recipe::default() };
    let rates = learning_rates(&recipe, 2, 1.0);
    let step = one_step(model, &mut Optimizer::new(&recipe), (&input, &labels), rates);
    for (name, after) in parameters(&step.model) {
        assert_eq!(after == before[&name], name.starts_with("bert."), "{name}");
    }
}

/// Decay takes lr x 0.01 of a weight where its gradient is zero; biases and norms stay.
#[test]
fn biases_and_norms_do_not_decay() {
    let (_, device) = devices().remove(0);
    let device = device.autodiff();
    let model = new_head(PoolingKind::Mean, 0, &device).model.train();
    let before = parameters(&model);
    let (input, _) = batch(&device);
    let recipe = Recipe { learning_rate: 0.1, ..Recipe::default() };
    let rates = learning_rates(&recipe, 2, 1.0);
    // Without labels the loss is 0, and so are all gradients.
    let step = one_step(model, &mut Optimizer::new(&recipe), (&input, &[None, None]), rates);
    let after = parameters(&step.model);
    for (name, before) in before {
        let share = if name.ends_with("bias") || name.contains("LayerNorm") { 1.0 } else { 0.999 };
        let expected: Vec<f32> = before.iter().map(|value| value * share).collect();
        assert_close(&name, &after[&name], &expected, 1e-7);
    }
}
