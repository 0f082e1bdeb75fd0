//! Every pooling: values, weights and gradients.

use bert_core::{Bert, BertConfig, Checkpoint, EncoderInput, Encoding, Window, set_parameters};
use bert_heads::{
    AdaptivePooling, AttentionPooling, FirstPooling, LayerMixture, MaxPooling, MeanPooling,
    Pooling, PoolingKind,
};
use bert_kernels::Sequences;
use burn::{
    module::{Module, Param},
    tensor::{Device, Tensor, TensorData},
};
use proptest::prelude::*;
use serde_json::Value;

use crate::reference::{
    assert_close, assert_gradient, devices, floats, folder, gradients, host, packed, padded_batch,
    values,
};

const TOLERANCE: f32 = 2e-5;
const SIZE: usize = 32;

/// The hidden states that the reference pools, and where its sequences lie.
fn hidden(reference: &Value, device: &Device) -> (Vec<Tensor<2>>, Sequences) {
    let folder = folder().join("tiny-bert");
    let config = BertConfig::load(&folder).unwrap();
    let checkpoint = Checkpoint::open(&folder).unwrap();
    let mut reader = checkpoint.reader();
    let bert = set_parameters(Bert::new(&config, device), "", |name, shape| {
        reader.take(name, shape).map(Some)
    });
    let (ids, types, mask) = padded_batch(&reference["batch"], device);
    let input = EncoderInput::from_padded(ids, types, mask);
    (bert.unwrap().hidden_states(&input, None), input.sequences)
}

/// The linear map and the vector that the reference's learned poolings have.
fn learned(reference: &Value, device: &Device) -> (burn::nn::Linear, Param<Tensor<1>>) {
    let map = &reference["adaptive_pooling"];
    let weight = TensorData::new(floats(&map["linear_weight_out_in"]), [SIZE, SIZE]);
    let weight = Tensor::<2>::from_data(weight, device).transpose();
    let vector = |value: &Value| Tensor::<1>::from_data(floats(value).as_slice(), device);
    let linear = burn::nn::Linear {
        weight: Param::from_tensor(weight),
        bias: Some(Param::from_tensor(vector(&map["linear_bias"]))),
    };
    (linear, Param::from_tensor(vector(&reference["attention_pooling"]["v"])))
}

fn poolings(reference: &Value, device: &Device) -> Vec<(&'static str, Pooling, Value)> {
    let (linear, vector) = learned(reference, device);
    vec![
        ("mean", Pooling::Mean(MeanPooling), reference["mean_pooling"].clone()),
        ("max", Pooling::Max(MaxPooling), reference["max_pooling"].clone()),
        (
            "attention",
            Pooling::Attention(AttentionPooling { linear: linear.clone(), vector }),
            reference["attention_pooling"]["pooled"].clone(),
        ),
        (
            "adaptive",
            Pooling::Adaptive(AdaptivePooling { linear }),
            reference["adaptive_pooling"]["pooled"].clone(),
        ),
    ]
}

#[test]
fn pooled_vectors_and_gradients_are_those_of_pytorch() {
    let reference = values();
    for (name, device) in devices() {
        let device = device.autodiff();
        let (states, sequences) = hidden(&reference, &device);
        let states = states.last().unwrap().clone().detach();
        let probe = floats(&reference["gradient_probe"]["c"]);
        let probe = Tensor::<2>::from_data(TensorData::new(probe, [4, SIZE]), &device);
        for (kind, pooling, expected) in poolings(&reference, &device) {
            let what = format!("{name}, {kind}");
            let hidden = states.clone().require_grad();
            let pooled = pooling.forward(hidden.clone(), &sequences);
            assert_close(&what, &host(pooled.clone()), &floats(&expected), TOLERANCE);

            let grads = (pooled * probe.clone()).sum().backward();
            let expected = gradients(&format!("pool_{kind}"));
            let (shape, padded) = &expected["hidden"];
            let lengths: Vec<usize> = sequences.ranges().map(|range| range.len()).collect();
            let rows = padded.chunks(SIZE).enumerate();
            let kept = rows.filter(|(i, _)| i % shape[1] < lengths[i / shape[1]]);
            let kept: Vec<f32> = kept.flat_map(|(_, row)| row.to_vec()).collect();
            assert_gradient(&what, &host(hidden.grad(&grads).unwrap()), &kept);
            let linear = match &pooling {
                Pooling::Attention(attention) => Some(&attention.linear),
                Pooling::Adaptive(adaptive) => Some(&adaptive.linear),
                _ => None,
            };
            if let Some(linear) = linear {
                let weight = linear.weight.grad(&grads).unwrap().transpose();
                assert_gradient(&format!("{what}, W"), &host(weight), &expected["W"].1);
                let bias = host(linear.bias.as_ref().unwrap().grad(&grads).unwrap());
                // Softmax does not see what is added to all tokens of a dimension alike: adaptive's is zero.
                if kind == "adaptive" {
                    let norm = |v: &[f32]| v.iter().map(|x| x * x).sum::<f32>().sqrt();
                    assert!(norm(&bias) < 2e-6 && norm(&expected["b"].1) < 2e-6, "{what}, b");
                } else {
                    assert_gradient(&format!("{what}, b"), &bias, &expected["b"].1);
                }
            }
            if let Pooling::Attention(attention) = &pooling {
                let vector = host(attention.vector.grad(&grads).unwrap());
                assert_gradient(&format!("{what}, v"), &vector, &expected["v"].1);
            }
        }
    }
}

