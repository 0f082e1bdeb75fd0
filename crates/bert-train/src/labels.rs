//! The ids of the labels.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use crate::error::{Error, Result};
use crate::examples::Example;
use crate::sentences::Sentence;

/// The labels of a classifier, each with its id from 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelMap {
    names: Vec<String>,
    ids: HashMap<String, u32>,
}

impl LabelMap {
    /// The labels of a model: the id of each is its place in `id2label`.
    ///
    /// # Errors
    /// [`Error::RepeatedLabel`] where two ids have the same label.
    pub fn of_model(id2label: &[String]) -> Result<Self> {
        let mut ids: HashMap<String, u32> = HashMap::with_capacity(id2label.len());
        for (id, label) in id2label.iter().enumerate() {
            if let Some(first) = ids.insert(label.clone(), id as u32) {
                return Err(Error::RepeatedLabel {
                    label: label.clone(),
                    first: first as usize,
                    second: id,
                });
            }
        }
        Ok(Self { names: id2label.to_vec(), ids })
    }

    /// The labels that `examples`, the rows of the training file `path`, have.
    ///
    /// Ids follow the sorted order of the labels, unless `id2label`, the labels of the checkpoint, names the
    /// same set: then its ids are kept.
    ///
    /// # Errors
    /// [`Error::NoLabel`] where an example has none, [`Error::OneLabel`] where all have the same.
    pub fn of_training(path: &Path, examples: &[Example], id2label: &[String]) -> Result<Self> {
        let mut set = BTreeSet::new();
        for example in examples {
            set.insert(label_of(path, example)?);
        }
        if let (Some(&label), true) = (set.first(), set.len() == 1) {
            return Err(Error::OneLabel { path: path.into(), label: label.into() });
        }
        Self::sorted(&set, id2label)
    }

    /// The labels that `examples`, the rows of the training file `path`, have where each may have several.
    ///
    /// Ids as in [`of_training`](Self::of_training).
    ///
    /// # Errors
    /// [`Error::LabelSet`] where a label is empty or repeated, [`Error::NoLabel`] where no row has one.
    pub fn of_training_sets(
        path: &Path,
        examples: &[Example],
        separator: char,
        id2label: &[String],
    ) -> Result<Self> {
        let mut set = BTreeSet::new();
        for example in examples {
            set.extend(labels_of(path, example, separator)?);
        }
        if set.is_empty() {
            return Err(Error::NoLabel { path: path.into(), line: 1 });
        }
        Self::sorted(&set, id2label)
    }

    /// The tags that `sentences`, those of the training file `path`, have.
    ///
    /// Ids as in [`of_training`](Self::of_training).
    ///
    /// # Errors
    /// [`Error::NoTags`] where a sentence has none, [`Error::OneLabel`] where all tokens have the same.
    pub fn of_tags(path: &Path, sentences: &[Sentence], id2label: &[String]) -> Result<Self> {
        let mut set = BTreeSet::new();
        for sentence in sentences {
            set.extend(sentence.tags_in(path)?.iter().map(String::as_str));
        }
        if let (Some(&tag), true) = (set.first(), set.len() == 1) {
            return Err(Error::OneLabel { path: path.into(), label: tag.into() });
        }
        Self::sorted(&set, id2label)
    }

    /// Labels in sorted order, unless `id2label` names the same set.
    fn sorted(set: &BTreeSet<&str>, id2label: &[String]) -> Result<Self> {
        let sorted: Vec<String> = set.iter().map(|&label| label.into()).collect();
        let is_same_set = id2label.len() == sorted.len()
            && id2label.iter().all(|label| set.contains(label.as_str()));
        match Self::of_model(id2label) {
            Ok(labels) if is_same_set => Ok(labels),
            _ => Self::of_model(&sorted),
        }
    }

    /// The id of a label.
    pub fn id(&self, label: &str) -> Option<u32> {
        self.ids.get(label).copied()
    }

    /// The label of an id.
    pub fn name(&self, id: u32) -> Option<&str> {
        self.names.get(id as usize).map(String::as_str)
    }

