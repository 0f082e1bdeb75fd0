//! Task embeddings and new words: named entities in texts whose words the vocabulary breaks.
//!
//!     cargo run --release --example task_embedding
//!
//! trains a small encoder from scratch to find parts, tools and materials in the job cards of `assets/workshop_notes`, four
//! ways with three seeds each, in about a minute. With a checkpoint from Hugging Face and tagged sentences of your own:
//!
//!     cargo run --release --example task_embedding -- --model DIR --train train.conll --dev dev.conll
//!
//! `scan_vocabulary` finds the words that take many tokens, `extend_vocabulary` gives each of them a token of its own, which
//! starts at the mean of the old ones. A task embedding maps all words before they go in, `x + x D + b`; it starts as the
//! identity, `D = 0`, and learns the rest.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use bert_core::{Bert, BertConfig, WordInit, initialise, named_parameters, write_safetensors};
use bert_heads::TaskEmbeddingKind;
use bert_train::{
    Columns, Recipe, RunConfig, Tagger, WordConfig, extend_vocabulary, read_sentences, run,
    scan_vocabulary, spans,
};
use burn::tensor::Device;
use clap::Parser;

#[derive(Parser)]
struct Arguments {
    /// Checkpoint to start from [default: a small encoder, from scratch]
    #[arg(long, requires = "train")]
    model: Option<PathBuf>,
    /// Training sentences: a token and its tag a line, a blank line between sentences
    #[arg(long, requires = "dev")]
    train: Option<PathBuf>,
    /// Held-out sentences
    #[arg(long)]
    dev: Option<PathBuf>,
    /// Passes over the training sentences [default: 5, from scratch 30]
    #[arg(long)]
    epochs: Option<usize>,
    /// The task embedding: full, low-rank=R, diagonal or additive
    #[arg(long, default_value = "low-rank=16")]
    task_embedding: TaskEmbeddingKind,
    /// Learning rate of the task embedding's own parameters [default: that of the rest]
    #[arg(long)]
    task_embedding_lr: Option<f64>,
    /// Most words to add
    #[arg(long, default_value_t = 1000)]
    words: usize,
    /// How often each way is trained
    #[arg(long, default_value_t = 3)]
    seeds: u64,
}

/// With new words and task embedding the F1 must be at least this much above the plain one.
const MARGIN: f64 = 0.05;

fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let arguments = Arguments::parse();
    let device = Device::default();
    let assets = Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets");
    let path =
        |given: &Option<PathBuf>, own: &str| given.clone().unwrap_or_else(|| assets.join(own));
    let train = path(&arguments.train, "workshop_notes/train.conll");
    let dev = path(&arguments.dev, "workshop_notes/dev.conll");
    let (epochs, learning_rate, batch_size) = match &arguments.model {
        Some(_) => (5, 2e-4, 16),
        None => (30, 1e-3, 16),
    };
    let folder = tempfile::tempdir()?;
    let columns = Columns::default();

    let ways = [
        ("plain", false, None),
        ("task embedding", false, Some(arguments.task_embedding)),
        ("new words", true, None),
        ("both", true, Some(arguments.task_embedding)),
    ];
    let mut f1 = [0.0; 4];
    for seed in 0..arguments.seeds {
        let folder = folder.path().join(seed.to_string());
        let model = match &arguments.model {
            Some(dir) => dir.clone(),
            None => from_scratch(&assets.join("tiny_encoder"), folder.join("encoder"), seed)?,
        };
        // Only training sentences decide which words are new.
        let scan =
            scan_vocabulary(&model, std::slice::from_ref(&train), None, &columns, arguments.words)?;
        let words: Vec<&str> = scan.chosen.iter().map(|word| word.word.as_str()).collect();
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("words.txt"), words.join("\n"))?;
        let extended = folder.join("extended");
        let init = WordInit::Mean;
        extend_vocabulary(&model, &folder.join("words.txt"), init, seed, &extended, &mut ())?;
        if seed == 0 {
            println!("{} training sentences, {} words are added, such as", scan.texts, words.len());
            for word in scan.chosen.iter().take(4) {
                println!("  {:16} = {}", word.word, word.pieces.join(" "));
            }
            let pieces = |model: &Path| -> Result<f64, bert_train::Error> {
                let scan = scan_vocabulary(model, std::slice::from_ref(&dev), None, &columns, 0)?;
                Ok(scan.now.pieces_per_word)
            };
            let (before, after) = (pieces(&model)?, pieces(&extended)?);
            println!("held out: {before:.3} pieces a word, with them {after:.3}\n");
        }

        for (index, (name, has_new_words, task_embedding)) in ways.iter().enumerate() {
            let base = if *has_new_words { &extended } else { &model };
            let config = RunConfig {
                dev: Some(dev.clone()),
                words: WordConfig { task_embedding: *task_embedding, ..WordConfig::default() },
                recipe: Recipe {
                    epochs: arguments.epochs.unwrap_or(epochs),
                    learning_rate,
                    task_embedding_learning_rate: arguments.task_embedding_lr,
                    batch_size,
                    seed,
                    ..Recipe::default()
                },
                ..RunConfig::new(base, &train)
            };
            let report = run(&config, &folder.join(name), false, &device, &mut ())?;
            println!("seed {seed}, {name}: held-out F1 {:.3}", report.last.main());
            f1[index] += report.last.main() / arguments.seeds as f64;
        }
    }

    println!("\nwhat the last one with both finds after its best epoch");
    let last = folder.path().join((arguments.seeds - 1).to_string()).join("both");
    show_spans(&last, &dev, &device)?;

    println!("\nheld-out F1 of spans after the last epoch, mean of {} seeds", arguments.seeds);
    for ((name, ..), f1) in ways.iter().zip(f1) {
        println!("  {name:16} {f1:.3}");
    }
    if arguments.model.is_none() && f1[3] < f1[0] + MARGIN {
        println!("new words and task embedding are not {MARGIN} above plain");
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes a checkpoint whose weights are drawn from `seed`: config and vocabulary are those of `dir`.
fn from_scratch(
    dir: &Path,
    out: PathBuf,
    seed: u64,
) -> Result<PathBuf, Box<dyn std::error::Error>> {
    fs::create_dir_all(&out)?;
    for file in ["config.json", "vocab.txt", "tokenizer_config.json"] {
        fs::copy(dir.join(file), out.join(file))?;
    }
    let config = BertConfig::load(dir)?;
    let bert = Bert::new(&config, &Device::default());
    let bert = initialise(bert, "", seed, config.initializer_range);
    write_safetensors(out.join("model.safetensors"), &named_parameters(&bert, ""))?;
    Ok(out)
}

/// A few sentences with what was found in them, and what is in them.
fn show_spans(model: &Path, dev: &Path, device: &Device) -> Result<(), bert_train::Error> {
    let tagger = Tagger::load(model, device)?;
    let sentences = read_sentences(dev, None, &Columns::default())?;
    let some: Vec<_> = sentences.iter().step_by(sentences.len().div_ceil(5)).cloned().collect();
    let max_length = tagger.settings.max_length;
    let (taggings, _) = tagger.predict_sentences(&some, max_length, some.len(), device)?;
    for (sentence, tagging) in some.iter().zip(taggings) {
        println!("\n  {}", tagging.text);
        for span in &tagging.spans {
            println!("    {:9} {}", span.label, span.text);
        }
        let gold = spans(sentence.tags.as_deref().unwrap_or_default()).len();
        println!("    ({} found, {gold} there)", tagging.spans.len());
    }
    Ok(())
}
