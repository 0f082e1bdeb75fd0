//! The settings that a search tries.

use bert_core::fnv1a;
use bert_kernels::random::{Key, Purpose};
use toml::Value;

use crate::{closest::closest, error::Result, run_file::RunFile};

/// What one key of a run file is drawn from; all draws are equally likely in their own way.
#[derive(Debug, Clone, PartialEq)]
pub enum Range {
    /// Any number from one to another.
    Uniform(f64, f64),
    /// Any number from one to another, each order of magnitude alike.
    Log(f64, f64),
    /// Any whole number from one to another, both included.
    Int(i64, i64),
    /// One of these values.
    Choice(Vec<Value>),
}

/// The keys of a run file that a search draws, each with its range.
#[derive(Debug, Clone, PartialEq)]
pub struct Space(Vec<(Vec<String>, Range)>);

/// Values, each with the place of its key in a run file.
pub(crate) type Draws = Vec<(Vec<String>, Value)>;

/// The table of a search file.
const TABLE: &str = "space";

const KINDS: [&str; 4] = ["uniform", "log", "int", "choice"];

impl Space {
    /// The space of a search file, in its table `[space]`.
    ///
    /// # Errors
    /// For a key without a range, and a range that holds nothing: with file, line and key.
    pub(crate) fn of(file: &RunFile) -> Result<Self> {
        let mut keys = vec![];
        match file.table().get(TABLE).and_then(Value::as_table) {
            Some(table) => read(file, &[], table, &mut keys)?,
            None => {
                let message = "expected a table [space] of the keys to search".to_owned();
                return Err(file.refuse(&[TABLE], message));
            }
        }
        if keys.is_empty() {
            let message = "space holds no key: expected one at least, lr = { log = [1e-5, 1e-3] }";
            return Err(file.refuse(&[TABLE], message.to_owned()));
        }
        Ok(Self(keys))
    }

    /// The settings of a trial: a pure function of seed, trial and key, whatever other keys and trials there are.
    pub(crate) fn draw(&self, seed: u64, trial: usize) -> Draws {
        let draw = |(place, range): &(Vec<String>, Range)| {
            (place.clone(), range.at(share(seed, trial, &place.join("."))))
        };
        self.0.iter().map(draw).collect()
    }

    /// The ends of all ranges, and all choices.
    pub(crate) fn extremes(&self) -> impl Iterator<Item = (&[String], Value)> {
        self.0.iter().flat_map(|(place, range)| {
            let values = match range {
                Range::Uniform(low, high) | Range::Log(low, high) => {
                    vec![Value::Float(*low), Value::Float(*high)]
                }
                Range::Int(low, high) => vec![Value::Integer(*low), Value::Integer(*high)],
                Range::Choice(values) => values.clone(),
            };
            values.into_iter().map(move |value| (place.as_slice(), value))
        })
    }

    /// Where a key stands in a search file.
    pub(crate) fn place_in_file(place: &[String]) -> Vec<&str> {
        [TABLE].into_iter().chain(place.iter().map(String::as_str)).collect()
    }

    /// The places of all keys.
    pub(crate) fn places(&self) -> impl Iterator<Item = &[String]> {
        self.0.iter().map(|(place, _)| place.as_slice())
    }
}

impl Range {
    /// The value at a share in `[0, 1)` of the range; fractions have four digits that count, which a person can read and a
    /// run file hold.
    fn at(&self, share: f64) -> Value {
        match self {
            Self::Uniform(low, high) => fraction(low + share * (high - low), *low, *high),
            Self::Log(low, high) => {
                fraction((low.ln() + share * (high.ln() - low.ln())).exp(), *low, *high)
            }
            Self::Int(low, high) => {
                let count = high.abs_diff(*low) as f64 + 1.0;
                Value::Integer(low.saturating_add((share * count) as i64).min(*high))
            }
            Self::Choice(values) => {
                let place = (share * values.len() as f64) as usize;
                values[place.min(values.len() - 1)].clone()
            }
        }
    }

