//! `/v1/overview`: how the place does, at once or as it changes.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::stream;
use lapidary_schemas::{Class, WorkerInfo};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::super::Shared;
use super::super::access::{Caller, MaySee};
use super::super::batch_object::BatchObject;
use super::super::describe::{EVENTS, Operation, Output, event_stream};
use super::super::error::{ApiError, Code};
use super::super::limits::{OVERVIEW_TIME_MAX, WATCHERS_MAX};
use super::concerns::{Concern, concerns};
use super::dead::DeadLetterSummary;
use super::history::Columns;
use super::pulse::{Look, Seen};
use crate::keys::Scope;

type Looks = watch::Receiver<Option<Arc<Look>>>;

/// How the place does now.
pub(super) async fn show(
    State(gateway): State<Shared>,
    MaySee(caller): MaySee,
) -> Result<Json<Overview>, ApiError> {
    let mut looks = gateway.page.pulse.watch();
    let look = gateway
        .page
        .stop
        .run_until_cancelled(next(&mut looks))
        .await;
    let look = look.flatten().ok_or_else(stopping)?;
    Ok(Json(overview(&look, &caller)))
}

/// The next look; none where nobody looks any more.
async fn next(looks: &mut Looks) -> Option<Arc<Look>> {
    // A look ends after a time, whatever the stores do.
    let changed = tokio::time::timeout(2 * OVERVIEW_TIME_MAX, looks.changed());
    changed.await.ok()?.ok()?;
    looks.borrow_and_update().clone()
}

fn stopping() -> ApiError {
    let message = "the gateway is stopping, try again";
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, Code::Stopping, message)
}

/// Somebody who watches, until they leave or may not any more.
struct Watching {
    gateway: Shared,
    headers: HeaderMap,
    looks: Looks,
    _seat: OwnedSemaphorePermit,
}

/// How the place does, as it changes.
#[derive(Debug)]
pub(super) struct Told(Response);

impl IntoResponse for Told {
    fn into_response(self) -> Response {
        self.0
    }
}

impl Output for Told {
    fn describe(operation: &mut Operation<'_>) {
        let events = event_stream("`overview`: an overview as its data");
        operation.answers("200", vec![(EVENTS, events)]);
    }
}

/// How the place does from now on, as server-sent events.
pub(super) async fn events(
    State(gateway): State<Shared>,
    _: MaySee,
    headers: HeaderMap,
) -> Result<Told, ApiError> {
    let seat = Arc::clone(&gateway.page.seats).try_acquire_owned();
    let seat =
        seat.map_err(|_| ApiError::busy(format!("{WATCHERS_MAX} watch already, try again later")))?;
    let looks = gateway.page.pulse.watch();
    let watching = Watching {
        gateway,
        headers,
        looks,
        _seat: seat,
    };
    let events = stream::unfold(Some(watching), |watching| async move {
        let mut watching = watching?;
        let (name, data, watching) = match watching.told().await? {
            Ok(overview) => ("overview", json!(overview), Some(watching)),
            Err(error) => ("error", json!(error.body()), None),
        };
        let event = Event::default().event(name).data(data.to_string());
        Some((Ok::<_, Infallible>(event), watching))
    });
    let events = Sse::new(events).keep_alive(KeepAlive::default());
    Ok(Told(events.into_response()))
}

impl Watching {
    /// What the next look shows; the key is checked again, for it may have been revoked meanwhile.
    async fn told(&mut self) -> Option<Result<Overview, ApiError>> {
        let stop = &self.gateway.page.stop;
        let look = stop.run_until_cancelled(next(&mut self.looks)).await??;
        let caller = MaySee::check(&self.headers, &self.gateway).await;
        Some(caller.map(|caller| overview(&look, &caller)))
    }
}

