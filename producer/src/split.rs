//! Cutting long text at sensible places.

use unicode_segmentation::UnicodeSegmentation as _;

/// How sensible a place is; the later, the better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Word,
    Sentence,
    Line,
    Paragraph,
    Heading,
}

/// Bytes looked at before a place to find where a grapheme begins; longer ones are cut.
const GRAPHEME_BYTES_MAX: usize = 64;

/// Cuts text into pieces of at most `bytes_max` bytes and of about equal size. Together the pieces
/// are the text, to the byte.
pub fn split(text: &str, bytes_max: usize) -> Vec<&str> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while rest.len() > bytes_max.max(GRAPHEME_BYTES_MAX) {
        let at = cut(rest, bytes_max.max(GRAPHEME_BYTES_MAX));
        let (piece, after) = rest.split_at(at);
        pieces.push(piece);
        rest = after;
    }
    if !rest.is_empty() || pieces.is_empty() {
        pieces.push(rest);
    }
    pieces
}

/// The text's beginning, at most `bytes_max` bytes of it, cut at a sensible place near that size.
pub fn truncate(text: &str, bytes_max: usize) -> &str {
    if text.len() <= bytes_max {
        return text;
    }
    let low = bytes_max - bytes_max / 10;
    &text[..best_place(text, low, bytes_max, bytes_max)]
}

/// Where the first piece ends: the best place around the size that makes all pieces equal.
fn cut(text: &str, bytes_max: usize) -> usize {
    let pieces = text.len().div_ceil(bytes_max);
    let even = text.len().div_ceil(pieces);
    best_place(
        text,
        even - even / 4,
        even,
        (even + even / 4).min(bytes_max),
    )
}

/// The most sensible place within `low..=high`, of its kind the nearest to `target`. Never 0.
fn best_place(text: &str, low: usize, target: usize, high: usize) -> usize {
    let high = text.floor_char_boundary(high);
    let low = text.floor_char_boundary(low).max(1).min(high);
    let low = text.ceil_char_boundary(low);
    let mut best: Option<(Place, usize)> = None;
    for (offset, c) in text[low..high].char_indices() {
        let after = low + offset + c.len_utf8();
        let Some(place) = place(text, low + offset, c) else {
            continue;
        };
        let better = |(known, at): (Place, usize)| {
            place > known || place == known && after.abs_diff(target) <= at.abs_diff(target)
        };
        if best.is_none_or(better) {
            best = Some((place, after));
        }
    }
    match best {
        Some((_, at)) => at,
        None => grapheme_start(text, text.floor_char_boundary(target.min(high))),
    }
}

/// What kind of place is behind the character at `at`, if it is one.
fn place(text: &str, at: usize, c: char) -> Option<Place> {
    let after = &text[at + c.len_utf8()..];
    match c {
        '\u{c}' => Some(Place::Heading),
        // Blank lines stay together, at the end of what they follow.
        '\n' if after.starts_with(['\n', '\r']) => None,
        '\n' if is_heading(after) => Some(Place::Heading),
        '\n' if text[..at].ends_with('\n') || text[..at].ends_with("\n\r") => {
            Some(Place::Paragraph)
        }
        '\n' => Some(Place::Line),
        '。' | '！' | '？' => Some(Place::Sentence),
        c if c.is_whitespace() && text[..at].ends_with(['.', '!', '?', '…']) => {
            Some(Place::Sentence)
        }
        c if c.is_whitespace() => Some(Place::Word),
        _ => None,
    }
}

/// Whether a Markdown heading begins here.
fn is_heading(text: &str) -> bool {
    let rest = text.trim_start_matches('#');
    (1..=6).contains(&(text.len() - rest.len())) && rest.starts_with(' ')
}

/// The last beginning of a grapheme at or before `at`.
fn grapheme_start(text: &str, at: usize) -> usize {
    let from = text.ceil_char_boundary(at.saturating_sub(GRAPHEME_BYTES_MAX));
    let to = text.ceil_char_boundary((at + GRAPHEME_BYTES_MAX).min(text.len()));
    text[from..to]
        .grapheme_indices(true)
        .map(|(offset, _)| from + offset)
        .take_while(|start| *start <= at)
        .last()
        .filter(|start| *start > 0)
        .unwrap_or(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn headings_before_paragraphs_before_sentences() {
        let text = format!(
            "{}\n# Two\n{}",
            "One one. ".repeat(20),
            "Two two.\n\n".repeat(17)
        );
        assert!(split(&text, 250)[1].starts_with("# Two\n"));
        let text = format!("{}\n\n{}", "One one.\n".repeat(20), "Two two. ".repeat(20));
        assert!(split(&text, 250)[1].starts_with("Two two. "));
        let text = "A short one. And one more here! ".repeat(20);
        assert!(
            split(&text, 100)
                .iter()
                .all(|piece| piece.ends_with(". ") || piece.ends_with("! "))
        );
    }

    #[test]
    fn pieces_are_of_about_one_size() {
        let text = "word ".repeat(1_000);
        let sizes: Vec<usize> = split(&text, 990).iter().map(|piece| piece.len()).collect();
        assert_eq!(sizes.len(), 6);
        assert!(
            sizes.iter().all(|size| (800..=990).contains(size)),
            "{sizes:?}"
        );
    }

    #[test]
    fn graphemes_stay_whole() {
        let family = "👨‍👩‍👧‍👦";
        let text = family.repeat(40);
        assert!(
            split(&text, 130)
                .iter()
                .all(|piece| piece.len() % family.len() == 0)
        );
    }

    #[test]
    fn truncated_at_a_word() {
        assert_eq!(truncate("short", 10), "short");
        assert_eq!(truncate(&"seven77 ".repeat(20), 100).len(), 96);
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_nothing_is_too_long(text in "(\\PC|[ \n.#]){0,2000}", max in 64_usize..500) {
            let pieces = split(&text, max);
            prop_assert_eq!(pieces.concat(), text.as_str());
            prop_assert!(pieces.iter().all(|piece| piece.len() <= max));
            prop_assert!(pieces.len() == 1 || pieces.iter().all(|piece| !piece.is_empty()));
        }
    }
}
