//! A chat completion told as it comes, in the shape of `OpenAI`'s chunks.

use lapidary_schemas::batch_line::OutputLine;
use lapidary_schemas::{JobId, JobResult, Status};
use lapidary_transport::results::JobState;
use serde_json::{Value, json};

use super::error::ApiError;

/// How far an answer was told.
#[derive(Debug)]
pub(super) struct Telling {
    job: JobId,
    model: String,
    include_usage: bool,
    /// Bytes of the text that were told.
    told: usize,
    has_begun: bool,
}

impl Telling {
    /// Nothing was told so far.
    pub(super) fn new(job: JobId, model: String, include_usage: bool) -> Self {
        Self {
            job,
            model,
            include_usage,
            told: 0,
            has_begun: false,
        }
    }

    /// What a state brings that was not told yet; the end of the answer ends with `None`.
    pub(super) fn news(&mut self, state: &JobState) -> Vec<Option<Value>> {
        match state {
            JobState::Waiting { .. } => Vec::new(),
            // An attempt that starts over gives the same text again.
            JobState::Running { partial, .. } => self.text(partial),
            JobState::Finished(result) => self.end(result),
        }
    }

    fn end(&mut self, result: &JobResult) -> Vec<Option<Value>> {
        let line = OutputLine::from(result);
        let Some(response) = line.response.filter(|_| result.status == Status::Succeeded) else {
            return vec![Some(json!(failure(result).body())), None];
        };
        let mut news = self.text(result.text.as_deref().unwrap_or_default());
        let calls = result.tool_calls.iter().enumerate();
        let calls: Vec<Value> = calls
            .map(|(index, call)| {
                let mut call = json!(call);
                call["index"] = json!(index);
                call
            })
            .collect();
        if !calls.is_empty() {
            news.push(Some(
                self.chunk(&json!({"tool_calls": calls}), &Value::Null),
            ));
        }
        let [choice] = response.body.choices.as_slice() else {
            return news;
        };
        news.push(Some(self.chunk(&json!({}), &json!(choice.finish_reason))));
        if self.include_usage {
            let mut last = self.head();
            last["choices"] = json!([]);
            last["usage"] = json!(response.body.usage);
            news.push(Some(last));
        }
        news.push(None);
        news
    }

    /// The part of a text that was not told yet.
    fn text(&mut self, text: &str) -> Vec<Option<Value>> {
        let mut news = Vec::new();
        if !self.has_begun {
            self.has_begun = true;
            let first = json!({"role": "assistant", "content": ""});
            news.push(Some(self.chunk(&first, &Value::Null)));
        }
        if let Some(more) = text.get(self.told..).filter(|more| !more.is_empty()) {
            self.told = text.len();
            news.push(Some(self.chunk(&json!({"content": more}), &Value::Null)));
        }
        news
    }

    fn head(&self) -> Value {
        json!({
            "id": format!("chatcmpl-{}", self.job),
            "object": "chat.completion.chunk",
            "created": self.job.0.get_timestamp().map_or(0, |at| at.to_unix().0),
            "model": self.model,
        })
    }

    fn chunk(&self, delta: &Value, finish_reason: &Value) -> Value {
        let mut chunk = self.head();
        chunk["choices"] = json!([{"index": 0, "delta": delta, "finish_reason": finish_reason}]);
        chunk
    }
}

/// Why a job has no answer.
pub(super) fn failure(result: &JobResult) -> ApiError {
    let failure = result.failure.clone().unwrap_or_else(|| {
        let message = format!("the job ended as {}", result.status.as_str());
        lapidary_schemas::Failure::new(lapidary_schemas::FailureCode::Internal, message)
    });
    failure.into()
}

#[cfg(test)]
mod tests {
    use chrono::Utc;
    use lapidary_schemas::canonical::sorted;
    use lapidary_schemas::result::{Timings, Usage};
    use lapidary_schemas::tool::{FunctionCall, ToolCall, ToolKind};
    use lapidary_schemas::{Failure, FailureCode, FinishReason};

