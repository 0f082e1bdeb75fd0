//! A whole run: from files to a directory with the trained model.

use std::{fs, path::Path};

use bert_core::write_atomically;
use bert_heads::SequenceClassifier;
use bert_kernels::set_precision;
use burn::tensor::Device;
use serde::Serialize;
use serde_json::json;

use crate::{
    columns::Columns,
    error::{Error, Result},
    examples::{Example, read_examples, read_training_examples},
    fine_tune::{EpochReport, Observer, StepReport, fine_tune},
    labels::LabelMap,
    metrics::ClassificationMetrics,
    model_dir::{SETTINGS_FILE, Settings},
    run_config::RunConfig,
    split::stratified_split,
    text_classifier::TextClassifier,
};

/// The file that repeats a run, and by which a directory is known to hold one.
const RUN_FILE: &str = "run.toml";

/// The share of the training rows that is held out where there are no dev rows.
const DEV_FRACTION: f64 = 0.1;

/// What a run came to; its JSON is the closing line of `bert train --json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunReport {
    /// The metrics of the best epoch.
    pub dev: ClassificationMetrics,
    /// The best epoch, from 1.
    pub best_epoch: usize,
    /// The metrics of the last epoch.
    pub last: ClassificationMetrics,
    /// From the first batch to the end of the last step, evaluations between included.
    pub train_seconds: f64,
    /// Training rows per second.
    pub examples_per_second: f64,
}

/// Trains as `config` says and writes the best model, with all that it takes to apply and to repeat it, into `out`.
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
    config.recipe.check()?;
    if !config.precision.is_available(device) {
        return Err(Error::Precision { precision: config.precision });
    }
    set_precision(config.precision);
    check_out(out, &config.model, overwrite)?;
    let run_file = config.to_toml()?;
    // Written out once, so that dev rows are read by the training file's names and not by their own order.
    let columns = config.columns.complete(&config.train, config.format)?;
    let rows = read_rows(config, &columns, observer)?;
    let classifier = make_classifier(config, columns, &rows, device, observer)?;
    let max_length = classifier.settings.max_length;
    let (train, cut_train) = classifier.data_set(&config.train, &rows.train, max_length)?;
    let dev_path = config.dev.as_ref().unwrap_or(&config.train);
    let (dev, cut_dev) = classifier.data_set(dev_path, &rows.dev, max_length)?;
    if cut_train + cut_dev > 0 {
        observer.notice(&format!(
            "{cut_train} of {} training texts and {cut_dev} of {} dev texts are longer than \
             {max_length} tokens and were cut",
            train.len(),
            dev.len()
        ));
    }

    clear_out(out)?;
    write_atomically(out.join(RUN_FILE), run_file.as_bytes())?;
    classifier.save_settings(out)?;
    let TextClassifier { model, .. } = classifier;
    let mut recorder = Recorder { out, log: String::new(), observer };
    let tuned = fine_tune(model, &train, &dev, &config.recipe, device, &mut recorder);
    // Also of a run that failed: its last steps say why.
    recorder.write()?;
    let tuned = tuned?;
    Ok(RunReport {
        dev: *tuned.best(),
        best_epoch: tuned.best_epoch,
        last: *tuned.last(),
        train_seconds: tuned.train_time.as_secs_f64(),
        examples_per_second: tuned.examples_per_second,
    })
}

/// The rows of a run.
struct Rows {
    train: Vec<Example>,
    dev: Vec<Example>,
}

fn read_rows(config: &RunConfig, columns: &Columns, observer: &mut dyn Observer) -> Result<Rows> {
    let rows = read_training_examples(&config.train, config.format, columns)?;
    if let Some(path) = &config.dev {
        let dev = read_examples(path, config.format, columns)?;
        return Ok(Rows { train: rows, dev });
    }
    let labels = LabelMap::of_training(&config.train, &rows, &[])?.ids(&config.train, &rows)?;
    let fraction = config.dev_fraction.unwrap_or(DEV_FRACTION);
    let split = stratified_split(&labels, fraction, config.recipe.seed)?;
    observer.notice(&format!(
        "no dev file: {} of {} rows are held out for dev, by label, with seed {}",
        split.dev.len(),
        rows.len(),
        config.recipe.seed
    ));
    let pick = |indices: Vec<usize>| indices.into_iter().map(|row| rows[row].clone()).collect();
    Ok(Rows { train: pick(split.train), dev: pick(split.dev) })
}

