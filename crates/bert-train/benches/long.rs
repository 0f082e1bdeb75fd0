//! What each way to read long texts is worth: poolings over the hidden states of a frozen encoder.
//!
//! `long --model DIR --data DIR [--long truncate,head-tail,windows] [--pooling mean,adaptive,attention,max] [--seeds N]
//! [--epochs N] [--lr X,..] [--pooling-lr X,..]`
//!
//! `--data` holds train.tsv, dev.tsv and test.tsv, a label first and a text third. The encoder runs once for each way. Of several
//! rates that with the highest accuracy on dev for seed 0 is taken, and all seeds are trained with it; the head's is chosen for
//! the first pooling. Prints one line of JSON for each way and pooling.

#[path = "../../bert-cli/src/devices.rs"]
#[allow(dead_code)] // INVARIANT: the program lists the devices, this takes the default.
mod devices;

use std::{collections::HashMap, env, io, path::Path, process::ExitCode, time::Instant};

use bert_heads::PoolingKind;
use bert_train::{
    Column, Columns, DataSet, Error, HiddenStates, LabelMap, Long, LongKind, Recipe, Settings,
    TextClassifier, evaluate, fine_tune, read_examples, read_training_examples,
};
use burn::{module::Module, tensor::Device};
use serde_json::json;

/// Why nothing could be measured.
enum Failure {
    Usage(String),
    Train(Error),
    Io(io::Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Train(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// The flags with their values.
struct Flags(HashMap<String, String>);

impl Flags {
    fn parse() -> Result<Self, Failure> {
        let mut flags = HashMap::new();
        // cargo adds a flag of its own to what a benchmark is called with.
        let mut words = env::args().skip(1).filter(|word| word != "--bench");
        while let Some(word) = words.next() {
            let value = words.next();
            let (Some(name), Some(value)) = (word.strip_prefix("--"), value) else {
                return Err(Failure::Usage(format!("expected --FLAG VALUE, got {word}")));
            };
            flags.insert(name.to_owned(), value);
        }
        Ok(Self(flags))
    }

    fn text(&self, name: &str) -> Result<&str, Failure> {
        let value = self.0.get(name).map(String::as_str);
        value.ok_or_else(|| Failure::Usage(format!("--{name} is missing")))
    }

    /// The values between commas.
    fn list<T: std::str::FromStr>(&self, name: &str, default: &str) -> Result<Vec<T>, Failure> {
        let values = self.0.get(name).map_or(default, String::as_str).split(',');
        values
            .map(|value| value.parse().map_err(|_| Failure::Usage(format!("--{name} {value}"))))
            .collect()
    }
}

fn main() -> ExitCode {
    let message = match run() {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Failure::Usage(message)) => message,
        Err(Failure::Train(error)) => error.to_string(),
        Err(Failure::Io(error)) => error.to_string(),
    };
    eprintln!("error: {message}");
    ExitCode::FAILURE
}

fn run() -> Result<(), Failure> {
    let flags = Flags::parse()?;
    let device = devices::device(None)?;
    let ways: Vec<LongKind> = flags.list("long", "truncate,head-tail,windows")?;
    let poolings: Vec<PoolingKind> = flags.list("pooling", "mean,adaptive,attention,max")?;
    let rates: Vec<f64> = flags.list("lr", "1e-3")?;
    let pooling_rates: Vec<f64> = flags.list("pooling-lr", "1e-3")?;
    let seeds = flags.list("seeds", "3")?[0];
    let epochs = flags.list("epochs", "10")?[0];
    for way in ways {
        let job = Job::new(&flags, Long::new(way, None, None)?, &device)?;
        let mut rates = rates.clone();
        for &pooling in &poolings {
            let learns = matches!(pooling, PoolingKind::Attention | PoolingKind::Adaptive);
            let pooling_rates = if learns { &pooling_rates[..] } else { &[1e-3] };
            let start = Instant::now();
            let mut best: Option<(Recipe, [f64; 2])> = None;
            for &learning_rate in &rates {
                for &pooling_rate in pooling_rates {
                    let recipe = Recipe {
                        epochs,
                        learning_rate,
                        pooling_learning_rate: Some(pooling_rate),
                        ..Recipe::default()
                    };
                    let scores = job.train(pooling, &recipe)?;
                    if best.as_ref().is_none_or(|(_, best)| scores[0] > best[0]) {
                        best = Some((recipe, scores));
                    }
                }
            }
            let Some((recipe, first)) = best else { continue };
            rates = vec![recipe.learning_rate];
            let mut scores = vec![first];
            for seed in 1..seeds {
                scores.push(job.train(pooling, &Recipe { seed, ..recipe.clone() })?);
            }
            let line = json!({
                "long": way,
                "pooling": pooling,
                "lr": recipe.learning_rate,
                "pooling_lr": recipe.pooling_learning_rate.filter(|_| learns),
                "dev": scores.iter().map(|scores| scores[0]).collect::<Vec<_>>(),
                "test": scores.iter().map(|scores| scores[1]).collect::<Vec<_>>(),
                "seconds": start.elapsed().as_secs_f64(),
            });
            println!("{line}");
        }
    }
    Ok(())
}

/// Texts read in one way, with what the encoder gives for them.
struct Job<'a> {
    flags: &'a Flags,
    settings: Settings,
    train: DataSet,
    dev: DataSet,
    test: DataSet,
    device: &'a Device,
}

impl<'a> Job<'a> {
    fn new(flags: &'a Flags, long: Long, device: &'a Device) -> Result<Self, Failure> {
        let columns = Columns {
            text: vec![Column::Number(3)],
            label: Some(Column::Number(1)),
            ..Columns::default()
        };
        let folder = Path::new(flags.text("data")?);
        let train = read_training_examples(&folder.join("train.tsv"), None, &columns)?;
        let settings = Settings { long, columns, ..Settings::new(PoolingKind::Mean, 512) };
        let labels = |own: &[String]| LabelMap::of_training(folder, &train, own);
        let (model, _) = TextClassifier::from_checkpoint(
            Path::new(flags.text("model")?),
            labels,
            settings.clone(),
            0,
            device,
        )?;
        let plain = device.clone().inner();
        let encoder = model.model.clone().valid();
        let set = |examples: &[_]| -> Result<DataSet, Failure> {
            let (mut set, cut) = model.data_set(folder, examples, settings.max_length)?;
            let bytes = HiddenStates::bytes(&encoder, &set.encodings);
            let tokens: usize = set.lengths().iter().sum();
            let start = Instant::now();
            set.states = Some(HiddenStates::new(&encoder, &set.encodings, 8, &plain));
            eprintln!(
                "{} texts, {cut} cut, {tokens} tokens: hidden states of {} MB in {:.0} s",
                set.len(),
                bytes / 1_000_000,
                start.elapsed().as_secs_f64()
            );
            Ok(set)
        };
        let read = |name| read_examples(&folder.join(name), None, &settings.columns);
        Ok(Self {
            train: set(&train)?,
            dev: set(&read("dev.tsv")?)?,
            test: set(&read("test.tsv")?)?,
            flags,
            settings: settings.clone(),
            device,
        })
    }

