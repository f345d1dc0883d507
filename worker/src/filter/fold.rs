//! Text as the rules read it: one spelling for everything that looks or reads the same, and the way
//! back to the original, which is the only text that anybody is ever given.
//!
//! Compatibility forms are decomposed (full width, ligatures, mathematical letters), characters
//! that show nothing are left out, letters of other scripts that pass for Latin ones become those
//! (only in words that have no letter which does not), upper case becomes lower case. What is ASCII
//! is copied in one go, since most of it is.

use std::ops::Range;
use std::sync::LazyLock;

use unicode_normalization::char::{compose, decompose_compatible, is_combining_mark};
use unicode_security::confusable_detection::skeleton;

/// Bytes of text that are folded at once, so that a long document takes little memory.
const PIECE_BYTES: usize = 256 * 1024;
/// Bytes that a piece shares with the one before it, so that nothing is cut in two for both.
const OVERLAP_BYTES: usize = 4 * 1024;
/// Letters that hidden tag characters must spell before they count as text.
const TAG_LETTERS_MIN: usize = 3;
/// Code points up to here have their look-alike in a table.
const TABLE_END: u32 = 0x3000;

const _: () = assert!(2 * OVERLAP_BYTES < PIECE_BYTES);

/// A folded text.
#[derive(Debug, Default)]
pub(super) struct Folded {
    bytes: Vec<u8>,
    /// Where the distance to the original changes, in order.
    anchors: Vec<Anchor>,
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
    char: char,
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
    let mut folded = Folded {
        bytes: Vec::with_capacity(text.len()),
        ..Folded::default()
    };
    let bytes = text.as_bytes();
    let mut done = 0;
    while let Some(ahead) = bytes[done..].iter().position(|byte| !byte.is_ascii()) {
        let at = done + ahead;
        let before = bytes[done..at].iter().rev();
        let start = at
            - before
                .take_while(|byte| byte.is_ascii_alphanumeric())
                .count();
        let ends = |char: char| char.is_ascii() && !char.is_ascii_alphanumeric();
        let end = text[at..].find(ends).map_or(text.len(), |ahead| at + ahead);
        folded.push_ascii(&bytes[done..start]);
        fold_word(&text[start..end], start, &mut folded);
        folded.anchor(end);
        done = end;
    }
    folded.push_ascii(&bytes[done..]);
    folded
}

impl Folded {
    /// The folded text.
    pub(super) fn text(&self) -> &str {
        // Only whole characters are ever pushed.
        std::str::from_utf8(&self.bytes).unwrap_or_default()
    }

    /// The same, as bytes.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Where words have a letter that only passes for the one it is folded to.
    pub(super) fn disguised(&self) -> &[Range<usize>] {
        &self.disguised
    }