    /// A range as it is written, or what is wrong with it.
    fn read(kind: &str, values: &[Value]) -> std::result::Result<Self, String> {
        if kind == "choice" {
            let repeated = (1..values.len()).find(|i| values[..*i].contains(&values[*i]));
            return match repeated {
                _ if values.is_empty() => Err("expected at least one value to choose from".into()),
                Some(i) => Err(format!("{} is there twice", values[i])),
                None => Ok(Self::Choice(values.to_vec())),
            };
        }
        let [low, high] = values else {
            return Err(format!("expected the two ends of the range, got {} values", values.len()));
        };
        let is_empty = |low: &dyn std::fmt::Display, high: &dyn std::fmt::Display| {
            format!("the range from {low} to {high} is empty: expected the lower end first")
        };
        if kind == "int" {
            return match (low.as_integer(), high.as_integer()) {
                (Some(low), Some(high)) if low < high => Ok(Self::Int(low, high)),
                (Some(low), Some(high)) => Err(is_empty(&low, &high)),
                _ => Err("expected two whole numbers".to_owned()),
            };
        }
        let (Some(low), Some(high)) = (number(low), number(high)) else {
            return Err("expected two numbers".to_owned());
        };
        if low >= high {
            return Err(is_empty(&low, &high));
        }
        match kind {
            "log" if low > 0.0 => Ok(Self::Log(low, high)),
            "log" => Err(format!("a logarithm needs numbers above 0, got {low}")),
            _ => Ok(Self::Uniform(low, high)),
        }
    }
}

/// Reads the ranges of a table and of those in it.
fn read(
    file: &RunFile,
    place: &[String],
    table: &toml::Table,
    keys: &mut Vec<(Vec<String>, Range)>,
) -> Result<()> {
    for (key, value) in table {
        let place: Vec<String> = place.iter().chain([key]).cloned().collect();
        let refuse = |message: String| {
            let message = format!("{}: {message}", place.join("."));
            Err(file.refuse(&Space::place_in_file(&place), message))
        };
        let Some(inner) = value.as_table() else {
            return refuse(
                "expected a range, one of { uniform = [0, 1] }, { log = [1e-5, 1e-3] }, { int = [2, 5] } and \
                 { choice = [\"mean\", \"max\"] }"
                    .to_owned(),
            );
        };
        let mut entries = inner.iter();
        match (entries.next(), entries.next()) {
            (Some((kind, Value::Array(values))), None) if KINDS.contains(&kind.as_str()) => {
                match Range::read(kind, values) {
                    Ok(range) => keys.push((place, range)),
                    Err(message) => return refuse(message),
                }
            }
            (Some((kind, Value::Array(_))), None) => {
                let meant = closest(kind, KINDS).map_or_else(
                    || format!("expected one of {}", KINDS.join(", ")),
                    |kind| format!("did you mean {kind:?}?"),
                );
                return refuse(format!("unknown range {kind:?}: {meant}"));
            }
            _ => read(file, &place, inner, keys)?,
        }
    }
    Ok(())
}

fn number(value: &Value) -> Option<f64> {
    let number = value.as_float().or_else(|| value.as_integer().map(|whole| whole as f64));
    number.filter(|number| number.is_finite())
}

fn fraction(value: f64, low: f64, high: f64) -> Value {
    let short = format!("{value:.3e}").parse().unwrap_or(value);
    Value::Float(f64::clamp(short, low, high))
}

