//! Times one job of ours by itself; `cargo xtask bench` runs it beside PyTorch's and compares.
//!
//! `jobs step|infer --shape tiny|minilm|base --batch 32 --seq 128 [--lengths equal|mixed] [--device DEVICE]
//! [--precision float32|bfloat16] [--pooling POOLING] [--micro-batch ROWS] [--frozen LAYERS]
//! [--lora ADAPTERS] [--recompute]`
//!
//! Prints one line of JSON. Step and model are the library's own, on random ids.

#[path = "../../bert-cli/src/devices.rs"]
#[allow(dead_code)] // INVARIANT: the program lists the devices, this names one.
mod devices;

use std::{
    env, io,
    process::{ExitCode, exit},
    time::Instant,
};

use bert_core::{
    Bert, BertConfig, Documents, EncoderInput, LoraConfig, ParseLoraError, initialise, pass_key,
};
use bert_heads::{CrossEntropy, PoolingKind, SequenceClassifier, SequenceClassifierConfig};
use bert_kernels::{
    Precision, Sequences, on_workers,
    random::{Purpose, Stream},
    set_precision,
};
use bert_train::{Combine, Optimizer, PartLoss, Recipe, learning_rates, train_step};
use burn::{
    module::Module,
    tensor::{Device, Int, Tensor},
};
use serde_json::json;

/// Steps before the clock runs, and steps on the clock, as on PyTorch's side.
const WARM_UP: usize = 2;
const TIMED: usize = 6;

