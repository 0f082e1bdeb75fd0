//! The batches of a step run in parts, one after the other, for less memory: gradient accumulation.

use burn::module::Module;

use crate::{sampler::Batch, step::PartGradients, trainable::Trainable};

/// Rows of a batch that run together, and how much they count.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct MicroBatch {
    /// The rows, with the heads of the batch.
    pub(crate) batch: Batch,
    /// What the loss of each head is multiplied with: the share that these rows have in what the mean of the whole batch is over,
    /// rows or tokens. The shares of a batch add up to 1.
    pub(crate) shares: Vec<f64>,
    /// Its place among those of the step, by which it drops what it drops.
    pub(crate) number: u32,
}

/// Cuts each batch of a step into parts of at most `most` rows; without it, a batch is its only part.
pub(crate) fn micro_batches<M: Trainable>(
    data: &M::Data,
    batches: &[Batch],
    most: Option<usize>,
) -> Vec<Vec<MicroBatch>> {
    let mut numbers = 0..;
    let mut of_batch = |batch: &Batch| {
        let size = most.unwrap_or(batch.rows.len()).max(1);
        let parts =
            batch.rows.chunks(size).map(|rows| Batch { rows: rows.to_vec(), ..batch.clone() });
        let parts: Vec<Batch> = parts.collect();
        let shares = match parts.len() {
            1 => vec![vec![1.0; batch.heads.len()]],
            _ => shares::<M>(data, &parts),
        };
        let numbered = parts.into_iter().zip(shares).zip(&mut numbers);
        numbered.map(|((batch, shares), number)| MicroBatch { batch, shares, number }).collect()
    };
    batches.iter().map(&mut of_batch).collect()
}

/// What the rows of a batch add up to, one part after the other.
///
/// # Panics
/// When the batch has no part.
pub(crate) fn add_up<M: Module>(
    model: &M,
    parts: &[MicroBatch],
    gradients: impl Fn(&M, &MicroBatch) -> PartGradients,
) -> PartGradients {
    let all = parts.iter().map(|part| gradients(model, part));
    let sum = all.reduce(|mut sum, part| {
        sum.add(model, part);
        sum
    });
    sum.expect("a batch has rows") // INVARIANT: see `# Panics`
}

