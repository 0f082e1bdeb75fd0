//! Which columns of a data file are text and which is the label.

use std::fmt;
use std::iter;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

use crate::closest::closest;
use crate::error::{Error, Result};
use crate::format::Format;
use crate::rows::Rows;
use crate::suggestion::fitting_columns;

/// A column of a data file.
///
/// In text and in run files, digits alone are a number and all else is a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "WrittenColumn", into = "WrittenColumn")]
pub enum Column {
    /// The column whose header is this.
    Name(String),
    /// The column with this number, from 1.
    Number(usize),
}

#[derive(Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a column: a name or a number from 1")]
enum WrittenColumn {
    Number(usize),
    Text(String),
}

/// The columns that a task reads: texts and a label, or tokens and their tags.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Columns {
    /// One text or a pair; when empty, all columns but the label.
    #[serde(deserialize_with = "columns")]
    pub text: Vec<Column>,
    /// The label; when absent, the last column.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "column")]
    pub label: Option<Column>,
    /// What separates several labels in one column.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label_separator: Option<char>,
    /// The tokens of a sentence.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "column")]
    pub tokens: Option<Column>,
    /// The tags of the tokens.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "column")]
    pub tags: Option<Column>,
    /// Whether the first row is a header even though no column is given by name.
    pub header: bool,
}

/// In a file, one column may stand by itself where several may be given, and in a list where one is.
#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a column (a name or a number from 1) or a list of columns")]
enum OneOrMore {
    One(Column),
    More(Vec<Column>),
}

fn columns<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> std::result::Result<Vec<Column>, D::Error> {
    Ok(match OneOrMore::deserialize(deserializer)? {
        OneOrMore::One(column) => vec![column],
        OneOrMore::More(columns) => columns,
    })
}

fn column<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> std::result::Result<Option<Column>, D::Error> {
    match columns(deserializer)?.as_slice() {
        [] => Ok(None),
        [column] => Ok(Some(column.clone())),
        more => Err(D::Error::custom(format!("expected one column, got {}", more.len()))),
    }
}

/// Where the columns of a task are in a row, from 0.
pub(crate) struct Positions {
    pub(crate) text: usize,
    pub(crate) pair: Option<usize>,
    pub(crate) label: Option<usize>,
}

impl Columns {
    /// Whether the first row is a header: it is when a column is given by name, or `header` says so.
    pub fn has_header(&self) -> bool {
        let is_name = |column: &Column| matches!(column, Column::Name(_));
        let others = self.label.iter().chain(&self.tokens).chain(&self.tags);
        self.header || self.text.iter().chain(others).any(is_name)
    }

    /// The same columns with the ones that were left open written out, as they are in this file.
    ///
    /// # Errors
    /// Where the first row can't be read, or has no such columns.
    pub fn complete(&self, path: &Path, format: Option<Format>) -> Result<Self> {
        let rows = Rows::open(path, format, self.has_header())?;
        let positions = self.positions(&rows, format)?;
        let mut columns = self.clone();
        if columns.text.is_empty() {
            let texts = iter::once(positions.text).chain(positions.pair);
            columns.text = texts.map(|position| Column::at(position, &rows)).collect();
        }
        if columns.label.is_none() {
            columns.label = positions.label.map(|position| Column::at(position, &rows));
        }
        Ok(columns)
    }

