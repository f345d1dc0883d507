//! From a document to its caption: one question, or, where the document is longer than the model's
//! context, one for each part and more to combine the answers.
//!
//! Nothing here counts tokens. A first guess cuts by bytes; what still does not fit comes back as
//! `PROMPT_TOO_LONG` and is cut again. Everything is a pure step: a result goes in, what to do next
//! comes out.

mod pieces;

use std::borrow::Cow;

use lapidary_schemas::result::Usage;
use lapidary_schemas::{Failure, FailureCode, JobResult, MediaRef, Status};
use serde::{Deserialize, Serialize};

use crate::prompt::Prompts;
use crate::rows::Row;
use crate::split;
use pieces::{Piece, Source};

/// Bytes a token stands for at the first guess: fewer than in most text, so that parts fit.
const SPLIT_BYTES_PER_TOKEN: usize = 3;
/// The same where only the beginning is kept: more than in most text, so that none is cut without
/// need.
const TRUNCATE_BYTES_PER_TOKEN: usize = 6;
/// Text is never cut shorter than this to make it fit.
const PIECE_BYTES_MIN: usize = 256;

/// What to do with a document that is longer than the model's context.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Long {
    /// Caption its parts, then combine the captions.
    #[default]
    Split,
    /// Caption its beginning, and say so.
    Truncate,
    /// Report it as failed.
    Refuse,
}

impl Long {
    /// As it is written on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Split => "split",
            Self::Truncate => "truncate",
            Self::Refuse => "refuse",
        }
    }
}

/// What holds for every document of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// What is asked.
    pub prompts: Prompts,
    /// What to do with long documents.
    pub long: Long,
    /// Tokens a prompt may have: the context less the answer.
    pub prompt_tokens_max: u32,
}

impl Rules {
    /// Bytes of text to begin with beside a prompt of `prompt_bytes`.
    fn text_bytes(&self, prompt_bytes: usize) -> usize {
        let bytes_per_token = match self.long {
            Long::Split => SPLIT_BYTES_PER_TOKEN,
            Long::Truncate => TRUNCATE_BYTES_PER_TOKEN,
            Long::Refuse => return usize::MAX,
        };
        let tokens = usize::try_from(self.prompt_tokens_max).unwrap_or(usize::MAX);
        tokens
            .saturating_mul(bytes_per_token)
            .saturating_sub(prompt_bytes)
            .max(PIECE_BYTES_MIN)
    }
}

/// A document on its way to a caption.
#[derive(Debug)]
pub struct Work {
    name: String,
    key: String,
    /// 0: the document's own text; above: captions of the level below.
    level: u32,
    /// What is asked on this level, in the document's order.
    pieces: Vec<Piece>,
    next_piece: u32,
    parts: usize,
    truncated: bool,
    usage: Usage,
}

/// What to do after a result.
#[derive(Debug, PartialEq)]
pub enum Step {
    /// Other answers are still to come.
    Wait,
    /// Ask these pieces.
    Ask(Vec<u32>),
    /// The document has its row.
    Done(Box<Row>),
}

/// One question.
#[derive(Debug, PartialEq, Eq)]
pub struct Question<'a> {
    /// What it is about.
    pub subject: Subject<'a>,
    /// What the question is called inside its document; empty for the whole document.
    pub label: String,
}

/// What a question is about.
#[derive(Debug, PartialEq, Eq)]
pub enum Subject<'a> {
    /// A document's text, or a part of it.
    Text(Cow<'a, str>),
    /// Captions of parts, to combine.
    Captions(String),
    /// Pictures that are shown together; mostly one.
    Pictures(&'a [PictureAt]),
}

/// Where the worker finds a picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PictureAt {
    /// In the media store.
    Stored(MediaRef),
    /// At an `http(s):` address.
    Address(String),
}

impl PictureAt {
    /// As it stands in a request.
    pub fn url(&self) -> String {
        match self {
            Self::Stored(media) => media.to_string(),
            Self::Address(url) => url.clone(),
        }
    }

    /// What the store holds of it.
    pub fn media(&self) -> Option<&MediaRef> {
        match self {
            Self::Stored(media) => Some(media),
            Self::Address(_) => None,
        }
    }
}

impl Work {
    /// Begins pictures that are shown together: one question.
    pub fn pictures(name: String, key: String, pictures: Vec<PictureAt>) -> (Self, Vec<u32>) {
        let mut work = Self::new(name, key);
        let asked = work.add(0, vec![Source::Pictures(pictures)]);
        (work, asked)
    }

    /// Begins a text; every piece of it is to be asked.
    pub fn text(name: String, key: String, text: String, rules: &Rules) -> (Self, Vec<u32>) {
        let bytes_max = rules.text_bytes(rules.prompts.document.bytes(&name));
        let mut work = Self::new(name, key);
        if text.len() <= bytes_max {
            work.add(0, vec![Source::Text(text)]);
        } else if rules.long == Long::Truncate {
            work.truncated = true;
            work.add(
                0,
                vec![Source::Text(split::truncate(&text, bytes_max).to_owned())],
            );
        } else {
            let parts = split::split(&text, bytes_max);
            work.add(
                0,
                parts
                    .into_iter()
                    .map(|part| Source::Text(part.to_owned()))
                    .collect(),
            );
        }
        let asked = work.pieces.iter().map(|piece| piece.id).collect();
        (work, asked)
    }

    fn new(name: String, key: String) -> Self {
        Self {
            name,
            key,
            level: 0,
            pieces: Vec::new(),
            next_piece: 0,
            parts: 1,
            truncated: false,
            usage: Usage::default(),
        }
    }

