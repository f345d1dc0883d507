//! What is written into the store, and read back.

use chrono::{DateTime, Utc};
use lapidary_schemas::limits::{RESULT_BYTES_MAX, RETENTION_DEFAULT_S};
use lapidary_schemas::{Failure, FailureCode, Job, JobId, JobResult, Status};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::keys::Home;
use crate::results::ResultsError;

/// What a script must know of a job or its result.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct About {
    /// Position in the batch; -1 without one.
    pub(super) item: i64,
    pub(super) status: String,
    pub(super) prompt: u32,
    pub(super) completion: u32,
    /// Seconds to keep what belongs to no batch that is known.
    pub(super) keep: u64,
}

/// A job that has been begun and has no result, as the scripts keep it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct LiveJob {
    /// Attempts so far.
    pub(super) a: u32,
    /// The worker that runs it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) r: Option<String>,
    /// Position in the batch.
    pub(super) i: Option<i64>,
    /// The submitter's own name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) c: Option<String>,
}

impl LiveJob {
    /// One that was never begun.
    pub(super) fn of(job: &Job) -> Self {
        Self {
            a: 0,
            r: None,
            i: Some(signed(job.item)),
            c: job.custom_id.clone(),
        }
    }
}

/// Where a job's state lives, from the job.
pub(super) fn home_of(job: &Job) -> Home {
    job.batch_id.map_or(Home::Single(job.id), Home::Batch)
}

/// Where a result lives, from the result.
pub(super) fn home_of_result(result: &JobResult) -> Home {
    result
        .batch_id
        .map_or(Home::Single(result.job_id), Home::Batch)
}

fn signed(item: Option<u64>) -> i64 {
    item.and_then(|item| i64::try_from(item).ok()).unwrap_or(-1)
}

impl About {
    pub(super) fn of_result(result: &JobResult) -> Self {
        Self {
            item: signed(result.item),
            status: result.status.as_str().to_owned(),
            prompt: result.usage.prompt_tokens,
            completion: result.usage.completion_tokens,
            keep: RETENTION_DEFAULT_S,
        }
    }
}

/// What is known of a job that ends without having been worked.
pub(super) struct Unworked {
    pub(super) id: JobId,
    pub(super) home: Home,
    pub(super) item: Option<u64>,
    pub(super) custom_id: Option<String>,
}

impl Unworked {
    pub(super) fn of_job(job: &Job) -> Self {
        Self {
            id: job.id,
            home: home_of(job),
            item: job.item,
            custom_id: job.custom_id.clone(),
        }
    }

    /// The result of a job that nobody will work.
    pub(super) fn result(&self, status: Status, now: DateTime<Utc>) -> JobResult {
        let failure = match status {
            Status::Expired => Failure::new(
                FailureCode::DeadlineExceeded,
                "deadline of the batch passed before the job was begun",
            ),
            _ => Failure::new(FailureCode::Cancelled, "cancelled on request"),
        };
        JobResult {
            job_id: self.id,
            batch_id: match self.home {
                Home::Batch(batch) => Some(batch),
                Home::Single(_) => None,
            },
            item: self.item,
            custom_id: self.custom_id.clone(),
            status,
            text: None,
            tool_calls: Vec::new(),
            finish_reason: None,
            usage: lapidary_schemas::result::Usage::default(),
            timings: lapidary_schemas::result::Timings::default(),
            tokens_per_second: None,
            filter: Vec::new(),
            failure: Some(failure),
            logprobs: Vec::new(),
            attempt: 0,
            worker: None,
            model: None,
            seed: None,
            finished_at: now,
        }
    }
}

/// A value as JSON.
pub(super) fn write<T: Serialize>(what: &str, value: &T) -> Result<String, ResultsError> {
    serde_json::to_string(value).map_err(|error| ResultsError::Unusable {
        message: format!("{what} cannot be written as JSON: {error}"),
    })
}

/// A result as JSON, if it is not too large.
pub(super) fn write_result(result: &JobResult) -> Result<String, ResultsError> {
    let text = write("result", result)?;
    if text.len() <= RESULT_BYTES_MAX {
        return Ok(text);
    }
    let message = format!(
        "result of job {} is {} bytes, the limit is {RESULT_BYTES_MAX}",
        result.job_id,
        text.len()
    );
    Err(ResultsError::Conflict { message })
}

/// A value from JSON that this program wrote.
pub(super) fn read<T: DeserializeOwned>(what: &str, text: &str) -> Result<T, ResultsError> {
    serde_json::from_str(text).map_err(|error| ResultsError::Unusable {
        message: format!("stored {what} cannot be read: {error}"),
    })
}