    /// Where the texts and the label are in `rows`.
    pub(crate) fn positions(&self, rows: &Rows, format: Option<Format>) -> Result<Positions> {
        if rows.width() == 1
            && let Some(first) = rows.first_text()
        {
            let (path, first) = (rows.path().into(), first.chars().take(200).collect());
            let format = format.map_or_else(|| Format::of_path(rows.path()), Ok)?;
            return Err(Error::OneColumn { path, format, first });
        }
        let label = match &self.label {
            Some(column) => column.position(rows)?,
            // An object of JSON may be empty; then there is no text either.
            None => rows.width().saturating_sub(1),
        };
        let texts = match self.given_texts(rows)? {
            texts if texts.is_empty() => {
                (0..rows.width()).filter(|&position| position != label).collect()
            }
            texts => texts,
        };
        if texts.contains(&label) {
            return Err(Error::LabelIsText {
                path: rows.path().into(),
                column: Column::at(label, rows).to_string(),
            });
        }
        text_positions(&texts, Some(label)).ok_or_else(|| Error::TextColumns {
            path: rows.path().into(),
            columns: rows.width(),
            got: texts.len(),
            fitting: fitting_columns(rows.path(), format, self.has_header()),
        })
    }

    /// Where the texts alone are in `rows`: as many as `expected`, by default the first columns.
    pub(crate) fn positions_without_label(
        &self,
        rows: &Rows,
        expected: usize,
    ) -> Result<Positions> {
        let texts = match self.given_texts(rows)? {
            texts if texts.is_empty() => (0..rows.width()).take(expected).collect(),
            texts => texts,
        };
        text_positions(&texts, None).filter(|_| texts.len() == expected).ok_or_else(|| {
            Error::TextCount { path: rows.path().into(), expected, got: texts.len() }
        })
    }

    fn given_texts(&self, rows: &Rows) -> Result<Vec<usize>> {
        self.text.iter().map(|column| column.position(rows)).collect()
    }
}

/// `None` unless there are one or two texts.
fn text_positions(texts: &[usize], label: Option<usize>) -> Option<Positions> {
    let (text, pair) = match *texts {
        [text] => (text, None),
        [text, pair] => (text, Some(pair)),
        _ => return None,
    };
    Some(Positions { text, pair, label })
}

impl Column {
    /// The column at a position from 0: by name where that names it and no other.
    pub(crate) fn at(position: usize, rows: &Rows) -> Self {
        let number = Self::Number(position + 1);
        let Some(name) = rows.names().and_then(|names| names.get(position)) else {
            return number;
        };
        match name.parse() {
            Ok(column @ Self::Name(_)) if column.position(rows).is_ok() => column,
            _ => number,
        }
    }

    pub(crate) fn position(&self, rows: &Rows) -> Result<usize> {
        match self {
            &Self::Number(number) if (1..=rows.width()).contains(&number) => Ok(number - 1),
            &Self::Number(number) => {
                Err(Error::NoSuchColumn { path: rows.path().into(), number, columns: rows.width() })
            }
            Self::Name(name) => {
                let names = rows.names().unwrap_or_default();
                let mut places = (0..names.len()).filter(|&place| names[place] == *name);
                match (places.next(), places.next()) {
                    (Some(place), None) => Ok(place),
                    (Some(_), Some(_)) => {
                        Err(Error::AmbiguousColumn { path: rows.path().into(), name: name.clone() })
                    }
                    (None, _) => Err(Error::UnknownColumn {
                        path: rows.path().into(),
                        name: name.clone(),
                        columns: names.to_vec(),
                        closest: closest(name, names.iter().map(String::as_str)).map(String::from),
                    }),
                }
            }
        }
    }
}

impl FromStr for Column {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if text.bytes().any(|byte| !byte.is_ascii_digit()) {
            return Ok(Self::Name(text.into()));
        }
        match text.parse() {
            Ok(number) if number > 0 => Ok(Self::Number(number)),
            _ => Err(Error::InvalidColumn { text: text.into() }),
        }
    }
}

impl fmt::Display for Column {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Number(number) => write!(f, "{number}"),
        }
    }
}

/// As the flags of the program that choose them.
impl fmt::Display for Columns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts = self.text.iter().map(|column| ("--text", column));
        let flags = texts
            .chain(self.label.iter().map(|column| ("--label", column)))
            .chain(self.tokens.iter().map(|column| ("--tokens", column)))
            .chain(self.tags.iter().map(|column| ("--tags", column)));
        let mut words: Vec<String> = flags
            .map(|(flag, column)| match column.to_string() {
                name if name.contains(|c: char| !c.is_alphanumeric() && c != '_') => {
                    format!("{flag} '{name}'")
                }
                name => format!("{flag} {name}"),
            })
            .collect();
        if self.header {
            words.push("--header".into());
        }
        f.write_str(&words.join(" "))
    }
}

