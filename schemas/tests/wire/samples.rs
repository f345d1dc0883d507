//! One value of every wire type, of every shape that matters. The test compares them with the
//! golden files; the example `generate` writes them.

use chrono::{DateTime, Utc};
use lapidary_schemas::batch::{ManifestItem, Shard};
use lapidary_schemas::batch_line::{InputLine, OutputLine};
use lapidary_schemas::job::ENVELOPE_VERSION;
use lapidary_schemas::request::{
    Content, FileRef, ImageUrl, InputAudio, Part, ResponseFormat, Role,
};
use lapidary_schemas::result::{ModelUsed, Timings, TokenLogprob, Usage, Verdict};
use lapidary_schemas::tool::{
    Function, FunctionCall, FunctionName, NamedTool, Tool, ToolCall, ToolChoice, ToolKind,
};
use lapidary_schemas::{
    Batch, BatchId, BatchState, Class, Failure, FailureCode, FinishReason, Job, JobId, JobResult,
    MediaRef, Message, ModelInfo, Progress, Request, Status, Work, WorkerInfo,
};
use serde_json::json;

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap_or_default()
}

fn job_id(last: u8) -> JobId {
    JobId(
        format!("01a3185c-5000-7000-8000-0000000000{last:02x}")
            .parse()
            .unwrap_or_default(),
    )
}

fn batch_id() -> BatchId {
    BatchId(
        "01a3185c-4c18-7000-8000-000000000001"
            .parse()
            .unwrap_or_default(),
    )
}

fn media(digit: char, bytes: u64) -> MediaRef {
    MediaRef {
        sha256: digit.to_string().repeat(64),
        bytes,
    }
}

/// A request of text alone.
pub(crate) fn request() -> Request {
    Request {
        messages: vec![Message::user("Describe a lapidary.")],
        ..Request::default()
    }
}

/// A request that uses every field and every kind of part.
pub(crate) fn request_full() -> Request {
    Request {
        messages: vec![
            Message {
                role: Role::System,
                content: Content::Text("Be brief.".to_owned()),
            },
            Message {
                role: Role::User,
                content: Content::Parts(vec![
                    Part::Text {
                        text: "What is here?".to_owned(),
                    },
                    Part::ImageUrl {
                        image_url: ImageUrl {
                            url: media('a', 70_000).to_string(),
                        },
                    },
                    Part::InputAudio {
                        input_audio: InputAudio {
                            data: "UklGRg==".to_owned(),
                            format: "wav".to_owned(),
                        },
                    },
                    Part::File {
                        file: FileRef {
                            filename: Some("report.txt".to_owned()),
                            file_data: media('b', 1_000_000).to_string(),
                        },
                    },
                ]),
            },
        ],
        max_tokens: Some(64),
        temperature: Some(0.5),
        top_p: Some(0.75),
        top_k: Some(40),
        repetition_penalty: Some(1.25),
        seed: Some(7),
        stop: vec!["\n\n".to_owned()],
        response_format: Some(ResponseFormat::JsonSchema {
            json_schema: json!({"name": "caption", "schema": {"type": "object"}}),
        }),
        logprobs: Some(2),
        tools: vec![Tool {
            kind: ToolKind::Function,
            function: Function {
                name: "look".to_owned(),
                description: Some("Looks closer.".to_owned()),
                parameters: Some(json!({
                    "properties": {"at": {"type": "string"}},
                    "type": "object"
                })),
            },
        }],
        tool_choice: Some(ToolChoice::Named(NamedTool {
            kind: ToolKind::Function,
            function: FunctionName {
                name: "look".to_owned(),
            },
        })),
    }
}

/// An interactive job with nothing optional.
pub(crate) fn job_interactive() -> Job {
    Job {
        version: ENVELOPE_VERSION,
        id: job_id(1),
        replaces: None,
        batch_id: None,
        item: None,
        custom_id: None,
        tenant: "acme".to_owned(),
        model: "gemma-3-270m".to_owned(),
        class: Class::Interactive,
        work: Work::Chat,
        attempts_max: 3,
        created_at: at(0),
        deadline: None,
        traceparent: None,
        request: request(),
    }
}

