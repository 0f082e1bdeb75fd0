//! The rows of a run of several tasks: read, put together where tasks share their texts, and held out.

use std::path::PathBuf;

use bert_core::{BertConfig, Tokenizer};
use bert_heads::PoolingKind;

use crate::{
    balance::Balance,
    columns::Columns,
    error::{Error, Result},
    format::Format,
    model_dir::Settings,
    multi_task_config::MultiTaskConfig,
    multi_tasker::merge,
    observer::Observer,
    run::DEV_FRACTION,
    sampler::Sampling,
    sentences::Sentences,
    split::stratified_split,
    task_form::AnswerKind,
    task_kind::TaskKind,
    task_rows::Reading,
    task_sets::TaskSet,
    task_settings::TaskSettings,
    task_table::TaskTable,
};

/// The rows of all tasks, and how each task is put together.
pub(crate) struct TaskData {
    pub(crate) train: Vec<TaskSet>,
    pub(crate) dev: Vec<TaskSet>,
    pub(crate) settings: Settings,
}

/// What all tasks are read with.
struct Reader<'a> {
    config: &'a MultiTaskConfig,
    bert_config: BertConfig,
    tokenizer: Tokenizer,
    max_length: usize,
}

/// A task's rows with where they come from.
struct Loaded<'a> {
    name: &'a String,
    table: &'a TaskTable,
    set: TaskSet,
    strata: Vec<u32>,
    dev: Option<TaskSet>,
}

impl TaskData {
    pub(crate) fn read(config: &MultiTaskConfig, observer: &mut dyn Observer) -> Result<Self> {
        let bert_config = BertConfig::load(&config.model)?;
        let tokenizer = Tokenizer::load(&config.model)?;
        tokenizer.check_vocabulary(&bert_config)?;
        let max_length = bert_config.max_length(config.max_length)?;
        let reader = Reader { config, bert_config, tokenizer, max_length };
        let (mut loaded, mut settings) = (vec![], vec![]);
        for (head, (name, table)) in config.tasks.iter().enumerate() {
            let (task, own) =
                reader.read(head, name, table, observer).map_err(|error| error.in_task(name))?;
            loaded.push(task);
            settings.push(own);
        }
        let seed = config.recipe.seed;
        let (mut train, dev) = group(loaded, seed, observer)?;
        train.iter_mut().for_each(|set| set.sources.clear());
        for (place, set) in train.iter().enumerate() {
            set.heads().into_iter().for_each(|head| settings[head].data_set = place);
        }
        let settings = Settings {
            kind: TaskKind::MultiTask,
            texts: config.tasks.values().map(|task| task.kind.texts()).max().unwrap_or(1),
            recipe: Some(config.recipe.clone()),
            tasks: settings,
            ..Settings::new(PoolingKind::default(), max_length)
        };
        Ok(Self { train, dev, settings })
    }

    /// The rows of one task, whose head becomes the first.
    pub(crate) fn alone(&self, head: usize) -> Self {
        let of_head = |sets: &[TaskSet]| -> Vec<TaskSet> {
            let only = |set: &TaskSet| {
                let own = set.targets.iter().find(|(own, _)| *own == head)?;
                Some(TaskSet { targets: vec![(0, own.1.clone())], ..set.clone() })
            };
            sets.iter().filter_map(only).collect()
        };
        let mut task = self.settings.tasks[head].clone();
        if let Some(owner) = task.share_embedding.take() {
            let owner = self.settings.tasks.iter().find(|other| other.name == owner);
            task.task_embedding = owner.and_then(|owner| owner.task_embedding);
        }
        (task.gradient_factor, task.uncertainty) = (1.0, false);
        Self {
            train: of_head(&self.train),
            dev: of_head(&self.dev),
            settings: Settings { tasks: vec![task], ..self.settings.clone() },
        }
    }
}

