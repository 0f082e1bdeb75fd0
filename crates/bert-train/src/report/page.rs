//! What all pages of reports are made of: a heading, sections, tables. A page is one file that needs no other and runs nothing.

use std::fmt::Write;

use crate::html::escaped;

const STYLE: &str = include_str!("page.css");

/// A page, section by section.
pub(crate) struct Page {
    title: String,
    /// What stands under the title.
    top: String,
    sections: Vec<(String, String)>,
}

impl Page {
    /// A page; `top` is HTML.
    pub(crate) fn new(title: &str, top: String) -> Self {
        Self { title: title.to_owned(), top, sections: vec![] }
    }

    /// Puts a section under those that are there, unless it is empty; `html` is HTML.
    pub(crate) fn add(&mut self, title: &str, html: String) {
        if !html.is_empty() {
            self.sections.push((title.to_owned(), html));
        }
    }

    /// The page, complete in itself.
    pub(crate) fn to_html(&self) -> String {
        let title = escaped(&self.title);
        let numbered = || (1..).zip(&self.sections);
        let links: String = numbered()
            .map(|(number, (title, _))| format!("<a href=\"#s{number}\">{}</a> ", escaped(title)))
            .collect();
        let sections: String = numbered()
            .map(|(number, (title, html))| {
                format!("<section id=\"s{number}\"><h2>{}</h2>\n{html}</section>\n", escaped(title))
            })
            .collect();
        format!(
            r#"<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{title}</title>
<style>
{STYLE}</style>
</head>
<body>
<h1>{title}</h1>
{}
<nav>{links}</nav>
{sections}</body>
</html>
"#,
            self.top
        )
    }
}

/// How the columns of a table stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Columns {
    /// The first is a name, the others are numbers.
    Numbers,
    /// All are words.
    Words,
    /// The last is a long text.
    Texts,
}

/// A table, whose cells are HTML; nothing where there are no rows.
pub(crate) fn table(columns: Columns, head: &[&str], rows: &[Vec<String>]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let class = match columns {
        Columns::Numbers => "numbers",
        Columns::Words => "words",
        Columns::Texts => "texts",
    };
    let mut html = format!("<div class=\"scroll\"><table class=\"{class}\"><thead><tr>");
    for name in head {
        let _ = write!(html, "<th>{}</th>", escaped(name)); // INVARIANT: writing to a string does not fail
    }
    html += "</tr></thead><tbody>\n";
    for row in rows {
        html += "<tr>";
        for cell in row {
            // A cell may bring attributes of its own.
            match cell.strip_prefix("<td") {
                Some(_) => html += cell,
                None => html.extend(["<td>", cell, "</td>"]),
            }
        }
        html += "</tr>\n";
    }
    html + "</tbody></table></div>\n"
}

/// Names with a value each, as boxes.
pub(crate) fn facts(facts: &[(&str, String)]) -> String {
    let each = facts.iter().map(|(name, value)| {
        format!("<div><dt>{}</dt><dd>{}</dd></div>", escaped(name), escaped(value))
    });
    format!("<dl class=\"facts\">{}</dl>\n", each.collect::<String>())
}

/// A number of pieces, by threes.
pub(crate) fn count(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Seconds as a person says them.
pub(crate) fn duration(seconds: f64) -> String {
    match seconds.round() as u64 {
        0..10 => format!("{seconds:.1} s"),
        whole @ 10..120 => format!("{whole} s"),
        whole @ 120..7200 => format!("{} min {:02} s", whole / 60, whole % 60),
        whole => format!("{} h {:02} min", whole / 3600, whole / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_as_a_person_reads_them() {
        assert_eq!([0, 999, 1000, 22_713_216].map(count), ["0", "999", "1,000", "22,713,216"]);
        let texts = [0.04, 9.96, 64.2, 125.0, 7260.0].map(duration);
        assert_eq!(texts, ["0.0 s", "10 s", "64 s", "2 min 05 s", "2 h 01 min"]);
    }

    #[test]
    fn sections_without_content_are_left_out() {
        let mut page = Page::new("a <run>", String::new());
        page.add("Empty", table(Columns::Numbers, &["a"], &[]));
        page.add("One & only", table(Columns::Numbers, &["<"], &[vec!["1".into()]]));
        let html = page.to_html();
        assert!(html.contains("<h1>a &lt;run&gt;</h1>") && !html.contains("Empty"), "{html}");
        assert!(html.contains("<a href=\"#s1\">One &amp; only</a>"), "{html}");
        assert!(html.contains("<th>&lt;</th></tr></thead><tbody>\n<tr><td>1</td></tr>"), "{html}");
    }
}
