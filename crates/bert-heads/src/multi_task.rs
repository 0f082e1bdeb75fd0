//! Several tasks on one encoder: each with an input embedding, a projection, a pooling and a head of its own, or shared.

use std::collections::BTreeMap;

use bert_core::{
    Bert, BertConfig, EncoderInput, NamedTensor, Site, fnv1a, initialise, named_parameters,
    parameter_shapes, set_parameters,
};
use bert_kernels::{
    Dropout, Sequences, dropout, linear,
    random::{Key, Purpose},
};
use burn::{
    module::{Module, Param},
    nn::{Linear, LinearConfig},
    tensor::{Device, Tensor},
};

use crate::{
    layer_mixture::LayerMixture,
    pooling::{Pooling, PoolingKind},
    sequence_classifier::SequenceClassifier,
    task_embedding::{TaskEmbedding, TaskEmbeddingKind},
};

/// What one task of a [`MultiTask`] is made of.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskConfig {
    /// Its name, in checkpoints too: letters, digits, `-` and `_`.
    pub name: String,
    /// What is done to the word embeddings on their way in.
    pub input: TaskInput,
    /// Whether all layers are mixed, or the last one is taken.
    pub layer_mixture: bool,
    /// Whether a linear map of the hidden states, which starts as the identity, comes before pooling and head.
    pub projection: bool,
    /// How a text's hidden states become one vector; without it, every token is answered.
    pub pooling: Option<PoolingKind>,
    /// The width of the logits.
    pub num_outputs: usize,
    /// What the task's gradient is multiplied with where it enters the encoder, from 0.
    pub gradient_factor: f64,
    /// Whether the balance of the losses is learned, and if so whether the task's loss is a squared error; see
    /// [`MultiTask::objective`].
    pub uncertainty: Option<Uncertainty>,
}

/// The word embeddings that a task reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskInput {
    /// The encoder's own.
    Words,
    /// Those that a task embedding of its own makes of them.
    Embedding(TaskEmbeddingKind),
    /// Those of another task, by its place.
    Shared(usize),
}

/// What kind of noise a task's loss is taken to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Uncertainty {
    /// That of a cross-entropy.
    Softmax,
    /// That of a squared error.
    Gaussian,
}

/// One encoder with a head for each of several tasks.
#[derive(Module, Debug)]
pub struct MultiTask {
    /// The encoder, which all tasks share.
    pub bert: Bert,
    /// One a head.
    pub tasks: Vec<Task>,
    #[module(skip)]
    names: Vec<String>,
}

/// What belongs to one task: task embedding, layer mixture, projection, pooling, linear head.
#[derive(Module, Debug)]
pub struct Task {
    /// The map of the word embeddings, where the task has one of its own.
    pub task_embedding: Option<TaskEmbedding>,
    /// The mixture of all layers; without one, the last hidden states are taken.
    pub layer_mixture: Option<LayerMixture>,
    /// `h + h P + b`, `[hidden_size, hidden_size]`; `P` and `b` start at 0.
    pub projection: Option<Linear>,
    /// One vector a text; without it, the head answers every token.
    pub pooling: Option<Pooling>,
    /// `[hidden_size, num_outputs]`
    pub classifier: Linear,
    /// `s = log sigma^2`, `[1]`, where the balance of the losses is learned; 0 at the start.
    pub log_variance: Option<Param<Tensor<1>>>,
    #[module(skip)]
    input: Option<usize>,
    #[module(skip)]
    gradient_factor: f64,
    #[module(skip)]
    is_gaussian: bool,
    #[module(skip)]
    dropout: f64,
}

