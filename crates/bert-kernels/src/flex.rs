//! Fast versions on flex: each operation an extension of the backend with a backward of its own.
//!
//! Here tensors become slices and slices tensors; what is computed is in [`kernel`](crate::kernel).

pub(crate) mod attention;
pub(crate) mod dropout;
pub(crate) mod embedding;
pub(crate) mod gelu;
pub(crate) mod layer_norm;
pub(crate) mod linear;
pub(crate) mod low_rank;
// The reason for unsafe code: tensors over memory that is not the allocator's.
#[allow(unsafe_code)]
mod memory;
pub(crate) mod mixture;
pub(crate) mod optimizer;
pub(crate) mod pooling;

use burn::{
    backend::{
        Autodiff, Backend, Dispatch, ExtensionType, Flex,
        autodiff::{checkpoint::strategy::CheckpointStrategy, ops::NodeGuard},
        flex::FlexTensor,
        tensor::FloatTensor,
    },
    tensor::{DType, Device, Tensor},
};

pub(crate) use memory::output;

use crate::switch;

/// Whether operations on `x` take the fast version.
pub(crate) fn is_fast<const D: usize>(x: &Tensor<D>) -> bool {
    switch::is_fast() && x.dtype() == DType::F32 && x.device() == Device::flex()
}

/// The same values without gaps.
fn contiguous(tensor: FlexTensor) -> FlexTensor {
    // The clone is gone before anybody asks whether the memory is shared.
    let contiguous = tensor.to_contiguous();
    drop(tensor);
    contiguous
}

/// The values of a tensor that went through [`contiguous`].
fn slice(tensor: &FlexTensor) -> &[f32] {
    tensor.as_slice().expect("float32 without gaps") // INVARIANT: `is_fast` saw float32, `contiguous` left no gaps.
}

/// An input that may be missing.
#[derive(Debug, ExtensionType)]
pub enum Optional<B: Backend> {
    /// It is there.
    Some(FloatTensor<B>),
    /// It is not.
    None,
}

impl<B: Backend> Optional<B> {
    fn into_option(self) -> Option<FloatTensor<B>> {
        match self {
            Self::Some(tensor) => Some(tensor),
            Self::None => None,
        }
    }
}

impl Optional<Dispatch> {
    fn new<const D: usize>(tensor: Option<Tensor<D>>) -> Self {
        match tensor {
            Some(tensor) => Self::Some(tensor.into_dispatch()),
            None => Self::None,
        }
    }
}

impl<C: CheckpointStrategy> Optional<Autodiff<Flex, C>> {
    /// The node of the input, or one that wants no gradient in place of an input that is missing.
    fn node(&self) -> NodeGuard {
        match self {
            Self::Some(tensor) => tensor.node(),
            Self::None => <FloatTensor<Autodiff<Flex>>>::new(output([0], |_| {})).node(),
        }
    }
}