impl TryFrom<WrittenColumn> for Column {
    type Error = Error;

    fn try_from(column: WrittenColumn) -> Result<Self> {
        match column {
            WrittenColumn::Number(number) => number.to_string().parse(),
            WrittenColumn::Text(text) => text.parse(),
        }
    }
}

impl From<Column> for WrittenColumn {
    fn from(column: Column) -> Self {
        match column {
            Column::Number(number) => Self::Number(number),
            Column::Name(name) => Self::Text(name),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::fs;

    fn name(name: &str) -> Column {
        Column::Name(name.into())
    }

    fn columns(text: &[Column], label: Option<Column>, header: bool) -> Columns {
        Columns { text: text.to_vec(), label, header, ..Columns::default() }
    }

    fn complete(file: &str, text: &str, columns: &Columns) -> Result<Columns> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(file);
        fs::write(&path, text).unwrap();
        columns.complete(&path, None)
    }

    fn message(file: &str, text: &str, columns: &Columns) -> String {
        complete(file, text, columns).unwrap_err().to_string()
    }

    #[test]
    fn digits_are_a_number_and_all_else_is_a_name() {
        assert_eq!("12".parse::<Column>().unwrap(), Column::Number(12));
        for text in ["label", "-1", "+1", "1.0", " 1", "1a"] {
            assert_eq!(text.parse::<Column>().unwrap(), name(text));
        }
    }

    #[test]
    fn what_is_no_column_is_refused() {
        for text in ["0", "00", "", "99999999999999999999999"] {
            assert_eq!(
                text.parse::<Column>().unwrap_err().to_string(),
                format!("{text:?} is not a column: columns are names or numbers from 1")
            );
        }
    }

    #[test]
    fn columns_are_kept_as_json() {
        let columns = columns(&[name("a"), Column::Number(2)], Some(name("c")), true);
        let json = serde_json::to_string(&columns).unwrap();
        assert_eq!(json, r#"{"text":["a",2],"label":"c","header":true}"#);
        assert_eq!(serde_json::from_str::<Columns>(&json).unwrap(), columns);
        assert_eq!(serde_json::from_str::<Columns>("{}").unwrap(), Columns::default());
        assert_eq!(serde_json::from_str::<Column>("\"3\"").unwrap(), Column::Number(3));
        for (json, reason) in
            [("0", "\"0\" is not a column"), ("-1", "expected a column: a name or a number from 1")]
        {
            let error = serde_json::from_str::<Column>(json).unwrap_err();
            assert!(error.to_string().contains(reason), "{error}");
        }
    }

    #[test]
    fn columns_are_shown_as_flags() {
        let shown = columns(&[name("a b"), name("t_1")], Some(Column::Number(3)), true).to_string();
        assert_eq!(shown, "--text 'a b' --text t_1 --label 3 --header");
    }

    #[test]
    fn a_name_makes_a_header() {
        assert!(columns(&[name("a")], None, false).has_header());
        assert!(columns(&[], Some(name("a")), false).has_header());
        assert!(columns(&[], None, true).has_header());
        assert!(!columns(&[Column::Number(1)], Some(Column::Number(2)), false).has_header());
        assert!(Columns { tags: Some(name("a")), ..Columns::default() }.has_header());
    }

    #[test]
    fn the_last_column_is_the_label_and_all_others_are_text() {
        let numbers = |text: &[usize], label| {
            let text: Vec<_> = text.iter().map(|&number| Column::Number(number)).collect();
            columns(&text, Some(Column::Number(label)), false)
        };
        let none = Columns::default();
        assert_eq!(complete("a.tsv", "a\tb\tc\n", &none).unwrap(), numbers(&[1, 2], 3));
        assert_eq!(complete("a.tsv", "a\tb\n", &none).unwrap(), numbers(&[1], 2));
        let first = columns(&[], Some(Column::Number(1)), false);
        assert_eq!(complete("a.tsv", "a\tb\tc\n", &first).unwrap(), numbers(&[2, 3], 1));
    }

    #[test]
    fn columns_with_names_are_completed_by_name() {
        let header = columns(&[], None, true);
        let completed = complete("a.csv", "text,label\na,b\n", &header).unwrap();
        assert_eq!(completed, columns(&[name("text")], Some(name("label")), true));
        let completed =
            complete("a.jsonl", r#"{"text":1,"label":2}"#, &Columns::default()).unwrap();
        assert_eq!(completed, columns(&[name("text")], Some(name("label")), false));
        // Names that stand for a number, for nothing, or for two columns cannot be used.
        let completed = complete("a.csv", "2,x\na,b\n", &header).unwrap();
        assert_eq!(completed, columns(&[Column::Number(1)], Some(name("x")), true));
        let completed = complete("a.csv", ",x,x\na,b,c\n", &header).unwrap();
        assert_eq!(
            completed,
            columns(&[Column::Number(1), Column::Number(2)], Some(Column::Number(3)), true)
        );
    }

    #[test]
    fn an_unknown_name_is_refused_with_the_names_there_are() {
        let wanted = columns(&[name("sentense")], None, false);
        let message = message("a.tsv", "sentence\tlabel\na\tb\n", &wanted);
        assert!(
            message.ends_with("a.tsv has no column \"sentense\" (did you mean \"sentence\"?), its columns are sentence, label: a name makes the first row the header, a number from 1 does not"),
            "{message}"
        );
    }

    #[test]
    fn a_number_past_the_last_column_is_refused() {
        let wanted = columns(&[Column::Number(3)], None, false);
        let message = message("a.tsv", "a\tb\n", &wanted);
        assert!(message.ends_with("a.tsv has no column 3: its last is 2"), "{message}");
    }

    #[test]
    fn a_name_of_two_columns_is_refused() {
        let wanted = columns(&[name("a")], None, false);
        let message = message("a.csv", "a,a,b\n1,2,3\n", &wanted);
        assert!(
            message.ends_with("a.csv has several columns named \"a\": give the number of one, from 1, and --header"),
            "{message}"
        );
    }

    #[test]
    fn none_or_three_texts_are_refused_with_the_flags_that_would_fit() {
        let table = "1\tthe first one\tits pair\tyes\n2\tthe other one\tits pair\tno\n\
                     3\tanother one\tthe pair\tyes\n4\tand one more\ta pair\tno\n";
        let message_of_four = message("a.tsv", table, &Columns::default());
        assert!(
            message_of_four.ends_with("a.tsv: 3 of 4 columns would be text, expected one or two: `--text 2 --text 3 --label 4` would fit"),
            "{message_of_four}"
        );
        let message_of_one = message("a.txt", "some text\n", &Columns::default());
        assert!(
            message_of_one.ends_with("a.txt has one column, expected a text and its label: give a file with a text and a label a row (tsv, csv, jsonl or json)"),
            "{message_of_one}"
        );
        let message_of_nothing = message("a.jsonl", "{}", &Columns::default());
        assert!(message_of_nothing.contains("a.jsonl: 0 of 0 columns"), "{message_of_nothing}");
    }

    #[test]
    fn a_text_that_is_the_label_is_refused() {
        let wanted = columns(&[Column::Number(2)], None, false);
        let message = message("a.tsv", "a\tb\n", &wanted);
        assert!(
            message.ends_with(
                "a.tsv: column 2 would be both a text and the label: name another with --label COL"
            ),
            "{message}"
        );
    }
}
