//! Batched Gemma inference: messages in, tokens out, many at once.
//!
//! Knows nothing of queues, HTTP, wire types, retries or deadlines.
//!
//! A request goes through these modules in order: [`prompt`] makes tokens of it, [`Engine`] hands
//! it to the engine thread (`thread`), which repeats one thing (`step`): [`scheduler`] plans which
//! tokens are computed next, a [`batch::Forward`] ([`runner`], on [`models`]) computes their
//! logits, [`sampler`] draws from them, [`stop`] sees whether an answer has ended, and
//! [`generation`] carries it back.
//!
//! **The same request gives the same text** alone, in any batch, in chunks, after preemption and
//! with shared prefixes: a row's logits depend on its own sequence only, and a draw on seed and
//! position only.

pub mod batch;
pub mod device;
mod encoded;
mod engine;
pub mod fake;
pub mod generation;
mod grammar;
pub mod image;
mod instant;
pub mod kv;
pub mod loops;
pub mod memory;
pub mod models;
mod opened;
pub mod ops;
mod options;
pub mod prompt;
mod request;
mod row;
pub mod runner;
pub mod sampler;
pub mod scheduler;
pub mod sequence;
mod source;
mod step;
pub mod stop;
mod thread;
mod towers;
pub mod weights;

pub use engine::{Engine, EngineError, ModelInfo};
pub use generation::{
    Event, GenerateError, Generation, NextLogits, Outcome, Scoring, Timings, Usage,
};
pub use grammar::{Form, Grammar, GrammarError};
pub use options::EngineOptions;
pub use prompt::{Judged, Message, Part, Prepared, Prompt, Prompter, Role};
pub use request::{GenerateInput, LOGPROBS_MAX, NEXT_TOKENS_MAX, SubmitError};
pub use runner::{LoadOptions, Quantization};
pub use sampler::{Sampling, TokenLogprob};
pub use sequence::Class;
pub use source::{EmbeddedFile, ModelSource};
pub use step::{StepReport, VisionCounts};
pub use stop::FinishReason;
pub use thread::{Health, Stats};
pub use towers::Towers;
