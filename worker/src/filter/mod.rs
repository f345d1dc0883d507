//! Content filters: what a job passes before the engine sees it, and its answer before anybody does.
//!
//! A policy (`policy`) lists detectors and what follows from what each finds. Detectors look at
//! the texts as they came, each at all of them; what they find is in places of these texts, so that
//! nobody is ever given a text that was normalised to be looked at. Every verdict is part of the
//! result. The first refusal ends the job.

mod detector;
mod fence;
mod find;
mod fold;
mod injection;
mod keywords;
mod markup;
mod personal;
mod policy;
mod quality;
mod secrets;
#[cfg(test)]
mod tests;

use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use lapidary_schemas::result::Verdict;
use lapidary_schemas::{Failure, FailureCode};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::compute::Compute;

use self::detector::{Detector, Kind};
use self::find::{Finding, redact};
use self::policy::{Action, OnError, Policy};

pub(crate) use self::fence::fenced;
pub use self::policy::PolicyError;

/// Texts that are looked at where they are: a detector takes less for so few bytes than another
/// thread takes to wake.
const HERE_BYTES_MAX: usize = 1024;
/// Places that a verdict names.
const SPANS_MAX: usize = 32;

/// Where on a job's way a filter stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum Stage {
    /// The request's texts, documents included.
    InputText,
    /// The answer.
    OutputText,
}

impl Stage {
    /// The name in verdicts and labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InputText => "input_text",
            Self::OutputText => "output_text",
        }
    }

    /// The code of a refusal here, and what is refused.
    fn refusal(self) -> (FailureCode, &'static str) {
        match self {
            Self::InputText => (FailureCode::ContentFiltered, "request"),
            Self::OutputText => (FailureCode::ResponseFiltered, "answer"),
        }
    }
}

/// What a stage decided.
#[derive(Debug, Default)]
pub struct Decision {
    /// Whether the job may go on.
    pub ruling: Ruling,
    /// The texts as the job goes on with them; none if it does not.
    pub texts: Vec<String>,
    /// Whether something in them was replaced.
    pub redacted: bool,
    /// Every detector's verdict, up to the one that ended it.
    pub verdicts: Vec<Verdict>,
    /// How long every detector took that looked.
    pub looks: Vec<(String, Duration)>,
    /// Detectors that could not say anything.
    pub unable: Vec<String>,
    /// The texts' hash, where something was found in them.
    pub content: Option<String>,
}

/// Whether a job may go on.
#[derive(Debug, Default, PartialEq, Eq)]
pub enum Ruling {
    /// It may.
    #[default]
    Pass,
    /// Its content is refused, for good.
    Refused(Failure),
    /// The answer is too poor to be given to anybody.
    Poor {
        /// Why.
        failure: Failure,
        /// Whether it is worth another try.
        again: bool,
    },
    /// A detector that must not be passed could not say anything; it may later.
    Unavailable(Failure),
}

/// Why a detector could not say anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum Unable {
    #[error("took longer than its limit of {}", humantime::format_duration(*.0))]
    Late(Duration),
    #[error("found more than it can replace")]
    Overflowed,
    #[error("broke down")]
    Broke,
}

/// The detectors of a policy, in order.
#[derive(Debug, Clone)]
pub struct Filters {
    policy: Arc<Policy>,
}

impl Default for Filters {
    /// Those of no policy: every text passes.
    fn default() -> Self {
        Self::of(Policy::default())
    }
}

impl Filters {
    /// The policy of this name (`none`, `default`, `strict`), or in this file.
    pub fn open(policy: &str) -> Result<Self, PolicyError> {
        Policy::open(policy).map(Self::of)
    }

    fn of(policy: Policy) -> Self {
        Self {
            policy: Arc::new(policy),
        }
    }

    /// The policy's name, and which version of it.
    pub fn policy(&self) -> (&str, &str) {
        (&self.policy.name, &self.policy.version)
    }

