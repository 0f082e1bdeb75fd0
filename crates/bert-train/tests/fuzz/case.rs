//! An input: the files that a target reads.

use std::{collections::BTreeMap, fs, path::Path};

use tempfile::TempDir;

/// Files by name.
#[derive(Debug, Clone, Default)]
pub struct Case {
    pub name: String,
    pub files: BTreeMap<String, Vec<u8>>,
}

impl Case {
    /// The inputs in a folder, each a folder of its files, by name.
    pub fn all(folder: &Path) -> Vec<Self> {
        let Ok(entries) = fs::read_dir(folder) else { return vec![] };
        let mut cases: Vec<Self> = entries
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.is_dir())
            .map(|path| Self::read(&path))
            .collect();
        cases.sort_by(|one, other| one.name.cmp(&other.name));
        cases
    }

    /// The files of one folder.
    pub fn read(folder: &Path) -> Self {
        let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
        let files = fs::read_dir(folder).unwrap().map(|entry| {
            let path = entry.unwrap().path();
            (name(&path), fs::read(&path).unwrap())
        });
        Self { name: name(folder), files: files.collect() }
    }

    /// Writes the files into `dir`, which holds nothing else afterwards.
    pub fn write(&self, dir: &Path) {
        fs::create_dir_all(dir).unwrap();
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => fs::remove_dir_all(path).unwrap(),
                false => fs::remove_file(path).unwrap(),
            }
        }
        for (name, bytes) in &self.files {
            fs::write(dir.join(name), bytes).unwrap();
        }
    }

    /// The bytes of all files.
    pub fn len(&self) -> usize {
        self.files.values().map(Vec::len).sum()
    }
}

/// A folder in memory, where the system has such.
pub fn folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap()
}