/// Why nothing could be timed.
enum Failure {
    Usage(String),
    Io(io::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Usage(message)) => {
            eprintln!("error: {message}");
            ExitCode::from(2)
        }
        Err(Failure::Io(error)) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Failure> {
    // `cargo bench` adds a flag of its own.
    let arguments: Vec<String> = env::args().skip(1).filter(|word| word != "--bench").collect();
    let value = |flag: &str| {
        let at = arguments.iter().position(|word| word == flag)?;
        arguments.get(at + 1).map(String::as_str)
    };
    let number = |flag: &str, default: usize| match value(flag) {
        None => default,
        Some(text) => text.parse().unwrap_or_else(|_| {
            eprintln!("error: {flag} {text}: expected a number");
            exit(2)
        }),
    };
    let job = arguments.first().map_or("step", String::as_str);
    let shape = value("--shape").unwrap_or("minilm");
    let (batch, seq) = (number("--batch", 32), number("--seq", 128));
    let config = config(shape)
        .ok_or_else(|| Failure::Usage(format!("--shape {shape}: expected tiny, minilm or base")))?;
    let lengths = match value("--lengths").unwrap_or("equal") {
        "equal" => vec![seq; batch],
        "mixed" => mixed_lengths(batch * seq, seq),
        other => {
            return Err(Failure::Usage(format!("--lengths {other}: expected equal or mixed")));
        }
    };
    let device = devices::device(value("--device"))?;
    let precision = value("--precision").map_or(Ok(Precision::default()), str::parse);
    set_precision(precision.map_err(|error| Failure::Usage(error.to_string()))?);
    let pooling = value("--pooling").map_or(Ok(PoolingKind::default()), str::parse);
    let pooling = pooling.map_err(|error| Failure::Usage(error.to_string()))?;
    let lora: Option<LoraConfig> = value("--lora")
        .map(str::parse)
        .transpose()
        .map_err(|error: ParseLoraError| Failure::Usage(error.to_string()))?;
    let mut times = match job {
        "step" => {
            let mut model = model(&config, pooling, &device.clone().autodiff());
            if let Some(lora) = &lora {
                model.bert = model.bert.with_lora(lora, 0);
            }
            model.bert.encoder.recompute = arguments.iter().any(|word| word == "--recompute");
            let parts = [number("--micro-batch", batch), number("--frozen", 0)];
            train(model, &config, &lengths, parts, &device)
        }
        "infer" => infer(&config, pooling, &lengths, &device),
        other => return Err(Failure::Usage(format!("{other}: expected step or infer"))),
    };
    times.sort_by(f64::total_cmp);
    let line = json!({
        "job": job,
        "shape": shape,
        "texts": lengths.len(),
        "tokens": lengths.iter().sum::<usize>(),
        "device": format!("{device:?}"),
        "ms": times[times.len() / 2],
    });
    println!("{line}");
    Ok(())
}

fn config(shape: &str) -> Option<BertConfig> {
    let sizes = |hidden_size, num_hidden_layers, num_attention_heads| BertConfig {
        hidden_size,
        num_hidden_layers,
        num_attention_heads,
        intermediate_size: 4 * hidden_size,
        ..BertConfig::default()
    };
    match shape {
        "tiny" => Some(sizes(128, 2, 2)),
        "minilm" => Some(sizes(384, 6, 12)),
        "base" => Some(BertConfig::default()),
        _ => None,
    }
}

/// Lengths from 1 to `longest` that make up `tokens`.
fn mixed_lengths(tokens: usize, longest: usize) -> Vec<usize> {
    let mut stream = Stream::new(0, Purpose::Sample, 1);
    let mut lengths = vec![];
    let mut left = tokens;
    while left > 0 {
        let length = (1 + stream.below(longest)).min(left);
        lengths.push(length);
        left -= length;
    }
    lengths
}

/// A classifier with two labels, at its starting values; with the default pooling `BertForSequenceClassification`.
fn model(config: &BertConfig, pooling: PoolingKind, device: &Device) -> SequenceClassifier {
    let bert = initialise(Bert::new(config, device), "", 0, config.initializer_range);
    let parts = SequenceClassifierConfig {
        pooling,
        layer_mixture: false,
        task_embedding: None,
        num_labels: 2,
    };
    SequenceClassifier::new(bert, config, parts, 0, device)
}

fn input(config: &BertConfig, lengths: &[usize], device: &Device) -> EncoderInput {
    let sequences = Sequences::from_lengths(lengths);
    let mut stream = Stream::new(0, Purpose::Sample, 0);
    let ids: Vec<i32> =
        (0..sequences.tokens()).map(|_| stream.below(config.vocab_size) as i32).collect();
    let positions: Vec<i32> = sequences.ranges().flat_map(|range| 0..range.len() as i32).collect();
    let ints = |values: &[i32]| Tensor::<1, Int>::from_ints(values, device);
    EncoderInput {
        input_ids: ints(&ids),
        token_type_ids: ints(&vec![0; ids.len()]),
        position_ids: ints(&positions),
        documents: Documents::of_sequences(&sequences),
        sequences,
        shift: None,
    }
}

/// Milliseconds of each step, in parts of so many rows, with the embeddings and so many layers frozen where there are: forward, backward, clipping by the global norm, AdamW.
fn train(
    model: SequenceClassifier,
    config: &BertConfig,
    lengths: &[usize],
    [rows, frozen]: [usize; 2],
    device: &Device,
) -> Vec<f64> {
    let device = device.clone().autodiff();
    let mut model = model.train();
    if frozen > 0 {
        model.bert.embeddings = model.bert.embeddings.freeze();
        for layer in model.bert.encoder.layer.iter_mut().take(frozen) {
            *layer = layer.clone().freeze();
        }
    }
    let part = |part: &[usize]| {
        let labels: Vec<Option<u32>> = (0..part.len() as u32).map(|row| Some(row % 2)).collect();
        (input(config, part, &device), labels)
    };
    let parts: Vec<_> = lengths.chunks(rows.max(1)).map(part).collect();
    let recipe = Recipe { learning_rate: 2e-5, ..Recipe::default() };
    let mut optimizer = Optimizer::new(&recipe);
    let mut times = vec![];
    for step in 0..WARM_UP + TIMED {
        let start = Instant::now();
        let key = pass_key(0, step as u32, 0, 0);
        let rates = learning_rates(&recipe, config.num_hidden_layers, 1.0);
        let gradients = |model: &SequenceClassifier, (): &()| {
            let all = parts.iter().map(|(input, labels)| {
                let share = labels.len() as f64 / lengths.len() as f64;
                let loss = CrossEntropy::default().forward(model.forward(input, Some(key)), labels);
                PartLoss::from(loss * share).gradients(model)
            });
            let sum = all.reduce(|mut sum, part| {
                sum.add(model, part);
                sum
            });
            sum.expect("a batch has rows") // INVARIANT: a batch of none has nothing to time
        };
        let step =
            train_step(model, &mut optimizer, &device, &[()], gradients, Combine::Sum, rates);
        wait(&device);
        times.push(start.elapsed().as_secs_f64() * 1e3);
        let loss = step.losses[0][0];
        assert!(loss.is_finite(), "the loss is {loss}");
        model = step.model;
    }
    times.split_off(WARM_UP)
}

/// Milliseconds of each pass in evaluation, logits read back.
fn infer(
    config: &BertConfig,
    pooling: PoolingKind,
    lengths: &[usize],
    device: &Device,
) -> Vec<f64> {
    let model = model(config, pooling, device).valid();
    let input = input(config, lengths, device);
    let mut times = vec![];
    for _ in 0..WARM_UP + TIMED {
        let start = Instant::now();
        let forward = || model.forward(&input, None).into_data().iter::<f32>().collect();
        let logits: Vec<f32> = on_workers(device, forward);
        times.push(start.elapsed().as_secs_f64() * 1e3);
        assert!(logits.iter().all(|logit| logit.is_finite()), "a logit is no finite number");
    }
    times.split_off(WARM_UP)
}

/// Until the device has done all that it was asked.
fn wait(device: &Device) {
    device.sync().expect("the device works"); // INVARIANT: a benchmark on a broken device has nothing to say
}
