//! Kernels over slices: no tensors, no Burn.
//!
//! Work is cut into blocks whose size never depends on the number of threads, and sums are taken within a block and
//! then over the blocks in order, so that results are the same to the bit on any number of threads.
// The two reasons for unsafe code here: functions compiled for more than the target's instruction set, which are
// called only where the machine has it, and matrix products over strided views.
#![allow(unsafe_code)]

pub(crate) mod attention;
pub(crate) mod bf16;
pub(crate) mod dropout;
pub(crate) mod embedding;
pub(crate) mod gelu;
pub(crate) mod layer_norm;
pub(crate) mod linear;
pub(crate) mod low_rank;
pub(crate) mod matrix;
pub(crate) mod mixture;
pub(crate) mod optimizer;
pub(crate) mod pooling;
pub(crate) mod simd;

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::{
        attention::Plan,
        gelu,
        layer_norm::{self, Sum},
        low_rank, mixture,
        pooling::{self, Pass},
        simd::tests::{NARROW, PORTABLE},
    };
    use crate::{
        dropout::Dropout,
        random::{Key, Purpose, Stream},
        sequences::Sequences,
    };

    fn normal(index: u64, length: usize) -> Vec<f32> {
        let mut stream = Stream::new(5, Purpose::Init, index);
        (0..length).map(|_| stream.normal()).collect()
    }

    /// Every kernel with functions of several levels but the products and AdamW, forwards and backwards, with dropout.
    fn run() -> Vec<Vec<f32>> {
        let (sequences, width) = (Sequences::from_lengths(&[37, 1, 140]), 22);
        let tokens = sequences.tokens();
        let zeros = || vec![0.0; tokens * width];
        let drop = Dropout::new(0.2, Key::new(1));
        let [q, k, v, grad] = [1, 2, 3, 4].map(|index| normal(index, tokens * width));
        let (queries, keys) = (sequences.clone(), sequences);
        let plan = Plan { queries, keys, num_heads: 2, width, drop, window: Some(70) };
        let mut attended = [zeros(), zeros(), zeros(), zeros()];
        let [out, gq, gk, gv] = &mut attended;
        plan.forward(&q, &k, &v, out);
        plan.backward([&q, &k, &v], &grad, [gq, gk, gv]);
        let (weight, bias) = (normal(5, width), normal(6, width));
        let mut normed =
            [zeros(), zeros(), grad.clone(), zeros(), vec![0.0; width], vec![0.0; width]];
        let [out, normalised, grad, grad_x, grad_weight, grad_bias] = &mut normed;
        let mut scales = vec![0.0; tokens];
        let sum = Sum { x: &q, residual: Some(&k), drop };
        layer_norm::forward(sum, &weight, &bias, 1e-12, out, normalised, &mut scales);
        layer_norm::backward(
            grad,
            normalised,
            &scales,
            &weight,
            drop,
            grad_x,
            [grad_weight, grad_bias],
        );
        let mut activated = [zeros(), v.clone()];
        gelu::forward(&q, &mut activated[0]);
        gelu::backward(&q, &mut activated[1]);
        let mut pooled = vec![];
        for columns in [width, 1] {
            let (sequences, scores) = (&plan.keys, &k[..tokens * columns]);
            let mut out = vec![0.0; sequences.len() * width];
            let mut norms = vec![0.0; sequences.len() * 2 * columns];
            let (mut grad_x, mut grad_scores) = (zeros(), vec![0.0; tokens * columns]);
            pooling::forward(sequences, [&q, scores], [&mut out, &mut norms]);
            let pass = Pass { x: &q, scores, out: &out, norms: &norms };
            let grad = &v[..out.len()];
            pooling::backward(sequences, pass, grad, &mut grad_x, &mut grad_scores);
            pooled.extend([out, grad_x, grad_scores]);
        }
        let mut mixed = vec![v.clone(), zeros()];
        mixture::forward(true, 0.7, &q, &mut mixed[0]);
        let grad_factor = mixture::backward(0.7, &q, &k, &mut mixed[1]);
        mixed.push(vec![grad_factor]);
        let mut sum = v.clone();
        low_rank::add_product(&q[..tokens * 3], &k[..3 * width], 3, &mut sum);
        mixed.push(sum);
        [attended.to_vec(), normed.to_vec(), activated.to_vec(), pooled, mixed].concat()
    }

    /// What other machines compute differs in rounding only, if at all.
    #[test]
    fn every_level_gives_the_same() {
        let expected = run();
        let at = |level: &AtomicBool| {
            level.store(true, Ordering::Relaxed);
            let results = run();
            level.store(false, Ordering::Relaxed);
            results
        };
        for results in [at(&PORTABLE), at(&NARROW)] {
            for (index, (actual, expected)) in results.iter().zip(&expected).enumerate() {
                for (actual, expected) in actual.iter().zip(expected) {
                    let error = (actual - expected).abs();
                    assert!(error < 1e-5 * (1.0 + expected.abs()), "{index}: {actual} {expected}");
                }
            }
        }
    }
}
