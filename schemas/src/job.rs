//! The job envelope: what travels from a producer to a worker.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::batch::BatchId;
use crate::request::Request;

/// Version of the envelope this build writes; a worker refuses any other by name.
pub const ENVELOPE_VERSION: u32 = 1;

/// Names one job for ever: a `UUIDv7`, so ids sort by creation.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(transparent)]
pub struct JobId(pub Uuid);

impl JobId {
    /// A new id for a job made at `now`.
    pub fn new(now: DateTime<Utc>) -> Self {
        Self(uuid_v7(now))
    }
}

impl std::fmt::Display for JobId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::str::FromStr for JobId {
    type Err = uuid::Error;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// A `UUIDv7` of the given moment.
pub(crate) fn uuid_v7(now: DateTime<Utc>) -> Uuid {
    let seconds = u64::try_from(now.timestamp()).unwrap_or(0);
    Uuid::new_v7(uuid::Timestamp::from_unix(
        uuid::NoContext,
        seconds,
        now.timestamp_subsec_nanos(),
    ))
}

/// How soon somebody wants the answer.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// Somebody waits: published directly, served before bulk.
    Interactive,
    /// Part of a batch: published by the feeder, within its window.
    Bulk,
}

impl Class {
    /// Both classes, the more urgent first.
    pub const ALL: [Self; 2] = [Self::Interactive, Self::Bulk];

    /// The name on the wire, in queue names and in metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Interactive => "interactive",
            Self::Bulk => "bulk",
        }
    }
}

/// What is to be done with the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema, Default)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    /// Generate an answer.
    #[default]
    Chat,
    /// Judge the request by the filter only.
    Moderation,
    /// Log-probabilities of the request's own tokens.
    Score,
}

impl Work {
    /// Every kind of work.
    pub const ALL: [Self; 3] = [Self::Chat, Self::Moderation, Self::Score];

    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Moderation => "moderation",
            Self::Score => "score",
        }
    }
}

/// One unit of work, as published.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Job {
    /// [`ENVELOPE_VERSION`] of the build that made it.
    pub version: u32,
    /// The job's name; results are exactly once by it.
    pub id: JobId,
    /// The job this one repeats, when it is a retry or a replay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<JobId>,
    /// The batch it is an item of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch_id: Option<BatchId>,
    /// Position in the batch, from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub item: Option<u64>,
    /// The submitter's own name for it; unique in a batch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub custom_id: Option<String>,
    /// Whose job it is.
    pub tenant: String,
    /// Name of the model that shall serve it.
    pub model: String,
    /// How soon somebody wants the answer.
    pub class: Class,
    /// What is to be done.
    #[serde(default)]
    pub work: Work,
    /// Attempts after which a failing job is dead.
    pub attempts_max: u32,
    /// When it was submitted.
    pub created_at: DateTime<Utc>,
    /// When an answer stops being useful.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<DateTime<Utc>>,
    /// W3C trace context of the submission.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// What is asked.
    pub request: Request,
}
