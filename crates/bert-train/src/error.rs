//! What can go wrong between a file and a trained model.

use std::io;
use std::path::{Path, PathBuf};

use crate::columns::Columns;
use crate::format::Format;
use crate::freeze::Freeze;
use crate::long::LongKind;
use crate::task_fault::in_table;
use crate::task_form::TaskForm;
use crate::task_kind::TaskKind;

/// The result of an operation of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Why data could not be read or a run could not go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A way to balance losses compares the tasks at every step.
    #[error(
        "balance {balance} needs a batch of every task in each step: write step = \"all\", or choose the balance fixed or uncertainty"
    )]
    StepOfAll {
        /// The balance.
        balance: &'static str,
    },
    /// Steps that take every task leave nothing to sample.
    #[error(
        "step = \"all\" takes a batch of every task in each step, so that none is sampled: leave out sampling, or write step = \"one\""
    )]
    SamplingOfAll,
    /// A score that is there for two labels only.
    #[error(
        "task {name:?} has {labels} labels, and metric f1 is that of the second of two: choose f1_macro, accuracy or matthews"
    )]
    MetricOfTwo {
        /// The task.
        name: String,
        /// Its labels.
        labels: usize,
    },
    /// No task of a model takes such a row.
    #[error("no task that is asked takes {}: expected {}", texts_a_row(*.got), texts_a_row(3 - *.got))]
    NoTaskFor {
        /// The texts of the row, 1 or 2.
        got: usize,
    },
    /// A model has tasks for one text and tasks for pairs, and a file may hold either.
    #[error(
        "{path} has {columns} columns, and the model has tasks for one text and tasks for pairs: say which to read with \
         --column COL, twice for a pair"
    )]
    WhichTexts {
        /// The file.
        path: PathBuf,
        /// How many columns there are.
        columns: usize,
    },
    /// The tasks of one file hold out different rows of it.
    #[error(
        "{path}: tasks {first:?} and {second:?} read the same file and hold out rows of their own, so that one's dev rows would train the \
         other: give them the same dev_fraction and format, or dev files"
    )]
    DifferentShares {
        /// The training file.
        path: PathBuf,
        /// A task.
        first: String,
        /// A task that differs.
        second: String,
    },
    /// Tasks that share each batch want it of different sizes.
    #[error(
        "{path}: tasks {first:?} and {second:?} read the same texts and share each batch, which is to have {} rows by the \
         batch_size of [task.{first}] and {} by that of [task.{second}]: write the same, or leave one of them out",
        .sizes[0], .sizes[1]
    )]
    SharedBatch {
        /// The training file.
        path: PathBuf,
        /// A task.
        first: String,
        /// A task that differs.
        second: String,
        /// The rows that each wants.
        sizes: [usize; 2],
    },
    /// A fault of the data of one of several tasks.
    #[error("task {task:?}: {}", in_table(.source))]
    Task {
        /// The task.
        task: String,
        /// The fault.
        source: Box<Error>,
    },
    /// Vectors of a model whose tasks read word embeddings of their own.
    #[error(
        "the tasks of {path} map the word embeddings, each in its own way: take one out with `bert export --model {} --task NAME \
         --out DIR`, and embed with that", .path.display()
    )]
    EmbedTasks {
        /// The model's directory.
        path: PathBuf,
    },
    /// A label that is to be a number is none.
    #[error(
        "{path}, line {line}: expected a number as label, got {label:?}: a task of kind classify takes any label"
    )]
    NotNumber {
        /// The file.
        path: PathBuf,
        /// The line on which the row starts, from 1.
        line: usize,
        /// What is there.
        label: String,
    },
    /// A task has more or fewer texts a row than its kind takes.
    #[error(
        "{path}: a row has {texts} text(s), which kind {kind} does not take: choose kind {other}, or name the columns with text = [..]"
    )]
    TaskTexts {
        /// The file.
        path: PathBuf,
        /// The task's kind.
        kind: TaskForm,
        /// The kind that takes such rows.
        other: TaskForm,
        /// The texts of a row.
        texts: usize,
    },
    /// A task of a model that has only one.
    #[error("{path} is a model of one task: leave out --task {name}")]
    OneTask {
        /// The model's directory.
        path: PathBuf,
        /// The task that was asked for.
        name: String,
    },
    /// A task cannot stand by itself as a classifier of texts.
    #[error(
        "task {name:?} of kind {kind} is no classifier of texts by itself: expected kind classify or pair-classify, without projection"
    )]
    NoTaskClassifier {
        /// The task.
        name: String,
        /// Its kind.
        kind: TaskForm,
    },
    /// A model is no baseline of one task.
    #[error(
        "{path} fits {fitting} of the tasks, expected one: a baseline has the kind, the labels and the vocabulary of its task"
    )]
    Baseline {
        /// The model's directory.
        path: PathBuf,
        /// The tasks that it could be of.
        fitting: usize,
    },
    /// A model has no task of this name.
    #[error("{path} has no task {name:?}: its tasks are {}", .known.join(", "))]
    UnknownTask {
        /// The model's directory.
        path: PathBuf,
        /// The name.
        name: String,
        /// Its tasks.
        known: Vec<String>,
    },
    /// A model of several tasks is to be measured on one file, and no task was named.
    #[error("{path} has tasks of several data sets: say which one with --task, one of {}", .known.join(", "))]
    WhichTask {
        /// The model's directory.
        path: PathBuf,
        /// Its tasks.
        known: Vec<String>,
    },
    /// A file could not be opened or read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The extension of a file stands for no format.
    #[error(
        "cannot tell the format of {path} from its extension: give --format with one of {}",
        Format::names()
    )]
    UnknownExtension {
        /// The file.
        path: PathBuf,
    },
    /// A name stands for no format.
    #[error("unknown format {name:?}, expected one of {}", Format::names())]
    UnknownFormat {
        /// The name.
        name: String,
    },
    /// A line is not UTF-8.
    #[error("{path}, line {line}: invalid UTF-8: convert the file to UTF-8")]
    NotUtf8 {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// A file has no row.
    #[error("{path} holds no row of data, expected at least one")]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// A row has more or fewer columns than the first.
    #[error(
        "{path}, line {line}: expected {expected} columns as in the first row, got {got}: {way_out}"
    )]
    ColumnCount {
        /// The file.
        path: PathBuf,
        /// The line on which the row starts, from 1.
        line: usize,
        /// Columns of the first row.
        expected: usize,
        /// Columns of this row.
        got: usize,
        /// How the format separates columns.
        way_out: &'static str,
    },
    /// A quoted CSV field never ends.
    #[error(
        "{path}, line {line}: the row opens a quote that is never closed: write a quote inside a quoted field as \"\""
    )]
    UnclosedQuote {
        /// The file.
        path: PathBuf,
        /// The line on which the row starts, from 1.
        line: usize,
    },
    /// A quoted CSV field goes on after its closing quote.
    #[error(
        "{path}, line {line}: expected a comma or the end of the row after a closing quote, got {got:?}: write a quote inside a quoted field as \"\""
    )]
    AfterQuote {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The character after the quote.
        got: char,
    },
    /// A line or file is not JSON.
    #[error(
        "{path}, line {line}: {reason}: a .jsonl file holds one object a line, a .json file one array of objects"
    )]
    Json {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What the parser said; its own line numbers would mislead, since it sees one row.
        reason: String,
    },
    /// A value that a text or a label is taken from is not a string, number or boolean.
    #[error(
        "{path}, line {line}: expected a string, number or boolean in column {column}, got {got}"
    )]
    NotText {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The column, by name.
        column: String,
        /// What is there.
        got: &'static str,
    },
    /// A column number is not one.
    #[error("{text:?} is not a column: columns are names or numbers from 1")]
    InvalidColumn {
        /// What was given.
        text: String,
    },
    /// No column has this name.
    #[error(
        "{path} has no column {name:?}{}, its columns are {}: a name makes the first row the header, a number from 1 does not",
        .closest.as_ref().map(|closest| format!(" (did you mean {closest:?}?)")).unwrap_or_default(),
        shortened(.columns)
    )]
    UnknownColumn {
        /// The file.
        path: PathBuf,
        /// The name.
        name: String,
        /// The names there are.
        columns: Vec<String>,
        /// The name that is most like it.
        closest: Option<String>,
    },
    /// A column number is past the last column.
    #[error("{path} has no column {number}: its last is {columns}")]
    NoSuchColumn {
        /// The file.
        path: PathBuf,
        /// The number, from 1.
        number: usize,
        /// How many columns there are.
        columns: usize,
    },
    /// A name stands for several columns.
    #[error(
        "{path} has several columns named {name:?}: give the number of one, from 1, and --header"
    )]
    AmbiguousColumn {
        /// The file.
        path: PathBuf,
        /// The name.
        name: String,
    },
    /// The columns give no text, or more than a pair.
    #[error(
        "{path}: {got} of {columns} columns would be text, expected one or two: {}", way_out(.fitting)
    )]
    TextColumns {
        /// The file.
        path: PathBuf,
        /// How many columns there are.
        columns: usize,
        /// How many would be text.
        got: usize,
        /// The columns that would fit, where they can be told.
        fitting: Option<Box<Columns>>,
    },
    /// A file has one column where a text and a label are to be read.
    #[error(
        "{path} has one column, expected a text and its label: {}", separation(.first, *.format)
    )]
    OneColumn {
        /// The file.
        path: PathBuf,
        /// Its format.
        format: Format,
        /// The beginning of the first row.
        first: String,
    },
    /// The labels of a classification are numbers, most of them of one row alone.
    #[error(
        "{path}: {own} of {rows} rows have a label that no other row has, and all labels are numbers: to learn numbers, train a \
         task of kind regress in a run file with a table [task.NAME]; for classes, {}",
        way_out(.fitting)
    )]
    NumbersAsLabels {
        /// The file.
        path: PathBuf,
        /// Rows whose label no other row has.
        own: usize,
        /// All rows.
        rows: usize,
        /// The columns that would fit, where they can be told.
        fitting: Option<Box<Columns>>,
    },
    /// Other than as many texts as the model takes.
    #[error(
        "{path}: text columns: expected {expected}, as the model takes, got {got}: name them with --column COL"
    )]
    TextCount {
        /// The file.
        path: PathBuf,
        /// How many the model takes.
        expected: usize,
        /// How many there are.
        got: usize,
    },
    /// One column is both text and label.
    #[error(
        "{path}: column {column} would be both a text and the label: name another with --label COL"
    )]
    LabelIsText {
        /// The file.
        path: PathBuf,
        /// The column, by name or by number from 1.
        column: String,
    },
    /// A row that needs a label has none.
    #[error("{path}, line {line}: the label is empty: give the row a label or remove it")]
    NoLabel {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// Most rows have a label of their own, so that the label column holds something else.
    #[error(
        "{path}: {own} of {rows} rows have a label that no other row has, so the label column is the wrong one: {}",
        way_out(.fitting)
    )]
    OwnLabels {
        /// The file.
        path: PathBuf,
        /// Rows whose label no other row has.
        own: usize,
        /// All rows.
        rows: usize,
        /// The columns that would fit, where they can be told.
        fitting: Option<Box<Columns>>,
    },
    /// The first row's label occurs nowhere else, so that the row is a header.
    #[error(
        "{path}, line {line}: the label {label:?} occurs nowhere else, so the row looks like a header: {}; if it is data, its label needs a second row",
        way_out(.fitting)
    )]
    LooksLikeHeader {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The label.
        label: String,
        /// The columns that would fit, where they can be told.
        fitting: Option<Box<Columns>>,
    },
    /// All rows have the same label.
    #[error(
        "{path}: all rows have the label {label:?}, expected at least two labels: check --label"
    )]
    OneLabel {
        /// The file.
        path: PathBuf,
        /// The label.
        label: String,
    },
    /// A row has a label that training never saw.
    #[error("{path}, line {line}: unknown label {label:?}, expected one of {}: add it to the training data, or check --label or --tags", shortened(.known))]
    UnknownLabel {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The label.
        label: String,
        /// All labels that training saw.
        known: Vec<String>,
    },
    /// The labels of a row that may have several are no set.
    #[error(
        "{path}, line {line}: labels {labels:?}: expected different labels with {separator:?} between them, none of them empty"
    )]
    LabelSet {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What stands in the column.
        labels: String,
        /// What separates labels.
        separator: char,
    },
    /// A file of tokens where texts are read.
    #[error(
        "{path} holds tokens with tags, expected texts: give a file with a text a row (tsv, csv, jsonl, json or txt)"
    )]
    TokensNotTexts {
        /// The file.
        path: PathBuf,
    },
    /// It is not known which columns are tokens and tags.
    #[error(
        "{path}: expected a column of tokens and another of tags, of {columns}: name them with --tokens COL and --tags COL"
    )]
    TokenColumns {
        /// The file.
        path: PathBuf,
        /// How many columns there are.
        columns: usize,
    },
    /// A name of a column for a file that has no names.
    #[error("{path} has no column {name:?}: its columns have no names, give a number from 1")]
    NoColumnNames {
        /// The file.
        path: PathBuf,
        /// The name.
        name: String,
    },
    /// A sentence with more or fewer tags than tokens.
    #[error("{path}, line {line}: {tokens} tokens but {tags} tags: give each token one tag")]
    TagCount {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The number of tokens.
        tokens: usize,
        /// The number of tags.
        tags: usize,
    },
    /// A sentence that needs tags has none.
    #[error("{path}, line {line}: the sentence has no tags: give each token one tag")]
    NoTags {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// Parallel files that do not end together.
    #[error("{path} ends at line {line}, but {longer} goes on: give one line a sentence in each")]
    ParallelFiles {
        /// The shorter file.
        path: PathBuf,
        /// Its last line, from 1; 0 where it is empty.
        line: usize,
        /// The longer file.
        longer: PathBuf,
    },
    /// A file of questions that has not their form.
    #[error(
        "{path}, line {line}: {reason}: expected SQuAD's form, data / paragraphs / context and qas / question and answers"
    )]
    Questions {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What the parser said.
        reason: String,
    },
    /// An answer that is not where it is said to be.
    #[error(
        "{path}, question {id}: the context has {got:?} at character {start}, expected the answer {expected:?}: check answer_start, which counts characters"
    )]
    AnswerPlace {
        /// The file.
        path: PathBuf,
        /// The question's id.
        id: String,
        /// Where the answer is said to begin, in characters from 0.
        start: usize,
        /// The answer.
        expected: String,
        /// What the context has there.
        got: String,
    },
    /// A pooling for a model that pools nothing.
    #[error(
        "{path} holds tokens with tags, and a tagger pools nothing: leave out the {pooling} pooling"
    )]
    PoolingOfTokens {
        /// The training file.
        path: PathBuf,
        /// The pooling.
        pooling: bert_heads::PoolingKind,
    },
    /// A mixture of layers for a model that has none.
    #[error(
        "{path} holds tokens with tags, and a tagger reads the last layer: leave out the layer mixture"
    )]
    MixtureOfTokens {
        /// The training file.
        path: PathBuf,
    },
    /// The heads of a pooling can't share out the dimensions.
    #[error(
        "multi-head={heads} does not divide the model's hidden_size {hidden_size}: choose a divisor, for example {}",
        multi_head_example(*.hidden_size)
    )]
    PoolingHeads {
        /// The heads.
        heads: usize,
        /// The width of the hidden states.
        hidden_size: usize,
    },
    /// A key of windows for texts that are not read in windows.
    #[error(
        "{key} says how long texts are cut into windows, not {kind}: choose --long windows, or leave it out"
    )]
    OnlyWindows {
        /// The key.
        key: &'static str,
        /// How long texts are read.
        kind: LongKind,
    },
    /// Windows that lie too far from each other.
    #[error(
        "a stride of {stride} tokens leaves some out: a window holds {room} of the text: choose a stride from 1 to {room}, or a larger max-length"
    )]
    Stride {
        /// The tokens between the beginnings of two windows.
        stride: usize,
        /// The tokens of the text that a window holds.
        room: usize,
    },
    /// A key that does not fit the data.
    #[error("{key} is for {expected}, and the data holds {holds}: leave it out")]
    WrongData {
        /// The key.
        key: &'static str,
        /// What it is for.
        expected: &'static str,
        /// What the data holds.
        holds: &'static str,
    },
    /// Words that no gradient moves.
    #[error(
        "fgm moves the words the way a loss grows, and gradient_factor = 0 lets no gradient of task {task:?} come to them: leave \
         fgm out, or give the task a higher gradient_factor"
    )]
    NothingMoved {
        /// The task.
        task: String,
    },
    /// Something that needs gradients through an encoder that is frozen.
    #[error(
        "{key} needs gradients that go back through the encoder, which freeze = \"encoder\" runs only once: leave one of them \
         out"
    )]
    FrozenInput {
        /// The key.
        key: &'static str,
    },
    /// R-Drop where no two passes differ.
    #[error(
        "r-drop compares two passes that drop different things, and nothing is dropped: leave r-drop out, or set \
         hidden_dropout_prob (for a frozen encoder, classifier_dropout) in {}; adapters (lora) have a dropout, too", .path.display()
    )]
    NothingDropped {
        /// The model's config.
        path: PathBuf,
    },
    /// Label smoothing without a cross-entropy.
    #[error(
        "label-smoothing is for tasks of kind classify, pair-classify, tag and span, and there is none: leave it out"
    )]
    NothingSmoothed,
    /// More layers than there are.
    #[error("{key} is {got}, and the encoder of {} has {layers} layers: choose a number from 1 to {layers}", .path.display())]
    LayerCount {
        /// The key.
        key: &'static str,
        /// The layers that are asked for.
        got: usize,
        /// Those that there are.
        layers: usize,
        /// The model's config.
        path: PathBuf,
    },
    /// Something for layers that are trained, in a run that trains none.
    #[error(
        "{key} is for an encoder that is trained, and freeze = \"{freeze}\" keeps all of it as it is: leave one of them out, or \
         choose freeze = \"layers=N\" with fewer layers"
    )]
    FrozenLayers {
        /// The key.
        key: &'static str,
        /// What is frozen.
        freeze: Freeze,
    },
    /// Layers that would be kept at random values.
    #[error(
        "{frozen} layers are frozen at first and {reinit} begin anew, of {layers}: a layer that begins anew is trained from the \
         first step on: choose freeze = \"{at_most}\" at most, or leave one of them out"
    )]
    FrozenAnew {
        /// The layers that are frozen before the first step.
        frozen: usize,
        /// Those that begin anew.
        reinit: usize,
        /// All.
        layers: usize,
        /// What may be frozen beside them.
        at_most: Freeze,
    },
    /// New words whose table is frozen.
    #[error(
        "train-embeddings = \"new\" trains words, and {key} keeps the embeddings as they are: leave one of them out"
    )]
    FrozenWords {
        /// The key.
        key: &'static str,
    },
    /// Hidden states are kept for one kind of data only.
    #[error(
        "freeze = \"encoder\" keeps the hidden states of texts with one label, and there are {holds}: choose \
         freeze = \"layers={layers}\", which runs the same encoder anew in each step"
    )]
    FrozenStates {
        /// What there is.
        holds: &'static str,
        /// The layers of the encoder.
        layers: usize,
    },
    /// A balance of gradients that are not there.
    #[error(
        "balance = {balance} holds the gradients of the encoder against each other, which is frozen: leave balance out, or \
         freeze fewer layers"
    )]
    FrozenBalance {
        /// The balance.
        balance: &'static str,
    },
    /// The hidden states of a frozen encoder do not fit into memory.
    #[error(
        "the hidden states of a frozen encoder take {needed} MB, and {free} MB of memory are free: use fewer rows, a \
         smaller max-length, fewer windows, pooling cls or first, or train without --freeze"
    )]
    FrozenMemory {
        /// What they take.
        needed: u64,
        /// What is free.
        free: u64,
    },
    /// Two ids of a model have the same label.
    #[error(
        "the labels of the model must differ, got {label:?} for ids {first} and {second}: check id2label in config.json"
    )]
    RepeatedLabel {
        /// The label.
        label: String,
        /// The lower id.
        first: usize,
        /// The higher id.
        second: usize,
    },
    /// The held-out share is not between 0 and 1.
    #[error("the dev fraction must be above 0 and below 1, got {fraction}")]
    DevFraction {
        /// The share.
        fraction: f64,
    },
    /// No row can be held out.
    #[error(
        "no row can be held out for dev: each of the {rows} rows is the only one with its label: give a file with --dev"
    )]
    NoDevRows {
        /// All rows.
        rows: usize,
    },
    /// What the encoder's files are wrong in.
    #[error(transparent)]
    Core(#[from] bert_core::Error),
    /// A number of the recipe that no run can be made with.
    #[error("{key} must be {expected}, got {got}")]
    Recipe {
        /// The flag, without its dashes.
        key: &'static str,
        /// The value.
        got: String,
        /// What it must be.
        expected: &'static str,
    },
    /// There is nothing to train on or to evaluate on.
    #[error("there are no {name} rows: give at least one")]
    NoRows {
        /// Training or dev.
        name: &'static str,
    },
    /// A run file that can't be followed.
    #[error("{path}, line {line}: {message}")]
    RunFile {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong, and what is expected.
        message: String,
    },
    /// The directory of a run can't be made or cleared.
    #[error("cannot use {path} as the directory of a run: {source}: give another --out")]
    Out {
        /// The directory.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The directory of a run holds another one.
    #[error(
        "{path} holds a run: give another --out, or --overwrite to replace it; where it broke off, go on with \
         `bert train --resume {}`", .path.display()
    )]
    OutNotEmpty {
        /// The directory.
        path: PathBuf,
    },
    /// The directory of a run is the checkpoint that the run starts from.
    #[error("{path} is the checkpoint that the run starts from: give another --out")]
    OutIsModel {
        /// The directory.
        path: PathBuf,
    },
    /// The settings beside a model can't be read.
    #[error(
        "{path} is damaged: {source}: train the model again, or remove the file to use the directory as a plain BERT"
    )]
    Settings {
        /// The file.
        path: PathBuf,
        /// What is wrong in it.
        source: serde_json::Error,
    },
    /// The settings beside a model are of another version.
    #[error(
        "{path} has format {got}, expected {expected}: use the version of bert-tune that wrote it"
    )]
    SettingsFormat {
        /// The file.
        path: PathBuf,
        /// The version that can be read.
        expected: u32,
        /// The version of the file.
        got: u32,
    },
    /// A model directory without a head for the task.
    #[error(
        "{path} holds no {} but {holds}: expected a directory that `bert train` wrote, or a {} with id2label in its \
         config.json", .kind.model(), .kind.architecture()
    )]
    NoClassifier {
        /// The directory.
        path: PathBuf,
        /// What was expected of it.
        kind: TaskKind,
        /// What it holds, by Hugging Face's name where it is not ours.
        holds: String,
    },
    /// Pairs for a model that knows one kind of token only.
    #[error(
        "the model has type_vocab_size {got}, pairs need 2: give single texts, or another checkpoint"
    )]
    Pairs {
        /// The token types that the model knows.
        got: usize,
    },
    /// A model of several tasks has a pooling in one of them.
    #[error(
        "{path} has its {pooling} pooling in task {task}: take it out first, by `bert export --model {} --task {task} --out DIR`",
        .path.display()
    )]
    PoolingOfTask {
        /// The directory.
        path: PathBuf,
        /// The pooling.
        pooling: bert_heads::PoolingKind,
        /// The first task that has it.
        task: String,
    },
    /// A model without the parameters of the pooling that is asked for.
    #[error(
        "{path} holds no {pooling} pooling: choose mean, max or first, or train one with `bert train --pooling {pooling}`"
    )]
    PoolingMissing {
        /// The directory.
        path: PathBuf,
        /// The pooling.
        pooling: bert_heads::PoolingKind,
    },
    /// The device can't multiply as exactly as it should.
    #[error(
        "there are no {precision} products on this device: expected the device flex, or precision float32"
    )]
    Precision {
        /// The precision that was asked for.
        precision: bert_kernels::Precision,
    },
    /// A task embedding of a rank that no smaller matrices come of.
    #[error(
        "the task embedding low-rank={rank} is wider than the model's hidden_size {hidden_size}: choose a lower rank, or full"
    )]
    TaskEmbeddingRank {
        /// The rank.
        rank: usize,
        /// The width of the word embeddings.
        hidden_size: usize,
    },
    /// An adapter's matrices are wider than the hidden states.
    #[error(
        "lora has rank {rank}, but the model's hidden_size is {hidden_size}: choose a lower rank"
    )]
    LoraRank {
        /// The rank.
        rank: usize,
        /// The width of the hidden states.
        hidden_size: usize,
    },
    /// Layers that would be kept at random values.
    #[error(
        "lora keeps the encoder as it is, and reinit-layers has {layers} of its layers begin anew at random: leave one of them out"
    )]
    LoraAnew {
        /// The layers that begin anew.
        layers: usize,
    },
    /// Adapters that would never be trained, or thaw without the layers that they stand in.
    #[error(
        "lora trains adapters and keeps the layers that they stand in as they are, and {key}: leave one of them out, or choose \
         freeze = \"layers=N\" with fewer layers, whose adapters then stay as they are"
    )]
    LoraFrozen {
        /// What stands against it.
        key: &'static str,
    },
    /// A key of the config of adapters lacks what merging needs, or says what would change them.
    #[error(
        "{path}: {key} must be {expected}, got {}: only adapters of plain LoRA can be merged",
        shortened(std::slice::from_ref(.got))
    )]
    AdapterConfig {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// What it may be.
        expected: &'static str,
        /// What it is, as JSON.
        got: String,
    },
    /// A file of adapters holds what is neither one of their matrices nor a part of a model.
    #[error(
        "{path}: {tensor} is no lora_A.weight or lora_B.weight of a map, and no part of the model, its pooler or its head: only \
         adapters of plain LoRA can be merged"
    )]
    AdapterTensor {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
    },
    /// One of the two matrices of an adapter is missing.
    #[error(
        "{path} lacks {missing}, without which the other half of the adapter says nothing: fetch it anew"
    )]
    AdapterHalf {
        /// The file.
        path: PathBuf,
        /// The tensor.
        missing: String,
    },
    /// An adapter stands beside a map that the model has not.
    #[error(
        "{path}: {tensor} belongs to a map that {model} does not have: give the model that the adapters were trained on"
    )]
    AdapterMap {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// The directory of the model.
        model: PathBuf,
    },
    /// A tensor of adapters does not fit the model.
    #[error(
        "{path}: {tensor} must have shape {expected:?}, got {got:?}: give the model that the adapters were trained on, not {model}"
    )]
    AdapterShape {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// The shape that fits.
        expected: Vec<usize>,
        /// The shape that it has.
        got: Vec<usize>,
        /// The directory of the model.
        model: PathBuf,
    },
    /// Adapters of a run are to be added to a model of other sizes than the one that it started from.
    #[error(
        "{path} was trained on a model with {key} {expected}, got {got} in {model}: give the model that the run started from"
    )]
    AdapterBase {
        /// The directory of the adapters.
        path: PathBuf,
        /// The directory of the model.
        model: PathBuf,
        /// The size.
        key: &'static str,
        /// What it was.
        expected: usize,
        /// What it is.
        got: usize,
    },
    /// New words are to be trained where there are none.
    #[error(
        "{path} has no new words to train: add some with `bert vocab extend`, or train all or none of the word embeddings"
    )]
    NoNewWords {
        /// The directory of the checkpoint.
        path: PathBuf,
    },
    /// A line of a file of words holds what can't become a word.
    #[error("{path}, line {line}: {source}")]
    WordsFile {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with the word.
        source: bert_core::Error,
    },
    /// A file of words has none that is new.
    #[error("{path} holds no word that the vocabulary does not have: there is nothing to add")]
    NoWords {
        /// The file.
        path: PathBuf,
    },
    /// Too few runs to compare.
    #[error("expected at least two runs to compare, got {got}: give the directories of more")]
    FewRuns {
        /// The number of runs.
        got: usize,
    },
    /// A directory holds several runs where one is expected.
    #[error(
        "{path} holds several runs, not one: the command that began them goes on with them, without --overwrite"
    )]
    SeveralRuns {
        /// The directory.
        path: PathBuf,
    },
    /// A directory is written to by another process.
    #[error("{path} is being written by another process: wait for its end, or give another --out")]
    OutLocked {
        /// The directory.
        path: PathBuf,
    },
    /// A directory holds no run.
    #[error("{path} holds no run (run.toml): give a directory that `bert train` wrote")]
    NoRun {
        /// The directory.
        path: PathBuf,
    },
    /// A run has not come to its end.
    #[error(
        "{path} holds a run that has not come to its end (report.json): go on with it by `bert train --resume {}`, or \
         measure the model that it has with --data FILE",
        .path.display()
    )]
    RunUnfinished {
        /// The directory.
        path: PathBuf,
    },
    /// What a run wrote down can't be read.
    #[error("{path} is damaged: {reason}: train the run again")]
    RunRecord {
        /// The file.
        path: PathBuf,
        /// What the parser said.
        reason: String,
    },
    /// Two runs were measured on different rows.
    #[error(
        "{first} and {second} were measured on different dev rows: compare their models on the same ones with --data FILE"
    )]
    DevRows {
        /// The directory of a run.
        first: PathBuf,
        /// The directory of another.
        second: PathBuf,
    },
    /// Two runs have scores of different names.
    #[error(
        "{first} is judged by {} and {second} by {}: name a score that both have with --metric", .metrics[0], .metrics[1]
    )]
    DifferentScores {
        /// The directory of a run.
        first: PathBuf,
        /// The directory of another.
        second: PathBuf,
        /// The score of each.
        metrics: [String; 2],
    },
    /// Two runs are the same.
    #[error("{first} and {second} have the same settings and seed {seed}: leave one of them out")]
    SameRun {
        /// The directory of a run.
        first: PathBuf,
        /// The directory of another.
        second: PathBuf,
        /// Their seed.
        seed: u64,
    },
    /// The directory that a model is to be written to holds something already.
    #[error("{path} is not empty: give another --out")]
    OutTaken {
        /// The directory.
        path: PathBuf,
    },
    /// Parameters that are to be trained are not reached by the loss.
    #[error(
        "no gradient reaches {}: the loss of the first step does not depend on what is to be trained; freeze it, or let the \
         model use it",
        parameters(.names)
    )]
    NoGradient {
        /// The parameters.
        names: Vec<String>,
    },
    /// Parameters that are to be trained have a gradient of 0.
    #[error(
        "the gradient of {} is 0 throughout, so that nothing is learned there: something multiplies it with 0 (as \
         gradient_factor = 0 for every task would); freeze what is not to be trained",
        parameters(.names)
    )]
    ZeroGradient {
        /// The parameters.
        names: Vec<String>,
    },
    /// Parameters that are to be trained are in no group of the optimiser.
    #[error("the optimiser does not train {}: put it into one of its groups", parameters(.names))]
    NotOptimised {
        /// The parameters.
        names: Vec<String>,
    },
    /// Parameters that are to be trained have a learning rate of 0 from the first step to the last.
    #[error(
        "the learning rate of {} is 0 in every step, so that nothing is learned there: give it one above 0, and the schedule \
         steps beyond its warm-up",
        parameters(.names)
    )]
    NoRate {
        /// The parameters.
        names: Vec<String>,
    },
    /// Gradients are scaled down for some parameters and not, or otherwise, for others.
    #[error(
        "clipping to the norm {limit} does not reach {}: all groups of the optimiser must share it",
        parameters(.names)
    )]
    NotClipped {
        /// The parameters.
        names: Vec<String>,
        /// The largest global norm of the gradients.
        limit: f64,
    },
    /// Parameters behind the encoder are frozen, which would leave them as they were drawn.
    #[error(
        "{} is frozen, and stands behind the encoder: only parts of the encoder may be",
        parameters(.names)
    )]
    FrozenHead {
        /// The parameters.
        names: Vec<String>,
    },
    /// A parameter stands in two places of a model.
    #[error(
        "{first} and {second} are one parameter: an optimiser would train the first and leave the second behind; give each \
         its own"
    )]
    SharedParameter {
        /// Its first place.
        first: String,
        /// Its second place.
        second: String,
    },
    /// A run takes more than all memory that there is.
    #[error(
        "the run can't fit into memory: parameters and optimiser state take {kept} MB, gradients {gradients} MB, the \
         activations of {tokens} tokens about {activations} MB, and there are {total} MB in all: lower batch-size or \
         max-length, or freeze a part"
    )]
    TooLarge {
        /// What parameters and optimiser state take, in MB, as all others.
        kept: u64,
        /// What the gradients take.
        gradients: u64,
        /// What the activations take.
        activations: u64,
        /// The most tokens that go through the model together.
        tokens: usize,
        /// All memory.
        total: u64,
    },
    /// The loss or the gradient stopped being a number.
    #[error(
        "the {what} is {value} at step {step} (epoch {epoch}): lower the learning rate, or r-drop and fgm where they are on, or \
         train with --precision float32; the best model of the evaluations before it, where there were any, is kept"
    )]
    NotFinite {
        /// The loss, the dev loss, or the norm of the gradients.
        what: &'static str,
        /// The step, from 1.
        step: usize,
        /// The epoch, from 1.
        epoch: usize,
        /// The number.
        value: f64,
    },
    /// A score by which the best model is to be chosen is not measured.
    #[error("there is no metric {name:?} here: {}", known_metrics(.known))]
    UnknownMetric {
        /// The name.
        name: String,
        /// The scores that there are.
        known: Vec<&'static str>,
    },
    /// A checkpoint was written by another version.
    #[error(
        "{path} has format {got}, expected {expected}: go on with the version that wrote it, or train anew with --overwrite"
    )]
    CheckpointFormat {
        /// The checkpoint.
        path: PathBuf,
        /// The layout that this version reads.
        expected: u32,
        /// The layout that it has.
        got: u32,
    },
    /// A run is gone on with from another directory.
    #[error(
        "{path} names {file}, which is not here: go on from the directory in which the run was begun"
    )]
    OtherPlace {
        /// The run file.
        path: PathBuf,
        /// The model, or the data, that it names.
        file: PathBuf,
    },
    /// A run has changed since a checkpoint was written.
    #[error(
        "{path} belongs to a run of other settings or data: {difference}: put it back, or train anew with --overwrite"
    )]
    CheckpointChanged {
        /// The checkpoint.
        path: PathBuf,
        /// What is different.
        difference: String,
    },
    /// A checkpoint does not fit the model of its run.
    #[error(
        "{path} does not fit the model: parameter {name}: {reason}: train anew with --overwrite"
    )]
    CheckpointParameter {
        /// The checkpoint.
        path: PathBuf,
        /// The parameter's path.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// A checkpoint is of another number of tasks than its run.
    #[error(
        "{path} does not fit the run, whose tasks are more or fewer: train anew with --overwrite"
    )]
    CheckpointTasks {
        /// The checkpoint.
        path: PathBuf,
    },
    /// A file of a checkpoint holds no tensors.
    #[error("{path} is no file of tensors: {source}: train anew with --overwrite")]
    CheckpointTensors {
        /// The file.
        path: PathBuf,
        /// What the reader said.
        source: safetensors::SafeTensorError,
    },
    /// A run was told to end.
    #[error("interrupted after step {step}{}", going_on(*.step, *.kept, .out.as_deref()))]
    Interrupted {
        /// The steps taken.
        step: usize,
        /// The step of the last checkpoint, 0 where there is none.
        kept: usize,
        /// The run's directory, where it has one.
        out: Option<PathBuf>,
    },
    /// A search was told to end.
    #[error(
        "interrupted in trial {trial}: the same command without --overwrite goes on with the search in {out}"
    )]
    SearchInterrupted {
        /// The trial, from 0.
        trial: usize,
        /// The search's directory.
        out: PathBuf,
    },
    /// Several runs were told to end.
    #[error(
        "interrupted in run {number} of {count}, {out}: the same command without --overwrite goes on with it and with those after it"
    )]
    RunsInterrupted {
        /// The run, from 1.
        number: usize,
        /// All runs.
        count: usize,
        /// The run's directory.
        out: PathBuf,
    },
    /// No trial of a search has come to its end.
    #[error("none of the {trials} trials came to its end: search other settings")]
    NoTrial {
        /// All trials.
        trials: usize,
    },
    /// The directory of a search holds something else.
    #[error("{path} is not empty and holds no search (search.toml): give another --out")]
    OutNotSearch {
        /// The directory.
        path: PathBuf,
    },
    /// The settings of a run can't be written as a run file.
    #[error("the run can't be written as a run file: {source}: give paths in UTF-8")]
    RunToml {
        /// What can't be written.
        source: toml::ser::Error,
    },
    /// The directory of a run holds something that is no run.
    #[error(
        "{path} is not empty and holds no run (run.toml beside metrics.jsonl, about.json or bert-tune.json) that could be \
         replaced or gone on with: give another --out"
    )]
    OutNotRun {
        /// The directory.
        path: PathBuf,
    },
}

