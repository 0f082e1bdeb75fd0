//! Strict reading: every tensor is asked for, or known to be of no use.

use std::collections::BTreeSet;

use super::{Checkpoint, Role, role};
use crate::error::{Error, Result};

/// A reading of a [`Checkpoint`] that remembers which tensors were asked for.
#[derive(Debug)]
#[must_use = "call `finish`, which reports the tensors that nobody asked for"]
pub struct TensorReader<'a> {
    checkpoint: &'a Checkpoint,
    taken: BTreeSet<String>,
}

impl<'a> TensorReader<'a> {
    pub(super) fn new(checkpoint: &'a Checkpoint) -> Self {
        Self { checkpoint, taken: BTreeSet::new() }
    }

    /// Whether the checkpoint has the tensor, for parts that are optional.
    pub fn contains(&self, name: &str) -> bool {
        self.checkpoint.info(name).is_some()
    }

    /// Reads a tensor that must have this shape, its last axis varying fastest.
    ///
    /// # Errors
    /// The tensor is missing, has another shape, is not made of floating-point numbers, or cannot
    /// be read. [`Checkpoint::require`] beforehand reports all that are missing at once.
    pub fn take(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let (file, info) = self.checkpoint.find(name)?;
        self.checkpoint.check_shape(file, info, shape)?;
        let (_, values) = self.checkpoint.tensor(name)?;
        self.taken.insert(name.into());
        Ok(values)
    }

    /// Ends the reading: gives the names of the head tensors that nobody asked for, so that
    /// dropping them can be told.
    ///
    /// # Errors
    /// [`Error::UnusedTensors`] when a tensor that is neither pooler nor head nor ignorable was
    /// left.
    pub fn finish(self) -> Result<Vec<String>> {
        let left = self.checkpoint.names().filter(|name| !self.taken.contains(*name));
        let (heads, others): (Vec<_>, Vec<_>) = left
            .filter(|name| matches!(role(name), Role::Encoder | Role::Head))
            .partition(|name| role(name) == Role::Head);
        if others.is_empty() {
            return Ok(heads.into_iter().map(String::from).collect());
        }
        let infos = others.into_iter().filter_map(|name| self.checkpoint.info(name));
        let names = infos.map(|info| info.spelling.clone()).collect();
        Err(Error::UnusedTensors { path: self.checkpoint.path().into(), names })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::checkpoint::{NamedTensor, write_safetensors};

    fn with_checkpoint(names: &[&str], test: impl FnOnce(Checkpoint)) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.safetensors");
        let tensor = |name: &&str| NamedTensor {
            name: name.to_string(),
            shape: vec![2, 3],
            values: vec![0.5; 6],
        };
        write_safetensors(&path, &names.iter().map(tensor).collect::<Vec<_>>()).unwrap();
        test(Checkpoint::open_file(path).unwrap());
    }

    #[test]
    fn heads_poolers_and_ignorable_tensors_may_be_left() {
        let names = [
            "bert.encoder.a",
            "bert.pooler.dense.weight",
            "classifier.weight",
            "cls.x",
            "qa_outputs.bias",
        ];
        with_checkpoint(&names, |checkpoint| {
            let mut reader = checkpoint.reader();
            assert!(reader.contains("pooler.dense.weight") && !reader.contains("encoder.b"));
            assert_eq!(reader.take("encoder.a", &[2, 3]).unwrap(), [0.5; 6]);
            assert_eq!(reader.take("qa_outputs.bias", &[2, 3]).unwrap(), [0.5; 6]);
            assert_eq!(reader.finish().unwrap(), ["classifier.weight"]);
        });
    }

    #[test]
    fn what_nobody_asked_for_is_named_as_the_file_spells_it() {
        with_checkpoint(&["bert.encoder.a", "bert.encoder.b", "extra"], |checkpoint| {
            let mut reader = checkpoint.reader();
            reader.take("encoder.a", &[2, 3]).unwrap();
            let message = reader.finish().unwrap_err().to_string();
            let end = "holds 2 tensors that the model has no place for: bert.encoder.b, extra; check that config.json belongs to these weights";
            assert!(message.ends_with(end), "{message}");
        });
    }

    #[test]
    fn a_tensor_that_failed_to_be_read_counts_as_left() {
        with_checkpoint(&["encoder.a"], |checkpoint| {
            let mut reader = checkpoint.reader();
            let message = reader.take("encoder.a", &[3, 2]).unwrap_err().to_string();
            assert!(message.contains("encoder.a must have shape [3, 2], got [2, 3]"), "{message}");
            assert!(reader.take("encoder.b", &[1]).unwrap_err().to_string().contains("encoder.b"));
            assert!(reader.finish().is_err());
        });
    }
}