    /// Accuracy on dev and test after the epoch that is best on dev.
    fn train(&self, pooling: PoolingKind, recipe: &Recipe) -> Result<[f64; 2], Failure> {
        let settings = Settings { pooling, ..self.settings.clone() };
        let labels = |_: &[String]| LabelMap::of_model(&["0".to_owned(), "1".to_owned()]);
        let model = Path::new(self.flags.text("model")?);
        let (mut classifier, _) =
            TextClassifier::from_checkpoint(model, labels, settings, recipe.seed, self.device)?;
        classifier.model.bert = classifier.model.bert.freeze();
        let tuned =
            fine_tune(classifier.model, &self.train, &self.dev, recipe, self.device, &mut ())?;
        let plain = self.device.clone().inner();
        let test = evaluate(&tuned.model, &self.test, 2, recipe.batch_size, &plain);
        let scores = [tuned.best().main(), test.accuracy];
        eprintln!(
            "{pooling} lr {} {:?} seed {}: dev {:.3} (epoch {}) test {:.3}, {:.1} s",
            recipe.learning_rate,
            recipe.pooling_learning_rate,
            recipe.seed,
            scores[0],
            tuned.best_epoch,
            scores[1],
            tuned.train_time.as_secs_f64()
        );
        Ok(scores)
    }
}
