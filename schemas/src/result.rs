//! What comes back: exactly one terminal result a job.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::batch::BatchId;
use crate::failure::Failure;
use crate::job::JobId;
use crate::tool::ToolCall;

/// How a job ended. Terminal: a stored status never changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// There is an answer.
    Succeeded,
    /// The content filter refused request or answer.
    Filtered,
    /// There is no answer; `failure` says why.
    Failed,
    /// Cancelled on request before it was done.
    Cancelled,
    /// Its deadline passed first.
    Expired,
}

impl Status {
    /// Every status.
    pub const ALL: [Self; 5] = [
        Self::Succeeded,
        Self::Filtered,
        Self::Failed,
        Self::Cancelled,
        Self::Expired,
    ];

    /// The name on the wire, in counters and in labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Filtered => "filtered",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
        }
    }
}

/// Why generation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// An end token or a stop string.
    Stop,
    /// The ceiling of generated tokens.
    Length,
    /// The content filter.
    ContentFilter,
    /// The answer is a call of a function.
    ToolCalls,
}

/// Tokens read and written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Usage {
    /// Tokens of the prompt, image tokens included.
    pub prompt_tokens: u32,
    /// Soft tokens of images among them.
    pub image_tokens: u32,
    /// Prompt tokens whose keys and values were already there.
    pub cached_tokens: u32,
    /// Tokens generated.
    pub completion_tokens: u32,
}

/// Seconds spent in each stage of the last attempt.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Timings {
    /// From submission to the start of this attempt.
    pub queue: f64,
    /// Loading and decoding media.
    pub media: f64,
    /// Content filters, before and after.
    pub filter: f64,
    /// Reading the prompt.
    pub prefill: f64,
    /// From the start of the attempt to the first generated token.
    pub first_token: f64,
    /// From the first generated token to the last.
    pub decode: f64,
    /// From submission to the result.
    pub total: f64,
}

/// The exact model behind an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelUsed {
    /// The name it is served under.
    pub name: String,
    /// SHA-256 of the weights, hex.
    pub weights_sha256: String,
    /// How the weights are held: `f32`, `bf16`, `q8`, `q4`.
    pub quantization: String,
    /// Instruction tier of the kernels; the same text is promised within one tier.
    pub tier: String,
}

/// What a filter stage decided.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Verdict {
    /// `input_text`, `input_image` or `output_text`.
    pub stage: String,
    /// Name of the detector.
    pub detector: String,
    /// `allow`, `flag`, `redact` or `block`.
    pub action: String,
    /// Whether it was only recorded, and nothing followed from it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub shadow: bool,
    /// What the detector reported, in its own terms.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub detail: Value,
}

/// The one terminal result of a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JobResult {
    /// The job.
    pub job_id: JobId,
    /// Its batch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch_id: Option<BatchId>,
    /// Its position in the batch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub item: Option<u64>,
    /// The submitter's own name for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub custom_id: Option<String>,
    /// How it ended.
    pub status: Status,
    /// The answer, if it is text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The answer where it consists of calls; there is no `text` then.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall>,
    /// Why generation ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finish_reason: Option<FinishReason>,
    /// Tokens read and written.
    #[serde(default)]
    pub usage: Usage,
    /// Seconds spent.
    #[serde(default)]
    pub timings: Timings,
    /// Generated tokens a second of decoding; absent below two tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_per_second: Option<f64>,
    /// Every decision of the content filter.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub filter: Vec<Verdict>,
    /// Why there is no answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// Log-probabilities, when asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub logprobs: Vec<TokenLogprob>,
    /// Attempt that ended it, from 1; 0 when no worker began it.
    pub attempt: u32,
    /// Worker that ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<String>,
    /// The exact model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelUsed>,
    /// Seed of the draws.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// When it ended.
    pub finished_at: DateTime<Utc>,
}

/// One generated token with its log-probability and the likeliest alternatives.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenLogprob {
    /// Token id.
    pub id: u32,
    /// Natural logarithm of its probability.
    pub logprob: f32,
    /// Likeliest tokens, best first.
    pub top: Vec<(u32, f32)>,
}
