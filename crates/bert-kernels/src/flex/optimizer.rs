//! One pass over a parameter on flex.

use burn::{
    backend::{Flex, TensorMetadata, flex::FlexTensor},
    tensor::Tensor,
};

use super::{contiguous, output, slice};
use crate::{kernel::optimizer, optimizer::Step};

/// The new weight and moments.
pub(crate) fn adamw<const D: usize>(
    step: &Step,
    weight: Tensor<D>,
    grad: Tensor<D>,
    moments: Option<[Tensor<D>; 2]>,
) -> (Tensor<D>, [Tensor<D>; 2]) {
    let (mut weight, mut grad) = (primitive(weight), primitive(grad));
    let shape: [usize; D] = weight.shape().dims();
    let [mut m, mut v] = match moments {
        Some(moments) => moments.map(primitive),
        None => [(); 2].map(|()| output(shape, |out| out.fill(0.0))),
    };
    let step = step.into();
    let (moment_1, moment_2) = (m.storage_mut(), v.storage_mut());
    if let Some(weight) = weight.try_storage_mut() {
        optimizer::adamw_in_place(step, weight, slice(&grad), moment_1, moment_2);
    } else {
        // Somebody else holds the weights: the new ones take the gradient's place.
        optimizer::adamw_into_gradient(
            step,
            slice(&weight),
            grad.storage_mut(),
            moment_1,
            moment_2,
        );
        weight = grad;
    }
    (Tensor::from_primitive::<Flex>(weight), [m, v].map(Tensor::from_primitive::<Flex>))
}

/// The sum of the products of two tensors' elements.
pub(crate) fn dot_product<const D: usize>(x: Tensor<D>, y: Tensor<D>) -> f64 {
    optimizer::dot_product(slice(&primitive(x)), slice(&primitive(y)))
}

fn primitive<const D: usize>(tensor: Tensor<D>) -> FlexTensor {
    contiguous(
        tensor.without_autodiff().try_into_primitive::<Flex>().expect("a tensor on flex"), // INVARIANT: `is_fast` has seen the device.
    )
}
