//! Bringing a dead job back: the same question, or a mended one, under a new id in its place.

use chrono::{DateTime, Utc};
use lapidary_schemas::{Job, JobId, Request};
use lapidary_transport::media::MediaError;
use lapidary_transport::queue::QueueError;
use lapidary_transport::results::{DeadLetter, ResultsError};
use lapidary_transport::{Media as _, Queue as _, Results as _};

use crate::catalogue::{self, MendedRecord};
use crate::stores::Stores;
use crate::submission::{self, named_media};

/// Why a dead job was not brought back.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReplayError {
    /// Nobody has died under this id, or it was brought back already.
    #[error("there is no dead letter of job {0}")]
    Unknown(JobId),
    /// There is no job to bring back.
    #[error("job {0} cannot be replayed: its message was unreadable")]
    Unreadable(JobId),
    /// The results store.
    #[error(transparent)]
    Results(#[from] ResultsError),
    /// The queue.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// The media store.
    #[error(transparent)]
    Media(#[from] MediaError),
    /// The mended request cannot be written.
    #[error("the request cannot be written as JSON: {0}")]
    Encode(#[from] serde_json::Error),
}

/// The job of a dead letter.
pub(crate) fn job_of(letter: DeadLetter) -> Result<Job, ReplayError> {
    letter.job.ok_or(ReplayError::Unreadable(letter.job_id))
}

/// A dead letter that is there.
pub(crate) async fn letter(stores: &Stores, id: JobId) -> Result<DeadLetter, ReplayError> {
    let letter = stores.results.dead_letter(id).await?;
    letter.ok_or(ReplayError::Unknown(id))
}

/// Brings a dead job back, with a valid request in the place of the one that failed if one is given, and
/// answers the new job. The letter goes last: a crash before that leaves it
/// there, and replaying again is refused by the store, because the old job has been replaced already.
pub(crate) async fn replay(
    stores: &Stores,
    id: JobId,
    mended: Option<Request>,
    now: DateTime<Utc>,
) -> Result<Job, ReplayError> {
    let dead = job_of(letter(stores, id).await?)?;
    let mut job = Job {
        id: JobId::new(now),
        replaces: Some(dead.id),
        created_at: now,
        deadline: None,
        ..dead
    };
    if let Some(mended) = mended {
        keep(stores, &job, &mended, now).await?;
        job.request = mended;
    }
    stores.results.replace(&job).await?;
    stores.queue.publish(std::slice::from_ref(&job)).await?;
    stores.results.take_dead_letter(id).await?;
    Ok(job)
}

/// Keeps a mended request beside the manifest of its batch, which holds the one that failed.
async fn keep(
    stores: &Stores,
    job: &Job,
    mended: &Request,
    now: DateTime<Utc>,
) -> Result<(), ReplayError> {
    let Some(batch) = job.batch_id else {
        return Ok(());
    };
    let Some(batch) = stores.results.batch(batch).await? else {
        return Ok(());
    };
    let bytes = serde_json::to_vec(mended)?;
    let request = stores.media.put(&job.tenant, bytes).await?;
    let mut pinned: Vec<_> = named_media(mended).collect();
    pinned.push(request.clone());
    stores.media.pin(&job.tenant, batch.id, &pinned).await?;
    let (record, kept) = (MendedRecord { request }, submission::kept(&batch, now));
    catalogue::keep(&stores.results, &job.tenant, job.id.0, &record, kept).await?;
    Ok(())
}
