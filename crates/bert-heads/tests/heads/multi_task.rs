//! Several tasks on one encoder: against the models of one task, and what must hold of them.

use std::collections::HashMap;

use bert_core::{
    Bert, BertConfig, Checkpoint, EncoderInput, NamedTensor, pass_key, set_parameters,
};
use bert_heads::{
    MultiTask, PoolingKind, SequenceClassifier, SequenceClassifierConfig, TaskConfig,
    TaskEmbeddingKind, TaskInput, TokenClassifier, TokenClassifierConfig, Uncertainty,
};
use burn::{
    module::Module,
    tensor::{Device, Tensor},
};

use crate::reference::{assert_close, cpu_devices, devices, folder, host, padded_batch, values};

fn bert(device: &Device) -> (Bert, BertConfig) {
    let folder = folder().join("tiny-bert");
    let config = BertConfig::load(&folder).unwrap();
    let checkpoint = Checkpoint::open(&folder).unwrap();
    let mut reader = checkpoint.reader();
    let bert = Bert::new(&config, device);
    (set_parameters(bert, "", |name, shape| reader.take(name, shape).map(Some)).unwrap(), config)
}

fn task(name: &str, pooling: Option<PoolingKind>, num_outputs: usize) -> TaskConfig {
    TaskConfig {
        name: name.to_owned(),
        input: TaskInput::Words,
        layer_mixture: false,
        projection: false,
        pooling,
        num_outputs,
        gradient_factor: 1.0,
        uncertainty: None,
    }
}

fn multi_task(tasks: &[TaskConfig], device: &Device) -> MultiTask {
    let (bert, config) = bert(device);
    MultiTask::new(bert, &config, tasks, 3, device)
}

fn input(device: &Device) -> EncoderInput {
    let (ids, types, mask) = padded_batch(&values()["batch"], device);
    EncoderInput::from_padded(ids, types, mask)
}

fn by_name(tensors: Vec<NamedTensor>) -> HashMap<String, Vec<f32>> {
    tensors.into_iter().map(|tensor| (tensor.name, tensor.values)).collect()
}

/// With their weights, each head is the model of one task, in training too but for the bits of the head's own dropout.
#[test]
fn heads_are_the_models_of_one_task() {
    for (name, device) in devices() {
        let (bert, config) = bert(&device);
        let parts = SequenceClassifierConfig {
            task_embedding: None,
            pooling: PoolingKind::Cls,
            layer_mixture: false,
            num_labels: 3,
        };
        let text = SequenceClassifier::new(bert.clone(), &config, parts, 1, &device);
        let parts = TokenClassifierConfig { task_embedding: None, num_labels: 5 };
        let token = TokenClassifier::new(bert, &config, parts, 2, &device);
        let (of_text, of_token) =
            (by_name(text.named_parameters()), by_name(token.named_parameters()));
        let tasks = [task("text", Some(PoolingKind::Cls), 3), task("tags", None, 5)];
        let model = multi_task(&tasks, &device)
            .set_parameters(|name, _| {
                Ok(match name.strip_prefix("tasks.") {
                    None => None,
                    Some(name) => match name.split_once('.').unwrap() {
                        ("text", "classifier.weight") => Some(of_text["classifier.weight"].clone()),
                        ("text", "classifier.bias") => Some(of_text["classifier.bias"].clone()),
                        ("text", name) => {
                            Some(of_text[&name.replace("pooling.", "bert.pooler.")].clone())
                        }
                        (_, name) => Some(of_token[name].clone()),
                    },
                })
            })
            .unwrap();
        let input = input(&device);
        let logits = model.forward(&input, &[0, 1], None);
        assert_close(name, &host(logits[0].clone()), &host(text.forward(&input, None)), 1e-6);
        assert_close(name, &host(logits[1].clone()), &host(token.forward(&input, None)), 1e-6);
        // Alone, in another order, and where only the first tokens are computed.
        let swapped = model.forward(&input, &[1, 0], None);
        assert_close(name, &host(swapped[1].clone()), &host(logits[0].clone()), 1e-6);
        let alone = model.forward(&input, &[0], None).remove(0);
        assert_close(name, &host(alone), &host(logits[0].clone()), 1e-5);
        let key = Some(pass_key(5, 1, 0, 0));
        assert_close(
            name,
            &host(model.forward(&input, &[0], key).remove(0)),
            &host(text.forward(&input, key)),
            1e-5,
        );
    }
}

