//! What a frozen encoder gives for each text, computed once and kept.

use bert_core::{Documents, EncoderInput, Encoding};
use bert_heads::SequenceClassifier;
use bert_kernels::on_workers;
use burn::tensor::{Device, Tensor, TensorData};

use crate::{
    batches::evaluation_batches,
    data_set::DataSet,
    error::Result,
    memory::{MB, Memory, check_hidden_states},
    observer::Observer,
};

/// The hidden states that a classifier's pooling reads of each text, in float32, in the memory of the host.
#[derive(Debug, Clone)]
pub struct HiddenStates {
    hidden_size: usize,
    texts: Vec<StoredText>,
}

#[derive(Debug, Clone, Default)]
struct StoredText {
    windows: usize,
    tokens: usize,
    /// One a layer that is read, `[rows, hidden_size]`: a row for each token that is pooled, or for each window.
    states: Vec<Vec<f32>>,
}

impl HiddenStates {
    /// Runs texts through the encoder, without dropout; `model` and `device` are those of evaluation, without autodiff.
    pub fn new(
        model: &SequenceClassifier,
        encodings: &[Encoding],
        batch_size: usize,
        device: &Device,
    ) -> Self {
        let hidden_size = model.hidden_size();
        let lengths: Vec<usize> =
            encodings.iter().map(|encoding| encoding.input_ids.len()).collect();
        let mut texts = vec![StoredText::default(); encodings.len()];
        for batch in evaluation_batches(&lengths, batch_size) {
            let (documents, states) = on_workers(device, || {
                let input = EncoderInput::new(batch.iter().map(|row| &encodings[*row]), device);
                let states = model.states(&input, None).into_iter();
                let read = |state: Tensor<2>| -> Vec<f32> { state.into_data().iter().collect() };
                (input.documents, states.map(read).collect::<Vec<_>>())
            });
            let rows =
                if model.reads_first_tokens() { &documents.windows } else { &documents.tokens };
            for (place, row) in batch.iter().enumerate() {
                let rows = rows.range(place);
                let values = rows.start * hidden_size..rows.end * hidden_size;
                texts[*row] = StoredText {
                    windows: documents.windows.range(place).len(),
                    tokens: documents.tokens.range(place).len(),
                    states: states.iter().map(|state| state[values.clone()].to_vec()).collect(),
                };
            }
        }
        Self { hidden_size, texts }
    }

    /// The bytes that the hidden states of these texts take.
    pub fn bytes(model: &SequenceClassifier, encodings: &[Encoding]) -> u64 {
        let rows = encodings.iter().map(|encoding| match model.reads_first_tokens() {
            true => encoding.windows.len().max(1),
            false => encoding.pooled().count(),
        });
        let row = model.states_read() * model.hidden_size() * size_of::<f32>();
        (rows.sum::<usize>() * row) as u64
    }

    /// The hidden states of some texts, and which rows of them are of which text.
    ///
    /// # Panics
    /// When there is no text, or no such one.
    pub fn batch(&self, rows: &[usize], device: &Device) -> (Vec<Tensor<2>>, Documents) {
        let texts: Vec<&StoredText> = rows.iter().map(|row| &self.texts[*row]).collect();
        let layers = texts[0].states.len();
        let states = (0..layers).map(|layer| {
            let values: Vec<&[f32]> = texts.iter().map(|text| &text.states[layer][..]).collect();
            let values = values.concat();
            let shape = [values.len() / self.hidden_size, self.hidden_size];
            Tensor::from_data(TensorData::new(values, shape), device)
        });
        let of = |count: fn(&StoredText) -> usize| -> Vec<usize> {
            texts.iter().map(|text| count(text)).collect()
        };
        let documents = Documents::of_lengths(&of(|text| text.tokens), &of(|text| text.windows));
        (states.collect(), documents)
    }
}

/// Runs all texts through a frozen encoder, where there is memory for what it gives; `model` is that of evaluation.
pub(crate) fn keep_states(
    model: &SequenceClassifier,
    sets: [&mut DataSet; 2],
    batch_size: usize,
    device: &Device,
    observer: &mut dyn Observer,
) -> Result<()> {
    let bytes = sets.iter().map(|set| HiddenStates::bytes(model, &set.encodings)).sum();
    check_hidden_states(bytes, Memory::of_machine().map(|memory| memory.free))?;
    observer.notice(&format!(
        "the encoder is frozen: it runs once over all {} texts, whose hidden states take {} MB of memory",
        sets.iter().map(|set| set.len()).sum::<usize>(),
        bytes.div_ceil(MB),
    ));
    let device = device.clone().inner();
    for set in sets {
        set.states = Some(HiddenStates::new(model, &set.encodings, batch_size, &device));
    }
    Ok(())
}
