//! Glyphs on a page to lines of text.
//!
//! Glyphs come in the order in which the page draws them, which for text is nearly always the order
//! of reading. What is missing in a PDF are spaces and line ends; both are seen from the distance to
//! the glyph before.

/// A gap of this share of the font size is a space.
const SPACE_GAP: f64 = 0.15;
/// A step across the line of this share of the font size begins a new line.
const LINE_STEP: f64 = 0.5;
/// A step of this many font sizes begins a new paragraph.
const PARAGRAPH_STEP: f64 = 1.7;

/// One glyph, in the page's units.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Glyph {
    /// Where it begins on the line.
    pub(crate) start: f64,
    /// Where the next one would begin.
    pub(crate) end: f64,
    /// Its baseline.
    pub(crate) baseline: f64,
    /// Font size.
    pub(crate) size: f64,
}

/// Collects a page's text.
#[derive(Debug, Default)]
pub(crate) struct Page {
    text: String,
    last: Option<Glyph>,
}

impl Page {
    /// Adds the next glyph with what it says.
    pub(crate) fn push(&mut self, glyph: Glyph, says: &str) {
        if let Some(last) = self.last {
            let separator = separator(last, glyph);
            let after_space = self.text.ends_with(char::is_whitespace);
            if separator != " " || !(after_space || says.starts_with(char::is_whitespace)) {
                self.text.push_str(separator);
            }
        }
        self.last = Some(glyph);
        self.text.push_str(says);
    }

    /// The page's text without blanks around it.
    pub(crate) fn text(&self) -> &str {
        self.text.trim()
    }
}

/// What stands between two glyphs.
fn separator(last: Glyph, next: Glyph) -> &'static str {
    let size = last.size.max(next.size).max(f64::MIN_POSITIVE);
    let step = (next.baseline - last.baseline).abs();
    if step > PARAGRAPH_STEP * size {
        "\n\n"
    } else if step > LINE_STEP * size {
        "\n"
    } else if next.start - last.end > SPACE_GAP * size || next.start < last.start - size {
        " "
    } else {
        ""
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn glyph(start: f64, baseline: f64) -> Glyph {
        Glyph {
            start,
            end: start + 5.0,
            baseline,
            size: 10.0,
        }
    }

    #[test]
    fn spaces_lines_and_paragraphs_are_seen_from_distances() {
        let mut page = Page::default();
        page.push(glyph(0.0, 0.0), "a");
        page.push(glyph(5.2, 0.0), "b");
        page.push(glyph(13.0, 0.0), "c");
        page.push(glyph(20.0, 0.0), " ");
        page.push(glyph(30.0, 0.0), "d");
        page.push(glyph(0.0, 12.0), "e");
        page.push(glyph(0.0, 40.0), "f");
        assert_eq!(page.text(), "ab c d\ne\n\nf");
    }

    #[test]
    fn a_page_without_glyphs_has_no_text() {
        assert_eq!(Page::default().text(), "");
    }
}
