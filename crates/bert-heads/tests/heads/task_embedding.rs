//! Task embeddings: values and gradients against PyTorch, gradients by their formulas, and what folding must give.

use bert_core::{Bert, BertConfig, Checkpoint, EncoderInput, set_parameters};
use bert_heads::{
    AdditiveTaskEmbedding, DiagonalTaskEmbedding, FullTaskEmbedding, LowRankTaskEmbedding,
    PoolingKind, SequenceClassifier, SequenceClassifierConfig, TaskEmbedding, TaskEmbeddingKind,
};
use bert_kernels::random::{Purpose, Stream};
use burn::{
    module::Param,
    nn::Linear,
    tensor::{Device, Tensor, TensorData},
};
use proptest::prelude::*;
use serde_json::Value;

use crate::reference::{
    assert_close, assert_gradient, devices, floats, folder, gradients, host, integers, packed,
    padded_batch, values,
};

const SIZE: usize = 32;

fn matrix(values: &[f32], shape: [usize; 2], device: &Device) -> Tensor<2> {
    Tensor::from_data(TensorData::new(values.to_vec(), shape), device)
}

fn map(weight: &[f32], inputs: usize, bias: Option<&[f32]>, device: &Device) -> Linear {
    Linear {
        weight: Param::from_tensor(matrix(weight, [inputs, weight.len() / inputs], device)),
        bias: bias.map(|bias| Param::from_tensor(Tensor::from_data(bias, device))),
    }
}

fn draws(seed: u64, count: usize) -> Vec<f32> {
    let mut stream = Stream::new(seed, Purpose::Sample, 0);
    (0..count).map(|_| stream.normal()).collect()
}

fn bert(device: &Device) -> (Bert, BertConfig) {
    let folder = folder().join("tiny-bert");
    let config = BertConfig::load(&folder).unwrap();
    let checkpoint = Checkpoint::open(&folder).unwrap();
    let mut reader = checkpoint.reader();
    let bert = Bert::new(&config, device);
    (set_parameters(bert, "", |name, shape| reader.take(name, shape).map(Some)).unwrap(), config)
}

/// The reference maps the words by `x W^T + b`; ours adds to the identity: `D = W^T - I`. Gives `D` and `b`.
fn delta_and_bias(reference: &Value) -> (Vec<f32>, Vec<f32>) {
    let linear = &reference["adaptive_pooling"];
    let weight = floats(&linear["linear_weight_out_in"]);
    let delta = square(&|i, j| weight[j * SIZE + i] - identity(i, j));
    (delta, floats(&linear["linear_bias"]))
}

fn square(value: &dyn Fn(usize, usize) -> f32) -> Vec<f32> {
    (0..SIZE * SIZE).map(|place| value(place / SIZE, place % SIZE)).collect()
}

fn identity(i: usize, j: usize) -> f32 {
    if i == j { 1.0 } else { 0.0 }
}

#[test]
fn embedded_words_and_hidden_states_are_those_of_pytorch() {
    let reference = values();
    let (delta, bias) = delta_and_bias(&reference);
    let expected = &reference["task_embeddings"];
    for (name, device) in devices() {
        let map = |weight: &[f32], bias| map(weight, SIZE, bias, &device);
        let full = FullTaskEmbedding { delta: map(&delta, Some(&bias)) };
        // Through as many dimensions as there are, the low-rank map can be any.
        let (a, b) = (map(&delta, None), map(&square(&identity), Some(&bias)));
        let (bert, _) = bert(&device);
        let (ids, types, mask) = padded_batch(&reference["batch"], &device);
        let input = EncoderInput::from_padded(ids, types, mask);
        for task_embedding in
            [TaskEmbedding::Full(full), TaskEmbedding::LowRank(LowRankTaskEmbedding { a, b })]
        {
            let words = task_embedding.forward(bert.embeddings.words(&input));
            let embedded = packed(&expected["embedded"], &reference);
            assert_close(name, &host(words.clone()), &embedded, 2e-5);
            let hidden = bert.forward_words(words, &input, None);
            let last = packed(&expected["last_hidden_state"], &reference);
            assert_close(name, &host(hidden), &last, 2e-5);
        }
    }
}

