//! JSON whose fractions are read to the bit: `serde_json` writes the shortest digits that stand for a number, but may read
//! them as its neighbour.

use serde::de::{DeserializeOwned, Error as _};
use serde_json::{Number, Value};

/// Begins a string that stands for a fraction while the rest is parsed; JSON text never holds it as it is.
const MARK: char = '\u{1}';

/// Reads a value, each fraction in it as the standard library does.
pub(crate) fn from_str<T: DeserializeOwned>(text: &str) -> serde_json::Result<T> {
    let mut value = serde_json::from_str(&marked(text))?;
    unmark(&mut value)?;
    serde_json::from_value(value)
}

/// The text with each fraction in quotes and behind a mark.
fn marked(text: &str) -> String {
    let mut marked = String::with_capacity(text.len() + text.len() / 4);
    let (mut rest, mut in_string) = (text, false);
    while let Some(first) = rest.chars().next() {
        if in_string {
            let end = match first {
                '\\' => first.len_utf8() + rest[1..].chars().next().map_or(0, char::len_utf8),
                _ => first.len_utf8(),
            };
            in_string = first != '"';
            marked.push_str(&rest[..end]);
            rest = &rest[end..];
            continue;
        }
        let is_of_number = |c: char| c.is_ascii_digit() || "+-.eE".contains(c);
        let end = rest.find(|c| !is_of_number(c)).unwrap_or(rest.len());
        let number = &rest[..end];
        let is_number = first == '-' || first.is_ascii_digit();
        if is_number && number.contains(['.', 'e', 'E']) {
            marked.extend(['"', '\\', 'u', '0', '0', '0', '1']);
            marked.push_str(number);
            marked.push('"');
            rest = &rest[end..];
        } else if is_number {
            marked.push_str(number);
            rest = &rest[end..];
        } else {
            in_string = first == '"';
            marked.push(first);
            rest = &rest[first.len_utf8()..];
        }
    }
    marked
}

fn unmark(value: &mut Value) -> serde_json::Result<()> {
    match value {
        Value::String(text) => {
            if let Some(number) = text.strip_prefix(MARK) {
                let number = number.parse().ok().and_then(Number::from_f64);
                let number = number.ok_or_else(|| serde_json::Error::custom("no number"))?;
                *value = Value::Number(number);
            }
        }
        Value::Array(values) => values.iter_mut().try_for_each(unmark)?,
        Value::Object(map) => map.values_mut().try_for_each(unmark)?,
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_fractions_outside_of_strings_are_changed() {
        let text = r#"{"a 1.5 \" 2.5": [1, -2, 0.1, -1e-7, true, null], "é": "x\\", "b": 2.0}"#;
        let value: Value = from_str(text).unwrap();
        assert_eq!(value, serde_json::from_str::<Value>(text).unwrap());
        for damaged in [r#"{"a": 1.2.3}"#, r#"{"a": -}"#, r#"{"a": "\"#, "1e999", r#"["\u"#] {
            assert!(from_str::<Value>(damaged).is_err(), "{damaged}");
        }
    }

    proptest! {
        #[test]
        fn finite_numbers_come_back_to_the_bit(bits: u64) {
            let number = f64::from_bits(bits);
            prop_assume!(number.is_finite());
            let text = serde_json::to_string(&[number]).unwrap();
            let [back] = from_str::<[f64; 1]>(&text).unwrap();
            prop_assert_eq!(back.to_bits(), number.to_bits());
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[\\[\\]{}\":,0-9.eE+\\-a\\\\\u{1}é ]{0,40}") {
            let _ = from_str::<Value>(&text);
        }
    }
}