impl MultiTask {
    /// Tasks around `bert`, whose own parts are at their starting values, drawn from `seed` and each task's name.
    ///
    /// # Panics
    /// When a task shares the input of one that has none of its own.
    pub fn new(
        bert: Bert,
        bert_config: &BertConfig,
        tasks: &[TaskConfig],
        seed: u64,
        device: &Device,
    ) -> Self {
        for task in tasks {
            if let TaskInput::Shared(other) = task.input {
                let is_own = tasks
                    .get(other)
                    .is_some_and(|other| matches!(other.input, TaskInput::Embedding(_)));
                assert!(
                    is_own,
                    "task {:?} shares the input of a task that has a task embedding",
                    task.name
                );
            }
        }
        Self {
            bert,
            names: tasks.iter().map(|task| task.name.clone()).collect(),
            tasks: tasks
                .iter()
                .enumerate()
                .map(|(place, task)| Task::new(place, task, bert_config, seed, device))
                .collect(),
        }
    }

    /// The logits of some heads for the same texts. The encoder runs once for all heads that read the same word embeddings.
    ///
    /// # Shapes
    /// output: for each of `heads` in order `[sequences, num_outputs]`, and `[tokens, num_outputs]` where every token is answered
    ///
    /// # Panics
    /// When there is no such head.
    pub fn forward(
        &self,
        input: &EncoderInput,
        heads: &[usize],
        key: Option<Key>,
    ) -> Vec<Tensor<2>> {
        let mut logits: Vec<Option<Tensor<2>>> = vec![None; heads.len()];
        for (pass, places) in (0..).zip(self.by_input(heads).into_values()) {
            let of_input: Vec<usize> = places.iter().map(|place| heads[*place]).collect();
            // Each further pass over the same texts drops something else.
            let key = key.map(|key| match pass {
                0 => key,
                pass => key.derive(Purpose::Dropout, [0, 0, pass]),
            });
            for (place, output) in places.iter().zip(self.forward_alike(input, &of_input, key)) {
                logits[*place] = Some(output);
            }
        }
        logits.into_iter().flatten().collect()
    }

    /// The places of those of `heads` that read the same word embeddings, under the head whose task embedding it is.
    fn by_input(&self, heads: &[usize]) -> BTreeMap<Option<usize>, Vec<usize>> {
        let mut by_input = BTreeMap::<Option<usize>, Vec<usize>>::new();
        for (place, head) in heads.iter().enumerate() {
            by_input.entry(self.tasks[*head].input).or_default().push(place);
        }
        by_input
    }

    /// The logits of heads that read the same word embeddings.
    fn forward_alike(
        &self,
        input: &EncoderInput,
        heads: &[usize],
        key: Option<Key>,
    ) -> Vec<Tensor<2>> {
        let tasks: Vec<&Task> = heads.iter().map(|head| &self.tasks[*head]).collect();
        let words = self.words(input, tasks[0]);
        let (states, sequences) = if tasks.iter().all(|task| task.reads_first_token()) {
            let first = self.bert.forward_first(words, input, key);
            (vec![first], input.sequences.first_tokens())
        } else if tasks.iter().any(|task| task.layer_mixture.is_some()) {
            (self.bert.hidden_states_words(words, input, key), input.sequences.clone())
        } else {
            (vec![self.bert.forward_words(words, input, key)], input.sequences.clone())
        };
        let outputs = heads.iter().zip(tasks).map(|(head, task)| {
            let pooled = task.pooled(&states, &sequences);
            let site =
                key.and_then(|key| Dropout::new(task.dropout, Site::Head(*head as u32).key(key)));
            let bias = task.classifier.bias.as_ref().map(|bias| bias.val());
            linear(dropout(pooled, site), task.classifier.weight.val(), bias)
        });
        outputs.collect()
    }

    /// The word embeddings that a task reads.
    fn words(&self, input: &EncoderInput, task: &Task) -> Tensor<2> {
        let words = self.bert.embeddings.words(input);
        match task.input.and_then(|owner| self.tasks[owner].task_embedding.as_ref()) {
            Some(task_embedding) => task_embedding.forward(words),
            None => words,
        }
    }

