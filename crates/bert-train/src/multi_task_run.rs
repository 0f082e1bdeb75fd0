//! A whole run of several tasks: from files to a directory with the trained model.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use bert_core::{BertConfig, Tokenizer, write_atomically};
use bert_heads::PoolingKind;
use bert_kernels::set_precision;
use burn::tensor::Device;

use crate::{
    balance::Balance,
    baselines::{Baselines, TaskComparison},
    checkpoints::Checkpoints,
    error::{Error, Result},
    fine_tune::{fine_tune, fine_tune_from},
    finished_run::save_finished_run,
    format::Format,
    mixing::Mixing,
    model_dir::Settings,
    multi_task_config::{MultiTaskConfig, TaskTable},
    multi_task_page::page,
    multi_tasker::{MultiTasker, merge},
    observer::{EpochReport, Observer, StepReport},
    recipe::Recipe,
    recorder::Recorder,
    resume::Start,
    run::{DEV_FRACTION, RUN_FILE, RunReport, clear_out},
    sampler::Sampling,
    split::stratified_split,
    task_form::AnswerKind,
    task_kind::TaskKind,
    task_rows::Reading,
    task_sets::{TaskDev, TaskSet},
    task_settings::TaskSettings,
    trained_model::TrainedModel,
};

/// Trains the tasks of `config` together and writes the best model, with all that it takes to apply and to repeat it, into
/// `out`: the best is that with the highest mean over the tasks of what each is judged by. Without `baselines`, those of the
/// run file are taken.
///
/// # Errors
/// Bad input of any kind ([`Error::is_bad_input`]) is refused before the first step and before `out` is touched.
pub fn run_tasks(
    config: &MultiTaskConfig,
    out: &Path,
    overwrite: bool,
    baselines: &Baselines,
    device: &Device,
    observer: &mut dyn Observer,
) -> Result<RunReport> {
    let config = config.against(baselines);
    run_tasks_from(Start::New { overwrite }, &config, out, device, observer)
}

/// [`run_tasks`], or what is left of it.
pub(crate) fn run_tasks_from(
    start: Start,
    config: &MultiTaskConfig,
    out: &Path,
    device: &Device,
    observer: &mut dyn Observer,
) -> Result<RunReport> {
    let recipe = config.recipe();
    recipe.check()?;
    if !config.precision.is_available(device) {
        return Err(Error::Precision { precision: config.precision });
    }
    set_precision(config.precision);
    start.check_out(out, &config.model)?;
    let run_file = config.to_toml()?;

    let data = TaskData::read(config, observer)?;
    let (tasker, notices) =
        MultiTasker::from_checkpoint(&config.model, data.settings.clone(), recipe.seed, device)?;
    notices.iter().for_each(|notice| observer.notice(notice));
    let tasker = tasker.train_embeddings(config.train_embeddings, &config.model)?;
    let dev = TaskDev { sets: data.dev.clone(), tasks: tasker.measured_tasks() };
    let baselines = Baseline::all(&config.baselines, &tasker, device)?;

    let mut checkpoints = Checkpoints::new(out, &recipe.control, config.fingerprint()?);
    let (mut saved, record) = start.load(&mut checkpoints, observer)?;
    match &mut saved {
        Some(saved) => saved.state.judge_by(&dev.tasks),
        None => {
            clear_out(out)?;
            write_atomically(out.join(RUN_FILE), run_file.as_bytes())?;
        }
    }
    tasker.save_settings(out)?;
    let names: Vec<String> = dev.tasks.iter().map(|task| task.name.clone()).collect();
    let mut recorder = Recorder::new(out, record, names.clone(), checkpoints, observer);
    let rows = (&data.train, &dev);
    let tuned = fine_tune_from(saved, tasker.model.clone(), rows, &recipe, device, &mut recorder);
    // Also of a run that failed: its last steps say why.
    recorder.write()?;
    let agreements = std::mem::take(&mut recorder.record.agreements);
    let tuned = tuned.map_err(|error| error.in_run(out))?;
    let mut report = RunReport::of(&tuned);
    if !baselines.is_empty() {
        let device = device.clone().inner();
        let together = dev.logits(&tuned.model, recipe.batch_size, &device);
        for baseline in baselines {
            let alone = match baseline.model {
                Some(model) => logits_of(&model, baseline.head, &dev, recipe.batch_size, &device),
                None => train_alone(config, &data, baseline.head, &device, observer)
                    .map_err(|error| error.in_run(out))?,
            };
            let (set, place) = place_of(&dev, baseline.head);
            let task = &dev.tasks[baseline.head];
            let rows = &dev.sets[set];
            let targets = rows.targets_of(baseline.head);
            let answers = [together[set][place].as_slice(), &alone];
            let comparison =
                TaskComparison::new(task, targets, &rows.encodings, answers, recipe.seed);
            observer.notice(&comparison.to_string());
            report.comparisons.push(comparison);
        }
    }
    let html = page(&names, &tuned.epochs, &agreements, &report, &run_file);
    write_atomically(out.join("report.html"), html.as_bytes())?;
    save_finished_run(out, &report, &[])?;
    Ok(report)
}

