//! Where an answer ends: end tokens, stop strings over the text as it comes, and the ceiling.

use crate::batch::TokenId;
use crate::loops::looping_end;
use crate::prompt::{TextStream, Tokenizer};

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinishReason {
    /// The model ended it, or a stop string came up.
    Stop,
    /// The ceiling of tokens was reached.
    Length,
    /// It went round in circles, see [`crate::loops`].
    Loop,
    /// Nobody wanted it any more.
    Cancelled,
}

/// What ends a particular answer.
#[derive(Debug, Clone, Default)]
pub struct StopRules {
    /// Tokens that end it, and have no text in it.
    pub end_tokens: Vec<TokenId>,
    /// Strings that end it, and are cut off with what follows.
    pub strings: Vec<String>,
    /// Whether to end an answer that goes round in circles.
    pub loops: bool,
    /// Most tokens to generate.
    pub tokens_max: usize,
}

/// The text of an answer while it is made.
///
/// Text is released as soon as no stop string can still begin in it.
#[derive(Debug)]
pub struct Answer {
    rules: StopRules,
    stream: TextStream,
    text: String,
    /// Bytes of `text` that were released.
    released: usize,
    tokens: usize,
}

impl Answer {
    /// An empty answer.
    pub fn new(mut rules: StopRules) -> Self {
        rules.strings.retain(|string| !string.is_empty());
        Self {
            rules,
            stream: TextStream::default(),
            text: String::new(),
            released: 0,
            tokens: 0,
        }
    }

    /// Adds a token; returns why the answer ends with it, if it does.
    pub fn push(&mut self, tokenizer: &Tokenizer, token: TokenId) -> Option<FinishReason> {
        self.tokens += 1;
        if self.rules.end_tokens.contains(&token) {
            return Some(self.end(FinishReason::Stop));
        }
        let piece = self.stream.push(tokenizer, token);
        if self.append(&piece) {
            return Some(FinishReason::Stop);
        }
        if self.rules.loops && looping_end(&self.text).is_some() {
            return Some(FinishReason::Loop);
        }
        (self.tokens >= self.rules.tokens_max).then(|| self.end(FinishReason::Length))
    }

    /// Ends the answer here; an unfinished character becomes U+FFFD.
    pub fn end(&mut self, reason: FinishReason) -> FinishReason {
        let rest = self.stream.finish();
        if self.append(&rest) {
            FinishReason::Stop
        } else {
            reason
        }
    }

    /// Adds text, and cuts it at the first stop string; true if there was one.
    fn append(&mut self, piece: &str) -> bool {
        // A stop string that ends in the new piece begins at most its own length before it.
        let longest = self
            .rules
            .strings
            .iter()
            .map(String::len)
            .max()
            .unwrap_or(0);
        let from = self
            .text
            .floor_char_boundary(self.text.len().saturating_sub(longest));
        self.text.push_str(piece);
        let recent = &self.text[from..];
        let first = self
            .rules
            .strings
            .iter()
            .filter_map(|stop| recent.find(stop))
            .min();
        if let Some(at) = first {
            self.text.truncate(from + at);
        }
        first.is_some()
    }

    /// Text since the last call that will not be cut off any more; `ended` once the answer has.
    pub fn take_released(&mut self, ended: bool) -> &str {
        let held_back = if ended { 0 } else { self.stop_prefix_len() };
        let (start, end) = (self.released, self.text.len() - held_back);
        self.released = end;
        &self.text[start..end]
    }

    /// The longest end of the text with which a stop string begins, in bytes.
    fn stop_prefix_len(&self) -> usize {
        let begins = |stop: &String| {
            let mut boundaries = stop.char_indices().rev().map(|(at, _)| at);
            boundaries
                .find(|at| self.text.ends_with(&stop[..*at]))
                .unwrap_or(0)
        };
        self.rules.strings.iter().map(begins).max().unwrap_or(0)
    }

    /// The whole text.
    pub fn text(&self) -> &str {
        &self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds pieces of text; returns what was released after each, and whether it ended.
    fn feed(strings: &[&str], pieces: &[&str]) -> (Vec<String>, bool) {
        let strings = strings.iter().map(|s| (*s).to_owned()).collect();
        let mut answer = Answer::new(StopRules {
            strings,
            tokens_max: 100,
            ..Default::default()
        });
        let mut released = Vec::new();
        for piece in pieces {
            let ended = answer.append(piece);
            released.push(answer.take_released(ended).to_owned());
            if ended {
                assert_eq!(released.concat(), answer.text());
                return (released, true);
            }
        }
        answer.end(FinishReason::Length);
        released.push(answer.take_released(true).to_owned());
        assert_eq!(released.concat(), answer.text());
        (released, false)
    }

    #[track_caller]
    fn check(strings: &[&str], pieces: &[&str], expected: &[&str], ended: bool) {
        assert_eq!(
            feed(strings, pieces),
            (expected.iter().map(|s| (*s).into()).collect(), ended)
        );
    }

    #[test]
    fn text_is_held_back_only_as_far_as_it_may_be_a_stop_string() {
        check(
            &["END"],
            &["a E", "N", "x", "E"],
            &["a ", "", "ENx", "", "E"],
            false,
        );
        check(&[], &["a", "b"], &["a", "b", ""], false);
        check(&["aab"], &["xaa", "ab"], &["x", "a"], true);
    }

    #[test]
    fn a_stop_string_is_cut_exactly() {
        check(&["END"], &["a EN", "D b"], &["a ", ""], true);
        check(&["END"], &["ENDEND"], &[""], true);
        check(&["b", "abc"], &["xab"], &["xa"], true);
        check(&["c", "bc"], &["ab", "cd"], &["a", ""], true);
        check(&["\n\n"], &["a\n", "\nb"], &["a", ""], true);
        check(&["é🦀"], &["aé", "🦀b"], &["a", ""], true);
        check(&["🦀x"], &["é🦀", "y"], &["é", "🦀y", ""], false);
    }

    #[test]
    fn empty_stop_strings_stop_nothing() {
        check(&[""], &["a"], &["a", ""], false);
    }
}
