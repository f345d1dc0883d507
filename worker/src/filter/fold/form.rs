//! What folding knows of each character: its plainest form, and what it passes for. Asked of Unicode's
//! tables once, for the 256 characters of a page when a text first has one of them.

use std::sync::OnceLock;

use unicode_normalization::char::{compose, decompose_compatible, is_combining_mark};
use unicode_security::confusable_detection::skeleton;

/// Characters of a page.
const PAGE_CHARS: usize = 256;
/// Pages of all characters.
const PAGES_MAX: usize = (char::MAX as usize + 1) / PAGE_CHARS;

/// How a character is folded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// It has one plainest form, whatever stands beside it.
    Letter,
    /// Its plainest form is several characters, or belongs to the character before.
    Several,
    /// A mark on the character before.
    Mark,
    /// It shows nothing.
    Hidden,
    /// It stands for an ASCII character, and shows nothing.
    Tag,
}

/// Its lower case belongs to a word.
pub(super) const WORD: u8 = 1;
/// It is an ASCII letter.
pub(super) const ASCII: u8 = 1 << 1;
/// It passes for an ASCII letter or digit that it is not.
pub(super) const DISGUISE: u8 = 1 << 2;
/// It does not keep a word from being Latin: it is ASCII, passes for that, or is no letter.
pub(super) const LATIN: u8 = 1 << 3;
/// Marks make another letter of it: it is of an alphabet whose letters with marks are characters.
pub(super) const COMPOSES: u8 = 1 << 4;
/// Joiners after it mean something: in Arabic and its relatives, in the scripts of India, in Mongolian,
/// and in emoji.
pub(super) const JOINS: u8 = 1 << 5;
/// The character takes as many bytes as what it is folded to, which is one character.
pub(super) const SAME_SIZE: u8 = 1 << 6;

/// A character's form.
#[derive(Debug, Clone, Copy)]
pub(super) struct Form {
    /// The plainest one, of a letter; the character itself otherwise.
    pub(super) plain: char,
    pub(super) kind: Kind,
    /// What is true of the plainest form: the constants above.
    pub(super) traits: u8,
    /// What it passes for; 0 where that is nothing.
    pub(super) latin: u8,
    /// The plainest form in lower case, as UTF-8.
    lower: [u8; 4],
    lower_bytes: u8,
}

impl Form {
    /// The form of a character.
    #[inline(always)]
    pub(super) fn of(char: char) -> &'static Self {
        static PAGES: [OnceLock<Box<[Form]>>; PAGES_MAX] = [const { OnceLock::new() }; PAGES_MAX];
        let code = u32::from(char) as usize;
        let page = PAGES[code / PAGE_CHARS].get_or_init(|| page(code / PAGE_CHARS));
        &page[code % PAGE_CHARS]
    }

    pub(super) fn has(&self, traits: u8) -> bool {
        self.traits & traits != 0
    }

    /// Whether it parts words.
    pub(super) fn parts(&self) -> bool {
        self.kind == Kind::Letter && !self.has(WORD)
    }

    /// Adds it in lower case to a text.
    #[expect(clippy::inline_always, reason = "as above")]
    #[inline(always)]
    pub(super) fn push_lower(&self, text: &mut Vec<u8>) {
        let end = text.len() + usize::from(self.lower_bytes);
        // As many bytes each time, which is one instruction.
        text.extend_from_slice(&self.lower);
        text.truncate(end);
    }

    fn new(char: char) -> Self {
        let (kind, plain) = plainest(char);
        let latin = lookalike(plain);
        let lower = match plain {
            'ß' | 'ẞ' => "ss".to_owned(),
            'ς' => "σ".to_owned(),
            plain => plain.to_lowercase().collect(),
        };
        let mut bytes = [0; 4];
        bytes[..lower.len()].copy_from_slice(lower.as_bytes());
        let same = lower.len() == char.len_utf8() && lower.chars().count() == 1;
        let traits = [
            (WORD, is_word(plain)),
            (ASCII, plain.is_ascii_alphabetic()),
            (DISGUISE, latin.is_some()),
            (
                LATIN,
                latin.is_some() || plain.is_ascii() || !plain.is_alphabetic(),
            ),
            (COMPOSES, has_letters_with_marks(plain)),
            (JOINS, is_joined(plain)),
            (SAME_SIZE, kind == Kind::Letter && same),
        ];
        Self {
            plain,
            kind,
            traits: traits
                .iter()
                .filter(|(_, holds)| *holds)
                .fold(0, |traits, (one, _)| traits | one),
            latin: latin.unwrap_or(0),
            lower: bytes,
            lower_bytes: lower.len().try_into().unwrap_or(4),
        }
    }
}

fn page(number: usize) -> Box<[Form]> {
    let codes = (number * PAGE_CHARS..).take(PAGE_CHARS);
    let chars = codes.map(|code| u32::try_from(code).ok().and_then(char::from_u32));
    // No text has what is no character.
    chars.map(|char| Form::new(char.unwrap_or('\0'))).collect()
}