#[test]
fn weights_are_those_of_pytorch() {
    let reference = values();
    for (name, device) in devices() {
        let (states, sequences) = hidden(&reference, &device);
        let (linear, vector) = learned(&reference, &device);
        let adaptive = AdaptivePooling { linear: linear.clone() };
        let attention = AttentionPooling { linear, vector };
        let hidden = states.last().unwrap().clone();
        let expected = packed(&reference["adaptive_pooling"]["weights"], &reference);
        let got = host(adaptive.weights(hidden.clone(), &sequences));
        assert_close(&format!("{name}, adaptive"), &got, &expected, TOLERANCE);
        let expected = packed(&reference["attention_pooling"]["weights"], &reference);
        let got = host(attention.weights(hidden, &sequences));
        assert_close(&format!("{name}, attention"), &got, &expected, TOLERANCE);
    }
}

#[test]
fn layer_mixture_is_that_of_pytorch() {
    let reference = values();
    let expected = &reference["layer_mixture"];
    for (name, device) in devices() {
        let (states, _) = hidden(&reference, &device);
        let mut mixture = LayerMixture::new(states.len() - 1, &device);
        let vector = |values: Vec<f32>| Tensor::<1>::from_data(values.as_slice(), &device);
        mixture.scalars = Param::from_tensor(vector(floats(&expected["s"])));
        mixture.gamma = Param::from_tensor(vector(floats(&expected["gamma"])));
        let mixed = host(mixture.forward(states));
        assert_close(name, &mixed, &packed(&expected["mixed"], &reference), TOLERANCE);
    }
}

#[test]
fn a_mixture_starts_as_the_mean_of_all_layers() {
    let (_, device) = devices().remove(0);
    let states =
        [[[1.0, 2.0]], [[3.0, 5.0]], [[8.0, 2.0]]].map(|s| Tensor::<2>::from_data(s, &device));
    let mixed = host(LayerMixture::new(2, &device).forward(states.to_vec()));
    // (1 + 3 + 8) / 3 = 4, (2 + 5 + 2) / 3 = 3.
    assert_close("mixture", &mixed, &[4.0, 3.0], 1e-6);
}

/// Two texts of 3 and 1 tokens, two dimensions.
fn by_hand(kind: PoolingKind, device: &Device) -> (Vec<f32>, Vec<f32>) {
    let config = BertConfig { hidden_size: 2, num_attention_heads: 1, ..BertConfig::default() };
    let hidden = [[1.0, 4.0], [3.0, -2.0], [5.0, 1.0], [7.0, 9.0]];
    let hidden = Tensor::<2>::from_data(hidden, device);
    let sequences = Sequences::from_lengths(&[3, 1]);
    let pooling = Pooling::new(kind, &config, 0, device);
    let pooled = host(pooling.forward(hidden.clone(), &sequences));
    (pooled, host(pooling.weights(hidden, &sequences)))
}

#[test]
fn poolings_by_hand() {
    let third = 1.0 / 3.0;
    let even = [third, third, third, third, third, third, 1.0, 1.0];
    let first = [1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0];
    for (name, device) in devices() {
        // (1 + 3 + 5) / 3 = 3, (4 - 2 + 1) / 3 = 1; the learned ones start as the mean.
        let multi_head = PoolingKind::MultiHead { heads: 2 };
        for kind in [PoolingKind::Mean, PoolingKind::Attention, multi_head, PoolingKind::Adaptive] {
            let (pooled, weights) = by_hand(kind, &device);
            assert_close(&format!("{name}, {kind}"), &pooled, &[3.0, 1.0, 7.0, 9.0], 1e-6);
            assert_close(&format!("{name}, {kind} weights"), &weights, &even, 1e-6);
        }
        let (pooled, weights) = by_hand(PoolingKind::First, &device);
        assert_eq!((&pooled[..], &weights[..]), (&[1.0, 4.0, 7.0, 9.0][..], &first[..]), "{name}");
        let (pooled, weights) = by_hand(PoolingKind::Max, &device);
        assert_eq!(pooled, [5.0, 4.0, 7.0, 9.0], "{name}");
        assert_eq!(weights, [0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 1.0, 1.0], "{name}");
        assert_eq!(by_hand(PoolingKind::Cls, &device).1, first, "{name}");
    }
}

