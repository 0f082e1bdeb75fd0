//! A whole run: from files to a directory with the trained model.

use std::path::Path;

use bert_core::BertConfig;
use bert_heads::{SequenceClassifier, TokenClassifier};
use bert_kernels::set_precision;
use burn::{module::Module, tensor::Device};
use serde::{Deserialize, Serialize};

use crate::{
    about::About,
    adapter::{Adapter, say_trained},
    answers::{answers_on_sentences, answers_on_texts},
    baselines::TaskComparison,
    checkpoints::Checkpoints,
    columns::Columns,
    error::{Error, Result},
    examples::{Example, read_examples, read_training_examples},
    fine_tune::{FineTuned, fine_tune_from},
    finished_run::{AnsweredRow, save_finished_run},
    fit::check_fit,
    freeze::Freeze,
    hidden_states::keep_states,
    labels::LabelMap,
    long::Long,
    memory::say_activations,
    metrics::{ClassificationMetrics, Metrics, TaggingMetrics},
    model_dir::Settings,
    observer::Observer,
    out_dir::begin_out,
    recorder::Recorder,
    report::write_page_of,
    resume::Start,
    run_config::RunConfig,
    sentences::{Sentence, Sentences, read_sentences},
    source_row::SourceRow,
    split::stratified_split,
    tag_scheme::TagScheme,
    tagger::Tagger,
    text_classifier::TextClassifier,
    trainable::Trainable,
};

/// The file that repeats a run, and by which a directory is known to hold one.
pub(crate) const RUN_FILE: &str = "run.toml";

/// The share of the training rows that is held out where there are no dev rows.
pub(crate) const DEV_FRACTION: f64 = 0.1;

/// What a run came to; its JSON is the closing line of `bert train --json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunReport {
    /// The metrics of the best epoch.
    pub dev: Metrics,
    /// The best epoch, from 1.
    pub best_epoch: usize,
    /// The metrics of the last epoch.
    pub last: Metrics,
    /// From the first batch to the end of the last step, evaluations between included.
    pub train_seconds: f64,
    /// Training rows per second.
    pub examples_per_second: f64,
    /// How each of several tasks does against being trained alone, where that was asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub comparisons: Vec<TaskComparison>,
}

impl RunReport {
    pub(crate) fn of<M>(tuned: &FineTuned<M>) -> Self {
        Self {
            dev: tuned.best().clone(),
            best_epoch: tuned.best_epoch,
            last: tuned.last().clone(),
            train_seconds: tuned.train_time.as_secs_f64(),
            examples_per_second: tuned.examples_per_second,
            comparisons: vec![],
        }
    }
}

/// Trains as `config` says and writes the best model, with all that it takes to apply and to repeat it, into `out`.
///
/// A training file of tokens with tags trains a [`Tagger`], any other a [`TextClassifier`].
///
/// The model in `out` is the best so far after every epoch: a run that stops early loses nothing that it had.
///
/// # Errors
/// Bad input of any kind ([`Error::is_bad_input`]) is refused before the first step and before `out` is touched.
pub fn run(
    config: &RunConfig,
    out: &Path,
    overwrite: bool,
    device: &Device,
    observer: &mut dyn Observer,
) -> Result<RunReport> {
    run_from(Start::New { overwrite }, config, out, device, observer)
}

/// [`run`], or what is left of it.
pub(crate) fn run_from(
    start: Start,
    config: &RunConfig,
    out: &Path,
    device: &Device,
    observer: &mut dyn Observer,
) -> Result<RunReport> {
    config.recipe.check()?;
    if !config.precision.is_available(device) {
        return Err(Error::Precision { precision: config.precision });
    }
    set_precision(config.precision);
    start.check_out(out, &config.model)?;
    let run = Run { start, config, run_file: config.to_toml()?, out, device };
    match Sentences::are_in(&config.train, config.format, &config.columns) {
        true => run.tag(observer),
        false => run.classify(observer),
    }
}

/// A run whose settings are in order.
struct Run<'a> {
    start: Start,
    config: &'a RunConfig,
    run_file: String,
    out: &'a Path,
    device: &'a Device,
}