    /// The names of its detectors.
    pub fn detectors(&self) -> impl Iterator<Item = &str> {
        let detectors = self.policy.detectors.iter();
        detectors.map(|detector| detector.name.as_str())
    }

    /// Whether documents are marked as data in the prompt.
    pub fn fences_documents(&self) -> bool {
        self.policy.fence_documents
    }

    /// Whether a text may still be refused or changed at this stage, so that nobody may see it yet.
    pub fn holds_back(&self, stage: Stage) -> bool {
        let detectors = self.policy.detectors.iter();
        detectors
            .filter(|detector| detector.looks_at(stage))
            .any(|detector| detector.interferes())
    }

    /// Whether a poor answer may be made once more.
    pub fn tries_again(&self) -> bool {
        let mut detectors = self.policy.detectors.iter();
        detectors.any(|detector| !detector.shadow && detector.action == Action::Retry)
    }

    /// What is poor about an answer, by the verdict of a detector of quality.
    pub fn flaws<'a>(&self, verdict: &'a Verdict) -> impl Iterator<Item = &'a str> {
        let mut detectors = self.policy.detectors.iter();
        let judges = detectors
            .any(|detector| detector.kind == Kind::Quality && detector.name == verdict.detector);
        let found = verdict.detail["categories"].as_object().filter(|_| judges);
        let found = found.into_iter().flatten();
        found.filter_map(|(flaw, is_found)| is_found.as_bool()?.then_some(flaw.as_str()))
    }

    /// Whether an answer that goes round in circles may end where it does.
    pub fn refuses_loops(&self) -> bool {
        let mut detectors = self.policy.detectors.iter();
        detectors.any(|detector| detector.refuses_loops())
    }

    /// Shows the texts to every detector of the stage until one refuses.
    pub(crate) async fn check(
        &self,
        compute: &Compute,
        stage: Stage,
        texts: Vec<String>,
    ) -> Decision {
        let texts = Arc::new(texts);
        let mut decision = Decision::default();
        let mut replaced: Vec<Finding> = Vec::new();
        for detector in &self.policy.detectors {
            if !detector.looks_at(stage) {
                continue;
            }
            let started = Instant::now();
            let looked = look(compute, detector, &texts).await;
            let took = (detector.name.clone(), started.elapsed());
            decision.looks.push(took);
            let finds = match looked {
                Ok(finds) => finds,
                Err(unable) => {
                    decision.unable.push(detector.name.clone());
                    if detector.on_error == OnError::Closed && !detector.shadow {
                        decision.ruling = Ruling::Unavailable(self.unavailable(detector, unable));
                        return decision;
                    }
                    let verdict = self.verdict(stage, detector, Err(unable));
                    decision.verdicts.push(verdict);
                    continue;
                }
            };
            decision
                .verdicts
                .push(self.verdict(stage, detector, Ok(&finds)));
            if finds.is_empty() {
                continue;
            }
            let content = || hash(texts.iter().map(String::as_str));
            decision.content.get_or_insert_with(content);
            match detector.action {
                _ if detector.shadow => {}
                Action::Allow | Action::Flag => {}
                Action::Redact => replaced.extend(finds),
                Action::Block | Action::Retry => {
                    decision.ruling = self.refusal(stage, detector);
                    return decision;
                }
            }
        }
        decision.redacted = !replaced.is_empty();
        decision.texts = Arc::unwrap_or_clone(texts);
        for (n, text) in decision.texts.iter_mut().enumerate() {
            let mut finds = replaced.iter().filter(|find| find.text == n).peekable();
            if finds.peek().is_some() {
                *text = redact(text, finds);
            }
        }
        decision
    }

    fn refusal(&self, stage: Stage, detector: &Detector) -> Ruling {
        let (code, what) = stage.refusal();
        let message = format!(
            "the {what} is refused by `{}` of the content policy `{}`",
            detector.name, self.policy.name
        );
        if detector.kind != Kind::Quality {
            return Ruling::Refused(Failure::new(code, message));
        }
        let failure = Failure {
            // The same job gives the same answer.
            retryable: false,
            ..Failure::new(FailureCode::QualityRejected, message)
        };
        Ruling::Poor {
            failure,
            again: detector.action == Action::Retry,
        }
    }

    fn unavailable(&self, detector: &Detector, unable: Unable) -> Failure {
        let message = format!(
            "`{}` of the content policy `{}` {unable}",
            detector.name, self.policy.name
        );
        Failure::new(FailureCode::FilterUnavailable, message)
    }

    /// The record of one detector's look. Where something was found it has the fields of `OpenAI`'s
    /// moderation objects, and where; never what.
    fn verdict(
        &self,
        stage: Stage,
        detector: &Detector,
        looked: Result<&[Finding], Unable>,
    ) -> Verdict {
        let finds = looked.unwrap_or_default();
        let action = if finds.is_empty() {
            Action::Allow
        } else {
            detector.action
        };
        let mut detail = Map::new();
        if !finds.is_empty() {
            let mut scores: Map<String, Value> = Map::new();
            for find in finds {
                let score = scores.entry(find.rule).or_insert_with(|| json!(0.0));
                let known = score.as_f64().unwrap_or_default();
                *score = json!(known.max(written(find.score)));
            }
            let spans = finds.iter().take(SPANS_MAX).map(|find| {
                json!({
                    "category": find.rule, "text": find.text,
                    "start": find.span.start, "end": find.span.end,
                })
            });
            let categories = scores.keys().map(|rule| (rule.clone(), Value::Bool(true)));
            detail.insert("flagged".to_owned(), json!(action != Action::Allow));
            detail.insert("categories".to_owned(), categories.collect());
            detail.insert("category_scores".to_owned(), Value::Object(scores));
            detail.insert("threshold".to_owned(), json!(written(detector.threshold)));
            detail.insert("found".to_owned(), json!(finds.len()));
            detail.insert("spans".to_owned(), spans.collect());
        }
        if let Err(unable) = looked {
            detail.insert("error".to_owned(), json!(unable.to_string()));
        }
        if !detail.is_empty() {
            detail.insert("policy".to_owned(), json!(self.policy.name));
            detail.insert("policy_version".to_owned(), json!(self.policy.version));
        }
        Verdict {
            stage: stage.as_str().to_owned(),
            detector: detector.name.clone(),
            action: action.as_str().to_owned(),
            shadow: detector.shadow,
            detail: if detail.is_empty() {
                Value::Null
            } else {
                Value::Object(detail)
            },
        }
    }
}