    /// All labels, in the order of their ids.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// How many labels there are.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there are no labels.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// The ids of the labels of `examples`, the rows of the file `path`.
    ///
    /// # Errors
    /// [`Error::NoLabel`] where an example has none, [`Error::UnknownLabel`] where it is not one of these.
    pub fn ids(&self, path: &Path, examples: &[Example]) -> Result<Vec<u32>> {
        examples
            .iter()
            .map(|example| self.known_id(path, example.line, label_of(path, example)?))
            .collect()
    }

    /// For each of `examples`, the rows of the file `path`, and for each label: whether the row has it.
    ///
    /// # Errors
    /// [`Error::LabelSet`] where a label is empty or repeated, [`Error::UnknownLabel`] where it is not one of these.
    pub fn id_sets(
        &self,
        path: &Path,
        examples: &[Example],
        separator: char,
    ) -> Result<Vec<Vec<bool>>> {
        let set = |example: &Example| {
            let mut set = vec![false; self.len()];
            for label in labels_of(path, example, separator)? {
                set[self.known_id(path, example.line, label)? as usize] = true;
            }
            Ok(set)
        };
        examples.iter().map(set).collect()
    }

    /// The ids of the tags of `sentences`, those of the file `path`.
    ///
    /// # Errors
    /// [`Error::NoTags`] where a sentence has none, [`Error::UnknownLabel`] where a tag is not one of these.
    pub fn tag_ids(&self, path: &Path, sentences: &[Sentence]) -> Result<Vec<Vec<u32>>> {
        let ids = |sentence: &Sentence| {
            let tags = sentence.tags_in(path)?.iter();
            tags.map(|tag| self.known_id(path, sentence.line, tag)).collect()
        };
        sentences.iter().map(ids).collect()
    }

    fn known_id(&self, path: &Path, line: usize, label: &str) -> Result<u32> {
        self.id(label).ok_or_else(|| Error::UnknownLabel {
            path: path.into(),
            line,
            label: label.into(),
            known: self.names.clone(),
        })
    }
}

/// The labels of a row that may have several; none where the column is empty.
fn labels_of<'a>(path: &Path, example: &'a Example, separator: char) -> Result<Vec<&'a str>> {
    let text = example.label.as_deref().unwrap_or_default();
    let mut labels: Vec<&str> = vec![];
    for label in text.split(separator).filter(|_| !text.is_empty()) {
        if label.is_empty() || labels.contains(&label) {
            return Err(Error::LabelSet {
                path: path.into(),
                line: example.line,
                labels: text.into(),
                separator,
            });
        }
        labels.push(label);
    }
    Ok(labels)
}

