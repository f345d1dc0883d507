//! Pictures in a prompt: the text around them, and the soft tokens that stand for them.
//!
//! A picture becomes text before anything is tokenized, so that its line breaks join those beside
//! it: a blank line, a start marker, soft tokens, an end marker, a blank line. Markers are control
//! tokens, at which text is cut anyway; they are put in here and nowhere else.
//! Source: `transformers` `models/gemma3/processing_gemma3.py`.

use std::ops::Range;
use std::sync::Arc;

use super::PromptError;
use super::tokenizer::{Tokenizer, TokenizerError};
use crate::batch::TokenId;
use crate::image::{Image, View};

/// What chat templates write where a picture stands; it also begins the picture's tokens.
pub(super) const START: &str = "<start_of_image>";
const END: &str = "<end_of_image>";
const SOFT: &str = "<image_soft_token>";

/// What stands between a picture's tokens and the text beside them.
const BREAK: &str = "\n\n";

/// What introduces a picture that is also shown in crops, and the crops, and parts those.
const BEFORE_WHOLE: &str = "Here is the original image ";
const BEFORE_CROPS: &str = " and here are some crops to help you see better ";
const BETWEEN_CROPS: &str = " ";

/// A prompt as a model reads it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Prepared {
    pub(crate) tokens: Vec<TokenId>,
    pub(crate) views: Vec<PlacedView>,
}

impl Prepared {
    /// Its tokens, those of pictures included.
    pub fn tokens(&self) -> &[TokenId] {
        &self.tokens
    }

    /// The views of its pictures, by their places.
    pub fn views(&self) -> &[PlacedView] {
        &self.views
    }

    /// How many of its tokens stand for pictures.
    pub fn image_tokens(&self) -> usize {
        self.views.iter().map(|view| view.positions.len()).sum()
    }

    /// Puts a token before all others.
    pub(super) fn insert_first(&mut self, token: TokenId) {
        self.tokens.insert(0, token);
        for view in &mut self.views {
            view.positions = view.positions.start + 1..view.positions.end + 1;
        }
    }
}

impl From<Vec<TokenId>> for Prepared {
    fn from(tokens: Vec<TokenId>) -> Self {
        let views = Vec::new();
        Self { tokens, views }
    }
}

/// A view and the tokens that stand for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlacedView {
    pub(crate) positions: Range<usize>,
    image: Arc<Image>,
    index: usize,
}

impl PlacedView {
    /// Places of its soft tokens in the prompt.
    pub fn positions(&self) -> &Range<usize> {
        &self.positions
    }

    /// The pixels.
    pub fn view(&self) -> &View {
        &self.image.views()[self.index]
    }
}

/// How a model reads pictures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ImageTokens {
    start: TokenId,
    soft: TokenId,
    end: TokenId,
    /// Soft tokens of a view.
    count: usize,
    /// Width and height of a view, in pixels.
    side: u32,
}

impl ImageTokens {
    /// For a model that gives `count` soft tokens to a view of `side` by `side` pixels.
    ///
    /// GGUF files leave the soft token out of their vocabulary; it comes right behind.
    pub(super) fn new(
        tokenizer: &Tokenizer,
        count: usize,
        side: u32,
    ) -> Result<Self, TokenizerError> {
        let marker = |text: &str| {
            let missing = || TokenizerError::invalid(format!("it has no token `{text}`"));
            tokenizer.id(text).ok_or_else(missing)
        };
        let behind = || TokenId::try_from(tokenizer.token_count()).unwrap_or(TokenId::MAX);
        Ok(Self {
            start: marker(START)?,
            soft: tokenizer.id(SOFT).unwrap_or_else(behind),
            end: marker(END)?,
            count,
            side,
        })
    }

    /// Refuses a picture that was prepared for another model.
    pub(super) fn check(&self, image: &Image) -> Result<(), PromptError> {
        let bytes = self.side as usize * self.side as usize * 3;
        match image.views().iter().find(|view| view.rgb().len() != bytes) {
            Some(view) => Err(PromptError::ViewSize {
                bytes: view.rgb().len(),
                expected: bytes,
                side: self.side,
            }),
            None => Ok(()),
        }
    }

    /// Tokens of `pieces`, whose texts go through `encode`.
    pub(super) fn lay_out(
        &self,
        pieces: &[Piece<'_>],
        encode: impl Fn(&str, &mut Vec<TokenId>) -> Result<(), TokenizerError>,
    ) -> Result<Prepared, TokenizerError> {
        let mut prepared = Prepared::default();
        let mut text = String::new();
        for piece in pieces {
            match piece {
                Piece::Text(more) => text.push_str(more),
                Piece::View(image, index) => {
                    text.push_str(BREAK);
                    encode(&text, &mut prepared.tokens)?;
                    prepared.tokens.push(self.start);
                    let first = prepared.tokens.len();
                    let positions = first..first + self.count;
                    prepared.tokens.resize(positions.end, self.soft);
                    prepared.tokens.push(self.end);
                    prepared.views.push(PlacedView {
                        positions,
                        image: Arc::clone(image),
                        index: *index,
                    });
                    BREAK.clone_into(&mut text);
                }
            }
        }
        encode(&text, &mut prepared.tokens)?;
        Ok(prepared)
    }
}

/// What a prompt consists of.
#[derive(Debug)]
pub(super) enum Piece<'a> {
    Text(&'a str),
    View(&'a Arc<Image>, usize),
}

impl<'a> Piece<'a> {
    pub(super) fn text(&self) -> Option<&'a str> {
        match self {
            Self::Text(text) => Some(text),
            Self::View(..) => None,
        }
    }
}

/// Adds a picture, with the words around its crops.
pub(super) fn push_image<'a>(pieces: &mut Vec<Piece<'a>>, image: &'a Arc<Image>) {
    let crops = image.views().len().saturating_sub(1);
    if crops > 0 {
        pieces.push(Piece::Text(BEFORE_WHOLE));
    }
    pieces.push(Piece::View(image, 0));
    for crop in 1..=crops {
        let before = if crop == 1 {
            BEFORE_CROPS
        } else {
            BETWEEN_CROPS
        };
        pieces.push(Piece::Text(before));
        pieces.push(Piece::View(image, crop));
    }
}

/// Text in which every [`START`] stands for the next of `images`.
pub(super) fn pieces_of<'a>(
    text: &'a str,
    images: &[&'a Arc<Image>],
) -> Result<Vec<Piece<'a>>, PromptError> {
    let texts: Vec<&str> = text.split(START).collect();
    let placed = texts.len() - 1;
    if placed != images.len() {
        let given = images.len();
        return Err(PromptError::Unplaced { given, placed });
    }
    let mut pieces = Vec::new();
    for (index, text) in texts.into_iter().enumerate() {
        pieces.push(Piece::Text(text));
        if let Some(image) = images.get(index) {
            push_image(&mut pieces, image);
        }
    }
    Ok(pieces)
}
