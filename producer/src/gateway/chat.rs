//! `POST /v1/chat/completions`: one request, and its answer at once or as it comes.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use chrono::{TimeDelta, Utc};
use futures::stream::{self, Stream};
use lapidary_schemas::JobResult;
use lapidary_schemas::batch_line::{ChatCompletion, OutputLine};
use lapidary_transport::Results as _;
use lapidary_transport::results::JobState;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};

use super::Shared;
use super::access::MaySubmit;
use super::body::JsonBody;
use super::describe::{EVENTS, JSON, Operation, Output, event_stream};
use super::error::{ApiError, Code};
use super::ids;
use super::limits::ANSWER_TIME_MAX;
use super::once::{self, Key, Made};
use super::single::{Asked, AskedBody, Awaited, Leaving};
use super::telling::{Telling, failure};
use super::traced::Traced;

/// What ends a stream.
const DONE: &str = "[DONE]";

/// An answer, whole or as it comes.
#[derive(Debug)]
pub(super) struct Answer(Response);

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        self.0
    }
}

impl Output for Answer {
    fn describe(operation: &mut Operation<'_>) {
        let whole = operation.schema::<ChatCompletion>();
        let events = event_stream("Chunks of a `chat.completion.chunk`, and in the end `[DONE]`");
        operation.answers("200", vec![(JSON, whole), (EVENTS, events)]);
    }
}

/// Answers one request.
pub(super) async fn create(
    State(gateway): State<Shared>,
    MaySubmit(tenant): MaySubmit,
    key: Key,
    traced: Traced,
    body: JsonBody<AskedBody>,
) -> Result<Answer, ApiError> {
    let asked = Asked::read(&body, traced)?;
    let bound = key.bind(&tenant, "chat/completions", &body.bytes);
    drop(body);
    let until = Instant::now() + ANSWER_TIME_MAX;
    let (stream, include_usage, model) = (asked.stream, asked.include_usage, asked.model.clone());
    let leaving = if bound.is_some() {
        Leaving::GoesOn
    } else {
        Leaving::Cancels
    };
    let making = make(Arc::clone(&gateway), tenant, asked, leaving);
    let awaited = match gateway.once(bound, making).await? {
        Made::Now(awaited) => awaited,
        Made::Before(id) => asked_before(&gateway, &id).await?,
    };
    if stream {
        let telling = Telling::new(awaited.job(), model, include_usage);
        let events = events(awaited, telling, until);
        let events = Sse::new(events).keep_alive(KeepAlive::default());
        return Ok(Answer(events.into_response()));
    }
    answer(awaited, until).await
}

/// Puts the request on its way; answers the job's id and the wait for it.
async fn make(
    gateway: Shared,
    tenant: String,
    asked: Asked,
    leaving: Leaving,
) -> Result<(String, Awaited), ApiError> {
    let within = TimeDelta::from_std(ANSWER_TIME_MAX).unwrap_or(TimeDelta::MAX);
    let job = gateway.submit(&tenant, asked, Utc::now(), within).await?;
    let awaited = Awaited::new(&gateway, job.id, leaving);
    Ok((ids::of_job(job.id), awaited))
}

/// The wait for a job that was asked for before and that is finished.
async fn asked_before(gateway: &Shared, id: &str) -> Result<Awaited, ApiError> {
    let job = ids::job(id)?;
    let state = gateway.stores.results.get(&[job]).await?.pop().flatten();
    match state {
        Some(JobState::Finished(_)) => Ok(Awaited::new(gateway, job, Leaving::GoesOn)),
        Some(JobState::Waiting { .. } | JobState::Running { .. }) => Err(once::under_way()),
        None => Err(ApiError::unknown("job", id)),
    }
}

fn too_late() -> ApiError {
    ApiError::new(
        StatusCode::GATEWAY_TIMEOUT,
        Code::TooLate,
        format!("there was no answer within {ANSWER_TIME_MAX:?}"),
    )
}

/// The next state, unless time is over or nobody looks any more.
async fn next(awaited: &mut Awaited, until: Instant) -> Result<JobState, ApiError> {
    match timeout_at(until, awaited.next()).await {
        Ok(Some(state)) => Ok(state),
        Ok(None) => Err(ApiError::new(
            StatusCode::SERVICE_UNAVAILABLE,
            Code::Stopping,
            "the gateway is stopping, try again",
        )),
        Err(_) => Err(too_late()),
    }
}

/// Waits for the whole answer.
async fn answer(mut awaited: Awaited, until: Instant) -> Result<Answer, ApiError> {
    let result = finished(&mut awaited, until).await?;
    match OutputLine::from(&result).response {
        Some(response) => Ok(Answer(Json(response.body).into_response())),
        None => Err(failure(&result)),
    }
}

/// Waits for the result.
pub(super) async fn finished(awaited: &mut Awaited, until: Instant) -> Result<JobResult, ApiError> {
    loop {
        if let JobState::Finished(result) = next(awaited, until).await? {
            return Ok(*result);
        }
    }
}

/// An answer on its way to the client.
struct Told {
    awaited: Awaited,
    telling: Telling,
    until: Instant,
    /// Told next; `None` is the end.
    news: VecDeque<Option<Value>>,
}

/// The answer as it comes.
fn events(
    awaited: Awaited,
    telling: Telling,
    until: Instant,
) -> impl Stream<Item = Result<Event, Infallible>> + Send {
    let told = Told {
        awaited,
        telling,
        until,
        news: VecDeque::new(),
    };
    stream::unfold(Some(told), |told| async move {
        let mut told = told?;
        loop {
            match told.news.pop_front() {
                Some(Some(chunk)) => {
                    return Some((Ok(Event::default().data(chunk.to_string())), Some(told)));
                }
                Some(None) => return Some((Ok(Event::default().data(DONE)), None)),
                None => {}
            }
            match next(&mut told.awaited, told.until).await {
                Ok(state) => told.news.extend(told.telling.news(&state)),
                Err(error) => told.news.extend([Some(json!(error.body())), None]),
            }
        }
    })
}
