//! Text as the rules read it: one spelling for everything that looks or reads the same, and the way
//! back to the original, which is the only text that anybody is ever given.
//!
//! Compatibility forms are decomposed (full width, ligatures, mathematical letters), characters
//! that show nothing are left out, letters of other scripts that pass for Latin ones become those
//! (only in words that have no letter which does not), upper case becomes lower case. What is ASCII
//! is copied in one go, since most of it is; a word is written as if it were no disguise, and once
//! more if it is one.

mod form;

use std::ops::Range;

use unicode_normalization::char::{compose, decompose_compatible, is_combining_mark};

use self::form::is_ignorable;
use self::form::{ASCII, COMPOSES, DISGUISE, Form, JOINS, Kind, LATIN, SAME_SIZE, WORD, is_joiner};
pub(super) use self::form::{is_hidden, is_word, may_hide, tag};

/// Bytes of text that are folded at once, so that what is made of it stays in the processor's cache.
const PIECE_BYTES: usize = 128 * 1024;
/// Bytes that a piece shares with the one before it, so that nothing is cut in two for both.
const OVERLAP_BYTES: usize = 4 * 1024;
/// Letters that hidden tag characters must spell before they count as text.
const TAG_LETTERS_MIN: usize = 3;
/// Tags after it name the region whose flag it is.
pub(super) const BLACK_FLAG: char = '\u{1F3F4}';

const _: () = assert!(2 * OVERLAP_BYTES < PIECE_BYTES);

/// What each ASCII byte is folded to.
static ASCII_FOLDED: [u8; 256] = {
    let mut folded = [0; 256];
    let mut byte: u8 = 0;
    while byte < 128 {
        folded[byte as usize] = match byte {
            b'\t' | b'\n' | b'\r' => b' ',
            byte => byte.to_ascii_lowercase(),
        };
        byte += 1;
    }
    folded
};

/// A folded text.
#[derive(Debug, Default)]
pub(super) struct Folded {
    /// UTF-8.
    bytes: Vec<u8>,
    /// Where the distance to the original changes, in order.
    anchors: Vec<Anchor>,
    /// From the last anchor on: how far the original is ahead of the folded text, modulo 2^64.
    shift: usize,
    /// Words with a letter that passes for another.
    disguised: Vec<Range<usize>>,
}

#[derive(Debug, Clone, Copy)]
struct Anchor {
    folded: usize,
    original: usize,
}

/// A character on its way, and where the one it came from begins.
#[derive(Debug, Clone, Copy)]
struct Letter {
    form: &'static Form,
    at: usize,
}

/// The text in pieces that overlap, each with the place where it begins. They are cut at white
/// space where there is any.
pub(super) fn pieces(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut next = Some(0);
    std::iter::from_fn(move || {
        let start = next?;
        let limit = text.floor_char_boundary(start + PIECE_BYTES);
        let end = if limit == text.len() {
            limit
        } else {
            let cut = text[start..limit].rfind(char::is_whitespace);
            // Far enough on, or the overlap would lead back to the same place.
            cut.filter(|cut| *cut >= 2 * OVERLAP_BYTES)
                .map_or(limit, |cut| start + cut)
        };
        next = (end < text.len()).then(|| {
            let again = text.floor_char_boundary(end - OVERLAP_BYTES);
            let space = text[again..end].find(char::is_whitespace);
            space.map_or(again, |space| again + space)
        });
        Some((start, &text[start..end]))
    })
}

/// Folds a text.
pub(super) fn fold(text: &str) -> Folded {
    let mut folded = Folded::default();
    folded.read(text);
    folded
}

impl Folded {
    /// Folds a text, in the place of the one before.
    pub(super) fn read(&mut self, text: &str) {
        self.bytes.clear();
        self.anchors.clear();
        self.disguised.clear();
        self.shift = 0;
        self.bytes.reserve(text.len() + 4);
        let mut folder = Folder {
            text,
            letters: Vec::new(),
            folded: self,
        };
        let bytes = text.as_bytes();
        let mut done = 0;
        while let Some(ahead) = bytes[done..].iter().position(|byte| !byte.is_ascii()) {
            let at = done + ahead;
            let before = bytes[done..at].iter().rev();
            let word = before.take_while(|byte| byte.is_ascii_alphanumeric());
            let start = at - word.count();
            folder.copy_ascii(done..start);
            done = folder.fold_word(start);
        }
        folder.copy_ascii(done..text.len());
    }

