//! Multi-head attention pooling: against PyTorch, by hand, and what must not change it.

use bert_heads::{MultiHeadPooling, Pooling};
use bert_kernels::Sequences;
use burn::{
    module::Param,
    nn::Linear,
    tensor::{Device, Tensor, TensorData},
};
use serde_json::Value;

use crate::reference::{assert_close, assert_gradient, devices, floats, host, integers};

/// What `multi_head_pooling.py`, beside this file, gave.
fn reference() -> Value {
    serde_json::from_str(include_str!("multi_head_pooling.json")).unwrap()
}

fn matrix(values: Vec<f32>, width: usize, device: &Device) -> Tensor<2> {
    let rows = values.len() / width;
    Tensor::from_data(TensorData::new(values, [rows, width]), device)
}

fn map(weight: Tensor<2>, bias: Vec<f32>) -> Linear {
    let bias = Tensor::<1>::from_data(bias.as_slice(), &weight.device());
    Linear { weight: Param::from_tensor(weight), bias: Some(Param::from_tensor(bias)) }
}

#[test]
fn values_and_gradients_are_those_of_pytorch() {
    let reference = reference();
    let (given, expected) = (&reference["given"], &reference["gradients"]);
    let lengths: Vec<usize> =
        integers(&reference["lengths"]).into_iter().map(|length| length as usize).collect();
    let sequences = Sequences::from_lengths(&lengths);
    let (size, heads) = (6, 3);
    for (name, device) in devices() {
        let device = device.autodiff();
        let of = |key: &str, width: usize| matrix(floats(&given[key]), width, &device);
        let multi_head = MultiHeadPooling {
            linear: map(of("W", size), floats(&given["b"])),
            queries: Param::from_tensor(of("queries", heads)),
            value: map(of("V", size), floats(&given["c"])),
        };
        let hidden = of("hidden", size).require_grad();
        let weights = host(multi_head.weights(hidden.clone(), &sequences));
        // A head's weight stands for each of its two dimensions.
        let by_head: Vec<f32> = weights.iter().copied().step_by(size / heads).collect();
        assert_close(name, &by_head, &floats(&reference["weights"]), 2e-6);
        assert!(weights.chunks(2).all(|pair| pair[0] == pair[1]));

        let pooling = Pooling::MultiHead(multi_head);
        let pooled = pooling.forward(hidden.clone(), &sequences);
        assert_close(name, &host(pooled.clone()), &floats(&reference["pooled"]), 2e-5);
        let probe = matrix(floats(&reference["probe"]), size, &device);
        let grads = (pooled * probe).sum().backward();
        let Pooling::MultiHead(multi_head) = &pooling else { unreachable!() };
        let MultiHeadPooling { linear, queries, value } = multi_head;
        let bias = |linear: &Linear| host(linear.bias.as_ref().unwrap().grad(&grads).unwrap());
        for (key, got) in [
            ("hidden", host(hidden.grad(&grads).unwrap())),
            ("W", host(linear.weight.grad(&grads).unwrap())),
            ("b", bias(linear)),
            ("queries", host(queries.grad(&grads).unwrap())),
            ("V", host(value.weight.grad(&grads).unwrap())),
            ("c", bias(value)),
        ] {
            assert_gradient(&format!("{name}, {key}"), &got, &floats(&expected[key]));
        }
    }
}

/// Two heads, each with one dimension, look at the two tokens of a text each in its own way.
#[test]
fn two_heads_by_hand() {
    for (name, device) in devices() {
        let identity = Tensor::<2>::from_data([[1.0, 0.0], [0.0, 1.0]], &device);
        let queries = Tensor::<2>::from_data([[1.0, 0.0], [0.0, -1.0]], &device);
        let doubled = map(identity.clone(), vec![0.0, 0.5]);
        let multi_head = MultiHeadPooling {
            linear: map(identity, vec![0.0; 2]),
            queries: Param::from_tensor(queries),
            value: doubled,
        };
        // tanh(h) = (0.6, 0.8), (-0.6, 0): the scores are (0.6, -0.8), (-0.6, 0).
        let [a, b] = [0.6f32.atanh(), 0.8f32.atanh()];
        let hidden = Tensor::<2>::from_data([[a, b], [-a, 0.0]], &device);
        let sequences = Sequences::from_lengths(&[2]);
        // Softmax of two scores is the logistic of their difference: 1.2 and -0.8.
        let (first, second) = (1.0 / (1.0 + (-1.2f32).exp()), 1.0 / (1.0 + 0.8f32.exp()));
        let weights = host(multi_head.weights(hidden.clone(), &sequences));
        assert_close(name, &weights, &[first, second, 1.0 - first, 1.0 - second], 1e-6);
        // The values are 2 h + (0, 0.5).
        let expected = [2.0 * a * first - 2.0 * a * (1.0 - first), 2.0 * b * second + 0.5];
        let pooled = host(Pooling::MultiHead(multi_head).forward(hidden, &sequences));
        assert_close(name, &pooled, &expected, 1e-5);
    }
}

/// The order of the tokens does not count, nor what else is in the batch.
#[test]
fn a_text_alone_and_shuffled_has_the_same_vector() {
    let reference = reference();
    let given = &reference["given"];
    for (name, device) in devices() {
        let of = |key: &str, width: usize| matrix(floats(&given[key]), width, &device);
        let pooling = Pooling::MultiHead(MultiHeadPooling {
            linear: map(of("W", 6), floats(&given["b"])),
            queries: Param::from_tensor(of("queries", 3)),
            value: map(of("V", 6), floats(&given["c"])),
        });
        let hidden = of("hidden", 6);
        let together = host(pooling.forward(hidden.clone(), &Sequences::from_lengths(&[3, 5, 1])))
            [6..12]
            .to_vec();
        let alone = hidden.narrow(0, 3, 5);
        let order = Tensor::from_data([4, 2, 0, 1, 3], &device);
        for tokens in [alone.clone(), alone.select(0, order)] {
            let pooled = host(pooling.forward(tokens, &Sequences::from_lengths(&[5])));
            assert_close(name, &pooled, &together, 1e-5);
        }
    }
}

#[test]
#[should_panic(expected = "multiple of the 5 heads")]
fn heads_that_do_not_fit_panic() {
    MultiHeadPooling::new(12, 5, 0, &devices().remove(0).1);
}
