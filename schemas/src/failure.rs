//! What a user sees when a job has no answer: one code of a closed list and one message.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Why a job has no answer.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum FailureCode {
    /// The request breaks a rule; it will never succeed as it is.
    ValidationError,
    /// The tenant's rate or budget is used up.
    RateLimitExceeded,
    /// The content filter refused the request.
    ContentFiltered,
    /// The content filter refused the answer.
    ResponseFiltered,
    /// The model failed on this request.
    GenerationError,
    /// Media could not be fetched.
    MediaUnreachable,
    /// Media is not what it claims to be, or is broken.
    MediaInvalid,
    /// Media is over a limit.
    MediaTooLarge,
    /// Prompt and answer do not fit the model's context.
    PromptTooLong,
    /// No worker serves the model.
    ModelUnavailable,
    /// The deadline passed first.
    DeadlineExceeded,
    /// Cancelled on request.
    Cancelled,
    /// Workers died on it until its attempts were used up.
    WorkerLost,
    /// A filter that must not be passed could not run.
    FilterUnavailable,
    /// The answer failed the quality gate.
    QualityRejected,
    /// There is no room to store the result or the media.
    StorageFull,
    /// A fault of this program.
    Internal,
}

impl FailureCode {
    /// Every code, in the order of the declaration.
    pub const ALL: [Self; 17] = [
        Self::ValidationError,
        Self::RateLimitExceeded,
        Self::ContentFiltered,
        Self::ResponseFiltered,
        Self::GenerationError,
        Self::MediaUnreachable,
        Self::MediaInvalid,
        Self::MediaTooLarge,
        Self::PromptTooLong,
        Self::ModelUnavailable,
        Self::DeadlineExceeded,
        Self::Cancelled,
        Self::WorkerLost,
        Self::FilterUnavailable,
        Self::QualityRejected,
        Self::StorageFull,
        Self::Internal,
    ];

    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ValidationError => "VALIDATION_ERROR",
            Self::RateLimitExceeded => "RATE_LIMIT_EXCEEDED",
            Self::ContentFiltered => "CONTENT_FILTERED",
            Self::ResponseFiltered => "RESPONSE_FILTERED",
            Self::GenerationError => "GENERATION_ERROR",
            Self::MediaUnreachable => "MEDIA_UNREACHABLE",
            Self::MediaInvalid => "MEDIA_INVALID",
            Self::MediaTooLarge => "MEDIA_TOO_LARGE",
            Self::PromptTooLong => "PROMPT_TOO_LONG",
            Self::ModelUnavailable => "MODEL_UNAVAILABLE",
            Self::DeadlineExceeded => "DEADLINE_EXCEEDED",
            Self::Cancelled => "CANCELLED",
            Self::WorkerLost => "WORKER_LOST",
            Self::FilterUnavailable => "FILTER_UNAVAILABLE",
            Self::QualityRejected => "QUALITY_REJECTED",
            Self::StorageFull => "STORAGE_FULL",
            Self::Internal => "INTERNAL",
        }
    }

    /// Whether another attempt at the same request may succeed.
    pub fn retryable(self) -> bool {
        matches!(
            self,
            Self::RateLimitExceeded
                | Self::GenerationError
                | Self::MediaUnreachable
                | Self::ModelUnavailable
                | Self::WorkerLost
                | Self::FilterUnavailable
                | Self::QualityRejected
                | Self::StorageFull
                | Self::Internal
        )
    }
}

impl std::fmt::Display for FailureCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a job has no answer, in the user's words: what, which value, which limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, thiserror::Error)]
#[error("{code}: {message}")]
#[serde(deny_unknown_fields)]
pub struct Failure {
    /// The class a caller acts on.
    pub code: FailureCode,
    /// What happened, for a person.
    pub message: String,
    /// Whether another attempt at the same request may succeed.
    pub retryable: bool,
}

impl Failure {
    /// A failure that is retryable as its code is.
    pub fn new(code: FailureCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            retryable: code.retryable(),
        }
    }
}
