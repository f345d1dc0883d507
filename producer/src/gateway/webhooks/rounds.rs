//! One gateway at a time, elected, sees which batches have ended and sends what is due.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use futures::future::join_all;
use lapidary_schemas::{Batch, BatchId, Progress};
use lapidary_transport::results::ResultsError;
use lapidary_transport::{AnyResults, Results as _};
use serde_json::json;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::super::batch_object::{self, has_ended};
use super::super::ids;
use super::super::limits::{
    DUE_AT_ONCE, ENDPOINT_KEPT, ENDPOINTS_MAX, NOTICE_KEPT, ROUND_EVERY, ROUND_LEASE,
    SENDING_AGAIN_AFTER,
};
use super::records::{self, Delivery, Due, Endpoint, Standing};
use super::send::{Sender, Unsent};
use crate::catalogue::{self, BatchRecord};

/// What is elected.
const ELECTION: &str = "webhooks";

/// Who tells.
#[derive(Debug)]
pub(crate) struct Rounds {
    results: Arc<AnyResults>,
    sender: Arc<Sender>,
    holder: String,
    /// Where the look at notices goes on.
    before: String,
}

impl Rounds {
    /// Stands for election from when it is run.
    pub(crate) fn new(results: Arc<AnyResults>, sender: Arc<Sender>) -> Self {
        Self {
            results,
            sender,
            holder: Uuid::now_v7().to_string(),
            before: String::new(),
        }
    }

    /// Makes rounds until `stop`.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut lease = None;
        while stop
            .run_until_cancelled(tokio::time::sleep(ROUND_EVERY))
            .await
            .is_some()
        {
            let won = self
                .results
                .lease(ELECTION, &self.holder, ROUND_LEASE)
                .await;
            let made = match won {
                Ok(won) => {
                    lease = won;
                    match lease {
                        Some(_) => self.round(Utc::now()).await,
                        None => Ok(()),
                    }
                }
                Err(error) => Err(error),
            };
            if let Err(error) = made {
                tracing::warn!(%error, "webhooks: a round was not finished");
            }
        }
        if let Some(lease) = lease
            && let Err(error) = self.results.release(&lease).await
        {
            tracing::debug!(%error, "webhooks: the election ends by itself");
        }
    }

    async fn round(&mut self, now: DateTime<Utc>) -> Result<(), ResultsError> {
        let noticed = records::noticed(&self.results, &mut self.before).await?;
        for (batch, tenant) in noticed {
            self.look(batch, &tenant, now).await?;
        }
        let due = records::due(&self.results, now, DUE_AT_ONCE).await?;
        let sending: Vec<_> = due.iter().map(|due| self.deliver(due)).collect();
        join_all(sending).await.into_iter().collect()
    }

    /// Makes deliveries of the end of a batch, if it has ended.
    async fn look(
        &self,
        id: BatchId,
        tenant: &str,
        now: DateTime<Utc>,
    ) -> Result<(), ResultsError> {
        let results = &*self.results;
        let Some(batch) = results.batch(id).await? else {
            // Being made, or never made: its gateway died.
            let made_at = id.0.get_timestamp().map_or(0, |at| at.to_unix().0);
            let made_at = DateTime::from_timestamp(i64::try_from(made_at).unwrap_or(0), 0);
            if made_at.is_none_or(|made_at| made_at + NOTICE_KEPT < now) {
                records::unnotice(results, id).await?;
            }
            return Ok(());
        };
        let counts = match results.progress(id).await {
            Ok(counts) => counts,
            Err(ResultsError::NoSuchBatch { .. }) => return Ok(()),
            Err(error) => return Err(error),
        };
        if !has_ended(&counts) {
            return Ok(());
        }
        let endpoints = catalogue::list::<Endpoint>(results, tenant, None, ENDPOINTS_MAX).await?;
        let record = catalogue::find::<BatchRecord>(results, tenant, id.0).await?;
        let named = record.and_then(|record| record.webhooks);
        let is_told = |id: &Uuid| named.as_ref().is_none_or(|named| named.contains(id));
        let told = endpoints
            .into_iter()
            .filter(|(id, endpoint)| !endpoint.disabled && is_told(id));
        for (endpoint, _) in told {
            let (id, delivery) = delivery(endpoint, &batch, &counts, now);
            // One that is there was made before the notice could be taken down.
            if catalogue::find::<Delivery>(results, tenant, id)
                .await?
                .is_none()
            {
                records::keep(results, tenant, id, &delivery).await?;
            }
        }
        records::unnotice(results, id).await
    }

    /// Sends nothing to an endpoint any more.
    async fn disable(
        &self,
        tenant: &str,
        id: Uuid,
        endpoint: Endpoint,
    ) -> Result<(), ResultsError> {
        let disabled = Endpoint {
            disabled: true,
            ..endpoint
        };
        catalogue::keep(&self.results, tenant, id, &disabled, ENDPOINT_KEPT).await
    }

    /// Sends a delivery that is due, and writes down what came of it.
    async fn deliver(&self, due: &Due) -> Result<(), ResultsError> {
        let (results, tenant) = (&*self.results, due.tenant.as_str());
        let found = catalogue::find::<Delivery>(results, tenant, due.delivery).await?;
        // It was replayed or sent meanwhile, or is forgotten.
        let found = found.filter(|delivery| delivery.due_at == Some(due.at));
        if let Some(mut delivery) = found {
            let endpoint = catalogue::find::<Endpoint>(results, tenant, delivery.endpoint).await?;
            let now = Utc::now();
            let outcome = match endpoint.filter(|endpoint| !endpoint.disabled) {
                Some(endpoint) => {
                    let id = ids::of_message(due.delivery);
                    let sent = self.sender.send(&endpoint, &id, &delivery.body, now);
                    let sent = sent.await;
                    if sent.as_ref().is_err_and(|unsent| unsent.is_gone) {
                        self.disable(tenant, delivery.endpoint, endpoint).await?;
                    }
                    Some(sent)
                }
                None => None,
            };
            conclude(&mut delivery, outcome, Utc::now());
            records::keep(results, tenant, due.delivery, &delivery).await?;
        }
        records::undue(results, due).await
    }
}