/// The rows of all tasks, and how each task is put together.
struct TaskData {
    train: Vec<TaskSet>,
    dev: Vec<TaskSet>,
    settings: Settings,
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
    fn read(config: &MultiTaskConfig, observer: &mut dyn Observer) -> Result<Self> {
        let bert_config = BertConfig::load(&config.model)?;
        let tokenizer = Tokenizer::load(&config.model)?;
        tokenizer.check_vocabulary(&bert_config)?;
        let max_length = bert_config.max_length(config.max_length)?;
        let (mut loaded, mut settings) = (vec![], vec![]);
        for (head, (name, table)) in config.tasks.iter().enumerate() {
            // Written out once, so that dev rows are read by the training file's names and not by their own order.
            let columns = complete_columns(table)?;
            let reading =
                |path| Reading { kind: table.kind, path, format: table.format, columns: &columns };
            let encode = |path, is_training| {
                let rows = reading(path).rows(is_training)?;
                let (encodings, cut) =
                    reading(path).encode(&rows, &tokenizer, &bert_config, max_length)?;
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
            let set = |encodings, targets| TaskSet {
                encodings,
                targets: vec![(head, targets)],
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
                    Some(set(encodings, targets))
                }
            };
            if cut > 0 {
                observer.notice(&format!(
                    "task {name}: {cut} of {texts} texts are longer than {max_length} tokens and were cut"
                ));
            }
            let strata = rows.strata(table.kind);
            loaded.push(Loaded { name, table, set: set(encodings, targets), strata, dev });
            settings.push(TaskSettings {
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
            });
        }
        let seed = config.recipe.seed;
        let (train, dev) = group(loaded, seed, observer)?;
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
    fn alone(&self, head: usize) -> Self {
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

/// The columns of a task with those that were left open written out, as they are in the training file.
fn complete_columns(table: &TaskTable) -> Result<crate::columns::Columns> {
    let is_table = !table.kind.is_of_tokens()
        && !crate::sentences::Sentences::are_in(&table.train, table.format, &table.columns);
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
        let split = stratified_split(strata, fraction, seed)?;
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

/// A task's model alone.
struct Baseline {
    head: usize,
    /// None where it is still to be trained.
    model: Option<TrainedModel>,
}

impl Baseline {
    /// The baselines, whose models fit the tasks.
    fn all(baselines: &Baselines, tasker: &MultiTasker, device: &Device) -> Result<Vec<Self>> {
        match baselines {
            Baselines::None => Ok(vec![]),
            Baselines::Train => {
                Ok((0..tasker.tasks().len()).map(|head| Self { head, model: None }).collect())
            }
            Baselines::Dirs(dirs) => {
                dirs.iter().map(|dir| Self::load(dir, tasker, device)).collect()
            }
        }
    }

    fn load(dir: &Path, tasker: &MultiTasker, device: &Device) -> Result<Self> {
        let model = TrainedModel::load(dir, &device.clone().inner())?;
        let answers = |task: &TaskSettings| match &model {
            TrainedModel::Classifier(own) => {
                matches!(task.kind, crate::TaskForm::Classify | crate::TaskForm::PairClassify)
                    && own.labels.names() == task.labels
                    && own.settings.texts == task.kind.texts()
            }
            TrainedModel::Tagger(own) => {
                task.kind == crate::TaskForm::Tag && own.labels.names() == task.labels
            }
            TrainedModel::MultiTask(own) => own.tasks().iter().any(|own| {
                own.name == task.name && own.kind == task.kind && own.labels == task.labels
            }),
        };
        let (config, tokenizer) = match &model {
            TrainedModel::Classifier(own) => (&own.config, &own.tokenizer),
            TrainedModel::Tagger(own) => (&own.config, &own.tokenizer),
            TrainedModel::MultiTask(own) => (&own.config, &own.tokenizer),
        };
        // It is asked about the texts as this run encodes them.
        let words = |tokenizer: &Tokenizer| tokenizer.vocabulary().collect::<BTreeMap<_, _>>();
        let reads_the_same = words(tokenizer) == words(&tasker.tokenizer)
            && config.max_position_embeddings >= tasker.settings.max_length
            && config.type_vocab_size == tasker.config.type_vocab_size;
        let heads: Vec<usize> =
            (0..tasker.tasks().len()).filter(|head| answers(&tasker.tasks()[*head])).collect();
        match heads[..] {
            [head] if reads_the_same => Ok(Self { head, model: Some(model) }),
            _ => Err(Error::Baseline { path: dir.into(), fitting: heads.len() }),
        }
    }
}

/// The set of a task and its place among the set's heads.
fn place_of(dev: &TaskDev, head: usize) -> (usize, usize) {
    let of_set = |(number, set): (usize, &TaskSet)| {
        Some((number, set.heads().iter().position(|own| *own == head)?))
    };
    let place = dev.sets.iter().enumerate().find_map(of_set);
    place.expect("every task has dev rows") // INVARIANT: `TaskData::read` gives each task a set
}

/// What a model of one task says of the dev rows of a head.
fn logits_of(
    model: &TrainedModel,
    head: usize,
    dev: &TaskDev,
    batch_size: usize,
    device: &Device,
) -> Vec<Vec<f32>> {
    let encodings = &dev.sets[place_of(dev, head).0].encodings;
    match model {
        TrainedModel::Classifier(own) => {
            crate::evaluate::predict_logits(&own.model, encodings, batch_size, device)
        }
        TrainedModel::Tagger(own) => {
            crate::evaluate::predict_token_logits(&own.model, encodings, batch_size, device)
        }
        TrainedModel::MultiTask(own) => {
            let name = &dev.tasks[head].name;
            let head = own.tasks().iter().position(|task| task.name == *name).unwrap_or(0);
            let forward = |input| own.model.forward(&input, &[head], None);
            crate::evaluate::map_batches_to(encodings, batch_size, device, forward).swap_remove(0)
        }
    }
}

/// Trains one task alone by the same recipe; what its best model says of the dev rows.
fn train_alone(
    config: &MultiTaskConfig,
    data: &TaskData,
    head: usize,
    device: &Device,
    observer: &mut dyn Observer,
) -> Result<Vec<Vec<f32>>> {
    let data = data.alone(head);
    let recipe = Recipe { mixing: Mixing::default(), ..config.recipe.clone() };
    let (tasker, _) =
        MultiTasker::from_checkpoint(&config.model, data.settings, recipe.seed, device)?;
    let tasker = tasker.train_embeddings(config.train_embeddings, &config.model)?;
    let dev = TaskDev { sets: data.dev, tasks: tasker.measured_tasks() };
    observer.notice(&format!("training {} alone", dev.tasks[0].name));
    let tuned = fine_tune(tasker.model, &data.train, &dev, &recipe, device, &mut Steps(observer))?;
    Ok(dev.logits(&tuned.model, recipe.batch_size, device).swap_remove(0).swap_remove(0))
}

/// Passes on how a baseline goes, but saves nothing of it.
struct Steps<'a>(&'a mut dyn Observer);

impl Observer for Steps<'_> {
    fn step(&mut self, report: &StepReport) {
        self.0.step(report);
    }

    fn epoch(
        &mut self,
        report: &EpochReport,
        parameters: &dyn Fn() -> Vec<bert_core::NamedTensor>,
    ) -> Result<()> {
        self.0.epoch(report, parameters)
    }
    fn is_interrupted(&self) -> bool {
        self.0.is_interrupted()
    }
}
