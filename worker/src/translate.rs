//! The words of the wire to the engine's, and back: the only file that sees both.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use lapidary_engine::image::Image;
use lapidary_engine::prompt::{PromptError, TemplateError};
use lapidary_engine::{Form, GenerateError, GenerateInput, Grammar, Prompt, Sampling, SubmitError};
use lapidary_schemas::request::{Content, ResponseFormat, Role};
use lapidary_schemas::result::{ModelUsed, Timings, TokenLogprob, Usage};
use lapidary_schemas::resume::seed_from;
use lapidary_schemas::tool::ToolCall;
use lapidary_schemas::{
    Class, Failure, FailureCode, FinishReason, Job, JobId, JobResult, Message, ModelInfo, Part,
    Status, ValidRequest, limits,
};

use crate::filter;
use crate::media::Medium;
use crate::outcome::{Answer, Outcome};
use crate::tools;

/// What is asked of the engine. `tokens_max`: see [`output_tokens`].
pub(crate) fn generate_input(
    job: &Job,
    request: &ValidRequest,
    (prompt, grammar): (Prompt, Option<Grammar>),
    tokens_max: usize,
    end_loops: bool,
) -> GenerateInput {
    let sampling = request.sampling();
    let penalty = sampling.repetition_penalty;
    GenerateInput {
        prompt,
        sampling: Sampling {
            temperature: sampling.temperature,
            top_k: sampling.top_k as usize,
            top_p: sampling.top_p,
            repetition_penalty: ((penalty - 1.0).abs() > f32::EPSILON).then_some(penalty),
            seed: seed(job, false),
        },
        max_tokens: tokens_max,
        stop: request.request().stop.clone(),
        end_loops,
        grammar,
        logprobs: request.request().logprobs.map(|count| count as usize),
        class: class(job),
    }
}

/// Who waits for a job.
pub(crate) fn class(job: &Job) -> lapidary_engine::Class {
    match job.class {
        Class::Interactive => lapidary_engine::Class::Interactive,
        Class::Bulk => lapidary_engine::Class::Bulk,
    }
}

/// The form that the answer must have, if any.
pub(crate) fn form(request: &ValidRequest) -> Option<Form> {
    match request.request().response_format.as_ref()? {
        ResponseFormat::Text => None,
        ResponseFormat::JsonObject => Some(Form::JsonObject),
        // Validation made sure that it has one.
        ResponseFormat::JsonSchema { json_schema } => {
            json_schema.get("schema").cloned().map(Form::JsonSchema)
        }
    }
}

/// The seed of a job's draws: its own, or made from its id; made from that for its second answer.
fn seed(job: &Job, second: bool) -> u64 {
    let own = job.request.seed;
    let first = own.unwrap_or_else(|| seed_from(&job.id.to_string()));
    if second {
        seed_from(&format!("{first} again"))
    } else {
        first
    }
}

/// The same request for a second answer, drawn so that it will be another one.
pub(crate) fn once_more(job: &Job, mut input: GenerateInput) -> GenerateInput {
    let sampling = &mut input.sampling;
    sampling.seed = seed(job, true);
    sampling.temperature = sampling.temperature.max(limits::TEMPERATURE_DEFAULT);
    let penalty = sampling.repetition_penalty.unwrap_or(1.0);
    sampling.repetition_penalty = Some(penalty.max(SECOND_PENALTY_MIN));
    input
}

/// Repetition penalty of a second answer, at least: loops are what is poor most often.
const SECOND_PENALTY_MIN: f32 = 1.15;

/// The conversation, each document's text and each image in the place of its part; documents are
/// marked as data where `fence` says so.
pub(crate) fn prompt(request: &ValidRequest, media: Vec<Medium>, fence: bool) -> Prompt {
    let mut media = media.into_iter().map(|medium| match medium {
        Medium::Document(text) if fence => Medium::Document(filter::fenced(&text)),
        medium => medium,
    });
    let mut messages = request
        .messages()
        .iter()
        .map(|message| message_of(message, &mut media))
        .collect();
    if let Some(offer) = tools::offer(request.request()) {
        instruct(&mut messages, &offer);
    }
    Prompt::Chat { messages }
}

