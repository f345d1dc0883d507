//! Why something was not fetched, split by what the job does next.

use std::error::Error;
use std::time::Duration;

use lapidary_schemas::remote::NotPublic;
use lapidary_schemas::{Failure, FailureCode};
use reqwest::StatusCode;
use url::Url;

/// Why something was not fetched.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    /// The address, or one that it leads to, is not fetched from.
    #[error("{message}")]
    Refused {
        /// Which, and why.
        message: String,
    },
    /// There was no connection, or it broke.
    #[error("`{}`: {message}", host(url))]
    Unreachable {
        /// What was asked for.
        url: Url,
        /// What happened.
        message: String,
    },
    /// The server answered something else than the content.
    #[error("`{}` answered {status}", host(url))]
    Status {
        /// What was asked for.
        url: Url,
        /// The answer.
        status: StatusCode,
    },
    /// It was under way for too long.
    #[error("it took longer than the limit of {} s", limit.as_secs_f64())]
    TooLong {
        /// The limit.
        limit: Duration,
    },
    /// It leads on and on.
    #[error("it was redirected more often than the limit of {limit} times")]
    Redirects {
        /// The limit.
        limit: usize,
    },
    /// There is more of it than may be.
    #[error("it is larger than the limit of {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: usize,
    },
}

impl FetchError {
    /// What an error of the client means.
    pub(super) fn of(url: &Url, error: reqwest::Error) -> Self {
        let error = error.without_url();
        let mut cause: Option<&(dyn Error + 'static)> = Some(&error);
        let mut last = error.to_string();
        while let Some(inner) = cause {
            if let Some(refused) = inner.downcast_ref::<NotPublic>() {
                return Self::Refused {
                    message: refused.to_string(),
                };
            }
            last = inner.to_string();
            cause = inner.source();
        }
        Self::Unreachable {
            url: url.clone(),
            message: last,
        }
    }

    /// What it means for a job that refers to `what`.
    pub(crate) fn failure(&self, what: &str) -> Failure {
        let code = match self {
            Self::Refused { .. } => FailureCode::ValidationError,
            Self::TooLarge { .. } => FailureCode::MediaTooLarge,
            Self::Unreachable { .. }
            | Self::Status { .. }
            | Self::TooLong { .. }
            | Self::Redirects { .. } => FailureCode::MediaUnreachable,
        };
        let failure = Failure::new(code, format!("{what} cannot be fetched: {self}"));
        Failure {
            retryable: failure.retryable && self.may_pass(),
            ..failure
        }
    }

    /// Whether the same may be fetched later.
    fn may_pass(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::TooLong { .. } => true,
            Self::Status { status, .. } => {
                status.is_server_error()
                    || matches!(
                        *status,
                        StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT
                    )
            }
            Self::Refused { .. } | Self::Redirects { .. } | Self::TooLarge { .. } => false,
        }
    }
}

/// Whom to name: the rest of an address may hold what is nobody's business.
fn host(url: &Url) -> String {
    lapidary_schemas::remote::origin(url)
}
