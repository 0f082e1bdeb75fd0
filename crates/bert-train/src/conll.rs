//! Sentences with one token a line.

use crate::columns::Column;
use crate::error::{Error, Result};
use crate::lines::Lines;
use crate::sentences::Sentence;

/// What a line of CoNLL-2003 begins with that is no token: one stands before each document.
const DOCUMENT_START: &str = "-DOCSTART-";

/// Reads the sentences of a CoNLL file one after the other.
///
/// Columns stand between tabs, or between spaces on a line without a tab. A blank line ends a sentence; a line that starts
/// with `# ` and has no tab is a comment.
pub(crate) struct Conll {
    lines: Lines,
    tokens: usize,
    tags: Option<usize>,
    /// How many columns the first line has; every other line must have as many.
    width: Option<usize>,
}

impl Conll {
    /// Begins a file of which tokens are read and, with `tagged`, tags: by default the first and the last column.
    pub(crate) fn open(
        lines: Lines,
        tokens: Option<&Column>,
        tags: Option<&Column>,
        tagged: bool,
    ) -> Result<Self> {
        let number = |column: &Column| match column {
            Column::Number(number) => Ok(number - 1),
            Column::Name(name) => {
                Err(Error::NoColumnNames { path: lines.path().into(), name: name.clone() })
            }
        };
        let tokens = tokens.map_or(Ok(0), number)?;
        // The last column, however many there are.
        let tags = tags.map_or(Ok(usize::MAX), number)?;
        Ok(Self { lines, tokens, tags: tagged.then_some(tags), width: None })
    }

    pub(crate) fn next_sentence(&mut self) -> Result<Option<Sentence>> {
        let mut sentence: Option<Sentence> = None;
        while self.lines.advance()? {
            let content = self.lines.content();
            if content.starts_with("# ") && !content.contains('\t') {
                continue;
            }
            if content.bytes().all(|byte| matches!(byte, b' ' | b'\t')) {
                if sentence.is_some() {
                    break;
                }
                continue;
            }
            let line = self.lines.number();
            let fields: Vec<&str> = if content.contains('\t') {
                content.split('\t').collect()
            } else {
                content.split(' ').filter(|field| !field.is_empty()).collect()
            };
            if fields[0] == DOCUMENT_START {
                continue;
            }
            let width = *self.width.get_or_insert(fields.len());
            let (token, tag) = self.pick(&fields, width, line)?;
            let sentence = sentence.get_or_insert_with(|| Sentence { line, ..Sentence::default() });
            sentence.tokens.push(token.into());
            if let Some(tag) = tag {
                sentence.tags.get_or_insert_default().push(tag.into());
            }
        }
        Ok(sentence)
    }

    /// The token and the tag of a line, which must have `expected` columns.
    fn pick<'a>(
        &self,
        fields: &[&'a str],
        expected: usize,
        line: usize,
    ) -> Result<(&'a str, Option<&'a str>)> {
        let path = || self.lines.path().to_owned();
        let got = fields.len();
        if got != expected {
            let way_out = "a blank line ends a sentence, and columns stand between tabs or spaces";
            return Err(Error::ColumnCount { path: path(), line, expected, got, way_out });
        }
        let at = |position: usize| {
            let number = position + 1;
            let absent = || Error::NoSuchColumn { path: path(), number, columns: got };
            fields.get(position).copied().ok_or_else(absent)
        };
        let token = at(self.tokens)?;
        let Some(tags) = self.tags else { return Ok((token, None)) };
        let tags = if tags == usize::MAX { got - 1 } else { tags };
        if tags == self.tokens {
            return Err(Error::TokenColumns { path: path(), columns: got });
        }
        Ok((token, Some(at(tags)?)))
    }
}
