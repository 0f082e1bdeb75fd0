//! A model's answers on texts, and how good they are.

use bert_core::{EncoderInput, Encoding};
use bert_heads::SequenceClassifier;
use bert_kernels::on_workers;
use burn::tensor::Device;

use crate::{
    batches::evaluation_batches,
    data_set::DataSet,
    metrics::{ClassificationMetrics, argmax},
};

/// The logits of each text, in the order of the texts; `model` and `device` are those of evaluation, without autodiff.
pub fn predict_logits(
    model: &SequenceClassifier,
    encodings: &[Encoding],
    batch_size: usize,
    device: &Device,
) -> Vec<Vec<f32>> {
    map_batches(encodings, batch_size, device, |input| model.forward(&input, None))
}

/// Runs texts of like length together and puts the rows of the results back into the order of the texts.
pub(crate) fn map_batches(
    encodings: &[Encoding],
    batch_size: usize,
    device: &Device,
    forward: impl Fn(EncoderInput) -> burn::tensor::Tensor<2> + Sync,
) -> Vec<Vec<f32>> {
    let lengths: Vec<usize> = encodings.iter().map(|encoding| encoding.input_ids.len()).collect();
    let mut rows = vec![vec![]; encodings.len()];
    for batch in evaluation_batches(&lengths, batch_size) {
        let (values, width) = on_workers(device, || {
            let input = EncoderInput::new(batch.iter().map(|row| &encodings[*row]), device);
            let output = forward(input);
            let [_, width] = output.dims();
            (output.into_data().iter::<f32>().collect::<Vec<_>>(), width)
        });
        for (row, values) in batch.into_iter().zip(values.chunks(width)) {
            rows[row] = values.to_vec();
        }
    }
    rows
}

/// How good the model's answers on `data` are; `model` and `device` are those of evaluation, without autodiff.
pub fn evaluate(
    model: &SequenceClassifier,
    data: &DataSet,
    num_labels: usize,
    batch_size: usize,
    device: &Device,
) -> ClassificationMetrics {
    let logits = predict_logits(model, &data.encodings, batch_size, device);
    let predicted: Vec<u32> = logits.iter().map(|row| argmax(row)).collect();
    let losses = logits.iter().zip(&data.labels).map(|(row, label)| {
        let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f64 = row.iter().map(|logit| f64::from(logit - largest).exp()).sum();
        sum.ln() - f64::from(row[*label as usize] - largest)
    });
    let loss = losses.sum::<f64>() / data.len() as f64;
    ClassificationMetrics::new(&data.labels, &predicted, num_labels, loss)
}
