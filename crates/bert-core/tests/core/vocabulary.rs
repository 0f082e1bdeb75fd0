//! Vocabularies with more words: what they change, and what stays to the bit.

use std::{collections::BTreeMap, fs, path::Path};

use bert_core::{
    BertConfig, Checkpoint, ExtendedModel, Tokenizer, VocabularyScan, WordCounts, WordInit,
};
use proptest::prelude::*;

use crate::reference::{data_folder, folder};

fn tiny() -> Tokenizer {
    Tokenizer::load(folder().join("tiny-bert")).unwrap()
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| word.to_string()).collect()
}

fn extend(
    from: &Path,
    words: &[String],
    init: WordInit,
    seed: u64,
    out: &Path,
) -> bert_core::Result<()> {
    ExtendedModel::new(from, words, init, seed)?.save(out)
}

fn scan(tokenizer: &Tokenizer, texts: &[String], most: usize) -> VocabularyScan {
    let mut counts = WordCounts::default();
    texts.iter().for_each(|text| counts.add(tokenizer, text).unwrap());
    VocabularyScan::new(tokenizer, &counts, most).unwrap()
}

#[test]
fn words_are_normalised_and_split() {
    let words = tiny().words("Playing? ÉCLAIR the  movie [SEP] é").unwrap();
    assert_eq!(words, ["playing", "?", "eclair", "the", "movie", "e"]);
    assert_eq!(tiny().words(" \t ").unwrap(), [""; 0]);
}

#[test]
fn what_cannot_be_a_word_is_refused() {
    let long = "a".repeat(101);
    for (word, problem) in [
        ("", "is empty; remove the line"),
        ("two words", "has white space in it; give one word a line"),
        (&long, "has 101 characters, at most 100 are looked up; remove the line"),
        ("Éclair", "is normalised to \"eclair\"; give that"),
        ("cox-2", "is split into cox - 2; give one word a line"),
        ("\u{301}", "is nothing once it is normalised; remove the line"),
    ] {
        let error = tiny().check_word(word).unwrap_err().to_string();
        let word: String = word.chars().take(60).collect();
        assert_eq!(error, format!("{word:?} cannot become a word of the vocabulary: it {problem}"));
    }
    tiny().check_word(&long[1..]).unwrap();
    let twice = tiny().with_words(&["goo", "goo"], 79).unwrap_err().to_string();
    assert!(twice.contains("\"goo\" twice"), "{twice}");
    assert!(tiny().with_words(&["movie"], 79).is_err());
}

/// Expected: transformers 5.23 on the written directory, also where it reads nothing but `vocab.txt`.
#[test]
fn ids_with_new_words_are_those_of_transformers() {
    let dir = tempfile::tempdir().unwrap();
    let longer = tiny().with_words(&["movies", "goo", "plotting"], 79).unwrap();
    longer.save(dir.path()).unwrap();
    let whole = Tokenizer::load(dir.path()).unwrap();
    fs::remove_file(dir.path().join("tokenizer.json")).unwrap();
    let from_words = Tokenizer::load(dir.path()).unwrap();
    let cases: [(&str, &[u32]); 3] = [
        ("The MOVIES, plotting!", &[2, 57, 79, 72, 81, 73, 3]),
        ("goofy goods goo plottings", &[2, 80, 36, 55, 65, 49, 80, 81, 49, 3]),
        ("moviess ﬁlm", &[2, 79, 49, 1, 3]),
    ];
    for tokenizer in [longer, whole, from_words] {
        for (text, expected) in cases {
            assert_eq!(tokenizer.encode(text, None, 64).unwrap().input_ids, expected, "{text}");
        }
    }
}

/// Rows that no token has are named, so that a line of `vocab.txt` is an id.
#[test]
fn ids_without_a_token_are_filled() {
    let dir = tempfile::tempdir().unwrap();
    tiny().with_words(&["goo"], 82).unwrap().save(dir.path()).unwrap();
    let lines = fs::read_to_string(dir.path().join("vocab.txt")).unwrap();
    let lines: Vec<&str> = lines.lines().skip(78).collect();
    assert_eq!(lines, ["this", "[row79]", "[row80]", "[row81]", "goo"]);
    assert_eq!(Tokenizer::load(dir.path()).unwrap().token_to_id("goo"), Some(82));
}

