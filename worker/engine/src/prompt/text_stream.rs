//! Tokens to text, one at a time.

use super::tokenizer::{SPACE_MARK, Tokenizer};
use crate::batch::TokenId;

/// Text out of tokens as they come, never half a character.
///
/// Joined, the pieces of [`TextStream::push`] and the rest by [`TextStream::finish`] are the text
/// of all tokens. Byte tokens that form no UTF-8 character become U+FFFD, one a byte. Control
/// tokens have no text.
#[derive(Debug, Clone, Default)]
pub struct TextStream {
    /// Bytes that so far are the beginning of one character.
    partial: Vec<u8>,
}

impl TextStream {
    /// The text that `token` completes; empty while a character is unfinished.
    pub fn push(&mut self, tokenizer: &Tokenizer, token: TokenId) -> String {
        let spelling = tokenizer.spelling(token).unwrap_or_default();
        if let Some(byte) = byte_token(&spelling) {
            self.partial.push(byte);
            return self.take_complete();
        }
        let mut text = self.finish();
        if !tokenizer.is_control(token) {
            text.extend(spaced(&spelling));
        }
        text
    }

    /// What is left of an unfinished character, as U+FFFD.
    pub fn finish(&mut self) -> String {
        let text = "\u{FFFD}".repeat(self.partial.len());
        self.partial.clear();
        text
    }

    fn take_complete(&mut self) -> String {
        let mut text = String::new();
        while !self.partial.is_empty() {
            match std::str::from_utf8(&self.partial) {
                Ok(valid) => {
                    text.push_str(valid);
                    self.partial.clear();
                }
                Err(error) => match error.error_len() {
                    None => break,
                    Some(invalid) => {
                        text.push_str(&"\u{FFFD}".repeat(invalid));
                        self.partial.drain(..invalid);
                    }
                },
            }
        }
        text
    }
}

/// The bytes that a token adds to a text, were it alone; none for a control token.
pub(super) fn bytes_of(tokenizer: &Tokenizer, token: TokenId) -> Vec<u8> {
    let spelling = tokenizer.spelling(token).unwrap_or_default();
    match byte_token(&spelling) {
        Some(byte) => vec![byte],
        None if tokenizer.is_control(token) => Vec::new(),
        None => spaced(&spelling).collect::<String>().into_bytes(),
    }
}

/// A spelling with spaces where it has marks for them.
fn spaced(spelling: &str) -> impl Iterator<Item = char> {
    spelling
        .chars()
        .map(|c| if c == SPACE_MARK { ' ' } else { c })
}

/// The byte that a token such as `<0x0A>` stands for.
fn byte_token(spelling: &str) -> Option<u8> {
    let digits = spelling.strip_prefix("<0x")?.strip_suffix('>')?;
    if digits.len() == 2 {
        u8::from_str_radix(digits, 16).ok()
    } else {
        None
    }
}
