//! Tensors in memory, among those of files.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use safetensors::Dtype;

use super::{NamedTensor, TensorInfo};
use crate::error::{Error, Result};

#[derive(Debug)]
pub(super) struct HeldTensors {
    /// The file that they were made from.
    path: PathBuf,
    tensors: BTreeMap<String, NamedTensor>,
}

impl HeldTensors {
    pub(super) fn new(path: &Path, tensors: Vec<NamedTensor>) -> Self {
        let named = tensors.into_iter().map(|tensor| {
            assert_eq!(tensor.shape.iter().product::<usize>(), tensor.values.len());
            (tensor.name.clone(), tensor)
        });
        Self { path: path.into(), tensors: named.collect() }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn list(&self) -> Vec<TensorInfo> {
        let info = |tensor: &NamedTensor| TensorInfo {
            spelling: tensor.name.clone(),
            shape: tensor.shape.clone(),
            dtype: Dtype::F32,
        };
        self.tensors.values().map(info).collect()
    }

    pub(super) fn read(&self, info: &TensorInfo) -> Result<Vec<u8>> {
        let missing =
            || Error::Read { path: self.path.clone(), source: io::ErrorKind::NotFound.into() };
        let tensor = self.tensors.get(&info.spelling).ok_or_else(missing)?;
        Ok(tensor.values.iter().flat_map(|value| value.to_le_bytes()).collect())
    }
}
