//! Rows of a data file of any format, read one after the other.

use std::io;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::csv;
use crate::error::{Error, Result};
use crate::format::Format;
use crate::json::{self, JsonArray, Object};
use crate::lines::Lines;

/// A value of a row.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    /// Text; in JSON also a number or a boolean, as JSON writes it.
    Text(String),
    /// An array of strings of a JSON row.
    List(Vec<String>),
    /// Something of a JSON row that is no text, in words.
    Other(&'static str),
}

impl Cell {
    /// What is there, in words.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => "text",
            Self::List(_) => "an array",
            Self::Other(kind) => kind,
        }
    }
}

/// One row of a data file.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// The line on which it starts, from 1.
    pub line: usize,
    /// One value a column.
    pub cells: Vec<Cell>,
}

/// Reads the rows of a data file, which all have the same columns.
pub struct Rows {
    path: PathBuf,
    source: Source,
    names: Option<Vec<String>>,
    width: usize,
    /// The first row, read by `open`; the iterator begins with it.
    first: Option<Row>,
    failed: bool,
}

/// Where the next row comes from.
enum Source {
    Tsv(Lines),
    Csv(Lines),
    Txt(Lines),
    Jsonl(Lines),
    Json(JsonArray),
}

/// A row as it stands in the file.
enum Record {
    Fields(Vec<String>),
    Object(Object),
}

impl Rows {
    /// Opens a file; without `format`, the extension tells it.
    ///
    /// With `header`, the first row of a file that is not JSON gives the names of the columns.
    /// The columns of a JSON file are the names in its first object; other names further down are passed over.
    ///
    /// # Errors
    /// Where the format is not known or is one of tokens, or the first row can't be read or is not there.
    pub fn open(path: &Path, format: Option<Format>, header: bool) -> Result<Self> {
        if path.is_dir() {
            let source = io::ErrorKind::IsADirectory.into();
            return Err(Error::Read { path: path.into(), source });
        }
        let format = format.map_or_else(|| Format::of_path(path), Ok)?;
        let mut source = match format {
            Format::Tsv => Source::Tsv(Lines::open(path)?),
            Format::Csv => Source::Csv(Lines::open(path)?),
            Format::Txt => Source::Txt(Lines::open(path)?),
            Format::Jsonl => Source::Jsonl(Lines::open(path)?),
            Format::Json => Source::Json(JsonArray::open(path)?),
            Format::Conll => return Err(Error::TokensNotTexts { path: path.into() }),
        };
        let empty = || Error::Empty { path: path.into() };
        let (line, record) = source.next_record()?.ok_or_else(empty)?;
        let (names, width) = match &record {
            Record::Fields(fields) => (header.then(|| fields.clone()), fields.len()),
            Record::Object(object) => (Some(object.keys().cloned().collect()), object.len()),
        };
        let mut rows = Self { path: path.into(), source, names, width, first: None, failed: false };
        rows.first = match record {
            Record::Fields(_) if header => Some(rows.read()?.ok_or_else(empty)?),
            record => Some(rows.row(line, record)?),
        };
        Ok(rows)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The names of the columns, where they have names.
    pub fn names(&self) -> Option<&[String]> {
        self.names.as_deref()
    }

    /// The first column of the first row, or its name.
    pub(crate) fn first_text(&self) -> Option<&str> {
        match (self.names(), &self.first) {
            (Some([name, ..]), _) => Some(name),
            (None, Some(Row { cells, .. })) => match cells.first() {
                Some(Cell::Text(text)) => Some(text),
                _ => None,
            },
            _ => None,
        }
    }

    /// How many columns there are.
    pub fn width(&self) -> usize {
        self.width
    }

    fn read(&mut self) -> Result<Option<Row>> {
        match self.source.next_record()? {
            Some((line, record)) => self.row(line, record).map(Some),
            None => Ok(None),
        }
    }

    fn row(&self, line: usize, record: Record) -> Result<Row> {
        let cells: Vec<Cell> = match record {
            Record::Fields(fields) => fields.into_iter().map(Cell::Text).collect(),
            Record::Object(mut object) => self
                .names
                .iter()
                .flatten()
                .map(|name| object.remove(name).map_or(Cell::Other("nothing"), cell))
                .collect(),
        };
        if cells.len() != self.width {
            return Err(Error::ColumnCount {
                path: self.path.clone(),
                line,
                expected: self.width,
                got: cells.len(),
                way_out: self.source.way_out(),
            });
        }
        Ok(Row { line, cells })
    }
}

impl Iterator for Rows {
    type Item = Result<Row>;

