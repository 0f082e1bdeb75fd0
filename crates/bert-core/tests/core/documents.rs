//! Texts that are read in windows.

use bert_core::{Documents, EncoderInput, Encoding, Window};
use burn::tensor::{Tensor, TensorData};

use crate::{
    reference::{assert_close, devices, host},
    tiny, tiny_config,
};

/// Two windows of 5 and 4 tokens, in which 1 and 2, and 1 (and what is special) are pooled.
fn in_windows() -> Encoding {
    let input_ids = vec![2, 58, 66, 71, 3, 2, 71, 66, 3];
    Encoding {
        token_type_ids: vec![0; 9],
        tokens: input_ids.iter().map(u32::to_string).collect(),
        offsets: vec![(0, 0); 9],
        word_ids: vec![None; 9],
        special_tokens_mask: input_ids.iter().map(|id| *id < 4).collect(),
        input_ids,
        truncated: false,
        windows: vec![Window { length: 5, own: 1..3 }, Window { length: 4, own: 1..3 }],
    }
}

fn short() -> Encoding {
    in_windows().select(&[0, 1, 4])
}

#[test]
fn each_window_is_a_sequence() {
    for (name, device) in devices() {
        let texts = [short(), in_windows()];
        let input = EncoderInput::new(&texts, &device);
        let lengths: Vec<usize> = input.sequences.ranges().map(|range| range.len()).collect();
        assert_eq!(lengths, [3, 5, 4], "{name}");
        let positions: Vec<i64> = input.position_ids.clone().into_data().iter().collect();
        assert_eq!(positions, [0, 1, 2, 0, 1, 2, 3, 4, 0, 1, 2, 3]);

        let model = tiny(&tiny_config(), &device);
        let together = model.forward(&input, None);
        let windows = [in_windows().select(&[0, 1, 2, 3, 4]), in_windows().select(&[5, 6, 7, 8])];
        for (range, window) in [3..8, 8..12].into_iter().zip(&windows) {
            let alone = model.forward(&EncoderInput::new([window], &device), None);
            let got = host(together.clone().slice(range));
            assert_close(name, &got, &host(alone), 1e-5);
        }
    }
}

#[test]
fn what_is_pooled_of_each_text_by_hand() {
    for (name, device) in devices() {
        let texts = [short(), in_windows()];
        let documents = Documents::of_encodings(&texts);
        assert!(documents.have_windows());
        let ranges: Vec<_> = documents.tokens.ranges().collect();
        // Of the first window token 3 is left out, which the second one has.
        assert_eq!(ranges, [0..3, 3..11]);
        assert_eq!(documents.windows.ranges().collect::<Vec<_>>(), [0..1, 1..3]);
        let rows: Vec<f32> = (0..12).map(|row| row as f32).collect();
        let rows = Tensor::<2>::from_data(TensorData::new(rows, [12, 1]), &device);
        let picked = host(documents.pick(rows));
        assert_eq!(picked, [0., 1., 2., 3., 4., 5., 7., 8., 9., 10., 11.], "{name}");
        let rows = TensorData::new(vec![1f32, 10., 2., 20., 4., 60.], [3, 2]);
        let means = documents.mean_of_windows(Tensor::<2>::from_data(rows, &device));
        // (2 + 4) / 2, (20 + 60) / 2
        assert_eq!(host(means), [1., 10., 3., 40.], "{name}");
    }
}

#[test]
fn texts_of_one_sequence_are_pooled_whole() {
    let (_, device) = devices().remove(0);
    let texts = [short(), in_windows().select(&[0, 1, 2, 3, 4])];
    let input = EncoderInput::new(&texts, &device);
    assert!(!input.documents.have_windows());
    assert_eq!(input.documents, Documents::of_sequences(&input.sequences));
}
