//! What a run was made of, so that a checkpoint is not taken for one of other settings or other data.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

/// The settings of a run, and the files that it reads.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Fingerprint {
    /// The run file.
    settings: String,
    /// The checksum of every file, by its path.
    files: BTreeMap<String, String>,
}

/// Keys that change no number of a run.
const FREE: [&str; 3] = ["checkpoint_every", "keep_checkpoints", "tensorboard"];

/// A key that changes none where each hidden state has one reader beside the next layer. A layer mixture reads them all, and adds
/// to their gradients in another order.
const FREE_OF_MIXTURE: &str = "recompute";

/// What a model directory is read from.
const MODEL_EXTENSIONS: [&str; 4] = ["json", "txt", "safetensors", "bin"];

impl Fingerprint {
    /// Reads the files of a run with these settings: its data, and the checkpoint that it starts from.
    pub(crate) fn of(settings: &str, data: &[&Path], model: &Path) -> Result<Self> {
        let mut paths: Vec<PathBuf> = data.iter().flat_map(|path| parts(path)).collect();
        let unreadable = |source| Error::Read { path: model.into(), source };
        for entry in fs::read_dir(model).map_err(unreadable)? {
            let path = entry.map_err(unreadable)?.path();
            let extension = path.extension().and_then(|extension| extension.to_str());
            if extension.is_some_and(|own| MODEL_EXTENSIONS.contains(&own)) && path.is_file() {
                paths.push(path);
            }
        }
        let of = |path: PathBuf| match checksum(&path) {
            Ok(sum) => Ok((path.display().to_string(), sum)),
            Err(source) => Err(Error::Read { path, source }),
        };
        let files = paths.into_iter().map(of).collect::<Result<_>>()?;
        Ok(Self { settings: settings.to_owned(), files })
    }

    /// The first difference to what it is `now`, in words.
    pub(crate) fn difference(&self, now: &Self) -> Option<String> {
        settings_difference(&self.settings, &now.settings).or_else(|| {
            let mut names = self.files.keys().chain(now.files.keys());
            let path = names.find(|path| self.files.get(*path) != now.files.get(*path))?;
            Some(match (self.files.get(path), now.files.get(path)) {
                (Some(_), Some(_)) => has_other_content(path),
                (Some(_), None) => format!("{path} is not there any more"),
                (None, _) => format!("{path} was not there"),
            })
        })
    }

    /// The first file that runs of other settings have read, too, and that is another one `now`, in words.
    pub(crate) fn changed_file(&self, now: &Self) -> Option<String> {
        let is_other =
            |path: &&String| now.files.get(*path).is_some_and(|sum| *sum != self.files[*path]);
        self.files.keys().find(is_other).map(|path| has_other_content(path))
    }
}

fn has_other_content(path: &str) -> String {
    format!("{path} has other content")
}

/// A path, or parallel files with commas between them.
fn parts(path: &Path) -> Vec<PathBuf> {
    match path.to_str() {
        Some(text) if !path.exists() => text.split(',').map(PathBuf::from).collect(),
        _ => vec![path.into()],
    }
}

/// The first difference between two run files in what decides the numbers of a run, in words.
pub(crate) fn settings_difference(then: &str, now: &str) -> Option<String> {
    let flat = |text: &str| {
        let mut keys = BTreeMap::new();
        if let Ok(table) = toml::from_str::<toml::Table>(text) {
            flatten("", &table, &mut keys);
        }
        FREE.iter().for_each(|key| drop(keys.remove(*key)));
        let is_mixture = |(key, value): (&String, &String)| {
            key.rsplit('.').next() == Some("layer_mixture") && value == "true"
        };
        if !keys.iter().any(is_mixture) {
            keys.remove(FREE_OF_MIXTURE);
        }
        keys
    };
    let (then, now) = (flat(then), flat(now));
    let key = then.keys().chain(now.keys()).find(|key| then.get(*key) != now.get(*key))?;
    let or_none = |value: Option<&String>| value.map_or("left out", String::as_str).to_owned();
    let (then, now) = (or_none(then.get(key)), or_none(now.get(key)));
    Some(format!("{key} was {then} and is {now}"))
}

fn flatten(prefix: &str, table: &toml::Table, keys: &mut BTreeMap<String, String>) {
    for (key, value) in table {
        match value {
            toml::Value::Table(inner) => flatten(&format!("{prefix}{key}."), inner, keys),
            other => drop(keys.insert(format!("{prefix}{key}"), other.to_string())),
        }
    }
}

/// The SHA-256 of a file's content, in hexadecimal.
pub(crate) fn checksum(path: &Path) -> io::Result<String> {
    // What is no file may never end.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    let (mut file, mut hash) = (File::open(path)?, Sha256::new());
    let mut buffer = vec![0; 1 << 18];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()),
            read => hash.update(&buffer[..read]),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_first_difference_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let (data, model) = (dir.path().join("a.tsv"), dir.path().join("model"));
        fs::create_dir(&model).unwrap();
        fs::write(&data, "a").unwrap();
        fs::write(model.join("vocab.txt"), "a").unwrap();
        fs::write(model.join("README.md"), "a").unwrap();
        let settings = "lr = 0.1\ncheckpoint_every = \"9s\"\n[task.a]\nkind = \"tag\"";
        let of = |settings: &str| Fingerprint::of(settings, &[&data], &model).unwrap();
        let first = of(settings);
        assert_eq!(first.difference(&of(&settings.replace("9s", "3s"))), None);
        fs::write(model.join("README.md"), "b").unwrap();
        assert_eq!(first.difference(&of(settings)), None);
        let said = |settings: &str| first.difference(&of(settings)).unwrap();
        assert_eq!(said(&settings.replace("0.1", "0.2")), "lr was 0.1 and is 0.2");
        assert_eq!(
            said(&settings.replace("tag", "span")),
            "task.a.kind was \"tag\" and is \"span\""
        );
        assert_eq!(
            said("checkpoint_every = \"9s\"\n[task.a]\nkind = \"tag\""),
            "lr was 0.1 and is left out"
        );
        let again = |settings: &str| of(&format!("recompute = true\n{settings}"));
        assert_eq!(first.difference(&again(settings)), None);
        let mixed = settings.to_owned() + "\nlayer_mixture = true";
        let said_of_mixture = of(&mixed).difference(&again(&mixed)).unwrap();
        assert_eq!(said_of_mixture, "recompute was left out and is true");
        fs::write(&data, "b").unwrap();
        assert!(said(settings).ends_with("a.tsv has other content"));
        let changed = first.changed_file(&of("lr = 7")).unwrap();
        assert!(changed.ends_with("a.tsv has other content"), "{changed}");
        fs::write(&data, "a").unwrap();
        fs::write(model.join("new.json"), "a").unwrap();
        assert_eq!(first.changed_file(&of(settings)), None);
        assert!(said(settings).ends_with("new.json was not there"));
    }

    /// The example of FIPS 180-2, appendix B.1.
    #[test]
    fn checksum_by_the_standard() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("abc");
        fs::write(&path, "abc").unwrap();
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(checksum(&path).unwrap(), expected);
        assert!(checksum(dir.path()).is_err() && checksum(&dir.path().join("no")).is_err());
    }
}