/// The flags of the columns that would fit.
fn way_out(fitting: &Option<Box<Columns>>) -> String {
    match fitting {
        Some(columns) => format!("`{columns}` would fit"),
        None => "name the columns with --text COL and --label COL".to_owned(),
    }
}

/// The scores to choose from; of several tasks together there are none.
fn known_metrics(known: &[&str]) -> String {
    match known {
        [] => "of several tasks together there is only the mean: name one of them with --task"
            .to_owned(),
        known => format!("expected one of {}", known.join(", ")),
    }
}

/// What stands between the columns of a file, and what seems to in its first row.
fn separation(first: &str, format: Format) -> String {
    let between = match format {
        Format::Tsv => ('\t', "a tab stands between the columns of a .tsv file"),
        Format::Csv => (',', "a comma stands between the columns of a .csv file"),
        _ => {
            return "give a file with a text and a label a row (tsv, csv, jsonl or json)"
                .to_owned();
        }
    };
    let others = [('\t', "tabs"), (';', "semicolons"), (',', "commas")];
    let other = others.iter().find(|(c, _)| *c != between.0 && first.contains(*c));
    match other {
        Some((_, name)) => format!(
            "{}, and its first row has {name}: write it anew, or name its --format",
            between.1
        ),
        None => between.1.to_owned(),
    }
}

