//! The data of a run of several tasks: rows that serve one task or several.

use bert_core::{Bert, EncoderInput, Encoding, NamedTensor};
use bert_heads::MultiTask;
use bert_kernels::Sequences;
use burn::tensor::{Device, Tensor};

use crate::{
    batch_targets::BatchTargets,
    evaluate::map_batches_to,
    labels::LabelMap,
    metrics::{Metrics, TaskMetrics, TasksMetrics},
    sampler::{Batch, TrainingSet},
    source_row::SourceRow,
    targets::Targets,
    trainable::{Pass, Trainable},
};

/// Texts with what one task or several are to answer.
#[derive(Debug, Clone)]
pub struct TaskSet {
    /// One a row.
    pub encodings: Vec<Encoding>,
    /// The heads with what each is to answer, one a row.
    pub targets: Vec<(usize, Targets)>,
    /// Rows a batch; without it, the recipe's.
    pub batch_size: Option<usize>,
    /// Its share of the steps, where they are drawn by given weights.
    pub weight: f64,
    /// How the rows stand in the file of each head, where answers to them are written down.
    pub(crate) sources: Vec<(usize, Vec<SourceRow>)>,
}

/// What a model of several tasks is measured on.
#[derive(Debug, Clone)]
pub struct TaskDev {
    /// The rows.
    pub sets: Vec<TaskSet>,
    /// One a head.
    pub tasks: Vec<MeasuredTask>,
}

/// How a task is measured.
#[derive(Debug, Clone)]
pub struct MeasuredTask {
    /// Its name.
    pub name: String,
    /// The score by which it is judged.
    pub metric: String,
    /// Its labels.
    pub labels: LabelMap,
}

impl MeasuredTask {
    /// The score by which it is judged.
    pub(crate) fn score(&self, metrics: &Metrics) -> f64 {
        metrics.score(&self.metric).unwrap_or_else(|| metrics.main())
    }
}

impl TaskSet {
    /// What a head is to answer.
    ///
    /// # Panics
    /// When the set has nothing for it.
    pub fn targets_of(&self, head: usize) -> &Targets {
        let own = self.targets.iter().find(|(own, _)| *own == head);
        &own.expect("the set has targets of the head").1 // INVARIANT: see `# Panics`
    }

    /// The heads that it has answers for.
    pub fn heads(&self) -> Vec<usize> {
        self.targets.iter().map(|(head, _)| *head).collect()
    }

    /// Whether its rows are the same texts, so that one pass through the encoder serves both.
    pub(crate) fn has_texts_of(&self, other: &Self) -> bool {
        let is_same = |(one, other): (&Encoding, &Encoding)| {
            one.input_ids == other.input_ids && one.token_type_ids == other.token_type_ids
        };
        self.encodings.len() == other.encodings.len()
            && self.encodings.iter().zip(&other.encodings).all(is_same)
    }

    /// Some of the rows.
    pub(crate) fn select(&self, rows: &[usize]) -> Self {
        let targets = self.targets.iter();
        let sources = self.sources.iter();
        let of_rows = |all: &[SourceRow]| rows.iter().map(|row| all[*row].clone()).collect();
        Self {
            encodings: rows.iter().map(|row| self.encodings[*row].clone()).collect(),
            targets: targets.map(|(head, targets)| (*head, targets.select(rows))).collect(),
            sources: sources.map(|(head, all)| (*head, of_rows(all))).collect(),
            ..*self
        }
    }
}

impl TaskDev {
    /// What the heads of each set say of its rows: `[sets][heads of the set][rows][outputs]`.
    pub fn logits(
        &self,
        model: &MultiTask,
        batch_size: usize,
        device: &Device,
    ) -> Vec<Vec<Vec<Vec<f32>>>> {
        let of_set = |set: &TaskSet| {
            let heads = set.heads();
            map_batches_to(&set.encodings, batch_size, device, |input| {
                model.forward(&input, &heads, None)
            })
        };
        self.sets.iter().map(of_set).collect()
    }

    /// How good answers to rows of each set are; a head has its rows in one set.
    pub fn metrics(&self, logits: &[Vec<Vec<Vec<f32>>>]) -> TasksMetrics {
        let mut metrics: Vec<Option<TaskMetrics>> = vec![None; self.tasks.len()];
        for (set, logits) in self.sets.iter().zip(logits) {
            for ((head, targets), logits) in set.targets.iter().zip(logits) {
                let rows: Vec<usize> = (0..targets.len()).collect();
                let logits: Vec<&[f32]> = logits.iter().map(Vec::as_slice).collect();
                let MeasuredTask { name, metric, labels } = &self.tasks[*head];
                let measured = targets.metrics(labels, &set.encodings, &rows, &logits);
                metrics[*head] = Some(TaskMetrics {
                    name: name.clone(),
                    metric: metric.clone(),
                    metrics: measured,
                });
            }
        }
        TasksMetrics(metrics.into_iter().flatten().collect())
    }
}

/// Each task has its own head.
impl Trainable for MultiTask {
    type Data = Vec<TaskSet>;
    type Dev = TaskDev;

    fn sets(data: &Vec<TaskSet>) -> Vec<TrainingSet> {
        let set = |set: &TaskSet| TrainingSet {
            lengths: set.encodings.iter().map(|encoding| encoding.input_ids.len()).collect(),
            heads: set.heads(),
            batch_size: set.batch_size,
            weight: set.weight,
        };
        data.iter().map(set).collect()
    }

    fn cut_rows(data: &Vec<TaskSet>) -> usize {
        let encodings = data.iter().flat_map(|set| &set.encodings);
        encodings.filter(|encoding| encoding.truncated).count()
    }

    fn logits(
        &self,
        data: &Vec<TaskSet>,
        batch: &Batch,
        device: &Device,
        Pass { dropout, shift }: Pass,
    ) -> Vec<Tensor<2>> {
        let set = &data[batch.set];
        let input = EncoderInput::new(batch.rows.iter().map(|row| &set.encodings[*row]), device);
        self.forward(&input.with_shift(shift), &batch.heads, dropout)
    }

    fn targets(data: &Vec<TaskSet>, batch: &Batch) -> Vec<BatchTargets> {
        let set = &data[batch.set];
        let lengths = batch.rows.iter().map(|row| set.encodings[*row].input_ids.len());
        let sequences = Sequences::from_lengths(&lengths.collect::<Vec<_>>());
        let of = |head: &usize| set.targets_of(*head).of_batch(&batch.rows, &sequences);
        batch.heads.iter().map(of).collect()
    }

    fn objective(&self, head: usize, loss: Tensor<1>) -> Tensor<1> {
        self.objective(head, loss)
    }

    fn encoder(&self) -> &Bert {
        &self.bert
    }

    fn encoder_mut(&mut self) -> &mut Bert {
        &mut self.bert
    }

    fn rows(dev: &TaskDev) -> usize {
        dev.sets.iter().map(|set| set.encodings.len()).sum()
    }

    fn evaluate(&self, dev: &TaskDev, batch_size: usize, device: &Device) -> Metrics {
        Metrics::Tasks(dev.metrics(&dev.logits(self, batch_size, device)))
    }

    fn parameter_shapes(&self) -> Vec<(String, Vec<usize>)> {
        self.parameter_shapes()
    }

    fn set_parameters(
        self,
        values: impl FnMut(&str, &[usize]) -> bert_core::Result<Option<Vec<f32>>>,
    ) -> bert_core::Result<Self> {
        self.set_parameters(values)
    }

    fn named_parameters(&self) -> Vec<NamedTensor> {
        self.named_parameters()
    }
}
