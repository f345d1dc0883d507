//! A detector of a policy: a method with its settings.

use std::time::Duration;

use serde::Deserialize;

use super::find::{Finding, Findings};
use super::judge::{self, Principle};
use super::keywords::Keywords;
use super::policy::{Action, OnError, WrittenDetector};
use super::{Shown, Stage, injection, keywords, markup, personal, quality, secrets};

/// How a detector looks at texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    /// Active markup.
    Markup,
    /// Keywords of a list.
    Keywords,
    /// Keys, tokens, passwords.
    Secrets,
    /// Personal data.
    Personal,
    /// Words to the model.
    Injection,
    /// Poor answers.
    Quality,
    /// Texts, by what a model says of them.
    Judge,
    /// Pictures, likewise.
    JudgeImage,
}

impl Kind {
    /// The names of its rules.
    pub(super) fn rules(self) -> &'static [&'static str] {
        match self {
            Self::Markup => markup::RULES,
            Self::Keywords => keywords::RULES,
            Self::Secrets => secrets::RULES,
            Self::Personal => personal::RULES,
            Self::Injection => injection::RULES,
            Self::Quality => quality::RULES,
            Self::Judge => judge::TEXT_RULES,
            Self::JudgeImage => judge::PICTURE_RULES,
        }
    }

    /// Whether a model is asked.
    pub(super) fn judges(self) -> bool {
        matches!(self, Self::Judge | Self::JudgeImage)
    }
}

/// A method with its settings.
#[derive(Debug)]
pub(super) struct Detector {
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) action: Action,
    pub(super) threshold: f32,
    pub(super) on_error: OnError,
    /// Whether its verdicts are only recorded.
    pub(super) shadow: bool,
    pub(super) time_limit: Duration,
    stages: Vec<Stage>,
    pub(super) method: Method,
    rules: Option<Vec<String>>,
}

/// How it looks.
#[derive(Debug)]
pub(super) enum Method {
    /// By what is written.
    Rules(fn(&str, &mut Findings)),
    /// By a list.
    Keywords(Keywords),
    /// By what is written, and what was asked.
    Quality,
    /// By asking a model about each of these.
    Judge(&'static [Principle]),
}

impl Detector {
    /// A detector that was checked. What is wrong with its keywords begins with the key.
    pub(super) fn new(written: WrittenDetector) -> Result<Self, String> {
        let method = match written.kind {
            Kind::Markup => Method::Rules(markup::look),
            Kind::Keywords => {
                let list = written.keywords.unwrap_or_default();
                Method::Keywords(Keywords::new(&list)?)
            }
            Kind::Secrets => Method::Rules(secrets::look),
            Kind::Personal => Method::Rules(personal::look),
            Kind::Injection => Method::Rules(injection::look),
            Kind::Quality => Method::Quality,
            Kind::Judge => Method::Judge(judge::OF_TEXTS),
            Kind::JudgeImage => Method::Judge(judge::OF_PICTURES),
        };
        Ok(Self {
            name: written.name,
            kind: written.kind,
            action: written.action,
            threshold: written.threshold,
            on_error: written.on_error,
            shadow: written.shadow,
            time_limit: written.time_limit,
            stages: written.stages,
            method,
            rules: written.rules,
        })
    }

    pub(super) fn looks_at(&self, stage: Stage) -> bool {
        self.stages.contains(&stage)
    }

    /// Whether it may change a text or refuse it.
    pub(super) fn interferes(&self) -> bool {
        !self.shadow
            && (matches!(self.action, Action::Redact | Action::Block | Action::Retry)
                || self.on_error == OnError::Closed)
    }

    /// Whether jobs go on where it cannot say anything.
    pub(super) fn is_passable(&self) -> bool {
        self.shadow || self.on_error == OnError::Open
    }

    /// Whether an answer that goes round in circles is given to nobody.
    pub(super) fn refuses_loops(&self) -> bool {
        self.kind == Kind::Quality
            && !self.shadow
            && matches!(self.action, Action::Block | Action::Retry)
            && self
                .rules
                .as_ref()
                .is_none_or(|rules| rules.iter().any(|rule| rule == quality::LOOP))
    }

    /// The rules that count.
    pub(super) fn rules(&self) -> impl Iterator<Item = &'static str> {
        let all = self.kind.rules().iter().copied();
        all.filter(|rule| self.counts(rule))
    }

    /// What a model is asked about.
    pub(super) fn principles(&self) -> Vec<&'static Principle> {
        let all = match &self.method {
            Method::Judge(all) => *all,
            Method::Rules(_) | Method::Keywords(_) | Method::Quality => &[],
        };
        let principles = all.iter();
        principles
            .filter(|principle| self.counts(principle.rule()))
            .collect()
    }

    fn counts(&self, rule: &str) -> bool {
        let rules = self.rules.as_ref();
        rules.is_none_or(|rules| rules.iter().any(|counting| counting == rule))
    }

    /// What it finds in these texts and is sure of; `None` if there is too much of it to be replaced.
    pub(super) fn look(&self, shown: &Shown) -> Option<Vec<Finding>> {
        let mut findings = Findings::default();
        for (n, text) in shown.texts.iter().enumerate() {
            findings.begin(n);
            match &self.method {
                Method::Rules(look) => look(text, &mut findings),
                Method::Keywords(keywords) => keywords.look(text, &mut findings),
                Method::Quality => quality::look(text, shown.asked.language, &mut findings),
                Method::Judge(_) => {}
            }
        }
        if findings.overflowed() && self.action == Action::Redact {
            return None;
        }
        let mut sure = findings.into_sure(self.threshold);
        sure.retain(|finding| self.counts(finding.rule));
        Some(sure)
    }
}
