//! Bytes to text: which encodings are understood, and what is not text at all.
//!
//! * UTF-8, with or without a byte order mark; the mark is dropped, nothing else is changed.
//! * UTF-16, if a byte order mark says so.
//! * Windows-1252 (of which ISO 8859-1 text is a part), if the bytes are not UTF-8 and look like
//!   Western text: no control characters, and fewer than three bytes in ten outside ASCII.
//!
//! All else is refused, because a model would caption the noise.

use encoding_rs::{UTF_16BE, UTF_16LE, WINDOWS_1252};

/// Of a thousand characters, how many may be control characters.
const CONTROLS_PER_MILLE_MAX: usize = 10;
/// Of a thousand bytes of Windows-1252 text, how many may lie outside ASCII.
const HIGH_BYTES_PER_MILLE_MAX: usize = 300;

/// The text of a plain file; the error continues a sentence that begins with the file's name.
pub fn decode(bytes: &[u8]) -> Result<String, String> {
    let text = if let Some(rest) = bytes.strip_prefix(b"\xef\xbb\xbf") {
        utf_8(rest)?
    } else if let Some(rest) = bytes.strip_prefix(b"\xff\xfe") {
        utf_16(UTF_16LE, rest)?
    } else if let Some(rest) = bytes.strip_prefix(b"\xfe\xff") {
        utf_16(UTF_16BE, rest)?
    } else {
        utf_8(bytes)?
    };
    refuse_binary(&text)?;
    Ok(text)
}

fn utf_16(encoding: &'static encoding_rs::Encoding, bytes: &[u8]) -> Result<String, String> {
    encoding
        .decode_without_bom_handling_and_without_replacement(bytes)
        .map(std::borrow::Cow::into_owned)
        .ok_or_else(|| format!("begins like {} and is not valid as such", encoding.name()))
}

fn utf_8(bytes: &[u8]) -> Result<String, String> {
    let error = match std::str::from_utf8(bytes) {
        Ok(text) => return Ok(text.to_owned()),
        Err(error) => error,
    };
    let at = error.valid_up_to();
    if looks_western(bytes) {
        return Ok(WINDOWS_1252
            .decode_without_bom_handling(bytes)
            .0
            .into_owned());
    }
    Err(format!(
        "is not text: byte 0x{:02x} at offset {at} is not UTF-8, and the file does not look like \
         another encoding that is understood (UTF-16 with a byte order mark, Windows-1252)",
        bytes.get(at).copied().unwrap_or_default()
    ))
}

/// Whether bytes that are not UTF-8 may be Windows-1252.
fn looks_western(bytes: &[u8]) -> bool {
    let unused = |byte: &u8| matches!(byte, 0x81 | 0x8d | 0x8f | 0x90 | 0x9d);
    let control = |byte: &u8| *byte < 0x20 && !matches!(byte, b'\t' | b'\n' | b'\r' | 0x0c);
    let high = bytes.iter().filter(|byte| **byte >= 0x80).count();
    !bytes
        .iter()
        .any(|byte| unused(byte) || control(byte) || *byte == 0x7f)
        && high * 1000 <= bytes.len() * HIGH_BYTES_PER_MILLE_MAX
        && multi_byte_characters(bytes) * 2 <= high
}

/// Bytes that are part of a well-formed multi-byte UTF-8 character: many of them mean damaged
/// UTF-8, which must not be taken for another encoding.
fn multi_byte_characters(bytes: &[u8]) -> usize {
    bytes
        .utf8_chunks()
        .map(|chunk| chunk.valid().bytes().filter(|byte| *byte >= 0x80).count())
        .sum()
}

fn refuse_binary(text: &str) -> Result<(), String> {
    if let Some(at) = text.find('\0') {
        return Err(format!(
            "is not text: it has a NUL character at offset {at}"
        ));
    }
    let allowed = ['\t', '\n', '\r', '\u{c}'];
    let controls = text
        .chars()
        .filter(|c| c.is_control() && !allowed.contains(c))
        .count();
    let characters = text.chars().count();
    if controls * 1000 > characters * CONTROLS_PER_MILLE_MAX {
        return Err(format!(
            "is not text: {controls} of its {characters} characters are control characters"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn utf_8_is_kept_to_the_byte() {
        for text in ["  a\r\n\tb  ", "Ünïcode 漢字 🙂\n", "x"] {
            assert_eq!(decode(text.as_bytes()), Ok(text.to_owned()));
        }
        assert_eq!(decode(b"\xef\xbb\xbfa"), Ok("a".to_owned()));
    }

    #[test]
    fn utf_16_by_its_mark() {
        let little: Vec<u8> = b"\xff\xfe"
            .iter()
            .copied()
            .chain("aé漢".encode_utf16().flat_map(u16::to_le_bytes))
            .collect();
        let big: Vec<u8> = b"\xfe\xff"
            .iter()
            .copied()
            .chain("aé漢".encode_utf16().flat_map(u16::to_be_bytes))
            .collect();
        assert_eq!(decode(&little), Ok("aé漢".to_owned()));
        assert_eq!(decode(&big), Ok("aé漢".to_owned()));
        assert_eq!(
            decode(b"\xff\xfea"),
            Err("begins like UTF-16LE and is not valid as such".to_owned())
        );
    }

    #[test]
    fn western_text_of_old() {
        assert_eq!(
            decode(b"caf\xe9 \x80 5, \x93quoted\x94"),
            Ok("café € 5, “quoted”".to_owned())
        );
    }

    #[test]
    fn damaged_utf_8_and_noise_are_refused() {
        let mut damaged = "naïve café, naïve café".as_bytes().to_vec();
        damaged.push(0xff);
        assert!(
            decode(&damaged)
                .unwrap_err()
                .starts_with("is not text: byte 0xff at offset 26")
        );
        let noise: Vec<u8> = (0..4096_u32)
            .map(|i| u8::try_from((i * i * 31 + i * 7) % 251).unwrap())
            .collect();
        assert!(decode(&noise).unwrap_err().starts_with("is not text"));
        assert_eq!(
            decode(b"ab\0c"),
            Err("is not text: it has a NUL character at offset 2".to_owned())
        );
        assert!(
            decode(b"\x01\x02\x03abc")
                .unwrap_err()
                .contains("3 of its 6 characters")
        );
    }
}
