//! How many submissions a tenant may make in an hour, whichever gateway it asks. The requests of a file
//! are not counted, and neither is looking at things.

use std::time::Duration;

use axum::Json;
use axum::extract::{FromRequestParts as _, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use lapidary_transport::Results as _;
use lapidary_transport::results::{Allowance, Taken};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;

use super::access::{MayRead, MaySubmit};
use super::describe::Operation;
use super::error::{ApiError, whole_seconds};
use super::{Gateway, Shared};

/// The time in which so many submissions may be made.
const WINDOW: Duration = Duration::from_hours(1);

const LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit-requests");
const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining-requests");
const RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset-requests");

impl Gateway {
    /// What a tenant may submit; `None`: as much as it wants.
    fn allowance(&self, tenant: &str) -> Option<Allowance> {
        let limit = self.requests_per_hour?.get();
        Some(Allowance {
            name: format!("requests:{tenant}"),
            limit,
            window: WINDOW,
        })
    }
}

/// Lets a submission in if its tenant may make one more. The answer says how many are left.
pub(super) async fn admit(
    State(gateway): State<Shared>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let (mut parts, body) = request.into_parts();
    let submitter = MaySubmit::from_request_parts(&mut parts, &gateway).await?;
    let allowance = gateway.allowance(&submitter.0);
    parts.extensions.insert(submitter);
    let request = Request::from_parts(parts, body);
    let Some(allowance) = allowance else {
        return Ok(next.run(request).await);
    };
    let taken = gateway.stores.results.take(&allowance, 1).await?;
    let mut response = if taken.allowed {
        next.run(request).await
    } else {
        let message = format!(
            "{} submissions an hour are allowed, the next one in {}",
            allowance.limit,
            span(taken.enough_after)
        );
        ApiError::over_allowance(message, taken.enough_after).into_response()
    };
    tell(response.headers_mut(), &allowance, &taken);
    Ok(response)
}

/// As `OpenAI` tells it.
fn tell(headers: &mut HeaderMap, allowance: &Allowance, taken: &Taken) {
    headers.insert(LIMIT, HeaderValue::from(allowance.limit));
    headers.insert(REMAINING, HeaderValue::from(taken.remaining));
    // Digits and letters are always a value.
    if let Ok(reset) = HeaderValue::from_str(&span(taken.whole_after)) {
        headers.insert(RESET, reset);
    }
}

/// A time as `1h0m5s`, never a shorter one.
fn span(time: Duration) -> String {
    let seconds = whole_seconds(time);
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, _) => format!("{minutes}m{seconds}s"),
        _ => format!("{hours}h{minutes}m{seconds}s"),
    }
}

/// What an operation says of it.
pub(super) fn describe(operation: &mut Operation<'_>) {
    operation.refuses(
        "429",
        "The tenant has asked for as much as it may, or there is no room now.",
    );
    let count = json!({"type": "integer", "minimum": 0});
    operation.tells(LIMIT.as_str(), "Submissions an hour.", &count);
    operation.tells(REMAINING.as_str(), "Submissions that are left.", &count);
    let span = json!({"type": "string", "pattern": r"^(\d+h)?(\d+m)?\d+s$"});
    operation.tells(RESET.as_str(), "Time until all are there again.", &span);
}

/// What a tenant has left.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct UsageObject {
    object: &'static str,
    requests: Left,
}

/// What is left of something.
#[derive(Debug, Serialize, JsonSchema)]
struct Left {
    /// How much there may be in the window; `null`: as much as wanted.
    limit: Option<u64>,
    remaining: Option<u64>,
    /// Until all of it is there again.
    reset_seconds: u64,
    window_seconds: u64,
}

/// What the tenant has left.
pub(super) async fn usage(
    State(gateway): State<Shared>,
    MayRead(tenant): MayRead,
) -> Result<Json<UsageObject>, ApiError> {
    let requests = match gateway.allowance(&tenant) {
        None => Left {
            limit: None,
            remaining: None,
            reset_seconds: 0,
            window_seconds: WINDOW.as_secs(),
        },
        Some(allowance) => {
            let seen = gateway.stores.results.take(&allowance, 0).await?;
            Left {
                limit: Some(allowance.limit),
                remaining: Some(seen.remaining),
                reset_seconds: whole_seconds(seen.whole_after),
                window_seconds: WINDOW.as_secs(),
            }
        }
    };
    Ok(Json(UsageObject {
        object: "usage",
        requests,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_told_as_openai_tells_it() {
        for (millis, told) in [
            (0, "0s"),
            (1, "1s"),
            (59_000, "59s"),
            (59_001, "1m0s"),
            (3_599_000, "59m59s"),
            (3_660_500, "1h1m1s"),
        ] {
            assert_eq!(span(Duration::from_millis(millis)), told);
        }
    }
}
