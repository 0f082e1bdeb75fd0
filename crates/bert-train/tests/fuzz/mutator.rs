//! Inputs that are almost right: those of a corpus, changed in a few places.

use std::ops::Range;

use bert_kernels::random::Stream;
use serde_json::{Map, Value, json};

use crate::case::Case;

/// No file becomes longer.
const LONGEST: usize = 1 << 17;

/// Changes the inputs of a corpus.
pub struct Mutator<'a> {
    seeds: &'a [Case],
    /// All tokens of all files.
    tokens: Vec<(Class, Vec<u8>)>,
    /// The files that are JSON.
    values: Vec<Value>,
}

/// What a token looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Number,
    Text,
    Word,
    Sign,
}

/// Numbers at which something ends.
const NUMBERS: [&str; 24] = [
    "0",
    "-0",
    "-1",
    "1",
    "2",
    "127",
    "255",
    "32768",
    "65536",
    "2147483647",
    "2147483648",
    "-2147483649",
    "4294967295",
    "4294967296",
    "9223372036854775807",
    "-9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "1e999",
    "1e308",
    "-1e-400",
    "0.1",
    "nan",
    "inf",
];

/// Bytes that mean something to a reader, or should not be there.
const ODD: [&[u8]; 24] = [
    b"\0",
    b"\xff",
    b"\xc3",
    b"\xed\xa0\x80",
    b"\xef\xbb\xbf",
    b"\r",
    b"\r\n",
    b"\n\n",
    b"\t",
    b"\t\t",
    b"\"",
    b"\"\"",
    b"\\",
    b"\\u0000",
    b"\\ud800",
    b"\\u0001",
    b",",
    b"[",
    b"{",
    b"}",
    b"# ",
    b"'''",
    b"\xe2\x80\xa8",
    b"\xf0\x9f\x98\x80",
];

impl<'a> Mutator<'a> {
    pub fn new(seeds: &'a [Case]) -> Self {
        let mut tokens: Vec<(Class, Vec<u8>)> = vec![];
        let files = || seeds.iter().flat_map(|case| case.files.values());
        for bytes in files() {
            let own = self::tokens(bytes).into_iter();
            tokens.extend(own.map(|(class, range)| (class, bytes[range].to_vec())));
        }
        tokens.extend(NUMBERS.map(|number| (Class::Number, number.into())));
        tokens.sort_by(|one, other| one.1.cmp(&other.1));
        tokens.dedup();
        let values = files().filter_map(|bytes| serde_json::from_slice(bytes).ok()).collect();
        Self { seeds, tokens, values }
    }

    /// One of the inputs, changed.
    pub fn case(&self, random: &mut Stream) -> Case {
        let mut case = pick(self.seeds, random).clone();
        let changes = if random.below(16) == 0 { 24 } else { 4 };
        for _ in 0..=random.below(changes) {
            let names: Vec<String> = case.files.keys().cloned().collect();
            if names.is_empty() {
                break;
            }
            let name = pick(&names, random);
            if random.below(64) == 0 {
                self.files(&mut case, name, random);
                continue;
            }
            let Some(bytes) = case.files.get_mut(name) else { continue };
            self.change(bytes, random);
            bytes.truncate(LONGEST);
        }
        case
    }

    /// Takes a file away, or gives it the content of another.
    fn files(&self, case: &mut Case, name: &str, random: &mut Stream) {
        if random.below(2) == 0 {
            case.files.remove(name);
            return;
        }
        let other = pick(self.seeds, random).files.values();
        let other: Vec<&Vec<u8>> = other.collect();
        if !other.is_empty() {
            case.files.insert(name.to_owned(), (*pick(&other, random)).clone());
        }
    }

    fn change(&self, bytes: &mut Vec<u8>, random: &mut Stream) {
        let is_json = matches!(bytes.first(), Some(b'{' | b'['));
        if is_json
            && random.below(2) == 0
            && let Ok(mut value) = serde_json::from_slice(bytes)
        {
            self.change_json(&mut value, random);
            *bytes = value.to_string().into_bytes();
            return;
        }
        self.change_bytes(bytes, random);
    }

