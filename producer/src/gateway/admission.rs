//! How many submissions a tenant may make in an hour, and how many tokens it may use in a day, whichever
//! gateway it asks. The requests of a file are not counted as submissions, and neither is looking at
//! things; tokens are counted by workers, when they are through with a request.

use std::time::Duration;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use lapidary_transport::Results as _;
use lapidary_transport::results::{Allowance, ResultsError, Taken};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;

use super::access::{self, Asking, Caller, MaySubmit};
use super::describe::Operation;
use super::error::{ApiError, whole_seconds};
use super::{Gateway, Shared};

/// The headers that tell of an allowance, as `OpenAI` has them: its limit, what remains, and when all of
/// it is there again.
type Headers = [HeaderName; 3];

const OF_REQUESTS: Headers = [
    HeaderName::from_static("x-ratelimit-limit-requests"),
    HeaderName::from_static("x-ratelimit-remaining-requests"),
    HeaderName::from_static("x-ratelimit-reset-requests"),
];
const OF_TOKENS: Headers = [
    HeaderName::from_static("x-ratelimit-limit-tokens"),
    HeaderName::from_static("x-ratelimit-remaining-tokens"),
    HeaderName::from_static("x-ratelimit-reset-tokens"),
];

impl Caller {
    /// The submissions that it may make, if there is a limit.
    fn requests(&self) -> Option<Allowance> {
        let limit = self.limits.requests_per_hour.filter(|limit| *limit > 0)?;
        Some(Allowance::requests(&self.tenant, limit))
    }

    /// The tokens that it may use, if there is a limit.
    fn tokens(&self) -> Option<Allowance> {
        let limit = self.limits.tokens_per_day.filter(|limit| *limit > 0)?;
        Some(Allowance::tokens(&self.tenant, limit))
    }
}

/// Lets a submission in if its tenant may make one more and has tokens left. The answer says how much is
/// left of both.
pub(super) async fn admit(
    State(gateway): State<Shared>,
    mut request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let caller = access::submitter(request.headers(), &gateway).await?;
    let submitter = MaySubmit(caller.tenant.clone());
    request.extensions_mut().insert(submitter);
    let mut told = Vec::new();
    let refusal = refusal(&gateway, &caller, &mut told).await?;
    let mut response = match refusal {
        None => next.run(request).await,
        Some(refusal) => refusal.into_response(),
    };
    for (headers, limit, taken) in told {
        tell(response.headers_mut(), headers, limit, &taken);
    }
    Ok(response)
}

/// Why nothing more is taken of this one now, if so; `told` gets what is to be told either way.
async fn refusal(
    gateway: &Gateway,
    caller: &Caller,
    told: &mut Vec<(Headers, u64, Taken)>,
) -> Result<Option<ApiError>, ResultsError> {
    let results = &gateway.stores.results;
    let mut refusal = None;
    if let Some(requests) = caller.requests() {
        let taken = results.take(&requests, 1).await?;
        if !taken.allowed {
            let message = format!(
                "{} submissions an hour are allowed, the next one in {}",
                requests.limit,
                span(taken.enough_after)
            );
            refusal = Some(ApiError::over_allowance(message, taken.enough_after));
        }
        told.push((OF_REQUESTS, requests.limit, taken));
    }
    if let Some(tokens) = caller.tokens() {
        let mut left = results.take(&tokens, 0).await?;
        if left.remaining == 0 {
            // Refused, and so not taken: it says when there is one again.
            left = results.take(&tokens, 1).await?;
            let message = format!(
                "{} tokens a day are allowed, and none is left; there are more in {}",
                tokens.limit,
                span(left.enough_after)
            );
            refusal =
                refusal.or_else(|| Some(ApiError::over_allowance(message, left.enough_after)));
        }
        told.push((OF_TOKENS, tokens.limit, left));
    }
    Ok(refusal)
}

/// As `OpenAI` tells it.
fn tell(headers: &mut HeaderMap, [limit, remaining, reset]: Headers, of: u64, taken: &Taken) {
    headers.insert(limit, HeaderValue::from(of));
    headers.insert(remaining, HeaderValue::from(taken.remaining));
    // Digits and letters are always a value.
    if let Ok(after) = HeaderValue::from_str(&span(taken.whole_after)) {
        headers.insert(reset, after);
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
    let time = json!({"type": "string", "pattern": r"^(\d+h)?(\d+m)?\d+s$"});
    for ([limit, remaining, reset], what) in [
        (OF_REQUESTS, "submissions an hour"),
        (OF_TOKENS, "tokens a day"),
    ] {
        operation.tells(
            limit.as_str(),
            &format!("How many {what} there may be."),
            &count,
        );
        operation.tells(
            remaining.as_str(),
            &format!("How many {what} are left."),
            &count,
        );
        operation.tells(reset.as_str(), "Time until all are there again.", &time);
    }
}

/// What a tenant has left.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct UsageObject {
    object: &'static str,
    requests: Left,
    tokens: Left,
}

/// What is left of something.
#[derive(Debug, Serialize, JsonSchema)]
struct Left {
    /// How much there may be in the window; `null`: as much as wanted.
    limit: Option<u64>,
    /// How much there was; `null` where nobody counts.
    used: Option<u64>,
    remaining: Option<u64>,
    /// Until all of it is there again.
    reset_seconds: u64,
    window_seconds: u64,
}

impl Left {
    /// Of an allowance whose limit is one.
    async fn of(gateway: &Gateway, allowance: &Allowance) -> Result<Self, ResultsError> {
        let seen = gateway.stores.results.take(allowance, 0).await?;
        Ok(Self {
            limit: Some(allowance.limit),
            used: Some(seen.taken),
            remaining: Some(seen.remaining),
            reset_seconds: whole_seconds(seen.whole_after),
            window_seconds: allowance.window.as_secs(),
        })
    }
}

/// What the tenant has left.
pub(super) async fn usage(
    State(gateway): State<Shared>,
    Asking(caller): Asking,
) -> Result<Json<UsageObject>, ApiError> {
    let requests = match caller.requests() {
        Some(requests) => Left::of(&gateway, &requests).await?,
        None => Left {
            limit: None,
            used: None,
            remaining: None,
            reset_seconds: 0,
            window_seconds: Allowance::requests(&caller.tenant, 0).window.as_secs(),
        },
    };
    let tokens = if let Some(tokens) = caller.tokens() {
        Left::of(&gateway, &tokens).await?
    } else {
        let all = Allowance::tokens(&caller.tenant, Allowance::UNLIMITED);
        Left {
            limit: None,
            remaining: None,
            ..Left::of(&gateway, &all).await?
        }
    };
    Ok(Json(UsageObject {
        object: "usage",
        requests,
        tokens,
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
