//! Where the sequences of a packed batch lie.

use std::{ops::Range, sync::Arc};

use burn::tensor::{Bool, Device, Int, Tensor, TensorData};

/// The sequences of a batch whose tokens lie one behind the other, without padding, along dimension 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sequences {
    /// `offsets[i]..offsets[i + 1]` are the tokens of sequence `i`.
    offsets: Arc<[usize]>,
}

impl Sequences {
    /// Sequences of these lengths, in this order.
    ///
    /// # Panics
    /// When there is no sequence, or one has no token.
    pub fn from_lengths(lengths: &[usize]) -> Self {
        assert!(!lengths.is_empty(), "a batch holds at least one sequence");
        assert!(
            lengths.iter().all(|length| *length > 0),
            "each sequence holds at least one token, got the lengths {lengths:?}"
        );
        let ends = lengths.iter().scan(0, |end, length| {
            *end += length;
            Some(*end)
        });
        Self { offsets: std::iter::once(0).chain(ends).collect() }
    }

    /// As many sequences of one token each: what is left where only the first tokens are kept.
    pub fn first_tokens(&self) -> Self {
        Self { offsets: (0..=self.len()).collect() }
    }

    /// The number of sequences.
    #[allow(clippy::len_without_is_empty)] // INVARIANT: never empty.
    pub fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    /// The number of tokens of all sequences.
    pub fn tokens(&self) -> usize {
        self.offsets[self.len()]
    }

    /// The tokens of sequence `index`.
    ///
    /// # Panics
    /// When there is no such sequence.
    pub fn range(&self, index: usize) -> Range<usize> {
        self.offsets[index]..self.offsets[index + 1]
    }

    /// The tokens of each sequence, in order.
    pub fn ranges(&self) -> impl ExactSizeIterator<Item = Range<usize>> + '_ {
        self.offsets.windows(2).map(|pair| pair[0]..pair[1])
    }

    /// The number of tokens of the longest sequence.
    pub fn max_length(&self) -> usize {
        self.ranges().map(|range| range.len()).max().unwrap_or(0)
    }

    /// Which places of the padded layout hold a token.
    ///
    /// # Shapes
    /// `[sequences, max_length]`
    pub fn mask(&self, device: &Device) -> Tensor<2, Bool> {
        let shape = [self.len(), self.max_length()];
        let places = self.places().map(|token| token.is_some()).collect();
        Tensor::from_data(TensorData::new::<bool, _>(places, shape), device)
    }

    /// Spreads packed rows to one row of places a sequence; the places behind a sequence's end are zero.
    ///
    /// # Shapes
    /// `[tokens, width]` to `[sequences, max_length, width]`
    pub fn pad(&self, packed: Tensor<2>) -> Tensor<3> {
        self.pad_with(packed, 0.0)
    }

    /// [`pad`](Self::pad) with another value behind a sequence's end.
    pub fn pad_with(&self, packed: Tensor<2>, value: f32) -> Tensor<3> {
        let [tokens, width] = packed.dims();
        assert_eq!(tokens, self.tokens(), "pad: one row a token is expected");
        let (batch, length) = (self.len(), self.max_length());
        if batch * length == tokens {
            return packed.reshape([batch, length, width]);
        }
        let device = packed.device();
        let source: Vec<i64> = self.places().map(|token| token.unwrap_or(0) as i64).collect();
        let source = Tensor::<1, Int>::from_data(source.as_slice(), &device);
        let hidden = self.mask(&device).bool_not().unsqueeze_dim::<3>(2);
        packed
            .select(0, source)
            .reshape([batch, length, width])
            .mask_fill(hidden.expand([batch, length, width]), value)
    }

    /// The inverse of [`pad`](Self::pad): drops the places that hold no token.
    ///
    /// # Shapes
    /// `[sequences, max_length, width]` to `[tokens, width]`
    pub fn unpad(&self, padded: Tensor<3>) -> Tensor<2> {
        let [batch, length, width] = padded.dims();
        assert_eq!(
            [batch, length],
            [self.len(), self.max_length()],
            "unpad: one row of places a sequence is expected"
        );
        let flat = padded.reshape([batch * length, width]);
        if batch * length == self.tokens() {
            return flat;
        }
        let kept: Vec<i64> =
            (0..).zip(self.places()).filter_map(|(place, token)| token.map(|_| place)).collect();
        let kept = Tensor::<1, Int>::from_data(kept.as_slice(), &flat.device());
        flat.select(0, kept)
    }

    /// The token at each place of the padded layout, row by row.
    fn places(&self) -> impl Iterator<Item = Option<usize>> + '_ {
        let length = self.max_length();
        self.ranges().flat_map(move |range| {
            (0..length).map(move |i| (i < range.len()).then_some(range.start + i))
        })
    }
}
