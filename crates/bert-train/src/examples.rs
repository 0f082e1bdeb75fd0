//! Examples: the texts and labels of the rows of a data file.

use std::collections::HashMap;
use std::path::Path;

use crate::columns::{Column, Columns, Positions};
use crate::error::{Error, Result};
use crate::format::Format;
use crate::rows::{Cell, Row, Rows};
use crate::suggestion::fitting_columns;

/// A text or a pair of texts, with its label where it has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Example {
    /// The text, or the first of a pair.
    pub text: String,
    /// The second text of a pair.
    pub pair: Option<String>,
    /// The label, or the labels with what separates them; empty only where several may be given.
    pub label: Option<String>,
    /// The line on which the row starts, from 1.
    pub line: usize,
}

/// Reads the examples of a data file one after the other.
pub struct Examples {
    rows: Rows,
    positions: Positions,
    /// Whether a row may have several labels, and so none.
    has_label_sets: bool,
}

impl Examples {
    /// Opens a file whose rows have labels; without `format`, the extension tells it.
    ///
    /// # Errors
    /// Where the first row can't be read, or has no such columns.
    pub fn labelled(path: &Path, format: Option<Format>, columns: &Columns) -> Result<Self> {
        let rows = Rows::open(path, format, columns.has_header())?;
        let positions = columns.positions(&rows, format)?;
        Ok(Self { rows, positions, has_label_sets: columns.label_separator.is_some() })
    }

    /// Opens a file of which only texts are read, `texts` a row: those of `columns`, else the first columns.
    ///
    /// # Errors
    /// Where the first row can't be read, or has no such columns.
    pub fn unlabelled(
        path: &Path,
        format: Option<Format>,
        columns: &Columns,
        texts: usize,
    ) -> Result<Self> {
        let rows = Rows::open(path, format, columns.has_header())?;
        let positions = columns.positions_without_label(&rows, texts)?;
        Ok(Self { rows, positions, has_label_sets: false })
    }

    /// How many columns the file has.
    pub fn columns(&self) -> usize {
        self.rows.width()
    }

    fn example(&self, row: &Row) -> Result<Example> {
        let text_at = |position| self.text(row, position);
        let label = self.positions.label.map(text_at).transpose()?;
        if label.as_ref().is_some_and(String::is_empty) && !self.has_label_sets {
            return Err(Error::NoLabel { path: self.rows.path().into(), line: row.line });
        }
        Ok(Example {
            text: text_at(self.positions.text)?,
            pair: self.positions.pair.map(text_at).transpose()?,
            label,
            line: row.line,
        })
    }

    fn text(&self, row: &Row, position: usize) -> Result<String> {
        match &row.cells[position] {
            Cell::Text(text) => Ok(text.clone()),
            other => Err(Error::NotText {
                path: self.rows.path().into(),
                line: row.line,
                column: Column::at(position, &self.rows).to_string(),
                got: other.kind(),
            }),
        }
    }
}

impl Iterator for Examples {
    type Item = Result<Example>;

    fn next(&mut self) -> Option<Self::Item> {
        let row = self.rows.next()?;
        Some(row.and_then(|row| self.example(&row)))
    }
}

/// All examples of a file whose rows have labels.
///
/// # Errors
/// Where the file can't be read, or a row is not what the first row and `columns` promise.
pub fn read_examples(
    path: &Path,
    format: Option<Format>,
    columns: &Columns,
) -> Result<Vec<Example>> {
    Examples::labelled(path, format, columns)?.collect()
}

