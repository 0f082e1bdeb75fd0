//! The definitions against plain loops and numbers by hand, on every backend.

use bert_kernels::{
    AttentionOptions, Rotary, Sequences, attention, attention_probabilities, dropout, embedding,
    gelu, gelu_new, layer_norm, linear, low_rank, mixture, softmax_over_tokens, softmax_pooling,
};
use burn::tensor::{Int, Tensor};

use crate::{LENGTHS, assert_close, devices, dropout_of, lengths, normal, outcome, switch, values};

#[test]
fn linear_by_hand() {
    for device in devices() {
        let x = Tensor::<2>::from_floats([[1.0, 2.0, 3.0], [0.0, -1.0, 4.0]], &device);
        let weight = Tensor::<2>::from_floats([[1.0, 0.5], [2.0, -1.0], [0.0, 3.0]], &device);
        let bias = Tensor::<1>::from_floats([10.0, 20.0], &device);
        // 1 + 4 + 0 + 10; 0.5 - 2 + 9 + 20; 0 - 2 + 0 + 10; 0 + 1 + 12 + 20
        let y = values(linear(x.clone(), weight.clone(), Some(bias)));
        assert_eq!(y, [15.0, 27.5, 8.0, 33.0]);
        assert_eq!(values(linear(x, weight, None)), [5.0, 7.5, -2.0, 13.0]);
    }
}

#[test]
fn low_rank_by_hand() {
    for device in devices() {
        let tensor = |rows: [[f32; 2]; 2]| Tensor::<2>::from_floats(rows, &device);
        let [y, x] = [[[1.0, 2.0], [3.0, 4.0]], [[1.0, -1.0], [2.0, 0.5]]].map(tensor);
        let a = Tensor::<2>::from_floats([[3.0], [1.0]], &device);
        let b = Tensor::<2>::from_floats([[10.0, 100.0]], &device);
        // x a = 3 - 1, 6 + 0.5; half of it
        let got = values(low_rank(y, x, a, b, 0.5, None));
        assert_eq!(got, [11.0, 102.0, 35.5, 329.0]);
    }
}

#[test]
fn softmax_pooling_by_hand() {
    let sequences = Sequences::from_lengths(&[2, 1]);
    // e^LN_3 = 3: the softmax of (LN_3, 0) is (3/4, 1/4).
    const LN_3: f32 = 1.098_612_3;
    for device in devices() {
        let x = Tensor::<2>::from_floats([[1.0, 10.0], [3.0, 30.0], [5.0, 50.0]], &device);
        let scores = Tensor::<2>::from_floats([[LN_3, 0.0], [0.0, LN_3], [7.0, 8.0]], &device);
        // (3 + 3) / 4, (10 + 90) / 4
        let pooled = values(softmax_pooling(x.clone(), scores.clone(), &sequences));
        assert_close("pooled", &pooled, &[1.5, 25.0, 5.0, 50.0], 1e-6);
        let weights = values(softmax_over_tokens(scores.clone(), &sequences));
        assert_close("weights", &weights, &[0.75, 0.25, 0.25, 0.75, 1.0, 1.0], 1e-6);
        // (3 + 3) / 4, (30 + 30) / 4
        let pooled = values(softmax_pooling(x, scores.narrow(1, 0, 1), &sequences));
        assert_close("pooled by one weight", &pooled, &[1.5, 15.0, 5.0, 50.0], 1e-6);
    }
}

#[test]
fn mixture_by_hand() {
    for device in devices() {
        let states = [[1.0, 2.0], [10.0, 20.0], [100.0, 200.0]];
        let states = states.map(|state| Tensor::<2>::from_floats([state], &device));
        let weights = Tensor::<1>::from_floats([2.0, -1.0, 0.5], &device);
        // 2 - 10 + 50, 4 - 20 + 100
        assert_eq!(values(mixture(weights, states.into())), [42.0, 84.0]);
    }
}

