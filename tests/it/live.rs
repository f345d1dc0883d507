//! `lapidary top` as people see it: a frame in a pipe, and a screen in a terminal.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use lapidary_schemas::BatchId;
use lapidary_tests::{Program, free_port, own};
use nix::pty::{Winsize, openpty};
use tempfile::TempDir;

use crate::place::{Place, requests};

const SAY_MAX: Duration = Duration::from_mins(1);
/// The terminal.
const COLUMNS: u16 = 40;
const ROWS: u16 = 12;
/// Takes the terminal over, and gives it back.
const ENTER: &str = "\x1b[?1049h";
const LEAVE: &str = "\x1b[?1049l";

/// A worker with a batch that keeps it busy.
fn busy(folder: &TempDir) -> (Place, Program, BatchId) {
    let place = Place::on_file(folder.path());
    let listen = format!("127.0.0.1:{}", free_port());
    let mut worker = place.worker(&["--listen", &listen, "--threads", "1"]);
    worker.wait_for("serving", SAY_MAX);
    let batch = place.submit(&requests(folder.path(), 20_000));
    (place, worker, batch)
}

#[test]
fn a_frame_in_a_pipe_says_how_it_is() {
    let folder = TempDir::new().unwrap();
    let (place, mut worker, batch) = busy(&folder);
    let frame = place.ask(&["top", "--once", "--interval", "3s"]);
    worker.stop();
    assert!(!frame.contains('\x1b'), "{frame}");
    assert!(frame.contains("1 workers, "), "{frame}");
    assert!(frame.contains("1 batches unfinished"), "{frame}");
    let row = |name: &str| {
        let mut rows = frame.lines().filter(|line| line.contains(name));
        let row = rows
            .next()
            .unwrap_or_else(|| panic!("no {name} in {frame}"));
        row.split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let of_worker = row("MB");
    let rate: f64 = of_worker[4].parse().unwrap();
    assert!(rate > 0.0, "{frame}");
    let of_batch = row(&batch.to_string());
    assert_eq!(of_batch[2], "runs", "{frame}");
    let done: u64 = of_batch[4].parse().unwrap();
    assert!((1..20_000).contains(&done), "{frame}");
    assert_eq!(of_batch[5], "20000", "{frame}");
}

/// The program in a terminal, and what it shows there.
struct Terminal {
    program: Child,
    ours: File,
    shown: Vec<u8>,
}

impl Terminal {
    fn start(command: &mut Command) -> Self {
        let size = Winsize {
            ws_row: ROWS,
            ws_col: COLUMNS,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let pair = openpty(&size, None).unwrap();
        let theirs = || Stdio::from(pair.slave.try_clone().unwrap());
        command
            .stdin(theirs())
            .stdout(theirs())
            .stderr(Stdio::null());
        Self {
            program: command.spawn().unwrap(),
            ours: pair.master.into(),
            shown: Vec::new(),
        }
    }

    /// Reads on until it has shown this, for the first time or once more.
    fn until(&mut self, mark: &str) {
        let (started, from) = (Instant::now(), self.shown.len());
        let mut bytes = [0; 4096];
        while !self.shown[from..]
            .windows(mark.len())
            .any(|shown| shown == mark.as_bytes())
        {
            assert!(
                started.elapsed() < SAY_MAX,
                "no {mark:?} in {}",
                self.text()
            );
            // It shows something after each look.
            let count = self.ours.read(&mut bytes).unwrap();
            self.shown.extend_from_slice(&bytes[..count]);
        }
    }

    fn text(&self) -> String {
        String::from_utf8(self.shown.clone()).unwrap()
    }

    fn press(&mut self, keys: &str) {
        self.ours.write_all(keys.as_bytes()).unwrap();
    }
}

/// The lines of the frames that were shown, without what makes them bold.
fn frames(shown: &str) -> Vec<Vec<String>> {
    let frames = shown.split("\x1b[H").skip(1);
    let plain = |line: &str| {
        let marks = ["\x1b[1m", "\x1b[0m", "\x1b[K", "\x1b[J"];
        marks
            .iter()
            .fold(line.to_owned(), |line, mark| line.replace(mark, ""))
    };
    let whole = frames.filter_map(|frame| frame.split_once("\x1b[J"));
    whole
        .map(|(frame, _)| frame.split("\r\n").map(plain).collect())
        .collect()
}

#[test]
fn a_narrow_terminal_shows_it_live_and_is_given_back() {
    let folder = TempDir::new().unwrap();
    let (place, mut worker, batch) = busy(&folder);
    let mut command = own("lapidary");
    command
        .args(["top", "--interval", "300ms"])
        .args(place.arguments());
    let mut terminal = Terminal::start(&mut command);
    terminal.until(ENTER);
    terminal.until("WORKER");
    // The batch's row is below the end of the screen.
    for _ in 0..ROWS {
        terminal.press("\x1b[B");
    }
    terminal.until(&batch.to_string()[..8]);
    terminal.press("q");
    terminal.until(LEAVE);
    assert_eq!(terminal.program.wait().unwrap().code(), Some(0));
    worker.stop();
    let shown = terminal.text();
    let frames = frames(&shown);
    assert!(frames.len() > 2, "{shown}");
    for lines in &frames {
        assert!(lines.len() <= usize::from(ROWS), "{lines:#?}");
        for line in lines {
            assert!(line.chars().count() <= usize::from(COLUMNS), "{line}");
        }
        assert_eq!(lines.last().unwrap(), "q ends, arrows move");
    }
}