    /// The folded text, which is UTF-8.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Where words have a letter that only passes for the one it is folded to.
    pub(super) fn disguised(&self) -> &[Range<usize>] {
        &self.disguised
    }

    /// The characters before and behind a range of the folded text.
    pub(super) fn beside(&self, range: &Range<usize>) -> [Option<char>; 2] {
        let begins = |byte: &u8| !is_later(*byte);
        let before = self.bytes.get(..range.start).unwrap_or_default();
        let before = before.iter().rposition(begins).map(|at| &before[at..]);
        let after = self.bytes.get(range.end..).unwrap_or_default();
        let more = after.iter().skip(1).take_while(|byte| is_later(**byte));
        let after = after.get(..=more.count());
        [before, after].map(|char| match char? {
            [byte] => Some(char::from(*byte)),
            bytes => std::str::from_utf8(bytes).ok()?.chars().next(),
        })
    }

    /// Where in `original`, which was folded, the characters of this range come from.
    pub(super) fn span(&self, range: Range<usize>, original: &str) -> Range<usize> {
        // What a character is folded to may be longer than it.
        let start = original.floor_char_boundary(self.place(range.start));
        let last = range.end.saturating_sub(1).max(range.start);
        let until = self.bytes.get(..=last).unwrap_or_default().iter();
        let later = until.rev().take_while(|byte| is_later(**byte)).count();
        let last = original.floor_char_boundary(self.place(last - later));
        let rest = original.get(last..).unwrap_or_default();
        let mut chars = rest.chars();
        let mut end = last + chars.next().map_or(0, char::len_utf8);
        for follower in chars.take_while(|char| is_combining_mark(*char) || is_ignorable(*char)) {
            end += follower.len_utf8();
        }
        start..end
    }

    fn place(&self, folded: usize) -> usize {
        let after = self
            .anchors
            .partition_point(|anchor| anchor.folded <= folded);
        match after.checked_sub(1).and_then(|last| self.anchors.get(last)) {
            Some(anchor) => anchor.original + (folded - anchor.folded),
            None => folded,
        }
    }

    /// From here on the text stands for the original from `original` on.
    #[inline]
    fn anchor(&mut self, original: usize) {
        let folded = self.bytes.len();
        let shift = original.wrapping_sub(folded);
        if shift != self.shift {
            self.shift = shift;
            self.anchors.push(Anchor { folded, original });
        }
    }
}

/// Whether a byte of UTF-8 is one of a character after its first.
pub(super) fn is_later(byte: u8) -> bool {
    byte & 0xC0 == 0x80
}

/// Folds a text.
struct Folder<'a> {
    text: &'a str,
    /// Those of the word that is being folded.
    letters: Vec<Letter>,
    folded: &'a mut Folded,
}