#[test]
fn checkpoints_have_the_tasks_names() {
    let (_, device) = devices().remove(0);
    let mut tasks = [task("a-b", Some(PoolingKind::Adaptive), 3), task("x_1", None, 2)];
    tasks[1].input = TaskInput::Embedding(TaskEmbeddingKind::Diagonal);
    let model = multi_task(&tasks, &device);
    let names: Vec<String> = model.parameter_shapes().into_iter().map(|(name, _)| name).collect();
    let own: Vec<&String> = names.iter().filter(|name| name.starts_with("tasks.")).collect();
    assert_eq!(
        own,
        [
            "tasks.a-b.pooling.linear.weight",
            "tasks.a-b.pooling.linear.bias",
            "tasks.a-b.classifier.weight",
            "tasks.a-b.classifier.bias",
            "tasks.x_1.task_embedding.delta",
            "tasks.x_1.task_embedding.bias",
            "tasks.x_1.classifier.weight",
            "tasks.x_1.classifier.bias",
        ]
    );
    let named: Vec<String> = model.named_parameters().into_iter().map(|t| t.name).collect();
    assert_eq!(named, names);
}

/// A task embedding, a projection and a layer's own word embeddings start as the identity.
#[test]
fn new_parts_change_nothing_at_the_start() {
    let (_, device) = devices().remove(0);
    let plain = multi_task(&[task("t", Some(PoolingKind::Mean), 3)], &device);
    let mut with = task("t", Some(PoolingKind::Adaptive), 3);
    with.projection = true;
    with.input = TaskInput::Embedding(TaskEmbeddingKind::LowRank { rank: 3 });
    with.uncertainty = Some(Uncertainty::Softmax);
    let with = multi_task(&[with], &device);
    let input = input(&device);
    let [plain, with] =
        [plain, with].map(|model| host(model.forward(&input, &[0], None).remove(0)));
    assert_close("logits", &with, &plain, 1e-6);
}

/// Heads that share a task embedding read it; others do not.
#[test]
fn task_embeddings_are_shared_and_folded() {
    for (name, device) in cpu_devices() {
        let mut tasks = [
            task("own", Some(PoolingKind::Mean), 3),
            task("plain", Some(PoolingKind::Max), 2),
            task("shared", None, 4),
        ];
        tasks[0].input = TaskInput::Embedding(TaskEmbeddingKind::Full);
        tasks[2].input = TaskInput::Shared(0);
        let start = multi_task(&tasks, &device);
        let mut stream =
            bert_kernels::random::Stream::new(1, bert_kernels::random::Purpose::Sample, 0);
        let model = start
            .clone()
            .set_parameters(|name, shape| {
                let draw = |_| 0.1 * stream.normal();
                let count: usize = shape.iter().product();
                Ok(name.contains("task_embedding").then(|| (0..count).map(draw).collect()))
            })
            .unwrap();
        let input = input(&device);
        let logits = |model: &MultiTask, heads: &[usize]| -> Vec<Vec<f32>> {
            model.forward(&input, heads, None).into_iter().map(host).collect()
        };
        let (before, after) = (logits(&start, &[0, 1, 2]), logits(&model, &[0, 1, 2]));
        assert_eq!(before[1], after[1], "{name}");
        assert!(before[0] != after[0] && before[2] != after[2], "{name}");
        assert_eq!(
            (model.alike(0), model.alike(1), model.alike(2)),
            (vec![0, 2], vec![1], vec![0, 2])
        );
        let folded = model.clone().fold_task_embedding(2);
        let got = logits(&folded, &[0, 1]);
        assert_close(name, &got[0], &after[0], 2e-5);
        assert_close(name, &got[1], &after[2], 2e-5);
        assert!(folded.parameter_shapes().iter().all(|(name, _)| !name.contains("task_embedding")));
        assert_close(name, &logits(&model.fold_task_embedding(1), &[0])[0], &after[1], 1e-6);
    }
}

