//! Every operation: its definition against plain loops, its fast version against its definition.

mod definitions;
#[path = "../devices/mod.rs"]
mod devices;
mod fast;
mod optimizer;
mod recompute;

use std::sync::{Mutex, MutexGuard};

use bert_kernels::{
    Dropout, Sequences,
    random::{Key, Purpose, Stream},
    set_fast_kernels,
};
use burn::tensor::{Device, Tensor};

/// Lengths that exercise one token, odd counts and unequal neighbours.
const LENGTHS: [usize; 4] = [7, 1, 12, 5];

/// The backends that run the definitions here.
fn devices() -> Vec<Device> {
    devices::devices().into_iter().map(|(_, device)| device).collect()
}

/// Holds the process-wide switch at one position.
fn switch(fast: bool) -> MutexGuard<'static, ()> {
    static SWITCH: Mutex<()> = Mutex::new(());
    let guard = SWITCH.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    set_fast_kernels(fast);
    guard
}

/// Standard normal numbers, the same ones for the same `index`.
fn normal(index: u64, length: usize) -> Vec<f32> {
    let mut stream = Stream::new(17, Purpose::Init, index);
    (0..length).map(|_| stream.normal()).collect()
}

fn dropout_of(probability: f64, site: u32) -> Option<Dropout> {
    Dropout::new(probability, Key::new(3).derive(Purpose::Dropout, [1, 2, site]))
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_into_vec::<f32>().expect("float32 values")
}

/// The output of an operation and the gradient of each input, for a fixed random weighting of the output.
#[derive(Debug, PartialEq)]
struct Outcome {
    output: Vec<f32>,
    gradients: Vec<Vec<f32>>,
}

/// An operation over flat inputs, which it reshapes itself.
type Operation<'a> = &'a dyn Fn(Vec<Tensor<1>>) -> Tensor<2>;

fn outcome(device: Device, inputs: &[Vec<f32>], operation: Operation) -> Outcome {
    let device = device.autodiff();
    let leaves: Vec<Tensor<1>> = inputs
        .iter()
        .map(|input| Tensor::from_floats(input.as_slice(), &device).require_grad())
        .collect();
    let output = operation(leaves.clone());
    let [rows, width] = output.dims();
    let weights = Tensor::<1>::from_floats(normal(99, rows * width).as_slice(), &device);
    let loss = (output.clone() * weights.reshape([rows, width])).sum();
    let gradients = loss.backward();
    Outcome {
        output: values(output),
        gradients: leaves
            .iter()
            .map(|leaf| leaf.grad(&gradients).map(values).unwrap_or_default())
            .collect(),
    }
}

fn assert_close(name: &str, actual: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(actual.len(), expected.len(), "{name}: lengths differ");
    let largest = expected.iter().fold(1.0f32, |largest, x| largest.max(x.abs()));
    for (index, (a, e)) in actual.iter().zip(expected).enumerate() {
        assert!(
            (a - e).abs() <= tolerance * largest,
            "{name}: element {index}: got {a}, expected {e} (tolerance {tolerance} of {largest})"
        );
    }
}

/// Checks the definition on every backend and the fast version against the definition on the first one.
fn assert_versions_agree(name: &str, inputs: &[Vec<f32>], operation: Operation) {
    let expected = {
        let _switch = switch(false);
        outcome(devices().remove(0), inputs, operation)
    };
    for (index, device) in devices().into_iter().enumerate() {
        let _switch = switch(true);
        let actual = outcome(device, inputs, operation);
        assert_close(&format!("{name} on {index}"), &actual.output, &expected.output, 3e-6);
        for (input, (actual, expected)) in
            actual.gradients.iter().zip(&expected.gradients).enumerate()
        {
            assert_close(&format!("{name} on {index}, gradient {input}"), actual, expected, 1e-5);
        }
    }
}

fn lengths() -> Sequences {
    Sequences::from_lengths(&LENGTHS)
}
