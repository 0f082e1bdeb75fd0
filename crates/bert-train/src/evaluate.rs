//! A model's answers on texts, and how good they are.

use bert_core::{EncoderInput, Encoding};
use bert_heads::{SequenceClassifier, TokenClassifier};
use bert_kernels::on_workers;
use burn::tensor::{Device, Tensor};

use crate::{
    batches::evaluation_batches,
    data_set::{DataSet, TaggedSet},
    metrics::{ClassificationMetrics, TaggingMetrics, argmax},
    tag_answers::TagAnswers,
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

/// The logits of each text's tokens, one behind the other, in the order of the texts; `model` and `device` are those of
/// evaluation, without autodiff.
pub fn predict_token_logits(
    model: &TokenClassifier,
    encodings: &[Encoding],
    batch_size: usize,
    device: &Device,
) -> Vec<Vec<f32>> {
    map_batches(encodings, batch_size, device, |input| model.forward(&input, None))
}

/// The logits of each row of a data set, from its hidden states where they are kept; `model` and `device` are those of evaluation,
/// without autodiff.
pub(crate) fn data_logits(
    model: &SequenceClassifier,
    data: &DataSet,
    batch_size: usize,
    device: &Device,
) -> Vec<Vec<f32>> {
    let Some(states) = &data.states else {
        return predict_logits(model, &data.encodings, batch_size, device);
    };
    let mut results = vec![vec![]; data.len()];
    for batch in evaluation_batches(&data.lengths(), batch_size) {
        let logits: Vec<f32> = on_workers(device, || {
            let (states, documents) = states.batch(&batch, device);
            model.forward_states(states, &documents, None).into_data().iter().collect()
        });
        for (row, logits) in batch.iter().zip(logits.chunks(model.num_labels())) {
            results[*row] = logits.to_vec();
        }
    }
    results
}

/// Runs texts of like length together and puts the results back into the order of the texts: what `forward` gives, a row a
/// text or a row for each token that is pooled.
pub(crate) fn map_batches(
    encodings: &[Encoding],
    batch_size: usize,
    device: &Device,
    forward: impl Fn(EncoderInput) -> Tensor<2> + Sync,
) -> Vec<Vec<f32>> {
    let forward = |input| vec![forward(input)];
    map_batches_to(encodings, batch_size, device, forward).swap_remove(0)
}

/// [`map_batches`] where `forward` gives several results: `[results][texts]`.
pub(crate) fn map_batches_to(
    encodings: &[Encoding],
    batch_size: usize,
    device: &Device,
    forward: impl Fn(EncoderInput) -> Vec<Tensor<2>> + Sync,
) -> Vec<Vec<Vec<f32>>> {
    let lengths: Vec<usize> = encodings.iter().map(|encoding| encoding.input_ids.len()).collect();
    let pooled: Vec<usize> = encodings.iter().map(|encoding| encoding.pooled().count()).collect();
    let mut results: Vec<Vec<Vec<f32>>> = vec![];
    for batch in evaluation_batches(&lengths, batch_size) {
        let outputs = on_workers(device, || {
            let input = EncoderInput::new(batch.iter().map(|row| &encodings[*row]), device);
            let read =
                |output: Tensor<2>| (output.dims(), output.into_data().iter::<f32>().collect());
            forward(input).into_iter().map(read).collect::<Vec<([usize; 2], Vec<f32>)>>()
        });
        results.resize_with(outputs.len(), || vec![vec![]; encodings.len()]);
        for (result, ([rows, width], values)) in results.iter_mut().zip(outputs) {
            let mut values = values.into_iter();
            let is_by_text = rows == batch.len();
            for row in &batch {
                let rows = if is_by_text { 1 } else { pooled[*row] };
                result[*row] = values.by_ref().take(rows * width).collect();
            }
        }
    }
    results
}

/// How good the model's answers on `data` are; `model` and `device` are those of evaluation, without autodiff.
///
/// Rows without a label do not count.
pub fn evaluate(
    model: &SequenceClassifier,
    data: &DataSet,
    num_labels: usize,
    batch_size: usize,
    device: &Device,
) -> ClassificationMetrics {
    classification_metrics(&data_logits(model, data, batch_size, device), data, num_labels)
}

/// How good these answers to the rows of `data` are; rows without a label do not count.
pub(crate) fn classification_metrics(
    logits: &[Vec<f32>],
    data: &DataSet,
    num_labels: usize,
) -> ClassificationMetrics {
    let labelled = logits.iter().zip(&data.labels);
    let labelled: Vec<(&Vec<f32>, u32)> =
        labelled.filter_map(|(row, label)| Some((row, (*label)?))).collect();
    let (gold, predicted): (Vec<u32>, Vec<u32>) =
        labelled.iter().map(|(row, label)| (*label, argmax(row))).unzip();
    let losses = labelled.iter().map(|(row, label)| cross_entropy(row, *label));
    let loss = losses.sum::<f64>() / labelled.len() as f64;
    ClassificationMetrics::new(&gold, &predicted, num_labels, loss)
}

/// How good the tagger's answers on `data` are; `model` and `device` are those of evaluation, without autodiff.
///
/// A word that was cut off is answered with `O`, and has no loss.
pub fn evaluate_tags(
    model: &TokenClassifier,
    data: &TaggedSet,
    batch_size: usize,
    device: &Device,
) -> TaggingMetrics {
    tag_answers(model, data, batch_size, device).metrics()
}

/// The tags that a tagger gives the words of `data`; `model` and `device` are those of evaluation.
pub(crate) fn tag_answers<'a>(
    model: &TokenClassifier,
    data: &'a TaggedSet,
    batch_size: usize,
    device: &Device,
) -> TagAnswers<'a> {
    let logits = predict_token_logits(model, &data.rows.encodings, batch_size, device);
    TagAnswers::new(data.rows.labels.iter().zip(logits.iter().map(Vec::as_slice)), &data.labels)
}

/// `-log softmax(logits)[label]`, in double precision.
pub(crate) fn cross_entropy(logits: &[f32], label: u32) -> f64 {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|logit| f64::from(logit - largest).exp()).sum();
    sum.ln() - f64::from(logits[label as usize] - largest)
}
