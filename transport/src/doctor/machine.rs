//! This machine: how many files a process may open.

use rustix::process::{Resource, getrlimit};

use super::{Finding, Verdict};

/// Files that a busy worker or gateway has open: connections, and what clients upload.
const FILES_MIN: u64 = 1_024;

pub(super) fn examine() -> Vec<Finding> {
    vec![files(getrlimit(Resource::Nofile).current)]
}

/// `None`: without a limit.
fn files(limit: Option<u64>) -> Finding {
    match limit {
        Some(limit) if limit < FILES_MIN => Finding::new(
            Verdict::Warning,
            "open files",
            format!("a process may open {limit} files, a busy gateway needs {FILES_MIN}"),
            "raise it: `ulimit -n 65536`, or `LimitNOFILE=65536` in the unit of systemd",
        ),
        Some(limit) => Finding::good("open files", format!("a process may open {limit} files")),
        None => Finding::good("open files", "a process may open any number of files"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_files_are_warned_of() {
        assert_eq!(files(Some(256)).verdict, Verdict::Warning);
        assert_eq!(files(Some(1_024)).verdict, Verdict::Good);
        assert_eq!(files(None).verdict, Verdict::Good);
    }
}
