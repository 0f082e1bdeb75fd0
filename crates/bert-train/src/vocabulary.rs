//! Vocabulary work on files: what new words would be worth, and a model that has them.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use bert_core::{ExtendedModel, Tokenizer, VocabularyScan, WordCounts, WordInit, write_atomically};

use crate::{
    columns::{Column, Columns},
    error::{Error, Result},
    examples::Examples,
    format::Format,
    lines::Lines,
    model_dir::SETTINGS_FILE,
    observer::Observer,
    out_dir::make_out,
    sentences::Sentences,
};

/// Looks at the words of data files through the tokenizer in `model`, and chooses at most `words` new ones.
///
/// Of every file the text columns of `columns` are read, else the first column; of sentences (see [`Sentences`]) their
/// tokens.
///
/// # Errors
/// When the tokenizer or a file can't be read, or a file has no such column.
pub fn scan_vocabulary(
    model: &Path,
    files: &[PathBuf],
    format: Option<Format>,
    columns: &Columns,
    words: usize,
) -> Result<VocabularyScan> {
    let tokenizer = Tokenizer::load(model)?;
    let mut counts = WordCounts::default();
    let (sentences, files): (Vec<_>, Vec<_>) =
        files.iter().partition(|file| Sentences::are_in(file, format, columns));
    for file in sentences {
        for sentence in Sentences::untagged(file, format, columns)? {
            counts.add(&tokenizer, &sentence?.tokens.join(" "))?;
        }
    }
    // Column by column, so that there may be any number of them.
    let single = |column: &Column| vec![column.clone()];
    let texts = match &columns.text[..] {
        [] => vec![vec![]],
        texts => texts.iter().map(single).collect(),
    };
    for file in files {
        for text in &texts {
            let columns =
                Columns { text: text.clone(), header: columns.header, ..Columns::default() };
            for example in Examples::unlabelled(file, format, &columns, 1)? {
                counts.add(&tokenizer, &example?.text)?;
            }
        }
    }
    Ok(VocabularyScan::new(&tokenizer, &counts, words)?)
}

/// Writes the model in `model` into `out`, which is made, with the words of a file behind its vocabulary; gives their
/// number. What it is besides is told in [`ExtendedModel`]; our settings go along.
///
/// The file has one word a line. Words that are in the vocabulary already are skipped, with a notice for each.
///
/// # Errors
/// When a line holds what can't become a word, or no word is left; when `model` is no BERT, or `out` is not empty.
pub fn extend_vocabulary(
    model: &Path,
    words: &Path,
    init: WordInit,
    seed: u64,
    out: &Path,
    observer: &mut dyn Observer,
) -> Result<usize> {
    let new = new_words(&Tokenizer::load(model)?, words, observer)?;
    let settings = model.join(SETTINGS_FILE);
    let settings = settings
        .exists()
        .then(|| {
            fs::read(&settings).map_err(|source| Error::Read { path: settings.clone(), source })
        })
        .transpose()?;
    let extended = ExtendedModel::new(model, &new, init, seed)?;
    make_out(out)?;
    if let Some(settings) = settings {
        write_atomically(out.join(SETTINGS_FILE), &settings)?;
    }
    extended.save(out)?;
    Ok(new.len())
}

/// The words of a file that a vocabulary does not have.
fn new_words(
    tokenizer: &Tokenizer,
    path: &Path,
    observer: &mut dyn Observer,
) -> Result<Vec<String>> {
    let mut lines = Lines::open(path)?;
    let (mut words, mut seen) = (vec![], BTreeSet::new());
    while lines.advance()? {
        let (word, line) = (lines.content(), lines.number());
        if tokenizer.token_to_id(word).is_some() || seen.contains(word) {
            let path = path.display();
            observer.notice(&format!("{path}, line {line}: {word:?} is there already, skipped"));
            continue;
        }
        tokenizer.check_word(word).map_err(|source| Error::WordsFile {
            path: path.into(),
            line,
            source,
        })?;
        seen.insert(word.to_owned());
        words.push(word.to_owned());
    }
    if words.is_empty() {
        return Err(Error::NoWords { path: path.into() });
    }
    Ok(words)
}
