//! Policies: which detectors look at what, and what follows from what they find. A TOML file, or one
//! of those that are part of the program.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use super::Stage;
use super::detector::{Detector, Kind};
use super::keywords::KeywordError;

/// Bytes of a policy file.
const POLICY_BYTES_MAX: u64 = 4 << 20;
/// Detectors of a policy.
const DETECTORS_MAX: usize = 32;
/// Bytes of a policy's or a detector's name.
const NAME_BYTES_MAX: usize = 64;
/// How sure a find must be to count, where the policy does not say.
const THRESHOLD: f32 = 0.5;
/// How long a detector may take for the texts of a job, by default, at least, and at most.
const TIME_LIMIT: Duration = Duration::from_secs(10);
const TIME_LIMIT_MIN: Duration = Duration::from_millis(1);
const TIME_LIMIT_MAX: Duration = Duration::from_mins(5);

/// Policies that are part of the program.
const BUILT_IN: [(&str, &str); 3] = [
    ("none", include_str!("policies/none.toml")),
    ("default", include_str!("policies/default.toml")),
    ("strict", include_str!("policies/strict.toml")),
];

/// A policy, ready to be applied.
#[derive(Debug, Default)]
pub(super) struct Policy {
    pub(super) name: String,
    /// The beginning of the SHA-256 of its file, hex: which version of it.
    pub(super) version: String,
    /// Whether documents are marked as data in the prompt.
    pub(super) fence_documents: bool,
    pub(super) detectors: Vec<Arc<Detector>>,
}

/// What is done about what a detector finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Action {
    /// Nothing; the verdict tells of it.
    Allow,
    /// The verdict says that it is flagged.
    Flag,
    /// It is replaced.
    Redact,
    /// The job ends.
    Block,
    /// The answer is made once more, drawn otherwise; if that is no better, the job ends.
    Retry,
}

impl Action {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Flag => "flag",
            Self::Redact => "redact",
            Self::Block => "block",
            Self::Retry => "retry",
        }
    }
}

/// What follows if a detector cannot say anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum OnError {
    /// The job goes on.
    Open,
    /// The job does not; it is tried again later.
    #[default]
    Closed,
}

/// Why a policy cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// There is no such file, or it cannot be read.
    #[error(
        "policy `{}` is neither `none`, `default` nor `strict`, and cannot be read as a file: {source}",
        path.display()
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It is too large.
    #[error("policy `{}` is over the limit of {POLICY_BYTES_MAX} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// It breaks a rule.
    #[error("policy `{policy}`: {message}")]
    Invalid {
        /// The policy.
        policy: String,
        /// Which key, its value and its limit.
        message: String,
    },
}

/// A policy as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    name: String,
    #[serde(default)]
    fence_documents: bool,
    #[serde(default)]
    detector: Vec<WrittenDetector>,
}

/// A detector as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenDetector {
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) stages: Vec<Stage>,
    pub(super) action: Action,
    #[serde(default = "threshold")]
    pub(super) threshold: f32,
    #[serde(default)]
    pub(super) on_error: OnError,
    #[serde(default)]
    pub(super) shadow: bool,
    #[serde(default = "time_limit", deserialize_with = "duration")]
    pub(super) time_limit: Duration,
    /// Rules of the kind that count; all of them where it is absent.
    pub(super) rules: Option<Vec<String>>,
    /// Of a detector of keywords, and of no other.
    pub(super) keywords: Option<Vec<String>>,
}

fn threshold() -> f32 {
    THRESHOLD
}

fn time_limit() -> Duration {
    TIME_LIMIT
}

fn duration<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let written = String::deserialize(deserializer)?;
    humantime::parse_duration(&written)
        .map_err(|error| serde::de::Error::custom(format!("`{written}` is no duration: {error}")))
}

impl Policy {
    /// The policy of this name, or in this file.
    pub(super) fn open(name: &str) -> Result<Self, PolicyError> {
        if let Some((_, text)) = BUILT_IN.iter().find(|(known, _)| *known == name) {
            return Self::parse(name, text);
        }
        let path = Path::new(name);
        let unreadable = |source| PolicyError::Unreadable {
            path: path.to_owned(),
            source,
        };
        let size = std::fs::metadata(path).map_err(unreadable)?.len();
        if size > POLICY_BYTES_MAX {
            let path = path.to_owned();
            return Err(PolicyError::TooLarge { path });
        }
        let text = std::fs::read_to_string(path).map_err(unreadable)?;
        Self::parse(name, &text)
    }

