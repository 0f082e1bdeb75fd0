//! `bert predict`.

use std::{
    io::{self, Write},
    path::PathBuf,
};

use bert_train::{Example, TextClassifier};
use clap::Args;
use serde_json::{Map, Value, json};

use crate::{
    Failure,
    arguments::{Running, Texts, say_truncated},
};

/// Classify texts: one line of JSON a text.
#[derive(Debug, Args)]
pub struct Predict {
    /// Model that `bert train` wrote, or a BertForSequenceClassification in Hugging Face's layout
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// One text
    #[arg(
        long = "text",
        value_name = "TEXT",
        allow_hyphen_values = true,
        required_unless_present = "input",
        conflicts_with = "input"
    )]
    one: Option<String>,
    /// The second text of a pair
    #[arg(long, value_name = "TEXT", requires = "one", allow_hyphen_values = true)]
    pair: Option<String>,
    #[command(flatten)]
    texts: Texts,
    #[command(flatten)]
    running: Running,
}

impl Predict {
    /// Predicts.
    pub fn run(self) -> Result<(), Failure> {
        let device = self.running.device()?;
        let classifier = TextClassifier::load(&self.model, &device)?;
        let max_length = self.running.max_length.unwrap_or(classifier.settings.max_length);
        let mut out = io::stdout().lock();
        let (mut rows, mut truncated) = (0, 0);
        let mut predict = |examples: &[Example]| -> Result<(), Failure> {
            let (predictions, cut) =
                classifier.predict(examples, max_length, self.running.batch_size, &device)?;
            (rows, truncated) = (rows + examples.len(), truncated + cut);
            for (example, prediction) in examples.iter().zip(predictions) {
                let names = classifier.labels.names();
                let probabilities: Map<String, Value> = names
                    .iter()
                    .cloned()
                    .zip(prediction.probabilities.iter().map(|p| json!(p)))
                    .collect();
                let mut line = json!({ "text": example.text });
                if let Some(pair) = &example.pair {
                    line["pair"] = json!(pair);
                }
                line["label"] = json!(names[prediction.label as usize]);
                line["probabilities"] = Value::Object(probabilities);
                writeln!(out, "{line}")?;
            }
            Ok(())
        };
        match (self.one, &self.texts.input) {
            (Some(text), _) => predict(&[Example { text, pair: self.pair, label: None, line: 1 }])?,
            (None, Some(path)) => {
                self.texts.in_parts(path, classifier.settings.texts, &mut predict)?;
            }
            (None, None) => return Err(Failure::Usage("expected --text or --input".to_owned())),
        }
        say_truncated(truncated, rows, max_length);
        Ok(())
    }
}
