//! What made a run, in `about.json`: versions, devices, commands, and how long its texts are.

use std::{collections::BTreeMap, path::Path};

use bert_core::write_atomically;
use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use crate::{error::Result, finished_run::read, sampler::TrainingSet};

/// The file in a run's directory.
pub(crate) const ABOUT_FILE: &str = "about.json";

/// The version of Burn that this is built on; a test holds it against `Cargo.toml`.
const BURN: &str = "0.22.1";

/// What made a run. Nothing in a run depends on it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct About {
    /// The run from its start, and each time that it went on.
    pub(crate) sessions: Vec<Session>,
    /// How many training texts have so many tokens.
    pub(crate) train_lengths: BTreeMap<usize, usize>,
}

/// What ran at one time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Session {
    /// The steps that were taken before.
    pub(crate) after_step: usize,
    /// The program with its arguments, where it said so.
    pub(crate) command: Vec<String>,
    pub(crate) device: String,
    /// The version of this library, and that of Burn.
    pub(crate) version: String,
    pub(crate) burn: String,
}

impl About {
    /// Writes down what makes a run in `out` that begins, or goes on after `steps`.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(crate) fn write(
        out: &Path,
        steps: Option<usize>,
        command: Vec<String>,
        device: &Device,
        sets: &[TrainingSet],
    ) -> Result<()> {
        // Where it was lost, the sessions before are not known.
        let before = steps.and_then(|_| Self::read(out)).unwrap_or_default();
        let session = Session {
            after_step: steps.unwrap_or(0),
            command,
            device: name(device),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            burn: BURN.to_owned(),
        };
        let mut train_lengths = BTreeMap::new();
        for length in sets.iter().flat_map(|set| &set.lengths) {
            *train_lengths.entry(*length).or_default() += 1;
        }
        let about = Self {
            sessions: before.sessions.into_iter().chain([session]).collect(),
            train_lengths,
        };
        let json = serde_json::to_string_pretty(&about).expect("plain values under string keys"); // INVARIANT: they are numbers, strings, lists and maps by numbers
        Ok(write_atomically(out.join(ABOUT_FILE), (json + "\n").as_bytes())?)
    }

    /// What is written down of the run in `dir`; nothing where that is lost.
    pub(crate) fn read(dir: &Path) -> Option<Self> {
        serde_json::from_str(&read(&dir.join(ABOUT_FILE)).ok()?).ok()
    }
}

/// A device as Burn names it.
fn name(device: &Device) -> String {
    let name = format!("{:?}", device.clone().inner());
    let inside = name.strip_prefix("Device<").and_then(|name| name.strip_suffix('>'));
    inside.unwrap_or(&name).to_owned()
}

/// A command as a shell reads it.
pub(crate) fn as_typed(command: &[String]) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./=,:@%+".contains(c);
    let word = |word: &String| match !word.is_empty() && word.chars().all(is_plain) {
        true => word.clone(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    };
    command.iter().map(word).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_burn_is_that_of_the_workspace() {
        let manifest = include_str!("../../../Cargo.toml");
        assert!(manifest.contains(&format!("burn = {{ version = \"={BURN}\"")));
    }

    #[test]
    fn a_command_can_be_typed_again() {
        let command = ["bert", "train", "--text", "a b", "it's", ""].map(str::to_owned);
        assert_eq!(as_typed(&command), r"bert train --text 'a b' 'it'\''s' ''");
    }
}