    /// Where in `original`, which was folded, the characters of this range come from.
    pub(super) fn span(&self, range: Range<usize>, original: &str) -> Range<usize> {
        let start = self.place(range.start);
        let last = self.place(range.end.saturating_sub(1).max(range.start));
        let last = original.floor_char_boundary(last);
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
    fn anchor(&mut self, original: usize) {
        let folded = self.bytes.len();
        // The last anchor is that of the end.
        let known = self
            .anchors
            .last()
            .map_or(folded, |anchor| anchor.original + (folded - anchor.folded));
        if known != original {
            self.anchors.push(Anchor { folded, original });
        }
    }

    fn push_ascii(&mut self, bytes: &[u8]) {
        let fold = |byte: &u8| match byte {
            b'\t' | b'\n' | b'\r' => b' ',
            byte => byte.to_ascii_lowercase(),
        };
        self.bytes.extend(bytes.iter().map(fold));
    }

    fn push(&mut self, char: char, original: usize) {
        self.anchor(original);
        let mut buffer = [0; 4];
        self.bytes
            .extend_from_slice(char.encode_utf8(&mut buffer).as_bytes());
    }
}

/// A letter that is its own plainest form, whatever stands beside it, and takes as many bytes in lower
/// case.
#[derive(Debug, Clone, Copy)]
struct Plain {
    lower: char,
    /// Whether it may pass for a Latin one.
    passes: bool,
}

/// What is known of a letter, if it is a plain one.
fn plain(char: char) -> Option<Plain> {
    static TABLE: LazyLock<Vec<Option<Plain>>> = LazyLock::new(|| {
        let codes = (0..TABLE_END).map(|code| char::from_u32(code).and_then(seen_plain));
        codes.collect()
    });
    *TABLE.get(usize::try_from(u32::from(char)).ok()?)?
}

fn seen_plain(char: char) -> Option<Plain> {
    let alone = !char.is_ascii()
        && char.is_alphabetic()
        && !is_combining_mark(char)
        && !is_ignorable(char)
        && !matches!(char, 'ß' | 'ẞ' | 'ς');
    let mut buffer = [0; 4];
    let letters = decomposed(char.encode_utf8(&mut buffer), 0);
    let [Letter { char: same, .. }] = letters.as_slice() else {
        return None;
    };
    let mut lower = char.to_lowercase();
    let (first, more) = (lower.next()?, lower.next());
    let fits = more.is_none() && first.len_utf8() == char.len_utf8();
    (alone && *same == char && fits).then(|| Plain {
        lower: first,
        passes: lookalike(char).is_some(),
    })
}

/// Folds a word that is plain and no disguise, as most words of other scripts are; says whether it is.
fn fold_plain_word(word: &str, at: usize, folded: &mut Folded) -> bool {
    let mut chars = 0;
    let mut passes = true;
    for char in word.chars() {
        let Some(plain) = plain(char) else {
            return false;
        };
        chars += 1;
        passes &= plain.passes;
    }
    if passes && chars > 1 {
        return false;
    }
    folded.anchor(at);
    for char in word.chars() {
        let lower = plain(char).map_or(char, |plain| plain.lower);
        let mut buffer = [0; 4];
        let lower = lower.encode_utf8(&mut buffer);
        folded.bytes.extend_from_slice(lower.as_bytes());
    }
    true
}

/// Folds a run of characters, of which some are not ASCII, that begins at `at`.
fn fold_word(word: &str, at: usize, folded: &mut Folded) {
    if fold_plain_word(word, at, folded) {
        return;
    }
    let letters = decomposed(word, at);
    for part in letters.chunk_by(|a, b| is_word(a.char) == is_word(b.char)) {
        let ascii = part.iter().any(|letter| letter.char.is_ascii_alphabetic());
        let passes = |letter: &Letter| {
            !letter.char.is_alphabetic()
                || letter.char.is_ascii()
                || lookalike(letter.char).is_some()
        };
        // A word of another script is no disguise if one of its letters is nothing else, and a
        // letter alone is no word.
        let disguised = ascii || part.len() > 1 && part.iter().all(passes);
        let start = folded.bytes.len();
        let mut found = false;
        for letter in part {
            let latin = lookalike(letter.char).filter(|_| disguised);
            found |= latin.is_some();
            match (latin, letter.char) {
                (Some(latin), _) => folded.push(latin, letter.at),
                (None, 'ß' | 'ẞ') => {
                    folded.push('s', letter.at);
                    folded.push('s', letter.at);
                }
                (None, 'ς') => folded.push('σ', letter.at),
                (None, char) => {
                    for lower in char.to_lowercase() {
                        folded.push(lower, letter.at);
                    }
                }
            }
        }
        if found {
            folded.disguised.push(start..folded.bytes.len());
        }
    }
}

/// The characters of a word in their plainest form, without those that show nothing.
fn decomposed(word: &str, at: usize) -> Vec<Letter> {
    let mut letters = Vec::with_capacity(word.len());
    let mut chars = word.char_indices().peekable();
    let mut before = '\0';
    while let Some((offset, char)) = chars.next() {
        let at = at + offset;
        if let Some(first) = tag(char) {
            let mut hidden = vec![Letter { char: first, at }];
            while let Some((ahead, Some(next))) = chars.peek().map(|(at, char)| (*at, tag(*char))) {
                let at = at - offset + ahead;
                hidden.push(Letter { char: next, at });
                chars.next();
            }
            // Tags after a black flag name the region whose flag it is.
            let said = hidden.iter().filter(|tag| tag.char.is_ascii_alphabetic());
            if before != '\u{1F3F4}' && said.count() >= TAG_LETTERS_MIN {
                letters.push(Letter { char: ' ', at });
                letters.append(&mut hidden);
                letters.push(Letter { char: ' ', at });
            }
        } else if is_ignorable(char) {
            let last = letters.last().map(|letter: &Letter| letter.char);
            if is_joiner(char) && last.is_some_and(is_joined) {
                letters.push(Letter { char, at });
            }
        } else if matches!(char, '\u{3400}'..='\u{9FFF}' | '\u{AC00}'..='\u{D7A3}') {
            // Ideographs and Hangul syllables are their own plainest form.
            letters.push(Letter { char, at });
        } else {
            decompose_compatible(char, |char| settle(Letter { char, at }, &mut letters));
        }
        before = char;
    }
    letters
}

/// Adds a decomposed character. A mark stays where it makes a letter with what stands before it;
/// elsewhere, on alphabets that do not need it, it is decoration.
fn settle(letter: Letter, letters: &mut Vec<Letter>) {
    let char = letter.char;
    if is_combining_mark(char) {
        match letters.last_mut() {
            Some(base) if has_letters_with_marks(base.char) => {
                base.char = compose(base.char, char).unwrap_or(base.char);
            }
            _ => letters.push(letter),
        }
        return;
    }
    let char = if char.is_whitespace() {
        ' '
    } else if char.is_alphanumeric() || char.is_ascii() {
        char
    } else if matches!(char, '\u{2018}' | '\u{2019}' | '\u{02BC}') {
        '\''
    } else {
        '-'
    };
    letters.push(Letter { char, ..letter });
}

/// Whether a character belongs to a word.
pub(super) fn is_word(char: char) -> bool {
    char.is_alphanumeric() || is_combining_mark(char) || is_joiner(char)
}

/// Whether words of this character's script stand without space between them.
pub(super) fn is_unspaced(char: char) -> bool {
    matches!(char,
        '\u{0E00}'..='\u{0EFF}' | '\u{1000}'..='\u{109F}' | '\u{1780}'..='\u{17FF}'
        | '\u{3040}'..='\u{30FF}' | '\u{3400}'..='\u{9FFF}' | '\u{F900}'..='\u{FAFF}'
        | '\u{20000}'..='\u{3FFFF}')
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

/// The ASCII character that a tag character stands for.
pub(super) fn tag(char: char) -> Option<char> {
    let code = u32::from(char).checked_sub(0xE0000)?;
    char::from_u32(code).filter(|char| matches!(char, ' '..='~'))
}

fn is_joiner(char: char) -> bool {
    matches!(char, '\u{200C}' | '\u{200D}')
}

/// Whether joiners after this character mean something: in Arabic and its relatives, in the scripts
/// of India, in Mongolian, and in emoji.
fn is_joined(char: char) -> bool {
    matches!(char,
        '\u{0600}'..='\u{08FF}' | '\u{0900}'..='\u{0DFF}' | '\u{1800}'..='\u{18AF}'
        | '\u{FB50}'..='\u{FDFF}' | '\u{FE70}'..='\u{FEFE}' | '\u{2600}'..='\u{27BF}'
        | '\u{1F000}'..='\u{1FAFF}')
}

/// Alphabets whose letters with marks are characters of their own: Latin, Greek, Cyrillic.
fn has_letters_with_marks(char: char) -> bool {
    char.is_ascii_alphanumeric()
        || matches!(char, '\u{00C0}'..='\u{052F}' | '\u{1E00}'..='\u{1FFF}')
}

/// The ASCII letter or digit, in lower case, that a character of another script passes for.
fn lookalike(char: char) -> Option<char> {
    static TABLE: LazyLock<Vec<Option<char>>> = LazyLock::new(|| {
        let codes = (0..TABLE_END).map(|code| char::from_u32(code).and_then(found));
        codes.collect()
    });
    let table = TABLE.get(usize::try_from(u32::from(char)).ok()?);
    table.copied().unwrap_or_else(|| found(char))
}

/// As [`lookalike`], by the confusables of UTS 39. The lower case is asked first: a capital iota
/// looks like an l there, and its small letter like the i that is meant.
fn found(char: char) -> Option<char> {
    if char.is_ascii() {
        return None;
    }
    let prototype = |char: char| {
        let mut buffer = [0; 4];
        let mut looks = skeleton(char.encode_utf8(&mut buffer));
        match (looks.next(), looks.next()) {
            (Some(one), None) if one.is_ascii_alphanumeric() => Some(one.to_ascii_lowercase()),
            _ => None,
        }
    };
    let mut lower = char.to_lowercase();
    let lower = lower.next().filter(|lower| *lower != char);
    lower.and_then(prototype).or_else(|| prototype(char))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_reads_the_same_is_folded_to_the_same() {
        for (text, expected) in [
            ("ViOlence", "violence"),
            ("ｖｉｏｌｅｎｃｅ", "violence"),
            ("𝐯𝐢𝐨𝐥𝐞𝐧𝐜𝐞", "violence"),
            ("ⓥⓘⓞⓛⓔⓝⓒⓔ", "violence"),
            ("vi\u{200B}o\u{AD}len\u{2060}ce", "violence"),
            ("viоlеncе", "violence"),
            ("ΙLLEGAL", "illegal"),
            ("НАТЕ", "hate"),
            ("h\u{338}a\u{353}t\u{338}e", "hate"),
            ("ﬁne Straße", "fine strasse"),
            ("naïve en hâte", "naïve en hâte"),
            ("Насилие", "насилие"),
            ("a\tb\u{A0}c", "a b c"),
        ] {
            assert_eq!(fold(text).text(), expected, "{text}");
        }
    }

    #[test]
    fn joiners_that_mean_something_stay() {
        let persian = "می\u{200C}خواهم";
        assert!(fold(persian).text().contains('\u{200C}'));
        let hindi = "क्\u{200D}ष";
        assert!(fold(hindi).text().contains('\u{200D}'));
        assert_eq!(fold("ha\u{200D}te").text(), "hate");
    }

    #[test]
    fn hidden_tags_are_read_and_flags_are_none() {
        let tags: String = "hate"
            .chars()
            .filter_map(|char| char::from_u32(0xE0000 + u32::from(char)))
            .collect();
        assert_eq!(fold(&format!("a{tags}b")).text(), "a hate b");
        let flag = "\u{1F3F4}\u{E0067}\u{E0062}\u{E0065}\u{E006E}\u{E0067}\u{E007F}";
        assert!(!fold(flag).text().contains("gbeng"));
    }

    #[test]
    fn spans_lead_back() {
        let text = "über ｈａ\u{200B}ｔｅ ﬁn";
        let folded = fold(text);
        let at = folded.text().find("hate").unwrap();
        assert_eq!(&text[folded.span(at..at + 4, text)], "ｈａ\u{200B}ｔｅ");
        let at = folded.text().find("fi").unwrap();
        assert_eq!(&text[folded.span(at..at + 1, text)], "ﬁ");
    }

    #[test]
    fn pieces_cover_the_text_and_overlap() {
        for text in ["word ".repeat(200_000), "文".repeat(300_000), String::new()] {
            let mut covered = 0;
            for (at, piece) in pieces(&text) {
                assert!(at <= covered && piece.len() <= PIECE_BYTES);
                assert_eq!(&text[at..at + piece.len()], piece);
                covered = at + piece.len();
            }
            assert_eq!(covered, text.len());
        }
    }

    proptest! {
        #[test]
        fn any_text_folds_and_its_spans_are_whole_characters(text in "\\PC{0,40}|[\\x00-\\u{2FFF}]{0,40}") {
            let folded = fold(&text);
            let starts: Vec<usize> = folded.text().char_indices().map(|(at, _)| at).collect();
            for (n, start) in starts.iter().enumerate() {
                let end = starts.get(n + 2).copied().unwrap_or(folded.text().len());
                let span = folded.span(*start..end, &text);
                prop_assert!(text.get(span.clone()).is_some(), "{span:?} of {text:?}");
            }
        }
    }
}
