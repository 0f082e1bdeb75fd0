//! How quantities are said to a person.

use std::fmt;

/// A number of things.
pub(crate) struct Count(pub(crate) usize);

/// A number of bytes.
pub(crate) struct Bytes(pub(crate) u64);

/// Seconds, roughly.
pub(crate) struct Duration(pub(crate) f64);

/// One number as a share of another.
pub(crate) struct Share(pub(crate) usize, pub(crate) usize);

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            count @ 0..10_000 => f.pad(&count.to_string()),
            count @ 10_000..1_000_000 => f.pad(&format!("{:.1} k", count as f64 / 1e3)),
            count => f.pad(&format!("{:.1} M", count as f64 / 1e6)),
        }
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bytes @ 0..1_000_000_000 => f.pad(&format!("{} MB", bytes.div_ceil(1_000_000))),
            bytes => f.pad(&format!("{:.1} GB", bytes as f64 / 1e9)),
        }
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            seconds if seconds < 90.0 => f.pad(&format!("{:.0} s", seconds.ceil())),
            seconds if seconds < 5400.0 => f.pad(&format!("{:.0} min", seconds / 60.0)),
            seconds => f.pad(&format!("{:.1} h", seconds / 3600.0)),
        }
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{:.1} %", 100.0 * self.0 as f64 / self.1.max(1) as f64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_said_with_few_digits() {
        let said = [Count(9_999), Count(10_049), Count(22_713_216)].map(|count| count.to_string());
        assert_eq!(said, ["9999", "10.0 k", "22.7 M"]);
        let said = [Bytes(1), Bytes(640_000_000), Bytes(1_640_000_000)].map(|b| b.to_string());
        assert_eq!(said, ["1 MB", "640 MB", "1.6 GB"]);
        let said = [0.2, 89.0, 120.0, 5399.0, 9000.0].map(|s| Duration(s).to_string());
        assert_eq!(said, ["1 s", "89 s", "2 min", "90 min", "2.5 h"]);
        assert_eq!(Share(31, 8544).to_string(), "0.4 %");
        assert_eq!(Share(0, 0).to_string(), "0.0 %");
    }
}
