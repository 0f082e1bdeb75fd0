//! `bert train`.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};

use bert_core::LoraConfig;
use bert_heads::{PoolingKind, TaskEmbeddingKind};
use bert_kernels::Precision;
use bert_train::{
    Baselines, Comparison, LongKind, MultiTaskConfig, Observer, Recipe, RunConfig, RunFile,
    RunReport, TrainEmbeddings, check, check_tasks, resume, run, run_seeds, run_task_seeds,
    run_tasks,
};
use burn::tensor::Device;
use clap::Args;

use crate::{
    Failure,
    arguments::{LabelledColumns, positive, set},
    compare,
    controlling::Controlling,
    devices::device,
    recipe_flags::RecipeFlags,
    watching::Watching,
};

const EXAMPLES: &str = "\
Examples:
  # text TAB label, no header; a tenth of the rows is held out for dev
  bert train --model all-MiniLM-L6-v2 --train train.tsv --out run

  # columns by name, pairs, a dev file, a pooling that learns faster
  bert train --model all-MiniLM-L6-v2 --train train.csv --dev dev.csv \\
    --text question --text answer --label correct \\
    --pooling adaptive --pooling-lr 1e-3 --out run

  # new words (see `bert vocab`): their rows alone, and a task embedding
  bert train --model extended --train train.tsv --train-embeddings new \\
    --task-embedding low-rank=16 --out run

  # texts of several pages, one vector each; the encoder as it is
  bert train --model all-MiniLM-L6-v2 --train reviews.tsv --long windows \\
    --pooling adaptive --pooling-lr 1e-2 --freeze encoder --lr 1e-3 \\
    --epochs 10 --out run

  # tags of words: a token and its tag a line, a blank line ends a sentence
  bert train --model bert-base-cased --train train.conll --out run

  # two poolings with five seeds each, in runs/mean/seed-0 and so on
  bert train --model all-MiniLM-L6-v2 --train train.tsv --dev dev.tsv \\
    --pooling mean,adaptive --seeds 5 --out runs

  # adapters of low rank in place of the encoder's own weights
  bert train --model all-MiniLM-L6-v2 --train train.tsv --lora rank=8 \\
    --lr 1e-3 --out run

  # everything from a file, whose paths begin where bert is started;
  # flags override it
  bert train run.toml --seed 1 --out run-1

  # before a long run: its first step alone, and a table of what learns
  bert train run.toml --check

  # a run that broke off goes on from its newest checkpoint
  bert train --resume run

  # several tasks in tables [task.NAME] of a file, each also alone
  bert train tasks.toml --baselines train --out run

Sentences with a tag for each word are .conll files, two columns of words with spaces between them (--tokens, --tags), or \
parallel files in place of one, WORDS,TAGS. Without --text and --label the last column is the label and all before it are \
text (two at most). The directory --out is a model in Hugging Face's layout: `bert eval`, `predict` and `embed` take it, \
and with --pooling cls so does transformers' AutoModelForSequenceClassification (after `bert export` where there is a task \
embedding).";

