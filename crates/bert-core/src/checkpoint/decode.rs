//! Little-endian bytes of a tensor from and to 32-bit floats.

use burn::tensor::{bf16, f16};
use safetensors::Dtype;

/// A way of reading a tensor's bytes.
pub(super) type Decoder = fn(&[u8]) -> Vec<f32>;

/// How to read elements of this type, where they are floating-point numbers.
pub(super) fn decoder(dtype: Dtype) -> Option<Decoder> {
    match dtype {
        Dtype::F32 => Some(|bytes| each(bytes, f32::from_le_bytes)),
        Dtype::F16 => Some(|bytes| each(bytes, |b| f16::from_le_bytes(b).to_f32())),
        Dtype::BF16 => Some(|bytes| each(bytes, |b| bf16::from_le_bytes(b).to_f32())),
        Dtype::F64 => Some(|bytes| each(bytes, |b| f64::from_le_bytes(b) as f32)),
        _ => None,
    }
}

/// A way of writing 32-bit floats as a tensor's bytes.
pub(super) type Encoder = fn(&[f32]) -> Vec<u8>;

/// How to write elements of this type, where they are floating-point numbers.
pub(super) fn encoder(dtype: Dtype) -> Option<Encoder> {
    match dtype {
        Dtype::F32 => Some(|values| all(values, f32::to_le_bytes)),
        Dtype::F16 => Some(|values| all(values, |v| f16::from_f32(v).to_le_bytes())),
        Dtype::BF16 => Some(|values| all(values, |v| bf16::from_f32(v).to_le_bytes())),
        Dtype::F64 => Some(|values| all(values, |v| f64::from(v).to_le_bytes())),
        _ => None,
    }
}

fn all<const N: usize>(values: &[f32], bytes: impl Fn(f32) -> [u8; N]) -> Vec<u8> {
    values.iter().flat_map(|value| bytes(*value)).collect()
}

fn each<const N: usize>(bytes: &[u8], value: impl Fn([u8; N]) -> f32) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|chunk| value(*chunk)).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn numbers_by_hand() {
        // 1.5 = 1.1b * 2^0, -2 = -1.0b * 2^1: sign, exponent and mantissa bits of each format.
        let read = |dtype, bytes: &[u8]| decoder(dtype).unwrap()(bytes);
        assert_eq!(read(Dtype::F32, &[0, 0, 0xC0, 0x3F, 0, 0, 0, 0xC0]), [1.5, -2.0]);
        assert_eq!(read(Dtype::F16, &[0x00, 0x3E, 0x00, 0xC0]), [1.5, -2.0]);
        assert_eq!(read(Dtype::BF16, &[0xC0, 0x3F, 0x00, 0xC0]), [1.5, -2.0]);
        assert_eq!(read(Dtype::F64, &[0, 0, 0, 0, 0, 0, 0xF8, 0x3F]), [1.5]);
        assert_eq!(read(Dtype::F16, &[1, 0]), [2_f32.powi(-24)]); // the smallest subnormal
        assert!(decoder(Dtype::I64).is_none() && decoder(Dtype::F8_E4M3).is_none());
    }
}
