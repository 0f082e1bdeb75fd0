//! The ids of the labels.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use crate::error::{Error, Result};
use crate::examples::Example;

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
            .map(|example| {
                let label = label_of(path, example)?;
                self.id(label).ok_or_else(|| Error::UnknownLabel {
                    path: path.into(),
                    line: example.line,
                    label: label.into(),
                    known: self.names.clone(),
                })
            })
            .collect()
    }
}

fn label_of<'a>(path: &Path, example: &'a Example) -> Result<&'a str> {
    example.label.as_deref().ok_or_else(|| Error::NoLabel { path: path.into(), line: example.line })
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
            "dev.tsv, line 2: unknown label \"meh\", expected one of neg, pos: add it to the training data or check --label"
        );
    }

    #[test]
    fn an_example_without_label_is_refused() {
        let mut unlabelled = examples(&["a", "b"]);
        unlabelled[1].label = None;
        let expected = "train.tsv, line 2: the label is empty: give the row a label or remove it";
        let path = Path::new("train.tsv");
        assert_eq!(
            LabelMap::of_training(path, &unlabelled, &[]).unwrap_err().to_string(),
            expected
        );
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
