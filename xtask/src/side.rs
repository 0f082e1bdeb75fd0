//! One side of a comparison: a process, its time and its memory.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    process::{Command, Stdio},
    sync::mpsc::{RecvTimeoutError, channel},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

/// One process that does a job.
pub struct Side {
    pub side: &'static str,
    /// What its milliseconds are.
    pub what: String,
    pub command: Command,
    pub clock: Clock,
}

/// Where the milliseconds of a process come from.
pub enum Clock {
    /// From a key of the JSON that it prints, times a factor.
    Printed(&'static str, f64),
    /// From its start to its end.
    Whole,
    /// From its start to the first line on standard error that begins so; then it is killed.
    Until(&'static str),
}

/// What a process came to.
pub struct Run {
    pub ms: f64,
    /// The most memory that it held at a time, in MB of 2^20 bytes, where the system says so.
    pub peak_mb: Option<u64>,
}

impl Side {
    /// Runs the process.
    pub fn run(&mut self) -> Result<Run, String> {
        let start = Instant::now();
        let mut child = self
            .command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{:?} could not be started: {error}", self.command))?;
        let mut stdout = child.stdout.take().ok_or("no standard output")?;
        let stderr = child.stderr.take().ok_or("no standard error")?;
        let stdout = thread::spawn(move || {
            let mut text = String::new();
            stdout.read_to_string(&mut text).map(|_| text)
        });
        let (found, awaited) = channel();
        let until = if let Clock::Until(text) = self.clock { Some(text) } else { None };
        let stderr = thread::spawn(move || {
            let mut text = String::new();
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if until.is_some_and(|until| line.starts_with(until)) {
                    // Only the first one has somebody who waits for it.
                    let _ = found.send(Instant::now());
                }
                text += &line;
                text.push('\n');
            }
            text
        });
        let mut peak_mb = None;
        let found = loop {
            let found = awaited.recv_timeout(POLL);
            peak_mb = peak_mb.max(peak_of(child.id()));
            match found {
                Err(RecvTimeoutError::Timeout) => {}
                Ok(at) => break Some(at),
                Err(RecvTimeoutError::Disconnected) => break None,
            }
        };
        if found.is_some() {
            child.kill().map_err(|error| format!("could not be ended: {error}"))?;
        }
        let status = child.wait().map_err(|error| error.to_string())?;
        let elapsed = found.unwrap_or_else(Instant::now) - start;
        let stdout = stdout.join().map_err(|_| "standard output was lost")?;
        let stdout = stdout.map_err(|error| format!("standard output: {error}"))?;
        let stderr = stderr.join().map_err(|_| "standard error was lost")?;
        if found.is_none() && !status.success() {
            return Err(format!("{status}\n{stderr}"));
        }
        let ms = match self.clock {
            Clock::Printed(key, factor) => {
                let line = stdout.lines().last().unwrap_or_default();
                let line: Value =
                    serde_json::from_str(line).map_err(|error| format!("{line:?}: {error}"))?;
                factor * line[key].as_f64().ok_or_else(|| format!("no {key:?} in {line}"))?
            }
            Clock::Until(text) if found.is_none() => {
                return Err(format!("ended without a line {text:?}\n{stderr}"));
            }
            Clock::Whole | Clock::Until(_) => elapsed.as_secs_f64() * 1e3,
        };
        Ok(Run { ms: (ms * 100.0).round() / 100.0, peak_mb })
    }
}

/// How often the memory of a process is looked at.
const POLL: Duration = Duration::from_millis(20);

/// The most memory that a process has held so far, in MB.
fn peak_of(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? / 1024)
}