    /// What is made small in place of a task's loss `L`: `exp(-s) L + s / 2` where the balance is learned, and for a squared
    /// error `exp(-s) L / 2 + s / 2`; else the loss.
    ///
    /// # Source
    /// Kendall, Gal, Cipolla (arXiv:1705.07115), equations 7 and 10.
    pub fn objective(&self, head: usize, loss: Tensor<1>) -> Tensor<1> {
        let task = &self.tasks[head];
        match &task.log_variance {
            Some(log_variance) => {
                let s = log_variance.val();
                let loss = if task.is_gaussian { loss * 0.5 } else { loss };
                s.clone().neg().exp() * loss + s * 0.5
            }
            None => loss,
        }
    }

    /// The same model, whose `layers` highest layers and every pooler of BERT's begin anew; see [`Bert::reinitialise`].
    ///
    /// # Panics
    /// When there are fewer layers.
    pub fn reinitialise(mut self, layers: usize, config: &BertConfig, seed: u64) -> Self {
        self.bert = self.bert.reinitialise(layers, config, seed);
        for (task, name) in self.tasks.iter_mut().zip(&self.names) {
            let pooling = task.pooling.take();
            task.pooling = pooling.map(|own| own.reinitialise(config, task_seed(seed, name)));
        }
        self
    }

    /// The model of one task by itself; none where the task answers every token or has a projection, which such a model has
    /// no place for.
    pub fn sequence_classifier(&self, head: usize) -> Option<SequenceClassifier> {
        let task = self.tasks[head].clone();
        let pooling = task.pooling.filter(|_| task.projection.is_none())?;
        let owner = task.input.and_then(|owner| self.tasks[owner].task_embedding.clone());
        Some(SequenceClassifier {
            task_embedding: owner,
            bert: self.bert.clone(),
            layer_mixture: task.layer_mixture,
            pooling,
            classifier: task.classifier,
            dropout: task.dropout,
        })
    }

    /// The heads that read the same word embeddings as `head`.
    pub fn alike(&self, head: usize) -> Vec<usize> {
        let input = self.tasks[head].input;
        (0..self.tasks.len()).filter(|other| self.tasks[*other].input == input).collect()
    }

    /// The heads that read the same word embeddings as `head`, without a task embedding: it is folded into the table.
    pub fn fold_task_embedding(mut self, head: usize) -> Self {
        let kept = self.alike(head);
        let owner = self.tasks[head].input;
        if let Some(embedding) = owner.and_then(|owner| self.tasks[owner].task_embedding.take()) {
            let table = embedding.fold(self.bert.embeddings.word_table());
            self.bert.embeddings = self.bert.embeddings.with_word_table(table);
        }
        let tasks = self.tasks.into_iter().enumerate().filter(|(place, _)| kept.contains(place));
        let tasks = tasks.map(|(_, task)| Task { input: None, ..task }).collect();
        let names = kept.iter().map(|place| self.names[*place].clone()).collect();
        Self { bert: self.bert, tasks, names }
    }

    /// Sets every parameter from `values(name, shape)`, by the names and shapes that checkpoints have; where that is
    /// `None`, the parameter stays as it is. Words are frozen afterwards: these are the names of one table.
    ///
    /// # Errors
    /// What `values` returns.
    pub fn set_parameters(
        self,
        mut values: impl FnMut(&str, &[usize]) -> bert_core::Result<Option<Vec<f32>>>,
    ) -> bert_core::Result<Self> {
        let names = self.names.clone();
        set_parameters(self, "", |name, shape| values(&checkpoint_name(name, &names), shape))
    }

    /// The name and the shape in a checkpoint of every parameter.
    pub fn parameter_shapes(&self) -> Vec<(String, Vec<usize>)> {
        let shapes = parameter_shapes(self, "").into_iter();
        shapes.map(|(name, shape)| (checkpoint_name(&name, &self.names), shape)).collect()
    }

    /// Every parameter as a checkpoint holds it: also of words that were frozen there is one table.
    pub fn named_parameters(&self) -> Vec<NamedTensor> {
        let mut whole = self.clone();
        let table = whole.bert.embeddings.word_table();
        whole.bert.embeddings = whole.bert.embeddings.with_word_table(table);
        let mut tensors = named_parameters(&whole, "");
        for tensor in &mut tensors {
            tensor.name = checkpoint_name(&tensor.name, &self.names);
        }
        tensors
    }
}

