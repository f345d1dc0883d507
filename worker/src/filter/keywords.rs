//! Keyword rules: whole words of a list, however they are written.
//!
//! A keyword is looked for twice: in the folded text, and in what is left when digits and signs are
//! read as the letters they pass for and what separates letters of a word is left out (`h4te`,
//! `h.a.t.e`, `h a t e`). Nothing is found inside a longer word, unless the keyword ends in `*`.

use std::ops::Range;

use aho_corasick::{AhoCorasick, BuildError};

use super::find::{Finding, Findings};
use super::fold::{Folded, fold, is_later, is_word, pieces};

/// Bytes of a keyword.
pub(super) const KEYWORD_BYTES_MAX: usize = 256;
/// Keywords of a list.
pub(super) const KEYWORDS_MAX: usize = 10_000;
/// How sure it is: written as in the list, written to look like it, spelled out or in leetspeak.
const WRITTEN: f32 = 1.0;
const ALIKE: f32 = 0.9;
const SPELLED: f32 = 0.8;
/// Single letters in a row that may be a word spelled out.
const SPELLED_LETTERS_MIN: usize = 3;

/// The name of its only rule.
pub(super) const RULES: &[&str] = &["keyword"];

/// A list of keywords, ready to be looked for.
#[derive(Debug)]
pub(super) struct Keywords {
    words: Vec<Word>,
    folded: AhoCorasick,
    bare: AhoCorasick,
}

#[derive(Debug)]
struct Word {
    /// In lower case.
    written: String,
    /// Whether it must not stand after a letter, and before one.
    begins: bool,
    ends: bool,
}

impl Word {
    /// Whether this is how it is written.
    fn is(&self, original: &str) -> bool {
        original.eq_ignore_ascii_case(&self.written)
            || !original.is_ascii() && original.to_lowercase() == self.written
    }
}

/// Why a keyword cannot be looked for.
#[derive(Debug, thiserror::Error)]
pub(super) enum KeywordError {
    #[error("`{0}` has no letter or digit")]
    Empty(String),
    #[error("a keyword of {0} bytes is over the limit of {KEYWORD_BYTES_MAX}")]
    Long(usize),
    #[error("{0} keywords are over the limit of {KEYWORDS_MAX}")]
    Many(usize),
    #[error("the keywords are too large together: {0}")]
    Large(#[from] BuildError),
}

impl Keywords {
    pub(super) fn new(list: &[String]) -> Result<Self, KeywordError> {
        if list.len() > KEYWORDS_MAX {
            return Err(KeywordError::Many(list.len()));
        }
        let mut words = Vec::new();
        let (mut folded, mut bare) = (Vec::new(), Vec::new());
        for keyword in list {
            if keyword.len() > KEYWORD_BYTES_MAX {
                return Err(KeywordError::Long(keyword.len()));
            }
            let stem = keyword.trim_end_matches('*').trim();
            let pattern = String::from_utf8_lossy(fold(stem).bytes()).into_owned();
            let edge = |char: Option<char>| char.is_some_and(|char| !is_unspaced(char));
            let letters: Vec<u8> = pattern.bytes().filter_map(letter).collect();
            if !pattern.contains(char::is_alphanumeric) {
                return Err(KeywordError::Empty(keyword.clone()));
            }
            words.push(Word {
                written: stem.to_lowercase(),
                begins: edge(pattern.chars().next()),
                ends: edge(pattern.chars().next_back()) && !keyword.ends_with('*'),
            });
            folded.push(pattern);
            bare.push(letters);
        }
        Ok(Self {
            words,
            folded: AhoCorasick::new(folded)?,
            bare: AhoCorasick::new(bare)?,
        })
    }

    pub(super) fn look(&self, text: &str, findings: &mut Findings) {
        let (mut folded, mut bare) = (Folded::default(), Bare::default());
        for (at, piece) in pieces(text) {
            if findings.overflowed() {
                return;
            }
            folded.read(piece);
            self.look_folded(&folded, piece, at, findings);
            bare.read(&folded);
            self.look_bare((&bare, &folded), piece, at, findings);
        }
    }

    fn look_folded(&self, folded: &Folded, piece: &str, at: usize, findings: &mut Findings) {
        let blocks = |char: char| is_word(char) && !is_unspaced(char);
        for found in self.folded.find_overlapping_iter(folded.bytes()) {
            let Some(word) = self.words.get(found.pattern().as_usize()) else {
                continue;
            };
            let [before, after] = folded.beside(&found.range());
            if word.begins && before.is_some_and(blocks) || word.ends && after.is_some_and(blocks) {
                continue;
            }
            let span = folded.span(found.range(), piece);
            let original = piece.get(span.clone()).unwrap_or_default();
            let score = if word.is(original) { WRITTEN } else { ALIKE };
            let span = at + span.start..at + span.end;
            findings.push(Finding::new("keyword", span, score));
        }
    }

