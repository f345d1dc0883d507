//! Results in the shape of the output files of OpenAI's batches.

use lapidary_schemas::{FailureCode, FinishReason, JobResult, Status};
use serde_json::{Value, json};

/// One line of such a file: a response where there is an answer, an error where there is none.
pub(super) fn line(result: &JobResult) -> Value {
    let id = format!("batch_req_{}", result.job_id);
    if result.status != Status::Succeeded {
        let code = result
            .failure
            .as_ref()
            .map_or(FailureCode::Internal, |failure| failure.code);
        let message = result
            .failure
            .as_ref()
            .map_or("", |failure| failure.message.as_str());
        return json!({
            "id": id,
            "custom_id": result.custom_id,
            "response": null,
            "error": { "code": code.as_str().to_ascii_lowercase(), "message": message },
        });
    }
    let finish_reason = match result.finish_reason {
        Some(FinishReason::Length) => "length",
        Some(FinishReason::ContentFilter) => "content_filter",
        Some(FinishReason::ToolCalls) => "tool_calls",
        Some(FinishReason::Stop) | None => "stop",
    };
    let usage = result.usage;
    json!({
        "id": id,
        "custom_id": result.custom_id,
        "response": {
            "status_code": 200,
            "request_id": result.job_id,
            "body": {
                "id": format!("chatcmpl-{}", result.job_id),
                "object": "chat.completion",
                "created": result.finished_at.timestamp(),
                "model": result.model.as_ref().map(|model| model.name.as_str()),
                "choices": [{
                    "index": 0,
                    "message": { "role": "assistant", "content": result.text },
                    "finish_reason": finish_reason,
                    "logprobs": null,
                }],
                "usage": {
                    "prompt_tokens": usage.prompt_tokens,
                    "completion_tokens": usage.completion_tokens,
                    "total_tokens": u64::from(usage.prompt_tokens) + u64::from(usage.completion_tokens),
                    "prompt_tokens_details": { "cached_tokens": usage.cached_tokens },
                },
            },
        },
        "error": null,
    })
}
