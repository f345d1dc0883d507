//! HTML to the text a reader would see: no tags, scripts or styles; blocks stand on lines of their
//! own.

use encoding_rs::{Encoding, UTF_8};

/// Lines are broken where the page breaks them and nowhere else.
const LINE_WIDTH: usize = 1_000_000;
/// Where a page says which encoding it has.
const DECLARATION_BYTES: usize = 1024;

/// The visible text of a page; the error continues a sentence that begins with the file's name.
pub fn text(bytes: &[u8]) -> Result<String, String> {
    let page = decode(bytes)?;
    html2text::config::plain_no_decorate()
        .no_table_borders()
        .allow_width_overflow()
        .string_from_read(page.as_bytes(), LINE_WIDTH)
        .map_err(|error| format!("cannot be read as HTML: {error}"))
}

/// By byte order mark, by the page's own declaration, or as plain text is decoded.
fn decode(bytes: &[u8]) -> Result<String, String> {
    let head = &bytes[..bytes.len().min(DECLARATION_BYTES)];
    match declared(head) {
        Some(encoding) if encoding != UTF_8 && Encoding::for_bom(bytes).is_none() => {
            Ok(encoding.decode_without_bom_handling(bytes).0.into_owned())
        }
        _ => super::plain::decode(bytes),
    }
}

/// The encoding that `charset=` names near the page's beginning.
fn declared(head: &[u8]) -> Option<&'static Encoding> {
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    let (_, after) = head.split_once("charset=")?;
    let label = after.trim_start_matches(['"', '\'']);
    let end = label.find(|c: char| !(c.is_ascii_alphanumeric() || "-_:".contains(c)));
    Encoding::for_label(&label.as_bytes()[..end.unwrap_or(label.len())])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_reader_sees() {
        let page = b"<!doctype html><html><head><title>T</title><style>p{}</style><script>x()</script>\
            </head><body><h1>On stones</h1><p>A <b>ruby</b> is&nbsp;red.</p><ul><li>one<li>two</ul></body></html>";
        let text = text(page).unwrap();
        assert!(text.contains("On stones\n"), "{text}");
        assert!(text.contains("A ruby is\u{a0}red."), "{text}");
        assert!(!text.contains("x()") && !text.contains("p{}"), "{text}");
    }

    #[test]
    fn declared_encodings() {
        assert!(
            text(b"<meta charset=iso-8859-1><p>caf\xe9</p>")
                .unwrap()
                .contains("café")
        );
        assert!(
            text(b"<meta charset='shift_jis'><p>\x8a\xbf\x8e\x9a</p>")
                .unwrap()
                .contains("漢字")
        );
        assert!(
            text("<meta charset=utf-8><p>漢字</p>".as_bytes())
                .unwrap()
                .contains("漢字")
        );
    }

    #[test]
    fn broken_markup_is_still_a_page() {
        assert_eq!(
            text(b"<p>open <b>and <i>never closed").unwrap().trim(),
            "open and never closed"
        );
    }
}
