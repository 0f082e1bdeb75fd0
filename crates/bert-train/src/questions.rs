//! Questions on texts, whose answers are parts of the texts.

use std::fs;
use std::path::Path;

use serde::Deserialize;

use crate::error::{Error, Result};

/// A question, the text that answers it, and its right answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// What names it in its file.
    pub id: String,
    /// The question.
    pub question: String,
    /// The text.
    pub context: String,
    /// The right answers, each as good as another; none where the text does not answer.
    pub answers: Vec<Answer>,
}

/// A part of a text.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Answer {
    /// The words of the text.
    pub text: String,
    /// Where they begin, in characters from 0.
    #[serde(rename = "answer_start")]
    pub start: usize,
}

#[derive(Deserialize)]
struct File {
    data: Vec<Article>,
}

#[derive(Deserialize)]
struct Article {
    paragraphs: Vec<Paragraph>,
}

#[derive(Deserialize)]
struct Paragraph {
    context: String,
    qas: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    id: String,
    question: String,
    #[serde(default)]
    answers: Vec<Answer>,
    #[serde(default)]
    is_impossible: bool,
}

/// All questions of a file in the form of SQuAD, version 1 or 2.
///
/// A question that is marked as impossible has no answers, whatever its file lists as plausible.
///
/// # Errors
/// Where the file can't be read or has not this form, or an answer is not where it is said to be.
///
/// # Source
/// Rajpurkar et al.: "SQuAD" (arXiv:1606.05250), "Know What You Don't Know" (arXiv:1806.03822).
pub fn read_questions(path: &Path) -> Result<Vec<Question>> {
    let bytes = fs::read(path).map_err(|source| Error::Read { path: path.into(), source })?;
    let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&bytes);
    let file: File = serde_json::from_slice(bytes).map_err(|error| {
        let text = error.to_string();
        let end = text.rfind(" at line ").unwrap_or(text.len());
        Error::Questions { path: path.into(), line: error.line(), reason: text[..end].into() }
    })?;
    let mut questions = vec![];
    for paragraph in file.data.into_iter().flat_map(|article| article.paragraphs) {
        for Entry { id, question, mut answers, is_impossible } in paragraph.qas {
            if is_impossible {
                answers.clear();
            }
            let context = paragraph.context.clone();
            for Answer { text, start } in &answers {
                let got: String = context.chars().skip(*start).take(text.chars().count()).collect();
                if got != *text {
                    return Err(Error::AnswerPlace {
                        path: path.into(),
                        id,
                        start: *start,
                        expected: text.clone(),
                        got,
                    });
                }
            }
            questions.push(Question { id, question, context, answers });
        }
    }
    if questions.is_empty() {
        return Err(Error::Empty { path: path.into() });
    }
    Ok(questions)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn read(text: &str) -> Result<Vec<Question>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("squad.json");
        fs::write(&path, text).unwrap();
        read_questions(&path)
    }

    fn file(qas: &str) -> String {
        format!(
            "{{\"version\": \"2\",\n\"data\": [{{\"title\": \"t\", \"paragraphs\": [\n{{\"context\": \"Émile was born in Łódź.\", \"qas\": [{qas}]}}]}}]}}"
        )
    }

    #[test]
    fn questions_come_with_their_answers() {
        let questions = read(&file(
            r#"{"id": "1", "question": "Where?", "answers": [{"text": "Łódź", "answer_start": 18}, {"text": "in Łódź", "answer_start": 15}]},
               {"id": "2", "question": "When?", "is_impossible": true, "answers": [], "plausible_answers": [{"text": "x", "answer_start": 0}]},
               {"id": "3", "question": "Why?", "is_impossible": true, "answers": [{"text": "born", "answer_start": 99}]}"#,
        ))
        .unwrap();
        assert_eq!(questions.len(), 3);
        assert_eq!(questions[0].answers[0], Answer { text: "Łódź".into(), start: 18 });
        assert_eq!(questions[0].answers.len(), 2);
        assert_eq!((questions[1].id.as_str(), questions[1].answers.len()), ("2", 0));
        assert_eq!(questions[2].answers, []);
        assert_eq!(questions[2].context, "Émile was born in Łódź.");
    }

    #[test]
    fn an_answer_that_is_elsewhere_is_refused() {
        // 19 is the place in bytes.
        let text = file(
            r#"{"id": "q7", "question": "", "answers": [{"text": "Łódź", "answer_start": 19}]}"#,
        );
        let message = read(&text).unwrap_err().to_string();
        assert!(
            message.ends_with("squad.json, question q7: the context has \"ódź.\" at character 19, expected the answer \"Łódź\": check answer_start, which counts characters"),
            "{message}"
        );
    }

    #[test]
    fn another_form_is_refused_with_its_line() {
        for (text, expected) in [
            (
                "{\"data\":\n [{\"paragraph\": []}]}",
                "line 2: missing field `paragraphs`: expected SQuAD's form",
            ),
            ("[]\n", "line 1: "),
            ("{\"data\": [", "line 1: EOF while parsing a list: expected SQuAD's form"),
        ] {
            let message = read(text).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        }
        let message = read(&file("")).unwrap_err().to_string();
        assert!(
            message.ends_with("squad.json holds no row of data, expected at least one"),
            "{message}"
        );
        let absent = read_questions(Path::new("absent.json")).unwrap_err().to_string();
        assert!(absent.starts_with("cannot read absent.json: "), "{absent}");
    }

    #[test]
    fn real_questions_are_read() {
        let data = PathBuf::from(std::env::var_os("BERT_TUNE_DATA").unwrap_or_default());
        let data = data.join("data/xquad_en");
        if !data.is_dir() {
            println!("skipped: no {} (BERT_TUNE_DATA)", data.display());
            return;
        }
        assert_eq!(read_questions(&data.join("train.json")).unwrap().len(), 892);
        assert_eq!(read_questions(&data.join("dev.json")).unwrap().len(), 298);
    }
}