/// The delivery of a batch's end to an endpoint, which is the same whoever makes it.
fn delivery(
    endpoint: Uuid,
    batch: &Batch,
    counts: &Progress,
    now: DateTime<Utc>,
) -> (Uuid, Delivery) {
    let standing = batch_object::Standing::of(counts);
    let ended_at = standing.ended_at.unwrap_or(now);
    let name = format!("{endpoint} {} {}", batch.id, ended_at.timestamp_millis());
    let chance = crate::digest::short(name.as_bytes()).to_be_bytes();
    let mut random = [0; 10];
    random.copy_from_slice(&chance[..10]);
    let millis = u64::try_from(ended_at.timestamp_millis()).unwrap_or(0);
    let id = uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid();
    let event = format!("batch.{}", standing.status.as_str());
    let body = json!({
        "type": event,
        "timestamp": ended_at,
        "data": {
            "id": ids::of_batch(batch.id),
            "object": "batch",
            "status": standing.status,
            "request_counts": batch_object::RequestCounts::from(counts),
        },
    });
    let delivery = Delivery {
        endpoint,
        event,
        batch: batch.id,
        body: body.to_string(),
        standing: Standing::Pending,
        attempts: 0,
        due_at: Some(now),
        outcome: None,
        created_at: now,
    };
    (id, delivery)
}

/// What follows from an attempt; without an outcome, there is no endpoint any more that is sent to.
fn conclude(delivery: &mut Delivery, outcome: Option<Result<String, Unsent>>, now: DateTime<Utc>) {
    delivery.due_at = None;
    let Some(outcome) = outcome else {
        delivery.standing = Standing::Failed;
        delivery.outcome = Some("the endpoint was deleted or disabled".to_owned());
        return;
    };
    delivery.attempts = delivery.attempts.saturating_add(1);
    match outcome {
        Ok(outcome) => {
            delivery.standing = Standing::Delivered;
            delivery.outcome = Some(outcome);
        }
        Err(unsent) if unsent.is_gone => {
            delivery.standing = Standing::Failed;
            delivery.outcome = Some(unsent.why);
        }
        Err(unsent) => {
            delivery.outcome = Some(unsent.why);
            let attempt = usize::try_from(delivery.attempts).unwrap_or(usize::MAX);
            match SENDING_AGAIN_AFTER.get(attempt.saturating_sub(1)) {
                Some(after) => {
                    let after = TimeDelta::from_std(*after).unwrap_or(TimeDelta::MAX);
                    delivery.due_at = Some(now + after);
                }
                None => delivery.standing = Standing::Failed,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use lapidary_schemas::BatchState;

    use super::*;

    fn of_a_batch() -> (Uuid, Delivery) {
        let mut batch = crate::submission::bulk("t", Utc::now(), None);
        batch.model = "m".to_owned();
        let counts = Progress {
            state: BatchState::Completed,
            paused: false,
            total: 2,
            fed: 2,
            succeeded: 1,
            filtered: 0,
            failed: 1,
            cancelled: 0,
            expired: 0,
            prompt_tokens: 0,
            completion_tokens: 0,
            finished_at: Some(Utc::now()),
        };
        let endpoint = Uuid::now_v7();
        let first = delivery(endpoint, &batch, &counts, Utc::now());
        let later = delivery(endpoint, &batch, &counts, Utc::now() + TimeDelta::hours(1));
        assert_eq!(first.0, later.0, "a delivery is made once");
        let other = delivery(Uuid::now_v7(), &batch, &counts, Utc::now());
        assert_ne!(first.0, other.0);
        first
    }

    #[test]
    fn it_is_tried_again_for_a_while_and_then_given_up() {
        let (_, mut delivery) = of_a_batch();
        let now = Utc::now();
        for after in SENDING_AGAIN_AFTER {
            conclude(&mut delivery, Some(Err("no".into())), now);
            assert_eq!(delivery.standing, Standing::Pending);
            let due_in = (delivery.due_at.unwrap() - now).to_std().unwrap();
            assert_eq!(due_in, after);
        }
        conclude(&mut delivery, Some(Err("no".into())), now);
        assert_eq!(
            (delivery.standing, delivery.due_at),
            (Standing::Failed, None)
        );
        conclude(&mut delivery, Some(Ok("well".to_owned())), now);
        assert_eq!(delivery.standing, Standing::Delivered);
    }

    #[test]
    fn what_is_told_names_the_batch_and_how_it_ended() {
        let (_, delivery) = of_a_batch();
        let body: serde_json::Value = serde_json::from_str(&delivery.body).unwrap();
        assert_eq!(delivery.event, "batch.completed");
        assert_eq!(body["type"], "batch.completed");
        assert_eq!(body["data"]["id"], ids::of_batch(delivery.batch));
        assert_eq!(body["data"]["request_counts"]["failed"], 1);
    }
}
