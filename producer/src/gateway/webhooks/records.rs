//! What is kept of webhooks: endpoints, deliveries, which of those are due, and which batches have not
//! been told of.

use chrono::{DateTime, Utc};
use lapidary_schemas::BatchId;
use lapidary_transport::results::{Record, ResultsError};
use lapidary_transport::{AnyResults, Results as _};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::super::limits::{DELIVERY_KEPT, NOTICES_AT_ONCE};
use crate::catalogue::{self, Kept};

/// Batches whose end is to be told: whose they are, by their ids.
const NOTICES: &str = "batch-notices";
/// Deliveries to be sent, the first one due by the highest name.
const DUE: &str = "webhook-due";
/// Milliseconds up to which moments are counted down from, in the year 2286.
const FAR_MS: i64 = 9_999_999_999_999;

/// Where a tenant wants to be told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Endpoint {
    pub(super) url: String,
    /// What deliveries are signed with, as it is written.
    pub(super) secret: String,
    pub(super) created_at: DateTime<Utc>,
    /// Nothing is sent there any more: it said that it is gone.
    #[serde(default)]
    pub(super) disabled: bool,
}

/// How a delivery stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "DeliveryStatus")]
pub(super) enum Standing {
    /// It will be sent, again perhaps.
    Pending,
    /// The endpoint has it.
    Delivered,
    /// It was tried often enough.
    Failed,
}

/// One event for one endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Delivery {
    pub(super) endpoint: Uuid,
    pub(super) event: String,
    pub(super) batch: BatchId,
    /// What is sent, byte for byte.
    pub(super) body: String,
    pub(super) standing: Standing,
    pub(super) attempts: u32,
    /// When it is sent next.
    pub(super) due_at: Option<DateTime<Utc>>,
    /// What came of the last attempt.
    pub(super) outcome: Option<String>,
    pub(super) created_at: DateTime<Utc>,
}

/// A delivery that is to be sent at some time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Due {
    pub(super) tenant: String,
    pub(super) delivery: Uuid,
    pub(super) at: DateTime<Utc>,
}

impl Kept for Endpoint {
    const KIND: &'static str = "webhooks";
}

impl Kept for Delivery {
    const KIND: &'static str = "webhook-deliveries";
}

impl Due {
    fn name(&self) -> String {
        let left = FAR_MS.saturating_sub(self.at.timestamp_millis());
        format!("{left:013}-{}", self.delivery.simple())
    }
}

/// Remembers that a batch's end is to be told.
pub(super) async fn notice(
    results: &AnyResults,
    tenant: &str,
    batch: BatchId,
) -> Result<(), ResultsError> {
    let record = Record {
        name: batch.0.simple().to_string(),
        body: tenant.to_owned(),
    };
    results.put_record(NOTICES, &record, None).await
}

/// Forgets that a batch's end is to be told.
pub(super) async fn unnotice(results: &AnyResults, batch: BatchId) -> Result<(), ResultsError> {
    let name = batch.0.simple().to_string();
    results.remove_record(NOTICES, &name).await.map(|_| ())
}

/// Some batches whose end is to be told, and whose they are; from `before` on, which is moved.
pub(super) async fn noticed(
    results: &AnyResults,
    before: &mut String,
) -> Result<Vec<(BatchId, String)>, ResultsError> {
    let page = results.records(NOTICES, before, NOTICES_AT_ONCE).await?;
    *before = page
        .last()
        .map_or_else(String::new, |last| last.name.clone());
    let named = page
        .into_iter()
        .filter_map(|Record { name, body }| Some((name.parse().ok()?, body)));
    Ok(named.collect())
}

/// Keeps a delivery, and when it is to be sent, if it is. That comes first: what is due and is not there
/// is passed over, and what is there and not due would never be sent.
pub(super) async fn keep(
    results: &AnyResults,
    tenant: &str,
    id: Uuid,
    delivery: &Delivery,
) -> Result<(), ResultsError> {
    if let Some(at) = delivery.due_at {
        let due = Due {
            tenant: tenant.to_owned(),
            delivery: id,
            at,
        };
        let body = serde_json::to_string(&due).map_err(|error| ResultsError::Conflict {
            message: format!("a delivery cannot be written down: {error}"),
        })?;
        let name = due.name();
        results
            .put_record(DUE, &Record { name, body }, Some(DELIVERY_KEPT))
            .await?;
    }
    catalogue::keep(results, tenant, id, delivery, DELIVERY_KEPT).await
}

/// Deliveries that are due, the earliest first, at most `max`.
pub(super) async fn due(
    results: &AnyResults,
    now: DateTime<Utc>,
    max: usize,
) -> Result<Vec<Due>, ResultsError> {
    let first = results.records(DUE, "", max).await?;
    let mut due = Vec::new();
    for Record { name, body } in first {
        let read: Due = serde_json::from_str(&body).map_err(|error| ResultsError::Unusable {
            message: format!("delivery {name} cannot be read: {error}"),
        })?;
        if read.at <= now {
            due.push(read);
        }
    }
    Ok(due)
}

/// A delivery is not due any more as it was.
pub(super) async fn undue(results: &AnyResults, due: &Due) -> Result<(), ResultsError> {
    results.remove_record(DUE, &due.name()).await.map(|_| ())
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    #[test]
    fn the_first_one_due_has_the_highest_name() {
        let now = Utc::now();
        let name = |at| {
            let (tenant, delivery) = (String::new(), Uuid::now_v7());
            Due {
                tenant,
                delivery,
                at,
            }
            .name()
        };
        assert!(name(now) > name(now + TimeDelta::milliseconds(1)));
        assert!(name(now) > name(now + TimeDelta::days(36_500)));
    }
}
