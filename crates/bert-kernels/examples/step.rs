//! Times a training step and inference of a BERT-shaped stack of the operations, with nothing around them.
//!
//! `cargo run --release -p bert-kernels --features flex --example step -- minilm|base|tiny [short] [plain] [bf16] [train]`

use std::time::Instant;

use bert_kernels::{
    AdamW, AdamWState, AttentionOptions, Dropout, Precision, Sequences, attention, dropout,
    embedding, gelu, layer_norm, linear,
    random::{Key, Purpose, Stream},
    set_fast_kernels, set_precision, sum_of_squares,
};
use burn::{
    optim::Optimizer,
    tensor::{Device, Int, Tensor},
};

const VOCABULARY: usize = 30_522;
const STEPS: usize = 6;

struct Shape {
    layers: usize,
    hidden: usize,
    heads: usize,
    inner: usize,
    batch: usize,
}

/// A weight of the stack, with what the optimiser keeps of it.
struct Weight<const D: usize> {
    tensor: Tensor<D>,
    state: Option<AdamWState<D>>,
}

impl<const D: usize> Weight<D> {
    fn new(shape: [usize; D], deviation: f32, mean: f32, device: &Device) -> Self {
        let mut stream = Stream::new(1, Purpose::Init, shape.iter().product::<usize>() as u64);
        let values: Vec<f32> = (0..shape.iter().product())
            .map(|_| (stream.uniform() - 0.5) * 3.4 * deviation + mean)
            .collect();
        let tensor = Tensor::<1>::from_floats(values.as_slice(), device).reshape(shape);
        Self { tensor: tensor.require_grad(), state: None }
    }
}

struct Stack {
    shape: Shape,
    matrices: Vec<Weight<2>>,
    vectors: Vec<Weight<1>>,
}

impl Stack {
    fn new(shape: Shape, device: &Device) -> Self {
        let (hidden, inner) = (shape.hidden, shape.inner);
        let mut matrices = vec![[VOCABULARY, hidden], [512, hidden], [hidden, 2]];
        let mut vectors = vec![(hidden, 1.0), (hidden, 0.0), (2, 0.0)];
        for _ in 0..shape.layers {
            matrices.extend([[hidden, hidden]; 4]);
            matrices.extend([[hidden, inner], [inner, hidden]]);
            vectors.extend([(hidden, 0.0); 4]);
            vectors.extend([
                (hidden, 1.0),
                (hidden, 0.0),
                (inner, 0.0),
                (hidden, 0.0),
                (hidden, 1.0),
                (hidden, 0.0),
            ]);
        }
        Self {
            shape,
            matrices: matrices
                .into_iter()
                .map(|shape| Weight::new(shape, 0.02, 0.0, device))
                .collect(),
            vectors: vectors
                .into_iter()
                .map(|(size, mean)| Weight::new([size], 0.0, mean, device))
                .collect(),
        }
    }

    fn forward(
        &self,
        ids: Tensor<1, Int>,
        positions: Tensor<1, Int>,
        sequences: &Sequences,
        step: Option<u32>,
    ) -> Tensor<2> {
        let drop =
            |site: u32| Dropout::new(0.1, Key::new(0).derive(Purpose::Dropout, [step?, 0, site]));
        let inner = |w: &Weight<2>| {
            if step.is_some() { w.tensor.clone() } else { w.tensor.clone().inner() }
        };
        let m = |index: usize| inner(&self.matrices[index]);
        let v = |index: usize| {
            let tensor = self.vectors[index].tensor.clone();
            if step.is_some() { tensor } else { tensor.inner() }
        };
        let words = embedding(m(0), ids);
        let positions = embedding(m(1), positions);
        let mut x = dropout(layer_norm(words, Some(positions), None, v(0), v(1), 1e-12), drop(0));
        for layer in 0..self.shape.layers {
            let (mi, vi, site) = (3 + 6 * layer, 3 + 10 * layer, 1 + 3 * layer as u32);
            let [q, k, value] = [0, 1, 2].map(|i| linear(x.clone(), m(mi + i), Some(v(vi + i))));
            let options =
                AttentionOptions { dropout: drop(site), ..AttentionOptions::new(self.shape.heads) };
            let context = attention(q, k, value, sequences, sequences, &options);
            let out = linear(context, m(mi + 3), Some(v(vi + 3)));
            x = layer_norm(out, Some(x), drop(site + 1), v(vi + 4), v(vi + 5), 1e-12);
            let wide = gelu(linear(x.clone(), m(mi + 4), Some(v(vi + 6))));
            let out = linear(wide, m(mi + 5), Some(v(vi + 7)));
            x = layer_norm(out, Some(x), drop(site + 2), v(vi + 8), v(vi + 9), 1e-12);
        }
        let first: Vec<i32> = sequences.ranges().map(|range| range.start as i32).collect();
        let first = Tensor::<1, Int>::from_ints(first.as_slice(), &x.device());
        linear(embedding(x, first), m(2), Some(v(2)))
    }

