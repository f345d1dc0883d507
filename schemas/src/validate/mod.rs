//! The only validation: everything a request, a job or a batch must keep before it travels, with
//! one message that names the thing, its value and its limit.
//!
//! A submitter validates before anything is durable, a worker validates again what it received;
//! both call this, so neither can be stricter than the other. [`ValidRequest`] is the proof, and
//! can be made by [`validate`] only.

mod envelope;
#[cfg(test)]
mod envelope_tests;
mod format;
mod media;
mod messages;
#[cfg(test)]
mod tests;
mod tools;

use crate::failure::{Failure, FailureCode};
use crate::job::Work;
use crate::limits;
use crate::request::{Message, Request, ResponseFormat};
use crate::resume::seed_from;
use crate::worker::ModelInfo;

pub use envelope::{check_name, validate_batch, validate_custom_id, validate_item, validate_job};
pub use messages::validate_text;

/// What a request may ask for beyond plain text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Feature {
    /// `tools`: functions the model may call.
    Tools,
    /// `response_format` of type `json_object`.
    JsonObject,
    /// `response_format` of type `json_schema`.
    JsonSchema,
    /// `logprobs`: alternatives a token.
    Logprobs,
}

/// What is served, and up to which size: by a model, to a tenant, by this build.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// Name of the model, for messages.
    pub model: String,
    /// Characters of text a message may have.
    pub message_chars_max: usize,
    /// Images a message may have.
    pub images_per_message_max: usize,
    /// Generated tokens a request may ask for.
    pub output_tokens_max: u32,
    /// What parts the model reads besides text: `image`, `audio`.
    pub modalities: Vec<String>,
    /// Hosts that images may be at, see [`crate::remote`].
    pub fetch: Vec<String>,
    /// What is served beyond plain text.
    pub features: Vec<Feature>,
    /// Kinds of work that are served.
    pub work: Vec<Work>,
}

impl Policy {
    /// Plain chat with the model `model` under the default limits.
    pub fn text(model: impl Into<String>) -> Self {
        Self {
            model: model.into(),
            message_chars_max: limits::MESSAGE_CHARS_MAX,
            images_per_message_max: limits::IMAGES_PER_MESSAGE_MAX,
            output_tokens_max: limits::OUTPUT_TOKENS_MAX,
            modalities: Vec::new(),
            fetch: Vec::new(),
            features: Vec::new(),
            work: vec![Work::Chat],
        }
    }

    /// The widest policy of a model: text up to what its context could hold at all (the count of
    /// tokens decides then), answers up to its context. What a worker checks a job against, since
    /// the tenant's own policy was checked at submission.
    pub fn of_model(model: &ModelInfo) -> Self {
        let mut features = vec![Feature::JsonObject, Feature::JsonSchema];
        // Functions are told and called in words, which takes a model that follows instructions.
        features.extend(model.chat.then_some(Feature::Tools));
        Self {
            features,
            work: vec![Work::Chat, Work::Moderation],
            message_chars_max: limits::MEDIA_BYTES_MAX,
            output_tokens_max: model.context_tokens_max,
            modalities: model.modalities.clone(),
            fetch: model.fetch.clone(),
            ..Self::text(&model.name)
        }
    }

    /// Whether it serves a feature.
    pub fn serves(&self, feature: Feature) -> bool {
        self.features.contains(&feature)
    }
}

/// How tokens are drawn, every default resolved.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// Ceiling of generated tokens, at least 1.
    pub max_tokens: u32,
    /// 0: the most likely token, always.
    pub temperature: f32,
    /// Share of probability kept, in (0, 1]; 1 keeps all. 1 at temperature 0.
    pub top_p: f32,
    /// Likeliest tokens kept; 0 keeps all. 0 at temperature 0.
    pub top_k: u32,
    /// 1 changes nothing. At temperature 0 it is 1 unless the request names another, so that the
    /// answer is the argmax of the raw logits.
    pub repetition_penalty: f32,
}

/// A request that keeps every rule. Only [`validate`] makes one.
#[derive(Debug, Clone, PartialEq)]
pub struct ValidRequest {
    request: Request,
    sampling: Sampling,
}

impl ValidRequest {
    /// The request as it was given.
    pub fn request(&self) -> &Request {
        &self.request
    }

    /// The conversation, oldest first.
    pub fn messages(&self) -> &[Message] {
        &self.request.messages
    }

    /// How tokens are drawn.
    pub fn sampling(&self) -> Sampling {
        self.sampling
    }

    /// The seed of the draws: the request's own, or a hash of `name`, which is the job's id (or a
    /// resume key, where the same work must give the same text in another job).
    pub fn seed(&self, name: &str) -> u64 {
        self.request.seed.unwrap_or_else(|| seed_from(name))
    }
}

/// Reads a request. The message of the failure names the field, the unknown one above all.
pub fn parse_request(json: &[u8]) -> Result<Request, Failure> {
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let request = read(&mut deserializer, "request")?;
    deserializer
        .end()
        .map_err(|error| invalid(format!("request is no single JSON value: {error}")))?;
    Ok(request)
}