/// How to go on with the run in a directory, whose last checkpoint is that of step `kept`.
fn going_on(step: usize, kept: usize, out: Option<&Path>) -> String {
    let Some(out) = out.map(Path::display) else { return String::new() };
    match kept {
        kept if kept == step => format!(": go on with bert train --resume {out}"),
        0 => format!(
            ", and no checkpoint was written (checkpoint-every never): bert train --resume {out} begins at step 0"
        ),
        kept => format!(
            ", and no checkpoint was written of it (checkpoint-every never): bert train --resume {out} goes on \
             after step {kept}"
        ),
    }
}

/// A pooling with heads that fits.
fn multi_head_example(hidden_size: usize) -> String {
    let heads = [4, 3, 2, 1].into_iter().find(|heads| hidden_size.is_multiple_of(*heads));
    format!("multi-head={}", heads.unwrap_or(1))
}

fn texts_a_row(texts: usize) -> &'static str {
    if texts == 2 { "two texts" } else { "one text" }
}

impl Error {
    /// The same error, with the directory of its run where it says how to go on.
    pub(crate) fn in_run(self, run: &Path) -> Self {
        match self {
            Self::Interrupted { step, kept, .. } => {
                Self::Interrupted { step, kept, out: Some(run.into()) }
            }
            other => other,
        }
    }

