//! AdamW by hand, against PyTorch's formula in double precision, fast and plain; norms; records.

use bert_kernels::{AdamW, AdamWState, dot_product, sum_of_squares};
use burn::{
    optim::Optimizer,
    tensor::{Device, Tensor},
};

use crate::{assert_close, devices, normal, switch, values};

/// PyTorch's AdamW in double precision.
fn expected(weights: &[f32], grads: &[Vec<f32>], lr: f64, decay: f64, scale: f64) -> Vec<f32> {
    let mut weights: Vec<f64> = weights.iter().map(|w| f64::from(*w)).collect();
    let (mut m, mut v) = (vec![0.0; weights.len()], vec![0.0; weights.len()]);
    for (step, grad) in grads.iter().enumerate() {
        let time = step as i32 + 1;
        for i in 0..weights.len() {
            let grad = f64::from(grad[i]) * scale;
            m[i] = 0.9 * m[i] + 0.1 * grad;
            v[i] = 0.999 * v[i] + 0.001 * grad * grad;
            let (m, v) = (m[i] / (1.0 - 0.9f64.powi(time)), v[i] / (1.0 - 0.999f64.powi(time)));
            weights[i] = weights[i] * (1.0 - lr * decay) - lr * m / (v.sqrt() + 1e-8);
        }
    }
    weights.into_iter().map(|w| w as f32).collect()
}

#[test]
fn adamw_is_pytorchs() {
    let count = 40_001;
    let grads: Vec<Vec<f32>> = (2..7).map(|index| normal(index, count)).collect();
    let expected = expected(&normal(1, count), &grads, 0.01, 0.1, 0.5);
    for fast in [false, true] {
        let _switch = switch(fast);
        for device in devices() {
            // A weight that somebody else holds is left alone; one that nobody else holds gives the same.
            for shared in [false, true] {
                let optimizer = AdamW::new(0.1);
                optimizer.gradient_scale.clone().set(0.5);
                let mut weight = Tensor::<1>::from_floats(normal(1, count).as_slice(), &device);
                let mut state = None;
                for grad in &grads {
                    let (before, held) = (values(weight.clone()), shared.then(|| weight.clone()));
                    let grad = Tensor::<1>::from_floats(grad.as_slice(), &device);
                    (weight, state) = optimizer.step(0.01, weight, grad, state);
                    assert!(
                        held.is_none_or(|held| values(held) == before),
                        "the held weight has moved"
                    );
                }
                assert_close("weights", &values(weight), &expected, 2e-6);
                assert_eq!(state.expect("a state").time, grads.len());
            }
        }
    }
}

#[test]
fn adamw_by_hand() {
    // First step: both corrected moments are those of the gradient, so that a weight moves by lr against the
    // gradient's sign, after losing lr * decay of itself: 2 * (1 - 0.1 * 0.5) - 0.1 = 1.8; -1 * 0.95 + 0.1 = -0.85.
    for device in devices() {
        let weight = Tensor::<1>::from_floats([2.0, -1.0], &device);
        let grad = Tensor::<1>::from_floats([3.0, -0.25], &device);
        let (weight, _) = AdamW::new(0.5).step(0.1, weight, grad, None::<AdamWState<1>>);
        assert_close("weights", &values(weight), &[1.8, -0.85], 1e-6);
    }
}

#[test]
fn sum_of_squares_by_hand_and_on_any_number_of_threads() {
    for device in devices() {
        assert_eq!(sum_of_squares(Tensor::<1>::from_floats([3.0, 4.0, -12.0], &device)), 169.0);
    }
    // Fewer than the 65,535 rounds after which lavapipe ends every loop.
    let x = normal(1, 60_001);
    let exact: f64 = x.iter().map(|x| f64::from(*x).powi(2)).sum();
    for device in devices() {
        let run = |device: &Device| sum_of_squares(Tensor::<1>::from_floats(x.as_slice(), device));
        assert!((run(&device) / exact - 1.0).abs() < 1e-5);
    }
    #[cfg(feature = "flex")]
    {
        let _switch = switch(true);
        let run = |threads| {
            let pool =
                rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
            pool.install(|| sum_of_squares(Tensor::<1>::from_floats(x.as_slice(), &Device::flex())))
        };
        assert_eq!([1, 2, 3].map(run), [run(1); 3]);
    }
}

/// Two more steps after saving and loading are the two steps without.
#[test]
fn adamw_continues_from_its_record() {
    use burn::{
        module::{Module, Param},
        optim::{GradientsParams, ModuleOptimizer},
    };

    #[derive(Module, Debug)]
    struct Line {
        weight: Param<Tensor<1>>,
    }

    let step = |optimizer: &mut ModuleOptimizer, line: Line, index| {
        let weights =
            Tensor::<1>::from_floats(normal(index, 5).as_slice(), &line.weight.val().device());
        let grads = (line.weight.val() * weights).sum().backward();
        let grads = GradientsParams::from_grads(grads, &line);
        optimizer.step(0.01, line, grads)
    };
    for device in devices() {
        let weight = Tensor::<1>::from_floats(normal(1, 5).as_slice(), &device.autodiff());
        let line = Line { weight: Param::from_tensor(weight) };
        let mut optimizer = ModuleOptimizer::from(AdamW::new(0.1));
        let line = step(&mut optimizer, line, 2);
        let bytes = optimizer.into_bytes().expect("a record");
        let mut loaded =
            ModuleOptimizer::from(AdamW::new(0.1)).from_bytes(bytes).expect("its record");
        let fresh = step(&mut ModuleOptimizer::from(AdamW::new(0.1)), line.clone(), 3);
        let expected = values(step(&mut optimizer, line.clone(), 3).weight.val());
        assert_eq!(values(step(&mut loaded, line, 3).weight.val()), expected);
        assert_ne!(values(fresh.weight.val()), expected, "the record matters");
    }
}

#[test]
fn dot_products_by_hand_and_in_double_precision() {
    for device in devices() {
        let tensor = |x: &[f32]| Tensor::<1>::from_floats(x, &device);
        // 3 * 2 + 4 * 0.5 - 12 * 1
        assert_eq!(dot_product(tensor(&[3.0, 4.0, -12.0]), tensor(&[2.0, 0.5, 1.0])), -4.0);
        let (x, y) = (normal(1, 40_003), normal(2, 40_003));
        let expected: f64 = x.iter().zip(&y).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum();
        let got = dot_product(tensor(&x), tensor(&y));
        assert!((got - expected).abs() < 0.05, "{got} {expected}");
    }
}
