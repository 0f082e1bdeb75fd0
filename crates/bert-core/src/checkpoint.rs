//! Weights on disk: safetensors whole or in shards, and PyTorch's own files.

mod decode;
mod held;
mod longer;
mod names;
mod pytorch_file;
mod reader;
mod safetensors_file;
mod shard_index;
mod weight_file;
mod write;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

pub use names::{Role, role};
pub use reader::TensorReader;
pub use safetensors::Dtype;
pub use write::{LazyTensor, NamedTensor, write_safetensors, write_safetensors_lazily};

use crate::error::{Error, Result};
use held::HeldTensors;
use weight_file::WeightFile;

/// What a checkpoint says of a tensor before its data is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// The name as the file spells it.
    pub spelling: String,
    /// The lengths of the axes, outermost first.
    pub shape: Vec<usize>,
    /// The type of the elements.
    pub dtype: Dtype,
}

/// The tensors of one model on disk, by Hugging Face's current names.
///
/// Opening reads names, shapes and types only; a tensor's data is read when it is asked for.
/// Names are given without the prefix `bert.` and with `LayerNorm.weight` and `LayerNorm.bias`,
/// however the file spells them.
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    files: Vec<WeightFile>,
    /// By name: which of `files` holds the tensor, and what it says of it.
    tensors: BTreeMap<String, (usize, TensorInfo)>,
}

impl Checkpoint {
    /// The weight files that a model directory may have, the first that exists being taken.
    pub const FILE_NAMES: [&str; 3] =
        ["model.safetensors", "model.safetensors.index.json", "pytorch_model.bin"];

    /// Opens the weights of a model directory: the first of [`Self::FILE_NAMES`] that exists.
    ///
    /// # Errors
    /// [`Error::WeightsMissing`] when none exists, else as [`Self::open_file`].
    pub fn open(dir: impl AsRef<Path>) -> Result<Self> {
        let dir = dir.as_ref();
        match Self::FILE_NAMES.map(|name| dir.join(name)).iter().find(|path| path.is_file()) {
            Some(path) => Self::open_file(path),
            None => {
                let looked_for = Self::FILE_NAMES.join(", ");
                Err(Error::WeightsMissing { dir: dir.into(), looked_for })
            }
        }
    }

    /// Opens one weight file: `.safetensors`, a shard index (`.index.json`), or PyTorch's
    /// `.bin`, `.pt` or `.pth`, of which nothing is executed.
    ///
    /// # Errors
    /// The file, or a shard that an index names, is absent, damaged or inconsistent.
    pub fn open_file(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let is_index = path.to_string_lossy().ends_with(".index.json");
        let files = if is_index { shard_index::open(path)? } else { vec![WeightFile::open(path)?] };

        let mut tensors: BTreeMap<String, (usize, TensorInfo)> = BTreeMap::new();
        for (file, weights) in files.iter().enumerate() {
            for info in weights.list() {
                let tensor = names::canonical(&info.spelling);
                if let Some((_, other)) = tensors.get(&tensor) {
                    let [first, second] = sorted([other.spelling.clone(), info.spelling]);
                    return Err(Error::DuplicateTensor {
                        path: path.into(),
                        tensor,
                        first,
                        second,
                    });
                }
                tensors.insert(tensor, (file, info));
            }
        }
        Ok(Self { path: path.into(), files, tensors })
    }

    /// The file that was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The names of all tensors, in alphabetical order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Shape, type and spelling of a tensor.
    pub fn info(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.get(name).map(|(_, info)| info)
    }

