//! Label smoothing, and how far two answers lie apart: values and gradients against PyTorch, and by hand.

use bert_heads::{
    BinaryCrossEntropy, CrossEntropy, OrdinalCrossEntropy, SpanCrossEntropy, SquaredError,
};
use bert_kernels::Sequences;
use burn::tensor::{Device, Tensor, TensorData};
use serde_json::Value;

use crate::reference::{assert_close, devices, floats, host, integers};

/// What `regularised_losses.py`, beside this file, gave.
fn reference() -> Value {
    serde_json::from_str(include_str!("regularised_losses.json")).unwrap()
}

/// Labels of which all that are no class are none.
fn labels(case: &Value, none: i64) -> Vec<Option<u32>> {
    let label = |label: i64| (label != none).then_some(label as u32);
    integers(&case["labels"]).into_iter().map(label).collect()
}

fn spans(case: &Value) -> (Sequences, Vec<Option<(usize, usize)>>) {
    let lengths: Vec<usize> =
        integers(&case["lengths"]).into_iter().map(|length| length as usize).collect();
    let span = |span: &Value| {
        let place = |side: usize| span[side].as_u64().map(|place| place as usize);
        place(0).zip(place(1))
    };
    let spans = case["spans"].as_array().unwrap().iter().map(span).collect();
    (Sequences::from_lengths(&lengths), spans)
}

/// Asserts value and gradients of `loss` on every device, against the case of this name.
#[track_caller]
fn assert_case(name: &str, loss: impl Fn(&Value, Vec<Tensor<2>>) -> Tensor<1>) {
    let case = &reference()["cases"][name];
    let shape = integers(&case["shape"]);
    for (device_name, device) in devices() {
        let device = device.autodiff();
        let input = |values: &Value| {
            let data = TensorData::new(floats(values), [shape[0] as usize, shape[1] as usize]);
            Tensor::<2>::from_data(data, &device).require_grad()
        };
        let inputs: Vec<Tensor<2>> = case["inputs"].as_array().unwrap().iter().map(input).collect();
        let loss = loss(case, inputs.clone());
        let expected = case["loss"].as_f64().unwrap() as f32;
        let what = format!("{name}, {device_name}");
        assert_close(&what, &host(loss.clone()), &[expected], 2e-6 * expected.max(1.0));
        let gradients = loss.backward();
        for (input, expected) in inputs.iter().zip(case["gradients"].as_array().unwrap()) {
            let got = host(input.grad(&gradients).unwrap());
            assert_close(&format!("{what}, gradient"), &got, &floats(expected), 2e-6);
        }
    }
}

fn pair(inputs: Vec<Tensor<2>>) -> (Tensor<2>, Tensor<2>) {
    (inputs[0].clone(), inputs[1].clone())
}

#[test]
fn smoothed_losses_are_those_of_pytorch() {
    let label_smoothing = reference()["smoothing"].as_f64().unwrap();
    assert_case("smoothed", |case, mut x| {
        let loss = CrossEntropy { label_smoothing, class_weights: None };
        loss.forward(x.remove(0), &labels(case, -100))
    });
    assert_case("smoothed_spans", |case, mut x| {
        let (sequences, spans) = spans(case);
        SpanCrossEntropy { label_smoothing }.forward(x.remove(0), &sequences, &spans)
    });
}

#[test]
fn divergences_are_those_of_pytorch() {
    assert_case("classes", |case, x| {
        let (one, other) = pair(x);
        CrossEntropy::default().divergence(one, other, &labels(case, -100))
    });
    assert_case("spans", |case, x| {
        let ((one, other), (sequences, spans)) = (pair(x), spans(case));
        SpanCrossEntropy::default().divergence(one, other, &sequences, &spans)
    });
    assert_case("label_sets", |case, x| {
        let (one, other) = pair(x);
        let targets: Vec<Option<bool>> =
            labels(case, 2).into_iter().map(|label| label.map(|label| label == 1)).collect();
        BinaryCrossEntropy::default().divergence(one, other, &targets)
    });
    assert_case("ranks", |case, x| {
        let (one, other) = pair(x);
        OrdinalCrossEntropy.divergence(one, other, &labels(case, -100))
    });
    assert_case("numbers", |case, x| {
        let (one, other) = pair(x);
        let targets: Vec<Option<f32>> =
            labels(case, 0).into_iter().map(|label| label.map(|_| 9.0)).collect();
        SquaredError.divergence(one, other, &targets)
    });
}