impl Task {
    fn new(
        place: usize,
        config: &TaskConfig,
        bert_config: &BertConfig,
        seed: u64,
        device: &Device,
    ) -> Self {
        let size = bert_config.hidden_size;
        let seed = task_seed(seed, &config.name);
        let zeros = |shape: [usize; 2]| Param::from_tensor(Tensor::zeros(shape, device));
        let classifier = LinearConfig::new(size, config.num_outputs).init(device);
        Self {
            task_embedding: match config.input {
                TaskInput::Embedding(kind) => Some(TaskEmbedding::new(kind, size, seed, device)),
                TaskInput::Words | TaskInput::Shared(_) => None,
            },
            layer_mixture: config
                .layer_mixture
                .then(|| LayerMixture::new(bert_config.num_hidden_layers, device)),
            projection: config.projection.then(|| Linear {
                weight: zeros([size, size]),
                bias: Some(Param::from_tensor(Tensor::zeros([size], device))),
            }),
            pooling: config.pooling.map(|kind| Pooling::new(kind, bert_config, seed, device)),
            classifier: initialise(classifier, "classifier.", seed, bert_config.initializer_range),
            log_variance: config
                .uncertainty
                .map(|_| Param::from_tensor(Tensor::zeros([1], device))),
            input: match config.input {
                TaskInput::Words => None,
                TaskInput::Embedding(_) => Some(place),
                TaskInput::Shared(owner) => Some(owner),
            },
            gradient_factor: config.gradient_factor,
            is_gaussian: config.uncertainty == Some(Uncertainty::Gaussian),
            dropout: bert_config.head_dropout(),
        }
    }

    fn reads_first_token(&self) -> bool {
        self.layer_mixture.is_none()
            && self.pooling.as_ref().is_some_and(Pooling::reads_first_token)
    }

    /// What is pooled: the mixture of the layers or the last one, after the projection.
    fn hidden(&self, states: &[Tensor<2>]) -> Tensor<2> {
        let enter = |state: &Tensor<2>| scale_gradient(state.clone(), self.gradient_factor);
        let last = states.last().expect("a model has hidden states"); // INVARIANT: the embeddings are the first
        let hidden = match &self.layer_mixture {
            Some(mixture) => mixture.forward(states.iter().map(enter).collect()),
            None => enter(last),
        };
        match &self.projection {
            Some(map) => {
                let bias = map.bias.as_ref().map(|bias| bias.val());
                hidden.clone() + linear(hidden, map.weight.val(), bias)
            }
            None => hidden,
        }
    }

    fn pooled(&self, states: &[Tensor<2>], sequences: &Sequences) -> Tensor<2> {
        let hidden = self.hidden(states);
        match &self.pooling {
            Some(pooling) => pooling.forward(hidden, sequences),
            None => hidden,
        }
    }
}

/// Tasks draw values of their own, by their names.
fn task_seed(seed: u64, name: &str) -> u64 {
    seed ^ (fnv1a(name) << 32)
}

/// The same values, whose gradient is multiplied with `factor` on its way back.
fn scale_gradient(x: Tensor<2>, factor: f64) -> Tensor<2> {
    if factor == 1.0 {
        return x;
    }
    // What is added is 0, exactly.
    let value = x.clone().detach();
    value.clone() + (x - value) * factor
}

/// `tasks.NAME.` in place of `tasks.PLACE.`.
fn checkpoint_name(name: &str, names: &[String]) -> String {
    let renamed = || {
        let (place, rest) = name.strip_prefix("tasks.")?.split_once('.')?;
        Some(format!("tasks.{}.{rest}", names[place.parse::<usize>().ok()?]))
    };
    renamed().unwrap_or_else(|| name.to_owned())
}
