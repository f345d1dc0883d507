//! `score`: the log-probability of each token of a text, in bounded memory.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};

use anyhow::Context;
use lapidary_engine::prompt::TokenizerError;
use lapidary_engine::{Engine, EngineOptions, Prompt};

use crate::cli::ScoreArgs;
use crate::config::{hub_options, load_options};
use crate::model::ModelRef;

/// Longest window when nobody says otherwise.
const WINDOW_DEFAULT: usize = 2_048;
/// Shortest window: a token before, and one to score.
const WINDOW_MIN: usize = 8;
/// Likeliest tokens reported.
const TOP: usize = 5;
/// Bytes of text that are tokenized at once, up to the next line's end.
const PIECE_BYTES: usize = 64 * 1024;
/// A line longer than this is cut, at a place where a character ends.
const LINE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Scores a file and prints a line a token.
pub fn score(args: &ScoreArgs) -> anyhow::Result<()> {
    let named = || format!("`{}`", args.file.display());
    let file = File::open(&args.file).with_context(named)?;
    let options = EngineOptions {
        slots_max: 2,
        interactive_slots_reserved: 1,
        prefix_sharing: false,
        ..EngineOptions::default()
    };
    let model = ModelRef::parse(&args.model.model);
    let (source, load) = model.files(load_options(&args.model), &hub_options(&args.model.hub))?;
    let engine = Engine::load(source, &load, &options)?;
    let window = args
        .window
        .unwrap_or(WINDOW_DEFAULT.min(engine.sequence_tokens_max()));
    anyhow::ensure!(
        (WINDOW_MIN..=engine.sequence_tokens_max()).contains(&window),
        "--window is {window}, it must be {WINDOW_MIN} to {}",
        engine.sequence_tokens_max()
    );
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let mut windows = Windows::new(&engine, window)?;
    let mut pieces = Pieces {
        lines: BufReader::new(file),
        carried: Vec::new(),
        ended: false,
    };
    while let Some(piece) = pieces.next().with_context(named)? {
        windows.push(&piece, &mut out)?;
    }
    windows.finish(&mut out)?;
    out.flush()?;
    Ok(())
}

/// Scores tokens as they come, each given as many before it as the window holds.
struct Windows<'a> {
    engine: &'a Engine,
    /// Tokens of a window, the first one included.
    size: usize,
    /// What every window begins with: the beginning-of-sequence token, where the model has one.
    first: Vec<u32>,
    /// Tokens that were scored and still stand before those that were not.
    before: Vec<u32>,
    /// Tokens to score.
    waiting: Vec<u32>,
}

impl<'a> Windows<'a> {
    fn new(engine: &'a Engine, size: usize) -> anyhow::Result<Self> {
        let first = engine.prepare(&Prompt::Text(String::new()))?;
        let first = first.tokens().to_vec();
        Ok(Self {
            engine,
            size,
            first,
            before: Vec::new(),
            waiting: Vec::new(),
        })
    }

    fn push(&mut self, text: &str, out: &mut impl Write) -> anyhow::Result<()> {
        let tokens = self.engine.prompter().tokenizer().encode(text);
        self.waiting
            .extend(tokens.map_err(|error: TokenizerError| anyhow::anyhow!(error))?);
        while self.waiting.len() >= self.room() {
            self.score_window(out)?;
        }
        Ok(())
    }

    fn finish(&mut self, out: &mut impl Write) -> anyhow::Result<()> {
        while !self.waiting.is_empty() {
            self.score_window(out)?;
        }
        Ok(())
    }

    /// Tokens that the next window can take.
    fn room(&self) -> usize {
        self.size - self.first.len() - self.before.len()
    }