    /// Milliseconds of forward, backward and optimiser.
    fn step(
        &mut self,
        ids: Tensor<1, Int>,
        positions: Tensor<1, Int>,
        sequences: &Sequences,
        step: u32,
    ) -> [f64; 3] {
        let start = Instant::now();
        let logits = self.forward(ids, positions, sequences, Some(step));
        let loss = logits.square().mean();
        let forward = start.elapsed();
        let mut gradients = loss.backward();
        let backward = start.elapsed();
        let optimizer = AdamW::new(0.01);
        let mut squares = 0.0;
        let matrices: Vec<_> =
            self.matrices.iter().map(|w| w.tensor.grad_remove(&mut gradients)).collect();
        let vectors: Vec<_> =
            self.vectors.iter().map(|w| w.tensor.grad_remove(&mut gradients)).collect();
        squares += matrices.iter().flatten().map(|g| sum_of_squares(g.clone())).sum::<f64>();
        squares += vectors.iter().flatten().map(|g| sum_of_squares(g.clone())).sum::<f64>();
        optimizer.gradient_scale.set((1.0 / squares.sqrt()).min(1.0) as f32);
        self.matrices
            .iter_mut()
            .zip(matrices)
            .for_each(|(weight, grad)| update(&optimizer, weight, grad));
        self.vectors
            .iter_mut()
            .zip(vectors)
            .for_each(|(weight, grad)| update(&optimizer, weight, grad));
        let end = start.elapsed();
        [forward, backward - forward, end - backward].map(|time| time.as_secs_f64() * 1e3)
    }
}

fn update<const D: usize>(optimizer: &AdamW, weight: &mut Weight<D>, grad: Option<Tensor<D>>) {
    let Some(grad) = grad else { return };
    let device = weight.tensor.device();
    let tensor = std::mem::replace(&mut weight.tensor, Tensor::empty([0; D], &device)).inner();
    let (tensor, state) = optimizer.step(1e-5, tensor, grad, weight.state.take());
    weight.tensor = Tensor::from_inner(tensor).require_grad();
    weight.state = state;
}

/// The largest memory of this process so far, in MB.
fn peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kb| kb.parse::<usize>().ok()).unwrap_or(0) / 1024
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |word: &str| arguments.iter().any(|argument| argument == word);
    let shape = if has("base") {
        Shape { layers: 12, hidden: 768, heads: 12, inner: 3072, batch: 8 }
    } else if has("tiny") {
        Shape { layers: 2, hidden: 128, heads: 2, inner: 512, batch: 32 }
    } else {
        Shape { layers: 6, hidden: 384, heads: 12, inner: 1536, batch: 32 }
    };
    set_fast_kernels(!has("plain"));
    if has("bf16") {
        set_precision(Precision::Bfloat16);
    }
    let device = Device::flex().autodiff();
    let lengths: Vec<usize> = match has("short") {
        true => (0..shape.batch).map(|i| 5 + i * 7 % 40).collect(),
        false => vec![128; shape.batch],
    };
    let sequences = Sequences::from_lengths(&lengths);
    let mut stream = Stream::new(2, Purpose::Sample, 0);
    let ids: Vec<i32> = (0..sequences.tokens()).map(|_| stream.below(VOCABULARY) as i32).collect();
    let positions: Vec<i32> = sequences.ranges().flat_map(|range| 0..range.len() as i32).collect();
    let ints = |ids: &[i32], device: &Device| Tensor::<1, Int>::from_ints(ids, device);
    let mut stack = Stack::new(shape, &device);
    for step in 0..STEPS as u32 {
        let times = stack.step(ints(&ids, &device), ints(&positions, &device), &sequences, step);
        let total: f64 = times.iter().sum();
        println!(
            "step {total:7.1} ms: forward, backward, optimiser {times:.1?}, peak {} MB",
            peak()
        );
    }
    if has("train") {
        return;
    }
    let device = Device::flex();
    for _ in 0..STEPS {
        let start = Instant::now();
        let out = stack.forward(ints(&ids, &device), ints(&positions, &device), &sequences, None);
        let sum: f32 = out.sum().into_scalar();
        println!("inference {:7.1} ms ({sum})", start.elapsed().as_secs_f64() * 1e3);
    }
}
