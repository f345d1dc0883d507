//! What requests may ask for: what the model serves, and no more than who takes them allows.

use lapidary_schemas::limits::MEDIA_BYTES_MAX;
use lapidary_schemas::{Policy, WorkerInfo};

/// The most that requests may ask for, whatever the model serves.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ceiling {
    /// Characters of text a message may have.
    pub(crate) message_chars_max: usize,
    /// Generated tokens a request may ask for.
    pub(crate) output_tokens_max: u32,
}

impl Ceiling {
    /// Only the model decides.
    pub(crate) const NONE: Self = Self {
        message_chars_max: usize::MAX,
        output_tokens_max: u32::MAX,
    };

    /// The policy under this ceiling.
    pub(crate) fn lower(self, policy: Policy) -> Policy {
        Policy {
            message_chars_max: policy.message_chars_max.min(self.message_chars_max),
            output_tokens_max: policy.output_tokens_max.min(self.output_tokens_max),
            ..policy
        }
    }
}

/// What a model serves, if one of the workers serves it.
pub(crate) fn served(workers: &[WorkerInfo], model: &str) -> Option<Policy> {
    let serving = workers.iter().find(|worker| worker.model.name == model)?;
    Some(Policy::of_model(&serving.model))
}

/// What every model serves: nobody knows this one now.
pub(super) fn unknown(model: &str) -> Policy {
    Policy {
        message_chars_max: MEDIA_BYTES_MAX,
        ..Policy::text(model)
    }
}