    /// Checks that these tensors are there, in these shapes, and can be read as 32-bit floats;
    /// no data is read.
    ///
    /// # Errors
    /// [`Error::MissingTensors`] naming every tensor that is missing; else
    /// [`Error::TensorShape`] or [`Error::TensorDtype`] for the first that does not fit.
    pub fn require(&self, expected: &[(String, Vec<usize>)]) -> Result<()> {
        let is_missing = |name: &&String| !self.tensors.contains_key(*name);
        let names: Vec<_> =
            expected.iter().map(|(name, _)| name).filter(is_missing).cloned().collect();
        if !names.is_empty() {
            return Err(Error::MissingTensors { path: self.path.clone(), names });
        }
        for (name, shape) in expected {
            let (file, info) = self.find(name)?;
            self.decoder(file, info)?;
            self.check_shape(file, info, shape)?;
        }
        Ok(())
    }

    /// Reads a tensor as 32-bit floats: its shape, and its values, the last axis varying fastest.
    ///
    /// # Errors
    /// The tensor is missing, its elements are not floating-point numbers, or the file cannot be
    /// read.
    pub fn tensor(&self, name: &str) -> Result<(Vec<usize>, Vec<f32>)> {
        let (file, info) = self.find(name)?;
        let decode = self.decoder(file, info)?;
        Ok((info.shape.clone(), decode(&file.read(info)?)))
    }

    /// Leaves out every tensor whose name is not one `to_keep`.
    pub fn retain(&mut self, to_keep: impl Fn(&str) -> bool) {
        self.tensors.retain(|name, _| to_keep(name));
    }

    /// Puts tensors in place of those of the same names, or beside them; they come from the file `path`, which errors name from
    /// now on where a tensor is missing.
    ///
    /// # Panics
    /// When a tensor's values do not fill its shape.
    pub fn put(&mut self, path: &Path, tensors: Vec<NamedTensor>) {
        let held = HeldTensors::new(path, tensors);
        let file = self.files.len();
        for info in held.list() {
            self.tensors.insert(names::canonical(&info.spelling), (file, info));
        }
        self.files.push(WeightFile::Held(held));
        self.path = path.into();
    }

    /// Starts a strict reading, which ends by reporting the tensors that nobody asked for.
    pub fn reader(&self) -> TensorReader<'_> {
        TensorReader::new(self)
    }

    fn find(&self, name: &str) -> Result<(&WeightFile, &TensorInfo)> {
        let (file, info) = self.tensors.get(name).ok_or_else(|| Error::MissingTensors {
            path: self.path.clone(),
            names: vec![name.into()],
        })?;
        Ok((&self.files[*file], info))
    }

    fn decoder(&self, file: &WeightFile, info: &TensorInfo) -> Result<decode::Decoder> {
        decode::decoder(info.dtype).ok_or_else(|| Error::TensorDtype {
            path: file.path().into(),
            tensor: info.spelling.clone(),
            found: info.dtype,
        })
    }

    fn check_shape(&self, file: &WeightFile, info: &TensorInfo, expected: &[usize]) -> Result<()> {
        if info.shape == expected {
            return Ok(());
        }
        Err(Error::TensorShape {
            path: file.path().into(),
            tensor: info.spelling.clone(),
            expected: expected.into(),
            found: info.shape.clone(),
        })
    }
}