/// A number in `[0, 1)` with 53 random bits.
fn share(seed: u64, trial: usize, key: &str) -> f64 {
    let hash = fnv1a(key);
    let words = [hash as u32, (hash >> 32) as u32, trial as u32];
    let block = Key::new(seed).derive(Purpose::Search, words).block([0; 4]);
    let bits = u64::from(block[0]) << 21 | u64::from(block[1]) >> 11;
    bits as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn space(text: &str) -> Result<Space> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("search.toml");
        std::fs::write(&path, text).unwrap();
        Space::of(&RunFile::read(&path)?)
    }

    const ALL: &str = "[space]\nlr = { log = [1e-5, 1e-3] }\nepochs = { int = [2, 5] }\n\
        pooling = { choice = [\"mean\", \"max\"] }\nweight_decay = { uniform = [0, 0.1] }\n\
        [space.task.log]\nweight = { uniform = [0.5, 2] }\n";

    fn of<'a>(draws: &'a Draws, key: &str) -> Option<&'a Value> {
        draws.iter().find(|(place, _)| place.join(".") == key).map(|(_, value)| value)
    }

    #[test]
    fn a_draw_depends_on_its_key_trial_and_seed_alone() {
        let (all, one) = (space(ALL).unwrap(), "[space]\nlr = { log = [1e-5, 1e-3] }");
        let one = space(one).unwrap();
        for trial in 0..20 {
            let (all, one) = (all.draw(3, trial), one.draw(3, trial));
            assert_eq!(one.len(), 1);
            assert_eq!(of(&all, "lr"), of(&one, "lr"));
        }
        assert_ne!(all.draw(3, 0), all.draw(3, 1));
        assert_ne!(all.draw(3, 0), all.draw(4, 0));
        assert_eq!(all.draw(3, 0), all.draw(3, 0));
    }

    /// Of 4000 draws each of four equal parts of a range gets 1000, with a standard deviation of sqrt(4000 * 1/4 * 3/4) = 27;
    /// 4.5 of these are 123.
    #[test]
    fn draws_cover_their_ranges_evenly() {
        let space = space(ALL).unwrap();
        let mut counts = std::collections::BTreeMap::<String, [usize; 4]>::new();
        for trial in 0..4000 {
            for (place, value) in space.draw(0, trial) {
                let part = match (place[0].as_str(), value) {
                    ("lr", Value::Float(lr)) => (lr.log10() + 5.0) * 2.0,
                    ("epochs", Value::Integer(epochs)) => epochs as f64 - 2.0,
                    ("weight_decay", Value::Float(decay)) => decay * 40.0,
                    ("task", Value::Float(weight)) => (weight - 0.5) / 1.5 * 4.0,
                    ("pooling", Value::String(name)) => f64::from(name == "max") * 2.0,
                    other => panic!("{other:?}"),
                };
                assert!((0.0..=4.0).contains(&part), "{place:?} {part}");
                counts.entry(place.join(".")).or_default()[(part as usize).min(3)] += 1;
            }
        }
        for (key, count) in counts {
            match key.as_str() {
                // 2000 each, sqrt(4000 / 4) = 32.
                "pooling" => assert!(count[0].abs_diff(2000) < 142 && count[0] + count[2] == 4000),
                _ => assert!(count.iter().all(|n| n.abs_diff(1000) < 123), "{key}: {count:?}"),
            }
        }
    }

    /// ln 1e-5 + 0.25 ln 100 is ln of 1e-5 * 100^0.25 = 3.16228e-5.
    #[test]
    fn values_by_hand() {
        assert_eq!(Range::Log(1e-5, 1e-3).at(0.25), Value::Float(3.162e-5));
        assert_eq!(Range::Uniform(-1.0, 2.0).at(0.25), Value::Float(-0.25));
        // Rounded to 0.1235, which is outside.
        assert_eq!(Range::Uniform(0.123, 0.123_46).at(0.999_999), Value::Float(0.123_46));
        let int = Range::Int(2, 5);
        let of = |share| int.at(share).as_integer().unwrap();
        assert_eq!([of(0.0), of(0.249), of(0.25), of(0.999_999)], [2, 2, 3, 5]);
        assert_eq!(Range::Int(i64::MIN, i64::MAX).at(0.0), Value::Integer(i64::MIN));
        let choice = Range::Choice(vec![Value::Boolean(true), Value::Integer(7)]);
        assert_eq!([choice.at(0.49), choice.at(0.5)], [Value::Boolean(true), Value::Integer(7)]);
    }

    #[test]
    fn ranges_that_hold_nothing_are_refused_with_line_and_key() {
        let cases = [
            ("lr = { log = [1e-3, 1e-5] }", "lr: the range from 0.001 to 0.00001 is empty"),
            ("lr = { log = [0, 1e-3] }", "lr: a logarithm needs numbers above 0, got 0"),
            ("lr = { log = [1e-5] }", "lr: expected the two ends of the range, got 1 values"),
            ("lr = { uniform = [0, inf] }", "lr: expected two numbers"),
            ("lr = { uniform = [\"a\", 1] }", "lr: expected two numbers"),
            ("epochs = { int = [2, 2] }", "epochs: the range from 2 to 2 is empty"),
            ("epochs = { int = [2, 2.5] }", "epochs: expected two whole numbers"),
            ("pooling = { choice = [] }", "pooling: expected at least one value"),
            ("pooling = { choice = [\"max\", \"max\"] }", "pooling: \"max\" is there twice"),
            ("lr = { logs = [1, 2] }", "lr: unknown range \"logs\": did you mean \"log\"?"),
            ("lr = 1e-3", "lr: expected a range, one of"),
            ("task.a.weight = 1", "task.a.weight: expected a range"),
        ];
        for (line, expected) in cases {
            let message = space(&format!("# a search\n[space]\n\n{line}\n")).unwrap_err();
            assert!(message.is_bad_input());
            let message = message.to_string();
            assert!(message.contains(&format!(".toml, line 4: {expected}")), "{message}");
        }
        for text in ["", "[space]\n", "space = 3"] {
            let message = space(text).unwrap_err().to_string();
            assert!(message.contains("line 1: ") && message.contains("space"), "{message}");
        }
    }
}
