//! The terminal: taken over for a while, and given back as it was.

use std::io::{self, Read as _, Write as _};

use rustix::termios::{self, LocalModes, OptionalActions, SpecialCodeIndex, Termios};
use tokio::sync::mpsc;

use super::Line;

/// Another screen, without a cursor; and back.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";
/// Keys that may be ahead of who reads them.
const KEYS_MAX: usize = 64;
/// A size where the terminal tells none.
const SIZE: (usize, usize) = (80, 24);

/// What a user can press.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Key {
    /// Ends it.
    Quit,
    /// A line up.
    Up,
    /// A line down.
    Down,
}

/// The terminal, ours until this is dropped.
#[derive(Debug)]
pub(crate) struct Screen {
    before: Termios,
}

impl Screen {
    /// Takes it over.
    pub(crate) fn enter() -> io::Result<Self> {
        let stdin = io::stdin();
        let before = termios::tcgetattr(&stdin)?;
        let mut keys = before.clone();
        // Keys come one by one and are not shown; Ctrl-C is still a signal.
        keys.local_modes
            .remove(LocalModes::ICANON | LocalModes::ECHO);
        keys.special_codes[SpecialCodeIndex::VMIN] = 1;
        keys.special_codes[SpecialCodeIndex::VTIME] = 0;
        termios::tcsetattr(&stdin, OptionalActions::Now, &keys)?;
        // Given back from here on, whatever happens.
        let screen = Self { before };
        write(ENTER)?;
        Ok(screen)
    }

    /// Columns and rows.
    pub(crate) fn size() -> (usize, usize) {
        let size = termios::tcgetwinsize(io::stdout());
        match size.map(|size| (usize::from(size.ws_col), usize::from(size.ws_row))) {
            Ok((columns, rows)) if columns > 0 && rows > 0 => (columns, rows),
            _ => SIZE,
        }
    }

    /// Shows these lines, and nothing else.
    pub(crate) fn draw(lines: &[Line]) -> io::Result<()> {
        let mut text = String::from("\x1b[H");
        for (number, line) in lines.iter().enumerate() {
            if number > 0 {
                text.push('\n');
            }
            let (on, off) = if line.is_bold {
                ("\x1b[1m", "\x1b[0m")
            } else {
                ("", "")
            };
            // Cleared first: behind a line as wide as the terminal its last character would be.
            text.extend(["\x1b[K", on, &line.text, off]);
        }
        text.push_str("\x1b[J");
        write(&text)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // Nobody is left to tell where that fails.
        let _ = write(LEAVE);
        let _ = termios::tcsetattr(io::stdin(), OptionalActions::Now, &self.before);
    }
}

fn write(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Keys as they are pressed. Whoever reads them ends with the process: such reads cannot be interrupted.
pub(crate) fn keys() -> mpsc::Receiver<Key> {
    let (sender, pressed) = mpsc::channel(KEYS_MAX);
    std::thread::spawn(move || {
        let mut bytes = [0; 64];
        while let Ok(count @ 1..) = io::stdin().read(&mut bytes) {
            for key in read(&bytes[..count]) {
                if sender.blocking_send(key).is_err() {
                    return;
                }
            }
        }
    });
    pressed
}

/// The keys in what a terminal sent.
fn read(bytes: &[u8]) -> Vec<Key> {
    let mut keys = Vec::new();
    let mut left = bytes;
    while let Some((first, rest)) = left.split_first() {
        (left, keys) = match (first, rest) {
            (b'\x1b', [b'[' | b'O', arrow, rest @ ..]) => {
                keys.extend(match arrow {
                    b'A' => Some(Key::Up),
                    b'B' => Some(Key::Down),
                    _ => None,
                });
                (rest, keys)
            }
            (b'q', rest) => {
                keys.push(Key::Quit);
                (rest, keys)
            }
            (_, rest) => (rest, keys),
        };
    }
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_from_what_terminals_send() {
        let sent = b"x\x1b[A\x1bOB\x1b[Cq\x1b";
        assert_eq!(read(sent), [Key::Up, Key::Down, Key::Quit]);
    }
}