#[test]
fn gelu_by_hand() {
    for device in devices() {
        let x = Tensor::<2>::from_floats([[-3.0, -1.0, 0.0, 0.5, 2.0, 30.0, -30.0]], &device);
        // x Phi(x) with Phi(1) = 0.841344746, Phi(2) = 0.977249868, Phi(3) = 0.998650102, Phi(0.5) = 0.691462461
        let exact = [-0.004_049_694, -0.158_655_25, 0.0, 0.345_731_23, 1.954_499_7, 30.0, 0.0];
        assert_close("gelu", &values(gelu(x.clone())), &exact, 1e-7);
        // 0.5 (1 + tanh(0.797884561 * 1.044715)) = 0.841191991 at 1, mirrored at -1
        let tanh = values(gelu_new(x));
        assert!((tanh[1] + 0.158_808_01).abs() < 1e-6, "{tanh:?}");
        assert!((tanh[1] - exact[1]).abs() > 1e-4, "the two must differ");
    }
}

#[test]
fn gelu_gradient_is_that_of_the_exact_function() {
    let x = vec![-2.5, -1.0, -0.3, 0.0, 0.7, 1.9, 6.0];
    for device in devices() {
        let gradient = &outcome(device.clone(), std::slice::from_ref(&x), &|x| {
            gelu(x[0].clone().reshape([1, 7]))
        })
        .gradients[0];
        let weights = normal(99, 7);
        for ((x, gradient), weight) in x.iter().zip(gradient).zip(weights) {
            let f = |x: f32| values(gelu(Tensor::<2>::from_floats([[x]], &device)))[0];
            let step = 0.01;
            let difference = weight * (f(x + step) - f(x - step)) / (2.0 * step);
            assert!((gradient - difference).abs() < 2e-4, "at {x}: {gradient} {difference}");
        }
    }
}

#[test]
fn layer_norm_by_hand() {
    for device in devices() {
        let x = Tensor::<2>::from_floats([[1.0, 2.0, 6.0, 3.0]], &device);
        let residual = Tensor::<2>::from_floats([[0.0, 1.0, 1.0, 2.0]], &device);
        let weight = Tensor::<1>::from_floats([1.0, 2.0, 3.0, 4.0], &device);
        let bias = Tensor::<1>::from_floats([0.5, 0.0, -0.5, 1.0], &device);
        // Sum [1, 3, 7, 5]: mean 4, variance (9 + 1 + 9 + 1) / 4 = 5, plus epsilon 4: root 3.
        let y = values(layer_norm(x, Some(residual), None, weight, bias, 4.0));
        let expected = [-1.0 + 0.5, -2.0 / 3.0, 3.0 - 0.5, 4.0 / 3.0 + 1.0];
        assert_close("layer_norm", &y, &expected, 1e-6);
    }
}

#[test]
fn dropout_keeps_scales_and_hits_its_rate() {
    let (rows, width) = (301, 333);
    let drop = dropout_of(0.1, 7);
    let mut first = None;
    for device in devices() {
        let ones = Tensor::<2>::ones([rows, width], &device);
        let y = values(dropout(ones.clone(), drop));
        // 0.1 is rounded to 6554 / 65536, so that a kept element counts 65536 / 58982.
        assert!(y.iter().all(|y| *y == 0.0 || *y == 65_536.0 / 58_982.0));
        let dropped = y.iter().filter(|y| **y == 0.0).count() as f64 / y.len() as f64;
        // Standard error 0.00095.
        assert!((dropped - 0.1).abs() < 0.004, "{dropped}");
        assert_eq!(*first.get_or_insert_with(|| y.clone()), y, "other bits on {device:?}");
        assert_ne!(y, values(dropout(ones.clone(), dropout_of(0.1, 8))));
        assert_eq!(values(dropout(ones, None)), vec![1.0; rows * width]);
    }
}

#[test]
fn dropout_takes_half_words_of_the_counter() {
    let drop = dropout_of(0.25, 1).expect("drops");
    let (rows, width) = (3, 21);
    for device in devices() {
        let y = values(dropout(Tensor::<2>::ones([rows, width], &device), Some(drop)));
        for (index, y) in y.into_iter().enumerate() {
            let (row, column) = ((index / width) as u32, index % width);
            let word = drop.key().block([column as u32 / 8, row, 0, 0])[column % 8 / 2];
            let bits = if column % 2 == 0 { word & 0xFFFF } else { word >> 16 };
            assert_eq!(y == 0.0, bits < drop.threshold(), "row {row}, column {column}");
        }
    }
}

