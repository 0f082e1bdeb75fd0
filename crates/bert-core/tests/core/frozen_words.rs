//! Frozen words: the same values to the bit, and no gradient for what is frozen.

use bert_core::{BertConfig, Embeddings, EncoderInput, initialise};
use burn::tensor::{Device, Int, Tensor};
use proptest::prelude::*;

use crate::reference::{devices, host};

fn embeddings(device: &Device) -> Embeddings {
    let config = BertConfig {
        vocab_size: 13,
        hidden_size: 6,
        num_attention_heads: 2,
        max_position_embeddings: 9,
        ..Default::default()
    };
    initialise(Embeddings::new(&config, device), "", 3, 0.5)
}

fn input(ids: &[i64], device: &Device) -> EncoderInput {
    let ids = Tensor::<1, Int>::from_data(ids, device).unsqueeze::<2>();
    EncoderInput::from_padded(ids.clone(), ids.zeros_like(), ids.equal_elem(-1).bool_not())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 32, ..Default::default() })]

    #[test]
    fn values_are_the_same_to_the_bit(ids in prop::collection::vec(0..13_i64, 1..9), rows in 1..=13_usize) {
        for (name, device) in devices() {
            let (whole, input) = (embeddings(&device), input(&ids, &device));
            let frozen = whole.clone().freeze_words(rows);
            prop_assert_eq!(host(frozen.words(&input)), host(whole.words(&input)), "{}", name);
            prop_assert_eq!(host(frozen.word_table()), host(whole.word_table()));
            let again = frozen.with_word_table(whole.word_table());
            prop_assert!(again.new_word_embeddings.is_none());
            prop_assert_eq!(host(again.words(&input)), host(whole.words(&input)));
        }
    }
}

/// `loss = sum(words * c)`: the gradient of a new row is the sum of `c` over its tokens; frozen rows have none.
#[test]
fn only_new_rows_have_a_gradient() {
    for (name, device) in devices() {
        let device = device.autodiff();
        let frozen = embeddings(&device).freeze_words(10);
        // Words 10 and 12 are new; 12 comes twice.
        let input = input(&[0, 12, 3, 10, 12], &device);
        let probe: Vec<f32> = (0..30).map(|value| value as f32).collect();
        let probe = Tensor::<1>::from_data(probe.as_slice(), &device).reshape([5, 6]);
        let gradients = (frozen.words(&input) * probe).sum().backward();
        assert!(frozen.word_embeddings.weight.val().grad(&gradients).is_none(), "{name}");
        let new = frozen.new_word_embeddings.unwrap().val().grad(&gradients).unwrap();
        // Row 10 is token 3, 18 to 23; row 11 no token; row 12 tokens 1 and 4, 6 + 24 = 30 and then 2 more each.
        let expected: Vec<f32> = [18.0, 19.0, 20.0, 21.0, 22.0, 23.0]
            .into_iter()
            .chain([0.0; 6])
            .chain([30.0, 32.0, 34.0, 36.0, 38.0, 40.0])
            .collect();
        assert_eq!(host(new), expected, "{name}");
        let all = embeddings(&device).freeze_words(13);
        assert!(all.new_word_embeddings.is_none() && !all.words(&input).is_require_grad());
    }
}
