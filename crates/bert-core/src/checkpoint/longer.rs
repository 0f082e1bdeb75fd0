//! A checkpoint whose tables have more rows.

use std::{collections::BTreeMap, io, path::Path};

use super::{Checkpoint, TensorInfo, decode, write};
use crate::error::{Error, Result};

impl Checkpoint {
    /// Writes all tensors to one safetensors file, each as it is: name, type and every bit. Tensors that `rows` names get
    /// these values behind their own, rounded to their type.
    ///
    /// # Errors
    /// A tensor that `rows` names is missing or is not made of floating-point numbers, the values do not fill rows, or
    /// the file cannot be written.
    pub fn write_longer(&self, path: &Path, rows: &BTreeMap<&str, Vec<f32>>) -> Result<()> {
        let mut parts = Vec::with_capacity(self.tensors.len());
        for name in rows.keys() {
            self.find(name)?;
        }
        for (name, (file, info)) in &self.tensors {
            let file = &self.files[*file];
            let (mut shape, mut more) = (info.shape.clone(), vec![]);
            if let Some(values) = rows.get(name.as_str()) {
                let encode = decode::encoder(info.dtype).ok_or_else(|| Error::TensorDtype {
                    path: file.path().into(),
                    tensor: info.spelling.clone(),
                    found: info.dtype,
                })?;
                let width: usize = shape.iter().skip(1).product();
                if shape.is_empty() || width == 0 || !values.len().is_multiple_of(width) {
                    let (tensor, found) = (info.spelling.clone(), values.len());
                    return Err(Error::TensorLength { path: path.into(), tensor, shape, found });
                }
                shape[0] += values.len() / width;
                more = encode(values);
            }
            let longer = TensorInfo { shape, ..info.clone() };
            parts.push((longer, move || {
                // The error becomes part of the one about the file that is being written.
                let mut bytes = file.read(info).map_err(io::Error::other)?;
                bytes.extend_from_slice(&more);
                Ok(bytes)
            }));
        }
        write::write_parts(path, parts)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use safetensors::{Dtype, SafeTensors, tensor::TensorView};

    use super::*;

    /// Tensors of several types, one of which gets two rows.
    #[test]
    fn tensors_stay_as_they_are_but_for_the_new_rows() {
        let dir = tempfile::tempdir().unwrap();
        let half = [0x00, 0x3C, 0x00, 0xC0, 0x01, 0x00, 0xFF, 0x7B, 0x00, 0x7E, 0x01, 0x7C];
        let view = |dtype, shape: &[usize], data| TensorView::new(dtype, shape.to_vec(), data);
        let tensors = [
            ("bert.embeddings.word_embeddings.weight", view(Dtype::F16, &[2, 3], &half).unwrap()),
            ("embeddings.LayerNorm.gamma", view(Dtype::F32, &[1], &[1, 2, 3, 4]).unwrap()),
            ("embeddings.position_ids", view(Dtype::I64, &[1, 1], &[9; 8]).unwrap()),
        ];
        let from = dir.path().join("model.safetensors");
        std::fs::write(&from, safetensors::serialize(tensors, None).unwrap()).unwrap();
        let to = dir.path().join("longer.safetensors");
        let rows = [("embeddings.word_embeddings.weight", vec![1.0, -2.0, 0.5, 1.0, 0.0, 65504.0])];
        Checkpoint::open_file(&from).unwrap().write_longer(&to, &rows.into()).unwrap();

        let bytes = std::fs::read(&to).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(file.len(), 3);
        let table = file.tensor("bert.embeddings.word_embeddings.weight").unwrap();
        assert_eq!((table.dtype(), table.shape()), (Dtype::F16, &[4, 3][..]));
        assert_eq!(table.data()[..12], half);
        // 1, -2, 0.5, 1, 0, 65504 in half precision.
        let new = [0, 0x3C, 0, 0xC0, 0, 0x38, 0, 0x3C, 0, 0, 0xFF, 0x7B];
        assert_eq!(table.data()[12..], new);
        assert_eq!(file.tensor("embeddings.LayerNorm.gamma").unwrap().data(), [1, 2, 3, 4]);
        assert_eq!(file.tensor("embeddings.position_ids").unwrap().dtype(), Dtype::I64);
    }

    #[test]
    fn rows_that_fit_nowhere_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let from = dir.path().join("model.safetensors");
        let integers = TensorView::new(Dtype::I32, vec![1, 1], &[0; 4]).unwrap();
        let floats = TensorView::new(Dtype::F32, vec![1, 2], &[0; 8]).unwrap();
        let tensors = [("a", integers), ("b", floats)];
        std::fs::write(&from, safetensors::serialize(tensors, None).unwrap()).unwrap();
        let checkpoint = Checkpoint::open_file(&from).unwrap();
        let to = dir.path().join("longer.safetensors");
        let write = |name, count| {
            let rows = [(name, vec![0.0; count])].into();
            checkpoint.write_longer(&to, &rows).unwrap_err().to_string()
        };
        assert!(write("a", 1).contains("a has elements of type I32"));
        assert!(write("b", 3).contains("b of shape [1, 2] was given 3 values"));
        assert!(write("c", 2).contains("lacks 1 tensor that the model needs: c"));
        assert!(!to.exists());
    }
}
