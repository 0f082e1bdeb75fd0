//! Sentences: the tokens and tags of the rows of a data file.

use std::path::{Path, PathBuf};

use crate::columns::{Column, Columns};
use crate::conll::Conll;
use crate::error::{Error, Result};
use crate::format::Format;
use crate::lines::Lines;
use crate::rows::{Cell, Row, Rows};

/// A sentence that is split into tokens, with a tag for each where it has tags.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sentence {
    /// The tokens, as they are split in the file.
    pub tokens: Vec<String>,
    /// One a token.
    pub tags: Option<Vec<String>>,
    /// The label of the whole sentence, where a column of labels was asked for.
    pub label: Option<String>,
    /// The line on which it starts, from 1.
    pub line: usize,
}

impl Sentence {
    /// The tags of a sentence of the file `path`.
    pub(crate) fn tags_in(&self, path: &Path) -> Result<&[String]> {
        let missing = || Error::NoTags { path: path.into(), line: self.line };
        self.tags.as_deref().ok_or_else(missing)
    }
}

/// Reads the sentences of a data file one after the other.
///
/// There are three forms: CoNLL, one token a line; tables with a column of tokens and one of tags, separated by spaces or,
/// in JSON, as arrays of strings; and parallel files, `TOKENS,TAGS` or `TOKENS,TAGS,LABELS` in place of a path, with one
/// sentence a line in each.
pub struct Sentences {
    path: PathBuf,
    source: Source,
    failed: bool,
}

enum Source {
    Conll(Conll),
    Table { rows: Rows, tokens: usize, tags: Option<usize>, label: Option<usize> },
    Parallel(Vec<Lines>),
}

impl Sentences {
    /// Opens sentences with tags; without `format`, the extension tells it.
    ///
    /// # Errors
    /// Where a file can't be opened, or has no such columns.
    pub fn tagged(path: &Path, format: Option<Format>, columns: &Columns) -> Result<Self> {
        Self::open(path, format, columns, true)
    }

    /// Opens sentences of which only tokens are read.
    ///
    /// # Errors
    /// Where a file can't be opened, or has no such columns.
    pub fn untagged(path: &Path, format: Option<Format>, columns: &Columns) -> Result<Self> {
        Self::open(path, format, columns, false)
    }

    /// Whether a data file is one of sentences: by its form, or because columns of tokens or tags are asked for.
    pub fn are_in(path: &Path, format: Option<Format>, columns: &Columns) -> bool {
        columns.tokens.is_some()
            || columns.tags.is_some()
            || parallel_paths(path).is_some()
            || format.or_else(|| Format::of_path(path).ok()) == Some(Format::Conll)
    }

    fn open(path: &Path, format: Option<Format>, columns: &Columns, tagged: bool) -> Result<Self> {
        let source = if let Some(paths) = parallel_paths(path) {
            let used = if tagged { paths.len() } else { 1 };
            let files = paths[..used].iter().map(|path| Lines::open(path));
            Source::Parallel(files.collect::<Result<_>>()?)
        } else if format.map_or_else(|| Format::of_path(path), Ok)? == Format::Conll {
            let (tokens, tags) = (columns.tokens.as_ref(), columns.tags.as_ref());
            Source::Conll(Conll::open(Lines::open(path)?, tokens, tags, tagged)?)
        } else {
            let rows = Rows::open(path, format, columns.has_header())?;
            let place = |column: &Option<Column>| {
                column.as_ref().map(|column| column.position(&rows)).transpose()
            };
            let (tokens, tags) = (place(&columns.tokens)?, place(&columns.tags)?);
            let label = place(&columns.label)?;
            let tags = tags.filter(|_| tagged);
            let (true, Some(tokens)) = (tags != tokens && tags.is_some() == tagged, tokens) else {
                return Err(Error::TokenColumns { path: path.into(), columns: rows.width() });
            };
            Source::Table { rows, tokens, tags, label: label.filter(|_| tagged) }
        };
        Ok(Self { path: path.into(), source, failed: false })
    }

    fn read(&mut self) -> Result<Option<Sentence>> {
        let sentence = match &mut self.source {
            Source::Conll(conll) => conll.next_sentence()?,
            Source::Table { rows, tokens, tags, label } => match rows.next().transpose()? {
                None => None,
                Some(row) => Some(Sentence {
                    tokens: words(rows, &row, *tokens)?,
                    tags: tags.map(|tags| words(rows, &row, tags)).transpose()?,
                    label: label.map(|label| label_at(rows, &row, label)).transpose()?,
                    line: row.line,
                }),
            },
            Source::Parallel(files) => next_of_parallel(files)?,
        };
        if let Some(Sentence { tokens, tags: Some(tags), line, .. }) = &sentence
            && tokens.len() != tags.len()
        {
            return Err(Error::TagCount {
                path: self.path.clone(),
                line: *line,
                tokens: tokens.len(),
                tags: tags.len(),
            });
        }
        Ok(sentence)
    }
}

