//! One file of weights, of any kind.

use std::{fs::File, io::Read, path::Path};

use super::{
    TensorInfo, held::HeldTensors, pytorch_file::PyTorchFile, safetensors_file::SafetensorsFile,
};
use crate::error::{Error, Result};

/// One file of weights; its tensors can be listed, and read one by one.
#[derive(Debug)]
pub(super) enum WeightFile {
    Safetensors(SafetensorsFile),
    PyTorch(PyTorchFile),
    Held(HeldTensors),
}

impl WeightFile {
    /// Opens the file as the kind that its name ends in.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let extension = path.extension().and_then(|extension| extension.to_str());
        let open: fn(&Path) -> Result<Self> = match extension {
            Some("safetensors") => |path| SafetensorsFile::open(path).map(Self::Safetensors),
            Some("bin" | "pt" | "pth") => |path| PyTorchFile::open(path).map(Self::PyTorch),
            _ => return Err(Error::WeightsUnknown { path: path.into() }),
        };
        refuse_lfs_pointer(path)?;
        open(path)
    }

    pub(super) fn path(&self) -> &Path {
        match self {
            Self::Safetensors(file) => file.path(),
            Self::PyTorch(file) => file.path(),
            Self::Held(tensors) => tensors.path(),
        }
    }

    pub(super) fn list(&self) -> Vec<TensorInfo> {
        match self {
            Self::Safetensors(file) => file.list(),
            Self::PyTorch(file) => file.list(),
            Self::Held(tensors) => tensors.list(),
        }
    }

    /// The bytes of a tensor that [`Self::list`] gave, little-endian, last axis fastest.
    pub(super) fn read(&self, info: &TensorInfo) -> Result<Vec<u8>> {
        match self {
            Self::Safetensors(file) => file.read(info),
            Self::PyTorch(file) => file.read(info),
            Self::Held(tensors) => tensors.read(info),
        }
    }
}

/// A clone of a model repository without Git LFS has small text files in place of the weights.
fn refuse_lfs_pointer(path: &Path) -> Result<()> {
    const START: &[u8] = b"version https://git-lfs";
    let mut start = Vec::with_capacity(START.len());
    let read =
        File::open(path).and_then(|file| file.take(START.len() as u64).read_to_end(&mut start));
    read.map_err(|source| Error::Read { path: path.into(), source })?;
    if start == START { Err(Error::LfsPointer { path: path.into() }) } else { Ok(()) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn an_unknown_kind_is_refused() {
        assert_eq!(
            WeightFile::open(Path::new("model.gguf")).unwrap_err().to_string(),
            "model.gguf is not a known kind of weight file; known are *.safetensors, *.safetensors.index.json and PyTorch's *.bin, *.pt, *.pth"
        );
    }

    #[test]
    fn a_git_lfs_pointer_is_recognised() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["model.safetensors", "pytorch_model.bin"] {
            let path = dir.path().join(name);
            fs::write(&path, "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
                .unwrap();
            assert_eq!(
                WeightFile::open(&path).unwrap_err().to_string(),
                format!(
                    "{} is a Git LFS pointer, not the weights; run `git lfs pull` in its repository",
                    path.display()
                )
            );
        }
    }
}