/// p = (1/4, 3/4) and q = (1/2, 1/2): each direction by itself, and halved.
#[test]
fn the_divergence_of_two_classes_by_hand() {
    let kl = |p: [f64; 2], q: [f64; 2]| p[0] * (p[0] / q[0]).ln() + p[1] * (p[1] / q[1]).ln();
    let (p, q) = ([0.25, 0.75], [0.5, 0.5]);
    // (0.130812 + 0.143841) / 2; the second row has no label.
    let expected = (kl(p, q) + kl(q, p)) / 2.0;
    assert!((expected - 0.137_326_5).abs() < 1e-6, "{expected}");
    for (name, device) in devices() {
        let ln3 = 3f32.ln();
        let one = Tensor::<2>::from_data([[0.0, ln3], [7.0, 0.0]], &device);
        let other = Tensor::<2>::from_data([[5.0, 5.0], [0.0, 1.0]], &device);
        let apart = CrossEntropy::default().divergence(one, other, &[Some(0), None]);
        assert_close(name, &host(apart), &[expected as f32], 1e-6);
        // The same of one decision, whose logit is ln 3 or 0.
        let one = Tensor::<2>::from_data([[ln3]], &device);
        let other = Tensor::<2>::from_data([[0.0]], &device);
        let apart = BinaryCrossEntropy::default().divergence(one, other, &[Some(false)]);
        assert_close(name, &host(apart), &[expected as f32], 1e-6);
    }
}

type Divergence = Box<dyn Fn(Tensor<2>, Tensor<2>) -> Tensor<1>>;

/// Nothing lies between an answer and itself, logits far out are finite, and where nothing counts there is no gradient.
#[test]
fn divergences_at_their_edges() {
    let of = |count: bool| -> [(usize, Divergence); 5] {
        let some = count.then_some(0);
        let span = count.then_some((0, 1));
        [
            (3, Box::new(move |a, b| CrossEntropy::default().divergence(a, b, &[some; 4]))),
            (2, {
                let sequences = Sequences::from_lengths(&[2, 2]);
                let loss = SpanCrossEntropy::default();
                Box::new(move |a, b| loss.divergence(a, b, &sequences, &[span; 2]))
            }),
            (3, {
                let truths = [count.then_some(true); 12];
                Box::new(move |a, b| BinaryCrossEntropy::default().divergence(a, b, &truths))
            }),
            (2, Box::new(move |a, b| OrdinalCrossEntropy.divergence(a, b, &[some; 4]))),
            (1, {
                let numbers = [count.then_some(1.0); 4];
                Box::new(move |a, b| SquaredError.divergence(a, b, &numbers))
            }),
        ]
    };
    for (name, device) in devices() {
        let device: Device = device.autodiff();
        let logits = |width: usize, factor: f32| {
            let values = (0..4 * width).map(|place| factor * (place as f32 - 3.5)).collect();
            let data = TensorData::new::<f32, _>(values, [4, width]);
            Tensor::<2>::from_data(data, &device).require_grad()
        };
        for (width, divergence) in of(true) {
            let (one, other) = (logits(width, 30.0), logits(width, -30.0));
            assert_eq!(host(divergence(one.clone(), one.clone())), [0.0], "{name}, {width}");
            let apart = divergence(one.clone(), other.clone());
            let there = host(apart.clone())[0];
            assert!(there.is_finite() && there > 0.0, "{name}, {width}: {there}");
            let gradients = apart.backward();
            assert!(host(one.grad(&gradients).unwrap()).iter().all(|value| value.is_finite()));
        }
        for (width, divergence) in of(false) {
            let (one, other) = (logits(width, 1.0), logits(width, -1.0));
            let apart = divergence(one.clone(), other);
            assert_eq!(host(apart.clone()), [0.0], "{name}, {width}");
            let gradient = host(one.grad(&apart.backward()).unwrap());
            assert!(gradient.iter().all(|value| *value == 0.0), "{name}: {gradient:?}");
        }
    }
}