    fn look_bare(
        &self,
        (bare, folded): (&Bare, &Folded),
        piece: &str,
        at: usize,
        findings: &mut Findings,
    ) {
        let mut within = 0;
        for found in self.bare.find_overlapping_iter(bare.bytes()) {
            let Some(word) = self.words.get(found.pattern().as_usize()) else {
                continue;
            };
            // Finds come in the order of their ends.
            while bare
                .words
                .get(within + 1)
                .is_some_and(|next| next.start < found.end())
            {
                within += 1;
            }
            if let Some(range) = bare.whole(found.range(), within, word.ends) {
                let span = folded.span(range, piece);
                let span = at + span.start..at + span.end;
                findings.push(Finding::new("keyword", span, SPELLED));
            }
        }
    }
}

/// The disguised words of a folded text, one after another, as bare letters.
#[derive(Debug, Default)]
struct Bare {
    /// As long as the longest text may need.
    bytes: Vec<u8>,
    /// Where in the folded text each is. A piece of it is far below 2^32 bytes.
    places: Vec<u32>,
    /// How many of both count.
    count: usize,
    words: Vec<BareWord>,
}

/// A disguised word.
#[derive(Debug, Clone, Copy)]
struct BareWord {
    /// Which byte is its first.
    start: usize,
    /// Whether its letters stand alone: it is found as a whole or not at all.
    spelled: bool,
}

impl Bare {
    /// Reads a folded text, in the place of the one before.
    fn read(&mut self, folded: &Folded) {
        let text = folded.bytes();
        self.words.clear();
        self.count = 0;
        // A disguised word may be there twice, and a last byte is written that does not count.
        let most = 2 * text.len() + 1;
        if self.bytes.len() < most {
            self.bytes.resize(most, 0);
            self.places.resize(most, 0);
        }
        let mut single = Singles::default();
        let mut start = 0;
        while start < text.len() {
            let mut seen = 0;
            let block = text[start..].iter();
            let block = block.take_while(|byte| {
                let class = class(**byte);
                seen |= class;
                class != BREAK
            });
            let end = start + block.count();
            // Most words are several letters and nothing else: no disguise.
            if seen & !LETTER != 0 || is_one_char(&text[start..end]) {
                self.push_block(start..end, text, &mut single);
            }
            start = end + 1;
        }
        single.flush(text, self);
        // An i that is written as an l of another script, or the other way round.
        for word in folded.disguised() {
            self.begin(false);
            self.push(text.get(word.clone()).unwrap_or_default(), word.start);
        }
    }

    /// Adds what stands between two breaks, if it may be a disguised word.
    fn push_block(&mut self, block: Range<usize>, text: &[u8], single: &mut Singles) {
        let word = &text[block.clone()];
        let before = word.iter().position(|byte| class(*byte) & GLUE == 0);
        let last = word.iter().rposition(|byte| class(*byte) & END == 0);
        let (Some(before), Some(last)) = (before, last) else {
            return;
        };
        let Some(word) = word.get(before..=last) else {
            return;
        };
        let start = block.start + before;
        if is_one_char(word) {
            return single.push(start, text, self);
        }
        // No two of its characters stand together.
        let (mut seen, mut spelled, mut inside) = (0, true, false);
        for byte in word {
            let class = class(*byte);
            seen |= class;
            spelled &= is_later(*byte) || class & GLUE != 0 || !inside;
            inside = class & GLUE == 0;
        }
        if seen & LETTER != 0 && seen != LETTER {
            self.begin(spelled);
            self.push(word, start);
        }
    }

    /// What is pushed from here on is another word.
    fn begin(&mut self, spelled: bool) {
        let start = self.count;
        self.words.push(BareWord { start, spelled });
    }

    /// Adds letters to the last word, and leaves out what is none.
    fn push(&mut self, part: &[u8], start: usize) {
        let start = u32::try_from(start).unwrap_or(u32::MAX);
        let bytes = &mut self.bytes[self.count..=self.count + part.len()];
        let places = &mut self.places[self.count..=self.count + part.len()];
        let mut count = 0;
        for (byte, place) in part.iter().zip(start..) {
            let (class, letter) = BYTES[usize::from(*byte)];
            // What is no letter is written over by the next one.
            bytes[count] = letter;
            places[count] = place;
            count += usize::from(class & (LETTER | FIGURE) != 0);
        }
        self.count += count;
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.count]
    }

