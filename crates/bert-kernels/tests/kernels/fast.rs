//! The fast versions against the definitions: values, gradients, dropout bits, and independence of thread counts.

use bert_kernels::{
    AttentionOptions, Sequences, attention, dropout, embedding, gelu, layer_norm, linear, low_rank,
    mixture, softmax_pooling,
};
use burn::tensor::{Int, Tensor};
use proptest::prelude::*;

use crate::{assert_versions_agree, dropout_of, lengths, normal};

fn reshape(x: &Tensor<1>, shape: [usize; 2]) -> Tensor<2> {
    x.clone().reshape(shape)
}

#[test]
fn linear_agrees() {
    // The second is larger than a block of rows, and than what one thread multiplies.
    for [rows, from, to] in [[25, 22, 37], [131, 37, 150], [1, 22, 3]] {
        let inputs = [normal(1, rows * from), normal(2, from * to), normal(3, to)];
        assert_versions_agree("linear", &inputs, &|x| {
            linear(reshape(&x[0], [rows, from]), reshape(&x[1], [from, to]), Some(x[2].clone()))
        });
        assert_versions_agree("linear without bias", &inputs[..2], &|x| {
            linear(reshape(&x[0], [rows, from]), reshape(&x[1], [from, to]), None)
        });
    }
}

/// In bfloat16 what it holds exactly is multiplied exactly, forwards and backwards; all else is rounded to 8 bits.
#[test]
#[cfg(feature = "flex")]
fn linear_in_bfloat16_agrees() {
    use bert_kernels::{Precision, set_precision};

    use crate::{outcome, switch};

    let _switch = switch(true);
    let [rows, from, to] = [131, 37, 150];
    for exact in [true, false] {
        let inputs = [normal(1, rows * from), normal(2, from * to), normal(3, to)]
            .map(|x| x.into_iter().map(|x| if exact { (4.0 * x).round() } else { x }).collect());
        let run = |precision| {
            set_precision(precision);
            // The gradient's own weights are not exact: those of the inputs are compared where they are rounded.
            let out = outcome(burn::tensor::Device::flex(), &inputs, &|x| {
                linear(reshape(&x[0], [rows, from]), reshape(&x[1], [from, to]), Some(x[2].clone()))
            });
            set_precision(Precision::Float32);
            out
        };
        let (full, half) = (run(Precision::Float32), run(Precision::Bfloat16));
        let distance = |a: &[f32], b: &[f32]| {
            let norm = |x: &mut dyn Iterator<Item = f32>| x.map(|x| x * x).sum::<f32>().sqrt();
            norm(&mut a.iter().zip(b).map(|(a, b)| a - b)) / norm(&mut b.iter().copied())
        };
        let of_output = distance(&half.output, &full.output);
        assert!(if exact { of_output < 1e-6 } else { (1e-5..5e-3).contains(&of_output) });
        for (half, full) in half.gradients.iter().zip(&full.gradients) {
            let distance = distance(half, full);
            assert!(distance < 5e-3, "{distance}");
        }
    }
}

#[test]
fn low_rank_agrees() {
    // The second is larger than a block of rows.
    for [rows, from, rank, to] in [[25, 22, 3, 37], [131, 37, 5, 150], [1, 22, 1, 3]] {
        let inputs = [rows * to, rows * from, from * rank, rank * to]
            .map(|length| normal(length as u64, length));
        for drop in [None, dropout_of(0.3, 2)] {
            assert_versions_agree("low_rank", &inputs, &|x| {
                let [y, input] = [reshape(&x[0], [rows, to]), reshape(&x[1], [rows, from])];
                let [a, b] = [reshape(&x[2], [from, rank]), reshape(&x[3], [rank, to])];
                low_rank(y, input, a, b, 1.5, drop)
            });
        }
    }
}

/// A frozen weight changes no other gradient, and neither x nor a view of it is kept for its sake.
#[test]
fn linear_of_a_frozen_weight_agrees() {
    let [rows, from, to] = [131, 37, 150];
    let inputs = [normal(1, rows * from), normal(2, from * to), normal(3, to)];
    for device in crate::devices() {
        let _switch = crate::switch(true);
        let run = |freeze: bool| {
            crate::outcome(device.clone(), &inputs, &|x| {
                let weight = if freeze { x[1].clone().detach() } else { x[1].clone() };
                linear(
                    reshape(&x[0], [rows, from]),
                    reshape(&weight, [from, to]),
                    Some(x[2].clone()),
                )
            })
        };
        let (frozen, trained) = (run(true), run(false));
        assert_eq!(frozen.output, trained.output);
        assert_eq!(frozen.gradients[0], trained.gradients[0]);
        assert_eq!(frozen.gradients[1], Vec::<f32>::new());
        assert_eq!(frozen.gradients[2], trained.gradients[2]);
    }
}