/// Fine-tune a checkpoint on labelled texts.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, allow_negative_numbers = true)]
pub struct Train {
    /// Run file with these settings; flags override it
    run_file: Option<PathBuf>,
    /// Checkpoint to start from: a directory in Hugging Face's layout
    #[arg(long, value_name = "DIR", required_unless_present_any = ["run_file", "resume"])]
    model: Option<PathBuf>,
    /// Labelled training rows
    #[arg(long, value_name = "FILE", required_unless_present_any = ["run_file", "resume"])]
    train: Option<PathBuf>,
    /// Labelled rows to evaluate on after each epoch
    #[arg(long, value_name = "FILE", conflicts_with = "dev_fraction")]
    dev: Option<PathBuf>,
    /// Share of the training rows to hold out where there is no --dev [default: 0.1]
    #[arg(long, value_name = "SHARE")]
    dev_fraction: Option<f64>,
    #[command(flatten)]
    columns: LabelledColumns,
    /// cls, first, mean, max, attention, multi-head[=HEADS] or adaptive [default: cls]; with several, comma between, each
    /// is trained into OUT/POOLING/seed-K and they are compared
    #[arg(long, value_name = "POOLING", value_delimiter = ',')]
    pooling: Vec<PoolingKind>,
    /// Pool a learned mixture of all layers instead of the last one
    #[arg(long)]
    layer_mixture: bool,
    /// Map of the word embeddings that is learned: full, low-rank=R, diagonal or additive [default: none]
    #[arg(long, value_name = "KIND")]
    task_embedding: Option<TaskEmbeddingKind>,
    /// Word embeddings that are trained: all, new (those that `bert vocab extend` added) or none; positions and
    /// token types always are [default: all]
    #[arg(long, value_name = "WHICH")]
    train_embeddings: Option<TrainEmbeddings>,
    #[command(flatten)]
    recipe: RecipeFlags,
    /// Most tokens that are read together; for longer texts see --long [default: 512, or what the model has positions for]
    #[arg(long, value_name = "N")]
    max_length: Option<usize>,
    /// What is read of longer texts: truncate (the beginning), head-tail (a quarter from the beginning, the rest from the
    /// end) or windows (all of it, pooled into one vector) [default: truncate]
    #[arg(long, value_name = "WAY")]
    long: Option<LongKind>,
    /// Tokens between the beginnings of two windows [default: half of what a window holds]
    #[arg(long, value_name = "N")]
    stride: Option<usize>,
    /// Most windows of a text, from 1 to 64; what is behind them is cut [default: 8]
    #[arg(long, value_name = "N")]
    max_windows: Option<usize>,
    /// Train adapters beside maps of the encoder, which keeps its weights, as rank=8 or rank=8,alpha=16,dropout=0.1,targets=MAP+MAP
    /// with maps query, key, value, attention-output, intermediate, output; they want a higher --lr, about 1e-3. OUT is the model
    /// with its adapters merged, OUT/adapter has them by themselves, as PEFT reads them [default: none]
    #[arg(long, value_name = "ADAPTERS")]
    lora: Option<LoraConfig>,
    /// Train with so many seeds, from --seed on, each into OUT/POOLING/seed-K (OUT/seed-K of words with tags and of several
    /// tasks), and say how the results lie; runs that are finished there already are not trained again, and the same command,
    /// without --overwrite, goes on with what broke off
    #[arg(long, value_name = "N", value_parser = positive)]
    seeds: Option<usize>,
    /// float32, or bfloat16 for the products of affine maps, on CPUs with AVX-512 BF16 [default: float32]
    #[arg(long, value_name = "PRECISION")]
    precision: Option<Precision>,
    /// Backend to train on, see `bert devices` [default: BURN_DEVICE, else the first there]
    #[arg(long, value_name = "DEVICE")]
    device: Option<String>,
    /// Directory to write the trained model and the run's files to
    #[arg(long, value_name = "DIR", required_unless_present_any = ["resume", "check"])]
    out: Option<PathBuf>,
    /// Take the first step, say what it shows (which parameters learn and how, memory, time), and write nothing
    #[arg(long, conflicts_with_all = ["resume", "seeds", "baselines"])]
    check: bool,
    /// Go on with the run in this directory, which broke off; all but --device and --json is as it was
    #[arg(long, value_name = "DIR", conflicts_with_all = ["run_file", "model", "train", "dev", "dev_fraction",
        "LabelledColumns", "pooling", "layer_mixture", "task_embedding", "train_embeddings", "RecipeFlags", "max_length",
        "long", "stride", "max_windows", "lora", "seeds", "precision", "out", "Controlling", "overwrite", "baselines"])]
    resume: Option<PathBuf>,
    #[command(flatten)]
    controlling: Controlling,
    /// Replace the run that --out holds, or with --seeds the runs in it, all of which begin anew
    #[arg(long)]
    overwrite: bool,
    /// What each of several tasks is held against: none, train (trained alone by the same recipe, after the run), or
    /// directories of models [default: none]
    #[arg(long, value_name = "DIR", num_args = 1..)]
    baselines: Vec<PathBuf>,
    #[command(flatten)]
    watching: Watching,
    /// Print one closing line of JSON on standard output and nothing else there; with --check, one a pooling
    #[arg(long)]
    json: bool,
}