fn make_classifier(
    config: &RunConfig,
    columns: Columns,
    rows: &Rows,
    device: &Device,
    observer: &mut dyn Observer,
) -> Result<TextClassifier> {
    let base = bert_core::BertConfig::load(&config.model)?;
    let max_length = base.max_length(config.max_length)?;
    let settings = Settings {
        columns,
        texts: if rows.train.iter().any(|row| row.pair.is_some()) { 2 } else { 1 },
        recipe: Some(config.recipe.clone()),
        task_embedding: config.words.task_embedding,
        ..Settings::new(config.pooling, max_length)
    };
    let labels = |id2label: &[String]| LabelMap::of_training(&config.train, &rows.train, id2label);
    let (classifier, notices) = TextClassifier::from_checkpoint(
        &config.model,
        labels,
        settings,
        config.recipe.seed,
        device,
    )?;
    for notice in notices {
        observer.notice(&notice);
    }
    classifier.train_embeddings(config.words.train_embeddings, &config.model)
}

/// The files of a run that are there from its start, and those that appear later.
const FILES: [&str; 9] = [
    "model.safetensors",
    "config.json",
    SETTINGS_FILE,
    RUN_FILE,
    "metrics.jsonl",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
    "special_tokens_map.json",
];

fn check_out(out: &Path, model: &Path, overwrite: bool) -> Result<()> {
    let unusable = |source| Error::Out { path: out.into(), source };
    if !out.exists() {
        return Ok(());
    }
    if let (Ok(out), Ok(model)) = (out.canonicalize(), model.canonicalize())
        && out == model
    {
        return Err(Error::OutIsModel { path: out });
    }
    let is_empty = fs::read_dir(out).map_err(unusable)?.next().is_none();
    if !is_empty && !overwrite {
        return Err(Error::OutNotEmpty { path: out.into() });
    }
    if !is_empty && !out.join(RUN_FILE).exists() {
        return Err(Error::OutNotRun { path: out.into() });
    }
    Ok(())
}

/// Makes the directory and takes an earlier run's files out of it, so that none is taken for this run's.
fn clear_out(out: &Path) -> Result<()> {
    let unusable = |source| Error::Out { path: out.into(), source };
    fs::create_dir_all(out).map_err(unusable)?;
    for file in FILES {
        match fs::remove_file(out.join(file)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(unusable(error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Writes the log and the best model as the run goes on.
struct Recorder<'a> {
    out: &'a Path,
    log: String,
    observer: &'a mut dyn Observer,
}

impl Recorder<'_> {
    fn write(&self) -> Result<()> {
        Ok(write_atomically(self.out.join("metrics.jsonl"), self.log.as_bytes())?)
    }

    fn log(&mut self, line: serde_json::Value) {
        self.log += &line.to_string();
        self.log.push('\n');
    }
}

impl Observer for Recorder<'_> {
    fn notice(&mut self, text: &str) {
        self.observer.notice(text);
    }

    fn step(&mut self, report: &StepReport) {
        self.log(json!({
            "step": report.step + 1,
            "epoch": report.epoch,
            "loss": report.loss,
            "lr": report.learning_rate,
            "grad_norm": report.grad_norm,
            "seconds": report.elapsed.as_secs_f64(),
        }));
        self.observer.step(report);
    }

    fn epoch(&mut self, report: &EpochReport, model: &SequenceClassifier) -> Result<()> {
        self.log(json!({
            "epoch": report.epoch,
            "train_loss": report.train_loss,
            "dev": report.dev,
            "best": report.best,
        }));
        if report.best {
            TextClassifier::save_weights(model, self.out)?;
        }
        self.write()?;
        self.observer.epoch(report, model)
    }
}
