//! How runs lie around their mean, and whether a difference is more than chance.

use serde::Serialize;

/// How the values of several runs lie.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Summary {
    /// How many values there are.
    pub n: usize,
    /// Their mean.
    pub mean: f64,
    /// Their standard deviation, over `n - 1`; one value has none.
    pub sd: Option<f64>,
    /// The value in the middle, or the mean of the two there.
    pub median: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
}

impl Summary {
    /// The summary of `values`, of which there must be one; `None` where there is none.
    pub fn new(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (n, middle) = (sorted.len(), sorted.len() / 2);
        let (&min, &max) = (sorted.first()?, sorted.last()?);
        let median = if n % 2 == 1 {
            sorted[middle]
        } else {
            f64::midpoint(sorted[middle - 1], sorted[middle])
        };
        let (mean, sd) = mean_and_sd(values);
        Some(Self { n, mean, sd, median, min, max })
    }
}

/// A two-sided paired t-test: whether the mean of differences could be 0.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct TTest {
    /// The 95 % confidence interval of the mean difference.
    pub interval: [f64; 2],
    /// How probable a mean at least as far from 0 is, were there no difference.
    pub p: f64,
}

impl TTest {
    /// The test of `differences`; `None` of fewer than two, and of such as do not vary: their spread is unknown.
    ///
    /// # Source
    /// Student: "The Probable Error of a Mean" (Biometrika 6, 1908).
    pub fn new(differences: &[f64]) -> Option<Self> {
        let (mean, sd) = mean_and_sd(differences);
        let error = sd? / (differences.len() as f64).sqrt();
        // Differences of shares that are equal still differ by their rounding.
        let is_rounding = error <= 1e-12 * (1.0 + mean.abs());
        if is_rounding {
            return None;
        }
        let freedom = (differences.len() - 1) as f64;
        let half = t_quantile(freedom) * error;
        Some(Self { interval: [mean - half, mean + half], p: t_tails(mean / error, freedom) })
    }
}

/// An exact two-sided sign test on rows that one model answers rightly and the other does not: McNemar's test.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct SignTest {
    /// Rows that the first alone answers rightly.
    pub first: u64,
    /// Rows that the second alone answers rightly.
    pub second: u64,
    /// How probable a split at least as uneven is, were both equally good.
    pub p: f64,
}

impl SignTest {
    /// The test of these counts.
    ///
    /// # Source
    /// McNemar: "Note on the sampling error of the difference between correlated proportions or percentages"
    /// (Psychometrika 12, 1947), with the binomial distribution in place of its approximation.
    pub fn new(first: u64, second: u64) -> Self {
        let (fewer, all) = (first.min(second) as f64, (first + second) as f64);
        // The chance of at most `fewer` heads in `all` throws.
        let tail = if fewer == all { 1.0 } else { incomplete_beta(all - fewer, fewer + 1.0, 0.5) };
        Self { first, second, p: (2.0 * tail).min(1.0) }
    }
}

/// The mean, and the standard deviation over `n - 1`.
fn mean_and_sd(values: &[f64]) -> (f64, Option<f64>) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (mean, (values.len() > 1).then(|| (squares / (n - 1.0)).sqrt()))
}

/// The chance that Student's t with this freedom is at least as far from 0 as `t`.
fn t_tails(t: f64, freedom: f64) -> f64 {
    incomplete_beta(freedom / 2.0, 0.5, freedom / (freedom + t * t))
}

/// The t beyond which, on both sides together, 5 % lie.
fn t_quantile(freedom: f64) -> f64 {
    // The largest, at freedom 1, is 12.7; halving 60 times leaves nothing of a double.
    let (mut low, mut high) = (0.0, 16.0);
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if t_tails(middle, freedom) > 0.05 { low = middle } else { high = middle }
    }
    f64::midpoint(low, high)
}

/// The regularised incomplete beta function `I_x(a, b)`, for positive `a` and `b`.
///
/// # Source
/// NIST Digital Library of Mathematical Functions, 8.17.22 (the continued fraction) and 8.17.4 (the symmetry).
fn incomplete_beta(a: f64, b: f64, x: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return x.clamp(0.0, 1.0);
    }
    // The fraction converges fast on this side of the mean.
    if x > (a + 1.0) / (a + b + 2.0) {
        return 1.0 - incomplete_beta(b, a, 1.0 - x);
    }
    let front = a * x.ln() + b * (-x).ln_1p() + ln_gamma(a + b) - ln_gamma(a) - ln_gamma(b);
    front.exp() / a * beta_fraction(a, b, x)
}

/// `1 / (1 + d_1 / (1 + d_2 / (1 + ...)))`: each step multiplies by the ratio of two convergents, whose numerators and
/// denominators are kept as ratios to the ones before.
fn beta_fraction(a: f64, b: f64, x: f64) -> f64 {
    let away_from_zero = |value: f64| if value.abs() < 1e-300 { 1e-300 } else { value };
    // Before the first step the denominator is 1, and the one before that 0.
    let (mut numerator, mut denominator, mut value) = (1.0, f64::INFINITY, 1.0);
    for step in 1..10_000 {
        let m = f64::from(step / 2);
        let coefficient = if step % 2 == 1 {
            -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0))
        } else {
            m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m))
        };
        numerator = away_from_zero(1.0 + coefficient / numerator);
        denominator = away_from_zero(1.0 + coefficient / denominator);
        value *= numerator / denominator;
        if (numerator / denominator - 1.0).abs() < 1e-15 {
            break;
        }
    }
    1.0 / value
}

