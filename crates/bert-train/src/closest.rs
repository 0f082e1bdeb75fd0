//! Which known name was probably meant by an unknown one.

/// The candidate that is most like `name`, when it is alike enough to be worth a question.
///
/// Alike enough is at most one edit in three characters, the case of letters aside.
pub(crate) fn closest<'a>(
    name: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let allowed = (name.chars().count() / 3).max(1);
    let length = name.chars().count();
    candidates
        .into_iter()
        // Each character that one has more is an edit: what is far too long is not compared.
        .filter(|candidate| candidate.chars().count().abs_diff(length) <= allowed)
        .map(|candidate| (edits(&name.to_lowercase(), &candidate.to_lowercase()), candidate))
        .filter(|&(edits, _)| edits <= allowed)
        .min_by_key(|&(edits, _)| edits)
        .map(|(_, candidate)| candidate)
}

/// How many insertions, deletions and substitutions of characters turn `a` into `b` (Levenshtein).
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, &to) in b.iter().enumerate() {
            let substitution = diagonal + usize::from(from != to);
            diagonal = row[j + 1];
            row[j + 1] = substitution.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_are_counted() {
        for (a, b, count) in
            [("", "", 0), ("", "ab", 2), ("kitten", "sitting", 3), ("é", "e", 1), ("ab", "ba", 2)]
        {
            assert_eq!(edits(a, b), count, "{a} {b}");
            assert_eq!(edits(b, a), count, "{b} {a}");
        }
    }

    #[test]
    fn the_closest_name_is_found_when_it_is_close() {
        let names = ["sentence", "category", "label"];
        assert_eq!(closest("lable", names), None);
        assert_eq!(closest("labels", names), Some("label"));
        assert_eq!(closest("Sentense", names), Some("sentence"));
        assert_eq!(closest("LABEL", names), Some("label"));
        assert_eq!(closest("text", names), None);
    }
}
