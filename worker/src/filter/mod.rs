//! Content filters: what a job passes before the engine sees it, and its answer before anybody does.
//!
//! A policy (`policy`) lists detectors and what follows from what each finds. Detectors look at
//! the texts and pictures as they came, each at all of them; what they find is in places of these texts, so that
//! nobody is ever given a text that was normalised to be looked at. Every verdict is part of the
//! result. The first refusal ends the job.

mod detector;
mod fence;
mod find;
mod fold;
mod injection;
mod judge;
mod keywords;
mod language;
mod markup;
mod personal;
mod policy;
mod quality;
mod secrets;
#[cfg(test)]
mod tests;
mod verdict;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use lapidary_engine::image::{Image, ImageSpec};
use lapidary_engine::{Engine, Health};
use lapidary_schemas::result::Verdict;
use lapidary_schemas::{Failure, FailureCode};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::compute::Compute;

use self::detector::{Detector, Kind, Method};
use self::find::{Finding, redact};
use self::policy::{Action, Policy};

pub(crate) use self::fence::fenced;
pub use self::judge::{Judge, Judges, LostJudge, UnfitJudge};
pub use self::policy::PolicyError;

/// Texts that are looked at where they are: a detector takes less for so few bytes than another
/// thread takes to wake.
const HERE_BYTES_MAX: usize = 1024;
/// How often a text is sanitised again in which something was replaced: once, but for one that is made for it.
const SANITIZED_AGAIN_MAX: usize = 8;

/// Where on a job's way a filter stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum Stage {
    /// The request's texts, documents included.
    InputText,
    /// The request's pictures.
    InputImage,
    /// The answer.
    OutputText,
}

impl Stage {
    /// The name in verdicts and labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InputText => "input_text",
            Self::InputImage => "input_image",
            Self::OutputText => "output_text",
        }
    }

    /// The code of a refusal here, and what is refused.
    fn refusal(self) -> (FailureCode, &'static str) {
        match self {
            Self::InputText | Self::InputImage => (FailureCode::ContentFiltered, "request"),
            Self::OutputText => (FailureCode::ResponseFiltered, "answer"),
        }
    }
}

/// What a stage shows to its detectors.
#[derive(Debug, Clone)]
pub(crate) struct Shown {
    /// The texts, as they came.
    pub(crate) texts: Vec<String>,
    /// What they answer.
    pub(crate) asked: Asked,
    /// The pictures.
    pub(crate) images: Vec<Arc<Image>>,
    /// Who waits for it.
    pub(crate) class: lapidary_engine::Class,
}

impl Shown {
    /// Nothing yet.
    pub(crate) fn to(class: lapidary_engine::Class) -> Self {
        Self {
            texts: Vec::new(),
            asked: Asked::default(),
            images: Vec::new(),
            class,
        }
    }
}

/// What answers are looked at by.
#[derive(Debug, Clone, Default)]
pub(crate) struct Asked {
    /// What was asked, as much of it as a judge reads; empty where none looks.
    question: String,
    /// The language that was asked for.
    language: Option<language::Asked>,
}

/// What follows from what is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    /// What the policy says.
    Enforce,
    /// Nothing: whoever asked wants to know what every detector says, of each of its rules.
    Report,
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
    #[error("is asked about more than its model reads")]
    TooLong,
    #[error("got no answer of its model")]
    Unanswered,
    #[error("broke down")]
    Broke,
}

