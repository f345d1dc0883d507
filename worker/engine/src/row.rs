//! One row of logits: a token drawn from it, or scored by it.

use std::borrow::Cow;

use crate::batch::TokenId;
use crate::grammar::{Grammar, GrammarError};
use crate::sampler::{Choice, NotFinite, Sampling, TokenLogprob, token_logprob};

/// What came of a row.
#[derive(Default)]
pub(crate) struct Scored {
    /// The token that was drawn, or that follows in a scored text.
    pub(crate) token: TokenId,
    pub(crate) logprob: Option<TokenLogprob>,
    /// The logits that were asked for.
    pub(crate) logits: Vec<f32>,
}

/// Why nothing came of it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RowError {
    #[error(transparent)]
    NotFinite(#[from] NotFinite),
    #[error(transparent)]
    Grammar(#[from] GrammarError),
}

/// What to do with a row.
pub(crate) enum RowTask<'a> {
    Draw(Draw<'a>),
    Score { token: TokenId, top: usize },
    Weigh(&'a [TokenId]),
}

/// A draw.
pub(crate) struct Draw<'a> {
    pub(crate) sampling: &'a Sampling,
    /// All tokens before the one to draw, drafted ones included.
    pub(crate) history: Cow<'a, [TokenId]>,
    pub(crate) grammar: Option<&'a Grammar>,
    pub(crate) logprobs: Option<usize>,
}

impl RowTask<'_> {
    /// Does it. `suppressed`: tokens that may not be drawn.
    pub(crate) fn run(self, row: &mut [f32], suppressed: &[TokenId]) -> Result<Scored, RowError> {
        match self {
            Self::Draw(draw) => draw.run(row, suppressed),
            Self::Score { token, top } => {
                let logprob = Some(token_logprob(row, token, top)?);
                Ok(Scored {
                    token,
                    logprob,
                    logits: Vec::new(),
                })
            }
            Self::Weigh(tokens) => {
                let weighed = tokens.iter().map(|token| row[*token as usize]);
                let logits: Vec<f32> = weighed.collect();
                if !logits.iter().all(|logit| logit.is_finite()) {
                    return Err(NotFinite.into());
                }
                Ok(Scored {
                    logits,
                    ..Scored::default()
                })
            }
        }
    }
}

impl Draw<'_> {
    fn run(self, row: &mut [f32], suppressed: &[TokenId]) -> Result<Scored, RowError> {
        // Log-probabilities are those of the model, before anything changes them.
        let raw = self.logprobs.map(|top| (row.to_vec(), top));
        if let Some(grammar) = self.grammar {
            grammar.restrict(row)?;
        }
        let choice = Choice {
            row,
            sampling: self.sampling,
            history: &self.history,
            suppressed,
        };
        let token = choice.draw()?;
        if let Some(grammar) = self.grammar {
            grammar.advance(token)?;
        }
        let logprob = raw.map(|(row, top)| token_logprob(&row, token, top));
        Ok(Scored {
            token,
            logprob: logprob.transpose()?,
            logits: Vec::new(),
        })
    }
}
