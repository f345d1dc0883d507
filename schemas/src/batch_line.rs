//! Lines of `OpenAI`'s batch files: requests in, answers out.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::chat_body::read_chat_body;
use crate::failure::{Failure, FailureCode};
use crate::request::{Request, Role};
use crate::result::{FinishReason, JobResult, Status};
use crate::tool::ToolCall;
use crate::validate::{invalid, read, validate_custom_id};

/// The one address a line may name.
pub const BATCH_URL: &str = "/v1/chat/completions";

/// A line of a batch's input file, as it is written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InputLine {
    /// The submitter's own name; unique in the file, which whoever reads the file checks.
    pub custom_id: String,
    /// `POST`.
    pub method: String,
    /// [`BATCH_URL`].
    pub url: String,
    /// What a client would send there: see [`crate::chat_body`].
    pub body: Value,
}

/// What a line of a batch's input file asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct BatchLine {
    /// The submitter's own name.
    pub custom_id: String,
    /// Name of the model that shall serve it.
    pub model: String,
    /// What is asked; not validated yet.
    pub request: Request,
}

/// Reads line `number` (from 1) of an input file; the message of a failure begins with it.
pub fn read_batch_line(number: u64, line: &str) -> Result<BatchLine, Failure> {
    parse_line(line).map_err(|failure| Failure {
        message: format!("line {number}: {}", failure.message),
        ..failure
    })
}

fn parse_line(line: &str) -> Result<BatchLine, Failure> {
    let mut deserializer = serde_json::Deserializer::from_str(line);
    let read: InputLine = read(&mut deserializer, "batch line")?;
    deserializer
        .end()
        .map_err(|error| invalid(format!("more than one JSON value: {error}")))?;
    validate_custom_id(&read.custom_id)?;
    if read.method != "POST" {
        return Err(invalid(format!(
            "`method` is `{}`, it must be `POST`",
            read.method
        )));
    }
    if read.url != BATCH_URL {
        return Err(invalid(format!(
            "`url` is `{}`, it must be `{BATCH_URL}`",
            read.url
        )));
    }
    let (model, request) = read_chat_body(read.body)?;
    Ok(BatchLine {
        custom_id: read.custom_id,
        model,
        request,
    })
}

/// A line of a batch's output file. Either `response` or `error` is there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OutputLine {
    /// Name of the line.
    pub id: String,
    /// The submitter's own name of the item; the job's id if it had none.
    pub custom_id: String,
    /// The answer.
    pub response: Option<OutputResponse>,
    /// Why there is none.
    pub error: Option<OutputError>,
}

/// An answer as a client would have received it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OutputResponse {
    /// HTTP status: 200.
    pub status_code: u16,
    /// The job's id.
    pub request_id: String,
    /// The answer itself.
    pub body: ChatCompletion,
}

/// Why an item has no answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OutputError {
    /// The failure's code.
    pub code: FailureCode,
    /// The failure's message.
    pub message: String,
}

/// `OpenAI`'s `chat.completion` object.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChatCompletion {
    /// Name of the completion.
    pub id: String,
    /// `chat.completion`.
    pub object: String,
    /// Unix seconds of its end.
    pub created: i64,
    /// Name of the model that served it.
    pub model: String,
    /// The one answer.
    pub choices: Vec<Choice>,
    /// Tokens read and written.
    pub usage: CompletionUsage,
}

/// One answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Choice {
    /// 0.
    pub index: u32,
    /// What the model said.
    pub message: AnswerMessage,
    /// Why it ended.
    pub finish_reason: FinishReason,
}

/// What the model said.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AnswerMessage {
    /// `assistant`.
    pub role: Role,
    /// The text; `null` where the answer consists of calls.
    pub content: Option<String>,
    /// The calls.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall>,
}

/// Tokens read and written, in `OpenAI`'s terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CompletionUsage {
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// Tokens generated.
    pub completion_tokens: u32,
    /// Both together.
    pub total_tokens: u64,
    /// What is known of the prompt's tokens.
    pub prompt_tokens_details: PromptTokensDetails,
}

/// What is known of the prompt's tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PromptTokensDetails {
    /// Those whose keys and values were already there.
    pub cached_tokens: u32,
}

