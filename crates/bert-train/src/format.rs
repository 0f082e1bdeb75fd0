//! The formats of data files.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// How rows are written in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// A tab separates columns and a newline ends a row; no quoting, no escapes.
    Tsv,
    /// Comma-separated values with quotes (RFC 4180).
    Csv,
    /// One JSON object a line.
    Jsonl,
    /// One JSON array of objects.
    Json,
    /// One token a line with its tag, between tabs or spaces; a blank line ends a sentence.
    Conll,
    /// One text a line.
    Txt,
}

impl Format {
    const ALL: [Self; 6] = [Self::Tsv, Self::Csv, Self::Jsonl, Self::Json, Self::Conll, Self::Txt];

    /// The format that `path`'s extension stands for, in either case.
    ///
    /// # Errors
    /// [`Error::UnknownExtension`] where it stands for none.
    pub fn of_path(path: &Path) -> Result<Self> {
        path.extension()
            .and_then(|extension| extension.to_str())
            .and_then(|extension| extension.to_ascii_lowercase().parse().ok())
            .ok_or_else(|| Error::UnknownExtension { path: path.into() })
    }

    /// The extension of such files, which is also the name of the format.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tsv => "tsv",
            Self::Csv => "csv",
            Self::Jsonl => "jsonl",
            Self::Json => "json",
            Self::Conll => "conll",
            Self::Txt => "txt",
        }
    }

    /// All names, for a message.
    pub(crate) fn names() -> String {
        Self::ALL.map(Self::name).join(", ")
    }
}

impl FromStr for Format {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|format| format.name() == name)
            .ok_or_else(|| Error::UnknownFormat { name: name.into() })
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_extension_gives_the_format() {
        for (path, format) in [
            ("a.tsv", Format::Tsv),
            ("a.b/c.CSV", Format::Csv),
            ("a.jsonl", Format::Jsonl),
            ("a.tsv.json", Format::Json),
            ("a.conll", Format::Conll),
            ("a.txt", Format::Txt),
        ] {
            assert_eq!(Format::of_path(Path::new(path)).unwrap(), format, "{path}");
        }
    }

    #[test]
    fn names_are_parsed_and_shown() {
        for format in Format::ALL {
            assert_eq!(format.to_string().parse::<Format>().unwrap(), format);
            assert_eq!(serde_json::to_value(format).unwrap(), format.name());
        }
    }

    #[test]
    fn an_unknown_extension_is_refused() {
        for path in ["data/train.xlsx", "data/train"] {
            assert_eq!(
                Format::of_path(Path::new(path)).unwrap_err().to_string(),
                format!(
                    "cannot tell the format of {path} from its extension: give --format with one of tsv, csv, jsonl, json, conll, txt"
                )
            );
        }
    }

    #[test]
    fn an_unknown_name_is_refused() {
        assert_eq!(
            "xml".parse::<Format>().unwrap_err().to_string(),
            "unknown format \"xml\", expected one of tsv, csv, jsonl, json, conll, txt"
        );
    }
}