/// Adds to the system's turn; makes one where there is none.
fn instruct(messages: &mut Vec<lapidary_engine::Message>, text: &str) {
    use lapidary_engine::{Message, Part, Role};
    match messages.first_mut() {
        Some(Message {
            role: Role::System,
            parts,
        }) => match parts.last_mut() {
            // Chat templates read one text of a system's turn.
            Some(Part::Text(own)) => *own = format!("{own}\n\n{text}"),
            _ => parts.push(Part::Text(text.to_owned())),
        },
        _ => messages.insert(0, Message::text(Role::System, text)),
    }
}

/// The calls that an answer consists of. An answer that was cut off is text.
pub(crate) fn calls(
    job: &Job,
    generated: &lapidary_engine::Outcome,
) -> Result<Vec<ToolCall>, Failure> {
    let whole = generated.finish_reason == lapidary_engine::FinishReason::Stop;
    let calls = if whole {
        tools::calls(job, &generated.text)
    } else {
        Vec::new()
    };
    if !calls.is_empty() || !job.request.call_required() {
        return Ok(calls);
    }
    let tokens = generated.usage.completion_tokens;
    let how = if whole { "is text" } else { "was cut off" };
    let failure = Failure::new(
        FailureCode::QualityRejected,
        format!("`tool_choice` asks for a call, the answer of {tokens} tokens {how}"),
    );
    // The same job gives the same answer.
    Err(Failure {
        retryable: false,
        ..failure
    })
}

fn message_of(
    message: &Message,
    media: &mut impl Iterator<Item = Medium>,
) -> lapidary_engine::Message {
    use lapidary_engine::Part as Said;
    let role = match message.role {
        Role::System => lapidary_engine::Role::System,
        Role::User => lapidary_engine::Role::User,
        Role::Assistant => lapidary_engine::Role::Assistant,
    };
    let parts = match &message.content {
        Content::Text(text) => return lapidary_engine::Message::text(role, text.clone()),
        Content::Parts(parts) => parts,
    };
    let mut said = Vec::new();
    for part in parts {
        let next = match part {
            Part::Text { text } => Some(Said::Text(text.clone())),
            Part::File { .. } | Part::ImageUrl { .. } => media.next().map(|medium| match medium {
                Medium::Document(text) => Said::Text(text),
                Medium::Image(image) => Said::Image(image),
            }),
            // Validation refuses what the model does not hear.
            Part::InputAudio { .. } => None,
        };
        match (next, said.last_mut()) {
            // One text, so that a template that trims each part leaves the seams alone.
            (Some(Said::Text(more)), Some(Said::Text(text))) => text.push_str(&more),
            (next, _) => said.extend(next),
        }
    }
    lapidary_engine::Message { role, parts: said }
}

/// The pictures of a prompt, in their order.
pub(crate) fn images(prompt: &Prompt) -> Vec<Arc<Image>> {
    let messages = match prompt {
        Prompt::Chat { messages } => messages.as_slice(),
        _ => &[],
    };
    let parts = messages.iter().flat_map(|message| &message.parts);
    parts
        .filter_map(lapidary_engine::Part::image)
        .cloned()
        .collect()
}

/// Takes the texts of a prompt out of it, for the filters; their places stay.
pub(crate) fn take_texts(prompt: &mut Prompt) -> Vec<String> {
    texts(prompt).map(std::mem::take).collect()
}

/// Puts texts in the places that they, or others, were taken from.
pub(crate) fn put_texts(prompt: &mut Prompt, checked: Vec<String>) {
    for (place, text) in texts(prompt).zip(checked) {
        *place = text;
    }
}

fn texts(prompt: &mut Prompt) -> impl Iterator<Item = &mut String> {
    let messages = match prompt {
        Prompt::Chat { messages } => messages.as_mut_slice(),
        _ => &mut [],
    };
    let parts = messages.iter_mut().flat_map(|message| &mut message.parts);
    parts.filter_map(|part| match part {
        lapidary_engine::Part::Text(text) => Some(text),
        lapidary_engine::Part::Image(_) => None,
    })
}

/// Tokens a job may generate: what it asks for; if it names no ceiling, no more than there is room.
pub(crate) fn output_tokens(
    request: &ValidRequest,
    prompt_tokens: usize,
    sequence_tokens_max: usize,
) -> usize {
    let asked = request.sampling().max_tokens as usize;
    match request.request().max_tokens {
        Some(_) => asked,
        None => asked
            .min(sequence_tokens_max.saturating_sub(prompt_tokens))
            .max(1),
    }
}