#[test]
fn embedding_gathers_and_its_gradient_adds_up() {
    for device in devices() {
        let weight = Tensor::<1>::from_floats(
            [0.0, 1.0, 10.0, 11.0, 20.0, 21.0],
            &device.clone().autodiff(),
        );
        let weight = weight.require_grad();
        let ids = Tensor::<1, Int>::from_ints([2, 0, 2], &device.autodiff());
        let y = embedding(weight.clone().reshape([3, 2]), ids);
        assert_eq!(values(y.clone()), [20.0, 21.0, 0.0, 1.0, 20.0, 21.0]);
        let factors = Tensor::<2>::from_floats([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], &y.device());
        let gradients = (y * factors).sum().backward();
        let gradient = weight.grad(&gradients).expect("a gradient");
        assert_eq!(values(gradient), [3.0, 4.0, 0.0, 0.0, 6.0, 8.0]);
    }
}

#[test]
fn pad_and_unpad_are_inverse() {
    let (tokens, width) = (LENGTHS.iter().sum::<usize>(), 3);
    for device in devices() {
        let packed = normal(1, tokens * width);
        let x = Tensor::<1>::from_floats(packed.as_slice(), &device).reshape([tokens, width]);
        let padded = lengths().pad(x);
        assert_eq!(padded.dims(), [4, 12, width]);
        assert_eq!(values(lengths().unpad(padded.clone())), packed);
        let padded = values(padded);
        let mask = lengths().mask(&device).into_data();
        let mut token = 0;
        for (place, real) in mask.iter::<bool>().enumerate() {
            let row = &padded[place * width..][..width];
            if real {
                assert_eq!(row, &packed[token * width..][..width]);
                token += 1;
            } else {
                assert_eq!(row, [0.0; 3], "place {place} is behind the end");
            }
        }
        assert_eq!(token, tokens);
    }
}

/// Attention of one query by plain loops: its probabilities before dropout and its output.
struct Naive<'a> {
    query: &'a [f32],
    key: &'a [f32],
    value: &'a [f32],
    heads: usize,
    width: usize,
    bias: Option<(&'a [f32], usize)>,
    window: usize,
}

impl Naive<'_> {
    fn probabilities(&self, start: usize, length: usize, query: usize, head: usize) -> Vec<f64> {
        let size = self.width / self.heads;
        let at = |x: &[f32], token: usize, i: usize| {
            f64::from(x[(start + token) * self.width + head * size + i])
        };
        let exponentials: Vec<f64> = (0..length)
            .map(|key| {
                let dot: f64 =
                    (0..size).map(|i| at(self.query, query, i) * at(self.key, key, i)).sum();
                let bias = self
                    .bias
                    .map_or(0.0, |(bias, max)| f64::from(bias[(head * max + query) * max + key]));
                let visible = query.abs_diff(key) <= self.window;
                if visible { (dot / (size as f64).sqrt() + bias).exp() } else { 0.0 }
            })
            .collect();
        let sum: f64 = exponentials.iter().sum();
        exponentials.into_iter().map(|e| e / sum).collect()
    }

    fn output(
        &self,
        sequences: &Sequences,
        factor: impl Fn(usize, usize, usize, usize) -> f64,
    ) -> Vec<f32> {
        let size = self.width / self.heads;
        let mut output = vec![0.0; self.query.len()];
        for (sequence, range) in sequences.ranges().enumerate() {
            for query in 0..range.len() {
                for head in 0..self.heads {
                    let probabilities = self.probabilities(range.start, range.len(), query, head);
                    for i in 0..size {
                        let sum: f64 = (0..range.len())
                            .map(|key| {
                                let value =
                                    self.value[(range.start + key) * self.width + head * size + i];
                                probabilities[key]
                                    * factor(sequence, head, query, key)
                                    * f64::from(value)
                            })
                            .sum();
                        output[(range.start + query) * self.width + head * size + i] = sum as f32;
                    }
                }
            }
        }
        output
    }
}

const WIDTH: usize = 22;

