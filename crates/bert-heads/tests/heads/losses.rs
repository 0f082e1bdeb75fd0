//! The losses of other kinds of answers than one class: values and gradients against PyTorch 2.15.

use bert_core::EncoderInput;
use bert_heads::{BinaryCrossEntropy, OrdinalCrossEntropy, SpanCrossEntropy, SquaredError};
use bert_kernels::Sequences;
use burn::tensor::{Device, Tensor, TensorData};

use crate::reference::{assert_close, devices, host, packed, padded_batch, values};

/// Asserts value and gradient of `loss` at `x`, on every device.
#[track_caller]
fn assert_loss<const R: usize, const C: usize>(
    x: [[f32; C]; R],
    loss: impl Fn(Tensor<2>) -> Tensor<1>,
    expected: f32,
    gradient: [[f32; C]; R],
) {
    for (name, device) in devices() {
        let x = Tensor::<2>::from_data(x, &device.autodiff()).require_grad();
        let loss = loss(x.clone());
        assert_close(name, &host(loss.clone()), &[expected], 2e-6 * expected.abs().max(1.0));
        let got = host(x.grad(&loss.backward()).unwrap());
        assert_close(&format!("{name}, gradient"), &got, gradient.as_flattened(), 1e-7);
    }
}

fn truths(values: &[u8]) -> Vec<Option<bool>> {
    values.iter().map(|value| [Some(false), Some(true), None][*value as usize]).collect()
}

/// A logit of either sign far out, with a label that agrees and one that does not.
const LOGITS: [[f32; 3]; 4] =
    [[0.5, -1.25, 2.0], [3.0, 0.0, -0.75], [-30.0, 40.0, 1.5], [1.0, -2.0, 0.25]];

#[test]
fn binary_cross_entropy_is_that_of_pytorch() {
    // F.binary_cross_entropy_with_logits(x, y)
    let targets = truths(&[1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 0, 1]);
    assert_loss(
        LOGITS,
        |x| BinaryCrossEntropy::default().forward(x, &targets),
        6.433_256_6,
        [
            [-0.031_461_72, 0.018_558_344, -0.009_933_581],
            [0.079_381_175, -0.041_666_668, 0.026_735_107],
            [-0.083_333_336, 0.083_333_336, -0.015_202_13],
            [0.060_921_55, 0.009_933_577, -0.036_485_29],
        ],
    );
}

#[test]
fn true_labels_count_by_their_weights_and_some_not_at_all() {
    // m = 1 where there is a target: F.binary_cross_entropy_with_logits(x, y, weight=m, reduction="sum",
    // pos_weight=torch.tensor([2.0, 0.5, 3.0])) / m.sum()
    let targets = truths(&[1, 0, 1, 0, 2, 0, 1, 0, 1, 2, 2, 2]);
    let loss = BinaryCrossEntropy { positive_weights: Some(vec![2.0, 0.5, 3.0]) };
    assert_loss(
        LOGITS,
        |x| loss.forward(x, &targets),
        13.202_571,
        [
            [-0.094_385_16, 0.027_837_517, -0.044_701_1],
            [0.119_071_77, 0.0, 0.040_102_66],
            [-0.25, 0.125, -0.068_409_59],
            [0.0, 0.0, 0.0],
        ],
    );
}

#[test]
fn squared_error_is_that_of_pytorch() {
    // F.mse_loss(x[:3], y): (0.25 + 2.25 + 9) / 3.
    let targets = [Some(1.0), Some(0.25), Some(-1.0), None];
    assert_loss(
        [[0.5], [-1.25], [2.0], [7.0]],
        |x| SquaredError.forward(x, &targets),
        3.833_333_3,
        [[-0.333_333_34], [-1.0], [2.0], [0.0]],
    );
}

/// CORAL: one score a row, and a bias at each threshold.
#[test]
fn ordinal_cross_entropy_is_that_of_its_paper() {
    // z = s[:3, None] + b; t = [[1, 1, 1], [0, 0, 0], [1, 0, 0]], whether classes 3, 0 and 1 are above 0, 1 and 2:
    // -(F.logsigmoid(z) * t + (F.logsigmoid(z) - z) * (1 - t)).sum(1).mean()
    let labels = [Some(3), Some(0), Some(1), None];
    for (name, device) in devices() {
        let device = device.autodiff();
        let scores = Tensor::<2>::from_data([[0.75], [-1.5], [0.25], [2.0]], &device);
        let biases = Tensor::<2>::from_data([[1.5, 0.25, -1.0]], &device);
        let (scores, biases) = (scores.require_grad(), biases.require_grad());
        let loss = OrdinalCrossEntropy.forward(scores.clone() + biases.clone(), &labels);
        assert_close(name, &host(loss.clone()), &[1.261_515_3], 1e-6);
        let gradients = loss.backward();
        let expected = [-0.308_822_45, 0.266_186_12, 0.265_077_83, 0.0];
        assert_close(name, &host(scores.grad(&gradients).unwrap()), &expected, 1e-7);
        let expected = [0.085_534_45, 0.192_072_69, -0.055_165_68];
        assert_close(name, &host(biases.grad(&gradients).unwrap()), &expected, 1e-7);
    }
}

