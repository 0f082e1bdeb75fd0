//! Writing weights as safetensors.

use std::{
    collections::BTreeSet,
    fmt,
    io::{self, Write},
    path::Path,
};

use safetensors::{
    Dtype, SafeTensorError,
    tensor::{self, Metadata},
};

use super::TensorInfo;
use crate::{
    atomic_file::write_atomically_with,
    error::{Error, Result},
};

/// A tensor as a checkpoint holds it: linear weights are `[out, in]`.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedTensor {
    /// Hugging Face's name, for example `encoder.layer.0.attention.self.query.weight`.
    pub name: String,
    /// The sizes of its axes.
    pub shape: Vec<usize>,
    /// The values, the last axis varying fastest.
    pub values: Vec<f32>,
}

/// A tensor whose values are made when they are written.
pub struct LazyTensor<'a> {
    /// Its name.
    pub name: String,
    /// The sizes of its axes.
    pub shape: Vec<usize>,
    /// Gives the values, the last axis varying fastest.
    pub values: Box<dyn FnOnce() -> Vec<f32> + 'a>,
}

impl fmt::Debug for LazyTensor<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, shape, .. } = self;
        f.debug_struct("LazyTensor")
            .field("name", name)
            .field("shape", shape)
            .finish_non_exhaustive()
    }
}

/// [`write_safetensors`] of tensors that are made one after the other, so that no more than one of them is in memory.
///
/// # Errors
/// A name comes twice, the values do not fill the shape, or the file cannot be written.
pub fn write_safetensors_lazily(path: impl AsRef<Path>, tensors: Vec<LazyTensor>) -> Result<()> {
    let path = path.as_ref();
    check_names(path, tensors.iter().map(|tensor| &tensor.name))?;
    let infos =
        tensors.iter().map(|tensor| (tensor.name.clone(), Dtype::F32, tensor.shape.clone()));
    let header = padded_header(path, infos)?;
    let mut unfilled = None;
    let written = write_atomically_with(path, |file| {
        file.write_all(&(header.len() as u64).to_le_bytes())?;
        file.write_all(&header)?;
        tensors.into_iter().try_for_each(|LazyTensor { name, shape, values }| {
            let values = values();
            if shape.iter().product::<usize>() != values.len() {
                let (path, found) = (path.to_owned(), values.len());
                unfilled = Some(Error::TensorLength { path, tensor: name, shape, found });
                return Err(io::Error::other("the values do not fill the shape"));
            }
            write_values(file, &values)
        })
    });
    unfilled.map_or(written, Err)
}

/// Writes tensors as 32-bit floats to a
/// safetensors file that Hugging Face's loaders accept, whole or not at all.
///
/// # Errors
/// A name comes twice, the values do not fill the shape, or the file cannot be written.
pub fn write_safetensors(path: impl AsRef<Path>, tensors: &[NamedTensor]) -> Result<()> {
    let path = path.as_ref();
    let header = header(path, tensors)?;
    write_atomically_with(path, |file| {
        file.write_all(&(header.len() as u64).to_le_bytes())?;
        file.write_all(&header)?;
        tensors.iter().try_for_each(|tensor| write_values(file, &tensor.values))
    })
}

/// Writes tensors whose bytes are made one after the other, whole or not at all.
pub(super) fn write_parts<F: FnOnce() -> io::Result<Vec<u8>>>(
    path: &Path,
    mut parts: Vec<(TensorInfo, F)>,
) -> Result<()> {
    // The widest elements first, so that all are aligned.
    parts.sort_by_key(|(info, _)| std::cmp::Reverse(info.dtype.bitsize()));
    let header = padded_header(
        path,
        parts.iter().map(|(info, _)| (info.spelling.clone(), info.dtype, info.shape.clone())),
    )?;
    write_atomically_with(path, |file| {
        file.write_all(&(header.len() as u64).to_le_bytes())?;
        file.write_all(&header)?;
        parts.into_iter().try_for_each(|(_, bytes)| file.write_all(&bytes()?))
    })
}

/// The header of tensors that fit into a file together.
fn header(path: &Path, tensors: &[NamedTensor]) -> Result<Vec<u8>> {
    for NamedTensor { name, shape, values } in tensors {
        let size = shape.iter().try_fold(1_usize, |size, axis| size.checked_mul(*axis));
        if size != Some(values.len()) {
            let (tensor, shape, found) = (name.clone(), shape.clone(), values.len());
            return Err(Error::TensorLength { path: path.into(), tensor, shape, found });
        }
    }
    check_names(path, tensors.iter().map(|tensor| &tensor.name))?;
    let infos =
        tensors.iter().map(|tensor| (tensor.name.clone(), Dtype::F32, tensor.shape.clone()));
    padded_header(path, infos)
}

/// Refuses a name that comes twice.
fn check_names<'a>(path: &Path, names: impl Iterator<Item = &'a String>) -> Result<()> {
    let mut seen = BTreeSet::new();
    for name in names {
        if !seen.insert(name) {
            let [tensor, first, second] = [(); 3].map(|()| name.clone());
            return Err(Error::DuplicateTensor { path: path.into(), tensor, first, second });
        }
    }
    Ok(())
}

