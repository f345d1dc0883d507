//! Examines a place: whether queue, results and media are what they must be, and what to do where they
//! are not. It changes nothing but for a probe of its own that it removes again.

mod broker;
mod file;
mod machine;
mod media;
mod redis;

use serde::Serialize;

use crate::PlaceUrls;
use crate::open::{file_path, scheme_of, without_credentials};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// As it must be.
    Good,
    /// It cannot be told from here.
    Unknown,
    /// It works, and may not for long.
    Warning,
    /// It does not work, or may lose jobs or results.
    Bad,
}

/// What one look showed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub check: &'static str,
    /// How bad it is.
    pub verdict: Verdict,
    /// What it is.
    pub message: String,
    /// What to do, where there is something to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

impl Finding {
    /// All is as it must be.
    pub fn good(check: &'static str, message: impl Into<String>) -> Self {
        Self {
            check,
            verdict: Verdict::Good,
            message: message.into(),
            advice: None,
        }
    }

    /// It works, and may not for long.
    pub fn warning(
        check: &'static str,
        message: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self::new(Verdict::Warning, check, message, advice)
    }

    /// It cannot be told from here.
    pub fn unknown(
        check: &'static str,
        message: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self::new(Verdict::Unknown, check, message, advice)
    }

    /// Something is wrong, so badly.
    pub fn new(
        verdict: Verdict,
        check: &'static str,
        message: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self {
            check,
            verdict,
            message: message.into(),
            advice: Some(advice.into()),
        }
    }
}

/// Looks at everything of a place, and at this machine.
pub async fn examine(urls: &PlaceUrls) -> Vec<Finding> {
    let mut findings = machine::examine();
    let results = urls.results.as_ref().unwrap_or(&urls.broker);
    match (file_path(&urls.broker), scheme_of(&urls.broker)) {
        (Some(path), _) => findings.extend(file::examine(&path).await),
        (None, "amqp" | "amqps") => findings.extend(broker::examine(&urls.broker).await),
        _ => findings.push(unknown_scheme("broker", &urls.broker)),
    }
    match (file_path(results), scheme_of(results)) {
        (Some(_), _) if *results == urls.broker => {}
        (Some(path), _) => findings.extend(file::examine(&path).await),
        (None, "redis" | "rediss") => findings.extend(redis::examine(results).await),
        _ => findings.push(unknown_scheme("results", results)),
    }
    findings.extend(media::examine(urls.media.as_ref().unwrap_or(&urls.broker)).await);
    findings
}

fn unknown_scheme(check: &'static str, url: &str) -> Finding {
    let url = without_credentials(url);
    let advice = "use `amqp:`, `redis:` or `file:`";
    Finding::new(
        Verdict::Bad,
        check,
        format!("`{url}` is no address that is known"),
        advice,
    )
}
