//! Hostile input in bulk: whatever stands in a file, reading it gives an answer or an error that says what is wrong; never a
//! panic, a hang, or more memory than the file is worth.
//!
//! Without flags this is a test: every input in `corpus`, and some thousand changed ones of a fixed seed, through each target.
//! `cargo xtask fuzz` runs millions, and keeps in `corpus` what fails. An input is a pure function of target, seed and index.
//! Nothing measures which code an input reaches: what is changed is aimed by the structure of the files alone.

#![allow(clippy::unwrap_used)]

mod case;
mod mutator;
mod runs;
mod targets;

use std::{
    alloc::System,
    env, fs,
    panic::{self, AssertUnwindSafe},
    path::{Path, PathBuf},
    process::{ExitCode, exit},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use bert_kernels::random::{Purpose, Stream};
use cap::Cap;
use case::Case;
use mutator::Mutator;
use targets::{TARGETS, Target};

#[global_allocator]
static MEMORY: Cap<System> = Cap::new(System, usize::MAX);

/// Whether an input is being read.
static IS_INPUT: AtomicBool = AtomicBool::new(false);

/// What an input may take: so many bytes, and so many for each of its own. Whoever asks for more is refused, and ends.
const BYTES: usize = 48 << 20;
const BYTES_A_BYTE: usize = 256;

/// How long the program may work on an input, and how long it may wait for anything.
const WORK_LIMIT: Duration = Duration::from_secs(5);
const LIMIT: Duration = Duration::from_secs(120);

/// The exit code for an input that took longer.
const TOO_LONG: i32 = 3;

fn main() -> ExitCode {
    let mut flags = vec![];
    let mut filters = vec![];
    let mut words = env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--target" | "--inputs" | "--seed" | "--from" | "--work" => {
                flags.push((word, words.next().unwrap_or_default()));
            }
            // What cargo hands to every test.
            "--list" => return ExitCode::SUCCESS,
            flag if flag.starts_with('-') => {}
            _ => filters.push(word),
        }
    }
    let flag = |name: &str| flags.iter().find(|(own, _)| own == name).map(|(_, value)| value);
    let number = |name: &str, default: u64| {
        flag(name).map_or(default, |value| value.parse().expect("a number"))
    };
    panic::set_hook(Box::new(|panic| {
        // What an input ends in is told beside it.
        if !IS_INPUT.load(Ordering::Relaxed) {
            eprintln!("{panic}");
        }
    }));
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus");
    match flag("--target") {
        Some(name) => {
            let target = TARGETS.iter().find(|target| target.name == name).expect("a target");
            let work = PathBuf::from(flag("--work").expect("--work"));
            let (from, inputs) = (number("--from", 0), number("--inputs", 1000));
            ExitCode::from(u8::from(!fuzz(
                target,
                &corpus,
                &work,
                number("--seed", 0),
                from..inputs,
            )))
        }
        None => {
            let is_meant = |target: &&Target| {
                let name = format!("fuzz::{}", target.name);
                filters.is_empty() || filters.iter().any(|filter| name.contains(filter.as_str()))
            };
            let all_right = TARGETS.iter().filter(is_meant).all(|target| {
                let work = case::folder();
                fuzz(target, &corpus, work.path(), 0, 0..target.in_a_test)
            });
            ExitCode::from(u8::from(!all_right))
        }
    }
}

