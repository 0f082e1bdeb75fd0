//! One file of `torch.save`, read without executing anything it holds.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use burn_store::{
    pytorch::PytorchReader,
    pytorch_reader::{DType, Tensor},
};
use safetensors::Dtype;

use super::TensorInfo;
use crate::error::{Error, Result};

pub(super) struct PyTorchFile {
    path: PathBuf,
    tensors: HashMap<String, Tensor>,
}

impl PyTorchFile {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let reader = PytorchReader::new(path)
            .map_err(|source| Error::PyTorch { path: path.into(), source: Box::new(source) })?;
        Ok(Self { path: path.into(), tensors: reader.into_tensors() })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn list(&self) -> Vec<TensorInfo> {
        let info = |(spelling, tensor): (&String, &Tensor)| TensorInfo {
            spelling: spelling.clone(),
            shape: tensor.shape().to_vec(),
            dtype: dtype(tensor.dtype()),
        };
        self.tensors.iter().map(info).collect()
    }

    pub(super) fn read(&self, info: &TensorInfo) -> Result<Vec<u8>> {
        let missing = || std::io::ErrorKind::NotFound.into();
        let bytes = self.tensors.get(&info.spelling).ok_or_else(missing).and_then(Tensor::read);
        bytes.map_err(|source| Error::Read { path: self.path.clone(), source })
    }
}

/// The reader's tensors cannot be shown; their number can.
impl std::fmt::Debug for PyTorchFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let tensors = self.tensors.len();
        f.debug_struct("PyTorchFile").field("path", &self.path).field("tensors", &tensors).finish()
    }
}

/// The same type in safetensors' words.
fn dtype(dtype: DType) -> Dtype {
    match dtype {
        DType::F64 => Dtype::F64,
        DType::F32 => Dtype::F32,
        DType::F16 => Dtype::F16,
        DType::BF16 => Dtype::BF16,
        DType::I64 => Dtype::I64,
        DType::I32 => Dtype::I32,
        DType::I16 => Dtype::I16,
        DType::I8 => Dtype::I8,
        DType::U64 => Dtype::U64,
        DType::U32 => Dtype::U32,
        DType::U16 => Dtype::U16,
        DType::U8 => Dtype::U8,
        DType::Bool => Dtype::BOOL,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;
    use crate::checkpoint::Checkpoint;

    fn open(bytes: &[u8]) -> (PathBuf, Result<Checkpoint>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pytorch_model.bin");
        fs::write(&path, bytes).unwrap();
        let opened = Checkpoint::open_file(&path).inspect(|opened| {
            for name in opened.names() {
                let _ = opened.tensor(name);
            }
        });
        (path, opened)
    }

    fn reference() -> Vec<u8> {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference/tiny-bert-variants");
        fs::read(dir.join("pytorch_model.bin")).unwrap()
    }

    #[test]
    fn garbage_is_refused_by_name() {
        // The third would have Python call os.system.
        let inputs =
            [&b""[..], b"garbage", b"cos\nsystem\n(S'true'\ntR.", b"PK\x03\x04", b"\x80\x02}q\x00"];
        for bytes in inputs {
            let (path, opened) = open(bytes);
            let message = opened.unwrap_err().to_string();
            let start = format!("{} is not a readable PyTorch checkpoint: ", path.display());
            assert!(message.starts_with(&start), "{message}");
            assert!(message.ends_with("; fetch it anew, or save it as safetensors"), "{message}");
        }
    }

    #[test]
    fn a_truncated_file_is_refused() {
        let bytes = reference();
        for keep in [bytes.len() - 1, bytes.len() / 2, 100] {
            assert!(open(&bytes[..keep]).1.is_err(), "{keep} bytes");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

        /// Whatever bytes of a file are changed: an answer, never a panic.
        #[test]
        fn damage_never_panics(changes in prop::collection::vec((0..104_380_usize, any::<u8>()), 1..40)) {
            let mut bytes = reference();
            for (at, byte) in changes {
                bytes[at] = byte;
                bytes[at % 8000] = byte; // the pickle lies at the beginning
            }
            let _ = open(&bytes);
        }
    }
}