#[test]
fn linear_of_views_agrees() {
    let inputs = [normal(1, 22 * 25), normal(2, 37 * 22)];
    assert_versions_agree("linear of transposes", &inputs, &|x| {
        linear(reshape(&x[0], [22, 25]).transpose(), reshape(&x[1], [37, 22]).transpose(), None)
            .transpose()
    });
}

#[test]
fn gelu_agrees() {
    let x: Vec<f32> = normal(1, 501 * 37).iter().map(|x| x * 3.0).collect();
    assert_versions_agree("gelu", &[x], &|x| gelu(reshape(&x[0], [501, 37])));
}

#[test]
fn dropout_agrees() {
    assert_versions_agree("dropout", &[normal(1, 131 * 37)], &|x| {
        dropout(reshape(&x[0], [131, 37]), dropout_of(0.3, 2))
    });
}

#[test]
fn layer_norm_agrees() {
    for (rows, width) in [(25, 22), (131, 37), (1, 384)] {
        let inputs =
            [normal(1, rows * width), normal(2, width), normal(3, width), normal(4, rows * width)];
        for drop in [None, dropout_of(0.3, 2)] {
            let norm = |x: &[Tensor<1>], residual| {
                layer_norm(
                    reshape(&x[0], [rows, width]),
                    residual,
                    drop,
                    x[1].clone(),
                    x[2].clone(),
                    1e-12,
                )
            };
            assert_versions_agree("layer_norm", &inputs[..3], &|x| norm(&x, None));
            assert_versions_agree("layer_norm of a sum", &inputs, &|x| {
                norm(&x, Some(reshape(&x[3], [rows, width])))
            });
            assert_versions_agree("layer_norm of x and x", &inputs[..3], &|x| {
                norm(&x, Some(reshape(&x[0], [rows, width])))
            });
        }
    }
}

/// One weight a token and column, one a token, and weights that have no gradient.
#[test]
fn softmax_pooling_agrees() {
    let (tokens, width) = (lengths().tokens(), 37);
    let x = normal(1, tokens * width);
    for columns in [width, 1] {
        let inputs = [x.clone(), normal(2, tokens * columns)];
        assert_versions_agree("softmax_pooling", &inputs, &|x| {
            let scores = reshape(&x[1], [tokens, columns]) * 5.0;
            softmax_pooling(reshape(&x[0], [tokens, width]), scores, &lengths())
        });
        assert_versions_agree(
            "softmax_pooling with fixed weights",
            std::slice::from_ref(&x),
            &|x| {
                let scores = Tensor::ones([tokens, columns], &x[0].device());
                softmax_pooling(reshape(&x[0], [tokens, width]), scores, &lengths())
            },
        );
    }
}

#[test]
fn softmax_pooling_of_large_scores_agrees() {
    let (tokens, width) = (lengths().tokens(), 22);
    let inputs = [normal(1, tokens * width), normal(2, tokens * width)];
    assert_versions_agree("softmax_pooling", &inputs, &|x| {
        let scores = reshape(&x[1], [tokens, width]) * 90.0;
        softmax_pooling(reshape(&x[0], [tokens, width]), scores, &lengths())
    });
}

/// More numbers than a block has, and a state that is mixed in twice.
#[test]
fn mixture_agrees() {
    let [rows, width] = [131, 150];
    let inputs = [normal(1, 4), normal(2, rows * width), normal(3, rows * width)];
    assert_versions_agree("mixture", &inputs, &|x| {
        let states = [1, 2, 1, 2].map(|index| reshape(&x[index], [rows, width]));
        mixture(x[0].clone(), states.into())
    });
    assert_versions_agree("mixture of one", &[normal(1, 1), normal(2, rows * width)], &|x| {
        mixture(x[0].clone(), vec![reshape(&x[1], [rows, width])])
    });
}

#[test]
fn embedding_agrees() {
    let ids: Vec<i32> = (0..150).map(|i| i * i % 41).collect();
    assert_versions_agree("embedding", &[normal(1, 41 * 22)], &|x| {
        let ids = Tensor::<1, Int>::from_ints(ids.as_slice(), &x[0].device());
        embedding(reshape(&x[0], [41, 22]), ids)
    });
}

#[test]
#[should_panic(expected = "the id 41 is no row of a table of 41 rows")]
#[cfg(feature = "flex")]
fn embedding_names_an_id_that_is_no_row() {
    let _switch = crate::switch(true);
    let device = burn::tensor::Device::flex();
    embedding(Tensor::zeros([41, 2], &device), Tensor::from_ints([0, 41], &device));
}