#[test]
#[should_panic(expected = "shares the input of a task that has a task embedding")]
fn an_input_that_is_not_there_cannot_be_shared() {
    let (_, device) = devices().remove(0);
    let mut tasks = [task("a", None, 2), task("b", None, 2)];
    tasks[1].input = TaskInput::Shared(0);
    multi_task(&tasks, &device);
}

/// The factor scales what enters the encoder and leaves the head as it is.
#[test]
fn a_gradient_factor_reaches_the_encoder_alone() {
    for (name, device) in devices() {
        let device = device.autodiff();
        let gradients = |factor: f64| {
            let mut config = task("t", Some(PoolingKind::Mean), 3);
            config.gradient_factor = factor;
            let model = multi_task(&[config], &device).train();
            let loss = model.forward(&input(&device), &[0], None).remove(0).square().sum();
            let value = host(loss.clone().reshape([1]));
            let gradients = loss.backward();
            let of = |tensor: Tensor<2>| host(tensor.grad(&gradients).unwrap());
            let encoder = of(model.bert.encoder.layer[0].output.dense.weight.val());
            (value, encoder, of(model.tasks[0].classifier.weight.val()))
        };
        let (full, quarter) = (gradients(1.0), gradients(0.25));
        assert_close(name, &quarter.0, &full.0, 1e-5);
        let scaled: Vec<f32> = full.1.iter().map(|x| x * 0.25).collect();
        let largest = scaled.iter().fold(0.0f32, |a, b| a.max(b.abs()));
        assert_close(name, &quarter.1, &scaled, 1e-4 * largest.max(1e-3));
        assert_close(name, &quarter.2, &full.2, 1e-4);
    }
}

#[test]
fn learned_balance_by_hand() {
    let (_, device) = devices().remove(0);
    let mut tasks = [task("a", Some(PoolingKind::Mean), 2), task("b", Some(PoolingKind::Mean), 1)];
    tasks[0].uncertainty = Some(Uncertainty::Softmax);
    tasks[1].uncertainty = Some(Uncertainty::Gaussian);
    let start = multi_task(&tasks, &device);
    let loss = || Tensor::<1>::from_floats([3.0], &device);
    // s = 0: the loss, and half of it for a squared error.
    assert_eq!(host(start.objective(0, loss())), [3.0]);
    assert_eq!(host(start.objective(1, loss())), [1.5]);
    let moved = start
        .set_parameters(|name, _| Ok(name.ends_with("log_variance").then(|| vec![2f32.ln()])))
        .unwrap();
    // exp(-s) = 1/2, s / 2 = 0.346574: 3 / 2 + 0.346574, and 3 / 4 + 0.346574.
    assert_close("softmax", &host(moved.objective(0, loss())), &[1.846_574], 1e-5);
    assert_close("gaussian", &host(moved.objective(1, loss())), &[1.096_574], 1e-5);
    // Without it, the loss is what it is.
    let plain = multi_task(&[task("a", None, 2)], &device);
    assert_eq!(host(plain.objective(0, loss())), [3.0]);
}

/// A task by itself answers as it does among the others; with a projection or for every token it has no such model.
#[test]
fn a_task_can_be_taken_out() {
    let (_, device) = devices().remove(0);
    let mut tasks = [
        task("a", Some(PoolingKind::Adaptive), 2),
        task("b", None, 2),
        task("c", Some(PoolingKind::Mean), 3),
    ];
    tasks[0].layer_mixture = true;
    tasks[0].input = TaskInput::Embedding(TaskEmbeddingKind::Diagonal);
    tasks[2].projection = true;
    let model = multi_task(&tasks, &device);
    let input = input(&device);
    let alone = model.sequence_classifier(0).unwrap();
    let expected = host(model.forward(&input, &[0], None).remove(0));
    assert_close("logits", &host(alone.forward(&input, None)), &expected, 1e-6);
    assert!(alone.task_embedding.is_some() && alone.layer_mixture.is_some());
    assert!(model.sequence_classifier(1).is_none() && model.sequence_classifier(2).is_none());
}