/// Deserializes `what`, with the path of the field in the message.
pub(crate) fn read<'de, T, D>(deserializer: D, what: &str) -> Result<T, Failure>
where
    T: serde::Deserialize<'de>,
    D: serde::Deserializer<'de>,
    D::Error: std::fmt::Display,
{
    serde_path_to_error::deserialize(deserializer).map_err(|error| {
        let path = error.path().to_string();
        let inner = error.inner();
        if path == "." || path == "?" {
            invalid(format!("{what}: {inner}"))
        } else {
            invalid(format!("{what} field `{path}`: {inner}"))
        }
    })
}

/// Checks a request against a policy and resolves its defaults.
pub fn validate(request: &Request, policy: &Policy) -> Result<ValidRequest, Failure> {
    messages::check(&request.messages, policy)?;
    check_stop(&request.stop)?;
    check_features(request, policy)?;
    format::check(request)?;
    tools::check(request)?;
    let sampling = resolve_sampling(request, policy)?;
    Ok(ValidRequest {
        request: request.clone(),
        sampling,
    })
}

fn check_stop(stop: &[String]) -> Result<(), Failure> {
    if stop.len() > limits::STOP_STRINGS_MAX {
        return Err(invalid(format!(
            "request has {} stop strings, the limit is {}",
            stop.len(),
            limits::STOP_STRINGS_MAX
        )));
    }
    for (index, text) in stop.iter().enumerate() {
        if text.is_empty() {
            return Err(invalid(format!("stop string {index} is empty")));
        }
        if text.len() > limits::STOP_STRING_BYTES_MAX {
            return Err(invalid(format!(
                "stop string {index} is {} bytes, the limit is {}",
                text.len(),
                limits::STOP_STRING_BYTES_MAX
            )));
        }
    }
    Ok(())
}

fn check_features(request: &Request, policy: &Policy) -> Result<(), Failure> {
    let asked = [
        (!request.tools.is_empty(), Feature::Tools, "`tools`"),
        (
            matches!(request.response_format, Some(ResponseFormat::JsonObject)),
            Feature::JsonObject,
            "`response_format` `json_object`",
        ),
        (
            matches!(
                request.response_format,
                Some(ResponseFormat::JsonSchema { .. })
            ),
            Feature::JsonSchema,
            "`response_format` `json_schema`",
        ),
        (request.logprobs.is_some(), Feature::Logprobs, "`logprobs`"),
    ];
    for (asked, feature, name) in asked {
        if asked && !policy.serves(feature) {
            return Err(invalid(format!(
                "{name} is not served by `{}`",
                policy.model
            )));
        }
    }
    match request.logprobs {
        Some(count) if count > limits::LOGPROBS_MAX => Err(invalid(format!(
            "`logprobs` is {count}, the limit is {}",
            limits::LOGPROBS_MAX
        ))),
        _ => Ok(()),
    }
}

fn resolve_sampling(request: &Request, policy: &Policy) -> Result<Sampling, Failure> {
    let max_tokens = request
        .max_tokens
        .unwrap_or_else(|| limits::OUTPUT_TOKENS_DEFAULT.min(policy.output_tokens_max));
    if max_tokens == 0 || max_tokens > policy.output_tokens_max {
        return Err(invalid(format!(
            "`max_tokens` is {max_tokens}, the limit for `{}` is 1 to {}",
            policy.model, policy.output_tokens_max
        )));
    }
    let temperature = request.temperature.unwrap_or(limits::TEMPERATURE_DEFAULT);
    check_range("temperature", temperature, 0.0, limits::TEMPERATURE_MAX)?;
    let top_p = request.top_p.unwrap_or(limits::TOP_P_DEFAULT);
    check_range("top_p", top_p, 0.0, 1.0)?;
    if top_p == 0.0 {
        return Err(invalid("`top_p` is 0, it must be above 0".to_owned()));
    }
    let penalty = request
        .repetition_penalty
        .unwrap_or(limits::REPETITION_PENALTY_DEFAULT);
    check_range(
        "repetition_penalty",
        penalty,
        limits::REPETITION_PENALTY_MIN,
        limits::REPETITION_PENALTY_MAX,
    )?;
    let top_k = request.top_k.unwrap_or(limits::TOP_K_DEFAULT);
    let sampled = Sampling {
        max_tokens,
        temperature,
        top_p,
        top_k,
        repetition_penalty: penalty,
    };
    if temperature > 0.0 {
        return Ok(sampled);
    }
    let repetition_penalty = request.repetition_penalty.unwrap_or(1.0);
    Ok(Sampling {
        temperature: 0.0,
        top_p: 1.0,
        top_k: 0,
        repetition_penalty,
        ..sampled
    })
}

/// Refuses what lies outside `min..=max`, and what is no number.
fn check_range(field: &str, value: f32, min: f32, max: f32) -> Result<(), Failure> {
    if (min..=max).contains(&value) {
        return Ok(());
    }
    Err(invalid(format!(
        "`{field}` is {value}, the limit is {min} to {max}"
    )))
}

/// A validation failure.
pub(crate) fn invalid(message: String) -> Failure {
    Failure::new(FailureCode::ValidationError, message)
}