/// Runs attention on every backend, fast and plain, against the loops.
fn assert_attention_is(naive: &Naive, options: impl Fn(&burn::tensor::Device) -> AttentionOptions) {
    let factor = |sequence: usize, head: usize, query: usize, key: usize| {
        let Some(drop) = dropout_of(0.3, 5) else {
            return 1.0;
        };
        let counter = [key as u32 / 8, query as u32, sequence as u32, head as u32];
        let word = drop.key().block(counter)[key % 8 / 2];
        let bits = if key.is_multiple_of(2) { word & 0xFFFF } else { word >> 16 };
        if bits < drop.threshold() { 0.0 } else { f64::from(drop.scale()) }
    };
    let tokens = lengths().tokens();
    for fast in [false, true] {
        let _switch = switch(fast);
        for device in devices() {
            let tensor = |x: &[f32]| Tensor::<1>::from_floats(x, &device).reshape([tokens, WIDTH]);
            let run = |options: &AttentionOptions| {
                let (q, k, v) = (tensor(naive.query), tensor(naive.key), tensor(naive.value));
                values(attention(q, k, v, &lengths(), &lengths(), options))
            };
            let mut options = options(&device);
            let plain = naive.output(&lengths(), |_, _, _, _| 1.0);
            assert_close(&format!("fast {fast}"), &run(&options), &plain, 2e-6);
            options.dropout = dropout_of(0.3, 5);
            let dropped = naive.output(&lengths(), factor);
            assert_close(&format!("dropout, fast {fast}"), &run(&options), &dropped, 2e-6);
        }
    }
}

fn inputs() -> [Vec<f32>; 3] {
    [1, 2, 3].map(|index| normal(index, lengths().tokens() * WIDTH))
}

fn naive<'a>([query, key, value]: &'a [Vec<f32>; 3]) -> Naive<'a> {
    Naive { query, key, value, heads: 2, width: WIDTH, bias: None, window: usize::MAX }
}

#[test]
fn attention_is_the_loop() {
    assert_attention_is(&naive(&inputs()), |_| AttentionOptions::new(2));
}

/// Where all values are 1, the output is the sum of what is left of a row of probabilities: 1 without dropout, and 1
/// still if scores were dropped before the softmax, but not if probabilities are dropped behind it.
#[test]
fn dropout_comes_behind_the_softmax() {
    let tokens = lengths().tokens();
    for fast in [false, true] {
        let _switch = switch(fast);
        for device in devices() {
            let tensor = |x: &[f32]| Tensor::<1>::from_floats(x, &device).reshape([tokens, WIDTH]);
            let [query, key, _] = inputs();
            let run = |dropout| {
                let options = AttentionOptions { dropout, ..AttentionOptions::new(2) };
                let ones = Tensor::ones([tokens, WIDTH], &device);
                let (query, key) = (tensor(&query), tensor(&key));
                values(attention(query, key, ones, &lengths(), &lengths(), &options))
            };
            assert!(run(None).iter().all(|sum| (sum - 1.0).abs() < 1e-5));
            let dropped = run(dropout_of(0.3, 5));
            let changed = dropped.iter().filter(|sum| (*sum - 1.0).abs() > 1e-3).count();
            assert!(changed > dropped.len() / 2, "{changed} of {}", dropped.len());
        }
    }
}

#[test]
fn attention_in_a_window_is_the_loop() {
    for window in [0, 2, 11] {
        let inputs = inputs();
        let naive = Naive { window, ..naive(&inputs) };
        assert_attention_is(&naive, |_| AttentionOptions {
            window: Some(window),
            ..AttentionOptions::new(2)
        });
    }
}

/// Queries of which only the first few of each sequence are asked get what they get among all, dropout included.
#[test]
fn fewer_queries_get_the_same_answers() {
    let [query, key, value] = inputs();
    let some: Vec<usize> = lengths().ranges().map(|range| range.len().min(3)).collect();
    let some = Sequences::from_lengths(&some);
    let kept: Vec<usize> = (lengths().ranges().zip(some.ranges()))
        .flat_map(|(all, some)| all.start..all.start + some.len())
        .collect();
    let pick = |x: &[f32]| -> Vec<f32> {
        kept.iter().flat_map(|row| &x[row * WIDTH..(row + 1) * WIDTH]).copied().collect()
    };
    for fast in [false, true] {
        let _switch = switch(fast);
        for device in devices() {
            for window in [None, Some(1)] {
                let options = AttentionOptions {
                    dropout: dropout_of(0.3, 5),
                    window,
                    ..AttentionOptions::new(2)
                };
                let run = |query: &[f32], queries: &Sequences| {
                    let tensor = |x: &[f32]| {
                        Tensor::<1>::from_floats(x, &device).reshape([-1, WIDTH as i32])
                    };
                    let (query, key, value) = (tensor(query), tensor(&key), tensor(&value));
                    values(attention(query, key, value, queries, &lengths(), &options))
                };
                let all = pick(&run(&query, &lengths()));
                let fewer = run(&pick(&query), &some);
                assert_close(&format!("fast {fast}, {window:?}"), &fewer, &all, 1e-6);
            }
        }
    }
}

