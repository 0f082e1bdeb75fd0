//! How exactly affine maps multiply.

use std::{
    fmt,
    str::FromStr,
    sync::atomic::{AtomicBool, Ordering},
};

use burn::tensor::Device;
use serde::{Deserialize, Serialize};

/// How affine maps multiply their float32 operands; results are always float32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// As they are.
    #[default]
    Float32,
    /// Rounded to bfloat16, forwards and backwards, with sums in float32.
    ///
    /// Only [`linear`](crate::linear()) has it, and only on flex: attention, norms, losses, weights and the optimiser stay
    /// float32. Processors with AVX-512 BF16 multiply so at up to twice the speed; others do it slower than float32.
    Bfloat16,
}

static BFLOAT16: AtomicBool = AtomicBool::new(false);

/// Sets the precision of affine maps for the whole process; at the start it is float32.
pub fn set_precision(precision: Precision) {
    BFLOAT16.store(precision == Precision::Bfloat16, Ordering::Relaxed);
}

impl Precision {
    /// Whether affine maps on `device` can have it.
    pub fn is_available(self, device: &Device) -> bool {
        #[cfg(feature = "flex")]
        let is_flex = device.clone().inner() == Device::flex();
        #[cfg(not(feature = "flex"))]
        let is_flex = {
            let _ = device;
            false
        };
        self == Self::Float32 || is_flex
    }

    /// The precision of affine maps.
    #[cfg(feature = "flex")]
    pub(crate) fn current() -> Self {
        if BFLOAT16.load(Ordering::Relaxed) { Self::Bfloat16 } else { Self::Float32 }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Float32 => "float32",
            Self::Bfloat16 => "bfloat16",
        })
    }
}

/// A name that no precision has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParsePrecisionError(String);

impl fmt::Display for ParsePrecisionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unknown precision {:?}: expected float32 or bfloat16", self.0)
    }
}

impl std::error::Error for ParsePrecisionError {}

impl FromStr for Precision {
    type Err = ParsePrecisionError;

    fn from_str(name: &str) -> Result<Self, ParsePrecisionError> {
        [Self::Float32, Self::Bfloat16]
            .into_iter()
            .find(|precision| precision.to_string() == name)
            .ok_or_else(|| ParsePrecisionError(name.to_owned()))
    }
}