    /// The next row; nothing follows an error.
    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let next = match self.first.take() {
            Some(row) => Some(Ok(row)),
            None => self.read().transpose(),
        };
        self.failed = matches!(next, Some(Err(_)));
        next
    }
}

impl Source {
    /// The line on which the next record starts, and the record.
    fn next_record(&mut self) -> Result<Option<(usize, Record)>> {
        let fields = |(line, fields)| (line, Record::Fields(fields));
        let object = |(line, object)| (line, Record::Object(object));
        Ok(match self {
            Self::Tsv(lines) => next_line(lines, '\t')?.map(fields),
            Self::Csv(lines) => csv::next_record(lines)?.map(fields),
            // A line holds no line feed, so that nothing separates.
            Self::Txt(lines) => next_line(lines, '\n')?.map(fields),
            Self::Jsonl(lines) => json::next_line(lines)?.map(object),
            Self::Json(array) => array.next_object()?.map(object),
        })
    }

    fn way_out(&self) -> &'static str {
        match self {
            Self::Csv(_) => "put a field that holds a comma in quotes",
            _ => "exactly one tab separates two columns, and quotes are text",
        }
    }
}

fn next_line(lines: &mut Lines, separator: char) -> Result<Option<(usize, Vec<String>)>> {
    if !lines.advance_to_row()? {
        return Ok(None);
    }
    let fields = lines.content().split(separator).map(String::from);
    Ok(Some((lines.number(), fields.collect())))
}