#[test]
fn a_class_is_the_number_of_thresholds_below_it() {
    let logits = [vec![2.0, 0.5, -1.0], vec![-0.1, -3.0, -4.0], vec![3.0, 2.0, 0.1]];
    assert_eq!(OrdinalCrossEntropy::classes(&logits), [2, 0, 3]);
}

#[test]
fn span_cross_entropy_is_that_of_pytorch() {
    // Texts of 3, 1 and 4 tokens; the spans are 1 to 2, none, 0 to 3. F.cross_entropy over each text's tokens alone; the
    // mean over texts, and over start and end.
    let spans = [Some((1, 2)), None, Some((0, 3))];
    let sequences = Sequences::from_lengths(&[3, 1, 4]);
    assert_loss(
        [
            [0.5, -1.0],
            [2.0, 0.25],
            [-0.75, 1.5],
            [3.0, -2.0],
            [0.0, 1.0],
            [1.25, -0.5],
            [-2.0, 0.75],
            [0.5, 2.5],
        ],
        |x| SpanCrossEntropy::default().forward(x, &sequences, &spans),
        0.692_974_2,
        [
            [0.043_341_115, 0.014_994_446],
            [-0.055_758_58, 0.052_335_77],
            [0.012_417_437, -0.067_330_24],
            [0.0, 0.0],
            [-0.210_155_55, 0.038_558_707],
            [0.139_070_8, 0.008_603_611],
            [0.005_392_36, 0.030_029_554],
            [0.065_692_395, -0.077_191_86],
        ],
    );
}

/// On the logits of Hugging Face's `BertForQuestionAnswering`, of which those of padding do not count: its own loss lets
/// them, so that it hangs on the batch.
#[test]
fn padding_takes_no_part_in_span_cross_entropy() {
    // F.cross_entropy(logits.masked_fill(attention_mask == 0, -1e30), positions) for start and end
    let expected = (1.858_767 + 1.972_634_1) / 2.0;
    let reference = values();
    let answers = &reference["question_answering"];
    let side = |name: &str| packed(&answers[name], &reference);
    let (start, end) = (side("start_logits"), side("end_logits"));
    let logits: Vec<f32> = start.iter().zip(&end).flat_map(|(s, e)| [*s, *e]).collect();
    let spans = [Some((1, 2)), Some((2, 4)), Some((3, 5)), Some((1, 1))];
    for (name, device) in devices() {
        let (ids, types, mask) = padded_batch(&reference["batch"], &device);
        let input = EncoderInput::from_padded(ids, types, mask);
        let logits = TensorData::new(logits.clone(), [start.len(), 2]);
        let logits = Tensor::from_data(logits, &device);
        let loss = SpanCrossEntropy::default().forward(logits, &input.sequences, &spans);
        assert_close(name, &host(loss), &[expected], 2e-5);
    }
}

/// Where nothing counts, the loss is 0 and so is its gradient.
#[test]
fn batches_without_targets_give_zero_and_no_gradient() {
    type Loss = Box<dyn Fn(Tensor<2>) -> Tensor<1>>;
    let losses: [(usize, Loss); 4] = [
        (2, Box::new(|x| BinaryCrossEntropy::default().forward(x, &[None; 6]))),
        (1, Box::new(|x| SquaredError.forward(x, &[None; 3]))),
        (2, Box::new(|x| OrdinalCrossEntropy.forward(x, &[None; 3]))),
        (
            2,
            Box::new(|x| {
                SpanCrossEntropy::default().forward(
                    x,
                    &Sequences::from_lengths(&[2, 1]),
                    &[None; 2],
                )
            }),
        ),
    ];
    for (name, device) in devices() {
        for (width, loss) in &losses {
            let x = Tensor::<2>::ones([3, *width], &device.clone().autodiff()).require_grad();
            let loss = loss(x.clone());
            assert_eq!(host(loss.clone()), [0.0], "{name}");
            let gradient = host(x.grad(&loss.backward()).unwrap());
            assert!(gradient.iter().all(|value| *value == 0.0), "{name}: {gradient:?}");
        }
    }
}

fn ones(rows: usize, columns: usize) -> Tensor<2> {
    let device: Device = devices().remove(0).1;
    Tensor::ones([rows, columns], &device)
}

#[test]
#[should_panic(expected = "binary cross-entropy: one target an entry is expected")]
fn too_few_targets_panic() {
    BinaryCrossEntropy::default().forward(ones(2, 3), &[None; 5]);
}

#[test]
#[should_panic(expected = "squared error: one number and one target a row are expected")]
fn two_numbers_a_row_panic() {
    SquaredError.forward(ones(3, 2), &[None; 3]);
}

#[test]
#[should_panic(expected = "ordinal cross-entropy: label 4 is not below the number of classes, 4")]
fn a_label_beyond_the_classes_panics() {
    OrdinalCrossEntropy.forward(ones(1, 3), &[Some(4)]);
}

#[test]
#[should_panic(expected = "span cross-entropy: the span 1 to 2 lies beyond its 2 tokens")]
fn a_span_beyond_its_text_panics() {
    SpanCrossEntropy::default().forward(
        ones(5, 2),
        &Sequences::from_lengths(&[2, 3]),
        &[Some((1, 2)), None],
    );
}
