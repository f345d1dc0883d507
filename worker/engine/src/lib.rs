//! Batched Gemma inference: messages in, tokens out, many at once.
//!
//! Knows nothing of queues, HTTP, wire types, retries or deadlines.

pub mod batch;
pub mod prompt;
