//! A model in several files: the index that says which tensor lies where.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Component, Path},
};

use serde::Deserialize;

use super::weight_file::WeightFile;
use crate::error::{Error, Result};

/// The part of `model.safetensors.index.json` that matters: the file name for each tensor.
#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// Opens all shards of an index, once it is sure that both say the same.
pub(super) fn open(path: &Path) -> Result<Vec<WeightFile>> {
    let bytes = fs::read(path).map_err(|source| Error::Read { path: path.into(), source })?;
    let index: Index = serde_json::from_slice(&bytes)
        .map_err(|source| Error::Json { path: path.into(), source })?;

    let mut shards: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (tensor, shard) in index.weight_map {
        if !is_file_name(&shard) {
            return Err(Error::ShardPath { index: path.into(), tensor, shard });
        }
        shards.entry(shard).or_default().insert(tensor);
    }
    shards.into_iter().map(|(shard, tensors)| open_shard(path, shard, &tensors)).collect()
}

fn open_shard(index: &Path, shard: String, indexed: &BTreeSet<String>) -> Result<WeightFile> {
    let path = index.with_file_name(&shard);
    let index = index.into();
    if !path.is_file() {
        return Err(Error::ShardMissing { index, shard });
    }
    let file = WeightFile::open(&path)?;
    let held = file.list().into_iter().map(|info| info.spelling).collect();
    if let Some(tensor) = indexed.difference(&held).next().cloned() {
        return Err(Error::ShardLacksTensor { index, shard, tensor });
    }
    if let Some(tensor) = held.difference(indexed).next().cloned() {
        return Err(Error::ShardNotIndexed { index, shard, tensor });
    }
    Ok(file)
}

/// Whether this names a file in the same directory, on any operating system.
fn is_file_name(shard: &str) -> bool {
    let mut components = Path::new(shard).components();
    let is_plain = matches!(components.next(), Some(Component::Normal(name)) if name == shard);
    is_plain && components.next().is_none() && !shard.contains(['/', '\\', ':', '\0'])
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::checkpoint::{Checkpoint, NamedTensor, write_safetensors};

    /// The message for an index beside `a.safetensors`, which holds `x` and `y`.
    fn refusal(index: &str) -> String {
        let dir = tempfile::tempdir().unwrap();
        let tensors = ["x", "y"].map(|name| NamedTensor {
            name: name.to_string(),
            shape: vec![3],
            values: vec![1.0; 3],
        });
        write_safetensors(dir.path().join("a.safetensors"), &tensors).unwrap();
        let path = dir.path().join("model.safetensors.index.json");
        fs::write(&path, index).unwrap();
        let message = Checkpoint::open(dir.path()).unwrap_err().to_string();
        message.strip_prefix(&format!("{} ", path.display())).unwrap_or(&message).into()
    }

    #[test]
    fn shards_outside_the_directory_are_refused() {
        for shard in [
            "../a.safetensors",
            "/etc/passwd",
            "..",
            ".",
            "",
            "d/a.safetensors",
            r"..\\a",
            "C:a",
            "a\\u0000",
        ] {
            let message = refusal(&format!(r#"{{"weight_map": {{"x": "{shard}"}}}}"#));
            let end = "which is not a plain file name; shards lie beside their index";
            assert!(
                message.starts_with("places x in ") && message.ends_with(end),
                "{shard}: {message}"
            );
        }
    }

    #[test]
    fn an_absent_shard_is_named() {
        assert_eq!(
            refusal(r#"{"weight_map": {"x": "b.safetensors"}}"#),
            "names the shard b.safetensors, which is not there; fetch all shards"
        );
    }

    #[test]
    fn index_and_shard_must_agree() {
        assert_eq!(
            refusal(
                r#"{"weight_map": {"x": "a.safetensors", "y": "a.safetensors", "z": "a.safetensors"}}"#
            ),
            "places z in a.safetensors, which does not hold it; fetch index and shards from one place"
        );
        assert_eq!(
            refusal(r#"{"weight_map": {"x": "a.safetensors"}}"#),
            "does not place y in a.safetensors, which holds it; fetch index and shards from one place"
        );
    }

    #[test]
    fn an_index_of_another_form_is_refused() {
        assert!(refusal("{").starts_with("is not the JSON that was expected: EOF"));
        assert!(refusal("{}").contains("missing field `weight_map`"));
        assert!(refusal(r#"{"weight_map": {"x": 1}}"#).contains("invalid type: integer `1`"));
        assert!(
            refusal(r#"{"weight_map": {"x": "model.safetensors.index.json"}}"#)
                .contains("is not a known kind")
        );
    }
}
