//! Records of comma-separated values.
//!
//! # Source
//! RFC 4180. Beyond it, LF also ends a record, and a quote inside a field that does not begin with one is text.

use std::mem;

use crate::error::{Error, Result};
use crate::lines::Lines;

enum State {
    FieldStart,
    Plain,
    Quoted,
    /// After a quote in a quoted field: its end, or the first half of an escaped quote.
    QuoteInQuoted,
}

/// The line on which the next record starts, and its fields; blank lines before it are skipped.
pub(crate) fn next_record(lines: &mut Lines) -> Result<Option<(usize, Vec<String>)>> {
    if !lines.advance_to_row()? {
        return Ok(None);
    }
    let start = lines.number();
    let mut fields = Vec::new();
    let mut field = String::new();
    let mut state = State::FieldStart;
    loop {
        for character in lines.content().chars() {
            state = match (state, character) {
                (State::Quoted, '"') => State::QuoteInQuoted,
                (State::FieldStart, '"') => State::Quoted,
                (State::Quoted, _) | (State::QuoteInQuoted, '"') => {
                    field.push(character);
                    State::Quoted
                }
                (_, ',') => {
                    fields.push(mem::take(&mut field));
                    State::FieldStart
                }
                (State::QuoteInQuoted, got) => {
                    return Err(Error::AfterQuote {
                        path: lines.path().into(),
                        line: lines.number(),
                        got,
                    });
                }
                (State::FieldStart | State::Plain, _) => {
                    field.push(character);
                    State::Plain
                }
            };
        }
        if !matches!(state, State::Quoted) {
            fields.push(field);
            return Ok(Some((start, fields)));
        }
        field.push_str(lines.end());
        if !lines.advance()? {
            return Err(Error::UnclosedQuote { path: lines.path().into(), line: start });
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fs;

    type Records = Vec<(usize, Vec<String>)>;

    fn records(text: &str) -> Result<Records> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.csv");
        fs::write(&path, text).unwrap();
        let mut lines = Lines::open(&path)?;
        std::iter::from_fn(|| next_record(&mut lines).transpose()).collect()
    }

    fn row(line: usize, fields: &[&str]) -> (usize, Vec<String>) {
        (line, fields.iter().map(|&field| field.into()).collect())
    }

    #[test]
    fn quotes_commas_and_line_ends_are_read() {
        let text = "a, b ,\"c,d\"\r\n\"say \"\"hi\"\"\",\"\",\r\n\n5\" disk,it's,\"x\ny\r\nz\"\n\"\"\nlast";
        assert_eq!(
            records(text).unwrap(),
            [
                row(1, &["a", " b ", "c,d"]),
                row(2, &["say \"hi\"", "", ""]),
                row(4, &["5\" disk", "it's", "x\ny\r\nz"]),
                row(7, &[""]),
                row(8, &["last"]),
            ]
        );
    }

    #[test]
    fn an_unclosed_quote_is_refused() {
        let message = records("a,b\nc,\"d\ne,f\n").unwrap_err().to_string();
        assert!(
            message.ends_with("rows.csv, line 2: the row opens a quote that is never closed: write a quote inside a quoted field as \"\""),
            "{message}"
        );
    }

    #[test]
    fn text_after_a_closing_quote_is_refused() {
        let message = records("a,b\n\"c\n\"d,e\n").unwrap_err().to_string();
        assert!(
            message.contains("rows.csv, line 3: expected a comma or the end of the row after a closing quote, got 'd'"),
            "{message}"
        );
    }

    proptest! {
        #[test]
        fn what_is_written_quoted_is_read_back(
            rows in prop::collection::vec(prop::collection::vec("[a-c \",\r\n]{0,6}", 2), 1..6)
        ) {
            let text: String = rows
                .iter()
                .map(|row| {
                    let quoted: Vec<_> = row.iter().map(|f| format!("\"{}\"", f.replace('"', "\"\""))).collect();
                    quoted.join(",") + "\r\n"
                })
                .collect();
            let read: Vec<_> = records(&text).unwrap().into_iter().map(|(_, fields)| fields).collect();
            prop_assert_eq!(read, rows);
        }
    }
}
