//! What a client is told when it does not get what it asked for, in the shape of `OpenAI`'s errors.

use std::time::Duration;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use lapidary_schemas::{Failure, FailureCode};
use lapidary_transport::media::MediaError;
use lapidary_transport::queue::QueueError;
use lapidary_transport::results::ResultsError;

use super::codes::{AnyCode, ErrorObject, Kind};
pub(super) use super::codes::{Code, ErrorBody};
use super::ids::{self, NoSuch};
use super::limits::RETRY_AFTER;
use crate::dead::ReplayError;
use crate::submission::{Mistake, SubmitError};

/// A refusal, or a fault.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(super) struct ApiError {
    status: StatusCode,
    code: AnyCode,
    message: String,
    /// The parameter that it is about.
    param: Option<String>,
    /// What is wrong with a file, by line.
    mistakes: Vec<Mistake>,
    retry_after: Option<Duration>,
}

impl ApiError {
    /// An error of this status.
    pub(super) fn new(
        status: StatusCode,
        code: impl Into<AnyCode>,
        message: impl Into<String>,
    ) -> Self {
        Self {
            status,
            code: code.into(),
            message: message.into(),
            param: None,
            mistakes: Vec::new(),
            retry_after: None,
        }
    }

    /// The request is wrong.
    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, Code::InvalidRequest, message)
    }

    /// A parameter of the request is wrong.
    pub(super) fn parameter(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            param: Some(param.into()),
            ..Self::invalid(message)
        }
    }

    /// The tenant has no such thing; whether another one has is not said.
    pub(super) fn unknown(what: &str, id: &str) -> Self {
        let message = format!("there is no {what} `{id}`");
        Self::new(StatusCode::NOT_FOUND, Code::NotFound, message)
    }

    /// Too much is asked at once.
    pub(super) fn busy(message: impl Into<String>) -> Self {
        let error = Self::new(StatusCode::TOO_MANY_REQUESTS, Code::QueueFull, message);
        error.later(RETRY_AFTER)
    }

    /// The tenant has asked for as much as it may for now.
    pub(super) fn over_allowance(message: impl Into<String>, after: Duration) -> Self {
        let error: Self = Failure::new(FailureCode::RateLimitExceeded, message).into();
        error.later(after)
    }

    /// A store is away: nobody's fault that asks.
    fn away(what: &str) -> Self {
        let message = format!("the {what} cannot be reached, try again");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, Code::Unavailable, message).later(RETRY_AFTER)
    }

    /// What happened is for the operator, not for who asks.
    pub(super) fn fault(error: &dyn std::error::Error) -> Self {
        tracing::error!(error = %error, "a request failed");
        let message = "the gateway failed; its log says why";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, Code::Internal, message)
    }

    /// A file of requests has mistakes.
    pub(super) fn mistakes(mistakes: Vec<Mistake>) -> Self {
        let messages: Vec<&str> = mistakes.iter().map(|one| one.message.as_str()).collect();
        let message = format!("the file has mistakes: {}", messages.join("; "));
        Self {
            param: Some("file".to_owned()),
            code: Code::InvalidFile.into(),
            mistakes,
            ..Self::invalid(message)
        }
    }

    /// The same may be asked again after a while.
    pub(super) fn later(self, after: Duration) -> Self {
        Self {
            retry_after: Some(after),
            ..self
        }
    }

    fn kind(&self) -> Kind {
        match self.status {
            StatusCode::TOO_MANY_REQUESTS => Kind::RateLimitError,
            StatusCode::UNAUTHORIZED => Kind::AuthenticationError,
            StatusCode::FORBIDDEN => Kind::PermissionError,
            status if status.is_server_error() => Kind::ServerError,
            _ => Kind::InvalidRequestError,
        }
    }

    /// As it is written, also in the midst of a stream.
    pub(super) fn body(&self) -> ErrorBody {
        ErrorBody {
            error: ErrorObject {
                message: self.message.clone(),
                kind: self.kind(),
                param: self.param.clone(),
                code: self.code,
                errors: self.mistakes.clone(),
            },
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.body())).into_response();
        if let Some(after) = self.retry_after {
            let seconds = HeaderValue::from(whole_seconds(after));
            response.headers_mut().insert(header::RETRY_AFTER, seconds);
        }
        if self.status == StatusCode::UNAUTHORIZED {
            let scheme = HeaderValue::from_static("Bearer");
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, scheme);
        }
        response
    }
}

/// A time in whole seconds, never a shorter one.
pub(super) fn whole_seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

impl From<NoSuch> for ApiError {
    fn from(error: NoSuch) -> Self {
        Self::unknown(error.kind, &error.written)
    }
}

