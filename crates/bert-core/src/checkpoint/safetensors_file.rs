//! One safetensors file: the header at once, each tensor's bytes when asked for.
//!
//! # Source
//! The format: <https://huggingface.co/docs/safetensors/index#format>

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use safetensors::{SafeTensorError, tensor::Metadata};

use super::TensorInfo;
use crate::error::{Error, Result};

/// The most bytes that the format allows a header to have.
const MAX_HEADER: u64 = 100_000_000;

#[derive(Debug)]
pub(super) struct SafetensorsFile {
    path: PathBuf,
    file: Mutex<File>,
    header: Metadata,
    /// Where the tensors' bytes begin.
    data_start: u64,
}

impl SafetensorsFile {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let read_error = |source| Error::Read { path: path.into(), source };
        let refuse = |source| Error::Safetensors { path: path.into(), source };
        let length_error =
            |expected, found| Error::SafetensorsLength { path: path.into(), expected, found };

        let mut file = File::open(path).map_err(read_error)?;
        let found = file.metadata().map_err(read_error)?.len();
        if found < 8 {
            return Err(length_error(8, found));
        }
        let mut length = [0; 8];
        file.read_exact(&mut length).map_err(read_error)?;
        let length = u64::from_le_bytes(length);
        if length > MAX_HEADER {
            return Err(refuse(SafeTensorError::HeaderTooLarge));
        }
        let data_start = 8 + length;
        if data_start > found {
            return Err(length_error(data_start, found));
        }
        let mut header = vec![0; length as usize];
        file.read_exact(&mut header).map_err(read_error)?;
        let header =
            str::from_utf8(&header).map_err(|e| refuse(SafeTensorError::InvalidHeader(e)))?;
        // This also checks that the tensors follow one another without gap or overlap.
        let header: Metadata = serde_json::from_str(header)
            .map_err(|e| refuse(SafeTensorError::InvalidHeaderDeserialization(e)))?;
        let expected = data_start.saturating_add(header.data_len() as u64);
        if expected != found {
            return Err(length_error(expected, found));
        }
        Ok(Self { path: path.into(), file: Mutex::new(file), header, data_start })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn list(&self) -> Vec<TensorInfo> {
        let tensors = self.header.tensors().into_iter();
        let info = |(spelling, info): (String, &safetensors::tensor::TensorInfo)| TensorInfo {
            spelling,
            shape: info.shape.clone(),
            dtype: info.dtype,
        };
        tensors.map(info).collect()
    }

    pub(super) fn read(&self, info: &TensorInfo) -> Result<Vec<u8>> {
        self.read_bytes(&info.spelling)
            .map_err(|source| Error::Read { path: self.path.clone(), source })
    }

    fn read_bytes(&self, spelling: &str) -> io::Result<Vec<u8>> {
        let Some(info) = self.header.info(spelling) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let (start, end) = info.data_offsets;
        let mut bytes = vec![0; end - start];
        // Seeking first makes the position that a panicking thread left behind harmless.
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.seek(SeekFrom::Start(self.data_start + start as u64))?;
        file.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;
    use crate::checkpoint::Checkpoint;

    /// A file with this header and as many bytes of data.
    fn file(header: &[u8], data: usize) -> Vec<u8> {
        [&(header.len() as u64).to_le_bytes(), header, &vec![0; data]].concat()
    }

    /// The message for such a file, without its path.
    fn refusal(bytes: &[u8]) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.safetensors");
        fs::write(&path, bytes).unwrap();
        let message = SafetensorsFile::open(&path).unwrap_err().to_string();
        message.strip_prefix(&format!("{} ", path.display())).unwrap_or(&message).into()
    }

    const ONE: &[u8] = br#"{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,12]}}"#;

    #[test]
    fn a_truncated_file_is_refused_with_both_lengths() {
        let length = 8 + ONE.len() + 12;
        assert_eq!(
            refusal(&file(ONE, 11)),
            format!(
                "is damaged: its header describes {length} bytes, the file has {}; fetch it anew",
                length - 1
            )
        );
        assert!(refusal(&file(ONE, 13)).contains(&format!("the file has {}", length + 1)));
        assert!(
            refusal(&file(ONE, 0)[..20])
                .contains(&format!("describes {} bytes, the file has 20", 8 + ONE.len()))
        );
        assert!(refusal(b"").contains("describes 8 bytes, the file has 0"));
        assert!(refusal(b"1234567").contains("describes 8 bytes, the file has 7"));
    }