/// The detectors of a policy, in order.
#[derive(Debug, Clone)]
pub struct Filters {
    policy: Arc<Policy>,
    judges: Judges,
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
            judges: Judges::default(),
        }
    }

    /// The same with models that judge.
    #[must_use]
    pub fn with_judges(self, judges: Judges) -> Self {
        Self { judges, ..self }
    }

    /// The engines of the models that judge.
    pub fn engines(&self) -> impl Iterator<Item = &Engine> {
        let Judges { texts, pictures } = &self.judges;
        texts.iter().chain(pictures).map(Judge::engine)
    }

    /// The detectors whose model broke down.
    pub fn lost_judges(&self) -> Vec<LostJudge> {
        let detectors = self.policy.detectors.iter();
        let lost = detectors.filter_map(|detector| {
            let health = self.judge_of(detector)?.engine().health();
            let Health::Failed { message } = health else {
                return None;
            };
            Some(LostJudge {
                detector: detector.name.clone(),
                message,
                passable: detector.is_passable(),
            })
        });
        lost.collect()
    }

    /// The first detector that needs a model to judge texts, if there is one.
    pub fn judge_of_texts(&self) -> Option<&str> {
        self.first_of(Kind::Judge)
    }

    /// The first detector that needs a model to judge pictures, if there is one.
    pub fn judge_of_pictures(&self) -> Option<&str> {
        self.first_of(Kind::JudgeImage)
    }

    /// What a picture must be to be judged, if there is a model that judges pictures.
    pub(crate) fn picture_spec(&self) -> Option<ImageSpec> {
        self.judges.pictures.as_ref()?.spec()
    }

    fn first_of(&self, kind: Kind) -> Option<&str> {
        let mut detectors = self.policy.detectors.iter();
        let first = detectors.find(|detector| detector.kind == kind);
        first.map(|detector| detector.name.as_str())
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

    /// Whether any detector looks here.
    pub(crate) fn looks_at(&self, stage: Stage) -> bool {
        let mut detectors = self.policy.detectors.iter();
        detectors.any(|detector| detector.looks_at(stage))
    }

    /// What answers to these texts are looked at by.
    pub(crate) fn asked(&self, texts: &[String]) -> Asked {
        let of_answers = |kind| {
            let mut detectors = self.policy.detectors.iter();
            detectors.any(|detector| detector.kind == kind && detector.looks_at(Stage::OutputText))
        };
        let mut asked = Asked::default();
        if of_answers(Kind::Judge) {
            asked.question = judge::question(texts);
        }
        if of_answers(Kind::Quality) {
            asked.language = language::asked(texts);
        }
        asked
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

    /// Shows everything to every detector of the stage, until one refuses.
    pub(crate) async fn check(
        &self,
        compute: &Compute,
        (stage, manner): (Stage, Manner),
        shown: Shown,
    ) -> Decision {
        let shown = Arc::new(shown);
        let mut decision = Decision::default();
        let mut replaced: Vec<Finding> = Vec::new();
        let detectors = self.policy.detectors.iter();
        for detector in detectors.filter(|detector| detector.looks_at(stage)) {
            let started = Instant::now();
            let looked = self.look(compute, detector, (stage, &shown)).await;
            let took = (detector.name.clone(), started.elapsed());
            decision.looks.push(took);
            let verdict = self.verdict((stage, manner), detector, &looked);
            let finds = match looked {
                Ok(look) => look.finds,
                Err(unable) => {
                    decision.unable.push(detector.name.clone());
                    if !detector.is_passable() {
                        decision.ruling = Ruling::Unavailable(self.unavailable(detector, unable));
                        return decision;
                    }
                    decision.verdicts.push(verdict);
                    continue;
                }
            };
            decision.verdicts.push(verdict);
            if finds.is_empty() {
                continue;
            }
            decision.content.get_or_insert_with(|| content(&shown));
            match detector.action {
                _ if detector.shadow || manner == Manner::Report => {}
                Action::Allow | Action::Flag => {}
                Action::Redact => replaced.extend(finds),
                Action::Block | Action::Retry => {
                    decision.ruling = self.refusal(stage, detector);
                    return decision;
                }
            }
        }
        if replaced.is_empty() {
            decision.texts = Arc::unwrap_or_clone(shown).texts;
            return decision;
        }
        decision.redacted = true;
        let replaced = replace(shown, &replaced);
        self.sanitize(compute, stage, replaced, &mut decision).await;
        decision
    }

    /// Replaces what replacing has brought to life: markup that was part of a tag, of which some is gone.
    async fn sanitize(
        &self,
        compute: &Compute,
        stage: Stage,
        mut shown: Arc<Shown>,
        decision: &mut Decision,
    ) {
        let detectors = self.policy.detectors.iter();
        let sanitizers = detectors.filter(|detector| {
            let replaces = detector.action == Action::Redact && !detector.shadow;
            detector.kind == Kind::Markup && detector.looks_at(stage) && replaces
        });
        for detector in sanitizers {
            for round in 0..=SANITIZED_AGAIN_MAX {
                let unable = match look_at_texts(compute, detector, &shown).await {
                    Ok(finds) if finds.is_empty() => break,
                    Ok(finds) if round < SANITIZED_AGAIN_MAX => {
                        shown = replace(shown, &finds);
                        continue;
                    }
                    Ok(_) => Unable::Overflowed,
                    Err(unable) => unable,
                };
                decision.unable.push(detector.name.clone());
                if !detector.is_passable() {
                    decision.ruling = Ruling::Unavailable(self.unavailable(detector, unable));
                    return;
                }
                break;
            }
        }
        decision.texts = Arc::unwrap_or_clone(shown).texts;
    }

    /// The model that a detector asks, if it asks one.
    fn judge_of(&self, detector: &Detector) -> Option<&Judge> {
        match detector.kind {
            Kind::Judge => self.judges.texts.as_ref(),
            Kind::JudgeImage => self.judges.pictures.as_ref(),
            _ => None,
        }
    }

    /// What a detector finds in the time that it has.
    async fn look(
        &self,
        compute: &Compute,
        detector: &Arc<Detector>,
        (stage, shown): (Stage, &Arc<Shown>),
    ) -> Result<Look, Unable> {
        let Method::Judge(_) = &detector.method else {
            let finds = look_at_texts(compute, detector, shown).await?;
            return Ok(Look {
                finds,
                scores: BTreeMap::new(),
            });
        };
        let judge = self.judge_of(detector).ok_or(Unable::Unanswered)?;
        let (limit, rules) = (detector.time_limit, detector.principles());
        let looking = judge.look(compute, &rules, (stage, shown));
        let judged = tokio::time::timeout(limit, looking).await;
        let mut look = Look::default();
        for find in judged.map_err(|_| Unable::Late(limit))?? {
            let score = look.scores.entry(find.rule).or_default();
            *score = score.max(find.score);
            if find.score >= detector.threshold {
                look.finds.push(find);
            }
        }
        Ok(look)
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
}

/// What a detector saw.
#[derive(Debug, Default)]
struct Look {
    /// What it is sure of.
    finds: Vec<Finding>,
    /// Of a judge: how sure it is of each of its rules.
    scores: BTreeMap<&'static str, f32>,
}

/// What a detector that needs no model finds in the time that it has.
async fn look_at_texts(
    compute: &Compute,
    detector: &Arc<Detector>,
    shown: &Arc<Shown>,
) -> Result<Vec<Finding>, Unable> {
    let bytes: usize = shown.texts.iter().map(String::len).sum();
    let looked = if bytes <= HERE_BYTES_MAX {
        catch_unwind(AssertUnwindSafe(|| detector.look(shown)))
    } else {
        let (limit, shown) = (detector.time_limit, shown.clone());
        let looking = detector.clone();
        let in_time = compute.run_within(limit, move || looking.look(&shown));
        in_time.await.ok_or(Unable::Late(limit))?
    };
    looked.map_err(|_| Unable::Broke)?.ok_or(Unable::Overflowed)
}

/// The same with these finds replaced.
fn replace(shown: Arc<Shown>, finds: &[Finding]) -> Arc<Shown> {
    let mut shown = Arc::unwrap_or_clone(shown);
    for (n, text) in shown.texts.iter_mut().enumerate() {
        let mut finds = finds.iter().filter(|find| find.text == n).peekable();
        if finds.peek().is_some() {
            *text = redact(text, finds);
        }
    }
    Arc::new(shown)
}

/// Names what was shown, without telling it.
fn content(shown: &Shown) -> String {
    let texts = shown.texts.iter().map(String::as_bytes);
    let images = shown.images.iter().map(|image| image.sha256().as_slice());
    hash_of(texts.chain(images))
}

/// Names content in logs and marks: the first 16 hex digits of its SHA-256.
pub(crate) fn hash<'a>(texts: impl IntoIterator<Item = &'a str>) -> String {
    hash_of(texts.into_iter().map(str::as_bytes))
}

fn hash_of<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update(part);
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
