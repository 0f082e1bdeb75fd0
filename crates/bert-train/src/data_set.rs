//! Labelled texts, ready for the encoder.

use bert_core::Encoding;

/// Encoded texts with their label ids, in file order.
#[derive(Debug, Clone, Default)]
pub struct DataSet {
    /// One a row.
    pub encodings: Vec<Encoding>,
    /// One a row.
    pub labels: Vec<u32>,
}

impl DataSet {
    /// The number of rows.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// The number of tokens of each row.
    pub fn lengths(&self) -> Vec<usize> {
        self.encodings.iter().map(|encoding| encoding.input_ids.len()).collect()
    }
}