/// The logarithm of the gamma function, for positive `x`: Stirling's series, far enough out.
fn ln_gamma(x: f64) -> f64 {
    let (mut x, mut product) = (x, 1.0);
    while x < 12.0 {
        product *= x;
        x += 1.0;
    }
    let square = x * x;
    let terms = [1.0 / 12.0, -1.0 / 360.0, 1.0 / 1260.0, -1.0 / 1680.0, 1.0 / 1188.0];
    let series = terms.iter().rev().fold(0.0, |sum, term| sum / square + term) / x;
    (x - 0.5) * x.ln() - x + 0.5 * std::f64::consts::TAU.ln() + series - f64::ln(product)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[track_caller]
    fn assert_near(got: f64, expected: f64) {
        assert!((got - expected).abs() <= 1e-11 * (1.0 + expected.abs()), "{got} {expected}");
    }

    /// `scipy.special.gammaln(x)` and `scipy.special.betainc(a, b, x)`, scipy 1.17.1.
    #[test]
    fn special_functions_are_those_of_scipy() {
        for (x, expected) in [
            (0.5, 0.5723649429247),
            (1.0, 0.0),
            (2.5, 0.2846828704729192),
            (10.0, 12.801827480081469),
            (123.4, 469.3360974421906),
        ] {
            assert_near(ln_gamma(x), expected);
        }
        for (a, b, x, expected) in [
            (0.5, 0.5, 0.3, 0.36901011956554536),
            (2.0, 3.0, 0.4, 0.5247999999999999),
            (10.5, 0.5, 0.99, 0.6498436580780913),
            (40.0, 2.0, 0.9, 0.07390441470717302),
            (0.5, 7.0, 1e-6, 0.0029326113222744228),
            (300.0, 200.0, 0.61, 0.6741626935263771),
            (2.0, 3.0, 0.0, 0.0),
            (2.0, 3.0, 1.0, 1.0),
        ] {
            assert_near(incomplete_beta(a, b, x), expected);
        }
    }

    /// `2 * scipy.stats.t.sf(abs(t), df)` and `scipy.stats.t.ppf(0.975, df)`.
    #[test]
    fn students_t_is_that_of_scipy() {
        for (t, freedom, expected) in [
            (0.0, 3.0, 1.0),
            (1.5, 1.0, 0.3743340836219977),
            (2.776445105, 4.0, 0.05000000001011946),
            (-3.2, 9.0, 0.010831302589901321),
            (25.0, 2.0, 0.001596170211410334),
            (0.01, 50.0, 0.992061081367143),
        ] {
            assert_near(t_tails(t, freedom), expected);
        }
        for (freedom, expected) in [
            (1.0, 12.706204736174694),
            (2.0, 4.302652729749462),
            (4.0, 2.7764451051977934),
            (9.0, 2.262157162798205),
            (30.0, 2.0422724563012378),
            (1000.0, 1.9623390808264083),
        ] {
            assert_near(t_quantile(freedom), expected);
        }
    }

    /// `r = scipy.stats.ttest_rel(a, b)`: `r.pvalue` and `r.confidence_interval()`.
    #[test]
    fn the_paired_test_is_that_of_scipy() {
        let a = [0.912, 0.905, 0.921, 0.899, 0.917];
        let b = [0.901, 0.903, 0.909, 0.897, 0.910];
        let differences: Vec<f64> = a.iter().zip(b).map(|(a, b)| a - b).collect();
        let test = TTest::new(&differences).unwrap();
        assert_near(test.p, 0.03317191113577801);
        assert_near(test.interval[0], 0.0008841518531420524);
        assert_near(test.interval[1], 0.012715848146857958);
        assert_eq!(TTest::new(&differences[..1]), None);
        // Without a spread nothing can be said, whether or not rounding makes one.
        assert_eq!(TTest::new(&[0.01, 0.01]), None);
        assert_eq!(TTest::new(&[0.9 - 0.8, 0.5 - 0.4, 0.3 - 0.2]), None);
    }

    /// `scipy.stats.binomtest(k, n).pvalue`.
    #[test]
    fn the_sign_test_is_that_of_scipy() {
        for (fewer, all, expected) in [
            (0, 1, 1.0),
            (3, 10, 0.34375),
            (5, 10, 1.0),
            (22, 62, 0.030015864349067285),
            (0, 30, 1.862645149230957e-09),
            (480, 1000, 0.2174482932041415),
        ] {
            assert_near(SignTest::new(fewer, all - fewer).p, expected);
            assert_near(SignTest::new(all - fewer, fewer).p, expected);
        }
        assert_eq!(SignTest::new(0, 0).p, 1.0);
    }

    #[test]
    fn summaries_by_hand() {
        // Mean 20 / 4 = 5, squares 16 + 4 + 4 + 16 = 40, over 3.
        let summary = Summary::new(&[9.0, 1.0, 3.0, 7.0]).unwrap();
        assert_eq!((summary.n, summary.mean, summary.median), (4, 5.0, 5.0));
        assert_eq!((summary.min, summary.max), (1.0, 9.0));
        assert_near(summary.sd.unwrap(), (40.0f64 / 3.0).sqrt());
        let one = Summary::new(&[2.0]).unwrap();
        assert_eq!((one.median, one.sd), (2.0, None));
        assert_eq!(Summary::new(&[3.0, 1.0, 2.0]).unwrap().median, 2.0);
        assert_eq!(Summary::new(&[]), None);
    }
}
