//! Output: one JSON line a document, put in the documents' order at the end, and other formats made
//! of the lines.

mod atomic;
mod compact;
mod export;
mod file;
mod settings;
mod sort;

use lapidary_schemas::result::Usage;
use lapidary_schemas::{Failure, FinishReason, Status};
use serde::{Deserialize, Serialize};

pub use export::{Format, LeftOut};
pub use file::{Output, OutputError, Target};
pub use settings::Settings;

/// Where a document stands among all: the number of the file that it is or is in, and its own number
/// inside.
pub type Place = [u64; 2];

/// One document's outcome.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// The document's path as it was found.
    pub name: String,
    /// Its caption; absent if it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// How it ended.
    pub status: Status,
    /// Name of the document of the same content whose caption this one shares; absent if it was
    /// asked about itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub same_as: Option<String>,
    /// Why generation ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finish_reason: Option<FinishReason>,
    /// Parts it was captioned in; 1 if it fitted.
    pub parts: u32,
    /// Whether only its beginning was captioned.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
    /// Tokens read and written for it, all parts together.
    pub usage: Usage,
    /// Seed of the draws.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Why there is no caption.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// Key of the work, by which another start knows it as done; absent if it was never asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

impl Row {
    /// The row of a document that failed before it was asked about.
    pub fn refused(name: String, failure: Failure) -> Self {
        Self {
            name,
            text: None,
            status: Status::Failed,
            same_as: None,
            finish_reason: None,
            parts: 0,
            truncated: false,
            usage: Usage::default(),
            seed: None,
            failure: Some(failure),
            key: None,
        }
    }

    /// The row of another document of the same content: its outcome, at no cost.
    #[must_use]
    pub fn shared_with(&self, name: String) -> Self {
        let failure = self.failure.clone().map(|failure| Failure {
            message: format!("{name} is the same as {}: {}", self.name, failure.message),
            ..failure
        });
        Self {
            name,
            same_as: Some(self.name.clone()),
            usage: Usage::default(),
            failure,
            ..self.clone()
        }
    }

    /// Whether there is nothing left to do for it. A failed one is tried again.
    pub fn is_done(&self) -> bool {
        matches!(self.status, Status::Succeeded | Status::Filtered)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lapidary_schemas::FailureCode;

    #[test]
    fn a_refused_row_on_the_wire() {
        let row = Row::refused(
            "a.txt".into(),
            Failure::new(FailureCode::MediaInvalid, "a.txt is empty"),
        );
        assert_eq!(
            serde_json::to_string(&row).unwrap(),
            r#"{"name":"a.txt","status":"failed","parts":0,"usage":{"prompt_tokens":0,"image_tokens":0,"cached_tokens":0,"completion_tokens":0},"failure":{"code":"MEDIA_INVALID","message":"a.txt is empty","retryable":false}}"#
        );
        assert!(!row.is_done());
    }
}
