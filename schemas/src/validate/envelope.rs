//! Rules of what a request travels in: the job's envelope, a manifest's item, a batch.

use super::{Policy, ValidRequest, invalid, validate};
use crate::batch::{Batch, ManifestItem};
use crate::failure::Failure;
use crate::job::{ENVELOPE_VERSION, Job, Work};
use crate::limits::{ATTEMPTS_MAX, CUSTOM_ID_BYTES_MAX, NAME_BYTES_MAX, RETENTION_MAX_S};

/// Checks a job whole: its envelope, and its request against the policy.
pub fn validate_job(job: &Job, policy: &Policy) -> Result<ValidRequest, Failure> {
    if job.version != ENVELOPE_VERSION {
        return Err(invalid(format!(
            "job {} has envelope version {}, this build reads version {ENVELOPE_VERSION}",
            job.id, job.version
        )));
    }
    check_name("tenant", &job.tenant)?;
    check_name("model", &job.model)?;
    if let Some(custom_id) = &job.custom_id {
        validate_custom_id(custom_id)?;
    }
    check_attempts(job.attempts_max)?;
    check_deadline("job", job.created_at, job.deadline)?;
    if job.batch_id.is_some() != job.item.is_some() {
        return Err(invalid(
            "a job has either both `batch_id` and `item` or neither of them".to_owned(),
        ));
    }
    check_work(job.work, policy)?;
    validate(&job.request, policy)
}

/// Checks one item of a batch's manifest.
pub fn validate_item(item: &ManifestItem, policy: &Policy) -> Result<ValidRequest, Failure> {
    validate_custom_id(&item.custom_id)?;
    check_work(item.work, policy)?;
    validate(&item.request, policy)
}

/// Checks the record of a batch.
pub fn validate_batch(batch: &Batch) -> Result<(), Failure> {
    check_name("tenant", &batch.tenant)?;
    check_name("model", &batch.model)?;
    check_attempts(batch.attempts_max)?;
    check_deadline("batch", batch.created_at, batch.deadline)?;
    if batch.retention_s == 0 || batch.retention_s > RETENTION_MAX_S {
        return Err(invalid(format!(
            "`retention_s` is {}, the limit is 1 to {RETENTION_MAX_S}",
            batch.retention_s
        )));
    }
    check_metadata(batch)
}

/// Checks the submitter's own name of an item.
pub fn validate_custom_id(custom_id: &str) -> Result<(), Failure> {
    if custom_id.is_empty() {
        return Err(invalid("`custom_id` is empty".to_owned()));
    }
    if custom_id.len() > CUSTOM_ID_BYTES_MAX {
        return Err(invalid(format!(
            "`custom_id` is {} bytes, the limit is {CUSTOM_ID_BYTES_MAX}",
            custom_id.len()
        )));
    }
    Ok(())
}

/// A tenant's or a model's name becomes part of queue names, paths and labels: letters, digits and
/// `-_.:/@`, and no `..`.
pub fn check_name(field: &str, name: &str) -> Result<(), Failure> {
    if name.is_empty() {
        return Err(invalid(format!("`{field}` is empty")));
    }
    if name.len() > NAME_BYTES_MAX {
        return Err(invalid(format!(
            "`{field}` is {} bytes, the limit is {NAME_BYTES_MAX}",
            name.len()
        )));
    }
    let strange = |symbol: &char| !symbol.is_ascii_alphanumeric() && !"-_.:/@".contains(*symbol);
    if let Some(symbol) = name.chars().find(strange) {
        return Err(invalid(format!(
            "`{field}` has {symbol:?}, it may have ASCII letters, digits and `-_.:/@`"
        )));
    }
    if name.contains("..") {
        return Err(invalid(format!(
            "`{field}` is `{name}`, it may not have `..`"
        )));
    }
    Ok(())
}

fn check_attempts(attempts_max: u32) -> Result<(), Failure> {
    if (1..=ATTEMPTS_MAX).contains(&attempts_max) {
        return Ok(());
    }
    Err(invalid(format!(
        "`attempts_max` is {attempts_max}, the limit is 1 to {ATTEMPTS_MAX}"
    )))
}

fn check_deadline(
    what: &str,
    created_at: chrono::DateTime<chrono::Utc>,
    deadline: Option<chrono::DateTime<chrono::Utc>>,
) -> Result<(), Failure> {
    match deadline {
        Some(deadline) if deadline <= created_at => Err(invalid(format!(
            "{what} has the deadline {}, it must be after its creation at {}",
            deadline.to_rfc3339(),
            created_at.to_rfc3339()
        ))),
        _ => Ok(()),
    }
}

fn check_work(work: Work, policy: &Policy) -> Result<(), Failure> {
    if policy.work.contains(&work) {
        return Ok(());
    }
    Err(invalid(format!(
        "work `{}` is not served by `{}`",
        work.as_str(),
        policy.model
    )))
}

/// As much as the batch APIs of others take: few enough to keep with every batch.
fn check_metadata(batch: &Batch) -> Result<(), Failure> {
    use crate::limits::{METADATA_KEY_BYTES_MAX, METADATA_PAIRS_MAX, METADATA_VALUE_BYTES_MAX};
    if batch.metadata.len() > METADATA_PAIRS_MAX {
        return Err(invalid(format!(
            "`metadata` has {} pairs, the limit is {METADATA_PAIRS_MAX}",
            batch.metadata.len()
        )));
    }
    for (key, value) in &batch.metadata {
        if key.is_empty() || key.len() > METADATA_KEY_BYTES_MAX {
            return Err(invalid(format!(
                "a key of `metadata` is {} bytes, the limit is 1 to {METADATA_KEY_BYTES_MAX}",
                key.len()
            )));
        }
        if value.len() > METADATA_VALUE_BYTES_MAX {
            return Err(invalid(format!(
                "`metadata` `{key}` is {} bytes, the limit is {METADATA_VALUE_BYTES_MAX}",
                value.len()
            )));
        }
    }
    Ok(())
}
