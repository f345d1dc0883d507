//! A job as a message: written, read, and read in part where it is no job.

use chrono::{DateTime, Utc};
use lapidary_schemas::job::ENVELOPE_VERSION;
use lapidary_schemas::limits::QUEUE_MESSAGE_BYTES_MAX;
use lapidary_schemas::trace::TRACEPARENT;
use lapidary_schemas::{Job, JobId};
use lapin::BasicProperties;
use lapin::types::AMQPValue;

use crate::queue::{QueueError, Undecodable};

/// Moment before which a message must not be lent, in milliseconds since 1970; only on those that
/// wait longer than the ladder is high.
const DUE: &str = "lapidary-due-ms";
/// Why a dead letter died.
const REASON: &str = "lapidary-reason";
/// Bytes of a reason that travel as a header.
const REASON_BYTES_MAX: usize = 1_024;

/// Something to publish.
#[derive(Debug, Clone)]
pub(super) struct Outgoing {
    /// Exchange; empty for the one that routes by the queue's name.
    pub(super) exchange: &'static str,
    /// Queue in which it ends up.
    pub(super) queue: String,
    /// Its bytes.
    pub(super) body: Vec<u8>,
    /// Id, headers, durability.
    pub(super) properties: BasicProperties,
}

impl Outgoing {
    /// The queue that must exist for it, and that confirms it. A rung's exchange carries the name of
    /// the rung's queue.
    pub(super) fn first(&self) -> &str {
        if self.exchange.is_empty() {
            &self.queue
        } else {
            self.exchange
        }
    }
}

/// The bytes of a job, if they fit.
pub(super) fn encode(job: &Job) -> Result<Vec<u8>, QueueError> {
    let body = serde_json::to_vec(job).map_err(|error| QueueError::Unusable {
        message: format!("job {} cannot be written as JSON: {error}", job.id),
    })?;
    if body.len() > QUEUE_MESSAGE_BYTES_MAX {
        return Err(QueueError::TooLarge {
            job_id: job.id,
            bytes: body.len(),
            limit: QUEUE_MESSAGE_BYTES_MAX,
        });
    }
    Ok(body)
}

/// The job in a message, or what is wrong with it.
pub(super) fn decode(body: &[u8], message_id: Option<JobId>) -> Result<Job, Undecodable> {
    let refuse = |message: String| Undecodable {
        job_id: message_id,
        message,
        body: body.to_vec(),
    };
    match serde_json::from_slice::<Job>(body) {
        Ok(job) if job.version != ENVELOPE_VERSION => {
            Err(refuse(other_version(job.version.into())))
        }
        Ok(job) => Ok(job),
        Err(error) => Err(refuse(match version_of(body) {
            Some(version) if version != u64::from(ENVELOPE_VERSION) => other_version(version),
            _ => format!("message is not a job: {error}"),
        })),
    }
}

fn other_version(version: u64) -> String {
    format!("job envelope has version {version}, this build reads version {ENVELOPE_VERSION}")
}

fn version_of(body: &[u8]) -> Option<u64> {
    serde_json::from_slice::<serde_json::Value>(body)
        .ok()?
        .get("version")?
        .as_u64()
}

/// Durable, JSON, and named by the job; with the job's place in a trace, where tools that look at
/// messages look for it.
pub(super) fn properties(message_id: Option<JobId>, traceparent: Option<&str>) -> BasicProperties {
    let mut properties = BasicProperties::default()
        .with_delivery_mode(2)
        .with_content_type("application/json".into());
    if let Some(id) = message_id {
        properties = properties.with_message_id(id.to_string().into());
    }
    match traceparent {
        Some(place) => with_header(properties, TRACEPARENT, AMQPValue::LongString(place.into())),
        None => properties,
    }
}

/// The job's place in a trace, as the message's properties have it.
pub(super) fn traceparent(properties: &BasicProperties) -> Option<String> {
    match properties.headers().as_ref()?.inner().get(TRACEPARENT)? {
        AMQPValue::LongString(place) => Some(place.to_string()),
        _ => None,
    }
}

/// Adds the moment before which it must not be lent.
pub(super) fn with_due(properties: BasicProperties, due: DateTime<Utc>) -> BasicProperties {
    with_header(
        properties,
        DUE,
        AMQPValue::LongLongInt(due.timestamp_millis()),
    )
}

/// Adds why it died.
pub(super) fn with_reason(properties: BasicProperties, reason: &str) -> BasicProperties {
    let end = reason.floor_char_boundary(REASON_BYTES_MAX);
    with_header(
        properties,
        REASON,
        AMQPValue::LongString(reason[..end].into()),
    )
}

fn with_header(properties: BasicProperties, key: &str, value: AMQPValue) -> BasicProperties {
    let mut headers = properties.headers().clone().unwrap_or_default();
    headers.insert(key.into(), value);
    properties.with_headers(headers)
}

/// The job id that a message's properties carry.
pub(super) fn message_id(properties: &BasicProperties) -> Option<JobId> {
    properties.message_id().as_ref()?.as_str().parse().ok()
}

/// The moment before which a message must not be lent, if it says so.
pub(super) fn due(properties: &BasicProperties) -> Option<DateTime<Utc>> {
    match properties.headers().as_ref()?.inner().get(DUE)? {
        AMQPValue::LongLongInt(ms) => DateTime::from_timestamp_millis(*ms),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_job_says_why_and_keeps_its_id() {
        let id = JobId::new(Utc::now());
        let refused = decode(b"{\"version\": 9}", Some(id)).unwrap_err();
        assert_eq!(refused.job_id, Some(id));
        assert_eq!(
            refused.message,
            "job envelope has version 9, this build reads version 1"
        );
        assert!(
            decode(b"\xff\x00", None)
                .unwrap_err()
                .message
                .starts_with("message is not a job")
        );
    }

    #[test]
    fn properties_carry_id_trace_due_and_reason() {
        let (id, now) = (JobId::new(Utc::now()), Utc::now());
        let place = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let properties = properties(Some(id), Some(place));
        let properties = with_reason(with_due(properties, now), &"é".repeat(2_000));
        assert_eq!(message_id(&properties), Some(id));
        assert_eq!(traceparent(&properties).as_deref(), Some(place));
        assert_eq!(
            due(&properties).unwrap().timestamp_millis(),
            now.timestamp_millis()
        );
    }
}
