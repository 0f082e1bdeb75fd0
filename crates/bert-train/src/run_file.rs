//! A run file as it is written: TOML whose faults are told with file, line and key.

use std::{
    fs,
    ops::Range,
    path::{Path, PathBuf},
};

use serde::de::DeserializeOwned;
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use crate::{
    closest::closest,
    error::{Error, Result},
};

/// A run file.
#[derive(Debug, Clone)]
pub struct RunFile {
    path: PathBuf,
    text: String,
    /// The tables around it, where it is a part of a file.
    root: Vec<String>,
    table: toml::Table,
}

impl RunFile {
    /// Reads a run file.
    ///
    /// # Errors
    /// When the file can't be read or is no TOML.
    pub fn read(path: &Path) -> Result<Self> {
        let text =
            fs::read_to_string(path).map_err(|source| Error::Read { path: path.into(), source })?;
        let table = toml::from_str(&text)
            .map_err(|error| fault(path, &text, error.span(), error.message().to_owned()))?;
        Ok(Self { path: path.into(), text, root: vec![], table })
    }

    /// Whether it describes several tasks.
    pub fn has_tasks(&self) -> bool {
        self.table.contains_key("task")
    }

    /// The table under `key` as a run file of its own.
    pub(crate) fn part(&self, key: &str) -> Option<Self> {
        let table = self.table.get(key)?.as_table()?.clone();
        let root = self.root.iter().cloned().chain([key.to_owned()]).collect();
        Some(Self { table, root, ..self.clone() })
    }

    /// The file with other values at these places, as if they stood there.
    pub(crate) fn with(&self, values: &[(Vec<String>, toml::Value)]) -> Self {
        let mut file = self.clone();
        for (place, value) in values {
            set(&mut file.table, place, value);
        }
        file
    }

    /// The keys with their values.
    pub(crate) fn table(&self) -> &toml::Table {
        &self.table
    }

    /// The text as it is written.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// The names in a table.
    pub(crate) fn names(&self, table: &str) -> Vec<String> {
        let table = self.table.get(table).and_then(toml::Value::as_table);
        table.into_iter().flat_map(toml::Table::keys).cloned().collect()
    }

    /// The fault of the key at `place`, or of the closest table around it.
    pub(crate) fn refuse(&self, place: &[&str], message: String) -> Error {
        fault(&self.path, &self.text, self.span(place), message)
    }

    /// The same error with its line, where it is about the number that the file has for a key.
    pub fn placed(&self, error: Error) -> Error {
        let Error::Recipe { key, got, .. } = &error else { return error };
        let key = key.replace('-', "_");
        let number = |value: &toml::Value| {
            value.as_float().or_else(|| value.as_integer().map(|whole| whole as f64))
        };
        match self.table.get(&key).and_then(number) {
            Some(own) if own.to_string() == *got => self.refuse(&[&key], error.to_string()),
            _ => error,
        }
    }

    /// Refuses keys that are not `known` in the table at `place`.
    pub(crate) fn check_keys(&self, place: &[&str], known: &[&str]) -> Result<()> {
        for key in self.table_at(place).into_iter().flat_map(toml::Table::keys) {
            if !known.contains(&key.as_str()) {
                let suggestion = closest(key, known.iter().copied()).map_or_else(
                    || format!("expected one of {}", known.join(", ")),
                    |key| format!("did you mean {key:?}?"),
                );
                let full: Vec<&str> = place.iter().copied().chain([key.as_str()]).collect();
                let message = format!("unknown key {:?}: {suggestion}", full.join("."));
                return Err(self.refuse(&full, message));
            }
        }
        Ok(())
    }

    /// Refuses dev rows from two places in the table at `place`.
    pub(crate) fn check_dev(&self, place: &[&str]) -> Result<()> {
        let has = |key: &str| self.table_at(place).is_some_and(|table| table.contains_key(key));
        if !(has("dev") && has("dev_fraction")) {
            return Ok(());
        }
        let key: Vec<&str> = place.iter().copied().chain(["dev_fraction"]).collect();
        let message = "dev rows come from a file or are held out: leave out dev or dev_fraction";
        Err(self.refuse(&key, message.to_owned()))
    }

