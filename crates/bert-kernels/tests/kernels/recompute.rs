//! What runs again: how often, with what gradients, and where it runs as it is.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use bert_kernels::recompute;
use burn::{
    module::{Module, Param},
    tensor::{Device, Tensor},
};

use crate::{devices, values};

/// `tanh(x a) b`, and a parameter that takes no part.
#[derive(Module, Debug)]
struct Maps {
    a: Param<Tensor<2>>,
    b: Param<Tensor<2>>,
    aside: Param<Tensor<1>>,
}

impl Maps {
    fn new(device: &Device) -> Self {
        let matrix =
            |values: [[f32; 2]; 2]| Param::from_tensor(Tensor::from_floats(values, device));
        Self {
            a: matrix([[0.3, -0.2], [0.5, 0.1]]),
            b: matrix([[1.0, 0.4], [-0.7, 0.2]]),
            aside: Param::from_tensor(Tensor::from_floats([1.0], device)),
        }
    }

    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        x.matmul(self.a.val()).tanh().matmul(self.b.val())
    }
}

fn x(device: &Device) -> Tensor<2> {
    Tensor::from_floats([[1.0, 2.0], [-0.5, 0.3], [0.0, 0.7]], device)
}

#[test]
fn it_runs_again_for_the_gradients_which_are_the_same() {
    for device in devices() {
        let device = device.autodiff();
        let (maps, x) = (Maps::new(&device), x(&device).require_grad());
        let gradients = |output: Tensor<2>| {
            let gradients = (output.clone() * output).sum().backward();
            let of = |tensor: Tensor<2>| values(tensor.grad(&gradients).expect("a gradient"));
            assert!(maps.aside.val().grad(&gradients).is_none());
            [of(x.clone()), of(maps.a.val()), of(maps.b.val())]
        };
        let plain = maps.forward(x.clone());
        let runs = Arc::new(AtomicUsize::new(0));
        let counted = runs.clone();
        let output = recompute(&maps, x.clone(), move |maps, x| {
            counted.fetch_add(1, Ordering::Relaxed);
            maps.forward(x)
        });
        assert_eq!(values(output.clone()), values(plain.clone()));
        let expected = gradients(plain);
        assert_eq!(runs.load(Ordering::Relaxed), 1);
        assert_eq!(gradients(output), expected);
        assert_eq!(runs.load(Ordering::Relaxed), 2);
        assert_eq!(Arc::strong_count(&runs), 1, "what ran is kept");
    }
}

/// One in the other, and twice over the same module: each adds its share.
#[test]
fn they_nest_and_share_parameters() {
    for device in devices() {
        let device = device.autodiff();
        let (maps, x) = (Maps::new(&device), x(&device).require_grad());
        let twice = |maps: &Maps, x: Tensor<2>| {
            let x = recompute(maps, x, Maps::forward);
            recompute(maps, x.clone(), Maps::forward) + x
        };
        let gradients = |output: Tensor<2>| {
            let gradients = (output.clone() * output).sum().backward();
            let of = |tensor: Tensor<2>| values(tensor.grad(&gradients).expect("a gradient"));
            [of(x.clone()), of(maps.a.val()), of(maps.b.val())].concat()
        };
        let once = maps.forward(x.clone());
        let expected = gradients(maps.forward(once.clone()) + once);
        for got in [twice(&maps, x.clone()), recompute(&maps, x.clone(), twice)] {
            for (got, expected) in gradients(got).iter().zip(&expected) {
                assert!((got - expected).abs() <= 1e-5 * expected.abs().max(1.0));
            }
        }
    }
}

#[test]
fn what_wants_no_gradient_gets_none() {
    for device in devices() {
        let device = device.autodiff();
        let mut maps = Maps::new(&device);
        maps.a = maps.a.set_require_grad(false);
        let x = x(&device);
        let gradients = recompute(&maps, x.clone(), Maps::forward).sum().backward();
        assert!(x.grad(&gradients).is_none() && maps.a.val().grad(&gradients).is_none());
        assert!(maps.b.val().grad(&gradients).is_some());
        let frozen = maps.freeze();
        assert!(!recompute(&frozen, x, Maps::forward).is_tracked());
    }
}

#[test]
fn it_runs_as_it_is_where_nothing_is_recorded_or_burn_recomputes() {
    for device in devices() {
        let plain = Maps::new(&device);
        let expected = values(plain.forward(x(&device)));
        assert_eq!(values(recompute(&plain, x(&device), Maps::forward)), expected);
        let device = device.autodiff().gradient_checkpointing();
        let (maps, x) = (Maps::new(&device), x(&device));
        let gradients = recompute(&maps, x, Maps::forward).sum().backward();
        assert!(maps.b.val().grad(&gradients).is_some());
    }
}

#[test]
#[should_panic(expected = "recompute: at most 31 trained, got 33")]
fn too_many_parameters_are_refused() {
    let device = crate::devices().remove(0).autodiff();
    let many = vec![Maps::new(&device); 11];
    recompute(&many, x(&device), |many: &Vec<Maps>, x| many[0].forward(x));
}
