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
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::OwnedSemaphorePermit;

use super::access::MayRead;
use super::batch_object::{BatchObject, has_ended};
use super::body::{Id, Limit, Query};
use super::describe::{EVENTS, JSON, Operation, Output, event_stream};
use super::error::ApiError;
use super::found::named_batch;
use super::limits::{CHANGE_WAIT_MAX, FOLLOWERS_MAX, RESULTS_MAX};
use super::{Gateway, Shared, input_order};
use crate::catalogue::BatchRecord;

/// What ends a stream.
const DONE: &str = "[DONE]";
/// Where a client goes on that lost its connection.
const LAST_EVENT_ID: &str = "last-event-id";

/// A page of results.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct ResultsPage {
    pub(super) object: &'static str,
    pub(super) data: Vec<OutputLine>,
    /// Where the next page begins.
    pub(super) after: String,
    /// The batch has not ended, or not all was read.
    pub(super) has_more: bool,
}

/// Which results are wanted.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct WantedResults {
    /// How many at most.
    #[serde(default)]
    limit: Limit<RESULTS_MAX, RESULTS_MAX>,
    /// The cursor of an earlier page.
    #[serde(default)]
    after: String,
    /// In which order.
    #[serde(default)]
    order: Order,
}

/// Orders of results.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Order {
    /// As they come.
    #[default]
    Completion,
    /// As in the file, as far as every item before them has one.
    Input,
}

/// Results, a page of them or as events.
#[derive(Debug)]
pub(super) struct Told(Response);

impl IntoResponse for Told {
    fn into_response(self) -> Response {
        self.0
    }
}

impl Output for Told {
    fn describe(operation: &mut Operation<'_>) {
        let page = operation.schema::<ResultsPage>();
        let events = event_stream(
            "`results`: a page as its data, and its cursor as its id; `batch`: how it stands; `end`",
        );
        operation.answers("200", vec![(JSON, page), (EVENTS, events)]);
        let description = "The cursor behind which events go on; `Accept: text/event-stream` asks \
                           for them.";
        operation.takes_header(LAST_EVENT_ID, description, &json!({"type": "string"}));
    }
}

/// Results from a cursor on, also while the batch runs.
pub(super) async fn show(
    State(gateway): State<Shared>,
    MayRead(tenant): MayRead,
    Id(id): Id,
    headers: HeaderMap,
    Query(wanted): Query<WantedResults>,
) -> Result<Told, ApiError> {
    let (limit, after) = (wanted.limit.0, wanted.after);
    // Asked first: if it had ended by then, a page without results is the last one.
    let (batch, record, counts) = named_batch(&gateway, &tenant, &id).await?;
    let header = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let wants_events =
        header(header::ACCEPT.as_str()).is_some_and(|wanted| wanted.contains(EVENTS));
    if wanted.order == Order::Input {
        if wants_events {
            let message = "events come in order of completion, not in that of the file";
            return Err(ApiError::parameter("order", message));
        }
        let page = input_order::page(&gateway.stores, &batch, &counts, &after, limit);
        return Ok(Told(Json(page.await?).into_response()));
    }
    if !wants_events {
        let page = read(&gateway, &batch, &after, limit).await?;
        let has_more = !page.results.is_empty() || !has_ended(&counts);
        let answer = ResultsPage {
            object: "list",
            data: page.results.iter().map(OutputLine::from).collect(),
            after: page.cursor,
            has_more,
        };
        return Ok(Told(Json(answer).into_response()));
    }
    let after = header(LAST_EVENT_ID).map_or(after, str::to_owned);
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
    Ok(Told(events.into_response()))
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
                let body = json!(error.body()).to_string();
                return Some((Ok(Event::default().event("error").data(body)), None));
            }
        };
        Some((Ok(event), Some(following)))
    })
}
