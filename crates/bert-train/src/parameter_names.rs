//! Many parameters in few words.

/// Patterns that the names of parameters have in common, where `*` stands for fields that differ, in the order of the names.
///
/// Names whose first field (the first two, below `bert` and `tasks`) and last field are the same become one.
pub(crate) fn patterns(names: &[&str]) -> Vec<String> {
    let mut alike: Vec<(Key, Vec<Vec<&str>>)> = vec![];
    for name in names {
        let fields: Vec<&str> = name.split('.').collect();
        let key = key(&fields);
        match alike.iter_mut().find(|(other, _)| *other == key) {
            Some((_, group)) => group.push(fields),
            None => alike.push((key, vec![fields])),
        }
    }
    alike.iter().map(|(_, group)| pattern(group)).collect()
}

/// What names of one pattern share: their first fields and the last.
type Key<'a> = (Vec<&'a str>, Option<&'a str>);

fn key<'a>(fields: &[&'a str]) -> Key<'a> {
    let first = if matches!(fields, ["bert" | "tasks", ..]) { 2 } else { 1 };
    (fields.iter().take(first).copied().collect(), fields.last().copied())
}

fn pattern(group: &[Vec<&str>]) -> String {
    let [first, others @ ..] = group else { return String::new() };
    let shared = |other: &Vec<&str>| first.iter().zip(other).take_while(|(a, b)| a == b).count();
    let shared = others.iter().map(shared).min().unwrap_or(first.len());
    match (shared < first.len(), first.last()) {
        (true, Some(last)) => format!("{}.*.{last}", first[..shared].join(".")),
        _ => first.join("."),
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
        assert_eq!(patterns(&names), expected);
        // Of one layer, its number stays.
        let of_layer = [
            "bert.encoder.layer.3.output.dense.weight",
            "bert.encoder.layer.3.intermediate.dense.weight",
        ];
        assert_eq!(patterns(&of_layer), ["bert.encoder.layer.3.*.weight"]);
    }
}
