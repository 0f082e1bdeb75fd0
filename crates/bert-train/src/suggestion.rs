//! The columns that would fit a data file, worked out from its values.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::path::Path;

use crate::columns::{Column, Columns};
use crate::error::Result;
use crate::format::Format;
use crate::rows::{Cell, Rows};

/// A column with this many distinct values is not taken for the label.
const MANY_VALUES: usize = 1000;

/// What is longer than so many characters is not shown as the name of a column.
const LONGEST_NAME: usize = 40;

/// What the values of one column look like.
#[derive(Default)]
struct Profile {
    /// How often each value occurs; values past the first `MANY_VALUES` are not counted.
    occurrences: HashMap<String, usize>,
    /// Bytes of all values together.
    length: usize,
    /// Rows with more than one word.
    sentences: usize,
    /// Whether some row has no text here.
    has_gaps: bool,
}

/// The way out of a choice of columns that does not fit: those that would, where they can be told.
pub(crate) fn fitting_columns(
    path: &Path,
    format: Option<Format>,
    header: bool,
) -> Option<Box<Columns>> {
    // The message is about the choice of columns: another fault of the file has no place in it.
    guess(path, format, header).ok().flatten().map(Box::new)
}

/// The label is probably the column of the fewest values that repeat, the texts are the longest others.
fn guess(path: &Path, format: Option<Format>, header: bool) -> Result<Option<Columns>> {
    let mut rows = Rows::open(path, format, header)?;
    // The first row is kept apart, for it may be a header that nobody told us of.
    let first = match rows.names() {
        None => rows.next().transpose()?,
        Some(_) => None,
    };
    let mut profiles: Vec<Profile> = (0..rows.width()).map(|_| Profile::default()).collect();
    let mut count = 0;
    for row in rows {
        for (profile, cell) in profiles.iter_mut().zip(row?.cells) {
            profile.add(cell);
        }
        count += 1;
    }
    let candidates = (0..profiles.len()).filter(|&column| profiles[column].may_be_label(count));
    let Some(label) = candidates.min_by_key(|&column| profiles[column].occurrences.len()) else {
        return Ok(None);
    };
    let text = texts(&profiles, label, count);
    let first_label = first.as_ref().map(|row| &row.cells[label]);
    let header = header
        || matches!(first_label, Some(Cell::Text(value)) if !profiles[label].occurrences.contains_key(value));
    let rows = Rows::open(path, format, header)?;
    let column_at = |position| match Column::at(position, &rows) {
        Column::Name(name) if name.chars().count() > LONGEST_NAME => Column::Number(position + 1),
        column => column,
    };
    let mut columns = Columns {
        text: text.into_iter().map(column_at).collect(),
        label: Some(column_at(label)),
        ..Columns::default()
    };
    columns.header = header && !columns.has_header();
    Ok((!columns.text.is_empty()).then_some(columns))
}

/// The two longest columns of sentences, else the longest column.
fn texts(profiles: &[Profile], label: usize, rows: usize) -> Vec<usize> {
    let mut others: Vec<usize> = (0..profiles.len()).filter(|&column| column != label).collect();
    let is_sentences = |column: usize| profiles[column].is_sentences(rows);
    others.sort_by_key(|&column| Reverse((is_sentences(column), profiles[column].length)));
    let sentences = others.iter().filter(|&&column| is_sentences(column)).count();
    others.truncate(sentences.clamp(1, 2));
    others.sort_unstable();
    others
}

impl Profile {
    fn add(&mut self, cell: Cell) {
        let Cell::Text(value) = cell else {
            self.has_gaps = true;
            return;
        };
        self.has_gaps |= value.is_empty();
        self.length += value.len();
        self.sentences += usize::from(value.split_whitespace().nth(1).is_some());
        if let Some(count) = self.occurrences.get_mut(&value) {
            *count += 1;
        } else if self.occurrences.len() < MANY_VALUES {
            self.occurrences.insert(value, 1);
        }
    }

    fn may_be_label(&self, rows: usize) -> bool {
        let once = self.occurrences.values().filter(|&&count| count == 1).count();
        !self.has_gaps && (2..MANY_VALUES).contains(&self.occurrences.len()) && 2 * once <= rows
    }

    fn is_sentences(&self, rows: usize) -> bool {
        2 * self.sentences > rows
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::fs;

    fn fitting(name: &str, text: &str, header: bool) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        fitting_columns(&path, None, header).map(|columns| columns.to_string()).unwrap_or_default()
    }

    /// Six rows of id, topic (three values), sentence, label (two values).
    fn rows() -> String {
        (0..6).map(|i| format!("id{i}\tt{}\tthis is row {i}\t{}\n", i % 3, i % 2)).collect()
    }

    #[test]
    fn the_fewest_values_are_the_label_and_the_longest_is_the_text() {
        assert_eq!(fitting("a.tsv", &rows(), false), "--text 3 --label 4");
    }

    #[test]
    fn a_header_is_noticed() {
        let named = format!("id\ttopic\tmy text\tlabel\n{}", rows());
        let expected = "--text 'my text' --label label";
        assert_eq!(fitting("a.tsv", &named, false), expected);
        assert_eq!(fitting("a.tsv", &named, true), expected);
        let unnamed = format!("\t\t1\t2\n{}", rows());
        assert_eq!(fitting("a.tsv", &unnamed, false), "--text 3 --label 4 --header");
        let long = format!("id\ttopic\t{}\tlabel\n{}", "x".repeat(41), rows());
        assert_eq!(fitting("a.tsv", &long, false), "--text 3 --label label");
    }

    #[test]
    fn two_columns_of_sentences_are_a_pair() {
        let pairs: String = (0..6).map(|i| format!("{},sentence {i},a pair\n", i % 2)).collect();
        assert_eq!(fitting("a.csv", &pairs, false), "--text 2 --text 3 --label 1");
    }

    #[test]
    fn one_word_texts_are_texts_when_there_is_nothing_else() {
        let words: String = (0..6).map(|i| format!("{}\tword{i}\t{i}\n", i % 2)).collect();
        assert_eq!(fitting("a.tsv", &words, false), "--text 2 --label 1");
    }

    #[test]
    fn columns_with_gaps_are_not_the_label() {
        let gaps: String =
            (0..6).map(|i| format!("{}\t{}\tsome text\n", ["", "*"][i % 2], i % 3)).collect();
        assert_eq!(fitting("a.tsv", &gaps, false), "--text 3 --label 2");
    }

    #[test]
    fn nothing_is_said_where_nothing_can_be_told() {
        let distinct: String = (0..6).map(|i| format!("{i}\ttext {i}\n")).collect();
        assert_eq!(fitting("a.tsv", &distinct, false), "");
        assert_eq!(fitting("a.txt", "a\nb\na\nb\n", false), "");
        assert_eq!(fitting("a.tsv", "a\t1\nb\n", false), "");
    }
}