    #[test]
    fn a_header_longer_than_the_format_allows_is_refused_unread() {
        let bytes = [&u64::MAX.to_le_bytes()[..], b"{}"].concat();
        assert_eq!(
            refusal(&bytes),
            "is not a valid safetensors file: header too large; fetch it anew"
        );
    }

    #[test]
    fn a_header_that_is_not_utf8_or_not_json_is_refused() {
        assert!(
            refusal(&file(b"\xff\xfe", 0))
                .contains("not a valid safetensors file: invalid UTF-8 in header")
        );
        assert!(refusal(&file(b"{\"a\":", 0)).contains("invalid JSON in header"));
        assert!(refusal(&file(b"", 0)).contains("invalid JSON in header"));
    }

    #[test]
    fn offsets_must_follow_one_another_and_match_the_shape() {
        let two = |b: &str| {
            format!(
                r#"{{"a":{{"dtype":"F32","shape":[3],"data_offsets":[0,12]}},"b":{{"dtype":"F32",{b}}}}}"#
            )
        };
        let overlap = two(r#""shape":[2],"data_offsets":[8,16]"#);
        assert!(refusal(&file(overlap.as_bytes(), 16)).contains("invalid offset for tensor `b`"));
        let gap = two(r#""shape":[2],"data_offsets":[16,24]"#);
        assert!(refusal(&file(gap.as_bytes(), 24)).contains("invalid offset for tensor `b`"));
        let backwards = two(r#""shape":[2],"data_offsets":[12,4]"#);
        assert!(refusal(&file(backwards.as_bytes(), 24)).contains("invalid offset for tensor"));
        let short = two(r#""shape":[5],"data_offsets":[12,20]"#);
        assert!(
            refusal(&file(short.as_bytes(), 20)).contains("invalid shape, data type, or offset")
        );
        let huge = two(r#""shape":[4294967296,4294967296],"data_offsets":[12,20]"#);
        assert!(refusal(&file(huge.as_bytes(), 20)).contains("overflow"));
        let end = u64::MAX - u64::MAX % 8 - 4;
        let far = format!(r#"{{"a":{{"dtype":"U8","shape":[{end}],"data_offsets":[0,{end}]}}}}"#);
        assert!(refusal(&file(far.as_bytes(), 0)).contains("overflow"));
        let type_ = two(r#""shape":[2],"data_offsets":[12,20]"#).replace("F32", "F33");
        assert!(refusal(&file(type_.as_bytes(), 20)).contains("unknown variant `F33`"));
    }

    #[test]
    fn a_file_that_shrinks_after_opening_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.safetensors");
        fs::write(&path, file(ONE, 12)).unwrap();
        let opened = Checkpoint::open_file(&path).unwrap();
        assert_eq!(opened.tensor("a").unwrap(), (vec![3], vec![0.0; 3]));
        File::options().write(true).open(&path).unwrap().set_len(20).unwrap();
        let message = opened.tensor("a").unwrap_err().to_string();
        assert!(message.starts_with(&format!("cannot read {}: ", path.display())), "{message}");
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

        /// Whatever byte of a file is changed, and wherever it is cut: an answer, never a panic.
        #[test]
        fn damage_never_panics(at in 0..95_352_usize, byte: u8, keep in 0..95_352_usize) {
            let reference = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference/tiny-bert/model.safetensors");
            let mut bytes = fs::read(reference).unwrap();
            let in_header = at % 4000;
            bytes[in_header] = byte;
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("m.safetensors");
            for bytes in [&bytes[..], &bytes[..keep]] {
                fs::write(&path, bytes).unwrap();
                if let Ok(opened) = Checkpoint::open_file(&path) {
                    for name in opened.names() {
                        let _ = opened.tensor(name);
                    }
                }
            }
        }
    }
}
