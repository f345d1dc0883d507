//! The pieces a document is asked in: stretches of its text, or groups of captions of them.

use std::borrow::Cow;

use super::{PictureAt, Subject};
use crate::split;

/// What stands between captions that are combined.
const BETWEEN_CAPTIONS: &str = "\n\n";
/// Share of a measured fit that is tried, in hundredths: tokens are not spread evenly.
const FIT_PERCENT: u128 = 95;

/// One question's place in a document.
#[derive(Debug)]
pub(super) struct Piece {
    /// Its name; never used again in the document.
    pub(super) id: u32,
    /// What it asks about.
    pub(super) source: Source,
    /// What came back.
    pub(super) answer: Option<String>,
}

impl Piece {
    /// A single caption needs no combining: it is its own answer.
    pub(super) fn new(id: u32, source: Source) -> Self {
        let answer = match &source {
            Source::Captions(captions) if captions.len() == 1 => captions.first().cloned(),
            _ => None,
        };
        Self { id, source, answer }
    }

    /// Takes its answer; what was asked is not needed any more and makes room.
    pub(super) fn settle(&mut self, answer: String) {
        self.answer = Some(answer);
        self.source = Source::Text(String::new());
    }
}

/// What a piece asks about.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// A stretch of the document.
    Text(String),
    /// Captions of consecutive parts.
    Captions(Vec<String>),
    /// Pictures, which are never cut.
    Pictures(Vec<PictureAt>),
}

/// How much of a prompt that was too long would have fitted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fit {
    /// Tokens it had; 0 if that is not known.
    pub(super) prompt_tokens: u32,
    /// Tokens it may have.
    pub(super) prompt_tokens_max: u32,
    /// Text is not cut shorter than this.
    pub(super) bytes_min: usize,
}

impl Fit {
    /// Bytes of a text of `bytes` that will probably fit: always fewer. `None`: too few to matter.
    fn bytes(self, bytes: usize) -> Option<usize> {
        let known = (self.prompt_tokens > self.prompt_tokens_max).then(|| {
            let share = bytes as u128 * u128::from(self.prompt_tokens_max) * FIT_PERCENT
                / (u128::from(self.prompt_tokens) * 100);
            usize::try_from(share).unwrap_or(bytes)
        });
        let fewer = known.unwrap_or(bytes / 2);
        (fewer >= self.bytes_min).then_some(fewer)
    }
}

impl Source {
    /// What the question is about.
    pub(super) fn subject(&self) -> Subject<'_> {
        match self {
            Self::Text(text) => Subject::Text(Cow::Borrowed(text)),
            Self::Captions(captions) => Subject::Captions(join(captions)),
            Self::Pictures(pictures) => Subject::Pictures(pictures),
        }
    }

    /// The beginning that will probably fit.
    pub(super) fn shorter(&self, fit: &Fit) -> Option<Self> {
        match self {
            Self::Text(text) => {
                let bytes = fit.bytes(text.len())?;
                Some(Self::Text(split::truncate(text, bytes).to_owned()))
            }
            Self::Captions(_) | Self::Pictures(_) => None,
        }
    }

    /// The same in two or more smaller pieces.
    pub(super) fn cut(&self, fit: &Fit) -> Option<Vec<Self>> {
        match self {
            Self::Text(text) => {
                let bytes = fit.bytes(text.len())?;
                let pieces = split::split(text, bytes);
                Some(
                    pieces
                        .into_iter()
                        .map(|piece| Self::Text(piece.to_owned()))
                        .collect(),
                )
            }
            Self::Captions(captions) if captions.len() > 2 => {
                let (left, right) = captions.split_at(captions.len().div_ceil(2));
                Some(vec![
                    Self::Captions(left.to_vec()),
                    Self::Captions(right.to_vec()),
                ])
            }
            // Two captions that do not fit together never will.
            Self::Captions(_) | Self::Pictures(_) => None,
        }
    }
}

/// Captions in groups that fit a prompt, at least two a group, so that every level has fewer.
pub(super) fn group(captions: Vec<String>, bytes_max: usize) -> Vec<Source> {
    let mut groups: Vec<Vec<String>> = Vec::new();
    let mut bytes = 0;
    for caption in captions {
        let size = caption.len() + BETWEEN_CAPTIONS.len();
        match groups.last_mut() {
            Some(group) if group.len() < 2 || bytes + size <= bytes_max => {
                bytes += size;
                group.push(caption);
            }
            _ => {
                bytes = size;
                groups.push(vec![caption]);
            }
        }
    }
    groups.into_iter().map(Source::Captions).collect()
}

fn join(captions: &[String]) -> String {
    let trimmed: Vec<&str> = captions.iter().map(|caption| caption.trim()).collect();
    trimmed.join(BETWEEN_CAPTIONS)
}
