//! Jobs, batches and results to examine makers with.

use chrono::Utc;
use lapidary_schemas::batch::Shard;
use lapidary_schemas::job::ENVELOPE_VERSION;
use lapidary_schemas::result::{Timings, Usage};
use lapidary_schemas::{
    Batch, BatchId, Class, Failure, FailureCode, Job, JobId, JobResult, MediaRef, Message, Request,
    Status, Work,
};

use crate::Lane;
use crate::results::{DeadLetter, Finished};

/// A model's name that no other case uses.
pub fn model() -> String {
    format!("model-{}", JobId::new(Utc::now()))
}

/// A lane of a model.
pub fn lane(model: &str, class: Class) -> Lane {
    Lane::Jobs {
        model: model.to_owned(),
        class,
    }
}

/// A job for `model` that belongs to no batch.
pub fn job(model: &str, class: Class) -> Job {
    let now = Utc::now();
    let messages = vec![Message::user("What is this text about?")];
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
pub fn jobs(model: &str, count: usize) -> Vec<Job> {
    (0..count).map(|_| job(model, Class::Bulk)).collect()
}

/// A batch without items.
pub fn batch() -> Batch {
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
pub fn shard(index: u32, items: u32) -> Shard {
    Shard {
        index,
        items,
        lines: MediaRef {
            sha256: format!("{index:064x}"),
            bytes: 1,
        },
    }
}

/// A job that is an item of a batch.
pub fn item(batch: &Batch, item: u64) -> Job {
    let custom_id = Some(format!("item-{item}"));
    Job {
        batch_id: Some(batch.id),
        item: Some(item),
        custom_id,
        ..job(&batch.model, batch.class)
    }
}

/// A job's result, of 10 tokens read and 4 written where it succeeded.
pub fn result(job: &Job, status: Status) -> JobResult {
    let succeeded = status == Status::Succeeded;
    let usage = Usage {
        prompt_tokens: 10,
        completion_tokens: 4,
        ..Usage::default()
    };
    JobResult {
        job_id: job.id,
        batch_id: job.batch_id,
        item: job.item,
        custom_id: job.custom_id.clone(),
        status,
        text: succeeded.then(|| "A text about itself.".to_owned()),
        tool_calls: Vec::new(),
        finish_reason: None,
        usage: if succeeded { usage } else { Usage::default() },
        timings: Timings::default(),
        tokens_per_second: None,
        filter: Vec::new(),
        failure: (!succeeded).then(|| Failure::new(FailureCode::Internal, "of no use")),
        logprobs: Vec::new(),
        attempt: 1,
        worker: Some("w".to_owned()),
        model: None,
        seed: None,
        finished_at: Utc::now(),
    }
}

/// A job's end, ready to be stored.
pub fn ended(job: &Job, status: Status) -> Finished {
    Finished {
        result: result(job, status),
        dead_letter: None,
    }
}

/// A job's success, ready to be stored.
pub fn done(job: &Job) -> Finished {
    ended(job, Status::Succeeded)
}

/// A job's death, ready to be stored.
pub fn dead(job: &Job, reason: &str) -> Finished {
    let letter = DeadLetter {
        job_id: job.id,
        job: Some(job.clone()),
        body: None,
        reason: reason.to_owned(),
        attempts: 3,
        at: Utc::now(),
    };
    Finished {
        result: result(job, Status::Failed),
        dead_letter: Some(letter),
    }
}
