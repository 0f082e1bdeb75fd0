//! Text as HTML shows it.

/// Text that stands for itself in HTML, inside and outside of quotes. Characters that can't be seen and would move other text
/// about, those of control and of direction, are spelled out.
pub(crate) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            '\'' => escaped += "&#39;",
            '\n' | '\t' => escaped.push(c),
            c if c.is_control() || turns_direction(c) => escaped.extend(c.escape_unicode()),
            c => escaped.push(c),
        }
    }
    escaped
}

/// A text in one line, [`shortened`] to `most` characters, whose own direction stays inside of it.
pub(crate) fn shown(text: &str, most: usize) -> String {
    format!("<bdi>{}</bdi>", escaped(&shortened(text, most).replace(['\n', '\r', '\t'], " ")))
}

/// The first `most` characters of a text, and a mark where there are more.
pub(crate) fn shortened(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{} \u{2026}", &text[..end]),
        None => text.to_owned(),
    }
}

/// Unicode's marks, embeddings, overrides and isolates of direction.
fn turns_direction(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_stands_for_itself() {
        assert_eq!(escaped("<b a='1'>&\"\n"), "&lt;b a=&#39;1&#39;&gt;&amp;&quot;\n");
        assert_eq!(escaped("a\0\u{202e}b\u{7f}"), "a\\u{0}\\u{202e}b\\u{7f}");
        assert_eq!(escaped("\u{5e9}\u{5dc}"), "\u{5e9}\u{5dc}");
    }

    #[test]
    fn long_texts_are_shortened_by_characters() {
        assert_eq!(shortened("\u{e4}\u{f6}\u{fc}", 3), "\u{e4}\u{f6}\u{fc}");
        assert_eq!(shortened("\u{e4}\u{f6}\u{fc}x", 3), "\u{e4}\u{f6}\u{fc} \u{2026}");
        assert_eq!(shown("a\nb<", 9), "<bdi>a b&lt;</bdi>");
    }
}
