//! Why a request is refused, in words for programs, and how that is written.

use lapidary_schemas::FailureCode;
use schemars::JsonSchema;
use serde::Serialize;

use crate::submission::Mistake;

/// Why the gateway itself refuses a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Code {
    /// The request is wrong.
    InvalidRequest,
    /// The file has mistakes.
    InvalidFile,
    /// There is no such key.
    InvalidApiKey,
    /// The key does not allow it.
    MissingScope,
    /// Without keys, pages of other origins are not served.
    ForeignOrigin,
    /// There is no such thing, or it is another tenant's.
    NotFound,
    /// No worker serves the model.
    ModelNotFound,
    /// The address does not take the method.
    MethodNotAllowed,
    /// The batch has ended already.
    BatchEnded,
    /// The job cannot be brought back.
    NotReplayable,
    /// The request under this key is being answered.
    IdempotencyKeyInUse,
    /// The key was used for another request.
    IdempotencyKeyReused,
    /// The operator has allowed no webhooks.
    WebhooksOff,
    /// The body is over its limit.
    BodyTooLarge,
    /// The file is over its limit.
    FileTooLarge,
    /// The body is of another type.
    UnsupportedMediaType,
    /// The body did not come in time.
    TooSlow,
    /// The answer did not come in time.
    TooLate,
    /// Too much is asked at once.
    QueueFull,
    /// A store cannot be reached.
    Unavailable,
    /// The gateway is stopping.
    Stopping,
    /// A fault of the gateway.
    Internal,
}

/// Why a request has no answer: the gateway's word, or that of its job's failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum AnyCode {
    Gateway(Code),
    Job(FailureCode),
}

impl From<Code> for AnyCode {
    fn from(code: Code) -> Self {
        Self::Gateway(code)
    }
}

impl From<FailureCode> for AnyCode {
    fn from(code: FailureCode) -> Self {
        Self::Job(code)
    }
}

/// Kinds of errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[expect(clippy::enum_variant_names, reason = "they are OpenAI's")]
pub(super) enum Kind {
    InvalidRequestError,
    AuthenticationError,
    PermissionError,
    RateLimitError,
    ServerError,
}

/// An error as it is written.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct ErrorBody {
    pub(super) error: ErrorObject,
}

/// What went wrong.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct ErrorObject {
    /// For people.
    pub(super) message: String,
    #[serde(rename = "type")]
    pub(super) kind: Kind,
    /// The parameter that it is about.
    pub(super) param: Option<String>,
    /// For programs.
    pub(super) code: AnyCode,
    /// The first mistakes of a file of requests.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) errors: Vec<Mistake>,
}