fn cell(value: Value) -> Cell {
    match value {
        Value::String(text) => Cell::Text(text),
        Value::Number(number) => Cell::Text(number.to_string()),
        Value::Bool(truth) => Cell::Text(truth.to_string()),
        Value::Null => Cell::Other("null"),
        Value::Array(values) => {
            let strings = values.into_iter().map(|value| match value {
                Value::String(text) => Some(text),
                _ => None,
            });
            strings.collect::<Option<_>>().map_or(Cell::Other("an array"), Cell::List)
        }
        Value::Object(_) => Cell::Other("an object"),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fs;

    fn open(name: &str, text: &str, header: bool) -> Result<Rows> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        Rows::open(&path, None, header)
    }

    fn read(name: &str, text: &str, header: bool) -> Result<Vec<Row>> {
        open(name, text, header)?.collect()
    }

    fn row(line: usize, cells: &[&str]) -> Row {
        let cells = cells.iter().map(|&cell| Cell::Text(cell.into())).collect();
        Row { line, cells }
    }

    #[test]
    fn tsv_has_no_quoting() {
        assert_eq!(
            read("a.tsv", "\"a, b\t1\r\n\n\t\nc\\t\t\"\"", false).unwrap(),
            [row(1, &["\"a, b", "1"]), row(3, &["", ""]), row(4, &["c\\t", "\"\""])]
        );
    }

    #[test]
    fn csv_is_quoted() {
        assert_eq!(
            read("a.csv", "\"a\n, b\",1\n\nc,\"2\"\n", false).unwrap(),
            [row(1, &["a\n, b", "1"]), row(4, &["c", "2"])]
        );
    }

    #[test]
    fn txt_has_one_column() {
        assert_eq!(
            read("a.txt", "a\tb, c\n\n d\n", false).unwrap(),
            [row(1, &["a\tb, c"]), row(3, &[" d"])]
        );
    }

    #[test]
    fn a_header_names_the_columns() {
        let rows = open("a.tsv", "\ntext\tlabel\n\na\tb\n", true).unwrap();
        assert_eq!(rows.names().unwrap(), ["text", "label"]);
        assert_eq!(rows.width(), 2);
        assert_eq!(rows.map(Result::unwrap).collect::<Vec<_>>(), [row(4, &["a", "b"])]);
    }

    #[test]
    fn json_rows_follow_the_names_of_the_first() {
        let first = r#"{"z": "a", "a": 1, "b": true}"#;
        let second = r#"{"b": null, "more": 0, "a": [1], "z": 1.50}"#;
        let third = r#"{"z": {}, "a": -2e3}"#;
        let expected = [
            row(1, &["a", "1", "true"]),
            Row {
                line: 2,
                cells: vec![Cell::Text("1.5".into()), Cell::Other("an array"), Cell::Other("null")],
            },
            Row {
                line: 3,
                cells: vec![
                    Cell::Other("an object"),
                    Cell::Text("-2000.0".into()),
                    Cell::Other("nothing"),
                ],
            },
        ];
        let lines = format!("{first}\n{second}\n{third}");
        let array = format!("[{first},\n{second},\n{third}]");
        assert_eq!(read("a.jsonl", &lines, false).unwrap(), expected);
        assert_eq!(read("a.json", &array, false).unwrap(), expected);
        assert_eq!(open("a.jsonl", &lines, true).unwrap().names().unwrap(), ["z", "a", "b"]);
    }

    #[test]
    fn a_format_that_is_given_overrides_the_extension() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        fs::write(&path, "a\tb\n").unwrap();
        assert_eq!(Rows::open(&path, Some(Format::Tsv), false).unwrap().width(), 2);
    }

    #[test]
    fn a_row_of_another_width_is_refused_and_ends_the_file() {
        let mut rows = open("a.tsv", "a\tb\n\nc\nd\te\n", false).unwrap();
        assert!(rows.next().unwrap().is_ok());
        let message = rows.next().unwrap().unwrap_err().to_string();
        assert!(
            message.ends_with(
                "a.tsv, line 3: expected 2 columns as in the first row, got 1: exactly one tab separates two columns, and quotes are text"
            ),
            "{message}"
        );
        assert!(rows.next().is_none());
        let message = read("a.csv", "a,b\n\"c\nd\",e,f\n", true).unwrap_err().to_string();
        assert!(
            message.ends_with(
                "a.csv, line 2: expected 2 columns as in the first row, got 3: put a field that holds a comma in quotes"
            ),
            "{message}"
        );
    }

    #[test]
    fn a_file_without_rows_is_refused() {
        for (name, text, header) in [
            ("a.tsv", "", false),
            ("a.csv", "\n \r\n", false),
            ("a.tsv", "text\tlabel\n", true),
            ("a.txt", "\u{feff}", false),
            ("a.jsonl", "\n", false),
            ("a.json", "[]", false),
        ] {
            let message = read(name, text, header).unwrap_err().to_string();
            assert!(
                message.ends_with(&format!("{name} holds no row of data, expected at least one")),
                "{message}"
            );
        }
    }

    #[test]
    fn a_line_that_is_not_an_object_is_refused() {
        let message = read("a.jsonl", "{\"a\": 1}\n{\"a\": 1\n}\n", false).unwrap_err().to_string();
        assert!(
            message.contains("a.jsonl, line 2: EOF while parsing an object: a .jsonl file holds one object a line"),
            "{message}"
        );
        let message = read("a.jsonl", "[{\"a\": 1}]", false).unwrap_err().to_string();
        assert!(
            message.contains("a.jsonl, line 1: invalid type: sequence, expected a map"),
            "{message}"
        );
    }

    proptest! {
        #[test]
        fn tsv_is_read_as_written(
            rows in prop::collection::vec(("[^\t\n\r]{0,8}", "[^\t\n\r]{0,8}"), 1..8),
            end in prop::sample::select(vec!["\n", "\r\n"]),
        ) {
            // A byte order mark at the very start is not text.
            prop_assume!(!rows[0].0.starts_with('\u{feff}'));
            let text: String = rows.iter().map(|(a, b)| format!("{a}\t{b}{end}")).collect();
            let expected: Vec<_> = rows.iter().enumerate().map(|(i, (a, b))| row(i + 1, &[a, b])).collect();
            prop_assert_eq!(read("a.tsv", &text, false).unwrap(), expected);
        }
    }
}
