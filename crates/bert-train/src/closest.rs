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

/// How many insertions, deletions, substitutions and swaps of neighbours turn `a` into `b`, no character being touched twice
/// (optimal string alignment).
fn edits(a: &str, b: &str) -> usize {
    let [a, b] = [a, b].map(|text| text.chars().collect::<Vec<char>>());
    let mut rows = vec![(0..=b.len()).collect::<Vec<usize>>()];
    for i in 0..a.len() {
        let mut row = vec![i + 1];
        for j in 0..b.len() {
            let substitution = rows[i][j] + usize::from(a[i] != b[j]);
            let mut least = substitution.min(row[j] + 1).min(rows[i][j + 1] + 1);
            if i > 0 && j > 0 && a[i] == b[j - 1] && a[i - 1] == b[j] {
                least = least.min(rows[i - 1][j - 1] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_are_counted() {
        for (a, b, count) in [
            ("", "", 0),
            ("", "ab", 2),
            ("kitten", "sitting", 3),
            ("é", "e", 1),
            ("ab", "ba", 1),
            ("trian", "train", 1),
            // A swap, and what is put between its two.
            ("ca", "abc", 3),
        ] {
            assert_eq!(edits(a, b), count, "{a} {b}");
            assert_eq!(edits(b, a), count, "{b} {a}");
        }
    }

    #[test]
    fn the_closest_name_is_found_when_it_is_close() {
        let names = ["sentence", "category", "label"];
        assert_eq!(closest("lable", names), Some("label"));
        assert_eq!(closest("lbale", names), None);
        assert_eq!(closest("labels", names), Some("label"));
        assert_eq!(closest("Sentense", names), Some("sentence"));
        assert_eq!(closest("LABEL", names), Some("label"));
        assert_eq!(closest("text", names), None);
    }
}
