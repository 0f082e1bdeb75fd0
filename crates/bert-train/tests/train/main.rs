//! Training: against PyTorch step by step, and as a whole.

#![allow(clippy::unwrap_used)]

mod checks;
mod comparisons;
mod layers;
mod long;
mod lora;
mod merging;
mod multi_task;
#[path = "../../../bert-core/tests/reference/mod.rs"]
mod reference;
mod regularisation;
mod resuming;
mod runs;
mod searching;
mod steps;
mod taggers;
mod weights;
mod words;

use bert_core::EncoderInput;
use bert_heads::{CrossEntropy, PoolingKind, SequenceClassifier};
use bert_train::{
    Combine, Example, LabelMap, Optimizer, PartLoss, Settings, Step, TextClassifier, train_step,
};
use burn::{lr_scheduler::module_lr_scheduler::ModuleLearningRate, tensor::Device};

/// A step on one batch, without dropout.
fn one_step(
    model: SequenceClassifier,
    optimizer: &mut Optimizer,
    (input, labels): (&EncoderInput, &[Option<u32>]),
    rates: ModuleLearningRate,
) -> Step<SequenceClassifier> {
    let loss = |model: &SequenceClassifier, (): &()| {
        let loss = CrossEntropy::default().forward(model.forward(input, None), labels);
        PartLoss::from(loss).gradients(model)
    };
    let device = input.input_ids.device();
    train_step(model, optimizer, &device, &[()], loss, Combine::Sum, rates)
}

/// Hugging Face's classifier of the reference, whose three labels are LABEL_0 to LABEL_2.
fn pretrained(device: &Device) -> TextClassifier {
    TextClassifier::load(&reference::folder().join("tiny-bert-seqcls"), device).unwrap()
}

/// The tiny BERT of the reference with a new head for the labels bad and good.
fn new_head(pooling: PoolingKind, seed: u64, device: &Device) -> TextClassifier {
    let labels = |_: &[String]| LabelMap::of_model(&["bad".to_owned(), "good".to_owned()]);
    let dir = reference::folder().join("tiny-bert");
    let settings = Settings::new(pooling, 16);
    TextClassifier::from_checkpoint(&dir, labels, settings, seed, device).unwrap().0
}

/// Texts of one to nine words of the reference's vocabulary; the label hangs on one of them.
fn examples(count: usize) -> Vec<Example> {
    let words = ["the", "movie", "was", "a", "film", "plot", "and", "is", "it", "this"];
    let mut stream = bert_kernels::random::Stream::new(1, bert_kernels::random::Purpose::Sample, 0);
    (0..count)
        .map(|line| {
            let label = ["bad", "good"][line % 2];
            let mut text: Vec<&str> =
                (0..stream.below(9)).map(|_| words[stream.below(10)]).collect();
            text.insert(stream.below(text.len() + 1), label);
            Example {
                text: text.join(" "),
                pair: None,
                label: Some(label.to_owned()),
                line: line + 1,
            }
        })
        .collect()
}
