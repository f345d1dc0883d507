//! What travels between programs: jobs, results and announcements mean the same after a journey.
#![no_main]

use std::fmt::Debug;

use lapidary_schemas::batch::{ManifestItem, Shard};
use lapidary_schemas::batch_line::OutputLine;
use lapidary_schemas::validate::{Policy, validate_batch, validate_job};
use lapidary_schemas::{Batch, Failure, Job, JobResult, Progress, WorkerInfo};
use libfuzzer_sys::fuzz_target;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// What is read is written, and read the same again.
fn read<T: DeserializeOwned + Serialize + PartialEq + Debug>(bytes: &[u8]) -> Option<T> {
    let read: T = serde_json::from_slice(bytes).ok()?;
    let written = serde_json::to_vec(&read).expect("what was JSON is JSON");
    assert_eq!(
        serde_json::from_slice::<T>(&written).ok().as_ref(),
        Some(&read)
    );
    Some(read)
}

fuzz_target!(|bytes: &[u8]| {
    if let Some(job) = read::<Job>(bytes) {
        // Valid or refused, as a worker does with what it is given.
        let _ = validate_job(&job, &Policy::text(job.model.clone()));
    }
    if let Some(batch) = read::<Batch>(bytes) {
        let _ = validate_batch(&batch);
    }
    if let Some(result) = read::<JobResult>(bytes) {
        let line = OutputLine::from(&result);
        assert!(line.response.is_some() != line.error.is_some(), "{line:?}");
    }
    read::<ManifestItem>(bytes);
    read::<Shard>(bytes);
    read::<Progress>(bytes);
    read::<WorkerInfo>(bytes);
    read::<Failure>(bytes);
});
