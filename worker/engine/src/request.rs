//! Requests: what is asked of the engine, what is refused, and what the engine keeps of each.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use crate::batch::TokenId;
use crate::generation::{GenerateError, Outcome, Reply, Timings, Usage};
use crate::grammar::{Grammar, GrammarError};
use crate::image::View;
use crate::prompt::{PlacedView, Prepared, Prompt, PromptError};
use crate::sampler::{Sampling, TokenLogprob};
use crate::sequence::{AtomicRange, Class, Contents, LogitsWanted, Sequence, SequenceId};
use crate::stop::{Answer, FinishReason};

/// A generation to make.
#[derive(Debug, Clone)]
pub struct GenerateInput {
    /// What to continue.
    pub prompt: Prompt,
    /// How to choose tokens.
    pub sampling: Sampling,
    /// Most tokens to generate; at least 1.
    pub max_tokens: usize,
    /// Strings that end the answer.
    pub stop: Vec<String>,
    /// Whether to end an answer that goes round in circles, see [`crate::loops`].
    pub end_loops: bool,
    /// What form it must have: see [`crate::Engine::grammar`].
    pub grammar: Option<Grammar>,
    /// Report log-probabilities, with this many alternatives a token.
    pub logprobs: Option<usize>,
    /// Who waits for it.
    pub class: Class,
}

/// Most alternatives that log-probabilities are reported for.
pub const LOGPROBS_MAX: usize = 20;

/// Most tokens that are weighed against each other.
pub const NEXT_TOKENS_MAX: usize = 20;

/// Why a request was not taken.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// No prompt could be made of it.
    #[error(transparent)]
    Prompt(#[from] PromptError),
    /// No answer can have the form that is asked for.
    #[error("the answer's form: {0}")]
    Form(#[from] GrammarError),
    /// A value is out of its range.
    #[error("{message}")]
    Invalid {
        /// Which one, its value and its range.
        message: String,
    },
    /// It does not fit, now or later.
    #[error("prompt is {tokens} tokens and asks for {output_tokens} more, the limit is {limit}")]
    PromptTooLong {
        /// Tokens of the prompt.
        tokens: usize,
        /// Most tokens to generate.
        output_tokens: usize,
        /// Longest sequence, prompt and output together.
        limit: usize,
    },
    /// Too many requests wait; one that finishes makes room.
    #[error("{limit} {class:?} requests are running or waiting already", class = class)]
    Full {
        /// The class that is full.
        class: Class,
        /// Most requests of this class.
        limit: usize,
    },
    /// The engine does not run any more; see [`crate::Engine::health`].
    #[error("the engine stopped")]
    Stopped,
}

/// A place among the requests of a class; given back when dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    taken: Arc<AtomicUsize>,
}

