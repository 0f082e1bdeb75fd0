//! What is read from outside, each with all that may come of a file.

use std::{fs, path::Path};

use bert_core::{BertConfig, Checkpoint, SpecialToken, Tokenizer};
use bert_kernels::random::Stream;
use bert_train::{
    Column, Columns, Error, Examples, MultiTaskConfig, RunConfig, RunFile, SearchConfig, Sentences,
    read_examples, read_questions, read_sentences, read_training_examples,
};
use serde_json::Value;

use crate::{
    case::Case,
    mutator::{Mutator, pick},
    runs,
};

/// Something that is read from outside.
pub struct Target {
    pub name: &'static str,
    /// Where its files lie, in the folder that it works in.
    pub place: &'static str,
    /// How many changed inputs a test takes: a second or two of them.
    pub in_a_test: u64,
    /// Makes what it needs beside an input; the inputs that come of that.
    pub set_up: fn(&Path) -> Vec<Case>,
    /// Makes a changed input right in what would hide all else.
    pub repair: fn(&mut Case, &mut Stream),
    /// Reads an input: whether it was accepted.
    pub run: fn(&Path, &mut Stream) -> bool,
}

pub const TARGETS: [Target; 6] = [
    Target {
        name: "config",
        place: "case",
        in_a_test: 5_000,
        set_up: nothing,
        repair: leave,
        run: config,
    },
    Target {
        name: "weights",
        place: "case",
        in_a_test: 3_000,
        set_up: nothing,
        repair: header,
        run: weights,
    },
    Target {
        name: "tokenizer",
        place: "case",
        in_a_test: 1_000,
        set_up: nothing,
        repair: leave,
        run: tokenizer,
    },
    Target {
        name: "data",
        place: "case",
        in_a_test: 5_000,
        set_up: nothing,
        repair: leave,
        run: data,
    },
    Target {
        name: "run_file",
        place: "case",
        in_a_test: 2_000,
        set_up: nothing,
        repair: leave,
        run: run_file,
    },
    Target {
        name: "checkpoint",
        place: runs::PLACE,
        in_a_test: 100,
        set_up: runs::set_up,
        repair: runs::repair,
        run: runs::resumed,
    },
];

fn nothing(_: &Path) -> Vec<Case> {
    vec![]
}

fn leave(_: &mut Case, _: &mut Stream) {}

/// Says what an error says, which must be that of bad input.
pub fn told(error: &Error) {
    assert!(error.is_bad_input(), "called no bad input: {error:?}");
    assert!(!error.to_string().is_empty());
}

fn config(dir: &Path, _: &mut Stream) -> bool {
    let config = match BertConfig::load(dir) {
        Ok(config) => config,
        Err(error) => {
            told(&error.into());
            return false;
        }
    };
    config.validate().expect("a config that was read is right");
    assert!(config.num_parameters() > 0 && config.head_size() > 0);
    let length = config.max_length(None).expect("a default length");
    assert!(length > 0 && config.max_length(Some(usize::MAX)).is_err());
    let _ = config.base_vocab_size();
    config.save(dir).expect("a folder to write to");
    // Weights are written as float32, and a fraction may be read as its neighbour: the rest is as it was.
    let again = BertConfig::load(dir).expect("what was written");
    let sizes = |config: &BertConfig| {
        let widths = [config.vocab_size, config.hidden_size, config.intermediate_size];
        let counts = [config.num_hidden_layers, config.num_attention_heads, config.type_vocab_size];
        (widths, counts, config.max_position_embeddings, config.pad_token_id, config.hidden_act)
    };
    assert_eq!(sizes(&again), sizes(&config));
    assert_eq!(again.id2label, config.id2label);
    true
}

fn weights(dir: &Path, _: &mut Stream) -> bool {
    let checkpoint = match Checkpoint::open(dir) {
        Ok(checkpoint) => checkpoint,
        Err(error) => {
            told(&error.into());
            return false;
        }
    };
    let mut all = true;
    for name in checkpoint.names() {
        let info = checkpoint.info(name).expect("one of its names");
        let needed = [(name.to_owned(), info.shape.clone())];
        let required = checkpoint.require(&needed);
        match checkpoint.tensor(name) {
            Ok((shape, values)) => {
                required.expect("what can be read is right");
                assert_eq!(shape.iter().product::<usize>(), values.len(), "{name}");
            }
            Err(error) => {
                told(&error.into());
                all = false;
            }
        }
    }
    all
}

/// Changes the header of a safetensors file as text, so that its length is right.
fn header(case: &mut Case, random: &mut Stream) {
    for (name, bytes) in &mut case.files {
        if !name.ends_with(".safetensors") || random.below(3) == 0 {
            continue;
        }
        let Some((length, rest)) = bytes.split_first_chunk::<8>() else { continue };
        let length = u64::from_le_bytes(*length) as usize;
        let Some((header, data)) = rest.split_at_checked(length) else { continue };
        let Ok(mut header) = serde_json::from_slice::<Value>(header) else { continue };
        let data = data.to_vec();
        for _ in 0..random.below(3) {
            Mutator::new(&[]).change_json(&mut header, random);
        }
        let header = header.to_string();
        *bytes = (header.len() as u64).to_le_bytes().into();
        bytes.extend(header.into_bytes());
        bytes.extend(data);
    }
}