/// What a look shows to this one: an operator sees all, others see their own.
fn overview(look: &Look, caller: &Caller) -> Overview {
    let is_operator = caller.scopes.contains(&Scope::Operate);
    let of = (!is_operator).then_some(caller.tenant.as_str());
    let batches: Vec<&Seen> = look
        .batches
        .iter()
        .filter(|seen| of.is_none_or(|tenant| seen.batch.tenant == tenant))
        .collect();
    let mut overview = Overview {
        object: "overview",
        at: look.at.timestamp(),
        tenant: caller.tenant.clone(),
        scopes: caller.scopes.clone(),
        concerns: concerns(look, &batches, is_operator),
        batches: batches.iter().map(|seen| SeenBatch::of(seen)).collect(),
        history: look.history.columns(of, look.at),
        workers: None,
        queues: None,
        dead_letter: None,
    };
    if is_operator {
        overview.workers = Some(look.workers.iter().map(SeenWorker::of).collect());
        let depths = look.queues.iter().map(|depth| SeenQueue {
            model: depth.model.clone(),
            class: depth.class,
            waiting: depth.waiting,
        });
        overview.queues = Some(depths.collect());
        overview.dead_letter = look.dead.as_ref().map(super::dead::summary);
    }
    overview
}

/// How the place does.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Overview {
    object: &'static str,
    at: i64,
    tenant: String,
    /// What the key may do.
    scopes: Vec<Scope>,
    /// What deserves attention, the worst first.
    concerns: Vec<Concern>,
    batches: Vec<SeenBatch>,
    history: Columns,
    /// For operators.
    workers: Option<Vec<SeenWorker>>,
    /// For operators.
    queues: Option<Vec<SeenQueue>>,
    /// The newest one, for operators.
    dead_letter: Option<DeadLetterSummary>,
}

/// A batch as everywhere, whose it is, and how fast it goes.
#[derive(Debug, Serialize, JsonSchema)]
struct SeenBatch {
    #[serde(flatten)]
    batch: BatchObject,
    tenant: String,
    requests_per_second: Option<f64>,
    seconds_left: Option<f64>,
}

impl SeenBatch {
    fn of(seen: &Seen) -> Self {
        Self {
            batch: BatchObject::new(seen.batch.clone(), &seen.record, &seen.counts),
            tenant: seen.batch.tenant.clone(),
            requests_per_second: seen.per_second(),
            seconds_left: seen.seconds_left(),
        }
    }
}

/// Requests that wait.
#[derive(Debug, Serialize, JsonSchema)]
struct SeenQueue {
    model: String,
    class: Class,
    waiting: u64,
}

/// A worker that lives.
#[derive(Debug, Serialize, JsonSchema)]
struct SeenWorker {
    id: String,
    model: String,
    quantization: String,
    context_tokens_max: u32,
    modalities: Vec<String>,
    slots: u32,
    listen: Option<String>,
    started_at: i64,
}

impl SeenWorker {
    fn of(worker: &WorkerInfo) -> Self {
        let model = &worker.model;
        Self {
            id: worker.id.clone(),
            model: model.name.clone(),
            quantization: model.quantization.clone(),
            context_tokens_max: model.context_tokens_max,
            modalities: model.modalities.clone(),
            slots: worker.slots,
            listen: worker.listen.clone(),
            started_at: worker.started_at.timestamp(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::history::History;
    use super::super::pulse::tests::{at, counts, seen};
    use super::*;
    use crate::keys::Limits;

    #[test]
    fn a_tenant_sees_its_own_and_an_operator_all() {
        let look = Look {
            at: at(1),
            away: None,
            workers: Vec::new(),
            queues: Vec::new(),
            batches: vec![seen(&counts(10, 1, 0))],
            dead: None,
            history: History::default(),
        };
        let shown = |tenant: &str, scopes: &[Scope]| {
            let caller = Caller {
                tenant: tenant.to_owned(),
                scopes: scopes.to_vec(),
                limits: Limits::default(),
            };
            let shown = json!(overview(&look, &caller));
            let count = shown["batches"].as_array().unwrap().len();
            (count, shown["workers"].is_array())
        };
        assert_eq!(shown("a", &[Scope::Read]), (1, false));
        assert_eq!(shown("b", &[Scope::Read]), (0, false));
        assert_eq!(shown("b", &[Scope::Read, Scope::Operate]), (1, true));
    }
}