    use super::*;

    fn finished(text: Option<&str>) -> JobResult {
        JobResult {
            job_id: JobId::new(Utc::now()),
            batch_id: None,
            item: None,
            custom_id: None,
            status: Status::Succeeded,
            text: text.map(str::to_owned),
            tool_calls: Vec::new(),
            finish_reason: Some(FinishReason::Stop),
            usage: Usage::default(),
            timings: Timings::default(),
            tokens_per_second: None,
            filter: Vec::new(),
            failure: None,
            logprobs: Vec::new(),
            attempt: 1,
            worker: None,
            model: None,
            seed: None,
            finished_at: Utc::now(),
        }
    }

    fn running(partial: &str) -> JobState {
        JobState::Running {
            worker: "w".to_owned(),
            attempt: 1,
            partial: partial.to_owned(),
        }
    }

    fn telling(include_usage: bool) -> Telling {
        Telling::new(JobId::new(Utc::now()), "m".to_owned(), include_usage)
    }

    /// The deltas of chunks, in short.
    fn deltas(news: &[Option<Value>]) -> Vec<String> {
        let short = |chunk: &Option<Value>| match chunk {
            None => "end".to_owned(),
            Some(chunk) => sorted(chunk["choices"][0]["delta"].clone()).to_string(),
        };
        news.iter().map(short).collect()
    }

    #[test]
    fn a_text_is_told_once_also_when_an_attempt_starts_over() {
        let mut telling = telling(false);
        assert!(telling.news(&JobState::Waiting { attempts: 0 }).is_empty());
        let first = r#"{"content":"","role":"assistant"}"#;
        assert_eq!(
            deltas(&telling.news(&running("Grüße"))),
            [first, r#"{"content":"Grüße"}"#]
        );
        assert!(telling.news(&running("")).is_empty());
        assert!(telling.news(&running("Gr")).is_empty());
        let last = telling.news(&JobState::Finished(Box::new(finished(Some("Grüße, du")))));
        assert_eq!(deltas(&last), [r#"{"content":", du"}"#, "{}", "end"]);
        let reason = &last[1].as_ref().unwrap()["choices"][0]["finish_reason"];
        assert_eq!(reason, "stop");
    }

    #[test]
    fn an_answer_that_comes_at_once_has_a_beginning_and_its_usage() {
        let mut telling = telling(true);
        let news = telling.news(&JobState::Finished(Box::new(finished(Some("a")))));
        assert_eq!(news.len(), 5);
        let last = news[3].as_ref().unwrap();
        assert_eq!(last["choices"], json!([]));
        assert_eq!(last["usage"]["total_tokens"], 0);
    }

    #[test]
    fn calls_are_told_whole() {
        let function = FunctionCall {
            name: "f".to_owned(),
            arguments: "{}".to_owned(),
        };
        let call = ToolCall {
            id: "call_1".to_owned(),
            kind: ToolKind::Function,
            function,
        };
        let result = JobResult {
            tool_calls: vec![call],
            finish_reason: Some(FinishReason::ToolCalls),
            ..finished(None)
        };
        let news = telling(false).news(&JobState::Finished(Box::new(result)));
        let calls = &news[1].as_ref().unwrap()["choices"][0]["delta"]["tool_calls"];
        assert_eq!(calls[0]["index"], 0);
        assert_eq!(calls[0]["function"]["name"], "f");
        assert_eq!(news.len(), 4);
    }

    #[test]
    fn a_failure_is_told_as_an_error() {
        let result = JobResult {
            status: Status::Failed,
            failure: Some(Failure::new(FailureCode::PromptTooLong, "too long")),
            ..finished(None)
        };
        let news = telling(true).news(&JobState::Finished(Box::new(result)));
        let [Some(error), None] = news.as_slice() else {
            panic!("{news:?}")
        };
        assert_eq!(error["error"]["code"], "PROMPT_TOO_LONG");
        assert_eq!(error["error"]["type"], "invalid_request_error");
    }
}
