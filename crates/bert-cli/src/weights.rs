//! What `bert predict --weights` shows.

use std::{
    io,
    path::{Path, PathBuf},
    str::FromStr,
};

use bert_core::write_atomically;
use bert_train::{
    Example, Prediction, TextClassifier, TokenWeight, WeightsPage, ansi_legend, weights_in_ansi,
};
use burn::tensor::Device;
use serde::Serialize;

use crate::{Failure, arguments::PART, predict::Line};

/// How the weights of tokens are shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WeightsForm {
    /// In the line of JSON.
    Json,
    /// In the colours of a terminal.
    Ansi,
    /// On a page in this file.
    Html(PathBuf),
}

impl FromStr for WeightsForm {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.strip_prefix("html=")) {
            ("json", _) => Ok(Self::Json),
            ("ansi", _) => Ok(Self::Ansi),
            (_, Some(file)) if !file.is_empty() => Ok(Self::Html(file.into())),
            _ => Err("expected json, ansi or html=FILE".to_owned()),
        }
    }
}

/// The weights of the texts of one call, as they come.
pub struct WeightsView<'a> {
    form: &'a WeightsForm,
    per_dimension: bool,
    page: WeightsPage,
}

#[derive(Serialize)]
struct WeightedLine<'a> {
    #[serde(flatten)]
    line: Line<'a>,
    weights: &'a [TokenWeight],
}

impl<'a> WeightsView<'a> {
    /// A view without any text yet.
    pub fn new(form: &'a WeightsForm, per_dimension: bool) -> Result<Self, Failure> {
        if per_dimension && *form != WeightsForm::Json {
            return Err(Failure::Usage(
                "--weights-per-dimension is for --weights json alone".to_owned(),
            ));
        }
        if let WeightsForm::Html(file) = form {
            let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
            if file.is_dir() || folder.is_some_and(|folder| !folder.is_dir()) {
                return Err(Failure::Usage(format!(
                    "cannot write {}: give html=FILE in a directory that is there",
                    file.display()
                )));
            }
        }
        Ok(Self { form, per_dimension, page: WeightsPage::default() })
    }

    /// How many texts are held at once: a weight a dimension takes room.
    pub fn part(&self) -> usize {
        if self.per_dimension { 64 } else { PART }
    }

    /// What is printed of these texts, a line each, and how many of them were cut.
    pub fn lines(
        &mut self,
        classifier: &TextClassifier,
        examples: &[Example],
        max_length: usize,
        batch_size: usize,
        device: &Device,
    ) -> Result<(Vec<String>, usize), Failure> {
        let per_dimension = self.per_dimension;
        let (answers, cut) = classifier.predict_with_weights(
            examples,
            per_dimension,
            max_length,
            batch_size,
            device,
        )?;
        let names = classifier.labels.names();
        let mut lines = vec![];
        if *self.form == WeightsForm::Ansi && self.page.shares().texts() == 0 {
            lines.push(ansi_legend());
        }
        for (example, (prediction, weights)) in examples.iter().zip(&answers) {
            let Prediction { label, probabilities } = prediction;
            let (label, probability) = (&names[*label as usize], probabilities[*label as usize]);
            self.page.add(example, label, probability, weights);
            let line = Line::new(example, prediction, names);
            lines.push(match self.form {
                WeightsForm::Ansi => {
                    let text = weights_in_ansi(example, weights);
                    format!("{label} {:.1} %  {text}", 100.0 * probability)
                }
                WeightsForm::Json => {
                    let line = WeightedLine { line, weights };
                    serde_json::to_string(&line).map_err(io::Error::from)?
                }
                WeightsForm::Html(_) => serde_json::to_string(&line).map_err(io::Error::from)?,
            });
        }
        Ok((lines, cut))
    }

    /// Says where the weight lies and writes the page, if there is to be one.
    pub fn finish(self, model: &Path) -> Result<(), Failure> {
        if self.page.shares().texts() > 0 {
            eprintln!("{}", self.page.shares());
        }
        if let WeightsForm::Html(file) = self.form {
            write_atomically(file, self.page.to_html(&model.display().to_string()).as_bytes())?;
        }
        Ok(())
    }
}