/// The status of a job's failure, for who waits for its answer.
impl From<Failure> for ApiError {
    fn from(failure: Failure) -> Self {
        let status = match failure.code {
            FailureCode::ValidationError
            | FailureCode::MediaInvalid
            | FailureCode::PromptTooLong
            | FailureCode::ContentFiltered
            | FailureCode::ResponseFiltered => StatusCode::BAD_REQUEST,
            FailureCode::MediaTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            FailureCode::Cancelled => StatusCode::CONFLICT,
            FailureCode::RateLimitExceeded => StatusCode::TOO_MANY_REQUESTS,
            FailureCode::MediaUnreachable => StatusCode::FAILED_DEPENDENCY,
            FailureCode::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
            FailureCode::ModelUnavailable
            | FailureCode::FilterUnavailable
            | FailureCode::StorageFull => StatusCode::SERVICE_UNAVAILABLE,
            FailureCode::GenerationError
            | FailureCode::WorkerLost
            | FailureCode::QualityRejected
            | FailureCode::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, failure.code, failure.message)
    }
}

impl From<ResultsError> for ApiError {
    fn from(error: ResultsError) -> Self {
        match error {
            ResultsError::Unreachable { .. } => {
                tracing::warn!(%error, "a request met no results store");
                Self::away("results store")
            }
            ResultsError::NoSuchBatch { batch_id } => {
                Self::unknown("batch", &ids::of_batch(batch_id))
            }
            ResultsError::Conflict { .. }
            | ResultsError::StorageFull { .. }
            | ResultsError::Unusable { .. } => Self::fault(&error),
        }
    }
}

impl From<MediaError> for ApiError {
    fn from(error: MediaError) -> Self {
        match error {
            MediaError::Unreachable { .. } => {
                tracing::warn!(%error, "a request met no media store");
                Self::away("media store")
            }
            MediaError::TooLarge { .. } => {
                Failure::new(FailureCode::MediaTooLarge, error.to_string()).into()
            }
            MediaError::Missing { .. }
            | MediaError::Damaged { .. }
            | MediaError::StorageFull { .. }
            | MediaError::Unusable { .. } => Self::fault(&error),
        }
    }
}

impl From<QueueError> for ApiError {
    fn from(error: QueueError) -> Self {
        match error {
            QueueError::Unreachable { .. } => {
                tracing::warn!(%error, "a request met no queue");
                Self::away("queue")
            }
            QueueError::Full { .. } => Self::busy("the queue is full, try again later"),
            QueueError::TooLarge { .. } => Self::invalid(error.to_string()),
            QueueError::LoanEnded
            | QueueError::StorageFull { .. }
            | QueueError::Unusable { .. } => Self::fault(&error),
        }
    }
}

/// A stream of bytes that is made here broke off; what broke it says what it is.
impl From<std::io::Error> for ApiError {
    fn from(error: std::io::Error) -> Self {
        error.downcast().unwrap_or_else(|error| Self::fault(&error))
    }
}

impl From<ReplayError> for ApiError {
    fn from(error: ReplayError) -> Self {
        match error {
            ReplayError::Unknown(job) => Self::unknown("dead letter", &super::ids::of_job(job)),
            ReplayError::Unreadable(_) | ReplayError::Results(ResultsError::Conflict { .. }) => {
                Self::new(StatusCode::CONFLICT, Code::NotReplayable, error.to_string())
            }
            ReplayError::Results(error) => error.into(),
            ReplayError::Queue(error) => error.into(),
            ReplayError::Media(error) => error.into(),
            ReplayError::Encode(_) => Self::fault(&error),
        }
    }
}

impl From<SubmitError> for ApiError {
    fn from(error: SubmitError) -> Self {
        match error {
            SubmitError::Results(error) => error.into(),
            SubmitError::Media(error) => error.into(),
            SubmitError::Encode(error) => Self::fault(&error),
            // What broke off may say itself what it is.
            SubmitError::Read { line, error } => error.downcast().unwrap_or_else(|error| {
                Self::invalid(format!("the file broke off at line {line}: {error}"))
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lapidary_schemas::metrics::{REFUSALS, Values};

    #[test]
    fn every_refusal_has_a_series_from_the_start() {
        let Values::Listed(counted) = REFUSALS.labels[0].values else {
            panic!("{:?}", REFUSALS.labels)
        };
        for code in FailureCode::ALL {
            let error = ApiError::from(Failure::new(code, "for a reason"));
            assert!(counted.contains(&error.status.as_str()), "{code}");
        }
    }
}
