//! Answers that consist of calls, in results.

use lapidary_schemas::Request;
use serde_json::json;

use super::*;
use crate::samples;

fn job(choice: &str) -> Job {
    let tool = json!({"type": "function", "function": {"name": "look"}});
    let request = json!({
        "messages": [{"role": "user", "content": "?"}], "tools": [tool], "tool_choice": choice
    });
    let request: Request = serde_json::from_value(request).unwrap();
    samples::job(request)
}

fn generated(text: &str, reason: lapidary_engine::FinishReason) -> lapidary_engine::Outcome {
    lapidary_engine::Outcome {
        text: text.to_owned(),
        tokens: Vec::new(),
        finish_reason: reason,
        usage: lapidary_engine::Usage::default(),
        timings: lapidary_engine::Timings::default(),
        logprobs: None,
    }
}

/// The result of a job whose model answered so.
fn answered(job: &Job, generated: lapidary_engine::Outcome) -> JobResult {
    let outcome = match calls(job, &generated) {
        Ok(calls) => Outcome::Answered(Box::new(Answer {
            generated: Some(generated),
            calls,
            ..Answer::default()
        })),
        Err(failure) => Outcome::Failed(failure),
    };
    let model = ModelInfo {
        name: "m".to_owned(),
        weights_sha256: String::new(),
        quantization: "q8".to_owned(),
        template_sha256: String::new(),
        chat: true,
        context_tokens_max: 10,
        modalities: Vec::new(),
        pan_and_scan: false,
        fetch: Vec::new(),
        tier: "t".to_owned(),
    };
    let made = Made {
        worker: "w",
        model: &model,
        attempt: 1,
        begun_at: DateTime::UNIX_EPOCH,
        now: DateTime::UNIX_EPOCH,
    };
    result(job, outcome, &made)
}

#[test]
fn an_answer_is_calls_or_text() {
    use lapidary_engine::FinishReason::{Length, Stop};
    let call = "{\"name\": \"look\"}";
    let result = answered(&job("auto"), generated(call, Stop));
    assert_eq!(result.finish_reason, Some(FinishReason::ToolCalls));
    assert_eq!((result.text, result.tool_calls.len()), (None, 1));
    assert_eq!(result.tool_calls[0].function.arguments, "{}");
    for (choice, text, reason, finish) in [
        ("auto", "I see.", Stop, FinishReason::Stop),
        // What was cut off might have gone on with another call.
        ("auto", call, Length, FinishReason::Length),
        ("none", call, Stop, FinishReason::Stop),
    ] {
        let result = answered(&job(choice), generated(text, reason));
        assert_eq!(result.finish_reason, Some(finish), "{text}");
        assert_eq!(
            (result.text.as_deref(), result.tool_calls.len()),
            (Some(text), 0)
        );
    }
}

#[test]
fn a_call_that_must_be_made_fails_where_it_is_not() {
    use lapidary_engine::FinishReason::{Length, Stop};
    let result = answered(&job("required"), generated("{\"name\": \"look\"}", Stop));
    assert_eq!(result.status, Status::Succeeded);
    for (reason, how) in [(Stop, "is text"), (Length, "was cut off")] {
        let result = answered(&job("required"), generated("No.", reason));
        let failure = result.failure.unwrap();
        assert!(!failure.retryable);
        assert_eq!(
            failure.to_string(),
            format!(
                "QUALITY_REJECTED: `tool_choice` asks for a call, the answer of 0 tokens {how}"
            )
        );
    }
}
