//! One row a rule of the envelope and of the batch, with the exact message it earns.

use chrono::{DateTime, Utc};
use serde_json::json;

use super::tests::{hello, policy, request};
use super::*;
use crate::batch::{Batch, BatchId};
use crate::job::{Class, Job, JobId};

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
}

fn job() -> Job {
    Job {
        version: 1,
        id: JobId::new(at(0)),
        replaces: None,
        batch_id: None,
        item: None,
        custom_id: None,
        tenant: "acme".to_owned(),
        model: "gemma".to_owned(),
        class: Class::Interactive,
        work: Work::Chat,
        attempts_max: 3,
        created_at: at(0),
        deadline: None,
        traceparent: None,
        request: request(&json!({ "messages": hello() })),
    }
}

#[test]
fn rules_of_the_envelope() {
    assert!(validate_job(&job(), &policy()).is_ok());
    let id = JobId::new(at(0));
    for (bad, message) in [
        (
            Job {
                version: 2,
                id,
                ..job()
            },
            format!("job {id} has envelope version 2, this build reads version 1"),
        ),
        (
            Job {
                tenant: String::new(),
                ..job()
            },
            "`tenant` is empty".to_owned(),
        ),
        (
            Job {
                tenant: "t".repeat(129),
                ..job()
            },
            "`tenant` is 129 bytes, the limit is 128".to_owned(),
        ),
        (
            Job {
                model: "gemma 3".to_owned(),
                ..job()
            },
            "`model` has ' ', it may have ASCII letters, digits and `-_.:/@`".to_owned(),
        ),
        (
            Job {
                tenant: "../etc".to_owned(),
                ..job()
            },
            "`tenant` is `../etc`, it may not have `..`".to_owned(),
        ),
    ] {
        assert_eq!(validate_job(&bad, &policy()).unwrap_err().message, message);
    }
}

#[test]
fn rules_of_what_a_job_may_ask() {
    for (bad, message) in [
        (
            Job {
                custom_id: Some(String::new()),
                ..job()
            },
            "`custom_id` is empty".to_owned(),
        ),
        (
            Job {
                custom_id: Some("c".repeat(4097)),
                ..job()
            },
            "`custom_id` is 4097 bytes, the limit is 4096".to_owned(),
        ),
        (
            Job {
                attempts_max: 0,
                ..job()
            },
            "`attempts_max` is 0, the limit is 1 to 20".to_owned(),
        ),
        (
            Job {
                attempts_max: 21,
                ..job()
            },
            "`attempts_max` is 21, the limit is 1 to 20".to_owned(),
        ),
        (
            Job {
                deadline: Some(at(0)),
                ..job()
            },
            "job has the deadline 2027-01-15T08:00:00+00:00, it must be after its creation at \
             2027-01-15T08:00:00+00:00"
                .to_owned(),
        ),
        (
            Job {
                item: Some(3),
                ..job()
            },
            "a job has either both `batch_id` and `item` or neither of them".to_owned(),
        ),
        (
            Job {
                work: Work::Moderation,
                ..job()
            },
            "work `moderation` is not served by `gemma`".to_owned(),
        ),
    ] {
        assert_eq!(validate_job(&bad, &policy()).unwrap_err().message, message);
    }
}

#[test]
fn rules_of_a_batch() {
    let good = Batch {
        id: BatchId::new(at(0)),
        tenant: "acme".to_owned(),
        model: "gemma".to_owned(),
        class: Class::Bulk,
        attempts_max: 3,
        created_at: at(0),
        deadline: Some(at(1)),
        retention_s: limits::RETENTION_DEFAULT_S,
        metadata: [("run".to_owned(), "7".to_owned())].into(),
        traceparent: None,
    };
    assert_eq!(validate_batch(&good), Ok(()));
    let metadata = |key: &str, value: &str| [(key.to_owned(), value.to_owned())].into();
    for (bad, message) in [
        (
            Batch {
                retention_s: 0,
                ..good.clone()
            },
            "`retention_s` is 0, the limit is 1 to 315360000",
        ),
        (
            Batch {
                metadata: metadata("", ""),
                ..good.clone()
            },
            "a key of `metadata` is 0 bytes, the limit is 1 to 64",
        ),
        (
            Batch {
                metadata: metadata("k", &"v".repeat(2049)),
                ..good.clone()
            },
            "`metadata` `k` is 2049 bytes, the limit is 2048",
        ),
        (
            Batch {
                metadata: (0..17)
                    .map(|key| (key.to_string(), String::new()))
                    .collect(),
                ..good.clone()
            },
            "`metadata` has 17 pairs, the limit is 16",
        ),
    ] {
        assert_eq!(validate_batch(&bad).unwrap_err().message, message);
    }
}