fn label_of<'a>(path: &Path, example: &'a Example) -> Result<&'a str> {
    let label = example.label.as_deref().filter(|label| !label.is_empty());
    label.ok_or_else(|| Error::NoLabel { path: path.into(), line: example.line })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn examples<S: AsRef<str>>(labels: &[S]) -> Vec<Example> {
        let example = |(row, label): (usize, &S)| Example {
            text: "text".into(),
            pair: None,
            label: Some(label.as_ref().into()),
            line: row + 1,
        };
        labels.iter().enumerate().map(example).collect()
    }

    fn strings(labels: &[&str]) -> Vec<String> {
        labels.iter().map(|&label| label.into()).collect()
    }

    fn of_training(labels: &[&str], id2label: &[&str]) -> Result<LabelMap> {
        LabelMap::of_training(Path::new("train.tsv"), &examples(labels), &strings(id2label))
    }

    #[test]
    fn ids_follow_the_sorted_order_of_the_strings() {
        let labels = of_training(&["b", "10", "a", "2", "b", "B"], &[]).unwrap();
        assert_eq!(labels.names(), ["10", "2", "B", "a", "b"]);
        assert_eq!((labels.id("2"), labels.id("c")), (Some(1), None));
        assert_eq!((labels.name(4), labels.name(5)), (Some("b"), None));
    }

    #[test]
    fn the_order_of_a_checkpoint_wins_when_it_names_the_same_set() {
        assert_eq!(of_training(&["neg", "pos"], &["pos", "neg"]).unwrap().names(), ["pos", "neg"]);
        for other in
            [&["pos", "neg", "neutral"][..], &["pos"], &["LABEL_1", "LABEL_0"], &["pos", "pos"]]
        {
            assert_eq!(of_training(&["neg", "pos"], other).unwrap().names(), ["neg", "pos"]);
        }
    }

    #[test]
    fn a_single_label_is_refused() {
        assert_eq!(
            of_training(&["1", "1"], &[]).unwrap_err().to_string(),
            "train.tsv: all rows have the label \"1\", expected at least two labels: check --label"
        );
    }

    #[test]
    fn a_label_that_training_never_saw_is_refused() {
        let labels = of_training(&["neg", "pos"], &[]).unwrap();
        let dev = Path::new("dev.tsv");
        assert_eq!(labels.ids(dev, &examples(&["pos", "neg", "pos"])).unwrap(), [1, 0, 1]);
        assert_eq!(
            labels.ids(dev, &examples(&["pos", "meh"])).unwrap_err().to_string(),
            "dev.tsv, line 2: unknown label \"meh\", expected one of neg, pos: add it to the training data, or check --label or --tags"
        );
    }

    #[test]
    fn an_example_without_label_is_refused() {
        let mut unlabelled = examples(&["a", "b"]);
        unlabelled[1].label = None;
        let mut empty = examples(&["a", "b"]);
        empty[1].label = Some(String::new());
        let expected = "train.tsv, line 2: the label is empty: give the row a label or remove it";
        let path = Path::new("train.tsv");
        assert_eq!(
            LabelMap::of_training(path, &unlabelled, &[]).unwrap_err().to_string(),
            expected
        );
        let refused = LabelMap::of_training(path, &empty, &[]).unwrap_err();
        assert_eq!(refused.to_string(), expected);
        let labels = of_training(&["a", "b"], &[]).unwrap();
        assert_eq!(labels.ids(path, &unlabelled).unwrap_err().to_string(), expected);
    }

    #[test]
    fn a_model_with_one_label_for_two_ids_is_refused() {
        assert_eq!(
            LabelMap::of_model(&strings(&["a", "b", "a"])).unwrap_err().to_string(),
            "the labels of the model must differ, got \"a\" for ids 0 and 2: check id2label in config.json"
        );
    }

    #[test]
    fn rows_with_several_labels() {
        let path = Path::new("train.tsv");
        let rows = examples(&["joy,anger", "", "joy"]);
        let labels = LabelMap::of_training_sets(path, &rows, ',', &[]).unwrap();
        assert_eq!(labels.names(), ["anger", "joy"]);
        let expected = [vec![true, true], vec![false, false], vec![false, true]];
        assert_eq!(labels.id_sets(path, &rows, ',').unwrap(), expected);
        let own = LabelMap::of_training_sets(path, &rows, ',', &strings(&["joy", "anger"]));
        assert_eq!(own.unwrap().names(), ["joy", "anger"]);

        for wrong in ["joy,", ",", "joy,joy"] {
            let rows = examples(&["joy", wrong]);
            assert_eq!(
                labels.id_sets(path, &rows, ',').unwrap_err().to_string(),
                format!(
                    "train.tsv, line 2: labels {wrong:?}: expected different labels with ',' between them, none of them empty"
                )
            );
        }
        let message = labels.id_sets(path, &examples(&["joy,fear"]), ',').unwrap_err().to_string();
        assert!(message.starts_with("train.tsv, line 1: unknown label \"fear\""), "{message}");
        let none = LabelMap::of_training_sets(path, &examples(&["", ""]), ',', &[]);
        assert!(matches!(none, Err(Error::NoLabel { .. })));
    }

    proptest! {
        #[test]
        fn labels_and_ids_are_a_bijection(labels in prop::collection::vec("[a-d]{1,2}", 2..30)) {
            prop_assume!(labels.iter().any(|label| *label != labels[0]));
            let examples = examples(&labels);
            let map = LabelMap::of_training(Path::new("train.tsv"), &examples, &[]).unwrap();
            for id in 0..map.len() as u32 {
                prop_assert_eq!(map.id(map.name(id).unwrap()), Some(id));
            }
            let ids = map.ids(Path::new("train.tsv"), &examples).unwrap();
            for (label, id) in labels.iter().zip(ids) {
                prop_assert_eq!(map.name(id).unwrap(), label);
            }
        }
    }
}
