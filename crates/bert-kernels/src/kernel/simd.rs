//! One body, compiled for several instruction sets, and the elementary functions that bodies are made of.

/// What a kernel is compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
pub(crate) enum Level {
    /// AVX-512.
    V4,
    /// AVX2 with fused multiply-add.
    V3,
    /// What every machine of the target has.
    Portable,
}

/// The best level of this machine.
#[inline]
pub(crate) fn level() -> Level {
    #[cfg(test)]
    if tests::PORTABLE.load(std::sync::atomic::Ordering::Relaxed) {
        return Level::Portable;
    }
    #[cfg(test)]
    if tests::NARROW.load(std::sync::atomic::Ordering::Relaxed) && narrow() {
        return Level::V3;
    }
    #[cfg(target_arch = "x86_64")]
    {
        // The features are those of the attributes in `simd!`.
        if is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
        {
            return Level::V4;
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            return Level::V3;
        }
    }
    Level::Portable
}

/// Whether the machine has [`Level::V3`].
#[cfg(test)]
fn narrow() -> bool {
    #[cfg(target_arch = "x86_64")]
    return is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// Defines a function whose body is compiled once for each [`Level`] and runs at the best one of the machine.
///
/// In the body `FMA` says whether multiply-add is one instruction. Results may differ in rounding between levels.
macro_rules! simd {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $type:ty),* $(,)?) $(-> $result:ty)? $body:block) => {
        $(#[$meta])*
        #[allow(clippy::too_many_arguments)]
        $vis fn $name($($arg: $type),*) $(-> $result)? {
            #[inline(always)]
            #[allow(unused_variables, clippy::too_many_arguments)]
            fn body<const FMA: bool>($($arg: $type),*) $(-> $result)? $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
                #[allow(clippy::too_many_arguments)]
                fn v4($($arg: $type),*) $(-> $result)? {
                    body::<true>($($arg),*)
                }
                #[target_feature(enable = "avx2,fma")]
                #[allow(clippy::too_many_arguments)]
                fn v3($($arg: $type),*) $(-> $result)? {
                    body::<true>($($arg),*)
                }
                match $crate::kernel::simd::level() {
                    // SAFETY: `level` has found every feature of `v4` on this machine.
                    $crate::kernel::simd::Level::V4 => return unsafe { v4($($arg),*) },
                    // SAFETY: `level` has found every feature of `v3` on this machine.
                    $crate::kernel::simd::Level::V3 => return unsafe { v3($($arg),*) },
                    $crate::kernel::simd::Level::Portable => {}
                }
            }
            body::<false>($($arg),*)
        }
    };
}
pub(crate) use simd;

/// Numbers that one vector of the widest level holds; sums run over this many lanes at every level.
pub(crate) const LANES: usize = 16;

/// `a b + c`.
#[inline(always)]
pub(crate) fn multiply_add<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

/// `e^x` for `x <= 0`, within 2 units in the last place down to -87, and at least 1e-38 below.
#[inline(always)]
pub(crate) fn exp<const FMA: bool>(x: f32) -> f32 {
    // Added, it leaves the integer nearest to a small number in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    // ln 2, the first part short enough that its multiples are exact.
    const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
    // (e^r - 1 - r) / r^2 on [-ln 2 / 2, ln 2 / 2], fitted for the least relative error of e^r: 3e-9.
    const COEFFICIENTS: [f32; 5] =
        [0.499_999_94, 0.166_665_21, 0.041_668_39, 0.008_368_717, 0.001_381_459_9];
    // Written so that NaN stays.
    let x = if x < -87.0 { -87.0 } else { x };
    let shifted = multiply_add::<FMA>(x, std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = multiply_add::<FMA>(n, -LN_2[1], multiply_add::<FMA>(n, -LN_2[0], x));
    let [c0, c1, c2, c3, c4] = COEFFICIENTS;
    let p = multiply_add::<FMA>(c4, r, c3);
    let p = multiply_add::<FMA>(p, r, c2);
    let p = multiply_add::<FMA>(p, r, c1);
    let p = multiply_add::<FMA>(p, r, c0);
    let p = multiply_add::<FMA>(p, r * r, r) + 1.0;
    // 2^n: the exponent bits of n + 127.
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(127 << 23));
    p * power
}

