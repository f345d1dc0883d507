//! Names of things as clients see them: a word for the kind, and the id.

use lapidary_schemas::{BatchId, JobId};
use uuid::Uuid;

/// What is no id of its kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no {kind} `{written}`")]
pub(super) struct NoSuch {
    /// The kind.
    pub(super) kind: &'static str,
    /// What was written.
    pub(super) written: String,
}

impl NoSuch {
    fn new(kind: &'static str, written: &str) -> Self {
        Self {
            kind,
            written: written.to_owned(),
        }
    }
}

/// A file: uploaded, or made of a batch's results.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileId {
    /// Requests that were uploaded.
    Input(Uuid),
    /// A batch's answers.
    Output(BatchId),
    /// A batch's failures.
    Errors(BatchId),
}

impl std::fmt::Display for FileId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Input(id) => write!(f, "file-{}", id.simple()),
            Self::Output(batch) => write!(f, "file-output-{}", batch.0.simple()),
            Self::Errors(batch) => write!(f, "file-error-{}", batch.0.simple()),
        }
    }
}

/// Reads the id of a file.
pub(super) fn file(written: &str) -> Result<FileId, NoSuch> {
    let (kind, id) = written.rsplit_once('-').unwrap_or_default();
    let id = simple(id).ok_or_else(|| NoSuch::new("file", written))?;
    match kind {
        "file" => Ok(FileId::Input(id)),
        "file-output" => Ok(FileId::Output(BatchId(id))),
        "file-error" => Ok(FileId::Errors(BatchId(id))),
        _ => Err(NoSuch::new("file", written)),
    }
}

/// The written id of a batch.
pub(super) fn of_batch(batch: BatchId) -> String {
    format!("batch_{}", batch.0.simple())
}

/// Reads the id of a batch.
pub(super) fn batch(written: &str) -> Result<BatchId, NoSuch> {
    let id = written.strip_prefix("batch_").and_then(simple);
    id.map(BatchId).ok_or_else(|| NoSuch::new("batch", written))
}

/// The written id of a job.
pub(super) fn of_job(job: JobId) -> String {
    format!("job_{}", job.0.simple())
}

/// Reads the id of a job.
pub(super) fn job(written: &str) -> Result<JobId, NoSuch> {
    let id = written.strip_prefix("job_").and_then(simple);
    id.map(JobId).ok_or_else(|| NoSuch::new("job", written))
}

/// The written id of a webhook.
pub(super) fn of_webhook(webhook: Uuid) -> String {
    format!("wh_{}", webhook.simple())
}

/// Reads the id of a webhook.
pub(super) fn webhook(written: &str) -> Result<Uuid, NoSuch> {
    let id = written.strip_prefix("wh_").and_then(simple);
    id.ok_or_else(|| NoSuch::new("webhook", written))
}

/// The written id of a delivery.
pub(super) fn of_message(delivery: Uuid) -> String {
    format!("msg_{}", delivery.simple())
}

/// Reads the id of a delivery.
pub(super) fn message(written: &str) -> Result<Uuid, NoSuch> {
    let id = written.strip_prefix("msg_").and_then(simple);
    id.ok_or_else(|| NoSuch::new("delivery", written))
}

/// An id in the one form that is written.
fn simple(text: &str) -> Option<Uuid> {
    let id: Uuid = text.parse().ok()?;
    (id.simple().to_string() == text).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_one_form() {
        let id: Uuid = "01980000-0000-7000-8000-000000000000".parse().unwrap();
        for one in [
            FileId::Input(id),
            FileId::Output(BatchId(id)),
            FileId::Errors(BatchId(id)),
        ] {
            assert_eq!(file(&one.to_string()).unwrap(), one);
        }
        assert_eq!(batch(&of_batch(BatchId(id))).unwrap(), BatchId(id));
        assert_eq!(job(&of_job(JobId(id))).unwrap(), JobId(id));
        for wrong in [
            "",
            "file-",
            "file-x",
            "file-01980000-0000-7000-8000-000000000000",
            "batch_01980000000070008000000000000000",
            "file-other-01980000000070008000000000000000",
            "file-019800000000700080000000000000AA",
        ] {
            assert!(file(wrong).is_err(), "{wrong}");
        }
    }
}
