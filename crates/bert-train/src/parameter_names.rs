//! Many parameters in few words.

use std::fmt;

/// Patterns that the names of parameters have in common, where `*` stands for fields that differ, in the order of the names; none
/// of them stands for one of the `others` as well.
///
/// Names whose first field (the first two, below `bert` and `tasks`) and last field are the same become one, by more of their last
/// fields where that would be one of the others', too.
pub(crate) fn patterns(names: &[&str], others: &[&str]) -> Vec<String> {
    fn of<'a>(names: &[&'a str], others: &[&str], last: usize) -> Vec<String> {
        let mut alike: Vec<(Key<'a>, Vec<&'a str>)> = vec![];
        for name in names {
            let key = key(name, last);
            match alike.iter_mut().find(|(other, _)| *other == key) {
                Some((_, group)) => group.push(name),
                None => alike.push((key, vec![name])),
            }
        }
        let of_group = |(_, group): (_, Vec<&'a str>)| {
            let pattern = Pattern::of(&group, last);
            match group.len() > 1 && others.iter().any(|other| pattern.matches(other)) {
                true => of(&group, others, last + 1),
                false => vec![pattern.to_string()],
            }
        };
        alike.into_iter().flat_map(of_group).collect()
    }
    of(names, others, 1)
}

/// What names of one pattern share: their first fields and the last ones.
type Key<'a> = (Vec<&'a str>, Vec<&'a str>);

fn key(name: &str, last: usize) -> Key<'_> {
    let fields: Vec<&str> = name.split('.').collect();
    let first = if matches!(fields[..], ["bert" | "tasks", ..]) { 2 } else { 1 };
    let first = first.min(fields.len());
    let last = last.min(fields.len() - first);
    (fields[..first].to_vec(), fields[fields.len() - last..].to_vec())
}

/// The fields that names begin with, and those that they end with; one name has no end.
struct Pattern<'a> {
    first: Vec<&'a str>,
    last: Option<Vec<&'a str>>,
}

impl<'a> Pattern<'a> {
    /// Of names that share their last fields, so many.
    fn of(names: &[&'a str], last: usize) -> Self {
        let fields = |name: &&'a str| name.split('.').collect::<Vec<_>>();
        let all: Vec<Vec<&str>> = names.iter().map(fields).collect();
        let [one, others @ ..] = &all[..] else { return Self { first: vec![], last: None } };
        let shared = |other: &Vec<&str>| one.iter().zip(other).take_while(|(a, b)| a == b).count();
        let first = others.iter().map(shared).min().unwrap_or(one.len());
        let last = last.min(one.len() - first);
        let end = (first < one.len()).then(|| one[one.len() - last..].to_vec());
        Self { first: one[..first].to_vec(), last: end }
    }

    fn matches(&self, name: &str) -> bool {
        let fields: Vec<&str> = name.split('.').collect();
        match &self.last {
            None => fields == self.first,
            Some(last) => {
                fields.len() > self.first.len() + last.len()
                    && fields.starts_with(&self.first)
                    && fields.ends_with(last)
            }
        }
    }
}

impl fmt::Display for Pattern<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first = self.first.join(".");
        match &self.last {
            None => f.write_str(&first),
            Some(last) => write!(f, "{first}.*.{}", last.join(".")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_patterns() {
        let names = [
            "bert.embeddings.word_embeddings.weight",
            "bert.embeddings.position_embeddings.weight",
            "bert.encoder.layer.0.output.dense.weight",
            "bert.encoder.layer.1.attention.self_attention.key.weight",
            "bert.encoder.layer.1.attention.self_attention.key.bias",
            "tasks.0.classifier.weight",
            "tasks.1.classifier.weight",
            "classifier.weight",
        ];
        let expected = [
            "bert.embeddings.*.weight",
            "bert.encoder.layer.*.weight",
            "bert.encoder.layer.1.attention.self_attention.key.bias",
            "tasks.0.classifier.weight",
            "tasks.1.classifier.weight",
            "classifier.weight",
        ];
        assert_eq!(patterns(&names, &[]), expected);
        // Of one layer, its number stays.
        let of_layer = [
            "bert.encoder.layer.3.output.dense.weight",
            "bert.encoder.layer.3.intermediate.dense.weight",
        ];
        assert_eq!(patterns(&of_layer, &[]), ["bert.encoder.layer.3.*.weight"]);
    }

    #[test]
    fn patterns_leave_others_out() {
        let map = |layer: usize, part: &str| format!("bert.encoder.layer.{layer}.{part}");
        let own = [
            map(0, "query.lora.a.weight"),
            map(1, "query.lora.a.weight"),
            map(1, "value.lora.b.weight"),
        ];
        let others = [map(0, "query.weight"), map(1, "output.dense.weight"), map(0, "norm.gamma")];
        let [own, others] = [&own, &others].map(|names| names.each_ref().map(String::as_str));
        let expected =
            ["bert.encoder.layer.*.a.weight", "bert.encoder.layer.1.value.lora.b.weight"];
        assert_eq!(patterns(&own, &others), expected);
        // Of the others one lies between.
        let names = ["bert.a.x.weight", "bert.a.y.weight", "bert.a.z.weight"];
        assert_eq!(patterns(&names, &["bert.a.w.weight"]), names);
        assert_eq!(patterns(&names, &["bert.b.w.weight"]), ["bert.a.*.weight"]);
    }
}
