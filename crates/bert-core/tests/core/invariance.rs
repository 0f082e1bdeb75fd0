//! What must change nothing: padding, company in the batch, the order of rows, the device.

use bert_core::{Bert, BertConfig, Documents, EncoderInput, first_tokens, initialise, pass_key};
use burn::tensor::{Bool, Device, Int, Tensor, TensorData};

use crate::reference::{assert_close, devices, host};

/// Odd and distinct sizes, so that a swapped axis cannot pass: batch 3, length 7, hidden 22 = 2 x 11.
fn odd() -> BertConfig {
    BertConfig {
        vocab_size: 41,
        hidden_size: 22,
        num_hidden_layers: 3,
        num_attention_heads: 2,
        intermediate_size: 37,
        max_position_embeddings: 13,
        ..BertConfig::default()
    }
}

const LENGTHS: [usize; 3] = [4, 7, 1];
const LENGTH: usize = 7;

fn model(device: &Device) -> Bert {
    // A large deviation lets attention differ from token to token.
    initialise(Bert::new(&odd(), device), "", 5, 0.3)
}

/// Three rows; what the mask hides holds `garbage`.
fn input(garbage: i64, device: &Device) -> EncoderInput {
    let places = || LENGTHS.iter().flat_map(|n| (0..LENGTH).map(move |place| place < *n));
    let mask: Vec<bool> = places().collect();
    let ids: Vec<i64> =
        (0..).zip(places()).map(|(i, real)| if real { i * 5 % 41 } else { garbage }).collect();
    let types: Vec<i64> =
        (0..).zip(places()).map(|(i, real)| if real { i % 2 } else { garbage % 2 }).collect();
    let ints = |v: Vec<i64>| Tensor::<2, Int>::from_data(TensorData::new(v, [3, LENGTH]), device);
    let mask = Tensor::<2, Bool>::from_data(TensorData::new(mask, [3, LENGTH]), device);
    EncoderInput::from_padded(ints(ids), ints(types), mask)
}

#[test]
fn garbage_in_the_padding_changes_no_bit() {
    let _switch = crate::SWITCH.read();
    for (name, device) in devices() {
        let model = model(&device);
        let run = |garbage| host(model.forward(&input(garbage, &device), None));
        assert_eq!(run(0), run(37), "{name}");
    }
}

#[test]
fn a_row_alone_is_the_row_in_the_batch() {
    for (name, device) in devices() {
        let model = model(&device);
        let all = input(0, &device);
        let together = model.forward(&all, None);
        for range in all.sequences.ranges() {
            let cut = |ids: &Tensor<1, Int>| ids.clone().slice(range.clone());
            let sequences = bert_kernels::Sequences::from_lengths(&[range.len()]);
            let alone = EncoderInput {
                input_ids: cut(&all.input_ids),
                token_type_ids: cut(&all.token_type_ids),
                position_ids: cut(&all.position_ids),
                documents: Documents::of_sequences(&sequences),
                sequences,
                shift: None,
            };
            let got = host(model.forward(&alone, None));
            let expected = host(together.clone().slice(range.clone()));
            assert_close(&format!("{name}, {range:?}"), &got, &expected, 1e-5);
        }
    }
}

#[test]
fn permuting_rows_permutes_results() {
    for (name, device) in devices() {
        let model = model(&device);
        let all = input(0, &device);
        let ranges: Vec<_> = all.sequences.ranges().collect();
        let order = [2, 0, 1];
        let permute = |ids: &Tensor<1, Int>| {
            Tensor::cat(order.map(|row| ids.clone().slice(ranges[row].clone())).to_vec(), 0)
        };
        let lengths = order.map(|row| ranges[row].len());
        let sequences = bert_kernels::Sequences::from_lengths(&lengths);
        let permuted = EncoderInput {
            input_ids: permute(&all.input_ids),
            token_type_ids: permute(&all.token_type_ids),
            position_ids: permute(&all.position_ids),
            documents: Documents::of_sequences(&sequences),
            sequences,
            shift: None,
        };
        let expected = model.forward(&all, None);
        let expected = order.map(|row| expected.clone().slice(ranges[row].clone())).to_vec();
        let got = host(model.forward(&permuted, None));
        assert_close(name, &got, &host(Tensor::cat(expected, 0)), 1e-5);
    }
}

/// Whoever wants the first tokens alone gets those of all tokens.
#[test]
fn first_tokens_alone_are_those_of_all() {
    for (name, device) in devices() {
        let (model, input) = (model(&device), input(0, &device));
        let words = model.embeddings.words(&input);
        let all = first_tokens(model.forward(&input, None), &input.sequences);
        let first = host(model.forward_first(words, &input, None));
        assert_close(name, &first, &host(all), 1e-5);
    }
}

/// The mask may hide places in the middle: positions stay those of the padded row.
#[test]
fn hidden_places_may_lie_anywhere() {
    for (name, device) in devices() {
        let model = model(&device);
        let pack = |ids: [i64; 4], mask: [bool; 4]| {
            let ids = Tensor::<2, Int>::from_data(TensorData::new(ids.to_vec(), [1, 4]), &device);
            let mask =
                Tensor::<2, Bool>::from_data(TensorData::new(mask.to_vec(), [1, 4]), &device);
            EncoderInput::from_padded(ids.clone(), ids.zeros_like(), mask)
        };
        let left = pack([9, 3, 4, 5], [false, true, true, true]);
        assert_eq!(
            left.position_ids.clone().into_data().iter::<i64>().collect::<Vec<_>>(),
            [1, 2, 3]
        );
        let got = host(model.forward(&left, None));
        let shifted = pack([3, 4, 5, 9], [true, true, true, false]);
        let other = host(model.forward(&shifted, None));
        assert!(crate::reference::distance(&got, &other) > 1e-3, "{name}: positions must count");
    }
}

/// Starting values and dropout masks are drawn on the host: the same on every device.
#[test]
fn a_seed_gives_the_same_numbers_on_every_device() {
    let run = |device: &Device| {
        let key = pass_key(11, 2, 0, 0);
        host(model(device).forward(&input(0, device), Some(key)))
    };
    let all: Vec<_> = devices().into_iter().map(|(name, device)| (name, run(&device))).collect();
    for (name, got) in &all[1..] {
        assert_close(name, got, &all[0].1, 2e-5);
    }
}

#[test]
fn dropout_depends_on_seed_step_and_pass_alone() {
    let _switch = crate::SWITCH.read();
    let (_, device) = devices().remove(0);
    let model = model(&device);
    let run = |key| host(model.forward(&input(0, &device), Some(key)));
    let base = run(pass_key(1, 2, 0, 0));
    assert_eq!(base, run(pass_key(1, 2, 0, 0)));
    for other in
        [pass_key(2, 2, 0, 0), pass_key(1, 3, 0, 0), pass_key(1, 2, 1, 0), pass_key(1, 2, 0, 1)]
    {
        assert_ne!(base, run(other));
    }
}