/// Runs all inputs in the corpus, unless the first ones are left out, and the changed ones of these indices.
fn fuzz(
    target: &Target,
    corpus: &Path,
    work: &Path,
    seed: u64,
    indices: std::ops::Range<u64>,
) -> bool {
    let kept = Case::all(&corpus.join(target.name));
    let setting = (target.set_up)(work);
    let seeds: Vec<Case> = setting.into_iter().chain(kept).collect();
    assert!(!seeds.is_empty(), "{} has no corpus", target.name);
    let clock = Clock::start();
    let mut tally = Tally::default();
    if indices.start == 0 {
        for case in &seeds {
            let mut random = Stream::new(0, Purpose::Sample, 0);
            tally.add(&case.name, try_case(target, case, work, &mut random, &clock));
        }
    }
    let start = Instant::now();
    // For whoever looks after a process that died.
    fs::write(work.join("place"), target.place).unwrap();
    let mutator = Mutator::new(&seeds);
    for index in indices.clone() {
        fs::write(work.join("index"), index.to_string()).unwrap();
        let mut random = Stream::new(seed, Purpose::Sample, index);
        let mut case = mutator.case(&mut random);
        (target.repair)(&mut case, &mut random);
        let result = try_case(target, &case, work, &mut random, &clock);
        if result.is_err() {
            case.write(&work.join(format!("failed/{index}")));
        }
        tally.add(&index.to_string(), result);
    }
    clock.stop();
    let seconds = start.elapsed().as_secs_f64();
    let inputs = indices.end - indices.start;
    println!(
        "{}: {} in the corpus, {inputs} changed ones in {seconds:.1} s ({:.0} a second), {} of all accepted, {} failed; the slowest, {}, \
         took {:.0} ms",
        target.name,
        seeds.len(),
        inputs as f64 / seconds,
        tally.accepted,
        tally.failed,
        tally.slowest.1,
        tally.slowest.0.as_secs_f64() * 1e3,
    );
    tally.failed == 0
}

/// What inputs came to.
#[derive(Default)]
struct Tally {
    accepted: u64,
    failed: u64,
    slowest: (Duration, String),
}

impl Tally {
    fn add(&mut self, name: &str, result: Result<(bool, Duration), String>) {
        match result {
            Ok((accepted, time)) => {
                self.accepted += u64::from(accepted);
                if time > self.slowest.0 {
                    self.slowest = (time, name.to_owned());
                }
            }
            Err(message) => {
                self.failed += 1;
                println!("input {name} failed: {message}");
            }
        }
    }
}

/// Whether the input was accepted, and how long that took; else why it fails.
fn try_case(
    target: &Target,
    case: &Case,
    work: &Path,
    random: &mut Stream,
    clock: &Clock,
) -> Result<(bool, Duration), String> {
    let dir = work.join(target.place);
    case.write(&dir);
    let start = Instant::now();
    clock.begin();
    let most = MEMORY.allocated() + BYTES + BYTES_A_BYTE * case.len();
    MEMORY.set_limit(most).expect("more than there is");
    IS_INPUT.store(true, Ordering::Relaxed);
    let result = panic::catch_unwind(AssertUnwindSafe(|| (target.run)(&dir, random)));
    IS_INPUT.store(false, Ordering::Relaxed);
    MEMORY.set_limit(usize::MAX).expect("the highest");
    clock.end();
    let message = |panic: Box<dyn std::any::Any + Send>| {
        let text = panic.downcast_ref::<String>().cloned();
        text.or(panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
    };
    result.map(|accepted| (accepted, start.elapsed())).map_err(message)
}

/// How long the main thread has worked, where the system says so: the machine may have much else to do.
fn worked() -> Option<Duration> {
    let text = fs::read_to_string("/proc/self/schedstat").ok()?;
    text.split_whitespace().next()?.parse().ok().map(Duration::from_nanos)
}

/// Ends the program where an input takes too long.
struct Clock {
    /// Milliseconds since the start at which the input under way began; 0 where there is none.
    begun: Arc<AtomicU64>,
    start: Instant,
    over: Arc<AtomicU64>,
}

impl Clock {
    fn start() -> Self {
        let (begun, over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let (watched, is_over, start) = (Arc::clone(&begun), Arc::clone(&over), Instant::now());
        thread::spawn(move || {
            let mut known = (0, None);
            while is_over.load(Ordering::Relaxed) == 0 {
                thread::sleep(Duration::from_millis(50));
                let begun = watched.load(Ordering::Relaxed);
                if begun != known.0 {
                    known = (begun, worked());
                }
                let waited = start.elapsed().saturating_sub(Duration::from_millis(begun));
                let took = known.1.zip(worked()).map(|(then, now)| now.saturating_sub(then));
                if begun > 0 && (waited > LIMIT || took > Some(WORK_LIMIT)) {
                    println!("an input took too long: {took:?} of work in {waited:?}");
                    exit(TOO_LONG);
                }
            }
        });
        Self { begun, start, over }
    }

    fn begin(&self) {
        self.begun.store(1 + self.start.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    fn end(&self) {
        self.begun.store(0, Ordering::Relaxed);
    }

    fn stop(self) {
        self.over.store(1, Ordering::Relaxed);
    }
}