#[test]
fn a_scan_by_hand() {
    // The tiny vocabulary has all letters, ##ing, ##ed, play, and no digits.
    let texts = words(&["The cab, the cab!", "cabs played 7 ed 7", "cab cabs ed"]);
    let scan = scan(&tiny(), &texts, 3);
    // the cab , the cab ! cabs played 7 ed 7 cab cabs ed
    assert_eq!((scan.texts, scan.words, scan.distinct_words), (3, 14, 8));
    // the , the ! and twice [UNK]: 6; cab three times 3; cabs twice 4; play ##ed 2; ed twice 2.
    assert_eq!(scan.now.pieces, 6 + 9 + 8 + 2 + 4);
    assert_eq!(scan.now.pieces_per_word, 29.0 / 14.0);
    assert_eq!((scan.now.split, scan.now.unknown), (8.0 / 14.0, 2.0 / 14.0));
    // Saved: cab 3 x 2, cabs 2 x 3, ed 2 x 1, 7 nothing; of equals the more frequent first. `played` occurs once.
    assert_eq!(scan.candidates, 4);
    let chosen: Vec<_> = scan.chosen.iter().map(|word| (&word.word[..], word.saved)).collect();
    assert_eq!(chosen, [("cab", 6), ("cabs", 6), ("ed", 2)]);
    assert_eq!(scan.chosen[1].pieces, ["c", "##a", "##b", "##s"]);
    assert_eq!(scan.extended.pieces, 15);
    assert_eq!(scan.shorter, 1.0 - 15.0 / 29.0);
    assert_eq!(scan.changed, []);

    let scan = self::scan(&tiny(), &texts, 1);
    assert_eq!((scan.chosen.len(), &scan.chosen[0].word[..]), (1, "cab"));
    // cab: one piece instead of three; cabs: cab ##s instead of four.
    assert_eq!(scan.extended.pieces, 29 - 3 * 2 - 2 * 2);
    assert_eq!(scan.changed.len(), 1);
    assert_eq!((&scan.changed[0].word[..], scan.changed[0].count), ("cabs", 2));
    assert_eq!(scan.changed[0].after, ["cab", "##s"]);
    let none = self::scan(&tiny(), &[], 5);
    assert_eq!((none.words, none.now.pieces_per_word, none.shorter), (0, 0.0, 0.0));
}

/// A new word can leave a rest that the vocabulary cannot spell.
#[test]
fn a_word_that_becomes_unknown_is_reported() {
    let tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "##b", "##bc"];
    let tokenizer = Tokenizer::from_vocab(tokens, true).unwrap();
    let scan = scan(&tokenizer, &words(&["ab ab abc"]), 1);
    assert_eq!(scan.chosen[0].word, "ab");
    assert_eq!(scan.changed[0].before, ["a", "##bc"]);
    assert_eq!(scan.changed[0].after, ["[UNK]"]);
}

fn tensors(dir: &Path) -> BTreeMap<String, (Vec<usize>, Vec<u32>)> {
    let checkpoint = Checkpoint::open(dir).unwrap();
    let names: Vec<String> = checkpoint.names().map(String::from).collect();
    let read = |name: &String| {
        let (shape, values) = checkpoint.tensor(name).unwrap();
        (shape, values.into_iter().map(f32::to_bits).collect())
    };
    names.iter().map(|name| (checkpoint.info(name).unwrap().spelling.clone(), read(name))).collect()
}

/// Every tensor of every kind of model keeps its name and bits; only what has a row a word gets more.
#[test]
fn what_was_there_stays_to_the_bit() {
    for model in ["tiny-bert", "tiny-bert-seqcls", "tiny-bert-mlm"] {
        for init in WordInit::ALL {
            let out = tempfile::tempdir().unwrap();
            let (from, new) = (folder().join(model), words(&["movies", "goo"]));
            extend(&from, &new, init, 5, out.path()).unwrap();
            let (before, after) = (tensors(&from), tensors(out.path()));
            assert!(before.keys().eq(after.keys()), "{model}");
            let mut longer = vec![];
            for (name, (shape, bits)) in &before {
                let (new_shape, new_bits) = &after[name];
                assert_eq!(&new_bits[..bits.len()], bits, "{name}");
                if shape != new_shape {
                    longer.push(name.rsplit_once('.').unwrap().0);
                    assert_eq!((new_shape[0], &new_shape[1..]), (81, &shape[1..]), "{name}");
                }
            }
            assert!(longer.iter().any(|name| name.ends_with("word_embeddings")), "{longer:?}");
            assert_eq!(longer.len() > 1, model == "tiny-bert-mlm", "{longer:?}");

            let config = BertConfig::load(out.path()).unwrap();
            assert_eq!((config.vocab_size, config.base_vocab_size().unwrap()), (81, 79));
            assert_eq!(BertConfig::load(&from).unwrap().base_vocab_size().unwrap(), 79);
            let tokenizer = Tokenizer::load(out.path()).unwrap();
            assert_eq!(tokenizer.token_to_id("goo"), Some(80));
        }
    }
}

#[test]
fn new_rows_are_means_or_draws() {
    let from = folder().join("tiny-bert");
    let table = |dir: &Path| {
        Checkpoint::open(dir).unwrap().tensor("embeddings.word_embeddings.weight").unwrap().1
    };
    let extended = |words: &[String], init, seed| {
        let out = tempfile::tempdir().unwrap();
        extend(&from, words, init, seed, out.path()).unwrap();
        table(out.path()).split_off(79 * 32)
    };
    let old = table(&from);
    // goo = g ##o ##o
    let pieces = tiny().pieces("goo").unwrap();
    assert_eq!(pieces.len(), 3);
    let mean: Vec<f32> = (0..32)
        .map(|column| {
            let sum: f64 = pieces.iter().map(|id| f64::from(old[*id as usize * 32 + column])).sum();
            (sum / 3.0) as f32
        })
        .collect();
    let two = words(&["movies", "goo"]);
    assert_eq!(extended(&two, WordInit::Mean, 0)[32..], mean);
    let drawn = extended(&two, WordInit::Sample, 1);
    assert_eq!(drawn[32..], extended(&two[1..], WordInit::Sample, 1));
    assert_ne!(drawn, extended(&two, WordInit::Sample, 2));
}

