//! The record of one detector's look.

use std::collections::BTreeMap;

use lapidary_schemas::result::Verdict;
use serde_json::{Map, Value, json};

use super::detector::Detector;
use super::find::Finding;
use super::policy::Action;
use super::{Filters, Look, Manner, Stage, Unable};

/// Places that a verdict names.
const SPANS_MAX: usize = 32;

impl Filters {
    /// The record of one detector's look. Where something was found, or judged, it has the fields of
    /// `OpenAI`'s moderation objects, and where; never what.
    pub(super) fn verdict(
        &self,
        (stage, manner): (Stage, Manner),
        detector: &Detector,
        looked: &Result<Look, Unable>,
    ) -> Verdict {
        let (finds, scores) = match looked {
            Ok(look) => (look.finds.as_slice(), scores(detector, look, manner)),
            Err(_) => (&[][..], BTreeMap::new()),
        };
        let action = if finds.is_empty() {
            Action::Allow
        } else {
            detector.action
        };
        let mut detail = Map::new();
        if !scores.is_empty() {
            let found = |rule: &str| finds.iter().any(|find| find.rule == rule);
            let categories = scores
                .keys()
                .map(|rule| ((*rule).to_owned(), json!(found(rule))));
            detail.insert("categories".to_owned(), categories.collect());
            let scores = scores.iter();
            let scores = scores.map(|(rule, score)| ((*rule).to_owned(), json!(written(*score))));
            detail.insert("flagged".to_owned(), json!(action != Action::Allow));
            detail.insert("category_scores".to_owned(), scores.collect());
            detail.insert("threshold".to_owned(), json!(written(detector.threshold)));
        }
        if !finds.is_empty() {
            let spans = finds.iter().take(SPANS_MAX).map(|find| place(stage, find));
            detail.insert("found".to_owned(), json!(finds.len()));
            detail.insert("spans".to_owned(), spans.collect());
        }
        if let Err(unable) = looked {
            detail.insert("error".to_owned(), json!(unable.to_string()));
        }
        if !detail.is_empty() {
            detail.insert("policy".to_owned(), json!(self.policy.name));
            detail.insert("policy_version".to_owned(), json!(self.policy.version));
            if let Some(judge) = self.judge_of(detector) {
                detail.insert("judge".to_owned(), json!(judge.weights_sha256()));
            }
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

/// How sure a detector is of each rule that it found something by, or was asked about.
fn scores(detector: &Detector, look: &Look, manner: Manner) -> BTreeMap<&'static str, f32> {
    let mut scores = look.scores.clone();
    if manner == Manner::Report {
        scores.extend(detector.rules().map(|rule| (rule, 0.0)));
        scores.extend(&look.scores);
    }
    for find in &look.finds {
        let score = scores.entry(find.rule).or_default();
        *score = score.max(find.score);
    }
    scores
}

/// Where something was found: which text or picture, and where in a text.
fn place(stage: Stage, find: &Finding) -> Value {
    if stage == Stage::InputImage {
        return json!({"category": find.rule, "image": find.text});
    }
    json!({
        "category": find.rule, "text": find.text,
        "start": find.span.start, "end": find.span.end,
    })
}

/// A score as people write it: 0.9, not the nearest 32-bit number in all its digits.
fn written(score: f32) -> f64 {
    (f64::from(score) * 1e4).round() / 1e4
}