    /// Scores as many tokens as a window takes; half a window of them stands before the next.
    fn score_window(&mut self, out: &mut impl Write) -> anyhow::Result<()> {
        let taken = self.room().min(self.waiting.len());
        let new: Vec<u32> = self.waiting.drain(..taken).collect();
        let window = [self.first.as_slice(), &self.before, &new].concat();
        if window.len() > 1 {
            let scores = self.engine.score(&window, TOP)?.wait()?;
            // There is a score for each token but the window's first.
            for token in scores
                .iter()
                .skip((window.len() - 1).saturating_sub(new.len()))
            {
                let line = serde_json::json!({
                    "id": token.token, "logprob": token.logprob, "top": token.top,
                });
                writeln!(out, "{line}")?;
            }
        }
        self.before.extend(new);
        let kept = self.before.len().min((self.size - self.first.len()) / 2);
        self.before.drain(..self.before.len() - kept);
        Ok(())
    }
}

/// A text in pieces that can be tokenized apart: a run of line ends is a token of its own, so
/// nothing joins what stands before and after it.
struct Pieces<R> {
    lines: R,
    /// The beginning of the next piece.
    carried: Vec<u8>,
    ended: bool,
}

impl<R: BufRead> Pieces<R> {
    fn next(&mut self) -> anyhow::Result<Option<String>> {
        let mut piece = std::mem::take(&mut self.carried);
        while !self.ended {
            let start = piece.len();
            let limit = u64::try_from(LINE_BYTES_MAX)?;
            let read = std::io::Read::take(&mut self.lines, limit).read_until(b'\n', &mut piece)?;
            self.ended = read == 0;
            let cut = read == LINE_BYTES_MAX && !piece.ends_with(b"\n");
            if cut {
                self.carried = piece.split_off(last_boundary(&piece));
                break;
            }
            let after_break = start > 0 && piece.get(start).is_some_and(|byte| *byte != b'\n');
            if start >= PIECE_BYTES && after_break {
                self.carried = piece.split_off(start);
                break;
            }
        }
        if piece.is_empty() {
            return Ok(None);
        }
        String::from_utf8(piece).map(Some).map_err(|error| {
            let at = error.utf8_error().valid_up_to();
            anyhow::anyhow!("is no UTF-8 text, {at} bytes into one of its lines")
        })
    }
}

/// Where the last whole character of cut text ends.
fn last_boundary(bytes: &[u8]) -> usize {
    let start = bytes.len().saturating_sub(4);
    if std::str::from_utf8(&bytes[start..]).is_ok() {
        return bytes.len();
    }
    let lead = bytes[start..].iter().rposition(|byte| byte & 0xC0 != 0x80);
    lead.map_or(bytes.len(), |lead| start + lead)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(text: &[u8]) -> Vec<String> {
        let mut pieces = Pieces {
            lines: text,
            carried: Vec::new(),
            ended: false,
        };
        std::iter::from_fn(|| pieces.next().unwrap()).collect()
    }

    #[test]
    fn pieces_join_to_the_text_and_break_after_line_ends() {
        let mut text = String::new();
        for line in 0..20_000 {
            text.extend(["line ", &line.to_string(), "\n"]);
            if line % 7 == 0 {
                text.push_str("\n\n");
            }
        }
        let pieces = pieces(text.as_bytes());
        assert!(pieces.len() > 2);
        assert_eq!(pieces.concat(), text);
        for pair in pieces.windows(2) {
            assert!(pair[0].ends_with('\n') && !pair[1].starts_with('\n'));
        }
    }

    #[test]
    fn a_line_without_end_is_cut_between_characters() {
        let text = "ü€𝄞".repeat(LINE_BYTES_MAX / 8);
        let pieces = pieces(text.as_bytes());
        assert!(pieces.len() > 1);
        assert_eq!(pieces.concat(), text);
    }

    #[test]
    fn empty_and_broken_text() {
        assert!(pieces(b"").is_empty());
        let mut broken = Pieces {
            lines: &b"a\xFFb"[..],
            carried: Vec::new(),
            ended: false,
        };
        assert!(broken.next().is_err());
    }
}
