//! Keyword rules: whole words of a list, however they are written.
//!
//! A keyword is looked for twice: in the folded text, and in what is left when digits and signs are
//! read as the letters they pass for and what separates letters of a word is left out (`h4te`,
//! `h.a.t.e`, `h a t e`). Nothing is found inside a longer word, unless the keyword ends in `*`.

use aho_corasick::{AhoCorasick, BuildError};

use super::find::{Finding, Findings};
use super::fold::{Folded, fold, is_unspaced, is_word, pieces};

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
            let pattern = fold(stem).text().to_owned();
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
        for (at, piece) in pieces(text) {
            let folded = fold(piece);
            self.look_folded(&folded, piece, at, findings);
            self.look_bare(&folded, piece, at, findings);
        }
    }

    fn look_folded(&self, folded: &Folded, piece: &str, at: usize, findings: &mut Findings) {
        let text = folded.text();
        for found in self.folded.find_overlapping_iter(text) {
            let Some(word) = self.words.get(found.pattern().as_usize()) else {
                continue;
            };
            let blocks =
                |char: Option<char>| char.is_some_and(|char| is_word(char) && !is_unspaced(char));
            let before = text
                .get(..found.start())
                .and_then(|text| text.chars().next_back());
            let after = text.get(found.end()..).and_then(|text| text.chars().next());
            if word.begins && blocks(before) || word.ends && blocks(after) {
                continue;
            }
            let span = folded.span(found.range(), piece);
            let original = piece.get(span.clone()).unwrap_or_default();
            let score = if original.to_lowercase() == word.written {
                WRITTEN
            } else {
                ALIKE
            };
            findings.push(Finding::new(
                "keyword",
                at + span.start..at + span.end,
                score,
            ));
        }
    }

    fn look_bare(&self, folded: &Folded, piece: &str, at: usize, findings: &mut Findings) {
        let bare = Bare::of(folded);
        for found in self.bare.find_overlapping_iter(&bare.bytes) {
            let Some(word) = self.words.get(found.pattern().as_usize()) else {
                continue;
            };
            if let Some(range) = bare.whole(found.range(), word.ends) {
                let span = folded.span(range, piece);
                findings.push(Finding::new(
                    "keyword",
                    at + span.start..at + span.end,
                    SPELLED,
                ));
            }
        }
    }
}

/// The disguised words of a folded text, one after another, as bare letters.
#[derive(Debug, Default)]
struct Bare {
    bytes: Vec<u8>,
    /// Of each byte: where it comes from, and what stands before it.
    places: Vec<(usize, Seam)>,
}

/// What stands before a letter of a disguised word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seam {
    /// Nothing: it is the first.
    Start,
    /// What was left out between two parts.
    Joint,
    /// As before, in a word of single letters, which is found as a whole or not at all.
    Spelled,
    /// Another letter.
    Inside,
}

impl Bare {
    fn of(folded: &Folded) -> Self {
        let text = folded.bytes();
        let mut bare = Self::default();
        let mut single = Singles::default();
        let (mut start, mut letters_alone) = (0, true);
        for (at, byte) in text.iter().chain([&b' ']).enumerate() {
            match CLASSES[usize::from(*byte)] {
                Class::Letter => {}
                Class::Figure | Class::Glue => letters_alone = false,
                Class::Break => {
                    // Most words are several letters and nothing else: no disguise.
                    let char_bytes = text
                        .get(start)
                        .map_or(1, |first| if first.is_ascii() { 1 } else { 4 });
                    let several = at - start > char_bytes;
                    if at > start && !(letters_alone && several) {
                        bare.push_block(start..at, text, &mut single);
                    }
                    (start, letters_alone) = (at + 1, true);
                }
            }
        }
        single.flush(text, &mut bare);
        // An i that is written as an l of another script, or the other way round.
        for word in folded.disguised() {
            bare.push_word(text.get(word.clone()).unwrap_or_default(), word.start);
        }
        bare
    }

    /// Adds what stands between two breaks, if it may be a disguised word.
    fn push_block(&mut self, block: std::ops::Range<usize>, text: &[u8], single: &mut Singles) {
        let glue = |byte: &&u8| class(**byte) == Class::Glue;
        let before = text[block.clone()].iter().take_while(glue).count();
        let start = block.start + before;
        let word = &text[start..block.end];
        let after = word.iter().rev().take_while(|byte| is_end(**byte)).count();
        let word = &word[..word.len() - after];
        let has = |letters| {
            word.iter()
                .any(|byte| (class(*byte) == Class::Letter) == letters)
        };
        if is_one_char(word) {
            single.push(start, text, self);
        } else if has(true) && has(false) {
            self.push_word(word, start);
        }
    }