/// How a character is folded, and its plainest form. Ideographs and Hangul syllables are their own.
fn plainest(char: char) -> (Kind, char) {
    if tag(char).is_some() {
        return (Kind::Tag, char);
    }
    if is_ignorable(char) {
        return (Kind::Hidden, char);
    }
    if matches!(char, '\u{3400}'..='\u{9FFF}' | '\u{AC00}'..='\u{D7A3}') {
        return (Kind::Letter, char);
    }
    let mut parts = Vec::new();
    decompose_compatible(char, |part| parts.push(part));
    let [first, marks @ ..] = parts.as_slice() else {
        return (Kind::Several, char);
    };
    if is_combining_mark(*first) {
        let alone = marks.is_empty() && *first == char;
        let kind = if alone { Kind::Mark } else { Kind::Several };
        return (kind, char);
    }
    let mut plain = shown(*first);
    for mark in marks {
        if !is_combining_mark(*mark) || !has_letters_with_marks(plain) {
            return (Kind::Several, char);
        }
        plain = compose(plain, *mark).unwrap_or(plain);
    }
    (Kind::Letter, plain)
}

/// What stands for a decomposed character that is no mark: white space is a space, what is neither letter
/// nor digit a dash.
fn shown(char: char) -> char {
    match char {
        char if char.is_whitespace() => ' ',
        char if char.is_alphanumeric() || char.is_ascii() => char,
        '\u{2018}' | '\u{2019}' | '\u{02BC}' => '\'',
        _ => '-',
    }
}

/// Whether a character belongs to a word.
pub(in crate::filter) fn is_word(char: char) -> bool {
    char.is_alphanumeric() || is_combining_mark(char) || is_joiner(char)
}

/// Characters that are not shown: `Default_Ignorable_Code_Point` of Unicode.
pub(super) fn is_ignorable(char: char) -> bool {
    matches!(char,
        '\u{00AD}' | '\u{034F}' | '\u{061C}' | '\u{115F}'..='\u{1160}' | '\u{17B4}'..='\u{17B5}'
        | '\u{180B}'..='\u{180F}' | '\u{200B}'..='\u{200F}' | '\u{202A}'..='\u{202E}'
        | '\u{2060}'..='\u{206F}' | '\u{3164}' | '\u{FE00}'..='\u{FE0F}' | '\u{FEFF}'
        | '\u{FFA0}' | '\u{FFF0}'..='\u{FFF8}' | '\u{1BCA0}'..='\u{1BCA3}'
        | '\u{1D173}'..='\u{1D17A}' | '\u{E0000}'..='\u{E0FFF}')
}

/// As [`is_ignorable`], from the table.
pub(in crate::filter) fn is_hidden(char: char) -> bool {
    matches!(Form::of(char).kind, Kind::Hidden | Kind::Tag)
}

/// Whether a character that is not shown may begin with this byte.
pub(in crate::filter) fn may_hide(byte: u8) -> bool {
    /// Those that do.
    static HIDING: [bool; 256] = {
        let mut hiding = [false; 256];
        let first = [0xC2, 0xCD, 0xD8, 0xE1, 0xE2, 0xE3, 0xEF, 0xF0, 0xF3_u8];
        let mut n = 0;
        while n < first.len() {
            hiding[first[n] as usize] = true;
            n += 1;
        }
        hiding
    };
    HIDING[usize::from(byte)]
}

/// The ASCII character that a tag character stands for.
pub(in crate::filter) fn tag(char: char) -> Option<char> {
    let code = u32::from(char).checked_sub(0xE0000)?;
    char::from_u32(code).filter(|char| matches!(char, ' '..='~'))
}

pub(super) fn is_joiner(char: char) -> bool {
    matches!(char, '\u{200C}' | '\u{200D}')
}

fn is_joined(char: char) -> bool {
    matches!(char,
        '\u{0600}'..='\u{08FF}' | '\u{0900}'..='\u{0DFF}' | '\u{1800}'..='\u{18AF}'
        | '\u{FB50}'..='\u{FDFF}' | '\u{FE70}'..='\u{FEFE}' | '\u{2600}'..='\u{27BF}'
        | '\u{1F000}'..='\u{1FAFF}')
}

/// Latin, Greek, Cyrillic.
fn has_letters_with_marks(char: char) -> bool {
    char.is_ascii_alphanumeric()
        || matches!(char, '\u{00C0}'..='\u{052F}' | '\u{1E00}'..='\u{1FFF}')
}

/// The ASCII letter or digit, in lower case, that a character of another script passes for, by the
/// confusables of UTS 39. The lower case is asked first: a capital iota looks like an l there, and its
/// small letter like the i that is meant.
fn lookalike(char: char) -> Option<u8> {
    if char.is_ascii() {
        return None;
    }
    let prototype = |char: char| {
        let mut buffer = [0; 4];
        let mut looks = skeleton(char.encode_utf8(&mut buffer));
        let (Some(one), None) = (looks.next(), looks.next()) else {
            return None;
        };
        let one = u8::try_from(one).ok()?;
        one.is_ascii_alphanumeric()
            .then(|| one.to_ascii_lowercase())
    };
    let mut lower = char.to_lowercase();
    let lower = lower.next().filter(|lower| *lower != char);
    lower.and_then(prototype).or_else(|| prototype(char))
}