#[test]
#[should_panic(expected = "each sequence has a key for each of its queries")]
fn more_queries_than_keys_are_refused() {
    let zeros = Tensor::zeros([2, 4], &devices()[0]);
    let (queries, keys) = (Sequences::from_lengths(&[2]), Sequences::from_lengths(&[1]));
    attention(zeros.clone(), zeros.clone(), zeros, &queries, &keys, &AttentionOptions::new(2));
}

#[test]
fn attention_with_bias_is_the_loop() {
    let (inputs, bias) = (inputs(), normal(4, 2 * 12 * 12));
    let naive = Naive { bias: Some((&bias, 12)), ..naive(&inputs) };
    assert_attention_is(&naive, |device| AttentionOptions {
        bias: Some(Tensor::<1>::from_floats(bias.as_slice(), device).reshape([2, 12, 12])),
        ..AttentionOptions::new(2)
    });
}

#[test]
fn rotary_attention_depends_on_distances_only() {
    let (tokens, size) = (6, 4);
    for device in devices() {
        let rotary = |shift: usize| {
            let angle = |token: usize, i: usize| (token + shift) as f32 * [1.0, 0.1][i % 2];
            let table = |f: fn(f32) -> f32| {
                let rows: Vec<f32> =
                    (0..tokens * size).map(|at| f(angle(at / size, at % size))).collect();
                Tensor::<1>::from_floats(rows.as_slice(), &device).reshape([tokens, size])
            };
            Rotary { cos: table(f32::cos), sin: table(f32::sin) }
        };
        let tensor = |index| {
            Tensor::<1>::from_floats(normal(index, tokens * 8).as_slice(), &device)
                .reshape([tokens, 8])
        };
        let sequences = Sequences::from_lengths(&[tokens]);
        let run = |rotary| {
            let options = AttentionOptions { rotary, ..AttentionOptions::new(2) };
            values(attention_probabilities(tensor(1), tensor(2), &sequences, &sequences, &options))
        };
        let here = run(Some(rotary(0)));
        assert_close("shifted", &run(Some(rotary(5))), &here, 1e-5);
        assert!(
            run(None).iter().zip(&here).any(|(a, b)| (a - b).abs() > 1e-2),
            "rotation does something"
        );
    }
}

#[test]
fn rotary_by_hand() {
    // One head of two dimensions: token 1 is turned by 90 degrees, [1, 0] becomes [0, 1]; its query [1, 0] then
    // meets key 0 = [0, 1] (not turned) with 1 and key 1 = [0, 1] turned to [-1, 0] with 0.
    for device in devices() {
        let tensor = |x: [[f32; 2]; 2]| Tensor::<2>::from_floats(x, &device);
        let rotary =
            Rotary { cos: tensor([[1.0, 1.0], [0.0, 0.0]]), sin: tensor([[0.0, 0.0], [1.0, 1.0]]) };
        let options = AttentionOptions { rotary: Some(rotary), ..AttentionOptions::new(1) };
        let (query, key) = (tensor([[1.0, 0.0], [1.0, 0.0]]), tensor([[0.0, 1.0], [0.0, 1.0]]));
        let sequences = Sequences::from_lengths(&[2]);
        let p = values(attention_probabilities(query, key, &sequences, &sequences, &options));
        // Row 0: scores [0, -1 / sqrt 2]; row 1: scores [1 / sqrt 2, 0]. Both give e^0.7071 / (1 + e^0.7071).
        let high = 0.669_761_6;
        assert_close("probabilities", &p, &[high, 1.0 - high, high, 1.0 - high], 1e-6);
    }
}
