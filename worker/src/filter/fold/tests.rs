//! Folding, and that it is what reading one character after another makes of a text.

use super::form::{is_ignorable, is_word, may_hide};
use super::*;
use proptest::prelude::*;
use unicode_security::confusable_detection::skeleton;

fn folded(text: &str) -> String {
    String::from_utf8(fold(text).bytes).unwrap()
}

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
        assert_eq!(folded(text), expected, "{text}");
    }
}

#[test]
fn joiners_that_mean_something_stay() {
    let persian = "می\u{200C}خواهم";
    assert!(folded(persian).contains('\u{200C}'));
    let hindi = "क्\u{200D}ष";
    assert!(folded(hindi).contains('\u{200D}'));
    assert_eq!(folded("ha\u{200D}te"), "hate");
}

#[test]
fn hidden_tags_are_read_and_flags_are_none() {
    let tags: String = "hate"
        .chars()
        .filter_map(|char| char::from_u32(0xE0000 + u32::from(char)))
        .collect();
    assert_eq!(folded(&format!("a{tags}b")), "a hate b");
    let flag = "\u{1F3F4}\u{E0067}\u{E0062}\u{E0065}\u{E006E}\u{E0067}\u{E007F}";
    assert!(!folded(flag).contains("gbeng"));
}

#[test]
fn spans_lead_back() {
    let text = "über ｈａ\u{200B}ｔｅ ﬁn";
    let folded = fold(text);
    let read = std::str::from_utf8(folded.bytes()).unwrap();
    let at = read.find("hate").unwrap();
    assert_eq!(&text[folded.span(at..at + 4, text)], "ｈａ\u{200B}ｔｅ");
    let at = read.find("fi").unwrap();
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

/// What a text is folded to, by the words of this module's head: each character with where the one that it
/// comes from begins, and the words that are disguises. Every word is read in full, and every table asked.
fn folded_slowly(text: &str) -> (Vec<(char, usize)>, Vec<Range<usize>>) {
    let (mut chars, mut disguised) = (Vec::new(), Vec::new());
    let parts_words = |char: char| char.is_ascii() && !char.is_ascii_alphanumeric();
    let mut at = 0;
    for word in text.split_inclusive(parts_words) {
        let (word, end) = match word.chars().next_back() {
            Some(end) if parts_words(end) => (&word[..word.len() - 1], Some(end)),
            _ => (word, None),
        };
        let letters = decomposed(word, at);
        for part in letters.chunk_by(|a, b| is_word(a.0) == is_word(b.0)) {
            let ascii = part.iter().any(|(char, _)| char.is_ascii_alphabetic());
            let passes = |(char, _): &(char, usize)| {
                !char.is_alphabetic() || char.is_ascii() || lookalike(*char).is_some()
            };
            let may = ascii || part.len() > 1 && part.iter().all(passes);
            let start = bytes_of(&chars);
            for (char, at) in part {
                let latin = lookalike(*char).filter(|_| may);
                let lower = char.to_lowercase().collect::<String>();
                let lower = match (latin, char) {
                    (Some(latin), _) => latin.to_string(),
                    (None, 'ß' | 'ẞ') => "ss".to_owned(),
                    (None, 'ς') => "σ".to_owned(),
                    (None, _) => lower,
                };
                chars.extend(lower.chars().map(|char| (char, *at)));
            }
            if may && part.iter().any(|(char, _)| lookalike(*char).is_some()) {
                disguised.push(start..bytes_of(&chars));
            }
        }
        at += word.len();
        let blank = |char| matches!(char, '\t' | '\n' | '\r');
        chars.extend(end.map(|end| (if blank(end) { ' ' } else { end }, at)));
        at += end.map_or(0, char::len_utf8);
    }
    (chars, disguised)
}

fn bytes_of(chars: &[(char, usize)]) -> usize {
    chars.iter().map(|(char, _)| char.len_utf8()).sum()
}

fn decomposed(word: &str, at: usize) -> Vec<(char, usize)> {
    let mut letters: Vec<(char, usize)> = Vec::new();
    let chars: Vec<(usize, char)> = word
        .char_indices()
        .map(|(n, char)| (at + n, char))
        .collect();
    let mut n = 0;
    while let Some((at, char)) = chars.get(n).copied() {
        let tags = chars[n..]
            .iter()
            .map_while(|(at, char)| Some((tag(*char)?, *at)));
        let tags: Vec<(char, usize)> = tags.collect();
        if !tags.is_empty() {
            let flag = n > 0 && chars[n - 1].1 == BLACK_FLAG;
            let said = tags
                .iter()
                .filter(|(tag, _)| tag.is_ascii_alphabetic())
                .count();
            n += tags.len();
            if !flag && said >= TAG_LETTERS_MIN {
                letters.push((' ', at));
                letters.extend(tags);
                letters.push((' ', at));
            }
            continue;
        }
        n += 1;
        if is_ignorable(char) {
            let joined = letters
                .last()
                .is_some_and(|last| Form::of(last.0).has(JOINS));
            if is_joiner(char) && joined {
                letters.push((char, at));
            }
        } else if matches!(char, '\u{3400}'..='\u{9FFF}' | '\u{AC00}'..='\u{D7A3}') {
            letters.push((char, at));
        } else {
            decompose_compatible(char, |part| settle(part, at, &mut letters));
        }
    }
    letters
}

fn settle(char: char, at: usize, letters: &mut Vec<(char, usize)>) {
    if is_combining_mark(char) {
        match letters.last_mut() {
            Some((base, _)) if is_of_an_alphabet_with_marks(*base) => {
                *base = compose(*base, char).unwrap_or(*base);
            }
            _ => letters.push((char, at)),
        }
        return;
    }
    let shown = match char {
        char if char.is_whitespace() => ' ',
        char if char.is_alphanumeric() || char.is_ascii() => char,
        '\u{2018}' | '\u{2019}' | '\u{02BC}' => '\'',
        _ => '-',
    };
    letters.push((shown, at));
}

fn is_of_an_alphabet_with_marks(char: char) -> bool {
    char.is_ascii_alphanumeric() || matches!(char, '\u{C0}'..='\u{52F}' | '\u{1E00}'..='\u{1FFF}')
}

fn lookalike(char: char) -> Option<char> {
    if char.is_ascii() {
        return None;
    }
    let lower = char.to_lowercase().next().filter(|lower| *lower != char);
    let looks = |char: char| {
        let looks: Vec<char> = skeleton(&char.to_string()).collect();
        match looks.as_slice() {
            [one] if one.is_ascii_alphanumeric() => Some(one.to_ascii_lowercase()),
            _ => None,
        }
    };
    lower.and_then(looks).or_else(|| looks(char))
}

/// Texts of letters that pass for others, marks, characters that show nothing, and all others.
fn texts() -> impl Strategy<Value = String> {
    let parts = prop_oneof![
        "[a-zA-Z0-9 .,\n-]{1,6}",
        "[аеорсухАВЕКМНОРСТХіјѕԁӏ]{1,6}",
        "[бгджзийклмнптфцчшщыэюяё]{1,6}",
        "[äöüßÄÖÜẞéèñçŁłøİıſς]{1,4}",
        "[ａ-ｚＡ-Ｚ０-９ⓐ-ⓩ𝐚-𝐳①-⑳❶🅐🄰ﬁﬃ…½℡㎏]{1,4}",
        "[\u{300}-\u{36F}\u{344}\u{3099}\u{FF9E}]{1,3}",
        "[\u{AD}\u{200B}-\u{200F}\u{2060}\u{FE0F}\u{FEFF}]{1,3}",
        "[\u{E0061}-\u{E007A}\u{E0020}]{1,5}",
        "[\u{1F3F4}👩❤“”«»—’\u{A0}\u{3000}]{1,3}",
        "[क-हा-्ا-يกขค文字カ゛ﾊﾞ한글]{1,5}",
        "\\PC{1,3}",
    ];
    proptest::collection::vec(parts, 0..8).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]
    #[test]
    fn any_text_is_folded_as_if_it_were_read_slowly(text in texts()) {
        let folded = fold(&text);
        let (chars, disguised) = folded_slowly(&text);
        let slowly: String = chars.iter().map(|(char, _)| *char).collect();
        let read = std::str::from_utf8(folded.bytes()).unwrap();
        prop_assert_eq!(read, slowly, "of {:?}", text);
        prop_assert_eq!(folded.disguised(), disguised);
        for ((start, char), (_, original)) in read.char_indices().zip(chars) {
            let span = folded.span(start..start + char.len_utf8(), &text);
            prop_assert_eq!(span.start, original, "{} in {:?}", char, text);
            prop_assert!(text.get(span).is_some_and(|span| !span.is_empty()));
        }
    }
}

#[test]
fn what_is_not_shown_begins_with_few_bytes() {
    for char in ('\0'..=char::MAX).filter(|char| is_ignorable(*char)) {
        let mut buffer = [0; 4];
        let first = char.encode_utf8(&mut buffer).as_bytes()[0];
        assert!(may_hide(first), "{char:?}");
    }
}
