//! A batch as clients see it: what its states here are in `OpenAI`'s words.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use lapidary_schemas::batch_line::BATCH_URL;
use lapidary_schemas::{Batch, BatchState, Progress};
use schemars::JsonSchema;
use serde::Serialize;

use super::found::Object;
use super::ids::{self, FileId};
use crate::catalogue::BatchRecord;
use crate::submission::Mistake;

/// How a batch stands, in `OpenAI`'s words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "BatchStatus")]
pub(super) enum Status {
    /// Its items are being recorded.
    Validating,
    /// Items wait or run.
    InProgress,
    /// Every item is through, and at least one has an answer.
    Completed,
    /// Every item is through, and none has an answer.
    Failed,
    /// It was cancelled, and items run still.
    Cancelling,
    /// It was cancelled.
    Cancelled,
    /// Its time is over, and items run still.
    Finalizing,
    /// Its time is over.
    Expired,
}

impl Status {
    /// As it is written.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Validating => "validating",
            Self::InProgress => "in_progress",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelling => "cancelling",
            Self::Cancelled => "cancelled",
            Self::Finalizing => "finalizing",
            Self::Expired => "expired",
        }
    }
}

/// How a batch stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Standing {
    /// In `OpenAI`'s words.
    pub(super) status: Status,
    /// When it ended.
    pub(super) ended_at: Option<DateTime<Utc>>,
    /// It has ended and some request has an answer.
    pub(super) has_answers: bool,
    /// It has ended and some request has none.
    pub(super) has_failures: bool,
}

impl Standing {
    /// From its counts. A batch without any answer is `failed`: `completed` would look like success.
    pub(super) fn of(counts: &Progress) -> Self {
        let is_through = counts.finished() >= counts.total;
        let status = match counts.state {
            BatchState::Open => Status::Validating,
            BatchState::InProgress => Status::InProgress,
            BatchState::Completed if counts.succeeded == 0 => Status::Failed,
            BatchState::Completed => Status::Completed,
            BatchState::Cancelled if is_through => Status::Cancelled,
            BatchState::Cancelled => Status::Cancelling,
            BatchState::Expired if is_through => Status::Expired,
            BatchState::Expired => Status::Finalizing,
        };
        let has_ended = has_ended(counts);
        Self {
            status,
            ended_at: counts.finished_at.filter(|_| has_ended),
            has_answers: has_ended && counts.succeeded > 0,
            has_failures: has_ended && counts.succeeded < counts.total,
        }
    }
}

/// Whether items may be begun.
fn is_going(state: BatchState) -> bool {
    matches!(state, BatchState::Open | BatchState::InProgress)
}

/// Whether all results are there that will ever come.
pub(super) fn has_ended(counts: &Progress) -> bool {
    counts.finished() >= counts.total && !is_going(counts.state)
}

/// A batch as it is written.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct BatchObject {
    id: String,
    object: &'static str,
    endpoint: &'static str,
    model: String,
    errors: Option<BatchErrors>,
    input_file_id: Option<String>,
    completion_window: Option<String>,
    status: Status,
    /// None of its requests is begun until it is resumed.
    paused: bool,
    output_file_id: Option<String>,
    error_file_id: Option<String>,
    created_at: i64,
    in_progress_at: Option<i64>,
    expires_at: Option<i64>,
    finalizing_at: Option<i64>,
    completed_at: Option<i64>,
    failed_at: Option<i64>,
    expired_at: Option<i64>,
    cancelling_at: Option<i64>,
    cancelled_at: Option<i64>,
    request_counts: RequestCounts,
    usage: BatchUsage,
    /// The webhooks that are told of its end; `null`: all of the tenant's.
    webhooks: Option<Vec<String>>,
    metadata: BTreeMap<String, String>,
}

/// How many requests are through, and how.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct RequestCounts {
    total: u64,
    completed: u64,
    /// All without an answer.
    failed: u64,
    /// Of those, the ones that a filter stopped.
    filtered: u64,
    cancelled: u64,
    expired: u64,
}

/// Tokens read and written.
#[derive(Debug, Serialize, JsonSchema)]
#[expect(clippy::struct_field_names, reason = "they are OpenAI's")]
pub(super) struct BatchUsage {
    input_tokens: u64,
    output_tokens: u64,
    total_tokens: u64,
}

/// What is wrong with a batch in which nothing succeeded.
#[derive(Debug, Serialize, JsonSchema)]
struct BatchErrors {
    object: &'static str,
    data: Vec<Mistake>,
}

impl Object for BatchObject {
    fn id(&self) -> &str {
        &self.id
    }
}

impl From<&Progress> for RequestCounts {
    fn from(counts: &Progress) -> Self {
        Self {
            total: counts.total,
            completed: counts.succeeded,
            failed: counts.finished() - counts.succeeded,
            filtered: counts.filtered,
            cancelled: counts.cancelled,
            expired: counts.expired,
        }
    }
}

impl From<&Progress> for BatchUsage {
    fn from(counts: &Progress) -> Self {
        Self {
            input_tokens: counts.prompt_tokens,
            output_tokens: counts.completion_tokens,
            total_tokens: counts.prompt_tokens + counts.completion_tokens,
        }
    }
}

