//! How far two answers to the same rows lie apart, which R-Drop makes small: `(KL(p || q) + KL(q || p)) / 2`.
//!
//! Both sums together are one, over `(p - q) (log p - log q) / 2`; what it gives is always at least 0.
//!
//! # Source
//! Liang et al.: "R-Drop: Regularized Dropout for Neural Networks" (arXiv:2106.14448), equation 2.

use burn::tensor::{
    Tensor,
    activation::{log_softmax, sigmoid},
};

/// The terms of two softmaxes over `dim`, each the softmax of logits.
pub(crate) fn softmax_terms<const D: usize>(
    one: Tensor<D>,
    other: Tensor<D>,
    dim: usize,
) -> Tensor<D> {
    let (one, other) = (log_softmax(one, dim), log_softmax(other, dim));
    (one.clone().exp() - other.clone().exp()) * (one - other) * 0.5
}

/// The sum of both terms of each entry, which is true with the probability `sigmoid(logit)`.
pub(crate) fn sigmoid_terms(one: Tensor<2>, other: Tensor<2>) -> Tensor<2> {
    // log p - log q and log (1 - q) - log (1 - p) add up to the difference of the logits.
    (sigmoid(one.clone()) - sigmoid(other.clone())) * (one - other) * 0.5
}
