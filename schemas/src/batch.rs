//! A batch: many jobs submitted together, and how far they are.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::job::{Class, JobId, Work, uuid_v7};
use crate::media::MediaRef;
use crate::request::Request;

/// Names one batch: a `UUIDv7`.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(transparent)]
pub struct BatchId(pub Uuid);

impl BatchId {
    /// A new id for a batch made at `now`.
    pub fn new(now: DateTime<Utc>) -> Self {
        Self(uuid_v7(now))
    }
}

impl std::fmt::Display for BatchId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::str::FromStr for BatchId {
    type Err = uuid::Error;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// Where a batch stands. Only forward, except that a retry of items reopens a finished batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BatchState {
    /// Items may still be appended; those there are fed already.
    Open,
    /// All items are known.
    InProgress,
    /// Every item has a terminal result. Failed items do not make a batch failed; they are counted.
    Completed,
    /// Cancelled on request; finished items keep their results.
    Cancelled,
    /// The deadline passed before every item was done.
    Expired,
}

/// The durable record of a batch. Its items live in manifest shards in the media store.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Batch {
    /// The batch's name.
    pub id: BatchId,
    /// Whose batch it is; the feeder is fair between tenants.
    pub tenant: String,
    /// Model that serves every item.
    pub model: String,
    /// Class its jobs are published under.
    pub class: Class,
    /// Attempts an item gets.
    pub attempts_max: u32,
    /// When it was submitted.
    pub created_at: DateTime<Utc>,
    /// When unfinished items expire.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<DateTime<Utc>>,
    /// Seconds its results are kept, counted from its completion.
    pub retention_s: u64,
    /// The submitter's own notes, returned as given.
    #[serde(default, skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub metadata: std::collections::BTreeMap<String, String>,
    /// W3C trace context of the submission; each item has a trace of its own, which links to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
}

/// One shard of a batch's manifest: up to [`crate::limits::SHARD_ITEMS_MAX`] items, stored as JSON
/// lines of [`ManifestItem`] in the media store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Shard {
    /// Position among the batch's shards, from 0.
    pub index: u32,
    /// Items in it. All shards of a batch but the last have the same size, at most
    /// [`crate::limits::SHARD_ITEMS_MAX`].
    pub items: u32,
    /// Where its lines are.
    pub lines: MediaRef,
}

/// One item of a batch as its manifest keeps it. The job id is fixed here, so that feeding an item
/// twice makes the same job twice and never two jobs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ManifestItem {
    /// Id of the job that will carry it.
    pub id: JobId,
    /// The submitter's own name for it.
    pub custom_id: String,
    /// What is to be done.
    #[serde(default)]
    pub work: Work,
    /// What is asked.
    pub request: Request,
}

/// How far a batch is. Counters change in the same step as the states they count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Progress {
    /// Where the batch stands.
    pub state: BatchState,
    /// It is paused: none of its items is begun until it is resumed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
    /// Items known so far; final once the state has left `open`.
    pub total: u64,
    /// Items handed to the queue so far.
    pub fed: u64,
    /// Items with a result, by status.
    pub succeeded: u64,
    /// Stopped by the content filter.
    pub filtered: u64,
    /// Failed for good.
    pub failed: u64,
    /// Cancelled before they were done.
    pub cancelled: u64,
    /// Their deadline passed first.
    pub expired: u64,
    /// Tokens read by the finished items.
    pub prompt_tokens: u64,
    /// Tokens written by the finished items.
    pub completion_tokens: u64,
    /// When the last item got its result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<DateTime<Utc>>,
}

impl Progress {
    /// Items that have a terminal result.
    pub fn finished(&self) -> u64 {
        self.succeeded + self.filtered + self.failed + self.cancelled + self.expired
    }
}