    /// Refuses a value that does not fit `T`, by its key, in the table at `place`; `required` are the keys without which there
    /// is no `T`.
    pub(crate) fn check_values<T: DeserializeOwned>(
        &self,
        place: &[&str],
        required: &[&str],
        known: &[&str],
    ) -> Result<()> {
        let Some(table) = self.table_at(place) else {
            let message = format!("expected a table, [{}]", place.join("."));
            return Err(self.refuse(place, message));
        };
        let Err(error) = table.clone().try_into::<T>() else { return Ok(()) };
        // The message does not say which key it is: the one without which the others are right.
        let is_culprit = |key: &&&str| {
            let mut others = table.clone();
            let removed = others.remove(**key);
            removed.is_some() && !required.contains(*key) && others.try_into::<T>().is_ok()
        };
        let culprit = known.iter().find(is_culprit).or_else(|| {
            // Of required keys, the one whose value the message quotes, or that is no text.
            let is_quoted = |value: &toml::Value| match value.as_str() {
                Some(text) => error.message().contains(&format!("`{text}`")),
                None => true,
            };
            required.iter().find(|key| table.get(**key).is_some_and(is_quoted))
        });
        let full: Vec<&str> = place.iter().chain(culprit).copied().collect();
        let name = if full.is_empty() { String::new() } else { format!("{}: ", full.join(".")) };
        Err(self.refuse(&full, format!("{name}{}", in_words(error.message()))))
    }

    /// The run, with the keys of `flags` over those of the file.
    pub(crate) fn deserialize<T: DeserializeOwned>(
        &self,
        flags: toml::Table,
        required: &[&str],
    ) -> Result<T> {
        let mut table = self.table.clone();
        table.extend(flags);
        table.clone().try_into().map_err(|error: toml::de::Error| {
            let file = Self { table, ..self.clone() };
            let keys: Vec<String> = file.table.keys().cloned().collect();
            let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
            match file.check_values::<T>(&[], required, &keys) {
                Err(fault) => fault,
                Ok(()) => file.refuse(&[], in_words(error.message())),
            }
        })
    }

    fn table_at(&self, place: &[&str]) -> Option<&toml::Table> {
        place.iter().try_fold(&self.table, |table, key| table.get(*key)?.as_table())
    }

    /// Where the key at `place` is written, or the last of its tables that is.
    fn span(&self, place: &[&str]) -> Option<Range<usize>> {
        let spanned = DeTable::parse(&self.text).ok()?;
        let (mut table, mut span) = (spanned.get_ref(), None);
        for wanted in self.root.iter().map(String::as_str).chain(place.iter().copied()) {
            let Some((key, value)) = entry(table, wanted) else { break };
            span = Some(key.span());
            match value.get_ref() {
                DeValue::Table(inner) => table = inner,
                _ => break,
            }
        }
        span
    }
}

/// Sets the value at a place, in tables that are made where there are none.
pub(crate) fn set(table: &mut toml::Table, place: &[String], value: &toml::Value) {
    match place {
        [] => {}
        [key] => drop(table.insert(key.clone(), value.clone())),
        [key, rest @ ..] => {
            let mut inner = match table.remove(key) {
                Some(toml::Value::Table(inner)) => inner,
                _ => toml::Table::new(),
            };
            set(&mut inner, rest, value);
            table.insert(key.clone(), inner.into());
        }
    }
}

/// What a reader of TOML says, without the names of Rust's types.
fn in_words(message: &str) -> String {
    const WORDS: [(&str, &str); 7] = [
        ("expected usize", "expected a whole number from 0"),
        ("expected u64", "expected a whole number from 0"),
        ("expected f64", "expected a number"),
        ("expected a boolean", "expected true or false"),
        ("expected path string", "expected a path in quotes"),
        ("expected a string", "expected a text in quotes"),
        ("missing field", "expected the key"),
    ];
    WORDS.iter().fold(message.to_owned(), |said, (name, words)| said.replace(name, words))
}

type Entry<'a, 'i> = (&'a Spanned<std::borrow::Cow<'i, str>>, &'a Spanned<DeValue<'i>>);

fn entry<'a, 'i>(table: &'a DeTable<'i>, wanted: &str) -> Option<Entry<'a, 'i>> {
    table.iter().find(|(key, _)| key.get_ref() == wanted)
}

fn fault(path: &Path, text: &str, span: Option<Range<usize>>, message: String) -> Error {
    let line = 1 + text[..span.map_or(0, |span| span.start)].matches('\n').count();
    Error::RunFile { path: path.into(), line, message }
}
