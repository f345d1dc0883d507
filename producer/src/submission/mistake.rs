//! What is wrong with a file of requests, by line, under the codes that `OpenAI`'s batches have.

use lapidary_schemas::Failure;
use lapidary_schemas::batch_line::{BATCH_URL, InputLine};
use schemars::JsonSchema;
use serde::Serialize;
use serde::de::IgnoredAny;

use super::LINE_BYTES_MAX;

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct Mistake {
    /// Its kind.
    pub(crate) code: &'static str,
    /// The line, from 1; none if it is the file's.
    pub(crate) line: Option<u64>,
    /// What is wrong; begins with the line's number, if it has one.
    pub(crate) message: String,
    /// The parameter of the call that it concerns: none of a file's does.
    pub(crate) param: Option<String>,
}

/// The code of a line that names another model.
pub(crate) const MODEL_MISMATCH: &str = "model_mismatch";
const INVALID_JSON: &str = "invalid_json_line";
const INVALID_REQUEST: &str = "invalid_request";

impl Mistake {
    fn at(line: u64, code: &'static str, message: &str) -> Self {
        Self {
            code,
            line: Some(line),
            message: format!("line {line}: {message}"),
            param: None,
        }
    }

    /// The request breaks a rule.
    pub(super) fn invalid(line: u64, message: &str) -> Self {
        Self::at(line, INVALID_REQUEST, message)
    }

    pub(super) fn too_long(line: u64) -> Self {
        let message = format!("it is longer than the limit of {LINE_BYTES_MAX} bytes");
        Self::at(line, "line_too_long", &message)
    }

    pub(super) fn too_many(line: u64, items_max: u64) -> Self {
        let message = format!("the limit of {items_max} requests is exceeded");
        Self::at(line, "too_many_tasks", &message)
    }

    pub(super) fn not_utf8(line: u64, error: &std::str::Utf8Error) -> Self {
        Self::at(line, INVALID_JSON, &format!("it is not UTF-8: {error}"))
    }

    pub(super) fn duplicate(line: u64, custom_id: &str) -> Self {
        let message = format!("`custom_id` `{custom_id}` was used before");
        Self::at(line, "duplicate_custom_id", &message)
    }

    pub(super) fn other_model(line: u64, model: &str, before: &str) -> Self {
        let message =
            format!("`model` is `{model}`, lines before name `{before}`; a batch has one model");
        Self::at(line, MODEL_MISMATCH, &message)
    }

    /// Why this line could not be read, which the message names already.
    pub(super) fn of(text: &str, failure: Failure) -> Self {
        let is_json = serde_json::from_str::<IgnoredAny>(text).is_ok();
        let code = match serde_json::from_str::<InputLine>(text) {
            _ if !is_json => INVALID_JSON,
            Ok(line) if line.url != BATCH_URL => "url_mismatch",
            _ => INVALID_REQUEST,
        };
        let number = failure.message.strip_prefix("line ");
        let number = number.and_then(|rest| rest.split_once(':')?.0.parse().ok());
        Self {
            code,
            line: number,
            message: failure.message,
            param: None,
        }
    }

    pub(super) fn empty() -> Self {
        Self {
            code: "empty_file",
            line: None,
            message: "there are no requests in it".to_owned(),
            param: None,
        }
    }

    /// The batch itself breaks a rule.
    pub(super) fn of_batch(message: String) -> Self {
        Self {
            code: INVALID_REQUEST,
            line: None,
            message,
            param: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use lapidary_schemas::batch_line::read_batch_line;

    use super::*;

    #[test]
    fn lines_that_cannot_be_read_have_the_code_of_their_reason() {
        for (text, code) in [
            ("no json", INVALID_JSON),
            (r#"{"custom_id": "a""#, INVALID_JSON),
            ("[[[[", INVALID_JSON),
            ("[[[[]]]]", INVALID_REQUEST),
            (r#"{"custom_id": "a"}"#, INVALID_REQUEST),
            (
                r#"{"custom_id": "a", "method": "POST", "url": "/v1/embeddings", "body": {}}"#,
                "url_mismatch",
            ),
            (
                r#"{"custom_id": "a", "method": "GET", "url": "/v1/chat/completions", "body": {}}"#,
                INVALID_REQUEST,
            ),
        ] {
            let mistake = Mistake::of(text, read_batch_line(7, text).unwrap_err());
            assert_eq!((mistake.code, mistake.line), (code, Some(7)), "{text}");
            assert!(mistake.message.starts_with("line 7: "), "{mistake:?}");
        }
    }
}