/// Attention over these sequences, from all tokens and from the first of each.
fn assert_attention_agrees(lengths: &Sequences, size: usize, options: &AttentionOptions) {
    let width = options.num_heads * size;
    for queries in [lengths.clone(), lengths.first_tokens()] {
        let tokens = [queries.tokens(), lengths.tokens(), lengths.tokens()];
        let inputs = [0, 1, 2].map(|i| normal(i as u64 + 1, tokens[i] * width));
        assert_versions_agree(&format!("attention {options:?}"), &inputs, &|x| {
            let [q, k, v] = [0, 1, 2].map(|i| reshape(&x[i], [tokens[i], width]));
            attention(q, k, v, &queries, lengths, options)
        });
    }
}

#[test]
fn attention_agrees() {
    for window in [None, Some(0), Some(3)] {
        for dropout in [None, dropout_of(0.3, 2)] {
            let options = AttentionOptions { dropout, window, ..AttentionOptions::new(2) };
            assert_attention_agrees(&lengths(), 11, &options);
        }
    }
}

#[test]
fn attention_over_more_than_a_block_agrees() {
    let lengths = Sequences::from_lengths(&[131, 1, 64, 70]);
    for window in [None, Some(20)] {
        let options =
            AttentionOptions { dropout: dropout_of(0.1, 2), window, ..AttentionOptions::new(3) };
        assert_attention_agrees(&lengths, 8, &options);
    }
}

#[test]
fn attention_of_large_scores_agrees() {
    let (tokens, width) = (lengths().tokens(), 22);
    let inputs = [1, 2, 3]
        .map(|index| normal(index, tokens * width).iter().map(|x| x * 9.0).collect::<Vec<_>>());
    assert_versions_agree("attention", &inputs, &|x| {
        let [q, k, v] = [0, 1, 2].map(|i| reshape(&x[i], [tokens, width]));
        attention(q, k, v, &lengths(), &lengths(), &AttentionOptions::new(2))
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn attention_of_any_lengths_agrees(
        lengths in proptest::collection::vec(1usize..90, 1..5),
        size in 1usize..20,
        window in proptest::option::of(0usize..50),
    ) {
        let options = AttentionOptions { dropout: dropout_of(0.2, 2), window, ..AttentionOptions::new(2) };
        assert_attention_agrees(&Sequences::from_lengths(&lengths), size, &options);
    }
}

/// Every operation, forwards and backwards, gives the same bits on 1, 2 and 3 threads.
#[test]
#[cfg(feature = "flex")]
fn bits_do_not_depend_on_the_number_of_threads() {
    use crate::{Outcome, outcome, switch};

    let lengths = Sequences::from_lengths(&[70, 1, 131, 55]);
    let (tokens, width, inner) = (lengths.tokens(), 64, 150);
    let ids: Vec<i32> = (0..tokens as i32).map(|i| i * i % 97).collect();
    let inputs = [
        normal(1, 97 * width),
        normal(2, width * width),
        normal(3, width),
        normal(4, width * inner),
        normal(5, inner * width),
        normal(6, width),
        normal(7, 2),
    ];
    let network = |x: Vec<Tensor<1>>| {
        let ids = Tensor::<1, Int>::from_ints(ids.as_slice(), &x[0].device());
        let states = dropout(embedding(reshape(&x[0], [97, width]), ids), dropout_of(0.1, 1));
        let query = linear(states.clone(), reshape(&x[1], [width, width]), Some(x[2].clone()));
        let options = AttentionOptions { dropout: dropout_of(0.1, 2), ..AttentionOptions::new(4) };
        let context =
            attention(query, states.clone(), states.clone(), &lengths, &lengths, &options);
        let states = layer_norm(
            context,
            Some(states),
            dropout_of(0.1, 3),
            x[2].clone(),
            x[5].clone(),
            1e-12,
        );
        let wide = linear(states.clone(), reshape(&x[3], [width, inner]), None);
        let a = reshape(&x[3], [width, inner]).narrow(1, 0, 3);
        let b = reshape(&x[4], [inner, width]).transpose().narrow(0, 0, 3);
        let wide = gelu(low_rank(wide, states.clone(), a, b, 0.5, dropout_of(0.1, 5)));
        let narrow = linear(wide, reshape(&x[4], [inner, width]), Some(x[5].clone()));
        let drop = dropout_of(0.1, 4);
        let top = layer_norm(narrow, Some(states.clone()), drop, x[5].clone(), x[2].clone(), 1e-12);
        softmax_pooling(mixture(x[6].clone(), vec![states.clone(), top]), states, &lengths)
    };
    let run = |threads: usize| -> Outcome {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
        pool.install(|| outcome(burn::tensor::Device::flex(), &inputs, &network))
    };
    let _switch = switch(true);
    let one = run(1);
    assert_eq!(one.gradients.len(), inputs.len());
    assert!(one.gradients.iter().flatten().all(|x| x.is_finite()));
    for threads in [1, 2, 3] {
        assert!(run(threads) == one, "other bits on {threads} threads");
    }
}