/// An item of a batch, repeating an earlier job, with everything optional.
pub(crate) fn job_bulk() -> Job {
    Job {
        id: job_id(2),
        replaces: Some(job_id(1)),
        batch_id: Some(batch_id()),
        item: Some(41),
        custom_id: Some("docs/report.txt".to_owned()),
        class: Class::Bulk,
        work: Work::Score,
        deadline: Some(at(3_600)),
        traceparent: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned()),
        request: request_full(),
        ..job_interactive()
    }
}

/// A job that only the filter judges.
pub(crate) fn job_moderation() -> Job {
    Job {
        id: job_id(3),
        work: Work::Moderation,
        ..job_interactive()
    }
}

/// An answer.
pub(crate) fn result_succeeded() -> JobResult {
    JobResult {
        job_id: job_id(2),
        batch_id: Some(batch_id()),
        item: Some(41),
        custom_id: Some("docs/report.txt".to_owned()),
        status: Status::Succeeded,
        text: Some("One who cuts gems.".to_owned()),
        tool_calls: Vec::new(),
        finish_reason: Some(FinishReason::Stop),
        usage: Usage {
            prompt_tokens: 300,
            image_tokens: 256,
            cached_tokens: 16,
            completion_tokens: 6,
        },
        timings: Timings {
            queue: 1.5,
            media: 0.25,
            filter: 0.125,
            prefill: 0.5,
            first_token: 0.875,
            decode: 0.25,
            total: 2.75,
        },
        tokens_per_second: Some(20.0),
        filter: vec![Verdict {
            stage: "output_text".to_owned(),
            detector: "secrets".to_owned(),
            action: "redact".to_owned(),
            shadow: true,
            // In the order of the alphabet, which every kind of map keeps.
            detail: json!({
                "categories": {"jwt": true},
                "category_scores": {"jwt": 1.0},
                "flagged": true,
                "found": 1,
                "policy": "strict",
                "policy_version": "0123456789abcdef",
                "spans": [{"category": "jwt", "end": 3, "start": 0, "text": 0}],
                "threshold": 0.5,
            }),
        }],
        failure: None,
        logprobs: vec![TokenLogprob {
            id: 4_521,
            logprob: -0.25,
            top: vec![(4_521, -0.25)],
        }],
        attempt: 2,
        worker: Some("worker-1".to_owned()),
        model: Some(ModelUsed {
            name: "gemma-3-270m".to_owned(),
            weights_sha256: "c".repeat(64),
            quantization: "q8".to_owned(),
            tier: "avx2".to_owned(),
        }),
        seed: Some(7),
        finished_at: at(3),
    }
}

/// An answer that consists of a call.
pub(crate) fn result_tool_calls() -> JobResult {
    JobResult {
        text: None,
        tool_calls: vec![ToolCall {
            id: format!("call_{}_0", job_id(2)),
            kind: ToolKind::Function,
            function: FunctionCall {
                name: "look".to_owned(),
                arguments: json!({"at": "the lapidary"}).to_string(),
            },
        }],
        finish_reason: Some(FinishReason::ToolCalls),
        filter: Vec::new(),
        logprobs: Vec::new(),
        ..result_succeeded()
    }
}

/// A job that ended without an answer.
pub(crate) fn result_without(status: Status, code: FailureCode, message: &str) -> JobResult {
    JobResult {
        job_id: job_id(1),
        batch_id: None,
        item: None,
        custom_id: None,
        status,
        text: None,
        tool_calls: Vec::new(),
        finish_reason: None,
        usage: Usage::default(),
        timings: Timings::default(),
        tokens_per_second: None,
        filter: Vec::new(),
        failure: Some(Failure::new(code, message)),
        logprobs: Vec::new(),
        attempt: 0,
        worker: None,
        model: None,
        seed: None,
        finished_at: at(3),
    }
}

/// A batch.
pub(crate) fn batch() -> Batch {
    Batch {
        id: batch_id(),
        tenant: "acme".to_owned(),
        model: "gemma-3-270m".to_owned(),
        class: Class::Bulk,
        attempts_max: 3,
        created_at: at(-1),
        deadline: Some(at(86_400)),
        retention_s: 2_592_000,
        metadata: [("run".to_owned(), "7".to_owned())].into(),
        traceparent: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned()),
    }
}