impl From<&JobResult> for OutputLine {
    /// A succeeded job becomes a response; any other an error with its failure's code and message.
    fn from(result: &JobResult) -> Self {
        let id = result.job_id.to_string();
        let succeeded = result.status == Status::Succeeded;
        Self {
            id: format!("batch_req_{id}"),
            custom_id: result.custom_id.clone().unwrap_or_else(|| id.clone()),
            response: succeeded.then(|| OutputResponse {
                status_code: 200,
                request_id: id,
                body: completion(result),
            }),
            error: (!succeeded).then(|| output_error(result)),
        }
    }
}

fn completion(result: &JobResult) -> ChatCompletion {
    let usage = result.usage;
    ChatCompletion {
        id: format!("chatcmpl-{}", result.job_id),
        object: "chat.completion".to_owned(),
        created: result.finished_at.timestamp(),
        model: result
            .model
            .as_ref()
            .map(|model| model.name.clone())
            .unwrap_or_default(),
        choices: vec![Choice {
            index: 0,
            message: AnswerMessage {
                role: Role::Assistant,
                content: result.text.clone(),
                tool_calls: result.tool_calls.clone(),
            },
            finish_reason: result.finish_reason.unwrap_or(FinishReason::Stop),
        }],
        usage: CompletionUsage {
            prompt_tokens: usage.prompt_tokens,
            completion_tokens: usage.completion_tokens,
            total_tokens: u64::from(usage.prompt_tokens) + u64::from(usage.completion_tokens),
            prompt_tokens_details: PromptTokensDetails {
                cached_tokens: usage.cached_tokens,
            },
        },
    }
}

/// The failure, or what the status alone says where a store kept none.
fn output_error(result: &JobResult) -> OutputError {
    if let Some(failure) = &result.failure {
        return OutputError {
            code: failure.code,
            message: failure.message.clone(),
        };
    }
    let code = match result.status {
        Status::Filtered => FailureCode::ContentFiltered,
        Status::Cancelled => FailureCode::Cancelled,
        Status::Expired => FailureCode::DeadlineExceeded,
        Status::Succeeded | Status::Failed => FailureCode::Internal,
    };
    OutputError {
        code,
        message: format!("job ended as {}", result.status.as_str()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read() {
        let line = r#"{"custom_id":"a","method":"POST","url":"/v1/chat/completions",
            "body":{"model":"gemma","messages":[{"role":"user","content":"hi"}]}}"#;
        let read = read_batch_line(1, line).unwrap();
        assert_eq!(
            (read.custom_id.as_str(), read.model.as_str()),
            ("a", "gemma")
        );
        assert_eq!(read.request.messages, [crate::Message::user("hi")]);
    }

    #[test]
    fn a_bad_line_is_named_by_its_number() {
        let line = |custom_id: &str, method: &str, url: &str, body: &str| {
            format!(
                r#"{{"custom_id":"{custom_id}","method":"{method}","url":"{url}","body":{body}}}"#
            )
        };
        let good = r#"{"model":"gemma","messages":[]}"#;
        for (line, message) in [
            (
                "{\"custom_id\":".to_owned(),
                "batch line field `custom_id`: EOF while parsing a value at line 1 column 13",
            ),
            (line("", "POST", BATCH_URL, good), "`custom_id` is empty"),
            (
                line("a", "GET", BATCH_URL, good),
                "`method` is `GET`, it must be `POST`",
            ),
            (
                line("a", "POST", "/v1/embeddings", good),
                "`url` is `/v1/embeddings`, it must be `/v1/chat/completions`",
            ),
            (line("a", "POST", BATCH_URL, "{}"), "`body` has no `model`"),
            (
                line(
                    "a",
                    "POST",
                    BATCH_URL,
                    r#"{"model":"gemma","messages":[],"best_of":1}"#,
                ),
                "`body` field `best_of`: unknown field `best_of`, expected one of `messages`, \
                 `max_tokens`, `temperature`, `top_p`, `top_k`, `repetition_penalty`, `seed`, \
                 `stop`, `response_format`, `logprobs`, `tools`, `tool_choice`",
            ),
            (
                r#"{"custom_id":"a","metod":"POST"}"#.to_owned(),
                "batch line field `metod`: unknown field `metod`, expected one of `custom_id`, \
                 `method`, `url`, `body` at line 1 column 24",
            ),
        ] {
            let failure = read_batch_line(42, &line).unwrap_err();
            assert_eq!(failure.message, format!("line 42: {message}"));
        }
    }
}