/// The distribution function of the standard normal at `-|x|`, and `e^(-x^2 / 2)`.
#[inline(always)]
pub(crate) fn normal_tail<const FMA: bool>(x: f32) -> (f32, f32) {
    // Phi(-u) e^(u^2 / 2) / t as a polynomial in t = 1 / (1 + P u) on [0, 14], fitted for the least relative
    // error: 3e-8.
    const P: f32 = 0.34;
    const COEFFICIENTS: [f32; 9] = [
        0.135_620_5,
        0.136_112_2,
        0.115_197_66,
        0.115_359_17,
        -0.044_718_485,
        0.202_182_73,
        -0.273_132_8,
        0.139_499_52,
        -0.026_120_48,
    ];
    let u = x.abs();
    let t = 1.0 / multiply_add::<FMA>(P, u, 1.0);
    let power = exp::<FMA>(-0.5 * u * u);
    let mut p = COEFFICIENTS[8];
    for c in COEFFICIENTS[..8].iter().rev() {
        p = multiply_add::<FMA>(p, t, *c);
    }
    (power * t * p, power)
}

/// The sum of `f` over a row, lane by lane.
#[inline(always)]
pub(crate) fn sum(row: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0.0; LANES];
    let (chunks, rest) = row.as_chunks::<LANES>();
    for chunk in chunks {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *lane += f(*x);
        }
    }
    for (lane, x) in lanes.iter_mut().zip(rest) {
        *lane += f(*x);
    }
    sum_lanes(lanes)
}

/// The sum of the products of two rows, lane by lane.
#[inline(always)]
pub(crate) fn dot(x: &[f32], y: &[f32]) -> f32 {
    let mut lanes = [0.0; LANES];
    let ((x_chunks, x_rest), (y_chunks, y_rest)) = (x.as_chunks::<LANES>(), y.as_chunks::<LANES>());
    for (x, y) in x_chunks.iter().zip(y_chunks) {
        for ((lane, x), y) in lanes.iter_mut().zip(x).zip(y) {
            *lane += x * y;
        }
    }
    for ((lane, x), y) in lanes.iter_mut().zip(x_rest).zip(y_rest) {
        *lane += x * y;
    }
    sum_lanes(lanes)
}

/// The sum of lanes, pair by pair.
#[inline(always)]
pub(crate) fn sum_lanes(mut lanes: [f32; LANES]) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            lanes[i] += lanes[i + width];
        }
        width /= 2;
    }
    lanes[0]
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;

    /// Makes kernels run at the lower levels, for tests; results of other tests may then differ in rounding only.
    pub(crate) static PORTABLE: AtomicBool = AtomicBool::new(false);
    pub(crate) static NARROW: AtomicBool = AtomicBool::new(false);

    simd! {
        fn exps(x: &[f32], out: &mut [f32]) {
            for (out, x) in out.iter_mut().zip(x) {
                *out = exp::<FMA>(*x);
            }
        }
    }

    simd! {
        fn tails(x: &[f32], out: &mut [f32]) {
            for (out, x) in out.iter_mut().zip(x) {
                *out = normal_tail::<FMA>(*x).0;
            }
        }
    }

    /// Exponentials within 2 units in the last place (1.2e-7 is one, at worst).
    #[test]
    fn exp_is_accurate() {
        let x: Vec<f32> = (0..=87_000).map(|i| -(i as f32) / 1000.0).collect();
        let mut y = vec![0.0; x.len()];
        exps(&x, &mut y);
        for (x, y) in x.iter().zip(&y) {
            let exact = f64::from(*x).exp();
            assert!((f64::from(*y) / exact - 1.0).abs() < 1.8e-7, "{x}: {y}");
        }
        let mut special = [1.0; 4];
        exps(&[f32::NEG_INFINITY, -1e30, 0.0, f32::NAN], &mut special);
        assert!(special[0] < 2e-38 && special[1] < 2e-38);
        assert_eq!(special[2], 1.0);
        assert!(special[3].is_nan());
    }

    /// Phi(-x) at tabulated points (Abramowitz and Stegun, table 26.1).
    #[test]
    fn normal_tail_is_accurate() {
        let table = [
            (0.0, 0.5),
            (0.5, 0.308_537_538_726),
            (1.0, 0.158_655_253_931),
            (2.0, 0.022_750_131_948),
            (3.0, 0.001_349_898_032),
            (4.0, 3.167_124_183e-5),
            (5.0, 2.866_515_719e-7),
        ];
        let x: Vec<f32> = table.iter().map(|row| row.0).collect();
        let mut y = vec![0.0; x.len()];
        tails(&x, &mut y);
        for ((x, exact), y) in table.iter().zip(&y) {
            assert!((f64::from(*y) / exact - 1.0).abs() < 1e-6, "{x}: {y}");
        }
    }

    #[test]
    fn lanes_are_summed() {
        assert_eq!(sum_lanes(std::array::from_fn(|i| i as f32)), 120.0);
        let x: Vec<f32> = (0..21).map(|i| i as f32).collect();
        assert_eq!(sum(&x, |x| 2.0 * x), 420.0);
        // 20 * 21 * 41 / 6
        assert_eq!(dot(&x, &x), 2870.0);
    }
}