    fn change_bytes(&self, bytes: &mut Vec<u8>, random: &mut Stream) {
        let at = random.below(bytes.len() + 1);
        match random.below(16) {
            0 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << random.below(8);
                }
            }
            1 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = *pick(&b"\0\x01\x7f\x80\xff\"'\\{}[],:=#\n\r\t 09-"[..], random);
                }
            }
            2 => drop(bytes.drain(some(bytes.len(), random))),
            3 => bytes.truncate(at),
            4 => {
                let range = some(bytes.len(), random);
                let times = 1 << random.below(7);
                let again = bytes[range].repeat(times);
                bytes.splice(at..at, again.into_iter().take(LONGEST));
            }
            5 if !self.seeds.is_empty() => {
                let files: Vec<&Vec<u8>> = pick(self.seeds, random).files.values().collect();
                let Some(other) = (!files.is_empty()).then(|| *pick(&files, random)) else {
                    return;
                };
                let from = random.below(other.len() + 1);
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
            6..=8 => self.change_token(bytes, random),
            9 => {
                let tokens = tokens(bytes);
                if tokens.is_empty() {
                    return;
                }
                let (one, other) =
                    (pick(&tokens, random).1.clone(), pick(&tokens, random).1.clone());
                if one.end <= other.start {
                    let (first, second) =
                        (bytes[one.clone()].to_vec(), bytes[other.clone()].to_vec());
                    bytes.splice(other, first);
                    bytes.splice(one, second);
                }
            }
            10 => {
                let (open, close) = *pick(
                    &[("[", "]"), ("{\"a\":", "}"), ("{a=", "}"), ("(", ")"), ("[[", "]]")],
                    random,
                );
                let depth = 1 << random.below(12);
                let range = some(bytes.len(), random);
                bytes.splice(range.end..range.end, close.repeat(depth).into_bytes());
                bytes.splice(range.start..range.start, open.repeat(depth).into_bytes());
            }
            11 | 12 => drop(bytes.splice(at..at, pick(&ODD, random).to_vec())),
            13 => drop(bytes.splice(at..at, vec![b'a'; 1 << random.below(16)])),
            14 => {
                let mut lines: Vec<Vec<u8>> =
                    bytes.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
                if lines.is_empty() {
                    return;
                }
                let (one, other) = (random.below(lines.len()), random.below(lines.len()));
                match random.below(3) {
                    0 => drop(lines.remove(one)),
                    1 => lines.insert(other, lines[one].clone()),
                    _ => lines.swap(one, other),
                }
                *bytes = lines.concat();
            }
            _ => {
                let width = *pick(&[1, 2, 4, 8], random);
                // Lengths stand at the beginning.
                let at = if random.below(2) == 0 { 0 } else { at };
                let number = *pick(
                    &[0, 1, 7, 8, 0xffff, 0x7fff_ffff, 0xffff_ffff, i64::MAX as u64, u64::MAX],
                    random,
                );
                if let Some(place) = bytes.get_mut(at..at + width) {
                    place.copy_from_slice(&number.to_le_bytes()[..width]);
                }
            }
        }
    }

    /// Puts another token in the place of one, mostly of its kind.
    fn change_token(&self, bytes: &mut Vec<u8>, random: &mut Stream) {
        let own = tokens(bytes);
        if own.is_empty() || self.tokens.is_empty() {
            return;
        }
        let (class, range) = pick(&own, random).clone();
        let new = match (class, random.below(8)) {
            (_, 0) => pick(&self.tokens, random).1.clone(),
            (Class::Number, 1..=5) => pick(&NUMBERS, random).as_bytes().to_vec(),
            _ => {
                let alike: Vec<&Vec<u8>> = self
                    .tokens
                    .iter()
                    .filter(|(own, _)| *own == class)
                    .map(|(_, text)| text)
                    .collect();
                if alike.is_empty() { vec![] } else { (*pick(&alike, random)).clone() }
            }
        };
        bytes.splice(range, new);
    }

    /// Changes a node of a JSON text, which stays one.
    pub fn change_json(&self, root: &mut Value, random: &mut Stream) {
        let mut place = random.below(nodes(root));
        let node = nth(root, &mut place).expect("one of the nodes");
        match (&mut *node, random.below(8)) {
            (_, 0 | 1) => *node = extreme(random),
            (_, 2) => {
                if !self.values.is_empty() {
                    let mut other = pick(&self.values, random).clone();
                    let mut place = random.below(nodes(&other));
                    *node = nth(&mut other, &mut place).expect("one of the nodes").take();
                }
            }
            (_, 3) => {
                let depth = 1 << random.below(9);
                let inner = node.take();
                *node = (0..depth).fold(inner, |inner, _| match random.below(2) {
                    0 => Value::Array(vec![inner]),
                    _ => json!({ "a": inner }),
                });
            }
            (Value::Object(keys), 4 | 5) if !keys.is_empty() => {
                let names: Vec<String> = keys.keys().cloned().collect();
                let value = keys.remove(pick(&names, random)).unwrap_or_default();
                let words: Vec<&(Class, Vec<u8>)> =
                    self.tokens.iter().filter(|(class, _)| *class == Class::Word).collect();
                if random.below(2) == 0 && !words.is_empty() {
                    let name = String::from_utf8_lossy(&pick(&words, random).1).into_owned();
                    keys.insert(name, value);
                }
            }
            (Value::Array(items), 4 | 5) if !items.is_empty() => {
                let (one, other) = (random.below(items.len()), random.below(items.len()));
                match random.below(3) {
                    0 => drop(items.remove(one)),
                    1 => {
                        let again = vec![items[one].clone(); 1 << random.below(7)];
                        items.splice(other..other, again);
                    }
                    _ => items.swap(one, other),
                }
            }
            (Value::String(text), _) => {
                let mut bytes = std::mem::take(text).into_bytes();
                self.change_bytes(&mut bytes, random);
                *text = String::from_utf8_lossy(&bytes).into_owned();
            }
            (Value::Number(number), _) => {
                let near = number.as_i64().unwrap_or(0);
                *node = json!(*pick(
                    &[
                        near.wrapping_add(1),
                        near.wrapping_sub(1),
                        near.wrapping_neg(),
                        near.wrapping_mul(2)
                    ],
                    random
                ));
            }
            (Value::Bool(is), _) => *is = !*is,
            _ => *node = extreme(random),
        }
    }
}