/// Why the engine did not take a request, in the user's words.
pub(crate) fn refused(error: &SubmitError, model: &str) -> Failure {
    match error {
        SubmitError::PromptTooLong {
            tokens,
            output_tokens,
            limit,
        } => Failure::new(
            FailureCode::PromptTooLong,
            format!(
                "prompt is {tokens} tokens and asks for {output_tokens} more, the limit for \
                 `{model}` is {limit} together"
            ),
        ),
        SubmitError::Prompt(error) => unprompted(error),
        SubmitError::Form(_) => Failure::new(FailureCode::ValidationError, error.to_string()),
        SubmitError::Invalid { message } => Failure::new(FailureCode::ValidationError, message),
        SubmitError::Full { .. } => Failure::new(FailureCode::RateLimitExceeded, error.to_string()),
        SubmitError::Stopped => Failure::new(FailureCode::ModelUnavailable, error.to_string()),
    }
}

/// Why no prompt could be made.
fn unprompted(error: &PromptError) -> Failure {
    match error {
        PromptError::Template(TemplateError::Refused { .. })
        | PromptError::NoGuard
        | PromptError::NoImages { .. }
        | PromptError::Unplaced { .. }
        | PromptError::UnknownToken { .. } => {
            Failure::new(FailureCode::ValidationError, error.to_string())
        }
        PromptError::Template(_) | PromptError::Tokenizer(_) | PromptError::ViewSize { .. } => {
            let failure = Failure::new(FailureCode::GenerationError, error.to_string());
            Failure {
                retryable: false,
                ..failure
            }
        }
    }
}

/// Why the engine gave no answer.
pub(crate) fn ungenerated(error: &GenerateError) -> Failure {
    let code = match error {
        GenerateError::Step { .. }
        | GenerateError::NotFinite { .. }
        | GenerateError::Form { .. } => FailureCode::GenerationError,
        GenerateError::Cancelled | GenerateError::Stopped => FailureCode::ModelUnavailable,
    };
    let retryable = error.retryable() || matches!(error, GenerateError::Cancelled);
    Failure {
        code,
        message: error.to_string(),
        retryable,
    }
}

/// What a result says of where and when it was made.
#[derive(Debug, Clone)]
pub(crate) struct Made<'a> {
    /// Name of this worker.
    pub(crate) worker: &'a str,
    /// The model.
    pub(crate) model: &'a ModelInfo,
    /// Which attempt.
    pub(crate) attempt: u32,
    /// When the attempt began.
    pub(crate) begun_at: DateTime<Utc>,
    /// Now.
    pub(crate) now: DateTime<Utc>,
}

/// The result of a job that ended.
pub(crate) fn result(job: &Job, outcome: Outcome, made: &Made<'_>) -> JobResult {
    let (status, answer, failure) = match outcome {
        Outcome::Answered(answer) => (Status::Succeeded, *answer, None),
        Outcome::Filtered(refused) => {
            let (failure, mut answer) = *refused;
            // What a filter refused is not handed out.
            if let Some(generated) = &mut answer.generated {
                generated.text.clear();
            }
            (Status::Filtered, answer, Some(failure))
        }
        Outcome::Poor(refused) => {
            let (failure, answer) = *refused;
            (Status::Failed, answer, Some(failure))
        }
        Outcome::Failed(failure) => (Status::Failed, Answer::default(), Some(failure)),
        Outcome::Cancelled | Outcome::Interrupted | Outcome::Lost => {
            let failure = Failure::new(FailureCode::Cancelled, "cancelled on request");
            (Status::Cancelled, Answer::default(), Some(failure))
        }
        Outcome::Expired => (Status::Expired, Answer::default(), Some(expired(job))),
    };
    let succeeded = status == Status::Succeeded;
    let generated = answer.generated.as_ref();
    JobResult {
        job_id: job.id,
        batch_id: job.batch_id,
        item: job.item,
        custom_id: job.custom_id.clone(),
        status,
        text: generated
            .filter(|_| succeeded && answer.calls.is_empty())
            .map(|generated| generated.text.clone()),
        finish_reason: generated.map(|generated| match generated.finish_reason {
            _ if status == Status::Filtered => FinishReason::ContentFilter,
            _ if !answer.calls.is_empty() => FinishReason::ToolCalls,
            lapidary_engine::FinishReason::Length | lapidary_engine::FinishReason::Loop => {
                FinishReason::Length
            }
            lapidary_engine::FinishReason::Stop | lapidary_engine::FinishReason::Cancelled => {
                FinishReason::Stop
            }
        }),
        usage: generated.map(usage).unwrap_or_default(),
        timings: timings(job, &answer, made),
        tool_calls: answer.calls,
        tokens_per_second: generated.and_then(tokens_per_second),
        logprobs: generated
            .filter(|_| succeeded)
            .map(logprobs)
            .unwrap_or_default(),
        filter: answer.verdicts,
        failure,
        attempt: made.attempt,
        worker: Some(made.worker.to_owned()),
        model: Some(model_used(made.model)),
        seed: (succeeded && generated.is_some()).then(|| seed(job, answer.second)),
        finished_at: made.now,
    }
}