/// Twice extended, all words that were ever added count as new; and a row for a token that never was keeps its place.
#[test]
fn a_model_can_be_extended_again() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let extend =
        |from: &Path, word: &str, to: &Path| extend(from, &words(&[word]), WordInit::Mean, 0, to);
    extend(&folder().join("tiny-bert"), "movies", first.path()).unwrap();
    extend(first.path(), "goo", second.path()).unwrap();
    let config = BertConfig::load(second.path()).unwrap();
    assert_eq!((config.vocab_size, config.base_vocab_size().unwrap()), (81, 79));
    assert!(extend(first.path(), "movies", second.path()).is_err());

    for wrong in ["0", "82", "-1", "\"79\""] {
        let json = fs::read_to_string(first.path().join("config.json")).unwrap();
        let json =
            json.replace("\"base_vocab_size\": 79", &format!("\"base_vocab_size\": {wrong}"));
        let error = BertConfig::from_json("c.json", json.as_bytes()).unwrap().base_vocab_size();
        let error = error.unwrap_err().to_string();
        assert!(error.contains("base_vocab_size must be from 1 to vocab_size = 80"), "{error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 64, ..Default::default() })]

    /// Words and pieces are what encoding a text goes through.
    #[test]
    fn a_text_is_the_pieces_of_its_words(text: String) {
        let tokenizer = tiny();
        let words = tokenizer.words(&text).unwrap();
        let pieces: Vec<u32> =
            words.iter().flat_map(|word| tokenizer.pieces(word).unwrap()).collect();
        let encoded = tokenizer.encode(&text, None, 10_000).unwrap().input_ids;
        prop_assert_eq!(&encoded[1..encoded.len() - 1], &pieces);
    }

    /// A text is tokenised as before unless it has a new word, or one that the scan reported as changed.
    #[test]
    fn only_reported_words_change(texts in prop::collection::vec("[abcé0 ,]{0,24}", 1..9), most in 0..9_usize) {
        let tokenizer = tiny();
        let scan = scan(&tokenizer, &texts, most);
        let chosen: Vec<&str> = scan.chosen.iter().map(|word| &word.word[..]).collect();
        prop_assert!(chosen.len() <= most);
        let longer = tokenizer.with_words(&chosen, tokenizer.vocab_size()).unwrap();
        let (mut before, mut after) = (0, 0);
        for text in &texts {
            let words = tokenizer.words(text).unwrap();
            prop_assert_eq!(&longer.words(text).unwrap(), &words);
            for word in &words {
                let [old, new] = [&tokenizer, &longer].map(|t| t.pieces(word).unwrap());
                let is_new = chosen.contains(&&word[..]);
                let is_reported = scan.changed.iter().any(|changed| &changed.word == word);
                prop_assert_eq!(old != new, is_new || is_reported, "{}", word);
                prop_assert_eq!(is_new, new[0] >= 79 && new.len() == 1);
                (before, after) = (before + old.len(), after + new.len());
            }
            let [old, new] = [&tokenizer, &longer].map(|t| t.encode(text, None, 64).unwrap());
            let is_touched = words.iter().any(|word| {
                chosen.contains(&&word[..]) || scan.changed.iter().any(|changed| &changed.word == word)
            });
            prop_assert_eq!(old.input_ids != new.input_ids, is_touched);
        }
        prop_assert_eq!((scan.now.pieces, scan.extended.pieces), (before, after));
    }
}

/// Words of the training file alone make unseen texts of the same field shorter by a tenth and more.
#[test]
fn medical_texts_become_shorter() {
    let data = data_folder().join("data/packs/oov_ncbi_disease");
    let model = data_folder().join("models/all-MiniLM-L6-v2");
    if !data.is_dir() || !model.is_dir() {
        println!("skipped: no {} (BERT_TUNE_DATA)", data.display());
        return;
    }
    let tokens = |file: &str| {
        let text = fs::read_to_string(data.join(file)).unwrap();
        let token = |line: &str| line.split('\t').next().unwrap().to_owned();
        text.lines().map(token).collect::<Vec<_>>()
    };
    let tokenizer = Tokenizer::load(model).unwrap();
    let chosen = scan(&tokenizer, &tokens("train.conll"), 1000).chosen;
    assert_eq!(chosen.len(), 1000);
    let chosen: Vec<&String> = chosen.iter().map(|word| &word.word).collect();
    let longer = tokenizer.with_words(&chosen, tokenizer.vocab_size()).unwrap();
    let [now, then] = [&tokenizer, &longer]
        .map(|tokenizer| scan(tokenizer, &tokens("test.conll"), 0).now.pieces_per_word);
    assert!(then < 0.9 * now, "{now} pieces a word, then {then}");
}
