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
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::access::{MayRead, MaySubmit};
use super::body::{Id, JsonBody, Paging, Query};
use super::error::{ApiError, Code};
use super::found::{Deleted, List, Object};
use super::limits::{ENDPOINT_KEPT, ENDPOINTS_MAX};
use super::{Gateway, Shared, ids};
use crate::catalogue;
use records::{Delivery, Endpoint, Standing};
pub(super) use rounds::Rounds;
pub(crate) use send::Sender;

/// A new endpoint.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewEndpoint {
    url: String,
}

/// An endpoint as clients see it.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct WebhookObject {
    id: String,
    object: &'static str,
    url: String,
    created_at: i64,
    /// Nothing is sent there any more: it answered 410, which means that it is gone.
    disabled: bool,
    /// What deliveries are signed with; only when the webhook is made.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
}

impl Object for WebhookObject {
    fn id(&self) -> &str {
        &self.id
    }
}

/// A delivery as clients see it.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct DeliveryObject {
    id: String,
    object: &'static str,
    webhook_id: String,
    batch_id: String,
    event: String,
    status: Standing,
    attempts: u32,
    /// What came of the last attempt.
    outcome: Option<String>,
    created_at: i64,
    next_attempt_at: Option<i64>,
    /// What is sent.
    body: String,
}

impl Object for DeliveryObject {
    fn id(&self) -> &str {
        &self.id
    }
}

impl Gateway {
    /// Whoever sends deliveries, if the operator allows any.
    fn sender(&self) -> Result<&Sender, ApiError> {
        let sender = self.sender.as_deref();
        sender.ok_or_else(|| {
            let message = "webhooks are off: the operator has allowed no hosts for them";
            ApiError::new(StatusCode::FORBIDDEN, Code::WebhooksOff, message)
        })
    }

    /// The webhooks that a tenant names, which it must have.
    pub(super) async fn named_webhooks(
        &self,
        tenant: &str,
        named: Option<&[String]>,
    ) -> Result<Option<Vec<Uuid>>, ApiError> {
        let Some(named) = named else {
            return Ok(None);
        };
        if named.len() > ENDPOINTS_MAX {
            let count = named.len();
            let message = format!("`webhooks` has {count} ids, the limit is {ENDPOINTS_MAX}");
            return Err(ApiError::parameter("webhooks", message));
        }
        let results = &self.stores.results;
        let mut found = Vec::with_capacity(named.len());
        for written in named {
            let id = ids::webhook(written)?;
            let there = catalogue::find::<Endpoint>(results, tenant, id).await?;
            there.ok_or_else(|| ApiError::unknown("webhook", written))?;
            found.push(id);
        }
        Ok(Some(found))
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
    body: JsonBody<NewEndpoint>,
) -> Result<Json<WebhookObject>, ApiError> {
    let wanted = body.read()?;
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
        disabled: false,
    };
    let id = Uuid::now_v7();
    catalogue::keep(results, &tenant, id, &endpoint, ENDPOINT_KEPT).await?;
    let mut object = endpoint_object(id, &endpoint);
    object.secret = Some(endpoint.secret);
    Ok(Json(object))
}

fn endpoint_object(id: Uuid, endpoint: &Endpoint) -> WebhookObject {
    WebhookObject {
        id: ids::of_webhook(id),
        object: "webhook",
        url: endpoint.url.clone(),
        created_at: endpoint.created_at.timestamp(),
        disabled: endpoint.disabled,
        secret: None,
    }
}

/// All endpoints, the newest first.
pub(super) async fn list(
    State(gateway): State<Shared>,
    MayRead(tenant): MayRead,
) -> Result<Json<List<WebhookObject>>, ApiError> {
    let results = &gateway.stores.results;
    let there = catalogue::list::<Endpoint>(results, &tenant, None, ENDPOINTS_MAX).await?;
    let objects = there
        .iter()
        .map(|(id, endpoint)| endpoint_object(*id, endpoint))
        .collect();
    Ok(Json(List::of(objects, ENDPOINTS_MAX)))
}

/// Deletes an endpoint; what waits to be sent there is not sent.
pub(super) async fn delete(
    State(gateway): State<Shared>,
    MaySubmit(tenant): MaySubmit,
    Id(id): Id,
) -> Result<Json<Deleted>, ApiError> {
    let results = &gateway.stores.results;
    let endpoint = ids::webhook(&id)?;
    if !catalogue::forget::<Endpoint>(results, &tenant, endpoint).await? {
        return Err(ApiError::unknown("webhook", &id));
    }
    Ok(Json(Deleted {
        id,
        object: "webhook",
        deleted: true,
    }))
}

/// Deliveries, the newest first.
pub(super) async fn deliveries(
    State(gateway): State<Shared>,
    MayRead(tenant): MayRead,
    Query(wanted): Query<Paging>,
) -> Result<Json<List<DeliveryObject>>, ApiError> {
    let limit = wanted.limit.0;
    let after = wanted.after.map(|id| ids::message(&id)).transpose()?;
    let results = &gateway.stores.results;
    let there = catalogue::list::<Delivery>(results, &tenant, after, limit + 1).await?;
    let objects = there
        .iter()
        .map(|(id, delivery)| delivery_object(*id, delivery))
        .collect();
    Ok(Json(List::of(objects, limit)))
}

fn delivery_object(id: Uuid, delivery: &Delivery) -> DeliveryObject {
    DeliveryObject {
        id: ids::of_message(id),
        object: "webhook.delivery",
        webhook_id: ids::of_webhook(delivery.endpoint),
        batch_id: ids::of_batch(delivery.batch),
        event: delivery.event.clone(),
        status: delivery.standing,
        attempts: delivery.attempts,
        outcome: delivery.outcome.clone(),
        created_at: delivery.created_at.timestamp(),
        next_attempt_at: delivery.due_at.map(|at| at.timestamp()),
        body: delivery.body.clone(),
    }
}

/// Sends a delivery again, whatever came of it, under the same id.
pub(super) async fn replay(
    State(gateway): State<Shared>,
    MaySubmit(tenant): MaySubmit,
    Id(id): Id,
) -> Result<Json<DeliveryObject>, ApiError> {
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
