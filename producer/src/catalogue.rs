//! What a place keeps for each tenant beside jobs and results: which files, batches and jobs are
//! theirs, the newest first. Ids begin with the time they were made at, so the order of their names
//! is that of time.

use std::time::Duration;

use chrono::{DateTime, Utc};
use lapidary_schemas::MediaRef;
use lapidary_transport::results::{Record, ResultsError};
use lapidary_transport::{AnyResults, Results as _};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A kind of record.
pub(crate) trait Kept: Serialize + DeserializeOwned {
    /// What its collections are called.
    const KIND: &'static str;
}

/// A file of requests that was uploaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FileRecord {
    pub(crate) filename: String,
    pub(crate) bytes: u64,
    pub(crate) created_at: DateTime<Utc>,
    pub(crate) expires_at: DateTime<Utc>,
    /// Where the list of its pieces is.
    pub(crate) pieces: MediaRef,
}

/// What is known of a batch besides the batch itself.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct BatchRecord {
    /// The file it was made of; none if that was not uploaded.
    pub(crate) input_file: Option<Uuid>,
    /// The time it was given, in the submitter's words.
    pub(crate) completion_window: Option<String>,
    /// When its cancellation was asked for.
    pub(crate) cancelling_at: Option<DateTime<Utc>>,
    /// The webhooks that are told of its end; none named: all of the tenant's.
    #[serde(default)]
    pub(crate) webhooks: Option<Vec<Uuid>>,
}

/// A single job that its tenant asks about later.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct JobRecord {
    pub(crate) model: String,
    pub(crate) created_at: DateTime<Utc>,
}

/// What was made of a submission that has a key of the client's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OnceRecord {
    /// Hash of what was asked for.
    pub(crate) request: String,
    /// Who makes it, or made it.
    pub(crate) by: Uuid,
    /// What it is; none while it is being made.
    pub(crate) made: Option<String>,
}

/// Where the request of a job is that was mended when it was brought back from the dead.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MendedRecord {
    pub(crate) request: MediaRef,
}

impl Kept for MendedRecord {
    const KIND: &'static str = "mended";
}

impl Kept for FileRecord {
    const KIND: &'static str = "files";
}

impl Kept for BatchRecord {
    const KIND: &'static str = "batches";
}

impl Kept for JobRecord {
    const KIND: &'static str = "jobs";
}

impl Kept for OnceRecord {
    const KIND: &'static str = "once";
}

fn collection<T: Kept>(tenant: &str) -> String {
    format!("{}:{tenant}", T::KIND)
}

fn read<T: Kept>(body: &str) -> Result<T, ResultsError> {
    serde_json::from_str(body).map_err(|error| ResultsError::Unusable {
        message: format!("a record of its {} cannot be read: {error}", T::KIND),
    })
}

fn write<T: Kept>(id: Uuid, what: &T) -> Result<Record, ResultsError> {
    let body = serde_json::to_string(what).map_err(|error| ResultsError::Conflict {
        message: format!("a record of {} cannot be written: {error}", T::KIND),
    })?;
    Ok(Record {
        name: id.simple().to_string(),
        body,
    })
}

/// Keeps a tenant's record for a time.
pub(crate) async fn keep<T: Kept>(
    results: &AnyResults,
    tenant: &str,
    id: Uuid,
    what: &T,
    ttl: Duration,
) -> Result<(), ResultsError> {
    let record = write(id, what)?;
    results
        .put_record(&collection::<T>(tenant), &record, Some(ttl))
        .await
}

/// Keeps a tenant's record for a time, unless there is one of this id, which is answered then.
pub(crate) async fn add<T: Kept>(
    results: &AnyResults,
    tenant: &str,
    id: Uuid,
    what: &T,
    ttl: Duration,
) -> Result<Option<T>, ResultsError> {
    let record = write(id, what)?;
    let there = results
        .add_record(&collection::<T>(tenant), &record, Some(ttl))
        .await?;
    there.map(|body| read(&body)).transpose()
}

/// A tenant's record.
pub(crate) async fn find<T: Kept>(
    results: &AnyResults,
    tenant: &str,
    id: Uuid,
) -> Result<Option<T>, ResultsError> {
    let name = id.simple().to_string();
    let body = results.record(&collection::<T>(tenant), &name).await?;
    body.map(|body| read(&body)).transpose()
}

/// A tenant's records that were made before `before`, if given; the newest first.
pub(crate) async fn list<T: Kept>(
    results: &AnyResults,
    tenant: &str,
    before: Option<Uuid>,
    max: usize,
) -> Result<Vec<(Uuid, T)>, ResultsError> {
    let before = before.map_or_else(String::new, |id| id.simple().to_string());
    let found = results
        .records(&collection::<T>(tenant), &before, max)
        .await?;
    let named = found
        .iter()
        .filter_map(|record| Some((record.name.parse().ok()?, &record.body)));
    named
        .map(|(id, body)| Ok((id, read(body)?)))
        .collect::<Result<_, _>>()
}

/// Forgets a tenant's record; whether it was there.
pub(crate) async fn forget<T: Kept>(
    results: &AnyResults,
    tenant: &str,
    id: Uuid,
) -> Result<bool, ResultsError> {
    let name = id.simple().to_string();
    results.remove_record(&collection::<T>(tenant), &name).await
}
