//! What a worker tells the others of itself.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A model as a worker serves it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelInfo {
    /// The name jobs ask for.
    pub name: String,
    /// SHA-256 of the weights, hex.
    pub weights_sha256: String,
    /// How the weights are held.
    pub quantization: String,
    /// SHA-256 of the chat template, hex; of the empty string for a base model without one.
    pub template_sha256: String,
    /// Whether it has a chat template.
    pub chat: bool,
    /// Longest prompt and answer together.
    pub context_tokens_max: u32,
    /// What parts it reads besides text: `image`, `audio`.
    pub modalities: Vec<String>,
    /// Instruction tier of its kernels.
    pub tier: String,
}

/// A live worker's announcement, renewed while it lives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WorkerInfo {
    /// Unique name of the process.
    pub id: String,
    /// What it serves.
    pub model: ModelInfo,
    /// Where its operations endpoint listens, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listen: Option<String>,
    /// Sequences it runs at once.
    pub slots: u32,
    /// When it started.
    pub started_at: DateTime<Utc>,
}