    fn push_word(&mut self, word: &[u8], start: usize) {
        let mut parts = word.split(|byte| class(*byte) == Class::Glue);
        let spelled = parts.all(|part| part.is_empty() || is_one_char(part));
        let mut seam = Seam::Start;
        for (offset, byte) in word.iter().enumerate() {
            match letter(*byte) {
                Some(letter) => {
                    self.bytes.push(letter);
                    self.places.push((start + offset, seam));
                    seam = Seam::Inside;
                }
                None if seam == Seam::Inside => {
                    seam = if spelled { Seam::Spelled } else { Seam::Joint };
                }
                None => {}
            }
        }
    }

    /// Where a find comes from, if it begins and ends where parts of a word do.
    fn whole(&self, found: std::ops::Range<usize>, ends: bool) -> Option<std::ops::Range<usize>> {
        let (start, first) = *self.places.get(found.start)?;
        let (last, _) = *self.places.get(found.end.checked_sub(1)?)?;
        let next = self
            .places
            .get(found.end)
            .map_or(Seam::Start, |(_, seam)| *seam);
        let inside = self.places.get(found.start + 1..found.end)?;
        let across = inside.iter().any(|(_, seam)| *seam == Seam::Start);
        let whole = matches!(first, Seam::Start | Seam::Joint)
            && (matches!(next, Seam::Start | Seam::Joint) || !ends);
        (whole && !across).then_some(start..last + 1)
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
            let mut seam = Seam::Start;
            for place in &self.places {
                let rest = folded.get(*place..).unwrap_or_default();
                let length = 1 + rest
                    .iter()
                    .skip(1)
                    .take_while(|byte| is_later(**byte))
                    .count();
                for (offset, byte) in rest.iter().take(length).enumerate() {
                    if let Some(letter) = letter(*byte) {
                        bare.bytes.push(letter);
                        bare.places.push((place + offset, seam));
                        seam = Seam::Inside;
                    }
                }
                seam = Seam::Spelled;
            }
        }
        self.places.clear();
    }
}

/// What a byte of folded text is in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Letter,
    /// Passes for a letter.
    Figure,
    /// May be left out between letters.
    Glue,
    /// Ends the word. An apostrophe does: `he'll` is no `hell`.
    Break,
}

/// The class of each byte.
static CLASSES: [Class; 256] = {
    let mut classes = [Class::Break; 256];
    let mut byte = 0;
    while byte < 256 {
        #[expect(clippy::cast_possible_truncation, reason = "it is below 256")]
        let written = byte as u8;
        classes[byte] = class(written);
        byte += 1;
    }
    classes
};

const fn class(byte: u8) -> Class {
    match byte {
        b'a'..=b'z' | 0x80.. => Class::Letter,
        b'0'..=b'9' | b'@' | b'$' | b'!' | b'|' | b'+' => Class::Figure,
        b'.' | b'-' | b'_' | b'*' | b'~' | b'^' | b'=' | b'#' => Class::Glue,
        _ => Class::Break,
    }
}

/// Whether a byte at the end of a word does not belong to it.
fn is_end(byte: u8) -> bool {
    class(byte) == Class::Glue || matches!(byte, b'!' | b'|' | b'+')
}

fn is_one_char(word: &[u8]) -> bool {
    word.iter().filter(|byte| !is_later(**byte)).count() == 1
}

/// Whether a byte is one of a character after its first.
fn is_later(byte: u8) -> bool {
    byte & 0xC0 == 0x80
}

/// The letter that a byte is or passes for; i and l are one, since 1 is both.
fn letter(byte: u8) -> Option<u8> {
    Some(match byte {
        b'l' | b'1' | b'!' | b'|' => b'i',
        b'0' => b'o',
        b'2' => b'z',
        b'3' => b'e',
        b'4' | b'@' => b'a',
        b'5' | b'$' => b's',
        b'6' | b'9' => b'g',
        b'7' | b'+' => b't',
        b'8' => b'b',
        b'a'..=b'z' | 0x80.. => byte,
        _ => return None,
    })
}