    /// The document's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The document's resume key.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// What a piece asks.
    pub fn question(&self, piece: u32) -> Option<Question<'_>> {
        let position = self.position(piece)?;
        let whole = self.level == 0 && self.pieces.len() == 1;
        Some(Question {
            subject: self.pieces[position].source.subject(),
            label: match (whole, self.level) {
                (true, _) => String::new(),
                (false, 0) => format!("part {}", position + 1),
                (false, level) => format!("combined {level}.{}", position + 1),
            },
        })
    }

    /// Takes the result of a piece in.
    pub fn answered(&mut self, piece: u32, result: &JobResult, rules: &Rules) -> Step {
        let Some(position) = self.position(piece) else {
            return Step::Wait;
        };
        self.count(result.usage);
        let too_long = result
            .failure
            .as_ref()
            .is_some_and(|f| f.code == FailureCode::PromptTooLong);
        if too_long {
            return self.too_long(position, result, rules);
        }
        let (Status::Succeeded, Some(text)) = (result.status, &result.text) else {
            return self.failed(position, result);
        };
        self.pieces[position].settle(text.clone());
        if self.pieces.iter().any(|piece| piece.answer.is_none()) {
            return Step::Wait;
        }
        if self.pieces.len() == 1 {
            return self.done(result);
        }
        self.combine(rules)
    }

    fn position(&self, piece: u32) -> Option<usize> {
        self.pieces
            .iter()
            .position(|known| known.id == piece && known.answer.is_none())
    }

    /// Puts pieces at a position; returns those that must be asked.
    fn add(&mut self, at: usize, sources: Vec<Source>) -> Vec<u32> {
        if self.level == 0 {
            self.parts = self.pieces.len() + sources.len();
        }
        let mut asked = Vec::new();
        let mut added = Vec::new();
        for source in sources {
            let piece = Piece::new(self.next_piece, source);
            self.next_piece += 1;
            if piece.answer.is_none() {
                asked.push(piece.id);
            }
            added.push(piece);
        }
        self.pieces.splice(at..at, added);
        asked
    }

    /// A piece did not fit: cuts it further, or gives up.
    fn too_long(&mut self, position: usize, result: &JobResult, rules: &Rules) -> Step {
        let fits = pieces::Fit {
            prompt_tokens: measured_tokens(result),
            prompt_tokens_max: rules.prompt_tokens_max,
            bytes_min: PIECE_BYTES_MIN,
        };
        let source = &self.pieces[position].source;
        let smaller = match (rules.long, self.level) {
            (Long::Refuse, 0) => None,
            (Long::Truncate, 0) => source.shorter(&fits).map(|shorter| vec![shorter]),
            _ => source.cut(&fits),
        };
        let Some(smaller) = smaller else {
            return self.failed(position, result);
        };
        self.truncated |= rules.long == Long::Truncate;
        self.pieces.remove(position);
        Step::Ask(self.add(position, smaller))
    }

    /// All parts have captions: asks for captions of captions.
    fn combine(&mut self, rules: &Rules) -> Step {
        self.level += 1;
        let captions: Vec<String> = self
            .pieces
            .drain(..)
            .filter_map(|piece| piece.answer)
            .collect();
        let bytes_max = rules.text_bytes(rules.prompts.combine.bytes(&self.name));
        let asked = self.add(0, pieces::group(captions, bytes_max));
        Step::Ask(asked)
    }

    fn count(&mut self, usage: Usage) {
        self.usage.prompt_tokens = self.usage.prompt_tokens.saturating_add(usage.prompt_tokens);
        self.usage.image_tokens = self.usage.image_tokens.saturating_add(usage.image_tokens);
        self.usage.cached_tokens = self.usage.cached_tokens.saturating_add(usage.cached_tokens);
        self.usage.completion_tokens = self
            .usage
            .completion_tokens
            .saturating_add(usage.completion_tokens);
    }

    fn done(&self, result: &JobResult) -> Step {
        Step::Done(Box::new(Row {
            text: result.text.clone(),
            ..self.row(result)
        }))
    }

    /// One piece has no answer, so the document has none.
    fn failed(&self, position: usize, result: &JobResult) -> Step {
        let failure = result.failure.clone().unwrap_or_else(|| {
            Failure::new(
                FailureCode::Internal,
                "the result has neither text nor failure",
            )
        });
        let message = match (self.pieces.len(), self.level) {
            (1, _) => format!("{}: {}", self.name, failure.message),
            (n, 0) => format!(
                "{}: part {} of {n}: {}",
                self.name,
                position + 1,
                failure.message
            ),
            _ => format!(
                "{}: combining its {} parts: {}",
                self.name, self.parts, failure.message
            ),
        };
        Step::Done(Box::new(Row {
            failure: Some(Failure { message, ..failure }),
            ..self.row(result)
        }))
    }

    fn row(&self, result: &JobResult) -> Row {
        Row {
            name: self.name.clone(),
            text: None,
            status: result.status,
            same_as: None,
            finish_reason: result.finish_reason,
            parts: u32::try_from(self.parts).unwrap_or(u32::MAX),
            truncated: self.truncated,
            usage: self.usage,
            seed: result.seed,
            failure: None,
            key: Some(self.key.clone()),
        }
    }
}

/// Tokens of a prompt that did not fit: counted in its usage, or named first in the failure's
/// message; 0 if neither tells.
fn measured_tokens(result: &JobResult) -> u32 {
    let named = || {
        let message = &result.failure.as_ref()?.message;
        message
            .split(|c: char| !c.is_ascii_digit())
            .find_map(|digits| digits.parse().ok())
    };
    match result.usage.prompt_tokens {
        0 => named().unwrap_or(0),
        counted => counted,
    }
}

#[cfg(test)]
mod tests;
