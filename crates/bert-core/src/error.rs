//! What can go wrong in this crate: one variant per cause.

use std::{io, path::PathBuf};

use safetensors::{Dtype, SafeTensorError};

/// The result of anything in this crate that can fail.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a config, a tokenizer or a checkpoint was refused.
///
/// The message already contains the cause's own words, so printing the error alone is enough.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read.
    #[error("cannot read {}: {source}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },

    /// A file could not be written; what was there before is untouched.
    #[error("cannot write {}: {source}{}", .path.display(), way_out(.source))]
    Write {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },

    /// A file is not JSON, or not JSON of the expected form.
    #[error("{} is not the JSON that was expected: {source}; write it again or fetch it anew", .path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// The parser's complaint, with line and column.
        source: serde_json::Error,
    },

    /// A text file is not UTF-8.
    #[error("{} line {line} is not valid UTF-8; convert the file to UTF-8", .path.display())]
    NotUtf8 {
        /// The file.
        path: PathBuf,
        /// The first bad line, from 1.
        line: usize,
    },

    /// A model directory is not there.
    #[error("there is no directory {}; nothing is downloaded: name one in Hugging Face layout", .dir.display())]
    NoModel {
        /// The directory.
        dir: PathBuf,
    },

    /// A model directory has no `config.json`.
    #[error("{} has no config.json; name a directory in Hugging Face layout", .dir.display())]
    ConfigMissing {
        /// The directory.
        dir: PathBuf,
    },

    /// A config asks for something that this encoder does not do.
    #[error("{place}: {key} = {found} is not supported; supported: {supported}")]
    ConfigUnsupported {
        /// The config's path, or where else it comes from.
        place: String,
        /// The key.
        key: &'static str,
        /// Its value, as JSON.
        found: String,
        /// The values that would do.
        supported: &'static str,
    },

    /// A config's value is of the wrong type or out of range.
    #[error("{place}: {key} must be {expected}, got {found}")]
    ConfigValue {
        /// The config's path, or where else it comes from.
        place: String,
        /// The key.
        key: &'static str,
        /// What it must be.
        expected: String,
        /// Its value, as JSON.
        found: String,
    },

    /// A config's sizes are each in range but make too large a model.
    #[error(
        "{place}: the sizes make a model of {found} parameters, at most {limit} are supported; check vocab_size, hidden_size, intermediate_size and num_hidden_layers"
    )]
    ModelTooLarge {
        /// The config's path, or where else it comes from.
        place: String,
        /// Parameters of the encoder that the config describes.
        found: u64,
        /// The most that are accepted.
        limit: u64,
    },

    /// A maximum length is beyond the position embeddings.
    #[error(
        "max_length {max_length} exceeds the model's {max_position_embeddings} position embeddings; use at most {max_position_embeddings}"
    )]
    MaxLengthTooLarge {
        /// The length that was asked for.
        max_length: usize,
        /// The positions that the model has.
        max_position_embeddings: usize,
    },

    /// A maximum length has no room for the special tokens.
    #[error(
        "max_length {max_length} has no room for the {special_tokens} special tokens around the text; use at least {special_tokens}"
    )]
    MaxLengthTooSmall {
        /// The length that was asked for.
        max_length: usize,
        /// How many tokens `[CLS]` and the `[SEP]`s take.
        special_tokens: usize,
    },

    /// A model directory has neither `tokenizer.json` nor `vocab.txt`.
    #[error("{} has no tokenizer.json and no vocab.txt; copy the files of the model's tokenizer there", .dir.display())]
    TokenizerMissing {
        /// The directory.
        dir: PathBuf,
    },

    /// The tokenizers library refuses a tokenizer file.
    #[error("{} is not a usable tokenizer: {source}; fetch it anew or save it again from transformers", .path.display())]
    TokenizerCorrupt {
        /// The file.
        path: PathBuf,
        /// The library's complaint.
        source: tokenizers::Error,
    },

    /// A tokenizer adds special tokens in a way that BERT cannot use.
    #[error("{}: the post_processor {problem}; it must put [CLS] and [SEP] around one text and around a pair", .path.display())]
    TokenizerTemplate {
        /// The tokenizer file.
        path: PathBuf,
        /// What is wrong with the template.
        problem: String,
    },

    /// A tokenizer file asks for a way of splitting words that is not WordPiece over BERT's words.
    #[error("{}: {key} = {found} is not supported without a tokenizer.json; save one with transformers' AutoTokenizer", .path.display())]
    TokenizerUnsupported {
        /// The file.
        path: PathBuf,
        /// The key.
        key: &'static str,
        /// Its value.
        found: String,
    },

    /// A vocabulary lacks a token that BERT cannot do without.
    #[error("{place} lacks the special token {token}; add it to the vocabulary")]
    SpecialTokenMissing {
        /// The vocabulary file, or where else the words come from.
        place: String,
        /// The token.
        token: String,
    },

    /// A vocabulary names one word twice.
    #[error("the vocabulary names the word {word:?} twice; keep one")]
    DuplicateWord {
        /// The word.
        word: String,
    },

    /// A vocabulary that words can't be added to.
    #[error(
        "the tokenizer's vocabulary is not WordPiece, so that no words can be added to it; use BERT's own"
    )]
    NotWordPiece,

    /// A word that no text could be found to have.
    #[error("{word:?} cannot become a word of the vocabulary: it {problem}")]
    Word {
        /// The beginning of the word.
        word: String,
        /// What is wrong with it, and the way out.
        problem: String,
    },

    /// The tokenizer's ids go beyond the word embeddings.
    #[error(
        "the tokenizer needs {found} word embeddings, but the model has {vocab_size} (vocab_size); use the tokenizer that belongs to the model, or extend its vocabulary"
    )]
    VocabularyTooLarge {
        /// The rows that the tokenizer needs.
        found: usize,
        /// The config's `vocab_size`.
        vocab_size: usize,
    },

    /// The tokenizers library cannot encode a text.
    #[error("cannot tokenize {text:?}: {source}")]
    Tokenize {
        /// The beginning of the text.
        text: String,
        /// The library's complaint.
        source: tokenizers::Error,
    },

    /// A model directory has no weights.
    #[error("{} holds no weights: looked for {looked_for}", .dir.display())]
    WeightsMissing {
        /// The directory.
        dir: PathBuf,
        /// The file names that would do.
        looked_for: String,
    },

    /// A weight file's kind cannot be told from its name.
    #[error("{} is not a known kind of weight file; known are *.safetensors, *.safetensors.index.json and PyTorch's *.bin, *.pt, *.pth", .path.display())]
    WeightsUnknown {
        /// The file.
        path: PathBuf,
    },

    /// A weight file is the placeholder that Git LFS leaves for a file that was not fetched.
    #[error("{} is a Git LFS pointer, not the weights; run `git lfs pull` in its repository", .path.display())]
    LfsPointer {
        /// The file.
        path: PathBuf,
    },

    /// A safetensors file's length does not match what its header describes.
    #[error("{} is damaged: its header describes {expected} bytes, the file has {found}; fetch it anew", .path.display())]
    SafetensorsLength {
        /// The file.
        path: PathBuf,
        /// Bytes according to the header.
        expected: u64,
        /// Bytes in the file.
        found: u64,
    },

    /// A safetensors file's header breaks the format.
    #[error("{} is not a valid safetensors file: {source}; fetch it anew", .path.display())]
    Safetensors {
        /// The file.
        path: PathBuf,
        /// Which rule is broken.
        source: SafeTensorError,
    },

    /// A PyTorch weight file is damaged or holds what cannot be read as tensors.
    #[error("{} is not a readable PyTorch checkpoint: {source}; fetch it anew, or save it as safetensors", .path.display())]
    PyTorch {
        /// The file.
        path: PathBuf,
        /// The reader's complaint.
        source: Box<burn_store::pytorch::PytorchError>,
    },

    /// A shard index points outside its own directory.
    #[error("{} places {tensor} in {shard:?}, which is not a plain file name; shards lie beside their index", .index.display())]
    ShardPath {
        /// The index.
        index: PathBuf,
        /// The tensor.
        tensor: String,
        /// The place that the index names.
        shard: String,
    },

    /// A shard index names a shard that is not there.
    #[error("{} names the shard {shard}, which is not there; fetch all shards", .index.display())]
    ShardMissing {
        /// The index.
        index: PathBuf,
        /// The shard's file name.
        shard: String,
    },

    /// A shard lacks a tensor that the index places there.
    #[error("{} places {tensor} in {shard}, which does not hold it; fetch index and shards from one place", .index.display())]
    ShardLacksTensor {
        /// The index.
        index: PathBuf,
        /// The shard's file name.
        shard: String,
        /// The tensor.
        tensor: String,
    },

    /// A shard holds a tensor that the index does not place there.
    #[error("{} does not place {tensor} in {shard}, which holds it; fetch index and shards from one place", .index.display())]
    ShardNotIndexed {
        /// The index.
        index: PathBuf,
        /// The shard's file name.
        shard: String,
        /// The tensor.
        tensor: String,
    },

    /// Two tensors of a checkpoint have the same name once spelt alike.
    #[error("{}: {first} and {second} are both {tensor}; remove one of them", .path.display())]
    DuplicateTensor {
        /// The checkpoint.
        path: PathBuf,
        /// The common name.
        tensor: String,
        /// One spelling.
        first: String,
        /// The other spelling.
        second: String,
    },

    /// A checkpoint lacks tensors that the model needs.
    #[error("{} lacks {} that the model needs: {}; check that config.json belongs to these weights", .path.display(), tensors(.names), listed(.names))]
    MissingTensors {
        /// The checkpoint.
        path: PathBuf,
        /// All that are missing.
        names: Vec<String>,
    },

    /// A checkpoint holds tensors that the model has no place for.
    #[error("{} holds {} that the model has no place for: {}; check that config.json belongs to these weights", .path.display(), tensors(.names), listed(.names))]
    UnusedTensors {
        /// The checkpoint.
        path: PathBuf,
        /// All that are unused, as the file spells them.
        names: Vec<String>,
    },

    /// A tensor's shape is not what the config asks for.
    #[error("{}: {tensor} must have shape {expected:?}, got {found:?}; check that config.json belongs to these weights", .path.display())]
    TensorShape {
        /// The weight file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// The shape that the model needs.
        expected: Vec<usize>,
        /// The shape in the file.
        found: Vec<usize>,
    },

    /// A tensor's elements are not floating-point numbers that can be read as 32-bit floats.
    #[error("{}: {tensor} has elements of type {found}, expected F32, F16, BF16 or F64; convert the weights", .path.display())]
    TensorDtype {
        /// The weight file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Its element type.
        found: Dtype,
    },

    /// A tensor to be written does not have as many values as its shape says.
    #[error("{}: {tensor} of shape {shape:?} was given {found} values", .path.display())]
    TensorLength {
        /// The file to be written.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Its shape.
        shape: Vec<usize>,
        /// The values it came with.
        found: usize,
    },
}

