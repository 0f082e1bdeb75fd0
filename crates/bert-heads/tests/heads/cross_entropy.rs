//! Cross-entropy by hand.

use bert_heads::CrossEntropy;
use burn::tensor::{Tensor, activation::log_softmax};

use crate::reference::{assert_close, devices, host};

/// log-softmax of [ln 1, ln 3] is [ln 1/4, ln 3/4]; of [ln 2, ln 2], [ln 1/2, ln 1/2].
fn logits(device: &burn::tensor::Device) -> Tensor<2> {
    let (ln2, ln3) = (2f32.ln(), 3f32.ln());
    Tensor::from_data([[0.0, ln3], [ln2, ln2], [9.0, -9.0]], device)
}

fn loss(loss: CrossEntropy, labels: [Option<u32>; 3]) -> Vec<f32> {
    devices().iter().map(|(_, device)| host(loss.forward(logits(device), &labels))[0]).collect()
}

#[track_caller]
fn assert_loss(function: CrossEntropy, labels: [Option<u32>; 3], expected: f64) {
    for got in loss(function, labels) {
        assert_close("loss", &[got], &[expected as f32], 1e-6);
    }
}

#[test]
fn rows_without_a_label_do_not_count() {
    // -(ln 3/4 + ln 1/2) / 2
    let expected = -(0.75f64.ln() + 0.5f64.ln()) / 2.0;
    assert_loss(CrossEntropy::default(), [Some(1), Some(0), None], expected);
}

#[test]
fn a_batch_without_labels_gives_zero_and_no_gradient() {
    assert_loss(CrossEntropy::default(), [None; 3], 0.0);
    for (name, device) in devices() {
        let logits = logits(&device.autodiff()).require_grad();
        let weighted = CrossEntropy { label_smoothing: 0.1, class_weights: Some(vec![1.0, 2.0]) };
        let gradients = weighted.forward(logits.clone(), &[None; 3]).backward();
        assert_eq!(host(logits.grad(&gradients).unwrap()), [0.0; 6], "{name}");
    }
}

#[test]
fn classes_count_by_their_weights() {
    // Row 0 counts 3 and row 1 counts 1: -(3 ln 3/4 + ln 1/2) / 4.
    let expected = -(3.0 * 0.75f64.ln() + 0.5f64.ln()) / 4.0;
    let weighted = CrossEntropy { class_weights: Some(vec![1.0, 3.0]), ..CrossEntropy::default() };
    assert_loss(weighted, [Some(1), Some(0), None], expected);
}

#[test]
fn smoothing_spreads_the_target() {
    // Row 0: 0.8 ln 3/4 + 0.1 (ln 1/4 + ln 3/4); row 1: ln 1/2 whatever the target.
    let row = 0.8 * 0.75f64.ln() + 0.1 * (0.25f64.ln() + 0.75f64.ln());
    let smoothed = CrossEntropy { label_smoothing: 0.2, class_weights: None };
    assert_loss(smoothed, [Some(1), Some(0), None], -(row + 0.5f64.ln()) / 2.0);
}

/// The gradient is softmax minus the target, over the number of rows that count.
#[test]
fn the_gradient_is_softmax_minus_target() {
    for (name, device) in devices() {
        let logits = logits(&device.autodiff()).require_grad();
        let loss = CrossEntropy::default().forward(logits.clone(), &[Some(1), Some(0), None]);
        let gradients = loss.backward();
        let got = host(logits.clone().grad(&gradients).unwrap());
        assert_close(name, &got, &[0.125, -0.125, -0.25, 0.25, 0.0, 0.0], 1e-6);
        assert!(host(log_softmax(logits, 1)).iter().all(|v| v.is_finite()));
    }
}

#[test]
#[should_panic(expected = "cross-entropy: label 2 is not below the number of classes, 2")]
fn a_label_beyond_the_classes_panics() {
    loss(CrossEntropy::default(), [Some(2), None, None]);
}
