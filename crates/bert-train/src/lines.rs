//! The lines of a UTF-8 file, numbered.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::mem;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

const BYTE_ORDER_MARK: char = '\u{feff}';

/// Reads a file line by line; only LF and CRLF end a line.
pub(crate) struct Lines {
    path: PathBuf,
    reader: Box<dyn BufRead>,
    number: usize,
    line: String,
}

impl Lines {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|source| Error::Read { path: path.into(), source })?;
        Ok(Self {
            path: path.into(),
            reader: Box::new(BufReader::new(file)),
            number: 0,
            line: String::new(),
        })
    }

    /// Moves to the next line; `false` after the last.
    pub(crate) fn advance(&mut self) -> Result<bool> {
        let mut bytes = mem::take(&mut self.line).into_bytes();
        bytes.clear();
        let read = self
            .reader
            .read_until(b'\n', &mut bytes)
            .map_err(|source| Error::Read { path: self.path.clone(), source })?;
        if read == 0 {
            return Ok(false);
        }
        self.number += 1;
        self.line = String::from_utf8(bytes)
            .map_err(|_| Error::NotUtf8 { path: self.path.clone(), line: self.number })?;
        if self.number == 1 && self.line.starts_with(BYTE_ORDER_MARK) {
            self.line.remove(0);
        }
        Ok(true)
    }

    /// Moves to the next line that holds more than spaces; `false` when there is none.
    ///
    /// A line of tabs is not blank: it is a row of empty columns.
    pub(crate) fn advance_to_row(&mut self) -> Result<bool> {
        while self.advance()? {
            if self.content().bytes().any(|byte| byte != b' ') {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The line without its line end.
    pub(crate) fn content(&self) -> &str {
        let line = self.line.strip_suffix('\n').unwrap_or(&self.line);
        line.strip_suffix('\r').unwrap_or(line)
    }

    /// The line end: LF, CRLF, or nothing at the end of the file.
    pub(crate) fn end(&self) -> &str {
        &self.line[self.content().len()..]
    }

    /// The number of the line, from 1.
    pub(crate) fn number(&self) -> usize {
        self.number
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::fs;

    fn open(bytes: &[u8]) -> (tempfile::TempDir, Result<Lines>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.tsv");
        fs::write(&path, bytes).unwrap();
        (folder, Lines::open(&path))
    }

    #[test]
    fn only_lf_and_crlf_end_a_line() {
        let (_folder, lines) = open("a\u{85}b\u{2028}c\rd\ne\r\nf\r\r\ng".as_bytes());
        let mut lines = lines.unwrap();
        let mut seen = Vec::new();
        while lines.advance().unwrap() {
            seen.push((lines.number(), lines.content().to_owned(), lines.end().to_owned()));
        }
        let expected =
            [(1, "a\u{85}b\u{2028}c\rd", "\n"), (2, "e", "\r\n"), (3, "f\r", "\r\n"), (4, "g", "")];
        assert_eq!(seen, expected.map(|(n, text, end)| (n, text.to_owned(), end.to_owned())));
    }

    #[test]
    fn blank_lines_are_skipped_and_counted() {
        let (_folder, lines) = open(b"\n  \n\r\na\n\t\n\n");
        let mut lines = lines.unwrap();
        assert!(lines.advance_to_row().unwrap());
        assert_eq!((lines.number(), lines.content()), (4, "a"));
        assert!(lines.advance_to_row().unwrap());
        assert_eq!((lines.number(), lines.content()), (5, "\t"));
        assert!(!lines.advance_to_row().unwrap());
    }

    #[test]
    fn a_byte_order_mark_is_dropped_at_the_start_only() {
        let (_folder, lines) = open("\u{feff}a\n\u{feff}b\n".as_bytes());
        let mut lines = lines.unwrap();
        assert!(lines.advance().unwrap());
        assert_eq!(lines.content(), "a");
        assert!(lines.advance().unwrap());
        assert_eq!(lines.content(), "\u{feff}b");
    }

    #[test]
    fn invalid_utf8_is_refused_with_its_line() {
        let (folder, lines) = open(b"a\nb\xff\n");
        let mut lines = lines.unwrap();
        assert!(lines.advance().unwrap());
        assert_eq!(
            lines.advance().unwrap_err().to_string(),
            format!(
                "{}, line 2: invalid UTF-8: convert the file to UTF-8",
                folder.path().join("rows.tsv").display()
            )
        );
    }

    #[test]
    fn an_unreadable_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let absent = folder.path().join("absent.tsv");
        let error = Lines::open(&absent).err().unwrap();
        assert!(
            error.to_string().starts_with(&format!("cannot read {}: ", absent.display())),
            "{error}"
        );
        assert!(std::error::Error::source(&error).is_some());
        let error = Lines::open(folder.path()).and_then(|mut lines| lines.advance()).unwrap_err();
        assert!(
            error.to_string().starts_with(&format!("cannot read {}: ", folder.path().display())),
            "{error}"
        );
    }
}