impl Folder<'_> {
    fn copy_ascii(&mut self, range: Range<usize>) {
        self.folded.anchor(range.start);
        let bytes = self.text.as_bytes()[range].iter();
        let bytes = bytes.map(|byte| ASCII_FOLDED[usize::from(*byte)]);
        self.folded.bytes.extend(bytes);
    }

    /// Folds the word that begins at `start`, or the character that stands there and is of no word. Returns
    /// where it ends.
    fn fold_word(&mut self, start: usize) -> usize {
        self.folded.anchor(start);
        let bytes = &mut self.folded.bytes;
        let begin = bytes.len();
        let (mut any, mut all, mut count, mut end) = (0, u8::MAX, 0_usize, start);
        for char in self.text[start..].chars() {
            let form = Form::of(char);
            if form.parts() {
                if count == 0 {
                    form.push_lower(bytes);
                    return start + char.len_utf8();
                }
                break;
            }
            any |= form.traits;
            all &= form.traits;
            if all & SAME_SIZE == 0 {
                break;
            }
            form.push_lower(bytes);
            count += 1;
            end += char.len_utf8();
        }
        if all & SAME_SIZE == 0 || is_disguised(any, all, count) {
            bytes.truncate(begin);
            end = self.read_word(start);
            self.write_word();
        }
        end
    }

    /// Reads the letters of the word that begins at `start` in their plainest form, without those that show
    /// nothing. Returns where it ends.
    fn read_word(&mut self, start: usize) -> usize {
        self.letters.clear();
        let mut chars = self.text[start..].char_indices();
        while let Some((offset, char)) = chars.next() {
            let at = start + offset;
            let form = Form::of(char);
            if form.parts() {
                return at;
            }
            match form.kind {
                Kind::Letter => self.letters.push(Letter { form, at }),
                Kind::Mark => self.mark(char, at),
                Kind::Several => decompose_compatible(char, |part| {
                    if is_combining_mark(part) {
                        self.mark(part, at);
                    } else {
                        let form = Form::of(part);
                        self.letters.push(Letter { form, at });
                    }
                }),
                Kind::Hidden => {
                    let last = self.letters.last();
                    if is_joiner(char) && last.is_some_and(|last| last.form.has(JOINS)) {
                        self.letters.push(Letter { form, at });
                    }
                }
                Kind::Tag => {
                    let more = chars.as_str().chars();
                    for _ in more.take_while(|char| tag(*char).is_some()) {
                        chars.next();
                    }
                    self.read_tags(at..start + chars.offset());
                }
            }
        }
        self.text.len()
    }

    /// A mark stays where it makes a letter with what stands before it; elsewhere, on alphabets that do
    /// not need it, it is decoration.
    fn mark(&mut self, mark: char, at: usize) {
        match self.letters.last_mut() {
            Some(base) if base.form.has(COMPOSES) => {
                if let Some(made) = compose(base.form.plain, mark) {
                    base.form = Form::of(made);
                }
            }
            _ => {
                let form = Form::of(mark);
                self.letters.push(Letter { form, at });
            }
        }
    }

    /// Tags that say something are a word of their own.
    fn read_tags(&mut self, tags: Range<usize>) {
        let (before, text) = (&self.text[..tags.start], &self.text[tags.clone()]);
        let said = || {
            text.char_indices()
                .filter_map(|(at, char)| Some((at, tag(char)?)))
        };
        let letters = said().filter(|(_, char)| char.is_ascii_alphabetic());
        if before.ends_with(BLACK_FLAG) || letters.count() < TAG_LETTERS_MIN {
            return;
        }
        let letter = |(at, char)| Letter {
            form: Form::of(char),
            at: tags.start + at,
        };
        let space = letter((0, ' '));
        self.letters.push(space);
        self.letters.extend(said().map(letter));
        self.letters.push(space);
    }

    /// Writes the word that was read.
    fn write_word(&mut self) {
        let folded = &mut *self.folded;
        let same = |a: &Letter, b: &Letter| a.form.has(WORD) == b.form.has(WORD);
        for part in self.letters.chunk_by(same) {
            let traits = part.iter().map(|letter| letter.form.traits);
            let any = traits.clone().fold(0, |any, traits| any | traits);
            let all = traits.fold(u8::MAX, |all, traits| all & traits);
            let disguised = is_disguised(any, all, part.len());
            let start = folded.bytes.len();
            for Letter { form, at } in part {
                folded.anchor(*at);
                if disguised && form.has(DISGUISE) {
                    folded.bytes.push(form.latin);
                } else {
                    form.push_lower(&mut folded.bytes);
                }
            }
            if disguised {
                folded.disguised.push(start..folded.bytes.len());
            }
        }
    }
}

/// Whether a word with letters of these traits is a Latin one in disguise. A word of another script is none
/// if one of its letters is nothing else, and a letter alone is no word.
fn is_disguised(any: u8, all: u8, letters: usize) -> bool {
    any & DISGUISE != 0 && (any & ASCII != 0 || letters > 1 && all & LATIN != 0)
}

#[cfg(test)]
mod tests;