impl Permit {
    /// Takes a place, if fewer than `limit` are taken.
    pub(crate) fn take(taken: &Arc<AtomicUsize>, limit: usize) -> Option<Self> {
        let more = |count: usize| (count < limit).then_some(count + 1);
        taken
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, more)
            .ok()?;
        Some(Self {
            taken: taken.clone(),
        })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.taken.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A request in the engine.
#[derive(Debug)]
pub(crate) struct Request {
    /// Declared first: given back before the result is sent.
    pub(crate) permit: Permit,
    pub(crate) class: Class,
    /// Its tokens go to the scheduler, its pictures stay until the end: they are encoded again
    /// if it is sent back.
    pub(crate) prompt: Prepared,
    pub(crate) work: Work,
    pub(crate) submitted: Instant,
    pub(crate) admitted: Option<Instant>,
}

/// What a request is for.
#[derive(Debug)]
pub(crate) enum Work {
    Generate(Generate),
    Score(Score),
    Next(Next),
}

/// The making of an answer.
#[derive(Debug)]
pub(crate) struct Generate {
    pub(crate) reply: Reply<Outcome>,
    pub(crate) answer: Answer,
    pub(crate) sampling: Sampling,
    pub(crate) grammar: Option<Grammar>,
    /// Alternatives to report a token.
    pub(crate) logprobs: Option<usize>,
    pub(crate) collected: Vec<TokenLogprob>,
    pub(crate) first_token: Option<Instant>,
}

/// The scoring of given tokens.
#[derive(Debug)]
pub(crate) struct Score {
    pub(crate) reply: Reply<Vec<TokenLogprob>>,
    /// Alternatives to report a token.
    pub(crate) top: usize,
    /// What follows the prompt's last token; the others follow one another.
    pub(crate) last: TokenId,
    pub(crate) collected: Vec<TokenLogprob>,
}

/// The weighing of tokens that may come next.
#[derive(Debug)]
pub(crate) struct Next {
    pub(crate) reply: Reply<Vec<f32>>,
    pub(crate) tokens: Vec<TokenId>,
    /// Their logits, once they are there.
    pub(crate) logits: Vec<f32>,
}

/// Rows of logits that scored sequences may ask of a step: at a vocabulary of 262,144 tokens
/// they take 64 MiB.
const SCORE_ROWS_MAX: usize = 64;

impl Request {
    /// What the scheduler needs of it.
    pub(crate) fn sequence(&mut self, id: SequenceId) -> Sequence {
        let logits = match self.work {
            Work::Generate(_) | Work::Next(_) => LogitsWanted::Last,
            Work::Score(_) => LogitsWanted::All {
                rows_max: SCORE_ROWS_MAX,
            },
        };
        let tokens = std::mem::take(&mut self.prompt.tokens);
        let mut sequence = Sequence::new(id, self.class, tokens, logits);
        sequence.atomic = self.prompt.views().iter().map(AtomicRange::from).collect();
        if matches!(&self.work, Work::Generate(generate) if generate.grammar.is_some()) {
            // A grammar follows the tokens that were drawn, one by one.
            sequence.draft_tokens = 0;
        }
        sequence
    }

    /// The view of these contents, if it is one of this prompt's.
    pub(crate) fn view(&self, contents: &Contents) -> Option<&View> {
        let mut views = self.prompt.views().iter().map(PlacedView::view);
        views.find(|view| view.sha256() == contents)
    }

    /// Whether nobody waits for it any more.
    pub(crate) fn is_cancelled(&self) -> bool {
        match &self.work {
            Work::Generate(generate) => generate.reply.is_cancelled(),
            Work::Score(score) => score.reply.is_cancelled(),
            Work::Next(next) => next.reply.is_cancelled(),
        }
    }

    /// Sends an error in place of a result.
    pub(crate) fn fail(self, error: GenerateError) {
        drop(self.permit);
        match self.work {
            Work::Generate(generate) => generate.reply.finish(Err(error)),
            Work::Score(score) => score.reply.finish(Err(error)),
            Work::Next(next) => next.reply.finish(Err(error)),
        }
    }

    /// Sends what there is: the answer with the reason why it ended, or the scores.
    pub(crate) fn finish(self, sequence: &Sequence, reason: FinishReason, now: Instant) {
        drop(self.permit);
        match self.work {
            Work::Score(score) if reason == FinishReason::Cancelled => {
                score.reply.finish(Err(GenerateError::Cancelled));
            }
            Work::Score(score) => score.reply.finish(Ok(score.collected)),
            Work::Next(next) if reason == FinishReason::Cancelled => {
                next.reply.finish(Err(GenerateError::Cancelled));
            }
            Work::Next(next) => next.reply.finish(Ok(next.logits)),
            Work::Generate(mut generate) => {
                generate
                    .reply
                    .push_text(generate.answer.take_released(true));
                let admitted = self.admitted.unwrap_or(now);
                let first = generate.first_token.unwrap_or(now);
                let outcome = Outcome {
                    text: generate.answer.text().to_owned(),
                    tokens: sequence.output().to_vec(),
                    finish_reason: reason,
                    usage: Usage {
                        prompt_tokens: sequence.prompt_tokens,
                        image_tokens: self.prompt.image_tokens(),
                        cached_tokens: sequence.cached_tokens.unwrap_or(0),
                        completion_tokens: sequence.output().len(),
                    },
                    timings: Timings {
                        queued: admitted - self.submitted,
                        prefill: first - admitted,
                        first_token: first - self.submitted,
                        decode: now - first,
                    },
                    logprobs: generate.logprobs.map(|_| generate.collected),
                };
                generate.reply.finish(Ok(outcome));
            }
        }
    }
}