/// What a detector finds in the time that it has.
async fn look(
    compute: &Compute,
    detector: &Arc<Detector>,
    texts: &Arc<Vec<String>>,
) -> Result<Vec<Finding>, Unable> {
    let bytes: usize = texts.iter().map(String::len).sum();
    let looked = if bytes <= HERE_BYTES_MAX {
        catch_unwind(AssertUnwindSafe(|| detector.look(texts)))
    } else {
        let (limit, texts) = (detector.time_limit, texts.clone());
        let looking = detector.clone();
        let in_time = compute.run_within(limit, move || looking.look(&texts));
        in_time.await.ok_or(Unable::Late(limit))?
    };
    looked.map_err(|_| Unable::Broke)?.ok_or(Unable::Overflowed)
}

/// A score as people write it: 0.9, not the nearest 32-bit number in all its digits.
fn written(score: f32) -> f64 {
    (f64::from(score) * 1e4).round() / 1e4
}

/// Names content in logs and marks: the first 16 hex digits of its SHA-256.
pub(crate) fn hash<'a>(texts: impl IntoIterator<Item = &'a str>) -> String {
    let mut digest = Sha256::new();
    for text in texts {
        digest.update(text);
        // No text has this byte: it parts them.
        digest.update([0xFF]);
    }
    let digest = digest.finalize();
    digest.iter().take(8).fold(String::new(), |mut hex, byte| {
        // Writing to a string cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}