/// The header of tensors that lie one behind the other, padded with blanks so that the values are aligned.
fn padded_header(
    path: &Path,
    tensors: impl Iterator<Item = (String, Dtype, Vec<usize>)>,
) -> Result<Vec<u8>> {
    let mut start = 0;
    let infos = tensors.map(|(name, dtype, shape)| {
        let end = start + shape.iter().product::<usize>() * dtype.bitsize() / 8;
        let data_offsets = (start, end);
        start = end;
        (name, tensor::TensorInfo { dtype, shape, data_offsets })
    });
    let infos = infos.collect();
    let format = [("format".into(), "pt".into())].into();
    let refuse = |source| Error::Safetensors { path: path.into(), source };
    let metadata = Metadata::new(Some(format), infos).map_err(refuse)?;
    let mut header =
        serde_json::to_vec(&metadata).map_err(|e| refuse(SafeTensorError::JsonError(e)))?;
    header.resize(header.len().next_multiple_of(8), b' ');
    Ok(header)
}

fn write_values(file: &mut dyn Write, values: &[f32]) -> io::Result<()> {
    let mut bytes = Vec::with_capacity(1 << 16);
    for block in values.chunks(1 << 14) {
        bytes.clear();
        bytes.extend(block.iter().flat_map(|value| value.to_le_bytes()));
        file.write_all(&bytes)?;
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;

    use proptest::prelude::*;
    use safetensors::SafeTensors;

    use super::*;
    use crate::checkpoint::Checkpoint;

    fn tensor(name: &str, shape: &[usize], values: &[f32]) -> NamedTensor {
        NamedTensor { name: name.into(), shape: shape.into(), values: values.into() }
    }

    #[test]
    fn the_file_is_what_hugging_face_expects() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.safetensors");
        let tensors = [tensor("b", &[2, 1], &[1.0, -2.0]), tensor("a", &[], &[0.5])];
        write_safetensors(&path, &tensors).unwrap();
        let bytes = fs::read(&path).unwrap();
        let (header, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
        assert_eq!(header % 8, 0);
        assert_eq!(metadata.metadata().as_ref().unwrap()["format"], "pt");
        let file = SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(file.tensor("b").unwrap().shape(), [2, 1]);
        assert_eq!(file.tensor("b").unwrap().data(), [0, 0, 0x80, 0x3F, 0, 0, 0, 0xC0]);
        assert_eq!(file.tensor("a").unwrap().shape(), [] as [usize; 0]);
    }

    #[test]
    fn values_must_fill_the_shape() {
        let tensors = [tensor("a", &[2, 3], &[0.0; 5])];
        assert_eq!(
            write_safetensors("m.safetensors", &tensors).unwrap_err().to_string(),
            "m.safetensors: a of shape [2, 3] was given 5 values"
        );
        let tensors = [tensor("a", &[usize::MAX, 2], &[])];
        assert!(write_safetensors("m.safetensors", &tensors).is_err());
    }

    /// Tensors that are made one by one give the same file, and the same faults, which leave nothing behind.
    #[test]
    fn lazy_tensors_are_written_alike() {
        let dir = tempfile::tempdir().unwrap();
        let [eager, lazy] = ["eager", "lazy"].map(|name| dir.path().join(name));
        let tensors = [tensor("b", &[2, 1], &[1.0, -2.0]), tensor("a", &[], &[0.5])];
        let of = |tensors: &[NamedTensor]| -> Vec<LazyTensor> {
            let lazy = |NamedTensor { name, shape, values }: NamedTensor| {
                let values: Box<dyn FnOnce() -> Vec<f32>> = Box::new(move || values);
                LazyTensor { name, shape, values }
            };
            tensors.iter().cloned().map(lazy).collect()
        };
        write_safetensors(&eager, &tensors).unwrap();
        write_safetensors_lazily(&lazy, of(&tensors)).unwrap();
        assert_eq!(fs::read(&lazy).unwrap(), fs::read(&eager).unwrap());
        for wrong in [
            vec![tensor("a", &[2, 3], &[0.0; 5])],
            ["a", "a"].map(|name| tensor(name, &[1], &[0.0])).to_vec(),
        ] {
            let path = dir.path().join("wrong");
            let [expected, got] = [
                write_safetensors(&path, &wrong).unwrap_err(),
                write_safetensors_lazily(&path, of(&wrong)).unwrap_err(),
            ];
            assert_eq!(got.to_string(), expected.to_string());
            assert!(!path.exists());
        }
    }

    #[test]
    fn a_name_may_come_once() {
        let tensors = ["a", "a"].map(|name| tensor(name, &[1], &[0.0]));
        assert_eq!(
            write_safetensors("m.safetensors", &tensors).unwrap_err().to_string(),
            "m.safetensors: a and a are both a; remove one of them"
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, cases: 64, ..Default::default() })]

        /// Any bits, NaN and infinities among them, in any shape, come back as they were.
        #[test]
        fn what_is_written_is_read(shapes in prop::collection::vec(prop::collection::vec(0..7_usize, 0..4), 0..6), seed: u32) {
            let mut bits = seed;
            let mut tensors = Vec::new();
            for (i, shape) in shapes.into_iter().enumerate() {
                let size = shape.iter().product();
                let next = || { bits = bits.wrapping_mul(1_664_525).wrapping_add(1_013_904_223); f32::from_bits(bits) };
                let values: Vec<f32> = std::iter::repeat_with(next).take(size).collect();
                tensors.push(tensor(&format!("t{i}"), &shape, &values));
            }
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("m.safetensors");
            write_safetensors(&path, &tensors).unwrap();
            let opened = Checkpoint::open_file(&path).unwrap();
            prop_assert_eq!(opened.names().count(), tensors.len());
            for NamedTensor { name, shape, values } in tensors {
                let (read_shape, read) = opened.tensor(&name).unwrap();
                prop_assert_eq!(read_shape, shape);
                let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
                prop_assert_eq!(bits(&read), bits(&values));
            }
        }
    }
}