    /// The same error as that of a task of several, unless it says so already or is of all of them.
    pub(crate) fn in_task(self, task: &str) -> Self {
        match self {
            Self::Core(_) | Self::MetricOfTwo { .. } => self,
            source => Self::Task { task: task.to_owned(), source: Box::new(source) },
        }
    }

    /// Whether work was told to end, and can be gone on with.
    pub fn is_interruption(&self) -> bool {
        matches!(
            self,
            Self::Interrupted { .. }
                | Self::SearchInterrupted { .. }
                | Self::RunsInterrupted { .. }
        )
    }

    /// Whether the cause is in what the user gave (data, flags, a run file) and not in the work on it.
    pub fn is_bad_input(&self) -> bool {
        // Each variant is listed, so that a new one cannot be forgotten here.
        match self {
            Self::StepOfAll { .. }
            | Self::SamplingOfAll
            | Self::MetricOfTwo { .. }
            | Self::NoTaskFor { .. }
            | Self::WhichTexts { .. }
            | Self::DifferentShares { .. }
            | Self::SharedBatch { .. }
            | Self::EmbedTasks { .. }
            | Self::NotNumber { .. }
            | Self::TaskTexts { .. }
            | Self::UnknownTask { .. }
            | Self::OneTask { .. }
            | Self::NoTaskClassifier { .. }
            | Self::Baseline { .. }
            | Self::WhichTask { .. }
            | Self::Read { .. }
            | Self::UnknownExtension { .. }
            | Self::UnknownFormat { .. }
            | Self::NotUtf8 { .. }
            | Self::Empty { .. }
            | Self::ColumnCount { .. }
            | Self::UnclosedQuote { .. }
            | Self::AfterQuote { .. }
            | Self::Json { .. }
            | Self::NotText { .. }
            | Self::InvalidColumn { .. }
            | Self::UnknownColumn { .. }
            | Self::NoSuchColumn { .. }
            | Self::AmbiguousColumn { .. }
            | Self::TextColumns { .. }
            | Self::OneColumn { .. }
            | Self::NumbersAsLabels { .. }
            | Self::TextCount { .. }
            | Self::LabelIsText { .. }
            | Self::NoLabel { .. }
            | Self::OwnLabels { .. }
            | Self::LooksLikeHeader { .. }
            | Self::OneLabel { .. }
            | Self::UnknownLabel { .. }
            | Self::LabelSet { .. }
            | Self::TokensNotTexts { .. }
            | Self::TokenColumns { .. }
            | Self::NoColumnNames { .. }
            | Self::TagCount { .. }
            | Self::NoTags { .. }
            | Self::ParallelFiles { .. }
            | Self::Questions { .. }
            | Self::AnswerPlace { .. }
            | Self::PoolingOfTokens { .. }
            | Self::MixtureOfTokens { .. }
            | Self::PoolingHeads { .. }
            | Self::OnlyWindows { .. }
            | Self::Stride { .. }
            | Self::WrongData { .. }
            | Self::FrozenInput { .. }
            | Self::NothingDropped { .. }
            | Self::NothingSmoothed
            | Self::NothingMoved { .. }
            | Self::LayerCount { .. }
            | Self::FrozenLayers { .. }
            | Self::FrozenAnew { .. }
            | Self::FrozenWords { .. }
            | Self::FrozenStates { .. }
            | Self::FrozenBalance { .. }
            | Self::FrozenMemory { .. }
            | Self::RepeatedLabel { .. }
            | Self::DevFraction { .. }
            | Self::NoDevRows { .. }
            | Self::Recipe { .. }
            | Self::NoRows { .. }
            | Self::RunFile { .. }
            | Self::Out { .. }
            | Self::OutNotEmpty { .. }
            | Self::OutIsModel { .. }
            | Self::OutNotRun { .. }
            | Self::RunToml { .. }
            | Self::Settings { .. }
            | Self::SettingsFormat { .. }
            | Self::NoClassifier { .. }
            | Self::Pairs { .. }
            | Self::Precision { .. }
            | Self::PoolingMissing { .. }
            | Self::TaskEmbeddingRank { .. }
            | Self::LoraRank { .. }
            | Self::LoraAnew { .. }
            | Self::LoraFrozen { .. }
            | Self::AdapterConfig { .. }
            | Self::AdapterTensor { .. }
            | Self::AdapterHalf { .. }
            | Self::AdapterMap { .. }
            | Self::AdapterShape { .. }
            | Self::AdapterBase { .. }
            | Self::NoNewWords { .. }
            | Self::WordsFile { .. }
            | Self::NoWords { .. }
            | Self::FewRuns { .. }
            | Self::NoRun { .. }
            | Self::SeveralRuns { .. }
            | Self::OutLocked { .. }
            | Self::PoolingOfTask { .. }
            | Self::RunUnfinished { .. }
            | Self::RunRecord { .. }
            | Self::DevRows { .. }
            | Self::DifferentScores { .. }
            | Self::SameRun { .. }
            | Self::UnknownMetric { .. }
            | Self::CheckpointFormat { .. }
            | Self::CheckpointChanged { .. }
            | Self::OtherPlace { .. }
            | Self::CheckpointParameter { .. }
            | Self::CheckpointTasks { .. }
            | Self::CheckpointTensors { .. }
            | Self::OutNotSearch { .. }
            | Self::NoRate { .. }
            | Self::TooLarge { .. }
            | Self::OutTaken { .. } => true,
            Self::Task { source, .. } => source.is_bad_input(),
            Self::Core(bert_core::Error::Write { source, .. }) => matches!(
                source.kind(),
                io::ErrorKind::NotFound
                    | io::ErrorKind::NotADirectory
                    | io::ErrorKind::IsADirectory
                    | io::ErrorKind::PermissionDenied
            ),
            Self::Core(_) => true,
            Self::NotFinite { .. }
            | Self::NoTrial { .. }
            | Self::SearchInterrupted { .. }
            | Self::RunsInterrupted { .. }
            | Self::NoGradient { .. }
            | Self::ZeroGradient { .. }
            | Self::NotOptimised { .. }
            | Self::NotClipped { .. }
            | Self::FrozenHead { .. }
            | Self::SharedParameter { .. }
            | Self::Interrupted { .. } => false,
        }
    }
}