/// "1 tensor", "3 tensors".
/// What helps where a file could not be written.
fn way_out(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::NotFound => "; name a file in a directory that is there",
        io::ErrorKind::StorageFull => "; make room and try again",
        _ => "",
    }
}

fn tensors(names: &[String]) -> String {
    let plural = if names.len() == 1 { "" } else { "s" };
    format!("{} tensor{plural}", names.len())
}

/// The first few names, then how many more there are.
fn listed(names: &[String]) -> String {
    const SHOWN: usize = 5;
    let shown = names[..names.len().min(SHOWN)].join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn missing(count: usize) -> String {
        let names = (0..count).map(|i| format!("t{i}")).collect();
        Error::MissingTensors { path: "m.safetensors".into(), names }.to_string()
    }

    #[test]
    fn many_names_are_cut_after_the_fifth() {
        let end = "check that config.json belongs to these weights";
        assert_eq!(
            missing(1),
            format!("m.safetensors lacks 1 tensor that the model needs: t0; {end}")
        );
        assert_eq!(
            missing(5),
            format!(
                "m.safetensors lacks 5 tensors that the model needs: t0, t1, t2, t3, t4; {end}"
            )
        );
        assert_eq!(
            missing(7),
            format!(
                "m.safetensors lacks 7 tensors that the model needs: t0, t1, t2, t3, t4 and 2 more; {end}"
            )
        );
    }

    #[test]
    fn sources_are_kept() {
        let source = io::Error::other("disk on fire");
        let error = Error::Read { path: "a".into(), source };
        assert_eq!(error.to_string(), "cannot read a: disk on fire");
        assert_eq!(std::error::Error::source(&error).unwrap().to_string(), "disk on fire");
    }

    #[test]
    fn an_error_is_small_enough_to_return() {
        assert!(size_of::<Error>() <= 128, "{} bytes", size_of::<Error>());
    }
}