#[test]
fn names_of_poolings_are_read_back() {
    for kind in PoolingKind::ALL {
        assert_eq!(kind.to_string().parse(), Ok(kind));
    }
    assert_eq!(
        "avg".parse::<PoolingKind>().unwrap_err().to_string(),
        "unknown pooling \"avg\": expected cls, first, mean, max, attention, multi-head, multi-head=HEADS (HEADS from 1, \
         for example multi-head=4) or adaptive"
    );
    assert_eq!("multi-head".parse(), Ok(PoolingKind::MultiHead { heads: 4 }));
    assert_eq!("multi-head=12".parse(), Ok(PoolingKind::MultiHead { heads: 12 }));
    for name in ["multi-head=0", "multi-head=", "multi-head=x", "multi-head4", "max=2"] {
        assert!(name.parse::<PoolingKind>().is_err(), "{name}");
    }
    for kind in PoolingKind::ALL {
        let json = serde_json::to_string(&kind).unwrap();
        assert_eq!(json, format!("\"{kind}\""));
        assert_eq!(serde_json::from_str::<PoolingKind>(&json).unwrap(), kind);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Weights sum to 1 over each text's tokens, and the pooled vector is the weighted sum.
    #[test]
    fn weights_sum_to_one(lengths in prop::collection::vec(1usize..9, 1..5), seed in 0u64..1000) {
        let (_, device) = devices().remove(0);
        let config = BertConfig { hidden_size: 12, num_attention_heads: 2, ..BertConfig::default() };
        let sequences = Sequences::from_lengths(&lengths);
        let mut stream = bert_kernels::random::Stream::new(seed, bert_kernels::random::Purpose::Sample, 0);
        let values: Vec<f32> = (0..sequences.tokens() * 12).map(|_| stream.normal()).collect();
        let hidden = Tensor::<2>::from_data(TensorData::new(values.clone(), [sequences.tokens(), 12]), &device);
        for kind in PoolingKind::ALL {
            let pooling = bert_core::initialise(Pooling::new(kind, &config, seed, &device), "", seed, 1.0);
            let weights = host(pooling.weights(hidden.clone(), &sequences));
            let pooled = host(pooling.forward(hidden.clone(), &sequences));
            for (row, range) in sequences.ranges().enumerate() {
                for dimension in 0..12 {
                    let at = |token: usize| token * 12 + dimension;
                    let sum: f32 = range.clone().map(|token| weights[at(token)]).sum();
                    prop_assert!((sum - 1.0).abs() < 1e-5, "{kind}: {sum}");
                    // `cls` and `multi-head` map what they pool.
                    if !matches!(kind, PoolingKind::Cls | PoolingKind::MultiHead { .. }) {
                        let expected: f32 = range.clone().map(|t| weights[at(t)] * values[at(t)]).sum();
                        prop_assert!((pooled[row * 12 + dimension] - expected).abs() < 1e-4, "{kind}");
                    }
                }
            }
        }
    }
}

#[test]
fn the_number_of_parameters_of_each_pooling() {
    let (_, device) = devices().remove(0);
    let config = BertConfig { hidden_size: 12, num_attention_heads: 2, ..BertConfig::default() };
    // A square map and its bias: 12 x 12 + 12 = 156; attention has a vector of 12 besides, multi-head four queries of 12 and
    // a map of the values: 156 + 48 + 156.
    let expected = [156, 0, 0, 0, 168, 360, 156];
    for (kind, expected) in PoolingKind::ALL.into_iter().zip(expected) {
        assert_eq!(Pooling::new(kind, &config, 0, &device).num_params(), expected, "{kind}");
    }
}

/// [CLS] a b [SEP], [CLS] b c [SEP], where b belongs to the first window.
#[test]
fn a_text_in_two_windows_by_hand() {
    let encoding = Encoding {
        input_ids: vec![2, 5, 6, 3, 2, 6, 7, 3],
        token_type_ids: vec![0; 8],
        tokens: vec![String::new(); 8],
        offsets: vec![(0, 0); 8],
        word_ids: vec![None; 8],
        special_tokens_mask: vec![true, false, false, true, true, false, false, true],
        truncated: false,
        windows: vec![Window { length: 4, own: 1..3 }, Window { length: 4, own: 2..3 }],
    };
    for (name, device) in devices() {
        let input = EncoderInput::new([&encoding], &device);
        let hidden = vec![1f32, 2., 4., 8., 16., 99., 32., 64.];
        let hidden = Tensor::<2>::from_data(TensorData::new(hidden, [8, 1]), &device);
        let run = |pooling: Pooling| {
            let pooled = pooling.pool(pooling.read(hidden.clone(), &input), &input.documents);
            (host(pooled), host(pooling.pooled_weights(hidden.clone(), &input)))
        };
        let (pooled, weights) = run(Pooling::Mean(MeanPooling));
        // (1 + 2 + 4 + 8 + 16 + 32 + 64) / 7
        assert_close(name, &pooled, &[127.0 / 7.0], 1e-5);
        assert_close(name, &weights, &[1.0 / 7.0; 7], 1e-6);
        let (pooled, weights) = run(Pooling::Max(MaxPooling));
        assert_eq!((pooled, weights), (vec![64.0], vec![0., 0., 0., 0., 0., 0., 1.]), "{name}");
        let (pooled, weights) = run(Pooling::First(FirstPooling));
        // (1 + 16) / 2
        assert_eq!((pooled, weights), (vec![8.5], vec![0.5, 0., 0., 0., 0.5, 0., 0.]), "{name}");
    }
}