/// What a call trained.
enum Trained {
    /// A run, in this directory.
    One(RunReport, PathBuf),
    /// Runs side by side.
    Several(Comparison),
}

impl Train {
    /// Trains.
    pub fn run(self) -> Result<(), Failure> {
        let device = device(self.device.as_deref())?;
        let mut observer = self.watching.observer()?;
        if self.check {
            return self.check(&device, &mut *observer);
        }
        let trained = self.train(&device, &mut *observer)?;
        // A dashboard gives the terminal back.
        drop(observer);
        match trained {
            Trained::One(report, dir) => self.report(&report, &dir),
            Trained::Several(comparison) => compare::print(&comparison, self.json),
        }
    }

    fn train(&self, device: &Device, observer: &mut dyn Observer) -> Result<Trained, Failure> {
        let out = match (&self.resume, &self.out) {
            (Some(dir), _) => {
                return Ok(Trained::One(resume(dir, device, observer)?, dir.clone()));
            }
            (None, Some(out)) => out,
            (None, None) => return Err(Failure::Usage("expected --out or --resume".to_owned())),
        };
        let overwrite = self.overwrite;
        if let Some(mut config) = self.tasks()? {
            if !self.baselines.is_empty() {
                config.baselines = Baselines::from(self.baselines.clone());
            }
            let baselines = &Baselines::None;
            return Ok(match self.seeds {
                Some(seeds) => {
                    let runs =
                        run_task_seeds(&config, seeds, out, overwrite, baselines, device, observer);
                    Trained::Several(runs?)
                }
                None => {
                    let run = run_tasks(&config, out, overwrite, baselines, device, observer);
                    Trained::One(run?, out.clone())
                }
            });
        }
        let config = self.config()?;
        if self.seeds.is_some() || self.pooling.len() > 1 {
            let poolings =
                if self.pooling.is_empty() { &[config.pooling] } else { &self.pooling[..] };
            let seeds = self.seeds.unwrap_or(1);
            let runs = run_seeds(&config, poolings, seeds, out, overwrite, device, observer);
            return Ok(Trained::Several(runs?));
        }
        Ok(Trained::One(run(&config, out, overwrite, device, observer)?, out.clone()))
    }

    /// Checks each of the poolings.
    fn check(&self, device: &Device, observer: &mut dyn Observer) -> Result<(), Failure> {
        let mut checks = vec![];
        if let Some(config) = self.tasks()? {
            checks.push(check_tasks(&config, device, observer)?);
        } else {
            let config = self.config()?;
            let poolings = self.pooling.iter().copied();
            let others = poolings.skip(1).map(|pooling| RunConfig { pooling, ..config.clone() });
            for config in std::iter::once(config.clone()).chain(others) {
                checks.push(check(&config, device, observer)?);
            }
        }
        let mut out = io::stdout().lock();
        for check in &checks {
            match self.json {
                true => {
                    let json = serde_json::to_string(check).map_err(io::Error::from)?;
                    writeln!(out, "{json}")?;
                }
                false => writeln!(out, "{check}")?,
            }
        }
        Ok(())
    }

