//! `GET /v1/batches/ID/results`: results as they come, a page at a time or as server-sent events.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::stream::{self, Stream};
use lapidary_schemas::batch_line::OutputLine;
use lapidary_schemas::{Batch, Progress};
use lapidary_transport::Results as _;
use lapidary_transport::results::{Page, ResultsError};
use serde_json::{Value, json};
use tokio::sync::OwnedSemaphorePermit;

use super::access::MayRead;
use super::batch_object::{BatchObject, has_ended};
use super::body::{Id, Query};
use super::error::ApiError;
use super::found::named_batch;
use super::limits::{CHANGE_WAIT_MAX, FOLLOWERS_MAX, RESULTS_MAX};
use super::{Gateway, Shared, input_order};
use crate::catalogue::BatchRecord;

/// What ends a stream.
const DONE: &str = "[DONE]";
/// Where a client goes on that lost its connection.
const LAST_EVENT_ID: &str = "last-event-id";

/// Results from a cursor on, also while the batch runs.
pub(super) async fn show(
    State(gateway): State<Shared>,
    MayRead(tenant): MayRead,
    Id(id): Id,
    headers: HeaderMap,
    mut query: Query,
) -> Result<Response, ApiError> {
    let limit = query.limit(RESULTS_MAX, RESULTS_MAX)?;
    let after = query.take("after").unwrap_or_default();
    let in_input_order = in_input_order(query.take("order").as_deref())?;
    query.end()?;
    // Asked first: if it had ended by then, a page without results is the last one.
    let (batch, record, counts) = named_batch(&gateway, &tenant, &id).await?;
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let wants_events =
        text(header::ACCEPT.as_str()).is_some_and(|wanted| wanted.contains("text/event-stream"));
    if in_input_order {
        if wants_events {
            let message = "events come in order of completion, not in that of the file";
            return Err(ApiError::parameter("order", message));
        }
        let page = input_order::page(&gateway.stores, &batch, &counts, &after, limit);
        return Ok(Json(page.await?).into_response());
    }
    if !wants_events {
        let page = read(&gateway, &batch, &after, limit).await?;
        let has_more = !page.results.is_empty() || !has_ended(&counts);
        let mut answer = written(&page);
        answer["object"] = json!("list");
        answer["has_more"] = json!(has_more);
        return Ok(Json(answer).into_response());
    }
    let after = text(LAST_EVENT_ID).map_or(after, str::to_owned);
    let place = Arc::clone(&gateway.followers).try_acquire_owned();
    let place = place.map_err(|_| {
        ApiError::busy(format!(
            "{FOLLOWERS_MAX} clients follow batches, try again later"
        ))
    })?;
    // A cursor that is none is refused while that can be said.
    read(&gateway, &batch, &after, 1).await?;
    let following = Following {
        gateway,
        batch,
        record,
        limit,
        cursor: after,
        told: None,
        _place: place,
    };
    let events = Sse::new(events(following)).keep_alive(KeepAlive::default());
    Ok(events.into_response())
}

/// Whether the results are wanted in the order of the file, rather than of completion.
fn in_input_order(order: Option<&str>) -> Result<bool, ApiError> {
    match order {
        None | Some("completion") => Ok(false),
        Some("input") => Ok(true),
        Some(other) => {
            let message = format!("`order` is `{other}`, it must be `completion` or `input`");
            Err(ApiError::parameter("order", message))
        }
    }
}

async fn read(
    gateway: &Gateway,
    batch: &Batch,
    after: &str,
    limit: usize,
) -> Result<Page, ApiError> {
    let tail = gateway.stores.results.tail(batch.id, after, limit).await;
    tail.map_err(|error| match error {
        ResultsError::Conflict { message } => ApiError::parameter("after", message),
        other => other.into(),
    })
}

fn written(page: &Page) -> Value {
    let lines: Vec<_> = page.results.iter().map(OutputLine::from).collect();
    json!({"data": lines, "after": page.cursor})
}

/// A client that is told of results as they come.
struct Following {
    gateway: Shared,
    batch: Batch,
    record: BatchRecord,
    limit: usize,
    cursor: String,
    /// How the batch stood when that was told last.
    told: Option<Progress>,
    _place: OwnedSemaphorePermit,
}

/// The next thing to tell.
enum News {
    /// More results, and the cursor behind them.
    Results(Value, String),
    /// How the batch stands.
    Batch(Value),
    /// All has been told, or the gateway stops.
    End { is_done: bool },
}

impl Following {
    async fn next(&mut self) -> Result<News, ApiError> {
        loop {
            let results = &self.gateway.stores.results;
            let counts = results.progress(self.batch.id).await?;
            let page = read(&self.gateway, &self.batch, &self.cursor, self.limit).await?;
            self.cursor.clone_from(&page.cursor);
            if !page.results.is_empty() {
                return Ok(News::Results(written(&page), page.cursor));
            }
            if self.told.as_ref() != Some(&counts) {
                let object = BatchObject::new(self.batch.clone(), &self.record, &counts);
                self.told = Some(counts);
                return Ok(News::Batch(json!(object)));
            }
            if has_ended(&counts) {
                return Ok(News::End { is_done: true });
            }
            let changed = results.changed(self.batch.id, &self.cursor, CHANGE_WAIT_MAX);
            match self.gateway.stopping.run_until_cancelled(changed).await {
                Some(changed) => changed?,
                None => return Ok(News::End { is_done: false }),
            }
        }
    }
}

fn events(following: Following) -> impl Stream<Item = Result<Event, Infallible>> + Send {
    stream::unfold(Some(following), |following| async move {
        let mut following = following?;
        let event = match following.next().await {
            Ok(News::Results(page, cursor)) => Event::default()
                .event("results")
                .id(cursor)
                .data(page.to_string()),
            Ok(News::Batch(batch)) => Event::default().event("batch").data(batch.to_string()),
            Ok(News::End { is_done: false }) => return None,
            Ok(News::End { is_done: true }) => {
                return Some((Ok(Event::default().event("end").data(DONE)), None));
            }
            Err(error) => {
                let body = error.body().to_string();
                return Some((Ok(Event::default().event("error").data(body)), None));
            }
        };
        Some((Ok(event), Some(following)))
    })
}
