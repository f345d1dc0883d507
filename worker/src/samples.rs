//! A job for tests of what is in one.

use chrono::DateTime;
use lapidary_schemas::{Class, Job, JobId, Request, Work};

/// A job with this request; everything else of it is plain.
pub(crate) fn job(request: Request) -> Job {
    Job {
        version: lapidary_schemas::job::ENVELOPE_VERSION,
        id: JobId(uuid::Uuid::nil()),
        replaces: None,
        batch_id: None,
        item: None,
        custom_id: None,
        tenant: "t".to_owned(),
        model: "m".to_owned(),
        class: Class::Bulk,
        work: Work::Chat,
        attempts_max: 1,
        created_at: DateTime::UNIX_EPOCH,
        deadline: None,
        traceparent: None,
        request,
    }
}
