//! Whether a model is right as often as it says it is.

use crate::report::chart::{Frame, bar, figure};

/// The parts of the probabilities from 0 to 1.
const BINS: usize = 10;

/// The rows whose answers have like probabilities.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Bin {
    pub(crate) rows: usize,
    /// The share of them that is right.
    pub(crate) accuracy: f64,
    /// The mean probability of their answers.
    pub(crate) confidence: f64,
}

/// Answers by their probability.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Calibration {
    pub(crate) bins: Vec<Bin>,
}

impl Calibration {
    /// Of answers with their probabilities, and whether each is right.
    pub(crate) fn new(answers: impl Iterator<Item = (f64, bool)>) -> Self {
        let mut sums = [(0, 0, 0.0); BINS];
        for (probability, is_right) in answers {
            let bin = ((probability * BINS as f64) as usize).min(BINS - 1);
            let (rows, right, sum) = &mut sums[bin];
            (*rows, *right, *sum) = (*rows + 1, *right + usize::from(is_right), *sum + probability);
        }
        let bin = |(rows, right, sum): (usize, usize, f64)| match rows {
            0 => Bin::default(),
            rows => {
                Bin { rows, accuracy: right as f64 / rows as f64, confidence: sum / rows as f64 }
            }
        };
        Self { bins: sums.map(bin).to_vec() }
    }

    /// The mean over the answers of how far accuracy and probability are apart where their bin lies: expected calibration error,
    /// from 0 to 1.
    ///
    /// # Source
    /// Naeini, Cooper, Hauskrecht: "Obtaining well calibrated probabilities using Bayesian binning" (AAAI 2015); Guo et al.
    /// (arXiv:1706.04599).
    pub(crate) fn expected_error(&self) -> f64 {
        let rows: usize = self.bins.iter().map(|bin| bin.rows).sum();
        let of_bin = |bin: &Bin| bin.rows as f64 * (bin.accuracy - bin.confidence).abs();
        self.bins.iter().map(of_bin).sum::<f64>() / rows.max(1) as f64
    }

    /// The reliability diagram: a bar as high as the accuracy of a bin, and the line on which a calibrated model's bars end.
    pub(crate) fn diagram(&self) -> String {
        let frame = Frame::new((0.0, 1.0), (0.0, 1.0));
        let mut svg = frame.axes("probability");
        let width = frame.x(1.0 / BINS as f64) - frame.x(0.0);
        for (place, bin) in self.bins.iter().enumerate().filter(|(_, bin)| bin.rows > 0) {
            let from = frame.x(place as f64 / BINS as f64);
            let Bin { rows, accuracy, confidence } = bin;
            svg += &format!(
                "<g><title>{rows} rows, probability {confidence:.3}, right {accuracy:.3}</title>{}</g>",
                bar(&frame, 0, (from, width), *accuracy)
            );
        }
        let at = |value| format!("{:.1} {:.1}", frame.x(value), frame.y(value));
        svg += &format!("<path class=\"curve dash c1\" d=\"M{}L{}\"/>", at(0.0), at(1.0));
        let keys = "<span class=\"key c0\">share that is right</span><span class=\"key c1\">calibrated</span>";
        figure("Calibration", keys, &svg)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two answers at 0.9 and 1.0, one right: |0.5 - 0.95| over two rows; one at 0.55 that is right: |1 - 0.55| over one.
    /// (2 * 0.45 + 0.45) / 3 = 0.45.
    #[test]
    fn expected_calibration_error_by_hand() {
        let calibration = Calibration::new([(0.9, true), (1.0, false), (0.55, true)].into_iter());
        assert!((calibration.expected_error() - 0.45).abs() < 1e-12);
        assert_eq!(calibration.bins[9].rows, 2);
        assert_eq!(calibration.bins[5], Bin { rows: 1, accuracy: 1.0, confidence: 0.55 });
        let html = calibration.diagram();
        assert_eq!(html.matches("<rect").count(), 2, "{html}");
    }

    #[test]
    fn nothing_is_off_where_nothing_was_answered() {
        assert_eq!(Calibration::new(std::iter::empty()).expected_error(), 0.0);
        // As sure as it is right.
        let sure = Calibration::new([(1.0, true), (1.0, true)].into_iter());
        assert_eq!(sure.expected_error(), 0.0);
    }
}