/// The shares of each part, one a head: of what a mean is over, and of the rows where it is over nothing.
fn shares<M: Trainable>(data: &M::Data, parts: &[Batch]) -> Vec<Vec<f64>> {
    let counts: Vec<Vec<usize>> = parts
        .iter()
        .map(|part| M::targets(data, part).iter().map(|targets| targets.counted()).collect())
        .collect();
    let rows: usize = parts.iter().map(|part| part.rows.len()).sum();
    let share = |part: usize, head: usize| {
        let all: usize = counts.iter().map(|counts| counts[head]).sum();
        match all {
            0 => parts[part].rows.len() as f64 / rows as f64,
            all => counts[part][head] as f64 / all as f64,
        }
    };
    let of_part = |part: usize| (0..counts[part].len()).map(|head| share(part, head)).collect();
    (0..parts.len()).map(of_part).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeMap;

    use bert_core::{Bert, BertConfig, Encoding, initialise};
    use bert_heads::{
        MultiTask, PoolingKind, SequenceClassifier, SequenceClassifierConfig, TaskConfig,
        TaskInput, TokenClassifier, TokenClassifierConfig, Uncertainty,
    };
    use bert_kernels::random::{Key, Purpose, Stream};
    use burn::{
        module::{Module, ModuleMapper, ModuleVisitor, Param},
        optim::GradientsParams,
        tensor::{Device, Tensor},
    };

    use super::*;
    use crate::{
        Balance, DataSet, LabelMap, MeasuredTask, Observer, Recipe, Regularisation, Sampling,
        StepReport, StepSize, Targets, TaskDev, TaskSet, WordTags, fine_tune,
        mixing::{Mixing, TaskMixing},
        part_loss::Part,
        trainable::Pass,
        training_state::{trained_paths, weights_of},
    };

    const WORDS: usize = 53;

    fn encoding(tokens: usize, random: &mut Stream) -> Encoding {
        Encoding {
            input_ids: (0..tokens).map(|_| random.below(WORDS) as u32).collect(),
            token_type_ids: vec![0; tokens],
            tokens: vec![String::new(); tokens],
            offsets: vec![(0, 0); tokens],
            word_ids: vec![None; tokens],
            special_tokens_mask: vec![false; tokens],
            truncated: false,
            windows: vec![],
        }
    }

    /// Texts of 2 to 15 tokens.
    fn encodings(rows: usize) -> Vec<Encoding> {
        let mut random = Stream::new(3, Purpose::Sample, 0);
        (0..rows)
            .map(|_| {
                let tokens = 2 + random.below(14);
                encoding(tokens, &mut random)
            })
            .collect()
    }

    /// Tags of some of the tokens of each text, of none of every fifth.
    fn tags(encodings: &[Encoding]) -> Vec<WordTags> {
        let tags = |(row, encoding): (usize, &Encoding)| {
            let tokens = if row % 5 == 4 { 0 } else { encoding.input_ids.len() };
            let first_tokens: Vec<_> = (0..tokens).map(|t| (t % 3 > 0).then_some(t)).collect();
            let tags = (0..tokens).map(|token| ((row + token) % 3) as u32).collect();
            WordTags { tags, first_tokens }
        };
        encodings.iter().enumerate().map(tags).collect()
    }

    fn config() -> BertConfig {
        BertConfig {
            vocab_size: WORDS,
            hidden_size: 22,
            num_hidden_layers: 2,
            num_attention_heads: 2,
            intermediate_size: 37,
            max_position_embeddings: 19,
            hidden_dropout_prob: 0.0,
            attention_probs_dropout_prob: 0.0,
            ..BertConfig::default()
        }
    }

    fn bert(device: &Device) -> Bert {
        initialise(Bert::new(&config(), device), "", 1, 0.1)
    }

    fn classifier(device: &Device) -> SequenceClassifier {
        let parts = SequenceClassifierConfig {
            task_embedding: None,
            pooling: PoolingKind::Cls,
            layer_mixture: false,
            num_labels: 3,
        };
        SequenceClassifier::new(bert(device), &config(), parts, 2, device)
    }

    fn batch(rows: usize, heads: &[usize]) -> Batch {
        Batch { set: 0, rows: (0..rows).collect(), heads: heads.to_vec() }
    }

    #[test]
    fn rows_count_by_their_share() {
        let labels = vec![Some(0), None, Some(1), Some(1), Some(0), None, None];
        let data = DataSet { encodings: encodings(7), labels, states: None };
        let cut = |most| micro_batches::<SequenceClassifier>(&data, &[batch(7, &[0])], most);
        let whole = vec![MicroBatch { batch: batch(7, &[0]), shares: vec![1.0], number: 0 }];
        assert_eq!(cut(None), std::slice::from_ref(&whole));
        assert_eq!(cut(Some(9)), [whole]);
        // Of four rows with a label, three lie in the first four, and one in the last three.
        let parts = cut(Some(4)).swap_remove(0);
        assert_eq!(parts.iter().map(|part| part.batch.rows.len()).collect::<Vec<_>>(), [4, 3]);
        assert_eq!(parts.iter().map(|part| part.shares[0]).collect::<Vec<_>>(), [0.75, 0.25]);
    }

    /// Each head has what its own loss is the mean of: texts, and the words that a tag is asked for.
    #[test]
    fn each_head_counts_its_own() {
        let words = |first_tokens: Vec<Option<usize>>| WordTags {
            tags: vec![0; first_tokens.len()],
            first_tokens,
        };
        let tags = vec![
            words(vec![Some(0), Some(1), Some(1)]),
            words(vec![Some(1), None]),
            words(vec![Some(1)]),
        ];
        let none = vec![words(vec![None]), words(vec![]), words(vec![])];
        let set = TaskSet {
            encodings: encodings(3),
            targets: vec![
                (0, Targets::Numbers(vec![1.0; 3])),
                (1, Targets::Tags(tags)),
                (2, Targets::Tags(none)),
            ],
            batch_size: None,
            weight: 1.0,
            sources: vec![],
        };
        let batches = [batch(3, &[0, 1, 2]), batch(1, &[1])];
        let parts = micro_batches::<MultiTask>(&vec![set], &batches, Some(2));
        // Two of three texts; of four tokens with a tag (the first text has two) three; of none the share of the texts.
        assert_eq!(parts[0][0].shares, [2.0 / 3.0, 0.75, 2.0 / 3.0]);
        assert_eq!(parts[0][1].shares, [1.0 / 3.0, 0.25, 1.0 / 3.0]);
        assert_eq!(parts[1][0].shares, [1.0]);
        let numbers: Vec<u32> = parts.iter().flatten().map(|part| part.number).collect();
        assert_eq!(numbers, [0, 1, 2]);
    }

    /// The gradients by the paths of their parameters.
    struct Named<'a> {
        gradients: &'a GradientsParams,
        path: Vec<String>,
        found: BTreeMap<String, Vec<f32>>,
    }

    impl ModuleVisitor for Named<'_> {
        fn enter_module(&mut self, name: &str, _: &str) {
            self.path.push(name.to_owned());
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.path.pop();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if let Some(gradient) = self.gradients.get::<D>(param.id) {
                let values = gradient.into_data().iter::<f32>().collect();
                self.found.insert(self.path.join("."), values);
            }
        }
    }

    /// The loss of the first rows in parts of at most `most`, and the gradient.
    fn gradient<M: Trainable>(
        model: &M,
        data: &M::Data,
        rows: usize,
        most: usize,
        device: &Device,
    ) -> (f64, GradientsParams) {
        let parts = micro_batches::<M>(data, &[batch(rows, &[0])], Some(most));
        assert_eq!(parts[0].len(), rows.div_ceil(most));
        let regularisation =
            Regularisation { label_smoothing: 0.2, fgm: 0.5, ..Regularisation::default() };
        let lengths = &M::sets(data)[0].lengths;
        let sum = add_up(model, &parts[0], |model, rows| {
            let (weights, regularisation) = (&[0.7], &regularisation);
            let part = Part { data, rows, lengths, weights, regularisation, device };
            part.gradients(model, |_| Key::new(0))
        });
        (sum.losses[0], sum.gradients.unwrap())
    }

    fn named<M: Module>(model: &M, gradients: &GradientsParams) -> BTreeMap<String, Vec<f32>> {
        let mut named = Named { gradients, path: vec![], found: BTreeMap::new() };
        model.visit(&mut named);
        named.found
    }

    fn norm(values: &[f32]) -> f64 {
        values.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt()
    }

    /// 32 rows at once, and in parts of 1, 2, 3, ... rows, the last of which is short.
    fn assert_same_gradients<M: Trainable>(model: M, data: &M::Data, device: &Device) {
        let (loss, whole) = gradient(&model, data, 32, 32, device);
        let whole = named(&model, &whole);
        for most in 1..32 {
            let (loss_of_parts, parts) = gradient(&model, data, 32, most, device);
            assert!((loss - loss_of_parts).abs() < 1e-6, "{most}: {loss_of_parts}, not {loss}");
            let parts = named(&model, &parts);
            assert_eq!(parts.len(), whole.len());
            for (name, whole) in &whole {
                let differences = whole.iter().zip(&parts[name]).map(|(one, other)| one - other);
                let difference = norm(&differences.collect::<Vec<_>>()) / norm(whole);
                let is_key_bias = name.ends_with("key.bias");
                assert!(difference < 1e-5 || is_key_bias, "{most}, {name}: {difference}");
            }
        }
    }

    fn labels(rows: usize) -> Vec<Option<u32>> {
        (0..rows as u32).map(|row| (row % 7 > 0).then_some(row * row % 3)).collect()
    }

    #[cfg(feature = "flex")]
    #[test]
    fn gradients_are_those_of_the_whole_batch() {
        let device = Device::flex().autodiff();
        let texts = DataSet { encodings: encodings(32), labels: labels(32), states: None };
        assert_same_gradients(classifier(&device).train(), &texts, &device);

        let parts = TokenClassifierConfig { task_embedding: None, num_labels: 3 };
        let tagger = TokenClassifier::new(bert(&device), &config(), parts, 2, &device).train();
        let labels = tags(&texts.encodings);
        let words = DataSet { encodings: texts.encodings, labels, states: None };
        assert_same_gradients(tagger, &words, &device);
    }

    /// Moves each parameter against its gradient.
    struct Descend<'a>(&'a GradientsParams);

    impl ModuleMapper for Descend<'_> {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let Some(gradient) = self.0.get::<D>(param.id) else { return param };
            param.map(|weight| Tensor::from_inner(weight.inner() - gradient * 0.05).require_grad())
        }
    }

    #[cfg(feature = "flex")]
    #[test]
    fn gradient_descent_takes_the_same_way() {
        let device = Device::flex().autodiff();
        let data = DataSet { encodings: encodings(32), labels: labels(32), states: None };
        let weights = |model: &SequenceClassifier| -> Vec<Vec<f32>> {
            let all = weights_of(model, &trained_paths(model)).into_iter();
            all.map(|tensor| (tensor.values)()).collect()
        };
        let trained = |most: usize| {
            let mut model = classifier(&device).train();
            for _ in 0..20 {
                let (_, gradients) = gradient(&model, &data, 32, most, &device);
                model = model.map(&mut Descend(&gradients));
            }
            weights(&model)
        };
        let (start, whole) = (weights(&classifier(&device).train()), trained(32));
        assert_ne!(start, whole);
        for most in [8, 5] {
            for (one, other) in whole.iter().zip(trained(most)) {
                for (one, other) in one.iter().zip(&other) {
                    assert!((one - other).abs() < 1e-6, "{most}: {one} {other}");
                }
            }
        }
    }

    #[cfg(feature = "flex")]
    #[test]
    fn adamw_takes_the_same_way() {
        let device = Device::flex();
        let data = DataSet { encodings: encodings(64), labels: labels(64), states: None };
        let logits = |micro_batch_size| {
            let recipe =
                Recipe { epochs: 10, learning_rate: 1e-3, micro_batch_size, ..Recipe::default() };
            let tuned =
                fine_tune(classifier(&device), &data, &data, &recipe, &device, &mut ()).unwrap();
            assert_eq!(tuned.epochs.len(), 10);
            tuned.model.logits(&data, &batch(64, &[0]), &device, Pass::default()).swap_remove(0)
        };
        let values = |logits: Tensor<2>| logits.into_data().iter::<f32>().collect::<Vec<_>>();
        let whole = values(logits(None));
        for (one, other) in whole.iter().zip(values(logits(Some(8)))) {
            assert!((one - other).abs() < 1e-4, "{one} {other}");
        }
    }

    /// The losses of each step.
    #[derive(Default)]
    struct Losses(Vec<Vec<(usize, f64)>>);

    impl Observer for Losses {
        fn step(&mut self, report: &StepReport) {
            self.0.push(report.losses.clone());
        }
    }

    /// Three tasks, two of which share their texts, in every way to share steps and losses.
    #[cfg(feature = "flex")]
    #[test]
    fn several_tasks_take_the_same_way() {
        let device = Device::flex();
        let set = |rows: usize, first: usize, with_tags: bool| {
            let encodings = encodings(rows);
            let numbers = (0..rows).map(|row| (row % 5) as f32 - 2.0).collect();
            let mut targets = vec![(first, Targets::Numbers(numbers))];
            if with_tags {
                targets.push((first + 1, Targets::Tags(tags(&encodings))));
            }
            TaskSet { encodings, targets, batch_size: None, weight: 1.0, sources: vec![] }
        };
        let data = vec![set(33, 0, true), set(19, 2, false)];
        let names = ["one", "tags", "two"];
        let labels: Vec<String> = ["O", "B-x", "I-x"].map(str::to_owned).into();
        let measured = |name: &&str| MeasuredTask {
            name: (*name).to_owned(),
            metric: if *name == "tags" { "f1" } else { "spearman" }.to_owned(),
            labels: LabelMap::of_model(&labels).unwrap(),
        };
        let dev = TaskDev { sets: data.clone(), tasks: names.iter().map(measured).collect() };
        let losses = |mixing: &Mixing, micro_batch_size| {
            let is_learned = matches!(mixing.balance, Balance::Uncertainty { .. });
            let task = |name: &&str| TaskConfig {
                name: (*name).to_owned(),
                input: TaskInput::Words,
                layer_mixture: false,
                projection: false,
                pooling: (*name != "tags").then_some(PoolingKind::Mean),
                num_outputs: if *name == "tags" { 3 } else { 1 },
                gradient_factor: 1.0,
                uncertainty: is_learned.then_some(match *name {
                    "tags" => Uncertainty::Softmax,
                    _ => Uncertainty::Gaussian,
                }),
            };
            let tasks: Vec<TaskConfig> = names.iter().map(task).collect();
            let model = MultiTask::new(bert(&device), &config(), &tasks, 2, &device);
            let recipe = Recipe {
                epochs: 2,
                learning_rate: 1e-3,
                batch_size: 10,
                micro_batch_size,
                mixing: mixing.clone(),
                ..Recipe::default()
            };
            let mut losses = Losses::default();
            fine_tune(model, &data, &dev, &recipe, &device, &mut losses).unwrap();
            losses.0
        };
        let weight = |weight| TaskMixing { weight, patience: None };
        let tasks = vec![weight(1.0), weight(0.5), weight(2.0)];
        let temperature = 2.0;
        let all = [
            (Balance::Fixed, Sampling::Proportional, StepSize::One),
            (Balance::Fixed, Sampling::Uniform, StepSize::One),
            (Balance::Fixed, Sampling::RoundRobin, StepSize::One),
            (Balance::Uncertainty { weight_lr: 0.01 }, Sampling::Sqrt, StepSize::One),
            (Balance::Uncertainty { weight_lr: 0.01 }, Sampling::Annealed, StepSize::One),
            (Balance::Fixed, Sampling::Temperature { temperature }, StepSize::One),
            (
                Balance::GradNorm { alpha: 1.5, weight_lr: 0.025 },
                Sampling::Proportional,
                StepSize::All,
            ),
            (Balance::PcGrad, Sampling::Proportional, StepSize::All),
            (Balance::Dwa { temperature }, Sampling::Proportional, StepSize::All),
        ];
        for (balance, sampling, step_size) in all {
            let mixing = Mixing { balance, sampling, step_size, tasks: tasks.clone() };
            let (whole, parts) = (losses(&mixing, None), losses(&mixing, Some(3)));
            assert!(whole.len() > 7 && whole.len() == parts.len());
            for (one, other) in whole.iter().flatten().zip(parts.iter().flatten()) {
                let is_close = (one.1 - other.1).abs() < 1e-4 * one.1.abs().max(1.0);
                assert!(one.0 == other.0 && is_close, "{balance:?}: {one:?} {other:?}");
            }
        }
    }
}