impl Iterator for Sentences {
    type Item = Result<Sentence>;

    /// The next sentence; nothing follows an error.
    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let next = self.read().transpose();
        self.failed = matches!(next, Some(Err(_)));
        next
    }
}

/// All sentences of a file with tags.
///
/// # Errors
/// Where the file can't be read or has no sentence, or a sentence has another number of tags than of tokens.
pub fn read_sentences(
    path: &Path,
    format: Option<Format>,
    columns: &Columns,
) -> Result<Vec<Sentence>> {
    let sentences: Vec<Sentence> =
        Sentences::tagged(path, format, columns)?.collect::<Result<_>>()?;
    if sentences.is_empty() {
        return Err(Error::Empty { path: path.into() });
    }
    Ok(sentences)
}

/// The files that `TOKENS,TAGS` or `TOKENS,TAGS,LABELS` names; none where a file has that very name.
fn parallel_paths(path: &Path) -> Option<Vec<PathBuf>> {
    let names: Vec<&str> = path.to_str()?.split(',').collect();
    let is_list = matches!(names.len(), 2 | 3) && !path.exists();
    is_list.then(|| names.into_iter().map(PathBuf::from).collect())
}

/// The next line of each file; lines that are blank in all of them are passed over.
fn next_of_parallel(files: &mut [Lines]) -> Result<Option<Sentence>> {
    loop {
        let more = files.iter_mut().map(Lines::advance).collect::<Result<Vec<_>>>()?;
        if !more.contains(&true) {
            return Ok(None);
        }
        if let Some(shorter) = more.iter().position(|more| !more) {
            let longer = more.iter().position(|more| *more).unwrap_or_default();
            return Err(Error::ParallelFiles {
                path: files[shorter].path().into(),
                line: files[shorter].number(),
                longer: files[longer].path().into(),
            });
        }
        let split = |lines: &Lines| -> Vec<String> { split(lines.content()) };
        let (tokens, tags) = (split(&files[0]), files.get(1).map(split));
        if tokens.is_empty() && tags.as_ref().is_none_or(Vec::is_empty) {
            continue;
        }
        let label = files.get(2).map(|lines| lines.content().trim().to_owned());
        return Ok(Some(Sentence { tokens, tags, label, line: files[0].number() }));
    }
}

/// The values of a column of several values.
fn words(rows: &Rows, row: &Row, position: usize) -> Result<Vec<String>> {
    match &row.cells[position] {
        Cell::Text(text) => Ok(split(text)),
        Cell::List(words) => Ok(words.clone()),
        Cell::Other(_) => Err(not_text(rows, row, position)),
    }
}

fn label_at(rows: &Rows, row: &Row, position: usize) -> Result<String> {
    match &row.cells[position] {
        Cell::Text(text) => Ok(text.clone()),
        _ => Err(not_text(rows, row, position)),
    }
}

fn not_text(rows: &Rows, row: &Row, position: usize) -> Error {
    Error::NotText {
        path: rows.path().into(),
        line: row.line,
        column: Column::at(position, rows).to_string(),
        got: row.cells[position].kind(),
    }
}

