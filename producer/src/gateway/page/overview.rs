//! `/v1/overview`: how the place does, at once or as it changes.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::stream;
use lapidary_schemas::WorkerInfo;
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::super::Shared;
use super::super::access::{Caller, caller};
use super::super::batch_object::BatchObject;
use super::super::error::ApiError;
use super::super::limits::{OVERVIEW_TIME_MAX, WATCHERS_MAX};
use super::concerns::concerns;
use super::pulse::{Look, Seen};
use crate::keys::Scope;

/// Who may see it: their own, or all of it.
const MAY_SEE: [Scope; 2] = [Scope::Read, Scope::Operate];

type Looks = watch::Receiver<Option<Arc<Look>>>;

/// How the place does now.
pub(super) async fn show(
    State(gateway): State<Shared>,
    headers: HeaderMap,
) -> Result<Json<Value>, ApiError> {
    let caller = caller(&headers, &gateway, &MAY_SEE).await?;
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
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "stopping", message)
}

/// Somebody who watches, until they leave or may not any more.
struct Watching {
    gateway: Shared,
    headers: HeaderMap,
    looks: Looks,
    _seat: OwnedSemaphorePermit,
}

/// How the place does from now on, as server-sent events.
pub(super) async fn events(
    State(gateway): State<Shared>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    caller(&headers, &gateway, &MAY_SEE).await?;
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
            Ok(overview) => ("overview", overview, Some(watching)),
            Err(error) => ("error", error.body(), None),
        };
        let event = Event::default().event(name).data(data.to_string());
        Some((Ok::<_, Infallible>(event), watching))
    });
    Ok(Sse::new(events)
        .keep_alive(KeepAlive::default())
        .into_response())
}

impl Watching {
    /// What the next look shows; the key is checked again, for it may have been revoked meanwhile.
    async fn told(&mut self) -> Option<Result<Value, ApiError>> {
        let stop = &self.gateway.page.stop;
        let look = stop.run_until_cancelled(next(&mut self.looks)).await??;
        let caller = caller(&self.headers, &self.gateway, &MAY_SEE).await;
        Some(caller.map(|caller| overview(&look, &caller)))
    }
}

/// What a look shows to this one: an operator sees all, others see their own.
fn overview(look: &Look, caller: &Caller) -> Value {
    let is_operator = caller.scopes.contains(&Scope::Operate);
    let of = (!is_operator).then_some(caller.tenant.as_str());
    let batches: Vec<&Seen> = look
        .batches
        .iter()
        .filter(|seen| of.is_none_or(|tenant| seen.batch.tenant == tenant))
        .collect();
    let scopes: Vec<_> = caller.scopes.iter().map(|scope| scope.as_str()).collect();
    let shown = batches.iter().map(|seen| batch(seen));
    let mut overview = json!({
        "object": "overview",
        "at": look.at.timestamp(),
        "tenant": caller.tenant,
        "scopes": scopes,
        "concerns": concerns(look, &batches, is_operator),
        "batches": shown.collect::<Vec<_>>(),
        "history": look.history.columns(of, look.at),
        "workers": null,
        "queues": null,
        "dead_letter": null,
    });
    if is_operator {
        overview["workers"] = look.workers.iter().map(worker).collect();
        let depths = look.queues.iter().map(|depth| {
            let class = depth.class.as_str();
            json!({"model": depth.model, "class": class, "waiting": depth.waiting})
        });
        overview["queues"] = depths.collect();
        overview["dead_letter"] = json!(look.dead.as_ref().map(super::dead::summary));
    }
    overview
}

/// A batch as everywhere, whose it is, and how fast it goes.
fn batch(seen: &Seen) -> Value {
    let mut object = json!(BatchObject::new(
        seen.batch.clone(),
        &seen.record,
        &seen.counts
    ));
    object["tenant"] = json!(seen.batch.tenant);
    object["requests_per_second"] = json!(seen.per_second());
    object["seconds_left"] = json!(seen.seconds_left());
    object
}

fn worker(worker: &WorkerInfo) -> Value {
    let model = &worker.model;
    json!({
        "id": worker.id,
        "model": model.name,
        "quantization": model.quantization,
        "context_tokens_max": model.context_tokens_max,
        "modalities": model.modalities,
        "slots": worker.slots,
        "listen": worker.listen,
        "started_at": worker.started_at.timestamp(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::history::History;
    use super::super::pulse::tests::{at, counts, seen};
    use super::*;

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
            };
            let shown = overview(&look, &caller);
            let count = shown["batches"].as_array().unwrap().len();
            (count, shown["workers"].is_array())
        };
        assert_eq!(shown("a", &[Scope::Read]), (1, false));
        assert_eq!(shown("b", &[Scope::Read]), (0, false));
        assert_eq!(shown("b", &[Scope::Read, Scope::Operate]), (1, true));
    }
}
