//! A run on the whole terminal, which `script` of util-linux stands in for.
#![cfg(all(feature = "dashboard", target_os = "linux"))]

use std::{
    fs,
    io::{Read, Write},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};

use crate::{Desk, reference, text};

/// What a terminal is told to show another screen, and the first one again.
const OTHER_SCREEN: &str = "\u{1b}[?1049h";
const FIRST_SCREEN: &str = "\u{1b}[?1049l";

/// A run on a terminal of its own.
struct Terminal {
    script: Child,
    shown: Receiver<Vec<u8>>,
    text: String,
}

impl Terminal {
    /// Trains for so many epochs; nothing where there is no `script`.
    fn train(desk: &Desk, epochs: usize) -> Option<Self> {
        let bert = env!("CARGO_BIN_EXE_bert");
        let model = reference().join("tiny-bert");
        let command = format!(
            "stty cols 110 rows 30; exec '{bert}' train --train train.tsv --out run --model '{}' --epochs {epochs} \
             --batch-size 8 --dashboard",
            text(&model)
        );
        let mut script = Command::new("script");
        script.args(["--quiet", "--return", "--command", &command, "/dev/null"]);
        script.current_dir(desk.path("")).env("BURN_DEVICE", "flex").env("TERM", "xterm");
        script.stdin(Stdio::piped()).stdout(Stdio::piped());
        let Ok(mut script) = script.spawn() else {
            println!("skipped: there is no `script` of util-linux");
            return None;
        };
        let (sender, shown) = channel();
        let mut out = script.stdout.take().unwrap();
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(length @ 1..) = out.read(&mut bytes) {
                let _ = sender.send(bytes[..length].to_vec());
            }
        });
        Some(Self { script, shown, text: String::new() })
    }

    /// Waits until all of `words` were shown.
    fn wait_for(&mut self, words: &[&str]) {
        let start = Instant::now();
        while !words.iter().all(|word| self.text.contains(word)) {
            assert!(start.elapsed() < Duration::from_secs(60), "{words:?} not in {}", self.text);
            let Ok(bytes) = self.shown.recv_timeout(Duration::from_secs(1)) else { continue };
            self.text += &String::from_utf8_lossy(&bytes);
        }
    }

    fn press(&mut self, key: &str) {
        // The run may be over.
        let _ = self.script.stdin.as_mut().unwrap().write_all(key.as_bytes());
    }

    /// Waits for the end, pressing this key again and again; how it ended, and what was written after the screen was given back.
    fn end(mut self, key: Option<&str>) -> (ExitStatus, String) {
        let start = Instant::now();
        let status = loop {
            assert!(start.elapsed() < Duration::from_secs(60), "no end: {}", self.text);
            match self.script.try_wait().unwrap() {
                Some(status) => break status,
                None => key.into_iter().for_each(|key| self.press(key)),
            }
            thread::sleep(Duration::from_millis(700));
        };
        let rest: Vec<u8> = self.shown.iter().flatten().collect();
        self.text += &String::from_utf8_lossy(&rest);
        let (_, after) = self.text.rsplit_once(FIRST_SCREEN).expect("the screen is given back");
        (status, after.to_owned())
    }
}

#[test]
fn a_dashboard_shows_the_run_and_gives_the_terminal_back() {
    let desk = Desk::new();
    let Some(mut terminal) = Terminal::train(&desk, 30) else { return };
    terminal.wait_for(&[OTHER_SCREEN, "loss", "gradient", "examples/s", "accuracy", "/30"]);
    let (status, after) = terminal.end(None);
    assert!(status.success(), "{after}");
    // What was said meanwhile, and the closing lines.
    assert!(after.contains("epoch 1: training loss"), "{after}");
    assert!(after.contains("epoch 30: training loss"), "{after}");
    assert!(after.find("epoch 30:") < after.rfind("accuracy"), "{after}");
    assert!(desk.path("run/report.json").exists());
}

/// The renderer reads all keys, Ctrl-C too, unless it is told otherwise.
#[test]
fn ctrl_c_and_q_end_a_run_on_a_dashboard_with_a_checkpoint() {
    for keys in ["\u{3}", "qs"] {
        let desk = Desk::new();
        let Some(mut terminal) = Terminal::train(&desk, 20_000) else { return };
        terminal.wait_for(&[OTHER_SCREEN, "gradient"]);
        let (first, second) = keys.split_at(1);
        if !second.is_empty() {
            terminal.press(first);
            terminal.wait_for(&["Quit"]);
        }
        let (status, after) = terminal.end(Some(if second.is_empty() { first } else { second }));
        assert_eq!(status.code(), Some(130), "{keys:?}: {after}");
        assert!(after.contains("--resume run"), "{keys:?}: {after}");
        let checkpoints = fs::read_dir(desk.path("run/checkpoints")).unwrap();
        assert!(checkpoints.count() > 0, "{keys:?}");
    }
}
