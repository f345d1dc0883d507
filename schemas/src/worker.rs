//! What a worker tells the others of itself.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::job::JobId;

/// The name of the model that every worker carries: it names pictograms, and knows nothing else.
pub const DEMONSTRATION: &str = "demonstration";

/// The name of a model that computes nothing and answers at once, with which every worker can measure
/// queue and results.
pub const INSTANT: &str = "instant";

/// The models that are part of the program, by their names.
pub const BUILT_IN: [&str; 2] = [DEMONSTRATION, INSTANT];

/// The target of a worker's log lines on the download of its model: who started the worker shows
/// them, and waits.
pub const DOWNLOAD_LOG: &str = "lapidary::download";

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
    /// Whether images far from square are also shown in crops, which changes what it answers.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pan_and_scan: bool,
    /// Hosts that it fetches images from, as [`crate::remote::parse_host`] writes them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fetch: Vec<String>,
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
    /// Jobs that it has under way, as of now; absent where it does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jobs: Option<Vec<JobId>>,
}

/// The name a model is served under when nobody says otherwise: that of its file or folder without
/// the way it is quantised, `gemma-3-270m` of `gemma-3-270m-q4_k_m.gguf`.
pub fn model_name(file_name: &str) -> &str {
    let name = file_name.strip_suffix(".gguf").unwrap_or(file_name);
    match name.rsplit_once(['-', '.']) {
        Some((model, last)) if !model.is_empty() && is_quantization(last) => model,
        _ => name,
    }
}

/// Whether this is how model files call a quantisation: `q8_0`, `Q4_K_M`, `iq2_xs`, `bf16` …
fn is_quantization(part: &str) -> bool {
    let part = part.to_ascii_lowercase();
    let quants = part.strip_prefix('i').unwrap_or(&part).strip_prefix('q');
    quants.is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
        || matches!(part.as_str(), "f32" | "fp32" | "f16" | "fp16" | "bf16")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_named_without_their_quantisation() {
        for (file, name) in [
            ("gemma-3-270m-q4_k_m.gguf", "gemma-3-270m"),
            ("gemma-3-4b-it.Q8_0.gguf", "gemma-3-4b-it"),
            ("gemma-3-1b-it-bf16", "gemma-3-1b-it"),
            ("gemma-3-1b-it", "gemma-3-1b-it"),
            ("gemma-3-1b-iq2_xs.gguf", "gemma-3-1b"),
            ("q4_0.gguf", "q4_0"),
            ("tiny-gemma", "tiny-gemma"),
        ] {
            assert_eq!(model_name(file), name);
        }
    }
}
