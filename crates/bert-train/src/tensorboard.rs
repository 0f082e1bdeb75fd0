//! What TensorBoard reads of a run: a file of events with the scalars of each step and each evaluation.
//!
//! A file is records one behind the other: the length in 8 bytes, its checksum in 4, the data, its checksum in 4, all little
//! endian. A checksum is a CRC-32C `c` as `((c >> 15) | (c << 17)) + 0xa282ead8`. The data is an `Event` in Protocol Buffers.
//!
//! # Source
//! <https://github.com/tensorflow/tensorflow/blob/v2.16.1/tensorflow/core/lib/io/record_writer.h> for records,
//! `tensorflow/core/util/event.proto` and `core/framework/summary.proto` there for their fields.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::{
    error::Result,
    metrics::Metrics,
    report::{Log, LoggedStep},
};

/// The folder in a run's directory.
const FOLDER: &str = "tensorboard";

/// A file of events that grows.
#[derive(Debug)]
pub(crate) struct EventFile {
    path: PathBuf,
    file: File,
    /// When the first batch would have been, had the run never broken off: seconds since 1970.
    start: f64,
    /// The latest step, and when it was taken.
    step: usize,
    seconds: f64,
    /// What is not yet written.
    waiting: Vec<u8>,
}

impl EventFile {
    /// Begins the file of the run in `out` anew, with what the run has logged so far: a file from before may have steps that are
    /// taken once more.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(crate) fn begin(out: &Path, log: &Log) -> Result<Self> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let dir = out.join(FOLDER);
        let path = dir.join(format!("events.out.tfevents.{}.bert-tune", now.as_secs()));
        let create = || {
            clear_events(out)?;
            fs::create_dir_all(&dir)?;
            File::create(&path)
        };
        let file =
            create().map_err(|source| bert_core::Error::Write { path: path.clone(), source })?;
        let seconds = log.steps.last().map_or(0.0, |step| step.seconds);
        let start = now.as_secs_f64() - seconds;
        let mut events = Self { path, file, start, step: 0, seconds: 0.0, waiting: vec![] };
        events.put(&version(start));
        events.put(&session_start(start));
        let mut steps = log.steps.iter().peekable();
        for evaluation in &log.evaluations {
            while let Some(step) = steps.next_if(|step| step.step <= evaluation.step) {
                events.step(step);
            }
            events.evaluation(&evaluation.dev);
        }
        steps.for_each(|step| events.step(step));
        events.flush()?;
        Ok(events)
    }

    /// Adds a step.
    pub(crate) fn step(&mut self, step: &LoggedStep) {
        (self.step, self.seconds) = (step.step, step.seconds);
        let mut scalars = vec![
            ("train/loss".to_owned(), step.loss),
            ("train/learning_rate".to_owned(), step.lr),
            ("train/gradient_norm".to_owned(), step.grad_norm),
        ];
        for (task, loss) in &step.losses {
            let loss = loss.as_f64().unwrap_or(f64::NAN);
            scalars.push((format!("train/loss/{task}"), loss));
        }
        self.put(&event(self.start + self.seconds, step.step, &scalars));
    }

    /// Adds an evaluation after the latest step.
    pub(crate) fn evaluation(&mut self, dev: &Metrics) {
        let scores = dev.flattened().into_iter();
        let scalars: Vec<_> = scores.map(|(name, score)| (format!("dev/{name}"), score)).collect();
        self.put(&event(self.start + self.seconds, self.step, &scalars));
    }

    /// Writes what waits.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(crate) fn flush(&mut self) -> Result<()> {
        let written = self.file.write_all(&self.waiting).and_then(|()| self.file.flush());
        written.map_err(|source| bert_core::Error::Write { path: self.path.clone(), source })?;
        self.waiting.clear();
        Ok(())
    }

    fn put(&mut self, event: &[u8]) {
        self.waiting.extend(record(event));
    }
}

/// Takes away the files of a run in `out`, which are of no use to another; what else lies beside them stays.
pub(crate) fn clear_events(out: &Path) -> io::Result<()> {
    let dir = out.join(FOLDER);
    let entries = match fs::read_dir(&dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with("events.out.tfevents.") {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Data with its length and checksums.
fn record(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let (of_length, of_data) = (masked(&length).to_le_bytes(), masked(data).to_le_bytes());
    [&length[..], &of_length, data, &of_data].concat()
}

fn masked(data: &[u8]) -> u32 {
    crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C, Castagnoli's polynomial, bit by bit: events are small.
fn crc32c(data: &[u8]) -> u32 {
    !data.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0x82f6_3b78 * (crc & 1)))
    })
}

/// `Event { wall_time = 1, file_version = 3 }`.
fn version(time: f64) -> Vec<u8> {
    [double(1, time), bytes(3, b"brain.Event:2")].concat()
}

/// `Event { wall_time = 1, session_log = 7 { status = 1: START } }`, of step 0: what a reader has of earlier files, it forgets.
fn session_start(time: f64) -> Vec<u8> {
    [double(1, time), bytes(7, &number(1, 1))].concat()
}

/// `Event { wall_time = 1, step = 2, summary = 5 { value = 1 { tag = 1, simple_value = 2 } .. } }`.
fn event(time: f64, step: usize, scalars: &[(String, f64)]) -> Vec<u8> {
    let value = |(tag, value): &(String, f64)| {
        bytes(1, &[bytes(1, tag.as_bytes()), float(2, *value as f32)].concat())
    };
    let summary: Vec<u8> = scalars.iter().flat_map(value).collect();
    [double(1, time), number(2, step as u64), bytes(5, &summary)].concat()
}