/// A weight file lists its tensors in no particular order; a message must not depend on it.
fn sorted(mut names: [String; 2]) -> [String; 2] {
    names.sort();
    names
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;

    use super::*;

    fn reference(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference").join(name)
    }

    fn variant(name: &str) -> Checkpoint {
        Checkpoint::open_file(reference("tiny-bert-variants").join(name)).unwrap()
    }

    fn original() -> Checkpoint {
        Checkpoint::open(reference("tiny-bert")).unwrap()
    }

    /// Asserts that `found` holds every tensor of the original but the pooler, `rounded`.
    fn assert_holds_the_original(found: &Checkpoint, rounded: fn(f32) -> f32) {
        let original = original();
        let mut compared = 0;
        for name in original.names().filter(|name| role(name) == Role::Encoder) {
            let (shape, values) = original.tensor(name).unwrap();
            let rounded: Vec<_> = values.into_iter().map(rounded).collect();
            assert_eq!(found.tensor(name).unwrap(), (shape, rounded), "{name}");
            compared += 1;
        }
        assert_eq!(compared, 37); // 5 of the embeddings, 16 a layer
    }

    #[test]
    fn every_spelling_and_container_gives_the_same_tensors() {
        let containers = [
            "legacy_prefix_gamma_beta.safetensors",
            "model.safetensors.index.json",
            "no_pooler.safetensors",
            "pytorch_model.bin",
        ];
        for name in containers {
            assert_holds_the_original(&variant(name), |x| x);
        }
    }

    #[test]
    fn short_floats_give_the_tensors_rounded() {
        use burn::tensor::{bf16, f16};
        assert_holds_the_original(&variant("f16.safetensors"), |x| f16::from_f32(x).to_f32());
        assert_holds_the_original(&variant("bf16.safetensors"), |x| bf16::from_f32(x).to_f32());
    }

    #[test]
    fn names_shapes_and_types_are_known_before_any_data_is_read() {
        let checkpoint = variant("legacy_prefix_gamma_beta.safetensors");
        let info = checkpoint.info("encoder.layer.1.output.LayerNorm.weight").unwrap();
        assert_eq!(info.spelling, "bert.encoder.layer.1.output.LayerNorm.gamma");
        assert_eq!((&info.shape[..], info.dtype), (&[32][..], Dtype::F32));
        assert_eq!(checkpoint.names().count(), 41);
        assert!(checkpoint.info("encoder.layer.2.output.LayerNorm.weight").is_none());
    }

    #[test]
    fn a_directory_gives_its_best_weight_file() {
        let dir = tempfile::tempdir().unwrap();
        for name in fs::read_dir(reference("tiny-bert-variants")).unwrap() {
            let from = name.unwrap().path();
            fs::copy(&from, dir.path().join(from.file_name().unwrap())).unwrap();
        }
        fs::copy(reference("tiny-bert/model.safetensors"), dir.path().join("model.safetensors"))
            .unwrap();
        for name in Checkpoint::FILE_NAMES {
            assert_eq!(Checkpoint::open(dir.path()).unwrap().path(), dir.path().join(name));
            fs::remove_file(dir.path().join(name)).unwrap();
        }
        assert_eq!(
            Checkpoint::open(dir.path()).unwrap_err().to_string(),
            format!(
                "{} holds no weights: looked for model.safetensors, model.safetensors.index.json, pytorch_model.bin",
                dir.path().display()
            )
        );
    }

    #[test]
    fn all_missing_tensors_are_named_at_once() {
        let checkpoint = variant("missing_one_tensor.safetensors");
        let value = "encoder.layer.1.attention.self.value.weight";
        let expected = [value, "embeddings.LayerNorm.bias", "encoder.layer.2.output.dense.bias"];
        let expected = expected.map(|name| (name.to_string(), vec![32]));
        let message = checkpoint.require(&expected).unwrap_err().to_string();
        assert!(message.contains("missing_one_tensor.safetensors lacks 2 tensors"), "{message}");
        assert!(
            message.contains(&format!("{value}, encoder.layer.2.output.dense.bias;")),
            "{message}"
        );
        let message = checkpoint.tensor(value).unwrap_err().to_string();
        assert!(
            message.contains(&format!("lacks 1 tensor that the model needs: {value};")),
            "{message}"
        );
    }

    #[test]
    fn a_wrong_shape_is_named_with_both_shapes() {
        let name = "encoder.layer.0.intermediate.dense.weight";
        let message = variant("wrong_shape.safetensors")
            .require(&[(name.into(), vec![64, 32])])
            .unwrap_err()
            .to_string();
        let end = format!(
            "wrong_shape.safetensors: {name} must have shape [64, 32], got [60, 32]; check that config.json belongs to these weights"
        );
        assert!(message.ends_with(&end), "{message}");
    }

    #[test]
    fn whole_numbers_are_listed_but_not_read_as_floats() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ids.safetensors");
        let ids = [7_u8; 16];
        let view = safetensors::tensor::TensorView::new(Dtype::I64, vec![1, 2], &ids).unwrap();
        let bytes = safetensors::serialize([("embeddings.position_ids", view)], None).unwrap();
        fs::write(&path, bytes).unwrap();
        let checkpoint = Checkpoint::open_file(&path).unwrap();
        assert_eq!(checkpoint.info("embeddings.position_ids").unwrap().dtype, Dtype::I64);
        let message = format!(
            "{}: embeddings.position_ids has elements of type I64, expected F32, F16, BF16 or F64; convert the weights",
            path.display()
        );
        assert_eq!(checkpoint.tensor("embeddings.position_ids").unwrap_err().to_string(), message);
        let required = [("embeddings.position_ids".to_string(), vec![1, 2])];
        assert_eq!(checkpoint.require(&required).unwrap_err().to_string(), message);
    }

    #[test]
    fn two_spellings_of_one_tensor_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.safetensors");
        let tensor =
            |name: &str| NamedTensor { name: name.into(), shape: vec![3], values: vec![1.0; 3] };
        let twice = ["embeddings.LayerNorm.weight", "bert.embeddings.LayerNorm.gamma"].map(tensor);
        write_safetensors(&path, &twice).unwrap();
        assert_eq!(
            Checkpoint::open_file(&path).unwrap_err().to_string(),
            format!(
                "{}: bert.embeddings.LayerNorm.gamma and embeddings.LayerNorm.weight are both embeddings.LayerNorm.weight; remove one of them",
                path.display()
            )
        );
    }

    /// What is put in counts in place of what the file has, and what is left out is missing.
    #[test]
    fn tensors_can_be_replaced_added_and_left_out() {
        let mut checkpoint = original();
        let bias = "encoder.layer.0.output.dense.bias";
        let before = checkpoint.tensor(bias).unwrap().1;
        checkpoint.retain(|name| role(name) == Role::Encoder);
        assert_eq!((checkpoint.names().count(), checkpoint.info("pooler.dense.bias")), (37, None));
        let tensor = |name: &str, shape: &[usize], values: &[f32]| NamedTensor {
            name: name.into(),
            shape: shape.into(),
            values: values.into(),
        };
        let changed: Vec<f32> = before.iter().map(|value| value + 1.0).collect();
        let head = [0.5, -0.0, f32::NAN, f32::MIN_POSITIVE / 2.0, 3.0, -1.0];
        let path = Path::new("new.safetensors");
        let put = vec![
            tensor(&format!("bert.{bias}"), &[32], &changed),
            tensor("classifier.weight", &[2, 3], &head),
        ];
        checkpoint.put(path, put);
        assert_eq!(checkpoint.names().count(), 38);
        assert_eq!(checkpoint.tensor(bias).unwrap(), (vec![32], changed));
        let (shape, values) = checkpoint.tensor("classifier.weight").unwrap();
        let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        assert_eq!((shape, bits(&values)), (vec![2, 3], bits(&head)));
        let wanted = [("classifier.weight".to_owned(), vec![3, 2])];
        let message = checkpoint.require(&wanted).unwrap_err().to_string();
        assert!(message.starts_with("new.safetensors: classifier.weight must have"), "{message}");
        let message = checkpoint.tensor("pooler.dense.bias").unwrap_err().to_string();
        assert!(message.starts_with("new.safetensors lacks 1 tensor"), "{message}");
    }

    #[test]
    fn an_absent_file_is_named() {
        let message = Checkpoint::open_file("absent.safetensors").unwrap_err().to_string();
        assert!(message.starts_with("cannot read absent.safetensors: "), "{message}");
        let message = Checkpoint::open_file("absent.index.json").unwrap_err().to_string();
        assert!(message.starts_with("cannot read absent.index.json: "), "{message}");
    }
}