/// A shard of its manifest.
pub(crate) fn shard() -> Shard {
    Shard {
        index: 0,
        items: 10_000,
        lines: media('d', 2_500_000),
    }
}

/// An item of its manifest.
pub(crate) fn manifest_item() -> ManifestItem {
    ManifestItem {
        id: job_id(2),
        custom_id: "docs/report.txt".to_owned(),
        work: Work::Chat,
        request: request(),
    }
}

/// How far it is.
pub(crate) fn progress() -> Progress {
    Progress {
        state: BatchState::Completed,
        paused: false,
        total: 100,
        fed: 100,
        succeeded: 90,
        filtered: 4,
        failed: 3,
        cancelled: 2,
        expired: 1,
        prompt_tokens: 6_000,
        completion_tokens: 800,
        finished_at: Some(at(60)),
    }
}

/// A model.
pub(crate) fn model_info() -> ModelInfo {
    ModelInfo {
        name: "gemma-3-270m".to_owned(),
        weights_sha256: "c".repeat(64),
        quantization: "q8".to_owned(),
        template_sha256: "e".repeat(64),
        chat: true,
        context_tokens_max: 32_768,
        modalities: vec!["image".to_owned()],
        pan_and_scan: true,
        fetch: vec!["images.example".to_owned()],
        tier: "avx2".to_owned(),
    }
}

/// A worker that serves it.
pub(crate) fn worker_info() -> WorkerInfo {
    WorkerInfo {
        id: "worker-1".to_owned(),
        model: model_info(),
        listen: Some("127.0.0.1:9400".to_owned()),
        slots: 32,
        started_at: at(-60),
        jobs: Some(vec![job_id(1)]),
    }
}

/// A line of an input file.
pub(crate) fn batch_input_line() -> InputLine {
    InputLine {
        custom_id: "docs/report.txt".to_owned(),
        method: "POST".to_owned(),
        url: "/v1/chat/completions".to_owned(),
        body: json!({
            "max_completion_tokens": 64,
            "messages": [{"content": "Describe a lapidary.", "role": "user"}],
            "model": "gemma-3-270m"
        }),
    }
}

/// Lines of an output file: an answer, a failure and a call.
pub(crate) fn batch_output_lines() -> [OutputLine; 3] {
    let failed = result_without(
        Status::Failed,
        FailureCode::PromptTooLong,
        "prompt is 40000 tokens, the limit for `gemma-3-270m` is 32768",
    );
    [
        OutputLine::from(&result_succeeded()),
        OutputLine::from(&failed),
        OutputLine::from(&result_tool_calls()),
    ]
}

/// Calls `$each!(stem, value)` for every golden file.
macro_rules! for_each_sample {
    ($each:ident) => {
        $each!("batch", batch());
        $each!("batch_input_line", batch_input_line());
        $each!("batch_output_line_error", batch_output_lines()[1].clone());
        $each!(
            "batch_output_line_response",
            batch_output_lines()[0].clone()
        );
        $each!(
            "batch_output_line_tool_calls",
            batch_output_lines()[2].clone()
        );
        $each!(
            "failure",
            Failure::new(FailureCode::MediaUnreachable, "no answer within 10 s")
        );
        $each!("job_bulk", job_bulk());
        $each!("job_interactive", job_interactive());
        $each!("job_moderation", job_moderation());
        $each!("manifest_item", manifest_item());
        $each!("model_info", model_info());
        $each!("progress", progress());
        $each!("request", request());
        $each!("request_full", request_full());
        $each!("result_succeeded", result_succeeded());
        $each!("result_tool_calls", result_tool_calls());
        $each!(
            "result_filtered",
            result_without(
                Status::Filtered,
                FailureCode::ContentFiltered,
                "request was refused"
            )
        );
        $each!(
            "result_failed",
            result_without(
                Status::Failed,
                FailureCode::WorkerLost,
                "workers died on it 3 times"
            )
        );
        $each!(
            "result_cancelled",
            result_without(
                Status::Cancelled,
                FailureCode::Cancelled,
                "cancelled on request"
            )
        );
        $each!(
            "result_expired",
            result_without(
                Status::Expired,
                FailureCode::DeadlineExceeded,
                "deadline has passed"
            )
        );
        $each!("shard", shard());
        $each!("worker_info", worker_info());
    };
}