fn extreme(random: &mut Stream) -> Value {
    match random.below(14) {
        0 => Value::Null,
        1 => json!(true),
        2 => json!(""),
        3 => json!([]),
        4 => Value::Object(Map::new()),
        5 => json!(u64::MAX),
        6 => json!(i64::MIN),
        7 => json!(1e308),
        8 => json!(0.5),
        9 => json!(0),
        10 => json!(-1),
        11 => json!("a".repeat(1 << random.below(14))),
        12 => json!(1u64 << random.below(63)),
        _ => json!("\u{0}\u{1}"),
    }
}

fn nodes(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(nodes).sum(),
        Value::Object(keys) => keys.values().map(nodes).sum(),
        _ => 0,
    }
}

/// The node at this place, in the order in which they are counted.
fn nth<'v>(value: &'v mut Value, place: &mut usize) -> Option<&'v mut Value> {
    if *place == 0 {
        return Some(value);
    }
    *place -= 1;
    let inner: Vec<&'v mut Value> = match value {
        Value::Array(items) => items.iter_mut().collect(),
        Value::Object(keys) => keys.values_mut().collect(),
        _ => vec![],
    };
    for item in inner {
        let count = nodes(item);
        if *place < count {
            return nth(item, place);
        }
        *place -= count;
    }
    None
}

fn tokens(bytes: &[u8]) -> Vec<(Class, Range<usize>)> {
    let mut tokens = vec![];
    let mut start = 0;
    // What lies further behind is weights, for the most part.
    while start < bytes.len().min(1 << 14) {
        let class = match bytes[start] {
            b'0'..=b'9' | b'-' | b'+' => Class::Number,
            b'"' | b'\'' => Class::Text,
            byte if byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80 => Class::Word,
            _ => Class::Sign,
        };
        let rest = &bytes[start + 1..];
        let length = match class {
            Class::Number => {
                rest.iter().position(|b| !(b.is_ascii_digit() || b".eE+-_".contains(b)))
            }
            Class::Word => rest
                .iter()
                .position(|b| !(b.is_ascii_alphanumeric() || b"_-".contains(b) || *b >= 0x80)),
            Class::Text => {
                let end = rest.iter().position(|b| *b == bytes[start] || *b == b'\n');
                end.map(|end| end + usize::from(rest[end] != b'\n'))
            }
            Class::Sign => Some(0),
        };
        let end = start + 1 + length.unwrap_or(rest.len());
        if !bytes[start].is_ascii_whitespace() {
            tokens.push((class, start..end));
        }
        start = end;
    }
    tokens
}

/// A part of so many bytes, mostly a short one.
fn some(length: usize, random: &mut Stream) -> Range<usize> {
    let start = random.below(length + 1);
    let most = (length - start).min(1 << random.below(12));
    start..start + random.below(most + 1)
}

pub fn pick<'a, T>(items: &'a [T], random: &mut Stream) -> &'a T {
    &items[random.below(items.len())]
}