/// `loss = sum over tokens of last_hidden_state * (1, -1, 1, -1, ...)`, through the whole encoder. `dD = dW^T`, also where
/// `D` is the first of two matrices and the second the identity.
#[test]
fn gradients_are_those_of_pytorch() {
    let reference = values();
    let (delta, bias) = delta_and_bias(&reference);
    let expected = gradients("task_embedding");
    let expected = |name: &str| expected[name].1.clone();
    let mask = integers(&reference["batch"]["attention_mask"]);
    let words_expected = expected("words");
    let rows = words_expected.chunks(SIZE).zip(&mask).filter(|(_, mask)| **mask == 1);
    let words_expected: Vec<f32> = rows.flat_map(|(row, _)| row.to_vec()).collect();
    for (name, device) in devices() {
        let device = device.autodiff();
        let map = |weight: &[f32], bias| map(weight, SIZE, bias, &device);
        let full = FullTaskEmbedding { delta: map(&delta, Some(&bias)) };
        let low_rank =
            LowRankTaskEmbedding { a: map(&delta, None), b: map(&square(&identity), Some(&bias)) };
        let (bert, _) = bert(&device);
        let (ids, types, mask) = padded_batch(&reference["batch"], &device);
        let input = EncoderInput::from_padded(ids, types, mask);
        let signs: Vec<f32> = (0..SIZE).map(|i| [1.0, -1.0][i % 2]).collect();
        let signs = matrix(&signs, [1, SIZE], &device);
        let full_parts = (full.delta.weight.val(), full.delta.bias.clone().unwrap().val());
        let low_rank_parts = (low_rank.a.weight.val(), low_rank.b.bias.clone().unwrap().val());
        for (task_embedding, (weight, bias)) in [
            (TaskEmbedding::Full(full), full_parts),
            (TaskEmbedding::LowRank(low_rank), low_rank_parts),
        ] {
            let words = bert.embeddings.words(&input).detach().require_grad();
            let hidden = bert.forward_words(task_embedding.forward(words.clone()), &input, None);
            let gradients = (hidden * signs.clone()).sum().backward();
            let got = |tensor: Option<Tensor<2>>| host(tensor.unwrap());
            assert_gradient(name, &got(words.grad(&gradients)), &words_expected);
            let weight = got(weight.grad(&gradients));
            assert_gradient(name, &weight, &transposed(&expected("W"), SIZE));
            assert_gradient(name, &host(bias.grad(&gradients).unwrap()), &expected("b"));
        }
    }
}

#[test]
fn diagonal_and_additive_by_hand() {
    for (name, device) in devices() {
        let words = matrix(&[1.0, 2.0, 3.0, -1.0, 0.5, 4.0], [2, 3], &device);
        let vector = |values: [f32; 3]| Param::from_tensor(Tensor::from_data(values, &device));
        let diagonal = TaskEmbedding::Diagonal(DiagonalTaskEmbedding {
            delta: vector([0.0, 1.0, -0.5]),
            bias: vector([10.0, 0.0, 1.0]),
        });
        // x * (1 + d) + b: 1 * 1 + 10, 2 * 2 + 0, 3 * 0.5 + 1, and so on.
        let expected = [11.0, 4.0, 2.5, 9.0, 1.0, 3.0];
        assert_close(name, &host(diagonal.forward(words.clone())), &expected, 0.0);
        let additive =
            TaskEmbedding::Additive(AdditiveTaskEmbedding { bias: vector([10.0, 0.0, 1.0]) });
        let expected = [11.0, 2.0, 4.0, 9.0, 0.5, 5.0];
        assert_close(name, &host(additive.forward(words)), &expected, 0.0);
    }
}

/// `x^T y` of row-major `[rows, m]` and `[rows, n]`, in double precision.
fn outer(x: &[f32], y: &[f32], rows: usize) -> Vec<f32> {
    let (m, n) = (x.len() / rows, y.len() / rows);
    let at = |i: usize, j: usize| (0..rows).map(move |row| (row * m + i, row * n + j));
    let sum = |places: &mut dyn Iterator<Item = (usize, usize)>| {
        places.map(|(a, b)| f64::from(x[a]) * f64::from(y[b])).sum::<f64>() as f32
    };
    (0..m * n).map(|place| sum(&mut at(place / n, place % n))).collect()
}

