//! The embedded file: whether it can be written, is whole, and has room to grow.

use std::path::Path;

use super::{Finding, Verdict};
use crate::embedded::EmbeddedFile;

/// Free bytes below which it may fill up within a batch, and below which it fails.
const FREE_WARNED: u64 = 1 << 30;
const FREE_MIN: u64 = 64 << 20;

pub(super) async fn examine(path: &Path) -> Vec<Finding> {
    let name = path.display();
    let mut findings = Vec::new();
    match EmbeddedFile::open(path).await {
        Ok(file) => {
            findings.push(Finding::good("file", format!("{name} can be written")));
            findings.push(whole(&file).await);
        }
        Err(error) => findings.push(Finding::new(
            Verdict::Bad,
            "file",
            error.to_string(),
            "name a file on a local disk that this user can write, with --store",
        )),
    }
    let folder = path.parent().filter(|folder| *folder != Path::new(""));
    findings.push(free("file: disk", folder.unwrap_or(Path::new("."))));
    findings
}

/// Whether its tables and indexes agree; `SQLite` stops at the first page that is damaged.
async fn whole(file: &EmbeddedFile) -> Finding {
    let checked = file.read(|db| {
        let said: String = db.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
        Ok(said)
    });
    let advice = "stop all programs that use it and restore it from a backup, or begin a new file and \
                  submit again";
    match checked.await {
        Ok(said) if said == "ok" => Finding::good("file: content", "it is whole"),
        Ok(said) => Finding::new(Verdict::Bad, "file: content", said, advice),
        Err(error) => Finding::new(Verdict::Bad, "file: content", error.to_string(), advice),
    }
}

/// How much room there is on the disk of a folder.
pub(super) fn free(check: &'static str, folder: &Path) -> Finding {
    match rustix::fs::statvfs(folder) {
        Ok(disk) => judged(check, folder, disk.f_bavail.saturating_mul(disk.f_frsize)),
        Err(error) => Finding::new(
            Verdict::Bad,
            check,
            format!("{} cannot be looked at: {error}", folder.display()),
            "make the folder, or let this user in",
        ),
    }
}

fn judged(check: &'static str, folder: &Path, free: u64) -> Finding {
    let message = format!("{} has {} MiB free", folder.display(), free >> 20);
    let verdict = match free {
        0..FREE_MIN => Verdict::Bad,
        FREE_MIN..FREE_WARNED => Verdict::Warning,
        _ => return Finding::good(check, message),
    };
    let advice = "free some space: without any nothing more is accepted, and running jobs wait";
    Finding::new(verdict, check, message, advice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn little_room_is_warned_of() {
        let verdict = |free| judged("disk", Path::new("/"), free).verdict;
        assert_eq!(verdict(1 << 20), Verdict::Bad);
        assert_eq!(verdict(100 << 20), Verdict::Warning);
        assert_eq!(verdict(2 << 30), Verdict::Good);
    }
}