/// Only spaces separate: other white space may be part of a token.
fn split(text: &str) -> Vec<String> {
    text.split(' ').filter(|word| !word.is_empty()).map(String::from).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::fs;

    fn in_folder<T>(files: &[(&str, &str)], read: impl FnOnce(&Path) -> T) -> T {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        read(folder.path())
    }

    fn read(name: &str, text: &str, columns: &Columns) -> Result<Vec<Sentence>> {
        in_folder(&[(name, text)], |folder| read_sentences(&folder.join(name), None, columns))
    }

    #[track_caller]
    fn assert_refused(name: &str, text: &str, columns: &Columns, expected: &str) {
        let message = read(name, text, columns).unwrap_err().to_string();
        assert!(message.ends_with(expected), "{message}");
    }

    fn columns(tokens: &str, tags: &str) -> Columns {
        let column = |text: &str| Some(text).filter(|t| !t.is_empty()).map(|t| t.parse().unwrap());
        Columns { tokens: column(tokens), tags: column(tags), ..Columns::default() }
    }

    fn sentence(tokens: &str, tags: &str, line: usize) -> Sentence {
        Sentence { tokens: split(tokens), tags: Some(split(tags)), label: None, line }
    }

    #[test]
    fn conll_has_a_token_a_line() {
        let text = "-DOCSTART- -X- O O\n\n# a comment\nEU NNP B-NP B-ORG\nrejects  VBZ B-VP O\r\n\n \t\n\n# VBZ\n#\tX\ta b\tO\n. . O O";
        let expected = [sentence("EU rejects", "B-ORG O", 4), sentence("# .", "O O", 10)];
        assert_eq!(read("a.conll", text, &Columns::default()).unwrap(), expected);
        let second = read("a.conll", text, &columns("2", "3")).unwrap();
        assert_eq!(second[0], sentence("NNP VBZ", "B-NP B-VP", 4));
        // Between tabs a token may hold a space.
        assert_eq!(second[1].tags.as_deref().unwrap(), ["a b", "O"]);
    }

    #[test]
    fn tokens_are_read_without_tags() {
        in_folder(&[("a.conll", "a\nb\n\nc\n")], |folder| {
            let sentences = Sentences::untagged(&folder.join("a.conll"), None, &Columns::default());
            let sentences: Vec<Sentence> = sentences.unwrap().map(Result::unwrap).collect();
            assert_eq!(sentences[0].tokens, ["a", "b"]);
            assert_eq!((sentences[1].line, &sentences[1].tags), (4, &None));
        });
    }

    #[test]
    fn the_same_sentences_are_read_from_every_table() {
        let expected = [
            Sentence { label: Some("x".into()), ..sentence("a b", "O B-T", 2) },
            Sentence { label: Some("y".into()), ..sentence("c", "B-T", 3) },
        ];
        let columns =
            Columns { label: Some(Column::Name("kind".into())), ..columns("words", "slots") };
        for (name, text) in [
            ("a.tsv", "kind\twords\tslots\nx\ta b \tO B-T\ny\tc\tB-T\n"),
            ("a.csv", "kind,words,slots\nx,a  b,O B-T\ny,\"c\",B-T\n"),
            (
                "a.jsonl",
                "\n{\"kind\": \"x\", \"words\": [\"a\", \"b\"], \"slots\": [\"O\", \"B-T\"]}\n{\"kind\": \"y\", \"words\": \"c\", \"slots\": [\"B-T\"]}\n",
            ),
        ] {
            assert_eq!(read(name, text, &columns).unwrap(), expected, "{name}");
        }
    }

    #[test]
    fn parallel_files_are_read_together() {
        let files =
            [("seq.in", "a b\n\nc\n"), ("seq.out", "O B-T \n\nB-T\n"), ("label", "x\n\ny\n")];
        in_folder(&files, |folder| {
            let path = |names: &[&str]| {
                let paths = names.iter().map(|name| folder.join(name).display().to_string());
                PathBuf::from(paths.collect::<Vec<_>>().join(","))
            };
            let read = |names: &[&str]| read_sentences(&path(names), None, &Columns::default());
            let expected = [sentence("a b", "O B-T", 1), sentence("c", "B-T", 3)];
            assert_eq!(read(&["seq.in", "seq.out"]).unwrap(), expected);
            let labelled = read(&["seq.in", "seq.out", "label"]).unwrap();
            assert_eq!(labelled[1].label.as_deref(), Some("y"));

            fs::write(folder.join("short"), "O O\n").unwrap();
            let message = read(&["seq.in", "short"]).unwrap_err().to_string();
            assert!(message.contains("short ends at line 1, but "), "{message}");
            assert!(
                message.ends_with("seq.in goes on: give one line a sentence in each"),
                "{message}"
            );
            let message = read(&["seq.out", "seq.in"]).unwrap();
            assert_eq!(message.len(), 2);
            fs::write(folder.join("more"), "O\n\nB-T\n").unwrap();
            let message = read(&["seq.in", "more"]).unwrap_err().to_string();
            assert!(
                message.ends_with("line 1: 2 tokens but 1 tags: give each token one tag"),
                "{message}"
            );
        });
    }

    #[test]
    fn sentences_are_told_from_texts() {
        let are_in =
            |path: &str, columns: &Columns| Sentences::are_in(Path::new(path), None, columns);
        let none = Columns::default();
        assert!(are_in("a.conll", &none) && are_in("a.in,a.out", &none));
        assert!(are_in("a.tsv", &columns("1", "2")));
        assert!(!are_in("a.tsv", &none) && !are_in("a", &none));
        assert!(Sentences::are_in(Path::new("a.tsv"), Some(Format::Conll), &none));
    }

    #[test]
    fn another_number_of_tags_than_of_tokens_is_refused() {
        let expected = "a.tsv, line 2: 3 tokens but 2 tags: give each token one tag";
        assert_refused("a.tsv", "a\tO\na b c\tO O\n", &columns("1", "2"), expected);
    }

    #[test]
    fn columns_that_are_not_there_are_refused() {
        let way_out = "expected a column of tokens and another of tags, of 2: name them with --tokens COL and --tags COL";
        assert_refused("a.tsv", "a\tO\n", &columns("1", ""), way_out);
        assert_refused("a.tsv", "a\tO\n", &columns("2", "2"), way_out);
        let one = "of 1: name them with --tokens COL and --tags COL";
        assert_refused("a.conll", "a\nb\n", &Columns::default(), one);
        assert_refused(
            "a.conll",
            "a O\n",
            &columns("1", "3"),
            "a.conll has no column 3: its last is 2",
        );
        let no_names =
            "a.conll has no column \"tags\": its columns have no names, give a number from 1";
        assert_refused("a.conll", "a O\n", &columns("1", "tags"), no_names);
        assert_refused(
            "a.conll",
            "a O\nb\n",
            &Columns::default(),
            "a.conll, line 2: expected 2 columns as in the first row, got 1: a blank line ends a sentence, and columns stand between tabs or spaces",
        );
    }

    #[test]
    fn files_without_sentences_are_refused() {
        let expected = "a.conll holds no row of data, expected at least one";
        for text in ["", "\n\n", "# only a comment\n", "-DOCSTART- O\n"] {
            assert_refused("a.conll", text, &Columns::default(), expected);
        }
    }

    #[test]
    fn a_value_that_is_no_text_is_refused() {
        let text = "{\"a\": [1], \"b\": \"O\"}\n";
        let expected = "line 1: expected a string, number or boolean in column a, got an array";
        assert_refused("a.jsonl", text, &columns("a", "b"), expected);
    }

    #[test]
    fn a_file_of_tokens_has_no_texts() {
        in_folder(&[("a.conll", "a O\n")], |folder| {
            let error = Rows::open(&folder.join("a.conll"), None, false).err().unwrap();
            assert!(
                error.to_string().ends_with("a.conll holds tokens with tags, expected texts: give a file with a text a row (tsv, csv, jsonl, json or txt)"),
                "{error}"
            );
        });
    }

    /// Sentences, tokens and spans of the files, as their README counts them.
    #[test]
    fn real_files_have_the_sentences_that_their_readmes_state() {
        let data =
            PathBuf::from(std::env::var_os("BERT_TUNE_DATA").unwrap_or_default()).join("data");
        if !data.is_dir() {
            println!("skipped: no {} (BERT_TUNE_DATA)", data.display());
            return;
        }
        let conll = Some(Format::Conll);
        let snips = columns("tokens", "slots");
        let split = data.join("snips/standard_split/valid");
        let split =
            ["seq.in", "seq.out", "label"].map(|name| split.join(name).display().to_string());
        for (path, format, columns, sentences, tokens, spans) in [
            (
                data.join("packs/oov_ncbi_disease/train.conll"),
                None,
                &Columns::default(),
                2700,
                67080,
                2483,
            ),
            (
                data.join("packs/oov_ncbi_disease/test.conll"),
                None,
                &Columns::default(),
                940,
                24497,
                960,
            ),
            (data.join("bc5cdr/train.tsv"), conll, &Columns::default(), 4560, 118170, 9385),
            (data.join("ud_ewt_pos/dev.tsv"), conll, &columns("1", "2"), 2001, 25147, 25147),
            (data.join("packs/multitask_snips/train.tsv"), None, &snips, 2100, 0, 0),
            (PathBuf::from(split.join(",")), None, &Columns::default(), 700, 0, 0),
        ] {
            let read = read_sentences(&path, format, columns).unwrap();
            assert_eq!(read.len(), sentences, "{}", path.display());
            let all = |count: &dyn Fn(&Sentence) -> usize| read.iter().map(count).sum::<usize>();
            if tokens > 0 {
                assert_eq!(all(&|sentence| sentence.tokens.len()), tokens, "{}", path.display());
                let found = all(&|sentence| crate::spans(sentence.tags.as_deref().unwrap()).len());
                assert_eq!(found, spans, "{}", path.display());
            }
        }
    }
}