const TEXTS: [&str; 6] = [
    "The movie was great!",
    "",
    "playing [SEP] playing [MASK]",
    "\u{e9}\u{301} 中文 \u{1f600}\u{200d}\u{1f600} \u{0}",
    "supercalifragilisticexpialidocious",
    "a\u{2028}b\u{feff}",
];

fn tokenizer(dir: &Path, _: &mut Stream) -> bool {
    let tokenizer = match Tokenizer::load(dir) {
        Ok(tokenizer) => tokenizer,
        Err(error) => {
            told(&error.into());
            return false;
        }
    };
    let size = tokenizer.vocab_size();
    for token in SpecialToken::ALL {
        assert!(tokenizer.special_token_id(token).is_none_or(|id| (id as usize) < size));
    }
    for (text, pair) in TEXTS.iter().zip([None, Some("a pair"), Some("")].iter().cycle()) {
        for max_length in [3, 8, 64] {
            match tokenizer.encode(text, *pair, max_length) {
                Ok(encoding) => {
                    let length = encoding.input_ids.len();
                    assert!(length <= max_length, "{length} tokens of {max_length}");
                    assert_eq!(encoding.token_type_ids.len(), length);
                    assert_eq!(encoding.offsets.len(), length);
                    assert!(encoding.input_ids.iter().all(|id| (*id as usize) < size));
                }
                Err(error) => told(&error.into()),
            }
        }
    }
    if let Err(error) = tokenizer.encode_words(&["play", "", "ing!"], 8) {
        told(&error.into());
    }
    true
}

fn data(dir: &Path, random: &mut Stream) -> bool {
    let names: Vec<String> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    if names.is_empty() {
        return false;
    }
    let is_parallel = names.iter().any(|name| name == "seq.in");
    let path = match is_parallel {
        true => {
            let paths =
                ["seq.in", "seq.out", "label"].map(|name| dir.join(name).display().to_string());
            paths[..2 + random.below(2)].join(",").into()
        }
        false => dir.join(&names[0]),
    };
    let path: &Path = &path;
    let column = |random: &mut Stream| match random.below(8) {
        0..=2 => None,
        3 => Some(Column::Number(random.below(5))),
        _ => Some(Column::Name(
            (*pick(&["text", "label", "pair", "tokens", "tags", ""], random)).to_owned(),
        )),
    };
    let columns = Columns {
        text: (0..random.below(3)).filter_map(|_| column(random)).collect(),
        label: column(random),
        label_separator: (random.below(4) == 0).then_some(','),
        tokens: column(random),
        tags: column(random),
        header: random.below(2) == 0,
    };
    let columns = if random.below(2) == 0 { Columns::default() } else { columns };
    let mut accepted = false;
    let mut note = |result: Result<usize, Error>| match result {
        Ok(_) => accepted = true,
        Err(error) => told(&error),
    };
    let _ = Sentences::are_in(path, None, &columns);
    note(read_examples(path, None, &columns).map(|rows| rows.len()));
    note(read_training_examples(path, None, &columns).map(|rows| rows.len()));
    note(read_sentences(path, None, &columns).map(|rows| rows.len()));
    note(columns.complete(path, None).map(|columns| columns.text.len()));
    for texts in [1, 2] {
        let rows = Examples::unlabelled(path, None, &columns, texts);
        note(rows.and_then(|rows| rows.collect::<Result<Vec<_>, _>>()).map(|rows| rows.len()));
    }
    note(
        Sentences::untagged(path, None, &columns)
            .and_then(|rows| rows.collect::<Result<Vec<_>, _>>())
            .map(|rows| rows.len()),
    );
    note(read_questions(path).map(|questions| questions.len()));
    accepted
}

fn run_file(dir: &Path, _: &mut Stream) -> bool {
    let path = dir.join("run.toml");
    let file = match RunFile::read(&path) {
        Ok(file) => file,
        Err(error) => {
            told(&error);
            return false;
        }
    };
    let flags = toml::Table::new;
    let copy = dir.join("copy.toml");
    let mut accepted = false;
    match RunConfig::load(&path, flags()) {
        Ok(config) => {
            accepted = true;
            let text = config.to_toml().expect("paths that were read");
            fs::write(&copy, &text).unwrap();
            let again = RunConfig::load(&copy, flags()).expect("what was written");
            assert_eq!(again.to_toml().expect("as before"), text);
        }
        Err(error) => told(&error),
    }
    match MultiTaskConfig::load(&path, flags()) {
        Ok(config) => {
            accepted = true;
            assert!(file.has_tasks());
            let text = config.to_toml().expect("paths that were read");
            fs::write(&copy, &text).unwrap();
            let again = MultiTaskConfig::load(&copy, flags()).expect("what was written");
            assert_eq!(again.to_toml().expect("as before"), text);
        }
        Err(error) => told(&error),
    }
    match SearchConfig::load(&path) {
        Ok(_) => accepted = true,
        Err(error) => told(&error),
    }
    accepted
}
