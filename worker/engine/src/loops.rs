//! Answers that go round in circles.

use std::ops::Range;

/// Longest piece that is looked for, in bytes.
const PIECE_BYTES_MAX: usize = 512;
/// How often a piece stands in a row before that is a loop: verses and tables repeat themselves too.
const TIMES_MIN: usize = 4;
/// Shortest loop, in bytes: rows of dots and dashes are shorter.
const LOOP_BYTES_MIN: usize = 160;

/// The end of a text that is one piece over and over, and the beginning of it once more: at least four
/// times and at least 160 bytes. `None` where it does not end so.
pub fn looping_end(text: &str) -> Option<Range<usize>> {
    let bytes = text.as_bytes();
    let length = |piece: usize| {
        let repeats = |at: &usize| bytes[*at] == bytes[at - piece];
        piece + (piece..bytes.len()).rev().take_while(repeats).count()
    };
    let pieces = 1..=PIECE_BYTES_MAX.min(bytes.len() / TIMES_MIN);
    let lengths = pieces.map(|piece| (piece, length(piece)));
    let mut loops = lengths
        .filter(|(piece, length)| *length >= LOOP_BYTES_MIN.max(TIMES_MIN * piece))
        .map(|(_, length)| length);
    let start = text.ceil_char_boundary(text.len() - loops.next()?);
    Some(start..text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_is_found_once_it_is_long_enough() {
        let sentence = "The cat sits on the mat, and the dog lies beside it. ";
        let text = |times| format!("A picture. {}", sentence.repeat(times));
        assert_eq!(looping_end(&text(3)), None);
        // What stands before the first piece is the end of one, too.
        let start = "A picture".len();
        assert_eq!(looping_end(&text(4)), Some(start..text(4).len()));
        let cut = format!("{}The c", text(4));
        assert_eq!(looping_end(&cut), Some(start..cut.len()));
        // It has to end so.
        assert_eq!(looping_end(&format!("{}Then it left.", text(6))), None);
        assert_eq!(looping_end(&"ha ".repeat(50)), None);
        assert_eq!(looping_end(&"ha ".repeat(54)), Some(0..162));
        assert_eq!(looping_end(&"日本".repeat(40)), Some(0..240));
        assert_eq!(looping_end(""), None);
    }

    #[test]
    fn what_counts_up_is_no_loop() {
        let rows: Vec<String> = (100..140).map(|n| format!("| {n} | yes |\n")).collect();
        assert_eq!(looping_end(&rows.concat()), None);
        let dashes = "-".repeat(100);
        assert_eq!(looping_end(&dashes), None);
    }
}