    /// Where a find comes from, if all of it is in the word that it ends in, and begins and ends where parts of
    /// that do.
    fn whole(&self, found: Range<usize>, word: usize, ends: bool) -> Option<Range<usize>> {
        let (word, next) = (self.words.get(word)?, self.words.get(word + 1));
        let end = next.map_or(self.count, |next| next.start);
        let parts = |at: usize| {
            let apart = |at: usize| self.places[at] - self.places[at - 1] > 1;
            at == word.start || at == end || !word.spelled && apart(at)
        };
        if found.start < word.start || !parts(found.start) || ends && !parts(found.end) {
            return None;
        }
        let place = |at: usize| Some(*self.places.get(at)? as usize);
        Some(place(found.start)?..place(found.end.checked_sub(1)?)? + 1)
    }
}

/// Letters that stand alone, one after another at the same distance.
#[derive(Debug, Default)]
struct Singles {
    /// Where each is.
    places: Vec<usize>,
}

impl Singles {
    fn push(&mut self, at: usize, folded: &[u8], bare: &mut Bare) {
        let [.., before, last] = self.places.as_slice() else {
            if self.places.last().is_some_and(|last| at - last > 4) {
                self.places.clear();
            }
            return self.places.push(at);
        };
        if at - last != last - before {
            let last = *last;
            self.flush(folded, bare);
            // The wider gap parts words, the narrower one may begin the next.
            if at - last <= 2 {
                self.places.push(last);
            }
        }
        self.places.push(at);
    }

    fn flush(&mut self, folded: &[u8], bare: &mut Bare) {
        if self.places.len() >= SPELLED_LETTERS_MIN {
            bare.begin(true);
            for place in &self.places {
                let rest = folded.get(*place..).unwrap_or_default();
                let later = rest.iter().skip(1).take_while(|byte| is_later(**byte));
                let letter = rest.get(..=later.count()).unwrap_or_default();
                bare.push(letter, *place);
            }
        }
        self.places.clear();
    }
}

/// What a byte of folded text is in a word. An apostrophe ends it: `he'll` is no `hell`.
const BREAK: u8 = 0;
const LETTER: u8 = 1;
/// Passes for a letter.
const FIGURE: u8 = 2;
/// May be left out between letters.
const GLUE: u8 = 4;
/// Does not belong to the word that it ends.
const END: u8 = 8;

/// The class of each byte, and the letter that it is or passes for; i and l are one, since 1 is both.
static BYTES: [(u8, u8); 256] = {
    let mut bytes = [(BREAK, 0); 256];
    let mut byte: u8 = 0;
    loop {
        bytes[byte as usize] = match byte {
            b'l' => (LETTER, b'i'),
            b'a'..=b'z' | 0x80.. => (LETTER, byte),
            b'1' => (FIGURE, b'i'),
            b'!' | b'|' => (FIGURE | END, b'i'),
            b'0' => (FIGURE, b'o'),
            b'2' => (FIGURE, b'z'),
            b'3' => (FIGURE, b'e'),
            b'4' | b'@' => (FIGURE, b'a'),
            b'5' | b'$' => (FIGURE, b's'),
            b'6' | b'9' => (FIGURE, b'g'),
            b'7' => (FIGURE, b't'),
            b'+' => (FIGURE | END, b't'),
            b'8' => (FIGURE, b'b'),
            b'.' | b'-' | b'_' | b'*' | b'~' | b'^' | b'=' | b'#' => (GLUE | END, 0),
            _ => (BREAK, 0),
        };
        if byte == u8::MAX {
            break bytes;
        }
        byte += 1;
    }
};

fn class(byte: u8) -> u8 {
    BYTES[usize::from(byte)].0
}

fn letter(byte: u8) -> Option<u8> {
    let (class, letter) = BYTES[usize::from(byte)];
    (class & (LETTER | FIGURE) != 0).then_some(letter)
}

fn is_one_char(word: &[u8]) -> bool {
    let (first, more) = match word {
        [] => return false,
        [first, more @ ..] => (first, more),
    };
    more.len() < 4 && !is_later(*first) && more.iter().all(|byte| is_later(*byte))
}

/// Whether words of this character's script stand without space between them.
fn is_unspaced(char: char) -> bool {
    matches!(char,
        '\u{0E00}'..='\u{0EFF}' | '\u{1000}'..='\u{109F}' | '\u{1780}'..='\u{17FF}'
        | '\u{3040}'..='\u{30FF}' | '\u{3400}'..='\u{9FFF}' | '\u{F900}'..='\u{FAFF}'
        | '\u{20000}'..='\u{3FFFF}')
}