impl BatchObject {
    /// Everything that is known of it.
    pub(super) fn new(batch: Batch, record: &BatchRecord, counts: &Progress) -> Self {
        let standing = Standing::of(counts);
        let unix = |moment: DateTime<Utc>| moment.timestamp();
        let ended = |status| {
            let ended_at = standing.ended_at.filter(|_| standing.status == status);
            ended_at.map(unix)
        };
        let is_expired = counts.state == BatchState::Expired;
        let answers = standing.has_answers.then_some(FileId::Output(batch.id));
        let failures = standing.has_failures.then_some(FileId::Errors(batch.id));
        Self {
            id: ids::of_batch(batch.id),
            object: "batch",
            endpoint: BATCH_URL,
            errors: (standing.status == Status::Failed).then(|| nothing_succeeded(counts)),
            input_file_id: record.input_file.map(|id| FileId::Input(id).to_string()),
            completion_window: record.completion_window.clone(),
            status: standing.status,
            paused: counts.paused,
            output_file_id: answers.map(|id| id.to_string()),
            error_file_id: failures.map(|id| id.to_string()),
            created_at: unix(batch.created_at),
            in_progress_at: (counts.state != BatchState::Open).then_some(unix(batch.created_at)),
            expires_at: batch.deadline.map(unix),
            finalizing_at: batch.deadline.filter(|_| is_expired).map(unix),
            completed_at: ended(Status::Completed),
            failed_at: ended(Status::Failed),
            expired_at: ended(Status::Expired),
            cancelling_at: record.cancelling_at.map(unix),
            cancelled_at: ended(Status::Cancelled),
            request_counts: counts.into(),
            usage: counts.into(),
            webhooks: record.webhooks.as_ref().map(|named| {
                let written = named.iter().copied().map(ids::of_webhook);
                written.collect()
            }),
            metadata: batch.metadata,
            model: batch.model,
        }
    }
}

fn nothing_succeeded(counts: &Progress) -> BatchErrors {
    let message = format!(
        "none of {} requests succeeded; the error file says why",
        counts.total
    );
    BatchErrors {
        object: "list",
        data: vec![Mistake {
            code: "all_requests_failed",
            line: None,
            message,
            param: None,
        }],
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn counts(state: BatchState, [succeeded, failed, cancelled]: [u64; 3]) -> Progress {
        Progress {
            state,
            paused: false,
            total: 4,
            fed: 4,
            succeeded,
            filtered: 0,
            failed,
            cancelled,
            expired: 0,
            prompt_tokens: 8,
            completion_tokens: 2,
            finished_at: Some(Utc::now()),
        }
    }

    #[test]
    fn every_state_has_its_word() {
        use BatchState::{Cancelled, Completed, Expired, InProgress, Open};
        for (state, numbers, status, answers, failures) in [
            (Open, [0, 0, 0], Status::Validating, false, false),
            (InProgress, [3, 0, 0], Status::InProgress, false, false),
            (Completed, [4, 0, 0], Status::Completed, true, false),
            (Completed, [1, 3, 0], Status::Completed, true, true),
            (Completed, [0, 4, 0], Status::Failed, false, true),
            (Cancelled, [1, 0, 2], Status::Cancelling, false, false),
            (Cancelled, [1, 0, 3], Status::Cancelled, true, true),
            (Expired, [1, 2, 0], Status::Finalizing, false, false),
            (Expired, [1, 3, 0], Status::Expired, true, true),
        ] {
            let standing = Standing::of(&counts(state, numbers));
            let Standing {
                has_answers,
                has_failures,
                ended_at,
                ..
            } = standing;
            assert_eq!(
                (standing.status, has_answers, has_failures),
                (status, answers, failures)
            );
            assert_eq!(ended_at.is_some(), answers || failures, "{status:?}");
        }
    }

    #[test]
    fn a_moment_stands_under_the_state_that_was_reached() {
        let mut batch = crate::submission::bulk("t", Utc::now(), Some(chrono::TimeDelta::hours(1)));
        batch.model = "m".to_owned();
        let record = BatchRecord {
            cancelling_at: Some(Utc::now()),
            ..BatchRecord::default()
        };
        let counts = counts(BatchState::Cancelled, [1, 1, 2]);
        let object = json!(BatchObject::new(batch, &record, &counts));
        for (field, is_there) in [
            ("in_progress_at", true),
            ("cancelling_at", true),
            ("cancelled_at", true),
            ("expires_at", true),
            ("completed_at", false),
            ("failed_at", false),
            ("expired_at", false),
            ("finalizing_at", false),
            ("errors", false),
            ("output_file_id", true),
            ("error_file_id", true),
        ] {
            assert_eq!(!object[field].is_null(), is_there, "{field} of {object}");
        }
        assert_eq!(object["request_counts"]["completed"], 1);
        assert_eq!(object["request_counts"]["failed"], 3);
        assert_eq!(object["usage"]["total_tokens"], 10);
    }
}