    /// Reads and checks a policy; `file` is what errors call it.
    pub(super) fn parse(file: &str, text: &str) -> Result<Self, PolicyError> {
        let invalid = |message: String| PolicyError::Invalid {
            policy: file.to_owned(),
            message,
        };
        let parsed = toml::Deserializer::parse(text);
        let parsed = parsed.map_err(|error| invalid(unparsed(text, &error)))?;
        let written: Written = serde_path_to_error::deserialize(parsed).map_err(|error| {
            let key = error.path().to_string();
            invalid(match key.as_str() {
                "." => error.inner().message().to_owned(),
                key => format!("`{key}`: {}", error.inner().message()),
            })
        })?;
        check_name("name", &written.name).map_err(invalid)?;
        if written.detector.len() > DETECTORS_MAX {
            let count = written.detector.len();
            return Err(invalid(format!(
                "it has {count} detectors, the limit is {DETECTORS_MAX}"
            )));
        }
        let mut names = HashSet::new();
        let mut detectors = Vec::new();
        for (n, detector) in written.detector.into_iter().enumerate() {
            if !names.insert(detector.name.clone()) {
                let name = &detector.name;
                return Err(invalid(format!(
                    "`detector[{n}].name`: `{name}` is there twice"
                )));
            }
            let made = detector.check().and_then(|()| Detector::new(detector));
            let made = made.map_err(|message| invalid(format!("`detector[{n}].{message}")))?;
            detectors.push(Arc::new(made));
        }
        Ok(Self {
            name: written.name,
            version: super::hash([text]),
            fence_documents: written.fence_documents,
            detectors,
        })
    }
}

impl WrittenDetector {
    /// Checks what no type does. Messages begin with the key, its closing quote included.
    fn check(&self) -> Result<(), String> {
        check_name("", &self.name).map_err(|message| format!("name`{message}"))?;
        if self.stages.is_empty() {
            return Err("stages` is empty: it would look at nothing".to_owned());
        }
        if !(self.threshold > 0.0 && self.threshold <= 1.0) {
            return Err(format!(
                "threshold` is {}, it must be above 0 and at most 1",
                self.threshold
            ));
        }
        if !(TIME_LIMIT_MIN..=TIME_LIMIT_MAX).contains(&self.time_limit) {
            return Err(format!(
                "time_limit` is {}, it must be {} to {}",
                humantime::format_duration(self.time_limit),
                humantime::format_duration(TIME_LIMIT_MIN),
                humantime::format_duration(TIME_LIMIT_MAX),
            ));
        }
        if self.kind == Kind::Quality && self.stages != [Stage::OutputText] {
            return Err("stages` of the kind `quality` is [\"output_text\"]".to_owned());
        }
        self.check_pictures()?;
        if self.kind.judges() && self.action == Action::Redact {
            return Err("action` is redact: what a model judges is not replaced".to_owned());
        }
        if (self.kind == Kind::Quality && self.action == Action::Redact)
            || (self.kind != Kind::Quality && self.action == Action::Retry)
        {
            let action = self.action.as_str();
            return Err(format!(
                "action` is {action}: poor answers are not redacted, and nothing else is tried again"
            ));
        }
        let known = self.kind.rules();
        for rule in self.rules.iter().flatten() {
            if !known.contains(&rule.as_str()) {
                return Err(format!("rules`: `{rule}` is none of {}", known.join(", ")));
            }
        }
        match (self.kind, &self.keywords) {
            (Kind::Keywords, None) => Err("keywords` is missing".to_owned()),
            (Kind::Keywords, Some(list)) if list.is_empty() => {
                Err("keywords` is empty: it would find nothing".to_owned())
            }
            (Kind::Keywords, Some(_)) | (_, None) => Ok(()),
            (_, Some(_)) => Err("keywords` belongs to detectors of the kind `keywords`".to_owned()),
        }
    }
}

impl WrittenDetector {
    /// One kind looks at pictures, and at nothing else.
    fn check_pictures(&self) -> Result<(), String> {
        if self.kind == Kind::JudgeImage {
            return match self.stages.as_slice() {
                [Stage::InputImage] => Ok(()),
                _ => Err("stages` of the kind `judge_image` is [\"input_image\"]".to_owned()),
            };
        }
        if self.stages.contains(&Stage::InputImage) {
            return Err("stages` has `input_image`, where `judge_image` looks alone".to_owned());
        }
        Ok(())
    }
}

impl From<KeywordError> for String {
    fn from(error: KeywordError) -> Self {
        format!("keywords`: {error}")
    }
}

/// Checks a name, which is a label of metrics too.
fn check_name(key: &str, name: &str) -> Result<(), String> {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(known) {
        return Ok(());
    }
    let key = if key.is_empty() {
        String::new()
    } else {
        format!("`{key}`")
    };
    Err(format!(
        "{key} is `{name}`, it must be 1 to {NAME_BYTES_MAX} of the letters a to z, digits, - and _"
    ))
}

/// What is wrong with a text that is no TOML, and in which line.
fn unparsed(text: &str, error: &toml::de::Error) -> String {
    let before = error.span().and_then(|span| text.get(..span.start));
    let line = before.map_or(1, |before| before.matches('\n').count() + 1);
    format!("line {line}: {}", error.message())
}

#[cfg(test)]
mod tests;