/// A field of 64 bits.
fn double(field: u64, value: f64) -> Vec<u8> {
    [&varint(field << 3 | 1)[..], &value.to_le_bytes()].concat()
}

/// A field of 32 bits.
fn float(field: u64, value: f32) -> Vec<u8> {
    [&varint(field << 3 | 5)[..], &value.to_le_bytes()].concat()
}

/// A field that is a whole number; 0 is what a field is without being written.
fn number(field: u64, value: u64) -> Vec<u8> {
    if value == 0 { vec![] } else { [varint(field << 3), varint(value)].concat() }
}

/// A field with its length.
fn bytes(field: u64, value: &[u8]) -> Vec<u8> {
    [&varint(field << 3 | 2)[..], &varint(value.len() as u64), value].concat()
}

/// Seven bits a byte, the lowest first; the highest bit says that there are more.
fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = vec![];
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::report::LoggedEvaluation;

    /// The check value of CRC-32C in Koopman's and other catalogues, and the first of RFC 3720, appendix B.4.
    #[test]
    fn checksums_by_the_standard() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
    }

    #[test]
    fn numbers_of_variable_length() {
        // 300 = 10 0101100: the lower seven bits first.
        assert_eq!([varint(0), varint(127), varint(300)], [vec![0], vec![127], vec![0xac, 2]]);
    }

    const EVENT: &str = "36000000000000004f578cef09000000000000f83f10ac022a280a110a0a747261696e2f6c6f7373150000803e\
                         0a130a0c6465762f6163637572616379150000603fe4669196";
    const VERSION: &str =
        "1800000000000000a37f4b2209000000000000f83f1a0d627261696e2e4576656e743a322a28646c";
    const START: &str = "0d000000000000003c37b83409000000000000f83f3a020801b718825c";

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// What TensorBoard 2.21 itself writes of the same events, by its `RecordWriter`.
    #[test]
    fn records_are_those_of_tensorboard() {
        let scalars = [("train/loss".to_owned(), 0.25), ("dev/accuracy".to_owned(), 0.875)];
        assert_eq!(hex(&record(&event(1.5, 300, &scalars))), EVENT);
        assert_eq!(hex(&record(&version(1.5))), VERSION);
        assert_eq!(hex(&record(&session_start(1.5))), START);
    }

    /// The events of the one file in a folder: step, and the names of its scalars.
    fn read(out: &Path) -> Vec<(u64, Vec<String>)> {
        let mut files: Vec<_> = fs::read_dir(out.join(FOLDER)).unwrap().collect();
        assert_eq!(files.len(), 1);
        let bytes = fs::read(files.remove(0).unwrap().path()).unwrap();
        let (mut rest, mut events) = (&bytes[..], vec![]);
        while !rest.is_empty() {
            let length = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
            let data = &rest[12..12 + length];
            assert_eq!(rest[..16 + length], record(data)[..]);
            rest = &rest[16 + length..];
            // A number of one byte, in field 2, behind the time; then the summary.
            if data.get(9) == Some(&0x10) {
                let text: String = data.iter().map(|byte| char::from(*byte)).collect();
                let names = ["train/loss", "train/learning_rate", "train/gradient_norm", "dev/f1"];
                let there = names.into_iter().filter(|name| text.contains(*name));
                events.push((u64::from(data[10]), there.map(str::to_owned).collect()));
            }
        }
        events
    }

    #[test]
    fn a_run_that_goes_on_has_each_step_once() {
        let dir = tempfile::tempdir().unwrap();
        let step = |step: usize| LoggedStep {
            step,
            loss: 0.5,
            lr: 0.1,
            grad_norm: 1.0,
            seconds: step as f64,
            rows: None,
            losses: Default::default(),
        };
        let dev = Metrics::Tagging(crate::metrics::TaggingMetrics::new::<&str>(&[], &[], 0.5));
        let mut events = EventFile::begin(dir.path(), &Log::default()).unwrap();
        (1..=3).for_each(|number| events.step(&step(number)));
        events.evaluation(&dev);
        events.step(&step(4));
        events.flush().unwrap();
        let whole = read(dir.path());
        assert_eq!(whole.iter().map(|(step, _)| *step).collect::<Vec<_>>(), [1, 2, 3, 3, 4]);
        assert_eq!(whole[3].1, ["dev/f1"]);
        assert_eq!(whole[4].1.len(), 3);

        // It broke off after step 4, and goes on after step 3.
        let evaluation = LoggedEvaluation { step: 3, dev, is_best: true };
        let log = Log {
            steps: (1..=3).map(step).collect(),
            evaluations: vec![evaluation],
            agreements: vec![],
        };
        let mut events = EventFile::begin(dir.path(), &log).unwrap();
        events.step(&step(4));
        events.flush().unwrap();
        assert_eq!(read(dir.path()), whole);
        // What is not a file of events stays.
        fs::write(dir.path().join(FOLDER).join("notes"), "").unwrap();
        clear_events(dir.path()).unwrap();
        assert!(dir.path().join(FOLDER).join("notes").exists());
        assert_eq!(fs::read_dir(dir.path().join(FOLDER)).unwrap().count(), 1);
    }
}
