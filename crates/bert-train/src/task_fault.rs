//! What is wrong with the data of a task, told to whoever wrote its table in a run file: keys stand where flags would.

use crate::{columns::Columns, error::Error};

/// What flags are called in a table.
const KEYS: [(&str, &str); 8] = [
    (
        "name the columns with --text COL and --label COL",
        "name the columns with the keys text and label",
    ),
    ("--tokens COL and --tags COL", "the keys tokens and tags"),
    ("--label COL", "the key label"),
    ("check --label or --tags", "check the keys label and tags"),
    ("check --label", "check the key label"),
    ("give --format with one of", "write the key format, one of"),
    ("and --header", "and header = true"),
    ("give a file with --dev", "give a file with the key dev"),
];

/// The fault as a sentence without flags.
pub(crate) fn in_table(fault: &Error) -> String {
    let mut sentence = fault.to_string();
    if let Error::TextColumns { fitting: Some(columns), .. }
    | Error::OwnLabels { fitting: Some(columns), .. }
    | Error::NumbersAsLabels { fitting: Some(columns), .. }
    | Error::LooksLikeHeader { fitting: Some(columns), .. } = fault
    {
        sentence = sentence.replace(&format!("`{columns}`"), &keys(columns));
    }
    KEYS.iter().fold(sentence, |sentence, (flag, key)| sentence.replace(flag, key))
}

/// Columns as the keys that choose them.
fn keys(columns: &Columns) -> String {
    let mut table = toml::Table::try_from(columns).unwrap_or_default();
    table.retain(|key, _| key != "header" || columns.header);
    let keys = table.iter().map(|(key, value)| format!("`{key} = {value}`"));
    keys.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::columns::Column;

    fn said(fault: Error) -> String {
        fault.in_task("mood").to_string()
    }

    #[test]
    fn columns_that_would_fit_are_keys() {
        let columns = Columns {
            text: vec![Column::Name("a b".into()), Column::Number(3)],
            label: Some(Column::Name("c".into())),
            ..Columns::default()
        };
        let with = |columns: &Columns| Error::TextColumns {
            path: "t.tsv".into(),
            columns: 4,
            got: 3,
            fitting: Some(Box::new(columns.clone())),
        };
        let flags = "t.tsv: 3 of 4 columns would be text, expected one or two: `--text 'a b' --text 3 --label c` would fit";
        assert_eq!(with(&columns).to_string(), flags);
        assert_eq!(
            said(with(&columns)),
            "task \"mood\": t.tsv: 3 of 4 columns would be text, expected one or two: `label = \"c\"`, \
             `text = [\"a b\", 3]` would fit"
        );
        let header = Columns { header: true, ..columns };
        assert!(said(with(&header)).contains("`header = true`, `label = \"c\"`, `text = "));
    }

    #[test]
    fn no_flag_is_left() {
        let path = || "t".into();
        let label = || "a".to_owned();
        let faults = [
            Error::UnknownExtension { path: path() },
            Error::AmbiguousColumn { path: path(), name: label() },
            Error::TextColumns { path: path(), columns: 4, got: 3, fitting: None },
            Error::OwnLabels { path: path(), own: 3, rows: 4, fitting: None },
            Error::NumbersAsLabels { path: path(), own: 3, rows: 4, fitting: None },
            Error::LooksLikeHeader { path: path(), line: 1, label: label(), fitting: None },
            Error::LabelIsText { path: path(), column: label() },
            Error::OneLabel { path: path(), label: label() },
            Error::UnknownLabel { path: path(), line: 1, label: label(), known: vec![] },
            Error::TokenColumns { path: path(), columns: 1 },
            Error::NoDevRows { rows: 1 },
        ];
        for fault in faults {
            assert!(fault.to_string().contains("--"), "{fault}");
            let said = said(fault);
            assert!(said.starts_with("task \"mood\": ") && !said.contains("--"), "{said}");
        }
        // What names the task already, or is of all of them, is said as it is.
        let fault = Error::MetricOfTwo { name: "mood".into(), labels: 3 };
        assert_eq!(fault.to_string(), said(Error::MetricOfTwo { name: "mood".into(), labels: 3 }));
    }
}