/// All examples of a file to train on, whose label column must look like one.
///
/// # Errors
/// As [`read_examples`]; besides, where more than half of the rows have a label of their own, or the file has
/// no header and the first row's label occurs nowhere else. Both name the columns that would fit; neither is asked of
/// rows with several labels.
pub fn read_training_examples(
    path: &Path,
    format: Option<Format>,
    columns: &Columns,
) -> Result<Vec<Example>> {
    let examples = Examples::labelled(path, format, columns)?;
    let has_names = examples.rows.names().is_some();
    let examples: Vec<Example> = examples.collect::<Result<_>>()?;
    if columns.label_separator.is_some() {
        return Ok(examples);
    }

    let mut occurrences: HashMap<&str, usize> = HashMap::new();
    for label in examples.iter().flat_map(|example| &example.label) {
        *occurrences.entry(label).or_default() += 1;
    }
    let own = occurrences.values().filter(|&&count| count == 1).count();
    let fitting = || fitting_columns(path, format, columns.has_header());
    let is_number = |label: &&&str| label.trim().parse::<f64>().is_ok();
    if 2 * own > examples.len() && occurrences.keys().all(|label| is_number(&label)) {
        let (path, rows, fitting) = (path.into(), examples.len(), fitting());
        return Err(Error::NumbersAsLabels { path, own, rows, fitting });
    }
    if 2 * own > examples.len() {
        return Err(Error::OwnLabels {
            path: path.into(),
            own,
            rows: examples.len(),
            fitting: fitting(),
        });
    }
    if let Some(Example { label: Some(label), line, .. }) = examples.first()
        && !has_names
        && occurrences.get(label.as_str()) == Some(&1)
    {
        return Err(Error::LooksLikeHeader {
            path: path.into(),
            line: *line,
            label: label.clone(),
            fitting: fitting(),
        });
    }
    Ok(examples)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::env;
    use std::fs;
    use std::path::PathBuf;

    fn in_file<T>(name: &str, text: &str, read: impl FnOnce(&Path) -> T) -> T {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        read(&path)
    }

    fn labelled(name: &str, text: &str, columns: &Columns) -> Result<Vec<Example>> {
        in_file(name, text, |path| read_examples(path, None, columns))
    }

    fn unlabelled(name: &str, text: &str, columns: &Columns, texts: usize) -> Result<Vec<Example>> {
        in_file(name, text, |path| Examples::unlabelled(path, None, columns, texts)?.collect())
    }

    fn training(name: &str, text: &str, columns: &Columns) -> Result<Vec<Example>> {
        in_file(name, text, |path| read_training_examples(path, None, columns))
    }

    fn columns(text: &[&str], label: Option<&str>) -> Columns {
        Columns {
            text: text.iter().map(|column| column.parse().unwrap()).collect(),
            label: label.map(|column| column.parse().unwrap()),
            ..Columns::default()
        }
    }

    fn example(text: &str, pair: Option<&str>, label: Option<&str>, line: usize) -> Example {
        Example {
            text: text.into(),
            pair: pair.map(String::from),
            label: label.map(String::from),
            line,
        }
    }

    #[test]
    fn the_same_rows_are_read_from_every_format() {
        let expected = [
            example("a \"quoted\" text", Some("p, q"), Some("1"), 2),
            example("", Some("r"), Some("0"), 3),
        ];
        let by_name = columns(&["text", "pair"], Some("label"));
        for (name, text) in [
            ("a.tsv", "label\ttext\tpair\n1\ta \"quoted\" text\tp, q\n0\t\tr\n"),
            ("a.csv", "label,text,pair\n1,\"a \"\"quoted\"\" text\",\"p, q\"\n0,,r\n"),
            (
                "a.jsonl",
                "\n{\"label\": 1, \"text\": \"a \\\"quoted\\\" text\", \"pair\": \"p, q\", \"x\": null}\n{\"pair\": \"r\", \"text\": \"\", \"label\": \"0\"}\n",
            ),
            (
                "a.json",
                "[\n{\"label\": 1, \"text\": \"a \\\"quoted\\\" text\", \"pair\": \"p, q\", \"x\": {}},\n{\"pair\": \"r\", \"text\": \"\", \"label\": \"0\"}\n]",
            ),
        ] {
            assert_eq!(labelled(name, text, &by_name).unwrap(), expected, "{name}");
        }
    }

    #[test]
    fn numbers_count_columns_from_one() {
        assert_eq!(
            labelled("a.tsv", "1\tx\ta\n0\ty\tb\n", &columns(&["3"], Some("1"))).unwrap(),
            [example("a", None, Some("1"), 1), example("b", None, Some("0"), 2)]
        );
    }

    #[test]
    fn texts_without_labels_are_the_first_columns_unless_named() {
        let rows = "a\tb\tc\nd\te\tf\n";
        let none = Columns::default();
        assert_eq!(
            unlabelled("a.tsv", rows, &none, 1).unwrap(),
            [example("a", None, None, 1), example("d", None, None, 2)]
        );
        assert_eq!(
            unlabelled("a.tsv", rows, &none, 2).unwrap()[1],
            example("d", Some("e"), None, 2)
        );
        assert_eq!(
            unlabelled("a.tsv", rows, &columns(&["3", "1"], None), 2).unwrap()[0],
            example("c", Some("a"), None, 1)
        );
        assert_eq!(
            unlabelled("a.tsv", rows, &columns(&["b"], None), 1).unwrap(),
            [example("e", None, None, 2)]
        );
        assert_eq!(
            unlabelled("a.txt", "a\tb\n", &none, 1).unwrap(),
            [example("a\tb", None, None, 1)]
        );
    }

    #[test]
    fn another_number_of_texts_than_the_model_takes_is_refused() {
        let message = unlabelled("a.txt", "a\n", &Columns::default(), 2).unwrap_err().to_string();
        assert!(
            message.ends_with("a.txt: text columns: expected 2, as the model takes, got 1: name them with --column COL"),
            "{message}"
        );
        let message =
            unlabelled("a.tsv", "a\tb\n", &columns(&["1", "2"], None), 1).unwrap_err().to_string();
        assert!(message.contains("expected 1, as the model takes, got 2"), "{message}");
    }

    #[test]
    fn an_empty_label_is_refused() {
        let message =
            labelled("a.tsv", "a\t1\n\nb\t\n", &Columns::default()).unwrap_err().to_string();
        assert!(
            message
                .ends_with("a.tsv, line 3: the label is empty: give the row a label or remove it"),
            "{message}"
        );
    }

    #[test]
    fn a_value_that_is_no_text_is_refused() {
        for (value, got) in [("null", "null"), ("[1]", "an array"), ("{}", "an object")] {
            let text = format!("{{\"a\": 1, \"b\": 2}}\n{{\"a\": {value}, \"b\": 2}}\n");
            let message = labelled("a.jsonl", &text, &Columns::default()).unwrap_err().to_string();
            assert!(
                message.ends_with(&format!(
                    "a.jsonl, line 2: expected a string, number or boolean in column a, got {got}"
                )),
                "{message}"
            );
        }
        let text = "[{\"a\": 1, \"b\": 2},\n{\"a\": 1}]";
        let message = labelled("a.json", text, &Columns::default()).unwrap_err().to_string();
        assert!(
            message.ends_with(
                "a.json, line 2: expected a string, number or boolean in column b, got nothing"
            ),
            "{message}"
        );
    }

    #[test]
    fn labels_of_their_own_are_refused_in_training() {
        let table = "pos\tone text\tid1\nneg\ta text\tid2\npos\tthe text\tid3\nneg\tmy text\tid4\npos\tno text\tid5\n";
        let message = training("a.tsv", table, &Columns::default()).unwrap_err().to_string();
        assert!(
            message.ends_with("a.tsv: 5 of 5 rows have a label that no other row has, so the label column is the wrong one: `--text 2 --label 1` would fit"),
            "{message}"
        );
        assert_eq!(training("a.tsv", table, &columns(&["2"], Some("1"))).unwrap().len(), 5);
        // Exactly half is allowed.
        let half = "a\t1\nb\t1\nc\t2\nd\t3\n";
        assert_eq!(training("a.tsv", half, &Columns::default()).unwrap().len(), 4);
        assert_eq!(labelled("a.tsv", table, &Columns::default()).unwrap().len(), 5);
    }

    #[test]
    fn a_header_that_nobody_told_of_is_refused_in_training() {
        let table = "\nsentence\tlabel\na text\t1\nmy text\t0\nno text\t1\nthe text\t0\n";
        let message = training("a.tsv", table, &Columns::default()).unwrap_err().to_string();
        assert!(
            message.ends_with("a.tsv, line 2: the label \"label\" occurs nowhere else, so the row looks like a header: `--text sentence --label label` would fit; if it is data, its label needs a second row"),
            "{message}"
        );
        let named = columns(&["sentence"], Some("label"));
        assert_eq!(training("a.tsv", table, &named).unwrap().len(), 4);
        // Where columns have names, the first row is data.
        let rare = table.replacen("text\t1", "text\trare", 1);
        assert_eq!(training("a.tsv", &rare, &named).unwrap()[0].label.as_deref(), Some("rare"));
    }

    /// The folder of shared test data, if this machine has it.
    fn shared_data() -> Option<PathBuf> {
        let shared = PathBuf::from(env::var_os("BERT_TUNE_DATA").unwrap_or_default());
        let data = shared.join("data");
        if data.is_dir() {
            return Some(data);
        }
        println!("skipped: no {} (BERT_TUNE_DATA)", data.display());
        None
    }

    #[test]
    fn real_files_have_the_rows_that_their_readmes_state() {
        let Some(data) = shared_data() else { return };
        // File, format, text columns, label column, rows, a label and its rows; a dash is the default.
        let files = "
            sst2/train.tsv                               -   -                   -        6920  1                        3610
            sst2/dev.tsv                                 -   -                   -        872   1                        444
            sst2/test.tsv                                -   -                   -        1821  1                        909
            banking77/train.csv                          -   text                category 10003 card_payment_fee_charged 187
            banking77/test.csv                           -   text                category 3080  card_arrival             40
            cola/in_domain_train.tsv                     -   4                   2        8551  1                        6023
            cola/in_domain_dev.tsv                       -   4                   2        527   1                        365
            mrpc/msr_paraphrase_train.txt                tsv 4,5                 1        4076  1                        2753
            mrpc/msr_paraphrase_test.txt                 tsv 4,5                 1        1725  0                        578
            rte/train.tsv                                -   sentence1,sentence2 label    2490  entailment               1249
            rte/dev.tsv                                  -   sentence1,sentence2 label    277   entailment               146
            movie_reviews/train.tsv                      -   3                   1        1600  0                        800
            movie_reviews/test.tsv                       -   3                   1        200   0                        100
            mr_polarity/train.tsv                        -   2                   1        8529  1                        4279
            subj/train.tsv                               -   2                   1        8000  0                        4000
            subj/dev.tsv                                 -   2                   1        1000  0                        505
            trec/train.tsv                               -   3                   1        5452  ENTY                     1250
            trec/test.tsv                                -   3                   1        500   DESC                     138
            goemotions/train.tsv                         -   1                   2        43410 27                       12823
            sentiment_labelled/imdb_labelled.txt         tsv -                   -        1000  0                        500
            sentiment_labelled/amazon_cells_labelled.txt tsv -                   -        1000  0                        500
            packs/varlen_polarity/train.tsv              -   text                label    2000  0                        1000
            packs/multitask_snips/train.tsv              -   tokens              intent   2100  PlayMusic                300
        ";
        for file in files.trim().lines() {
            let given: Vec<Option<&str>> = file
                .split_whitespace()
                .map(|word| Some(word).filter(|word| *word != "-"))
                .collect();
            let [Some(name), format, text, label, Some(rows), Some(a_label), Some(its_rows)] =
                given[..]
            else {
                panic!("{file}");
            };
            let text: Vec<&str> = text.map_or_else(Vec::new, |text| text.split(',').collect());
            let format = format.map(|format| format.parse().unwrap());
            let examples =
                read_training_examples(&data.join(name), format, &columns(&text, label)).unwrap();
            assert_eq!(examples.len().to_string(), rows, "{name}");
            let with_label =
                examples.iter().filter(|example| example.label.as_deref() == Some(a_label));
            assert_eq!(with_label.count().to_string(), its_rows, "{name}");
            assert!(examples.iter().all(|example| !example.text.trim().is_empty()), "{name}");
        }
    }

    #[test]
    fn real_pairs_and_paragraphs_are_read() {
        let Some(data) = shared_data() else { return };
        let stsb =
            read_examples(&data.join("stsb/stsb-en-train.csv"), None, &Columns::default()).unwrap();
        assert_eq!(stsb.len(), 5749);
        assert_eq!(
            stsb[0],
            example("A plane is taking off.", Some("An air plane is taking off."), Some("5.0"), 1)
        );
        let books =
            Examples::unlabelled(&data.join("gutenberg/valid.txt"), None, &Columns::default(), 1)
                .unwrap();
        assert_eq!(books.map(Result::unwrap).count(), 2366);
        let rte = data.join("rte/test.tsv");
        let rte = Examples::unlabelled(&rte, None, &columns(&["sentence1", "sentence2"], None), 2)
            .unwrap();
        assert_eq!(rte.map(Result::unwrap).count(), 3000);
    }

    #[test]
    fn real_files_read_with_wrong_columns_are_refused_with_the_right_ones() {
        let Some(data) = shared_data() else { return };
        for (name, format, expected) in [
            ("banking77/train.csv", None, "`--text text --label category` would fit"),
            ("cola/in_domain_train.tsv", None, "`--text 4 --label 2` would fit"),
            (
                "mrpc/msr_paraphrase_train.txt",
                Some(Format::Tsv),
                "`--text 4 --text 5 --label 1` would fit",
            ),
            ("rte/train.tsv", None, "`--text sentence1 --text sentence2 --label label` would fit"),
            ("movie_reviews/train.tsv", None, "`--text 3 --label 1` would fit"),
            ("mr_polarity/train.tsv", None, "`--text 2 --label 1` would fit"),
            ("subj/train.tsv", None, "`--text 2 --label 1` would fit"),
            ("trec/train.tsv", None, "`--text 3 --label 1` would fit"),
            ("goemotions/train.tsv", None, "`--text 1 --label 2` would fit"),
            ("packs/varlen_polarity/train.tsv", None, "`--text text --label label` would fit"),
            (
                "packs/multitask_opinion/product/train.tsv",
                None,
                "`--text text --label label` would fit",
            ),
        ] {
            let error =
                read_training_examples(&data.join(name), format, &Columns::default()).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
            assert!(error.is_bad_input());
        }
    }
}
