//! What the rows of one batch are to be answered with, for one head: the loss, and how far two answers lie apart.

use bert_heads::{
    BinaryCrossEntropy, CrossEntropy, OrdinalCrossEntropy, SpanCrossEntropy, SquaredError,
};
use bert_kernels::Sequences;
use burn::tensor::Tensor;

/// What the rows of one batch are to be answered with, for one head; where there is nothing, the row does not count.
#[derive(Debug, Clone, PartialEq)]
pub enum BatchTargets {
    /// One class a row, which is a text or a token.
    Classes(Vec<Option<u32>>),
    /// For each label whether the text has it, text by text.
    LabelSets(Vec<Option<bool>>),
    /// One class of an ordered set a text.
    Ranks(Vec<Option<u32>>),
    /// A number a text.
    Numbers(Vec<Option<f32>>),
    /// The first and the last token of an answer in each text.
    Spans(Sequences, Vec<Option<(usize, usize)>>),
}

impl BatchTargets {
    /// What the loss is the mean of: the rows, tokens or entries that have a target.
    pub fn counted(&self) -> usize {
        match self {
            Self::Classes(rows) | Self::Ranks(rows) => rows.iter().flatten().count(),
            Self::LabelSets(entries) => entries.iter().flatten().count(),
            Self::Numbers(rows) => rows.iter().flatten().count(),
            Self::Spans(_, rows) => rows.iter().flatten().count(),
        }
    }

    /// The mean loss. Smoothing spreads that share of the target of a cross-entropy over all classes; label sets, ranks and
    /// numbers have none.
    ///
    /// # Shapes
    /// - `logits`: `[rows, outputs]`, for tags and spans `[tokens, outputs]`
    /// - output: `[1]`
    ///
    /// # Panics
    /// When the shape does not fit.
    pub fn loss(&self, logits: Tensor<2>, label_smoothing: f64) -> Tensor<1> {
        match self {
            Self::Classes(rows) => {
                CrossEntropy { label_smoothing, ..CrossEntropy::default() }.forward(logits, rows)
            }
            Self::LabelSets(entries) => BinaryCrossEntropy::default().forward(logits, entries),
            Self::Ranks(rows) => OrdinalCrossEntropy.forward(logits, rows),
            Self::Numbers(rows) => SquaredError.forward(logits, rows),
            Self::Spans(sequences, rows) => {
                SpanCrossEntropy { label_smoothing }.forward(logits, sequences, rows)
            }
        }
    }

    /// How far two answers lie apart, on the average over what the loss is the mean of; see
    /// [`Regularisation::r_drop`](crate::Regularisation::r_drop).
    ///
    /// # Shapes
    /// - `one`, `other`: as in [`loss`](Self::loss)
    /// - output: `[1]`
    ///
    /// # Panics
    /// When the shapes do not fit.
    pub fn divergence(&self, one: Tensor<2>, other: Tensor<2>) -> Tensor<1> {
        match self {
            Self::Classes(rows) => CrossEntropy::default().divergence(one, other, rows),
            Self::LabelSets(all) => BinaryCrossEntropy::default().divergence(one, other, all),
            Self::Ranks(rows) => OrdinalCrossEntropy.divergence(one, other, rows),
            Self::Numbers(rows) => SquaredError.divergence(one, other, rows),
            Self::Spans(sequences, rows) => {
                SpanCrossEntropy::default().divergence(one, other, sequences, rows)
            }
        }
    }
}
