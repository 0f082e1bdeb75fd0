//! One vector a text where texts may be read in several windows.

use bert_core::{Documents, EncoderInput, first_tokens};
use burn::tensor::Tensor;

use crate::pooling::Pooling;

impl Pooling {
    /// The rows of the hidden states that are read: those of the tokens that are pooled, or of the first token of each sequence.
    ///
    /// # Shapes
    /// `[tokens, hidden_size]` to `[pooled tokens, hidden_size]` or `[sequences, hidden_size]`
    pub fn read(&self, hidden: Tensor<2>, input: &EncoderInput) -> Tensor<2> {
        match self.reads_first_token() {
            true => first_tokens(hidden, &input.sequences),
            false => input.documents.pick(hidden),
        }
    }

    /// One vector a text from what is [read](Self::read): over the pooled tokens of all its windows, or the mean of the vectors of
    /// its windows where these come from the first tokens alone.
    ///
    /// # Shapes
    /// output: `[texts, hidden_size]`
    pub fn pool(&self, read: Tensor<2>, documents: &Documents) -> Tensor<2> {
        if self.reads_first_token() {
            let [sequences, _] = read.dims();
            let alone = bert_kernels::Sequences::from_lengths(&vec![1; sequences]);
            return documents.mean_of_windows(self.forward(read, &alone));
        }
        self.forward(read, &documents.tokens)
    }

    /// How much each pooled token counts in each dimension of a text's vector; over a text they sum to 1.
    ///
    /// # Shapes
    /// `[tokens, hidden_size]` to `[pooled tokens, hidden_size]`
    pub fn pooled_weights(&self, hidden: Tensor<2>, input: &EncoderInput) -> Tensor<2> {
        let documents = &input.documents;
        if !self.reads_first_token() {
            return self.weights(documents.pick(hidden), &documents.tokens);
        }
        let weights = documents.pick(self.weights(hidden, &input.sequences));
        let texts = documents.tokens.ranges().zip(documents.windows.ranges());
        let shares: Vec<f32> = texts
            .flat_map(|(tokens, windows)| vec![1.0 / windows.len() as f32; tokens.len()])
            .collect();
        let shares = Tensor::<1>::from_data(shares.as_slice(), &weights.device());
        weights * shares.unsqueeze_dim(1)
    }
}
