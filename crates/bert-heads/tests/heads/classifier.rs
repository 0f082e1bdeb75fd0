//! The classifiers of texts and of tokens: logits, loss and every gradient.

use bert_core::{Bert, BertConfig, Checkpoint, EncoderInput};
use bert_heads::{
    CrossEntropy, PoolingKind, SequenceClassifier, SequenceClassifierConfig, TokenClassifier,
    TokenClassifierConfig,
};
use burn::{
    module::{Module, ModuleMapper, Param},
    tensor::{Device, Gradients, Tensor},
};

use crate::reference::{
    assert_close, assert_gradient, devices, floats, folder, gradients, host, integers, packed,
    padded_batch, values,
};

/// Hugging Face's classifier of the reference.
pub fn classifier(device: &Device) -> SequenceClassifier {
    let folder = folder().join("tiny-bert-seqcls");
    let config = BertConfig::load(&folder).unwrap();
    let checkpoint = Checkpoint::open(&folder).unwrap();
    let mut reader = checkpoint.reader();
    let parts = SequenceClassifierConfig {
        task_embedding: None,
        pooling: PoolingKind::Cls,
        layer_mixture: false,
        num_labels: 3,
    };
    let bert = Bert::new(&config, device);
    SequenceClassifier::new(bert, &config, parts, 0, device)
        .set_parameters(|name, shape| {
            reader.take(name.strip_prefix("bert.").unwrap_or(name), shape).map(Some)
        })
        .unwrap()
}

/// Puts each parameter's gradient in its place.
struct IntoGradients<'a>(&'a Gradients);

impl ModuleMapper for IntoGradients<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let gradient = param.val().grad(self.0).expect("every parameter has a gradient");
        Param::initialized(param.id, gradient)
    }
}

#[test]
fn logits_loss_and_every_gradient_are_those_of_pytorch() {
    let reference = values();
    let expected = &reference["sequence_classification"];
    let labels: Vec<Option<u32>> =
        integers(&expected["labels"]).into_iter().map(|label| Some(label as u32)).collect();
    for (name, device) in devices() {
        let device = device.autodiff();
        let model = classifier(&device);
        let (ids, types, mask) = padded_batch(&reference["batch"], &device);
        let logits = model.forward(&EncoderInput::from_padded(ids, types, mask), None);
        assert_close(name, &host(logits.clone()), &floats(&expected["logits"]), 2e-5);
        let loss = CrossEntropy::default().forward(logits, &labels);
        assert_close(name, &host(loss.clone()), &floats(&expected["loss"]), 2e-5);

        let grads = loss.backward();
        let expected = gradients("seqcls");
        let got = model.map(&mut IntoGradients(&grads)).named_parameters();
        assert_eq!(got.len(), expected.len());
        for tensor in got {
            let (shape, values) = &expected[&tensor.name];
            assert_eq!(&tensor.shape, shape, "{}", tensor.name);
            assert_gradient(&tensor.name, &tensor.values, values);
        }
    }
}

/// Hugging Face's classifier of tokens of the reference.
fn token_classifier(device: &Device) -> TokenClassifier {
    let folder = folder().join("tiny-bert-tokcls");
    let config = BertConfig::load(&folder).unwrap();
    let checkpoint = Checkpoint::open(&folder).unwrap();
    let mut reader = checkpoint.reader();
    let parts = TokenClassifierConfig { task_embedding: None, num_labels: 5 };
    let model = TokenClassifier::new(Bert::new(&config, device), &config, parts, 0, device)
        .set_parameters(|name, shape| {
            reader.take(name.strip_prefix("bert.").unwrap_or(name), shape).map(Some)
        })
        .unwrap();
    reader.finish().unwrap();
    model
}

/// Tokens without a label, [CLS] among them, do not count.
#[test]
fn token_logits_loss_and_every_gradient_are_those_of_pytorch() {
    let reference = values();
    let expected = &reference["token_classification"];
    let labels: Vec<Option<u32>> = integers(&expected["labels"])
        .into_iter()
        .zip(integers(&reference["batch"]["attention_mask"]))
        .filter(|(_, mask)| *mask == 1)
        .map(|(label, _)| u32::try_from(label).ok())
        .collect();
    for (name, device) in devices() {
        let device = device.autodiff();
        let model = token_classifier(&device);
        assert_eq!(model.num_labels(), 5);
        let (ids, types, mask) = padded_batch(&reference["batch"], &device);
        let logits = model.forward(&EncoderInput::from_padded(ids, types, mask), None);
        let packed = packed(&expected["logits"], &reference);
        assert_close(name, &host(logits.clone()), &packed, 2e-5);
        let loss = CrossEntropy::default().forward(logits, &labels);
        assert_close(name, &host(loss.clone()), &floats(&expected["loss"]), 2e-5);

        let grads = loss.backward();
        let expected = gradients("tokcls");
        let got = model.map(&mut IntoGradients(&grads)).named_parameters();
        assert_eq!(got.len(), expected.len());
        for tensor in got {
            let (shape, values) = &expected[&tensor.name];
            assert_eq!(&tensor.shape, shape, "{}", tensor.name);
            assert_gradient(&tensor.name, &tensor.values, values);
        }
    }
}
