//! What the encoder reads: packed token ids and where each sequence lies.

use bert_kernels::Sequences;
use burn::tensor::{Bool, Device, Int, Tensor};

use crate::{documents::Documents, tokenizer::Encoding};

/// A batch for the encoder, without padding: the tokens of all sequences, one behind the other.
#[derive(Debug, Clone)]
pub struct EncoderInput {
    /// `[tokens]`, the ids of the tokens.
    pub input_ids: Tensor<1, Int>,
    /// `[tokens]`, 0 for the first text of a pair and 1 for the second.
    pub token_type_ids: Tensor<1, Int>,
    /// `[tokens]`, the place of each token in its sequence, from 0.
    pub position_ids: Tensor<1, Int>,
    /// Where each sequence lies.
    pub sequences: Sequences,
    /// Which texts the sequences make.
    pub documents: Documents,
    /// What is added to the word embeddings, `[tokens, hidden_size]`, before anything else is done to them.
    pub shift: Option<Tensor<2>>,
}

impl EncoderInput {
    /// Packs encoded texts; each window of a long text is a sequence.
    ///
    /// # Panics
    /// When there is no encoding, or one is empty.
    pub fn new<'a>(encodings: impl IntoIterator<Item = &'a Encoding>, device: &Device) -> Self {
        let (mut ids, mut types, mut positions, mut lengths) = (vec![], vec![], vec![], vec![]);
        let encodings: Vec<&Encoding> = encodings.into_iter().collect();
        for encoding in &encodings {
            ids.extend(encoding.input_ids.iter().map(|id| i64::from(*id)));
            types.extend(encoding.token_type_ids.iter().map(|id| i64::from(*id)));
            for length in encoding.sequence_lengths() {
                positions.extend(0..length as i64);
                lengths.push(length);
            }
        }
        let ints = |values: Vec<i64>| Tensor::from_data(values.as_slice(), device);
        Self {
            input_ids: ints(ids),
            token_type_ids: ints(types),
            position_ids: ints(positions),
            sequences: Sequences::from_lengths(&lengths),
            documents: Documents::of_encodings(encodings),
            shift: None,
        }
    }

    /// The same with something that is added to the word embeddings.
    ///
    /// # Shapes
    /// `shift`: `[tokens, hidden_size]`
    pub fn with_shift(self, shift: Option<Tensor<2>>) -> Self {
        Self { shift, ..self }
    }

    /// Packs a padded batch: what `attention_mask` hides is left out, and can change no result.
    ///
    /// The hidden places may lie anywhere; a token's position is its place in the padded row, as in Hugging Face's
    /// models. The mask is read back to the host.
    ///
    /// # Shapes
    /// `[sequences, length]` each; `attention_mask` is true where a token is attended to.
    ///
    /// # Panics
    /// When shapes differ, or a row has no token.
    pub fn from_padded(
        input_ids: Tensor<2, Int>,
        token_type_ids: Tensor<2, Int>,
        attention_mask: Tensor<2, Bool>,
    ) -> Self {
        let [_, length] = input_ids.dims();
        assert_eq!(
            input_ids.dims(),
            token_type_ids.dims(),
            "token_type_ids: the shape of input_ids is expected"
        );
        assert_eq!(
            input_ids.dims(),
            attention_mask.dims(),
            "attention_mask: the shape of input_ids is expected"
        );
        let device = input_ids.device();
        let kept: Vec<bool> = attention_mask.into_data().iter::<bool>().collect();
        let lengths: Vec<usize> =
            kept.chunks(length).map(|row| row.iter().filter(|kept| **kept).count()).collect();
        let places = || (0..kept.len()).filter(|place| kept[*place]);
        let ints = |values: Vec<i64>| Tensor::<1, Int>::from_data(values.as_slice(), &device);
        let positions = ints(places().map(|place| (place % length) as i64).collect());
        let places = ints(places().map(|place| place as i64).collect());
        let sequences = Sequences::from_lengths(&lengths);
        let pack = |ids: Tensor<2, Int>| ids.flatten::<1>(0, 1).select(0, places.clone());
        Self {
            input_ids: pack(input_ids),
            token_type_ids: pack(token_type_ids),
            position_ids: positions,
            documents: Documents::of_sequences(&sequences),
            sequences,
            shift: None,
        }
    }
}