    fn report(&self, report: &RunReport, dir: &Path) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        if self.json {
            writeln!(out, "{}", serde_json::to_string(report).map_err(io::Error::from)?)?;
        } else {
            print(report, dir, &mut out)?;
        }
        Ok(())
    }

    /// The run file with the flags over it, where it describes several tasks.
    fn tasks(&self) -> Result<Option<MultiTaskConfig>, Failure> {
        let path = match &self.run_file {
            Some(path) if RunFile::read(path)?.has_tasks() => path,
            _ if self.baselines.is_empty() => return Ok(None),
            _ => {
                let message =
                    "--baselines is for several tasks: name a run file with tables [task.NAME]";
                return Err(Failure::Usage(message.to_owned()));
            }
        };
        let of_task = [
            ("--train", self.train.is_some()),
            ("--dev", self.dev.is_some()),
            ("--dev-fraction", self.dev_fraction.is_some()),
            ("--text", !self.columns.text.is_empty()),
            ("--label", self.columns.label.is_some()),
            ("--tokens", self.columns.tokens.is_some()),
            ("--tags", self.columns.tags.is_some()),
            ("--header", self.columns.header),
            ("--format", self.columns.format.is_some()),
            ("--pooling", !self.pooling.is_empty()),
            ("--layer-mixture", self.layer_mixture),
            ("--task-embedding", self.task_embedding.is_some()),
            ("--patience", self.controlling.patience.is_some()),
            ("--min-delta", self.controlling.min_delta.is_some()),
            ("--metric", self.controlling.metric.is_some()),
        ];
        if let Some((flag, _)) = of_task.iter().find(|(_, is_given)| *is_given) {
            return Err(Failure::Usage(format!(
                "{flag} belongs to a task: write it into its table in {}",
                path.display()
            )));
        }
        let of_single_texts = [
            ("--long", self.long.is_some()),
            ("--stride", self.stride.is_some()),
            ("--max-windows", self.max_windows.is_some()),
        ];
        if let Some((flag, _)) = of_single_texts.iter().find(|(_, is_given)| *is_given) {
            return Err(Failure::Usage(format!(
                "{flag} is for one task, and {} describes several: leave it out",
                path.display()
            )));
        }
        let mut flags = toml::Table::new();
        if let Some(model) = &self.model {
            flags.insert("model".into(), model.to_string_lossy().into_owned().into());
        }
        let mut config = MultiTaskConfig::load(path, flags)?;
        set(&mut config.precision, &self.precision);
        set(&mut config.train_embeddings, &self.train_embeddings);
        config.max_length = self.max_length.or(config.max_length);
        config.lora = self.lora.clone().or(config.lora);
        self.recipe.set(&mut config.recipe);
        self.controlling.set(&mut config.recipe.control);
        check_recipe(&config.recipe, path)?;
        Ok(Some(config))
    }

    /// The run file, or the defaults, with the flags over it.
    fn config(&self) -> Result<RunConfig, Failure> {
        let mut config = match (&self.run_file, &self.model, &self.train) {
            (Some(path), model, train) => {
                let flags = [("model", model), ("train", train)].into_iter();
                let flags = flags.filter_map(|(key, path)| {
                    let path = path.as_ref()?.to_string_lossy().into_owned();
                    Some((key.to_owned(), path.into()))
                });
                RunConfig::load(path, flags.collect())?
            }
            (None, Some(model), Some(train)) => RunConfig::new(model, train),
            _ => {
                return Err(Failure::Usage(
                    "expected a run file, or --model and --train".to_owned(),
                ));
            }
        };
        config.columns = self.columns.or(&config.columns);
        set(&mut config.model, &self.model);
        set(&mut config.train, &self.train);
        set(&mut config.pooling, &self.pooling.first().copied());
        config.layer_mixture |= self.layer_mixture;
        set(&mut config.precision, &self.precision);
        set(&mut config.words.train_embeddings, &self.train_embeddings);
        self.recipe.set(&mut config.recipe);
        self.controlling.set(&mut config.recipe.control);
        if self.dev.is_some() || self.dev_fraction.is_some() {
            config.dev.clone_from(&self.dev);
            config.dev_fraction = self.dev_fraction;
        }
        config.format = self.columns.format.or(config.format);
        config.max_length = self.max_length.or(config.max_length);
        config.long = config.long.with(self.long, self.stride, self.max_windows)?;
        config.lora = self.lora.clone().or(config.lora);
        config.words.task_embedding = self.task_embedding.or(config.words.task_embedding);
        if let Some(path) = &self.run_file {
            check_recipe(&config.recipe, path)?;
        }
        Ok(config)
    }
}

/// Refuses a number that no run can be made with, by its line where it stands in the run file.
fn check_recipe(recipe: &Recipe, run_file: &Path) -> Result<(), Failure> {
    let Err(error) = recipe.check() else { return Ok(()) };
    Err(RunFile::read(run_file)?.placed(error).into())
}

fn print(report: &RunReport, dir: &Path, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "best epoch {}, on dev: {}", report.best_epoch, report.dev)?;
    for comparison in &report.comparisons {
        writeln!(out, "{comparison}")?;
    }
    writeln!(
        out,
        "trained in {:.1} s ({:.1} examples/s); the model is in {}",
        report.train_seconds,
        report.examples_per_second,
        dir.display()
    )
}
