//! Content filters: what a job passes before the engine sees it, and its answer before anybody does.
//!
//! Detectors look at whole texts and give verdicts, every one of which is recorded in the result; the
//! first refusal ends the job. A worker without a policy has no detectors, gives no verdicts, and
//! refuses nothing.

use lapidary_schemas::result::Verdict;
use lapidary_schemas::{Failure, FailureCode};

/// Where on a job's way a filter stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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

    /// The code of a refusal here.
    pub fn refusal(self) -> FailureCode {
        match self {
            Self::InputText => FailureCode::ContentFiltered,
            Self::OutputText => FailureCode::ResponseFiltered,
        }
    }
}

/// What looks at texts. A closed list, which is empty in this version.
#[derive(Debug, Clone)]
pub enum Detector {}

impl Detector {
    fn look(&self, _stage: Stage, _texts: &[&str]) -> (Verdict, Option<Failure>) {
        match *self {}
    }
}

/// What a stage decided.
#[derive(Debug, Default)]
pub struct Decision {
    /// Every detector's verdict, up to the one that refused.
    pub verdicts: Vec<Verdict>,
    /// Why the job may not go on, if it may not.
    pub refusal: Option<Failure>,
}

/// The detectors of a policy, in order.
#[derive(Debug, Clone, Default)]
pub struct Filters {
    detectors: Vec<Detector>,
}

impl Filters {
    /// Whether there are none, so that every text passes.
    pub fn is_empty(&self) -> bool {
        self.detectors.is_empty()
    }

    /// Shows the texts to every detector until one refuses.
    pub fn check(&self, stage: Stage, texts: &[&str]) -> Decision {
        let mut decision = Decision::default();
        for detector in &self.detectors {
            let (verdict, refusal) = detector.look(stage, texts);
            decision.verdicts.push(verdict);
            decision.refusal = refusal;
            if decision.refusal.is_some() {
                break;
            }
        }
        decision
    }
}
