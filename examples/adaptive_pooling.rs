//! Adaptive pooling against mean pooling, on texts whose label hangs on a few of their words.
//!
//!     cargo run --release --example adaptive_pooling
//!
//! trains a small encoder from scratch on `assets/workshop_tickets`, once with each pooling, in about a minute. With a
//! checkpoint from Hugging Face and labelled texts of your own:
//!
//!     cargo run --release --example adaptive_pooling -- --model DIR --train train.tsv --dev dev.tsv
//!
//! A pooling turns the hidden states `h` of a text's tokens into one vector. Adaptive pooling learns how: a weight per
//! token and dimension, `softmax over tokens of (h W + b)`. It starts at `W = 0`, which is mean pooling.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use bert_core::BertConfig;
use bert_heads::PoolingKind;
use bert_train::{
    Columns, Example, LabelMap, Progress, Recipe, Settings, TextClassifier, fine_tune,
    read_examples, read_training_examples,
};
use burn::tensor::Device;
use clap::Parser;

#[derive(Parser)]
struct Arguments {
    /// Checkpoint to start from [default: a small encoder, from scratch]
    #[arg(long, requires = "train")]
    model: Option<PathBuf>,
    /// Training rows: text TAB label
    #[arg(long, requires = "dev")]
    train: Option<PathBuf>,
    /// Held-out rows: text TAB label
    #[arg(long)]
    dev: Option<PathBuf>,
    /// Passes over the training rows [default: 3, from scratch 12]
    #[arg(long)]
    epochs: Option<usize>,
    /// Learning rate of the adaptive pooling's own parameters [default: 1e-3, from scratch 2e-2]
    #[arg(long)]
    pooling_lr: Option<f64>,
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

/// Adaptive pooling must beat always answering the commonest label by this much.
const MARGIN: f64 = 0.10;

fn main() -> Result<ExitCode, bert_train::Error> {
    let arguments = Arguments::parse();
    let device = Device::default();
    let assets = Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets");
    let path =
        |given: &Option<PathBuf>, own: &str| given.clone().unwrap_or_else(|| assets.join(own));
    let train_path = path(&arguments.train, "workshop_tickets/train.tsv");
    let dev_path = path(&arguments.dev, "workshop_tickets/dev.tsv");
    let columns = Columns::default();
    let train = read_training_examples(&train_path, None, &columns)?;
    let dev = read_examples(&dev_path, None, &columns)?;

    // A pooling that starts at zero needs larger steps than an encoder does, or it stays what it was.
    let (epochs, learning_rate, pooling_lr) = match &arguments.model {
        Some(_) => (3, 5e-5, 1e-3),
        None => (12, 1e-3, 2e-2),
    };
    let recipe = Recipe {
        epochs: arguments.epochs.unwrap_or(epochs),
        learning_rate,
        pooling_learning_rate: Some(arguments.pooling_lr.unwrap_or(pooling_lr)),
        seed: arguments.seed,
        ..Recipe::default()
    };
    println!("{} training texts, {} held out, {} epochs", train.len(), dev.len(), recipe.epochs);

    let train_with = |pooling: PoolingKind| -> Result<(TextClassifier, f64), bert_train::Error> {
        println!("\n{pooling} pooling");
        let dir = path(&arguments.model, "tiny_encoder");
        let settings = Settings::new(pooling, BertConfig::load(&dir)?.max_length(None)?);
        let max_length = settings.max_length;
        let mut classifier = match &arguments.model {
            Some(_) => {
                let labels = |own: &[String]| LabelMap::of_training(&train_path, &train, own);
                TextClassifier::from_checkpoint(&dir, labels, settings, recipe.seed, &device)?.0
            }
            None => {
                let labels = LabelMap::of_training(&train_path, &train, &[])?;
                TextClassifier::from_scratch(&dir, labels, settings, recipe.seed, &device)?
            }
        };
        let (train, _) = classifier.data_set(&train_path, &train, max_length)?;
        let (dev, _) = classifier.data_set(&dev_path, &dev, max_length)?;
        let mut progress = Progress::new();
        let tuned = fine_tune(classifier.model, &train, &dev, &recipe, &device, &mut progress)?;
        let accuracy = tuned.last().main();
        classifier.model = tuned.model;
        Ok((classifier, accuracy))
    };
    let (_, mean) = train_with(PoolingKind::Mean)?;
    let (classifier, adaptive) = train_with(PoolingKind::Adaptive)?;

    println!(
        "\nwhat adaptive pooling listens to after its best epoch (# for each sixteenth of the largest weight)"
    );
    let mut short: Vec<&Example> = dev.iter().filter(|e| (8..18).contains(&words(e))).collect();
    short.sort_by_key(|example| words(example));
    for example in short.iter().step_by(short.len().div_ceil(3).max(1)) {
        show_weights(&classifier, example, &device)?;
    }

    let majority = majority(&dev);
    println!("\nheld-out accuracy after the last epoch");
    println!("  the commonest label  {majority:.3}");
    println!("  mean pooling         {mean:.3}");
    println!("  adaptive pooling     {adaptive:.3}");
    if adaptive < majority + MARGIN {
        println!("adaptive pooling is not {MARGIN} above the commonest label");
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

fn words(example: &Example) -> usize {
    example.text.split_whitespace().count()
}

/// The share of the commonest label.
fn majority(examples: &[Example]) -> f64 {
    let count = |label| examples.iter().filter(|other| other.label == label).count();
    let most = examples.iter().map(|example| count(example.label.clone())).max();
    most.unwrap_or(0) as f64 / examples.len() as f64
}

/// A text's tokens, one a line, each with a bar as long as its weight.
fn show_weights(
    classifier: &TextClassifier,
    example: &Example,
    device: &Device,
) -> Result<(), bert_train::Error> {
    let max_length = classifier.settings.max_length;
    let (answers, _) = classifier.predict_with_weights(
        std::slice::from_ref(example),
        false,
        max_length,
        1,
        device,
    )?;
    let weights = &answers[0].1;
    let largest = weights.iter().map(|token| token.weight).fold(0.0, f32::max);
    println!("\n{} (label: {})", example.text, example.label.as_deref().unwrap_or("none"));
    for token in weights {
        let bar = "#".repeat((16.0 * token.weight / largest).round() as usize);
        println!("  {:>16} {:.3} {bar}", token.token, token.weight);
    }
    Ok(())
}