/// The first of some parameters, and how many there are.
fn parameters(names: &[String]) -> String {
    const NAMES: usize = 3;
    let shown = names.iter().take(NAMES).map(String::as_str).collect::<Vec<_>>().join(", ");
    match names.len() {
        ..=NAMES => shown,
        all => format!("{shown}, ... ({all} parameters in all)"),
    }
}

/// The first names of a list, each cut to a length that a message can hold.
fn shortened(names: &[String]) -> String {
    const NAMES: usize = 10;
    const CHARACTERS: usize = 40;
    let mut shown: Vec<String> = names
        .iter()
        .take(NAMES)
        .map(|name| {
            let mut short: String = name.chars().take(CHARACTERS).collect();
            if short.len() < name.len() {
                short.push_str("...");
            }
            short
        })
        .collect();
    if names.len() > NAMES {
        shown.push(format!("... ({} in all)", names.len()));
    }
    shown.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lists_and_names_are_shortened() {
        let names: Vec<String> = (0..12).map(|i| format!("n{i}")).collect();
        assert_eq!(shortened(&names), "n0, n1, n2, n3, n4, n5, n6, n7, n8, n9, ... (12 in all)");
        assert_eq!(shortened(&["é".repeat(41)]), format!("{}...", "é".repeat(40)));
        assert_eq!(shortened(&["é".repeat(40)]), "é".repeat(40));
    }

    #[test]
    fn a_fault_of_the_data_is_bad_input() {
        assert!(Error::DevFraction { fraction: 2.0 }.is_bad_input());
    }
}