/// The rows of a run.
struct Rows<R> {
    train: Vec<R>,
    dev: Vec<R>,
}

impl Run<'_> {
    fn classify(&self, observer: &mut dyn Observer) -> Result<RunReport> {
        let Self { config, device, .. } = *self;
        let is_frozen = config.recipe.layers.freeze == Some(Freeze::Encoder);
        config.check_frozen()?;
        // Written out once, so that dev rows are read by the training file's names and not by their own order.
        let columns = config.columns.complete(&config.train, config.format)?;
        let rows = self.texts(&columns, observer)?;
        say_empty([&rows.train, &rows.dev], observer);
        let texts = if rows.train.iter().any(|row| row.pair.is_some()) { 2 } else { 1 };
        let settings = Settings { texts, ..self.settings(columns)? };
        let labels = |own: &[String]| LabelMap::of_training(&config.train, &rows.train, own);
        let (model, seed) = (&config.model, config.recipe.seed);
        let (classifier, notices) =
            TextClassifier::from_checkpoint(model, labels, settings, seed, device)?;
        notices.iter().for_each(|notice| observer.notice(notice));
        let (words, lora) = (config.words.train_embeddings, config.lora.as_ref());
        check_fit(&config.recipe, words, lora, &classifier.config, model)?;
        let classifier = classifier.reinitialise(&config.recipe, model)?;
        let classifier = classifier.train_embeddings(words, model)?;
        let classifier = classifier.with_lora(lora, &config.recipe)?;
        let max_length = classifier.settings.max_length;
        let count = classifier.labels.names().len();
        // Its names alone are asked for, before anything is written.
        let none = ClassificationMetrics::new(&[], &[], count, 0.0);
        config.recipe.control.score(&Metrics::Classification(none))?;
        let (mut train, cut) = classifier.data_set(&config.train, &rows.train, max_length)?;
        let (mut dev, cut_dev) = classifier.data_set(self.dev_path(), &rows.dev, max_length)?;
        let limit = config.long.limit(max_length);
        say_cut([(cut, train.len()), (cut_dev, dev.len())], &limit, observer);
        let batch_size = config.recipe.rows_at_once();
        if is_frozen {
            let model = classifier.model.clone().valid();
            keep_states(&model, [&mut train, &mut dev], batch_size, device, observer)?;
        } else if config.long != Long::Truncate {
            let recompute = config.recipe.layers.recompute;
            say_activations(&classifier.config, train.lengths(), batch_size, recompute, observer);
        }
        let labels = classifier.labels.clone();
        let sources: Vec<SourceRow> = rows.dev.iter().map(SourceRow::from).collect();
        let begin = |out: Option<&Path>| {
            out.map_or(Ok(()), |out| classifier.save_settings(out))?;
            Ok(classifier.model)
        };
        let answers = |model: &SequenceClassifier, device: &Device| {
            answers_on_texts(model, &dev, &sources, &labels, batch_size, device)
        };
        self.fine_tune(begin, (&train, &dev), answers, observer)
    }

    fn tag(&self, observer: &mut dyn Observer) -> Result<RunReport> {
        let Self { config, device, .. } = *self;
        config.check_tagging()?;
        let rows = self.sentences(observer)?;
        let settings = self.settings(config.columns.clone())?;
        let labels = |own: &[String]| LabelMap::of_tags(&config.train, &rows.train, own);
        let (model, seed) = (&config.model, config.recipe.seed);
        let (tagger, notices) = Tagger::from_checkpoint(model, labels, settings, seed, device)?;
        notices.iter().for_each(|notice| observer.notice(notice));
        let (words, lora) = (config.words.train_embeddings, config.lora.as_ref());
        config.recipe.layers.check_states("tokens with tags", &tagger.config)?;
        check_fit(&config.recipe, words, lora, &tagger.config, model)?;
        let tagger = tagger.reinitialise(&config.recipe, model)?;
        let tagger = tagger.train_embeddings(words, model)?;
        let tagger = tagger.with_lora(lora, &config.recipe)?;
        let max_length = tagger.settings.max_length;
        let (train, cut) = tagger.data_set(&config.train, &rows.train, max_length)?;
        let (dev, cut_dev) = tagger.tagged_set(self.dev_path(), &rows.dev, max_length)?;
        let limit = config.long.limit(max_length);
        say_cut([(cut, train.len()), (cut_dev, dev.rows.len())], &limit, observer);
        let none = TaggingMetrics::new::<&str>(&[], &[], 0.0);
        config.recipe.control.score(&Metrics::Tagging(none))?;
        let begin = |out: Option<&Path>| {
            out.map_or(Ok(()), |out| tagger.save_settings(out))?;
            Ok(tagger.model)
        };
        let sources: Vec<SourceRow> = rows.dev.iter().map(SourceRow::from).collect();
        let batch_size = config.recipe.rows_at_once();
        let answers = |model: &TokenClassifier, device: &Device| {
            answers_on_sentences(model, &dev, &sources, batch_size, device)
        };
        self.fine_tune(begin, (&train, &dev), answers, observer)
    }

    /// What every kind of run does with a model and its data: from the first file that is written to the report.
    ///
    /// `begin` gives the model, and writes what belongs to it but its weights where it is told a directory; `answers` are those
    /// of the best model to the dev rows.
    fn fine_tune<M: Trainable>(
        &self,
        begin: impl FnOnce(Option<&Path>) -> Result<M>,
        (train, dev): (&M::Data, &M::Dev),
        answers: impl FnOnce(&M, &Device) -> Vec<AnsweredRow>,
        observer: &mut dyn Observer,
    ) -> Result<RunReport> {
        let Self { config, out, device, .. } = *self;
        if self.start == Start::Check {
            let (model, data) = (begin(None)?, (train, dev));
            let tuned = fine_tune_from(None, model, data, &config.recipe, device, observer)?;
            return Ok(RunReport::of(&tuned));
        }
        let _locked = self.start.lock(out, &config.model)?;
        let mut checkpoints = Checkpoints::new(out, &config.recipe.control, config.fingerprint()?);
        let (saved, record) = self.start.load(&mut checkpoints, observer)?;
        if saved.is_none() {
            begin_out(out, &self.run_file)?;
        }
        let model = begin(Some(out))?;
        let steps = saved.as_ref().map(|saved| saved.state.step);
        let command = observer.command();
        About::write(out, steps, command, device, &M::sets(train))?;
        let words = config.words.train_embeddings;
        let adapter = config.lora.as_ref().map(|lora| Adapter::new(lora, &config.model, words));
        if adapter.is_some() {
            say_trained(&model, observer);
        }
        let mut recorder = Recorder::new(out, record, vec![], checkpoints, observer)
            .with_adapter(adapter)
            .with_events(config.recipe.control.tensorboard)?;
        let data = (train, dev);
        let tuned = fine_tune_from(saved, model, data, &config.recipe, device, &mut recorder);
        // Also of a run that failed: its last steps say why.
        recorder.write()?;
        let tuned = tuned.map_err(|error| broken_off(error, out))?;
        let report = RunReport::of(&tuned);
        let own = config.recipe.control.metric.as_deref();
        let answers = answers(&tuned.model, &device.clone().inner());
        save_finished_run(out, &report, own, &answers)?;
        Ok(report)
    }

    fn settings(&self, columns: Columns) -> Result<Settings> {
        let config = self.config;
        let max_length = BertConfig::load(&config.model)?.max_length(config.max_length)?;
        Ok(Settings {
            columns,
            layer_mixture: config.layer_mixture,
            long: config.long,
            recipe: Some(config.recipe.clone()),
            task_embedding: config.words.task_embedding,
            ..Settings::new(config.pooling, max_length)
        })
    }

    fn dev_path(&self) -> &Path {
        self.config.dev.as_ref().unwrap_or(&self.config.train)
    }

    fn texts(&self, columns: &Columns, observer: &mut dyn Observer) -> Result<Rows<Example>> {
        let config = self.config;
        let rows = read_training_examples(&config.train, config.format, columns)?;
        say_fractions(&rows, observer);
        if config.columns.text.is_empty() && columns.text.len() == 2 {
            let path = config.train.display();
            observer.notice(&format!("{path} is read as pairs of texts: {columns}"));
        }
        if let Some(path) = &config.dev {
            let dev = read_examples(path, config.format, columns)?;
            return Ok(Rows { train: rows, dev });
        }
        let labels = LabelMap::of_training(&config.train, &rows, &[])?.ids(&config.train, &rows)?;
        self.hold_out(rows, &labels, "by label", observer)
    }

    fn sentences(&self, observer: &mut dyn Observer) -> Result<Rows<Sentence>> {
        let config = self.config;
        let mut rows = read_sentences(&config.train, config.format, &config.columns)?;
        let scheme = TagScheme::of(&rows);
        if scheme.becomes_bio() {
            let path = config.train.display();
            observer.notice(&format!("{path} has its tags in {scheme}: they are written in BIO"));
            scheme.to_bio(&mut rows);
        }
        if let Some(path) = &config.dev {
            let dev = read_sentences(path, config.format, &config.columns)?;
            return Ok(Rows { train: rows, dev });
        }
        let alike = vec![0; rows.len()];
        self.hold_out(rows, &alike, "at random", observer)
    }

    /// Holds out a share of the rows of each label.
    fn hold_out<R: Clone>(
        &self,
        rows: Vec<R>,
        labels: &[u32],
        how: &str,
        observer: &mut dyn Observer,
    ) -> Result<Rows<R>> {
        let seed = self.config.recipe.seed;
        let fraction = self.config.dev_fraction.unwrap_or(DEV_FRACTION);
        let split = stratified_split(labels, fraction, seed)?;
        observer.notice(&format!(
            "no dev file: {} of {} rows are held out for dev, {how}, with seed {seed}",
            split.dev.len(),
            rows.len(),
        ));
        let pick = |indices: Vec<usize>| indices.into_iter().map(|row| rows[row].clone()).collect();
        Ok(Rows { train: pick(split.train), dev: pick(split.dev) })
    }
}