fn transposed(x: &[f32], rows: usize) -> Vec<f32> {
    let columns = x.len() / rows;
    (0..x.len()).map(|place| x[place % rows * columns + place / rows]).collect()
}

/// `loss = sum(output * c)`: dD = x^T c, dA = x^T (c B^T), dB = (x A)^T c, db = 1^T c, dx = c + c D^T.
#[test]
fn gradients_are_those_of_the_formulas() {
    let (tokens, size, rank) = (7, 11, 3);
    let (x, c) = (draws(1, tokens * size), draws(2, tokens * size));
    let (delta, a, b) = (draws(3, size * size), draws(4, size * rank), draws(5, rank * size));
    let ones = vec![1.0; tokens];
    for (name, device) in devices() {
        let device = device.autodiff();
        let probe = matrix(&c, [tokens, size], &device);
        let zeros = vec![0.0; size];
        let run = |task_embedding: &TaskEmbedding| {
            let words = matrix(&x, [tokens, size], &device).require_grad();
            let loss = (task_embedding.forward(words.clone()) * probe.clone()).sum();
            let gradients = loss.backward();
            (host(words.grad(&gradients).unwrap()), gradients)
        };

        let full = FullTaskEmbedding { delta: map(&delta, size, Some(&zeros), &device) };
        let (weight, bias) = (full.delta.weight.val(), full.delta.bias.clone().unwrap().val());
        let (words, gradients) = run(&TaskEmbedding::Full(full));
        assert_gradient(name, &host(weight.grad(&gradients).unwrap()), &outer(&x, &c, tokens));
        assert_gradient(name, &host(bias.grad(&gradients).unwrap()), &outer(&ones, &c, tokens));
        let through = outer(&transposed(&c, tokens), &transposed(&delta, size), size);
        let expected: Vec<f32> = c.iter().zip(through).map(|(c, more)| c + more).collect();
        assert_gradient(name, &words, &expected);

        let low_rank = LowRankTaskEmbedding {
            a: map(&a, size, None, &device),
            b: map(&b, rank, Some(&zeros), &device),
        };
        let (weight_a, weight_b) = (low_rank.a.weight.val(), low_rank.b.weight.val());
        let (_, gradients) = run(&TaskEmbedding::LowRank(low_rank));
        let c_b = outer(&transposed(&c, tokens), &transposed(&b, rank), size);
        let expected = outer(&x, &c_b, tokens);
        assert_gradient(name, &host(weight_a.grad(&gradients).unwrap()), &expected);
        let x_a = outer(&transposed(&x, tokens), &a, size);
        let expected = outer(&x_a, &c, tokens);
        assert_gradient(name, &host(weight_b.grad(&gradients).unwrap()), &expected);

        let vector = || Param::from_tensor(Tensor::from_data(zeros.as_slice(), &device));
        let diagonal = DiagonalTaskEmbedding { delta: vector(), bias: vector() };
        let (factors, bias) = (diagonal.delta.val(), diagonal.bias.val());
        let (_, gradients) = run(&TaskEmbedding::Diagonal(diagonal));
        let products: Vec<f32> = x.iter().zip(&c).map(|(x, c)| x * c).collect();
        let expected = outer(&ones, &products, tokens);
        assert_gradient(name, &host(factors.grad(&gradients).unwrap()), &expected);
        assert_gradient(name, &host(bias.grad(&gradients).unwrap()), &outer(&ones, &c, tokens));
    }
}

const KINDS: [TaskEmbeddingKind; 4] = [
    TaskEmbeddingKind::Full,
    TaskEmbeddingKind::LowRank { rank: 5 },
    TaskEmbeddingKind::Diagonal,
    TaskEmbeddingKind::Additive,
];

