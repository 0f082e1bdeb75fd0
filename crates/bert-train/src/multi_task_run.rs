//! A whole run of several tasks: from files to a directory with the trained model.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use bert_core::Tokenizer;
use bert_heads::MultiTask;
use bert_kernels::set_precision;
use burn::tensor::Device;

use crate::{
    about::About,
    adapter::{Adapter, say_trained},
    baselines::{Baselines, TaskComparison},
    check::Check,
    checkpoints::Checkpoints,
    error::{Error, Result},
    fine_tune::{fine_tune, fine_tune_from},
    finished_run::save_finished_run,
    fit::check_fit,
    mixing::Mixing,
    multi_task_config::MultiTaskConfig,
    multi_tasker::MultiTasker,
    observer::{EpochReport, Observer, StepReport},
    out_dir::begin_out,
    recipe::Recipe,
    recorder::Recorder,
    resume::Start,
    run::{RunReport, broken_off},
    seen_rows::may_have_seen,
    task_data::TaskData,
    task_sets::{TaskDev, TaskSet},
    task_settings::TaskSettings,
    trainable::Trainable,
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
    config.check_regularisation()?;
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
    let (words, lora) = (config.train_embeddings, config.lora.as_ref());
    recipe.layers.check_states("several tasks", &tasker.config)?;
    check_fit(&recipe, words, lora, &tasker.config, &config.model)?;
    let tasker = tasker.reinitialise(&recipe, &config.model)?;
    let tasker = tasker.train_embeddings(words, &config.model)?;
    let tasker = tasker.with_lora(lora, &recipe)?;
    let dev = TaskDev { sets: data.dev.clone(), tasks: tasker.measured_tasks() };
    let baselines = Baseline::all(config, &tasker, device, observer)?;

    if start == Start::Check {
        let (model, rows) = (tasker.model, (&data.train, &dev));
        return Ok(RunReport::of(&fine_tune_from(None, model, rows, &recipe, device, observer)?));
    }
    let _locked = start.lock(out, &config.model)?;
    let mut checkpoints = Checkpoints::new(out, &recipe.control, config.fingerprint()?);
    let (mut saved, record) = start.load(&mut checkpoints, observer)?;
    match &mut saved {
        Some(saved) => saved.state.judge_by(&dev.tasks),
        None => begin_out(out, &run_file)?,
    }
    tasker.save_settings(out)?;
    let names: Vec<String> = dev.tasks.iter().map(|task| task.name.clone()).collect();
    let (steps, command) = (saved.as_ref().map(|saved| saved.state.step), observer.command());
    About::write(out, steps, command, device, &MultiTask::sets(&data.train))?;
    let adapter = |lora| Adapter::new(lora, &config.model, config.train_embeddings);
    let adapter = config.lora.as_ref().map(adapter);
    if adapter.is_some() {
        say_trained(&tasker.model, observer);
    }
    let mut recorder = Recorder::new(out, record, names, checkpoints, observer)
        .with_adapter(adapter)
        .with_events(recipe.control.tensorboard)?;
    let rows = (&data.train, &dev);
    let tuned = fine_tune_from(saved, tasker.model.clone(), rows, &recipe, device, &mut recorder);
    // Also of a run that failed: its last steps say why.
    recorder.write()?;
    let tuned = tuned.map_err(|error| broken_off(error, out))?;
    let mut report = RunReport::of(&tuned);
    let device = device.clone().inner();
    let together = dev.logits(&tuned.model, recipe.rows_at_once(), &device);
    for baseline in baselines {
        let alone = match baseline.model {
            Some(model) => logits_of(&model, baseline.head, &dev, recipe.rows_at_once(), &device),
            None => train_alone(config, &data, baseline.head, &device, observer)
                .map_err(|error| error.in_run(out))?,
        };
        let (set, place) = place_of(&dev, baseline.head);
        let task = &dev.tasks[baseline.head];
        let rows = &dev.sets[set];
        let targets = rows.targets_of(baseline.head);
        let answers = [together[set][place].as_slice(), &alone];
        let comparison = TaskComparison::new(task, targets, &rows.encodings, answers, recipe.seed);
        observer.notice(&comparison.to_string());
        report.comparisons.push(comparison);
    }
    save_finished_run(out, &report, None, &dev.answers(&together))?;
    Ok(report)
}

/// A task's model alone.
struct Baseline {
    head: usize,
    /// None where it is still to be trained.
    model: Option<TrainedModel>,
}

impl Baseline {
    /// The baselines, whose models fit the tasks.
    fn all(
        config: &MultiTaskConfig,
        tasker: &MultiTasker,
        device: &Device,
        observer: &mut dyn Observer,
    ) -> Result<Vec<Self>> {
        match &config.baselines {
            Baselines::None => Ok(vec![]),
            Baselines::Train => {
                Ok((0..tasker.tasks().len()).map(|head| Self { head, model: None }).collect())
            }
            Baselines::Dirs(dirs) => {
                let load = |dir: &PathBuf| {
                    let baseline = Self::load(dir, tasker, device)?;
                    let name = &tasker.tasks()[baseline.head].name;
                    if let Some(reason) = may_have_seen(dir, config, name) {
                        observer.notice(&reason);
                    }
                    Ok(baseline)
                };
                dirs.iter().map(load).collect()
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
    let tasker = tasker.reinitialise(&recipe, &config.model)?;
    let tasker = tasker.train_embeddings(config.train_embeddings, &config.model)?;
    let tasker = tasker.with_lora(config.lora.as_ref(), &recipe)?;
    let dev = TaskDev { sets: data.dev, tasks: tasker.measured_tasks() };
    observer.notice(&format!("training {} alone", dev.tasks[0].name));
    let tuned = fine_tune(tasker.model, &data.train, &dev, &recipe, device, &mut Steps(observer))?;
    Ok(dev.logits(&tuned.model, recipe.rows_at_once(), device).swap_remove(0).swap_remove(0))
}

/// Passes on how a baseline goes, but saves nothing of it.
struct Steps<'a>(&'a mut dyn Observer);

impl Observer for Steps<'_> {
    fn notice(&mut self, text: &str) {
        self.0.notice(text);
    }

    fn checked(&mut self, check: &Check) -> Result<()> {
        self.0.checked(check)
    }

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