fn expired(job: &Job) -> Failure {
    let deadline = job
        .deadline
        .map(|deadline| deadline.to_rfc3339())
        .unwrap_or_default();
    Failure::new(
        FailureCode::DeadlineExceeded,
        format!("its deadline was {deadline}"),
    )
}

fn model_used(model: &ModelInfo) -> ModelUsed {
    ModelUsed {
        name: model.name.clone(),
        weights_sha256: model.weights_sha256.clone(),
        quantization: model.quantization.clone(),
        tier: model.tier.clone(),
    }
}

fn usage(generated: &lapidary_engine::Outcome) -> Usage {
    let count = |tokens: usize| u32::try_from(tokens).unwrap_or(u32::MAX);
    Usage {
        prompt_tokens: count(generated.usage.prompt_tokens),
        image_tokens: count(generated.usage.image_tokens),
        cached_tokens: count(generated.usage.cached_tokens),
        completion_tokens: count(generated.usage.completion_tokens),
    }
}

fn timings(job: &Job, answer: &Answer, made: &Made<'_>) -> Timings {
    let since = |from: DateTime<Utc>, to: DateTime<Utc>| {
        (to - from).to_std().unwrap_or(Duration::ZERO).as_secs_f64()
    };
    let engine = answer
        .generated
        .as_ref()
        .map(|generated| generated.timings)
        .unwrap_or_default();
    let first_token = match &answer.generated {
        Some(_) => (answer.prepared + engine.first_token).as_secs_f64(),
        None => 0.0,
    };
    Timings {
        queue: since(job.created_at, made.begun_at),
        media: answer.media.as_secs_f64(),
        filter: answer.filter.as_secs_f64(),
        prefill: engine.prefill.as_secs_f64(),
        first_token,
        decode: engine.decode.as_secs_f64(),
        total: since(job.created_at, made.now),
    }
}

/// Tokens after the first, by the time they took.
fn tokens_per_second(generated: &lapidary_engine::Outcome) -> Option<f64> {
    let after_first = u32::try_from(generated.usage.completion_tokens)
        .ok()?
        .checked_sub(1)?;
    let seconds = generated.timings.decode.as_secs_f64();
    (after_first > 0 && seconds > 0.0).then(|| f64::from(after_first) / seconds)
}

fn logprobs(generated: &lapidary_engine::Outcome) -> Vec<TokenLogprob> {
    let tokens = generated.logprobs.iter().flatten();
    tokens
        .map(|token| TokenLogprob {
            id: token.token,
            logprob: token.logprob,
            top: token.top.clone(),
        })
        .collect()
}

/// The result of a message that is no job.
pub(crate) fn unreadable(
    job_id: JobId,
    failure: Failure,
    worker: &str,
    now: DateTime<Utc>,
) -> JobResult {
    JobResult {
        job_id,
        batch_id: None,
        item: None,
        custom_id: None,
        status: Status::Failed,
        text: None,
        tool_calls: Vec::new(),
        finish_reason: None,
        usage: Usage::default(),
        timings: Timings::default(),
        tokens_per_second: None,
        filter: Vec::new(),
        failure: Some(failure),
        logprobs: Vec::new(),
        attempt: 0,
        worker: Some(worker.to_owned()),
        model: None,
        seed: None,
        finished_at: now,
    }
}

#[cfg(test)]
mod tests;