/// The error that a run in `out` breaks off with, after its page is written.
pub(crate) fn broken_off(error: Error, out: &Path) -> Error {
    // The error says more than what would keep the page from being written; `bert report` says that.
    let _ = write_page_of(out, None);
    error.in_run(out)
}

/// Says what becomes of labels that look like measurements.
fn say_fractions(rows: &[Example], observer: &mut dyn Observer) {
    let labels = || rows.iter().filter_map(|row| row.label.as_deref());
    let number = |label: &str| label.parse::<f64>().ok().filter(|number| number.is_finite());
    let fraction = labels().find(|label| number(label).is_some_and(|number| number.fract() != 0.0));
    if let Some(fraction) = fraction
        && labels().all(|label| number(label).is_some())
    {
        observer.notice(&format!(
            "all labels are numbers, as {fraction} is: each is a class of its own here; a table [task.NAME] of kind regress, or \
             pair-regress, in a run file learns them as numbers"
        ));
    }
}

/// Says how many texts there is nothing to read of.
fn say_empty(sets: [&Vec<Example>; 2], observer: &mut dyn Observer) {
    let is_empty = |row: &&Example| row.text.trim().is_empty();
    let [train, dev] = sets.map(|rows| (rows.iter().filter(is_empty).count(), rows.len()));
    if train.0 + dev.0 > 0 {
        observer.notice(&format!(
            "{} of {} training texts and {} of {} dev texts are empty: is it the right column?",
            train.0, train.1, dev.0, dev.1
        ));
    }
}

fn say_cut(
    [(train, train_rows), (dev, dev_rows)]: [(usize, usize); 2],
    limit: &str,
    observer: &mut dyn Observer,
) {
    if train + dev > 0 {
        observer.notice(&format!(
            "{train} of {train_rows} training texts and {dev} of {dev_rows} dev texts are longer than \
             {limit} and were cut"
        ));
    }
}
