//! Jobs, batches and results to test with.

use chrono::Utc;
use lapidary_schemas::batch::Shard;
use lapidary_schemas::job::ENVELOPE_VERSION;
use lapidary_schemas::result::{Timings, Usage};
use lapidary_schemas::{
    Batch, BatchId, Class, Job, JobId, JobResult, MediaRef, Message, Request, Status, Work,
};
use lapidary_transport::Lane;
use lapidary_transport::results::Finished;

/// A job for `model` that belongs to no batch.
pub(crate) fn job(model: &str, class: Class) -> Job {
    let now = Utc::now();
    let messages = vec![Message::user("What is this text about? ".repeat(8))];
    Job {
        version: ENVELOPE_VERSION,
        id: JobId::new(now),
        replaces: None,
        batch_id: None,
        item: None,
        custom_id: Some("a".to_owned()),
        tenant: "tests".to_owned(),
        model: model.to_owned(),
        class,
        work: Work::Chat,
        attempts_max: 3,
        created_at: now,
        deadline: None,
        traceparent: None,
        request: Request {
            messages,
            ..Request::default()
        },
    }
}

/// `count` of them, bulk.
pub(crate) fn jobs(model: &str, count: usize) -> Vec<Job> {
    (0..count).map(|_| job(model, Class::Bulk)).collect()
}

/// The bulk lane of a model.
pub(crate) fn lane(model: &str) -> Lane {
    Lane::Jobs {
        model: model.to_owned(),
        class: Class::Bulk,
    }
}

/// A batch without items.
pub(crate) fn batch() -> Batch {
    let now = Utc::now();
    Batch {
        id: BatchId::new(now),
        tenant: "tests".to_owned(),
        model: "m".to_owned(),
        class: Class::Bulk,
        attempts_max: 3,
        created_at: now,
        deadline: None,
        retention_s: 3_600,
        metadata: std::collections::BTreeMap::new(),
        traceparent: None,
    }
}

/// A shard of a manifest that nobody reads.
pub(crate) fn shard(index: u32, items: u32) -> Shard {
    Shard {
        index,
        items,
        lines: MediaRef {
            sha256: "0".repeat(64),
            bytes: 1,
        },
    }
}

/// A job that is an item of a batch.
pub(crate) fn item(batch: &Batch, item: u64) -> Job {
    Job {
        batch_id: Some(batch.id),
        item: Some(item),
        ..job(&batch.model, batch.class)
    }
}

/// A job's result.
pub(crate) fn result(job: &Job, status: Status) -> JobResult {
    JobResult {
        job_id: job.id,
        batch_id: job.batch_id,
        item: job.item,
        custom_id: job.custom_id.clone(),
        status,
        text: Some("A text about itself.".to_owned()),
        tool_calls: Vec::new(),
        finish_reason: None,
        usage: Usage {
            prompt_tokens: 10,
            completion_tokens: 4,
            ..Usage::default()
        },
        timings: Timings::default(),
        tokens_per_second: None,
        filter: Vec::new(),
        failure: None,
        logprobs: Vec::new(),
        attempt: 1,
        worker: Some("w".to_owned()),
        model: None,
        seed: None,
        finished_at: Utc::now(),
    }
}

/// A job's success, ready to be stored.
pub(crate) fn done(job: &Job) -> Finished {
    Finished {
        result: result(job, Status::Succeeded),
        dead_letter: None,
    }
}
