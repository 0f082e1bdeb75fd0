//! Reference values from PyTorch, made by `make_reference.py` beside this file, and how close ours must be to them.

#![allow(dead_code)] // INVARIANT: each crate's tests use their part of it.

#[path = "../../../bert-kernels/tests/devices/mod.rs"]
mod devices;

use std::{collections::HashMap, path::PathBuf};

use burn::tensor::{Bool, Device, Int, Tensor, TensorData};
use serde_json::Value;

#[allow(unused_imports)] // INVARIANT: as above.
pub use devices::{cpu_devices, devices};

/// Where the reference files are.
pub fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../bert-core/tests/reference")
}

/// Where the real models and data are: `BERT_TUNE_DATA`, which `.cargo/config.toml` sets.
pub fn data_folder() -> PathBuf {
    std::env::var_os("BERT_TUNE_DATA").unwrap_or_default().into()
}

/// `tiny_bert.json`.
pub fn values() -> Value {
    json("tiny_bert.json")
}

/// A JSON file of the reference.
pub fn json(name: &str) -> Value {
    let text = std::fs::read_to_string(folder().join(name)).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// The gradients under `head`, by parameter name, in PyTorch's layout.
pub fn gradients(head: &str) -> HashMap<String, (Vec<usize>, Vec<f32>)> {
    let bytes = std::fs::read(folder().join("tiny_bert_gradients.safetensors")).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let prefix = format!("{head}/");
    file.iter()
        .filter_map(|(name, view)| {
            let name = name.strip_prefix(&prefix)?;
            let values = view.data().chunks_exact(4);
            let values = values.map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
            Some((name.to_owned(), (view.shape().to_vec(), values.collect())))
        })
        .collect()
}

/// The numbers of nested lists, flat.
pub fn floats(value: &Value) -> Vec<f32> {
    match value {
        Value::Array(items) => items.iter().flat_map(floats).collect(),
        number => vec![number.as_f64().unwrap() as f32],
    }
}

/// The whole numbers of nested lists, flat.
pub fn integers(value: &Value) -> Vec<i64> {
    match value {
        Value::Array(items) => items.iter().flat_map(integers).collect(),
        number => vec![number.as_i64().unwrap()],
    }
}

/// The rows of `[batch, length, width]` values where the reference batch has a token: the packed layout.
pub fn packed(value: &Value, reference: &Value) -> Vec<f32> {
    let mask = integers(&reference["batch"]["attention_mask"]);
    let values = floats(value);
    let width = values.len() / mask.len();
    let rows = values.chunks(width).zip(mask);
    rows.filter(|(_, mask)| *mask == 1).flat_map(|(row, _)| row.to_vec()).collect()
}

/// A padded batch of the reference: input_ids, token_type_ids, attention_mask.
pub fn padded_batch(
    batch: &Value,
    device: &Device,
) -> (Tensor<2, Int>, Tensor<2, Int>, Tensor<2, Bool>) {
    let rows = batch["input_ids"].as_array().unwrap().len();
    let shape = |values: &[i64]| [rows, values.len() / rows];
    let ints = |values: Vec<i64>| {
        let shape = shape(&values);
        Tensor::<2, Int>::from_data(TensorData::new(values, shape), device)
    };
    let ids = integers(&batch["input_ids"]);
    let types = match &batch["token_type_ids"] {
        Value::Null => vec![0; ids.len()],
        types => integers(types),
    };
    let mask = integers(&batch["attention_mask"]);
    let mask_shape = shape(&mask);
    let mask: Vec<bool> = mask.into_iter().map(|mask| mask == 1).collect();
    let mask = Tensor::<2, Bool>::from_data(TensorData::new(mask, mask_shape), device);
    (ints(ids), ints(types), mask)
}

/// The values of a tensor, row by row.
pub fn host<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().iter::<f32>().collect()
}

/// The largest absolute difference.
pub fn distance(got: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(got.len(), expected.len(), "the number of values differs");
    let pairs = got.iter().zip(expected);
    // A NaN is the largest difference of all: `f32::max` would pass over it.
    pairs
        .map(|(got, expected)| (got - expected).abs())
        .fold(0.0, |most, d| if d.is_nan() || d > most { d } else { most })
}

/// Asserts that every value is within `tolerance`.
#[track_caller]
pub fn assert_close(what: &str, got: &[f32], expected: &[f32], tolerance: f32) {
    let distance = distance(got, expected);
    assert!(distance <= tolerance, "{what}: {distance} apart, at most {tolerance} is allowed");
}

/// The norm of the difference over the norm of what is expected.
pub fn relative_distance(got: &[f32], expected: &[f32]) -> f64 {
    assert_eq!(got.len(), expected.len(), "the number of values differs");
    let norm = |values: &mut dyn Iterator<Item = f32>| {
        values.map(|v| f64::from(v).powi(2)).sum::<f64>().sqrt()
    };
    let pairs = got.iter().zip(expected);
    norm(&mut pairs.map(|(got, expected)| got - expected)) / norm(&mut expected.iter().copied())
}

/// Asserts that a gradient is within 1e-4 of its norm; one that is zero in theory (of attention's key biases: softmax
/// does not see what is added to all keys) has a norm below 1e-7 instead.
#[track_caller]
pub fn assert_gradient(name: &str, got: &[f32], expected: &[f32]) {
    if name.ends_with("attention.self.key.bias") {
        let norm = got.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
        assert!(norm < 1e-7, "{name}: norm {norm}, at most 1e-7 is allowed");
        return;
    }
    let distance = relative_distance(got, expected);
    assert!(distance <= 1e-4, "{name}: {distance} of its norm apart, at most 1e-4 is allowed");
}
