//! A small run that broke off, whose checkpoint is changed before it goes on.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use bert_core::{Bert, BertConfig, Tokenizer, initialise, named_parameters, write_safetensors};
use bert_heads::PoolingKind;
use bert_kernels::random::Stream;
use bert_train::{Error, Every, Observer, RunConfig, resume, run};
use burn::tensor::Device;
use sha2::{Digest, Sha256};

use crate::{case::Case, targets::told};

/// The checkpoint, in the folder of the run.
pub const PLACE: &str = "run/checkpoints/step-3";

/// Ends a run after its third step.
struct Stop(usize);

impl Observer for Stop {
    fn step(&mut self, _: &bert_train::StepReport) {
        self.0 += 1;
    }
    fn is_interrupted(&self) -> bool {
        self.0 >= 3
    }
}

/// Makes model, data and run in `work`, which becomes the current folder, so that all paths are short; its checkpoint.
pub fn set_up(work: &Path) -> Vec<Case> {
    env::set_current_dir(work).unwrap();
    fs::create_dir("model").unwrap();
    let words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "bad", "good", "film", "##s"];
    let config = BertConfig {
        vocab_size: words.len(),
        hidden_size: 6,
        num_hidden_layers: 1,
        num_attention_heads: 2,
        intermediate_size: 5,
        max_position_embeddings: 11,
        ..BertConfig::default()
    };
    config.save("model").unwrap();
    Tokenizer::from_vocab(words, true).unwrap().save("model").unwrap();
    let bert = initialise(Bert::new(&config, &Device::flex()), "", 0, 0.02);
    write_safetensors("model/model.safetensors", &named_parameters(&bert, "")).unwrap();
    fs::write("train.tsv", "a bad film\tbad\na good film\tgood\n".repeat(6)).unwrap();
    let mut config = RunConfig::new("model", "train.tsv");
    config.pooling = PoolingKind::Mean;
    config.recipe.batch_size = 4;
    config.recipe.epochs = 4;
    config.recipe.control.eval_every = Every::Steps(2);
    let error = run(&config, "run".as_ref(), false, &Device::flex(), &mut Stop(0)).unwrap_err();
    assert!(matches!(error, Error::Interrupted { .. }), "{error}");
    vec![Case::read(Path::new(PLACE))]
}

/// Mostly writes down the checksums anew: what they do not fit is not read at all.
pub fn repair(case: &mut Case, random: &mut Stream) {
    const SUMS: &str = "SHA256SUMS";
    if random.below(8) == 0 {
        return;
    }
    let of = |(name, bytes): (&String, &Vec<u8>)| {
        let sum: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{sum}  {name}\n")
    };
    let sums: String = case.files.iter().filter(|(name, _)| *name != SUMS).map(of).collect();
    case.files.insert(SUMS.to_owned(), sums.into_bytes());
}

/// Goes on with the run, for a step at most.
pub fn resumed(dir: &Path, _: &mut Stream) -> bool {
    let checkpoints = dir.parent().unwrap();
    for entry in fs::read_dir(checkpoints).unwrap() {
        let path: PathBuf = entry.unwrap().path();
        if path.file_name() != dir.file_name() {
            fs::remove_dir_all(path).unwrap();
        }
    }
    let result = resume("run".as_ref(), &Device::flex(), &mut Stop(2));
    // A run that has come to its end would only be read the next time.
    let _ = fs::remove_file("run/report.json");
    match result {
        Ok(_) | Err(Error::Interrupted { .. }) => true,
        // Weights may be anything, and so may be what comes of them.
        Err(Error::NotFinite { .. }) => true,
        Err(error) => {
            told(&error);
            false
        }
    }
}
