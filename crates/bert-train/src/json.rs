//! Objects of JSON files: one a line, or one array of them.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Deserializer, Map, Value};

use crate::error::{Error, Result};
use crate::lines::Lines;

/// One object: values by name, in the order of the file.
pub(crate) type Object = Map<String, Value>;

/// The number of the next line that is not blank, and the object on it.
pub(crate) fn next_line(lines: &mut Lines) -> Result<Option<(usize, Object)>> {
    if !lines.advance_to_row()? {
        return Ok(None);
    }
    match serde_json::from_str(lines.content()) {
        Ok(object) => Ok(Some((lines.number(), object))),
        Err(error) => Err(Error::Json {
            path: lines.path().into(),
            line: lines.number(),
            reason: reason(&error),
        }),
    }
}

/// Reads the objects of a file that holds one array.
pub(crate) struct JsonArray {
    path: PathBuf,
    text: String,
    /// Where in `text` the next token is looked for.
    offset: usize,
    /// The line of `offset`, from 1.
    line: usize,
    place: Place,
}

#[derive(Clone, Copy)]
enum Place {
    BeforeArray,
    AfterOpening,
    AfterObject,
    AfterArray,
}

impl JsonArray {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let bytes = fs::read(path).map_err(|source| Error::Read { path: path.into(), source })?;
        let text = String::from_utf8(bytes).map_err(|error| {
            let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            Error::NotUtf8 {
                path: path.into(),
                line: 1 + valid.iter().filter(|&&byte| byte == b'\n').count(),
            }
        })?;
        Ok(Self {
            path: path.into(),
            offset: if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 },
            text,
            line: 1,
            place: Place::BeforeArray,
        })
    }

    /// The line on which the next object starts, and the object.
    pub(crate) fn next_object(&mut self) -> Result<Option<(usize, Object)>> {
        loop {
            let token = self.skip_space();
            match (self.place, token) {
                (Place::BeforeArray | Place::AfterArray, None) => return Ok(None),
                (Place::BeforeArray, Some('[')) => {
                    self.move_by(1);
                    self.place = Place::AfterOpening;
                }
                (Place::AfterOpening | Place::AfterObject, Some(']')) => {
                    self.move_by(1);
                    self.place = Place::AfterArray;
                }
                (Place::AfterOpening, Some('{')) => return self.object().map(Some),
                (Place::AfterObject, Some(',')) => {
                    self.move_by(1);
                    if self.skip_space() != Some('{') {
                        return Err(self.error("expected an object after the comma"));
                    }
                    return self.object().map(Some);
                }
                (Place::BeforeArray, _) => return Err(self.error("expected an array")),
                (Place::AfterOpening, _) => return Err(self.error("expected an object")),
                (Place::AfterObject, _) => {
                    return Err(self.error("expected a comma or the end of the array"));
                }
                (Place::AfterArray, _) => {
                    return Err(self.error("expected nothing after the array"));
                }
            }
        }
    }

    fn object(&mut self) -> Result<(usize, Object)> {
        let line = self.line;
        let mut objects = Deserializer::from_str(&self.text[self.offset..]).into_iter::<Object>();
        let object = match objects.next() {
            Some(Ok(object)) => object,
            Some(Err(error)) => {
                return Err(Error::Json {
                    path: self.path.clone(),
                    // The parser counts from the start of the object.
                    line: line + error.line().saturating_sub(1),
                    reason: reason(&error),
                });
            }
            None => return Err(self.error("expected an object")),
        };
        let length = objects.byte_offset();
        self.move_by(length);
        self.place = Place::AfterObject;
        Ok((line, object))
    }

    /// Moves past white space and gives the character there.
    fn skip_space(&mut self) -> Option<char> {
        let rest = &self.text[self.offset..];
        let length = rest.len() - rest.trim_start_matches([' ', '\t', '\r', '\n']).len();
        self.move_by(length);
        self.text[self.offset..].chars().next()
    }

    fn move_by(&mut self, length: usize) {
        let passed = &self.text[self.offset..self.offset + length];
        self.line += passed.bytes().filter(|&byte| byte == b'\n').count();
        self.offset += length;
    }

    fn error(&self, reason: &str) -> Error {
        Error::Json { path: self.path.clone(), line: self.line, reason: reason.into() }
    }
}

/// What the parser said, without where: it counts lines from the start of what it was given.
fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rfind(" at line ") {
        Some(end) => text[..end].into(),
        None => text,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;

    fn objects(text: impl AsRef<[u8]>) -> Result<Vec<(usize, Value)>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.json");
        fs::write(&path, text).unwrap();
        let mut array = JsonArray::open(&path)?;
        std::iter::from_fn(|| array.next_object().transpose())
            .map(|object| object.map(|(line, object)| (line, Value::Object(object))))
            .collect()
    }

    fn message(text: impl AsRef<[u8]>) -> String {
        objects(text).unwrap_err().to_string()
    }

    #[test]
    fn objects_come_with_their_lines() {
        let text = "\u{feff}\n[ {\"a\": 1},\n\n {\"a\":\n [\"]\", {}]} , {} ]\r\n";
        assert_eq!(
            objects(text).unwrap(),
            [(2, json!({"a": 1})), (4, json!({"a": ["]", {}]})), (5, json!({})),]
        );
        assert_eq!(objects("[]").unwrap(), []);
        assert_eq!(objects(" \n").unwrap(), []);
    }

    #[test]
    fn what_is_not_an_array_of_objects_is_refused_with_its_line() {
        for (text, expected) in [
            ("\n{\"a\": 1}", "line 2: expected an array"),
            ("[\n1]", "line 2: expected an object"),
            ("[{}\n{}]", "line 2: expected a comma or the end of the array"),
            ("[{},\n]", "line 2: expected an object after the comma"),
            ("[{}]\n[]", "line 2: expected nothing after the array"),
            ("[{}\n", "line 2: expected a comma or the end of the array"),
            ("[\n{\"a\":\n1,}]", "line 3: trailing comma"),
            ("[{\"a\": tru}]", "line 1: expected ident"),
        ] {
            let message = message(text);
            assert!(
                message.contains(&format!(
                    "rows.json, {expected}: a .jsonl file holds one object a line"
                )),
                "{text:?}: {message}"
            );
        }
    }

    #[test]
    fn invalid_utf8_is_refused_with_its_line() {
        assert!(
            message(b"[\n{\"a\": \"\xff\"}]")
                .ends_with("rows.json, line 2: invalid UTF-8: convert the file to UTF-8")
        );
    }

    #[test]
    fn an_absent_file_is_refused() {
        let error = JsonArray::open(Path::new("absent/rows.json")).err().unwrap();
        assert!(error.to_string().starts_with("cannot read absent/rows.json: "), "{error}");
    }

    #[test]
    fn deep_nesting_is_an_error_and_no_overflow() {
        let message = message(format!("[{{\"a\": {}", "[".repeat(1_000_000)));
        assert!(message.contains("recursion limit exceeded"), "{message}");
    }
}
