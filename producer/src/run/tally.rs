//! What a run has done, for the progress line and for the summary.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use lapidary_schemas::{FailureCode, Status};

use crate::rows::Row;

/// Counts of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Documents with a caption.
    pub captioned: u64,
    /// Documents done by an earlier start.
    pub skipped: u64,
    /// Documents without one, by code.
    pub failed: BTreeMap<FailureCode, u64>,
    /// Documents of which only the beginning was captioned.
    pub truncated: u64,
    /// Documents captioned in parts.
    pub split: u64,
    /// Documents that share the caption of another one of the same content.
    pub shared: u64,
    /// Tokens read.
    pub prompt_tokens: u64,
    /// Tokens written.
    pub completion_tokens: u64,
}

impl Tally {
    /// Counts a row.
    pub fn count(&mut self, row: &Row) {
        self.prompt_tokens += u64::from(row.usage.prompt_tokens);
        self.completion_tokens += u64::from(row.usage.completion_tokens);
        if row.status == Status::Succeeded {
            self.captioned += 1;
            self.truncated += u64::from(row.truncated);
            self.split += u64::from(row.parts > 1);
            self.shared += u64::from(row.same_as.is_some());
        } else {
            let code = row
                .failure
                .as_ref()
                .map_or(FailureCode::Internal, |failure| failure.code);
            *self.failed.entry(code).or_default() += 1;
        }
    }

    /// Documents without a caption.
    pub fn failures(&self) -> u64 {
        self.failed.values().sum()
    }

    /// Documents that are through, well or not.
    pub fn done(&self) -> u64 {
        self.captioned + self.skipped + self.failures()
    }

    /// The summary, line by line.
    pub fn lines(&self, seconds: f64, others: u64) -> Vec<String> {
        let mut lines = Vec::new();
        // Writing to a string cannot fail.
        let mut first = format!("{} captioned", documents(self.captioned));
        if self.split > 0 {
            let _ = write!(first, ", {} of them in parts", self.split);
        }
        if self.truncated > 0 {
            let _ = write!(first, ", {} of them truncated", self.truncated);
        }
        if self.shared > 0 {
            let _ = write!(first, ", {} of them the same as another", self.shared);
        }
        if self.captioned > 0 {
            let _ = write!(
                first,
                " in {seconds:.1} s ({} prompt and {} generated tokens)",
                self.prompt_tokens, self.completion_tokens
            );
        }
        lines.push(first);
        if self.skipped > 0 {
            lines.push(format!("{} done before", documents(self.skipped)));
        }
        if others > 0 {
            lines.push(format!("{others} files of other kinds passed over"));
        }
        if self.failures() > 0 {
            lines.push(format!("{} failed:", documents(self.failures())));
            for (code, count) in &self.failed {
                lines.push(format!("  {count:>6}  {code}"));
            }
        }
        lines
    }
}

fn documents(count: u64) -> String {
    match count {
        1 => "1 document".to_owned(),
        count => format!("{count} documents"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lapidary_schemas::Failure;

    #[test]
    fn the_summary_tells_all() {
        let mut tally = Tally {
            skipped: 3,
            ..Tally::default()
        };
        let mut row = Row::refused("a".into(), Failure::new(FailureCode::MediaInvalid, "x"));
        tally.count(&row);
        tally.count(&row);
        row.failure = Some(Failure::new(FailureCode::PromptTooLong, "x"));
        tally.count(&row);
        row.status = Status::Succeeded;
        row.failure = None;
        row.parts = 4;
        row.usage.prompt_tokens = 100;
        tally.count(&row);
        tally.count(&row.shared_with("b".into()));
        assert_eq!(tally.done(), 8);
        insta::assert_snapshot!(tally.lines(2.0, 1).join("\n"), @r"
        2 documents captioned, 2 of them in parts, 1 of them the same as another in 2.0 s (100 prompt and 0 generated tokens)
        3 documents done before
        1 files of other kinds passed over
        3 documents failed:
               2  MEDIA_INVALID
               1  PROMPT_TOO_LONG
        ");
    }
}