/// A classifier of the tiny BERT.
fn classifier(
    kind: Option<TaskEmbeddingKind>,
    layer_mixture: bool,
    device: &Device,
) -> SequenceClassifier {
    let (bert, config) = bert(device);
    let parts = SequenceClassifierConfig {
        task_embedding: kind,
        pooling: PoolingKind::Mean,
        layer_mixture,
        num_labels: 3,
    };
    SequenceClassifier::new(bert, &config, parts, 7, device)
}

#[test]
fn it_starts_as_the_identity() {
    let reference = values();
    for (name, device) in devices() {
        let (ids, types, mask) = padded_batch(&reference["batch"], &device);
        let input = EncoderInput::from_padded(ids, types, mask);
        for layer_mixture in [false, true] {
            let plain = host(classifier(None, layer_mixture, &device).forward(&input, None));
            for kind in KINDS {
                let model = classifier(Some(kind), layer_mixture, &device);
                assert_eq!(host(model.forward(&input, None)), plain, "{name}, {kind}");
                let names = model.named_parameters().into_iter().map(|tensor| tensor.name);
                let names: Vec<_> =
                    names.filter(|name| name.starts_with("task_embedding.")).collect();
                let expected: &[&str] = match kind {
                    TaskEmbeddingKind::Full => &["delta.weight", "delta.bias"],
                    TaskEmbeddingKind::LowRank { .. } => &["a.weight", "b.weight", "b.bias"],
                    TaskEmbeddingKind::Diagonal => &["delta", "bias"],
                    TaskEmbeddingKind::Additive => &["bias"],
                };
                let expected: Vec<_> =
                    expected.iter().map(|name| format!("task_embedding.{name}")).collect();
                assert_eq!(names, expected);
            }
        }
    }
}

/// With `cls` the last layer is computed for the first tokens alone: the map must come before it all the same.
#[test]
fn cls_pooling_sees_the_mapped_words() {
    let reference = values();
    for (name, device) in devices() {
        let (ids, types, mask) = padded_batch(&reference["batch"], &device);
        let input = EncoderInput::from_padded(ids, types, mask);
        let (bert, config) = bert(&device);
        let parts = SequenceClassifierConfig {
            task_embedding: Some(TaskEmbeddingKind::Additive),
            pooling: PoolingKind::Cls,
            layer_mixture: false,
            num_labels: 3,
        };
        let model = SequenceClassifier::new(bert, &config, parts, 7, &device);
        let model = model
            .set_parameters(|name, shape| {
                let values = || draws(3, shape.iter().product());
                Ok(name.starts_with("task_embedding.").then(values))
            })
            .unwrap();
        let words = model.bert.embeddings.words(&input);
        let words = model.task_embedding.as_ref().unwrap().forward(words);
        let hidden = model.bert.forward_words(words, &input, None);
        let expected = host(model.pooling.forward(hidden, &input.sequences));
        assert_close(name, &host(model.pooled(&input, None)), &expected, 2e-5);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 24, ..Default::default() })]

    /// Logits after folding are those before, whatever the map, also where words are frozen.
    #[test]
    fn fold_equals_forward(seed: u64, kind in 0..4_usize, layer_mixture: bool, frozen in prop::option::of(1..79_usize)) {
        let reference = values();
        for (name, device) in devices() {
            let (ids, types, mask) = padded_batch(&reference["batch"], &device);
            let input = EncoderInput::from_padded(ids, types, mask);
            let model = classifier(Some(KINDS[kind]), layer_mixture, &device);
            let mut model = model.set_parameters(|name, shape| {
                let values = || draws(seed ^ name.len() as u64, shape.iter().product());
                let values = || values().into_iter().map(|value| value * 0.1).collect();
                Ok(name.starts_with("task_embedding.").then(values))
            }).unwrap();
            if let Some(rows) = frozen {
                model.bert.embeddings = model.bert.embeddings.freeze_words(rows);
            }
            let expected = host(model.forward(&input, None));
            let folded = model.fold_task_embedding();
            prop_assert!(folded.task_embedding.is_none());
            assert_close(name, &host(folded.forward(&input, None)), &expected, 1e-5);
        }
    }
}
