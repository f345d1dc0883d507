//! `/v1/webhooks`: where a tenant wants to be told of the ends of its batches, and what was told
//! (signed by the Standard Webhooks scheme).
//!
//! A batch that is made leaves a notice. One gateway at a time, elected, sees which batches have ended,
//! makes a delivery for each of the tenant's endpoints, and sends what is due, again where it fails.

mod records;
mod rounds;
mod send;
mod sign;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use chrono::Utc;
use lapidary_schemas::BatchId;
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::access::{MayRead, MaySubmit};
use super::body::{Id, JsonBody, Query};
use super::error::ApiError;
use super::limits::{ENDPOINT_KEPT, ENDPOINTS_MAX, LIST_ITEMS_DEFAULT, LIST_ITEMS_MAX};
use super::{Gateway, Shared, found, ids};
use crate::catalogue;
use records::{Delivery, Endpoint, Standing};
pub(super) use rounds::Rounds;
pub(crate) use send::Sender;

/// A new endpoint.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewEndpoint {
    url: String,
}

impl Gateway {
    /// Whoever sends deliveries, if the operator allows any.
    fn sender(&self) -> Result<&Sender, ApiError> {
        let sender = self.sender.as_deref();
        sender.ok_or_else(|| {
            let message = "webhooks are off: the operator has allowed no hosts for them";
            ApiError::new(StatusCode::FORBIDDEN, "webhooks_off", message)
        })
    }

    /// Remembers to tell of a batch's end, if its tenant wants that.
    pub(super) async fn notice(&self, tenant: &str, batch: BatchId) -> Result<(), ApiError> {
        let results = &self.stores.results;
        if self.sender.is_none() {
            return Ok(());
        }
        let endpoints = catalogue::list::<Endpoint>(results, tenant, None, 1).await?;
        if !endpoints.is_empty() {
            records::notice(results, tenant, batch).await?;
        }
        Ok(())
    }
}

/// Registers an endpoint; its secret is shown this once.
pub(super) async fn create(
    State(gateway): State<Shared>,
    MaySubmit(tenant): MaySubmit,
    body: JsonBody,
) -> Result<Json<Value>, ApiError> {
    let wanted: NewEndpoint = body.read()?;
    let checked = gateway.sender()?.check(&wanted.url);
    checked.map_err(|why| ApiError::parameter("url", why))?;
    let results = &gateway.stores.results;
    let there = catalogue::list::<Endpoint>(results, &tenant, None, ENDPOINTS_MAX).await?;
    if there.len() >= ENDPOINTS_MAX {
        let message = format!("there are {ENDPOINTS_MAX} webhooks, which is the limit");
        return Err(ApiError::invalid(message));
    }
    let endpoint = Endpoint {
        url: wanted.url,
        secret: sign::secret().map_err(|error| ApiError::fault(&error))?,
        created_at: Utc::now(),
    };
    let id = Uuid::now_v7();
    catalogue::keep(results, &tenant, id, &endpoint, ENDPOINT_KEPT).await?;
    let mut object = endpoint_object(id, &endpoint);
    object["secret"] = json!(endpoint.secret);
    Ok(Json(object))
}

fn endpoint_object(id: Uuid, endpoint: &Endpoint) -> Value {
    json!({
        "id": ids::of_webhook(id),
        "object": "webhook",
        "url": endpoint.url,
        "created_at": endpoint.created_at.timestamp(),
    })
}

/// All endpoints, the newest first.
pub(super) async fn list(
    State(gateway): State<Shared>,
    MayRead(tenant): MayRead,
) -> Result<Json<Value>, ApiError> {
    let results = &gateway.stores.results;
    let there = catalogue::list::<Endpoint>(results, &tenant, None, ENDPOINTS_MAX).await?;
    let objects: Vec<_> = there
        .iter()
        .map(|(id, endpoint)| endpoint_object(*id, endpoint))
        .collect();
    Ok(Json(found::page(&objects, ENDPOINTS_MAX)))
}

/// Deletes an endpoint; what waits to be sent there is not sent.
pub(super) async fn delete(
    State(gateway): State<Shared>,
    MaySubmit(tenant): MaySubmit,
    Id(id): Id,
) -> Result<Json<Value>, ApiError> {
    let results = &gateway.stores.results;
    let endpoint = ids::webhook(&id)?;
    if !catalogue::forget::<Endpoint>(results, &tenant, endpoint).await? {
        return Err(ApiError::unknown("webhook", &id));
    }
    Ok(Json(
        json!({"id": id, "object": "webhook", "deleted": true}),
    ))
}

/// Deliveries, the newest first.
pub(super) async fn deliveries(
    State(gateway): State<Shared>,
    MayRead(tenant): MayRead,
    mut query: Query,
) -> Result<Json<Value>, ApiError> {
    let limit = query.limit(LIST_ITEMS_DEFAULT, LIST_ITEMS_MAX)?;
    let after = query
        .take("after")
        .map(|id| ids::message(&id))
        .transpose()?;
    query.end()?;
    let results = &gateway.stores.results;
    let there = catalogue::list::<Delivery>(results, &tenant, after, limit + 1).await?;
    let objects: Vec<_> = there
        .iter()
        .map(|(id, delivery)| delivery_object(*id, delivery))
        .collect();
    Ok(Json(found::page(&objects, limit)))
}

fn delivery_object(id: Uuid, delivery: &Delivery) -> Value {
    json!({
        "id": ids::of_message(id),
        "object": "webhook.delivery",
        "webhook_id": ids::of_webhook(delivery.endpoint),
        "batch_id": ids::of_batch(delivery.batch),
        "event": delivery.event,
        "status": delivery.standing,
        "attempts": delivery.attempts,
        "outcome": delivery.outcome,
        "created_at": delivery.created_at.timestamp(),
        "next_attempt_at": delivery.due_at.map(|at| at.timestamp()),
        "body": delivery.body,
    })
}

/// Sends a delivery again, whatever came of it, under the same id.
pub(super) async fn replay(
    State(gateway): State<Shared>,
    MaySubmit(tenant): MaySubmit,
    Id(id): Id,
) -> Result<Json<Value>, ApiError> {
    gateway.sender()?;
    let (results, message) = (&gateway.stores.results, ids::message(&id)?);
    let there = catalogue::find::<Delivery>(results, &tenant, message).await?;
    let there = there.ok_or_else(|| ApiError::unknown("delivery", &id))?;
    let again = Delivery {
        standing: Standing::Pending,
        attempts: 0,
        due_at: Some(Utc::now()),
        ..there
    };
    records::keep(results, &tenant, message, &again).await?;
    Ok(Json(delivery_object(message, &again)))
}
