//! Gradients of several tasks without what opposes another task.

use bert_kernels::random::Stream;

use crate::gradients::Gram;

/// What each task's gradient counts in the sum of all gradients after projection.
///
/// Each gradient loses, for every other task in random order, its part along that task's gradient where the two oppose each
/// other: `g_i -= g_i . g_j / |g_j|^2 g_j` where `g_i . g_j < 0`. The results are sums of the gradients they began with, so that
/// their dot products are all it takes.
///
/// # Source
/// Yu et al.: "Gradient Surgery for Multi-Task Learning" (arXiv:2001.06782), algorithm 1.
pub fn projections(gram: &Gram, order: &mut Stream) -> Vec<f64> {
    let tasks = gram.len();
    let mut sum = vec![0.0; tasks];
    for task in 0..tasks {
        let mut others: Vec<usize> = (0..tasks).filter(|other| *other != task).collect();
        order.shuffle(&mut others);
        let mut coefficients = vec![0.0; tasks];
        coefficients[task] = 1.0;
        for other in others {
            let products = coefficients.iter().zip(&gram.0[other]);
            let dot: f64 = products.map(|(coefficient, product)| coefficient * product).sum();
            let square = gram.0[other][other];
            if dot < 0.0 && square > 0.0 {
                coefficients[other] -= dot / square;
            }
        }
        for (sum, coefficient) in sum.iter_mut().zip(coefficients) {
            *sum += coefficient;
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use bert_kernels::random::Purpose;
    use proptest::prelude::*;

    fn gram(vectors: &[Vec<f64>]) -> Gram {
        let dot = |a: &Vec<f64>, b: &Vec<f64>| a.iter().zip(b).map(|(a, b)| a * b).sum();
        Gram(vectors.iter().map(|a| vectors.iter().map(|b| dot(a, b)).collect()).collect())
    }

    fn order(seed: u64) -> Stream {
        Stream::new(seed, Purpose::Sample, 0)
    }

    #[test]
    fn two_opposing_gradients_by_hand() {
        // a = (2, 0), b = (-1, 1): a . b = -2, |a|^2 = 4, |b|^2 = 2.
        // a' = a + 2/2 b = (1, 1); b' = b + 2/4 a = (0, 1); a' + b' = 1.5 a + 2 b = (1, 2).
        let gram = gram(&[vec![2.0, 0.0], vec![-1.0, 1.0]]);
        assert_eq!(projections(&gram, &mut order(0)), [1.5, 2.0]);
    }

    #[test]
    fn gradients_that_agree_are_left_alone() {
        let gram = gram(&[vec![2.0, 0.5], vec![1.0, 1.0], vec![0.0, 3.0]]);
        assert_eq!(projections(&gram, &mut order(0)), [1.0; 3]);
    }

    #[test]
    fn a_gradient_of_zero_changes_nothing() {
        let gram = gram(&[vec![1.0, 0.0], vec![0.0, 0.0]]);
        assert_eq!(projections(&gram, &mut order(0)), [1.0; 2]);
    }

    /// The plain algorithm on vectors.
    fn plain(vectors: &[Vec<f64>], order: &mut Stream) -> Vec<f64> {
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let mut sum = vec![0.0; vectors[0].len()];
        for (task, vector) in vectors.iter().enumerate() {
            let mut others: Vec<usize> =
                (0..vectors.len()).filter(|other| *other != task).collect();
            order.shuffle(&mut others);
            let mut own = vector.clone();
            for other in others {
                let share = dot(&own, &vectors[other]) / dot(&vectors[other], &vectors[other]);
                if share < 0.0 {
                    own.iter_mut().zip(&vectors[other]).for_each(|(own, x)| *own -= share * x);
                }
            }
            sum.iter_mut().zip(own).for_each(|(sum, x)| *sum += x);
        }
        sum
    }

    proptest! {
        #[test]
        fn the_sum_is_that_of_the_plain_algorithm(
            vectors in prop::collection::vec(prop::collection::vec(-3.0f64..3.0, 5), 2..5),
            seed: u64,
        ) {
            let factors = projections(&gram(&vectors), &mut order(seed));
            let expected = plain(&vectors, &mut order(seed));
            for (place, expected) in expected.iter().enumerate() {
                let got: f64 = factors.iter().zip(&vectors).map(|(f, v)| f * v[place]).sum();
                prop_assert!((got - expected).abs() < 1e-8 * (1.0 + expected.abs()), "{} {}", got, expected);
            }
        }
    }
}
