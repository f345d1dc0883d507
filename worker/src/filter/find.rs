//! What detectors find in texts.

use std::ops::Range;

/// Finds of one detector in the texts of a job; after so many it does not look on.
const FINDINGS_MAX: usize = 100_000;

/// One find.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Finding {
    /// Which of the texts.
    pub(super) text: usize,
    /// Bytes of that text, from one character's beginning to another's.
    pub(super) span: Range<usize>,
    /// The rule that found it.
    pub(super) rule: &'static str,
    /// How sure the rule is, up to 1.
    pub(super) score: f32,
}

impl Finding {
    /// A find in the text that is being looked at.
    pub(super) fn new(rule: &'static str, span: Range<usize>, score: f32) -> Self {
        Self {
            text: 0,
            span,
            rule,
            score,
        }
    }
}

/// The finds of one detector.
#[derive(Debug, Default)]
pub(super) struct Findings {
    list: Vec<Finding>,
    /// The text that is being looked at.
    text: usize,
    overflowed: bool,
}

impl Findings {
    /// What is pushed from now on is found in this text.
    pub(super) fn begin(&mut self, text: usize) {
        self.text = text;
    }

    pub(super) fn push(&mut self, finding: Finding) {
        if self.list.len() == FINDINGS_MAX {
            self.overflowed = true;
            return;
        }
        let text = self.text;
        self.list.push(Finding { text, ..finding });
    }

    /// Whether there was more than is kept.
    pub(super) fn overflowed(&self) -> bool {
        self.overflowed
    }

    /// The finds that are as sure as `threshold`, in their order; one a place and rule.
    pub(super) fn into_sure(self, threshold: f32) -> Vec<Finding> {
        let mut list = self.list;
        list.retain(|finding| finding.score >= threshold);
        // The surest of equal ones comes first, and stays.
        list.sort_by(|a, b| {
            let place = |finding: &Finding| (finding.text, finding.span.start, finding.span.end);
            let places = place(a).cmp(&place(b));
            places
                .then(a.rule.cmp(b.rule))
                .then(b.score.total_cmp(&a.score))
        });
        list.dedup_by(|b, a| (a.text, &a.span, a.rule) == (b.text, &b.span, b.rule));
        list
    }
}

/// The text with each find in it replaced by the name of its rule, in brackets: something stays, so
/// that what stood on both sides does not join to something new. Finds that overlap are one.
///
/// What follows the brackets does not make a link of Markdown of them: a space is put between.
pub(super) fn redact<'a>(text: &str, finds: impl IntoIterator<Item = &'a Finding>) -> String {
    let mut finds: Vec<&Finding> = finds.into_iter().collect();
    finds.sort_by_key(|find| find.span.start);
    let mut redacted = String::with_capacity(text.len());
    let mut done = 0;
    for find in finds {
        if find.span.start >= done {
            push_between(&mut redacted, text.get(done..find.span.start));
            redacted.push('[');
            redacted.push_str(find.rule);
            redacted.push(']');
        }
        done = done.max(find.span.end);
    }
    push_between(&mut redacted, text.get(done..));
    redacted
}

fn push_between(redacted: &mut String, text: Option<&str>) {
    let text = text.unwrap_or_default();
    if redacted.ends_with(']') && text.starts_with(['(', ':']) {
        redacted.push(' ');
    }
    redacted.push_str(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlapping_finds_are_replaced_once() {
        let text = "ab cd ef";
        let finds = [
            Finding::new("x", 3..5, 1.0),
            Finding::new("y", 4..8, 1.0),
            Finding::new("x", 0..1, 1.0),
        ];
        assert_eq!(redact(text, &finds), "[x]b [x]");
        assert_eq!(redact(text, &[]), text);
        let finds = [Finding::new("x", 0..1, 1.0), Finding::new("x", 3..4, 1.0)];
        assert_eq!(redact("a(b)c: [](d)", &finds), "[x] (b[x]c: [](d)");
        assert_eq!(redact("a: b", &finds[..1]), "[x] : b");
    }

    #[test]
    fn of_the_same_find_the_surest_stays() {
        let mut findings = Findings::default();
        for score in [0.8, 1.0, 0.3] {
            findings.push(Finding::new("x", 0..2, score));
        }
        findings.push(Finding::new("y", 0..2, 0.4));
        let sure = findings.into_sure(0.5);
        assert_eq!(sure, [Finding::new("x", 0..2, 1.0)]);
    }
}