impl Reader<'_> {
    /// The rows of a task, and how it is put together; its data set is not known yet.
    fn read<'a>(
        &self,
        head: usize,
        name: &'a String,
        table: &'a TaskTable,
        observer: &mut dyn Observer,
    ) -> Result<(Loaded<'a>, TaskSettings)> {
        let Self { config, bert_config, tokenizer, max_length } = self;
        // Written out once, so that dev rows are read by the training file's names and not by their own order.
        let columns = complete_columns(table)?;
        let reading =
            |path| Reading { kind: table.kind, path, format: table.format, columns: &columns };
        let encode = |path, is_training| {
            let rows = reading(path).rows(is_training)?;
            let (encodings, cut) =
                reading(path).encode(&rows, tokenizer, bert_config, *max_length)?;
            Ok::<_, Error>((rows, encodings, cut))
        };
        let (rows, encodings, cut) = encode(&table.train, true)?;
        let labels = reading(&table.train).labels(&rows)?;
        if table.metric.as_deref() == Some("f1")
            && table.kind.answer() == AnswerKind::Label
            && labels.len() != 2
        {
            return Err(Error::MetricOfTwo { name: name.clone(), labels: labels.len() });
        }
        let targets = reading(&table.train).targets(&rows, &labels, &encodings)?;
        let set = |encodings, targets, sources: Vec<_>| TaskSet {
            encodings,
            targets: vec![(head, targets)],
            sources: vec![(head, sources)],
            batch_size: table.batch_size,
            weight: match &config.mixing.sampling {
                Sampling::Weights { weights } => weights.get(name).copied().unwrap_or(1.0),
                _ => 1.0,
            },
        };
        let (mut cut, mut texts) = (cut, encodings.len());
        let dev = match &table.dev {
            None => None,
            Some(path) => {
                let (rows, encodings, cut_dev) = encode(path, false)?;
                let targets = reading(path).targets(&rows, &labels, &encodings)?;
                (cut, texts) = (cut + cut_dev, texts + encodings.len());
                Some(set(encodings, targets, rows.sources()))
            }
        };
        if cut > 0 {
            observer.notice(&format!(
                "task {name}: {cut} of {texts} texts are longer than {max_length} tokens and were cut"
            ));
        }
        let strata = rows.strata(table.kind);
        let set = set(encodings, targets, rows.sources());
        let loaded = Loaded { name, table, set, strata, dev };
        let settings = TaskSettings {
            name: name.clone(),
            kind: table.kind,
            labels: labels.names().to_vec(),
            columns: columns.clone(),
            data_set: head,
            metric: table.metric(),
            pooling: (!table.kind.is_of_tokens()).then(|| table.pooling.unwrap_or_default()),
            layer_mixture: table.layer_mixture,
            projection: table.projection,
            task_embedding: table.task_embedding,
            share_embedding: table.share_embedding.clone(),
            gradient_factor: table.gradient_factor,
            uncertainty: matches!(config.mixing.balance, Balance::Uncertainty { .. }),
        };
        Ok((loaded, settings))
    }
}

/// The columns of a task with those that were left open written out, as they are in the training file.
pub(crate) fn complete_columns(table: &TaskTable) -> Result<Columns> {
    let is_table = !table.kind.is_of_tokens()
        && !Sentences::are_in(&table.train, table.format, &table.columns);
    if is_table {
        table.columns.complete(&table.train, table.format)
    } else {
        Ok(table.columns.clone())
    }
}

/// Where a task's dev rows come from.
type DevSource<'a> = (Option<Format>, Option<&'a PathBuf>, Option<f64>);

fn dev_source(table: &TaskTable) -> DevSource<'_> {
    (table.format, table.dev.as_ref(), table.dev_fraction)
}

/// Puts together the tasks that read the same texts, and holds out rows where there is no dev file: the same ones for all tasks
/// of a training file.
fn group(
    loaded: Vec<Loaded>,
    seed: u64,
    observer: &mut dyn Observer,
) -> Result<(Vec<TaskSet>, Vec<TaskSet>)> {
    let mut files: Vec<Vec<Loaded>> = vec![];
    for task in loaded {
        match files.iter_mut().find(|tasks| tasks[0].table.train == task.table.train) {
            Some(tasks) => tasks.push(task),
            None => files.push(vec![task]),
        }
    }
    let (mut train, mut dev) = (vec![], vec![]);
    for tasks in files {
        let table = tasks[0].table;
        let holds_out = tasks.iter().any(|task| task.dev.is_none());
        let differs = |task: &&Loaded| dev_source(task.table) != dev_source(table);
        if let (true, Some(other)) = (holds_out, tasks.iter().find(differs)) {
            return Err(Error::DifferentShares {
                path: table.train.clone(),
                first: tasks[0].name.clone(),
                second: other.name.clone(),
            });
        }
        check_batch_sizes(&tasks)?;
        if !holds_out {
            let (sets, dev_sets): (Vec<_>, Vec<_>) =
                tasks.into_iter().map(|task| (task.set, task.dev)).unzip();
            train.extend(merge(sets));
            dev.extend(merge(dev_sets.into_iter().flatten().collect()));
            continue;
        }
        // By the labels of the first task that has some.
        let has_labels = |task: &&Loaded| task.strata.iter().any(|label| *label > 0);
        let strata = &tasks.iter().find(has_labels).unwrap_or(&tasks[0]).strata;
        let fraction = table.dev_fraction.unwrap_or(DEV_FRACTION);
        let split = stratified_split(strata, fraction, seed)
            .map_err(|error| error.in_task(tasks[0].name))?;
        observer.notice(&format!(
            "no dev file: {} of {} rows of {} are held out for dev, with seed {seed}",
            split.dev.len(),
            strata.len(),
            table.train.display(),
        ));
        for set in merge(tasks.into_iter().map(|task| task.set).collect()) {
            train.push(set.select(&split.train));
            dev.push(set.select(&split.dev));
        }
    }
    Ok((train, dev))
}

/// Refuses batches of two sizes for tasks of one file that share them.
fn check_batch_sizes(tasks: &[Loaded]) -> Result<()> {
    for (place, task) in tasks.iter().enumerate() {
        let Some(size) = task.table.batch_size else { continue };
        for other in &tasks[place + 1..] {
            if let Some(other_size) = other.table.batch_size.filter(|other| *other != size)
                && task.set.has_texts_of(&other.set)
            {
                return Err(Error::SharedBatch {
                    path: task.table.train.clone(),
                    first: task.name.clone(),
                    second: other.name.clone(),
                    sizes: [size, other_size],
                });
            }
        }
    }
    Ok(())
}
