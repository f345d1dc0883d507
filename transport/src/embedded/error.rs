//! Why the file did not do as told, and what that means at each seam.

use lapidary_schemas::BatchId;
use rusqlite::ErrorCode;

use crate::queue::QueueError;
use crate::results::ResultsError;

/// Why the file did not do as told. Can be cloned, because one failed commit answers many callers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum StoreError {
    /// The file system has no room.
    #[error("{0}")]
    Full(String),
    /// It may work later.
    #[error("{0}")]
    Unavailable(String),
    /// It will not work until somebody acts.
    #[error("{0}")]
    Unusable(String),
    /// The call contradicts what is stored.
    #[error("{0}")]
    Conflict(String),
    /// No such batch.
    #[error("there is no batch {0}")]
    NoSuchBatch(BatchId),
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        let message = error.to_string();
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::Full(message),
            Some(
                ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::OperationInterrupted
                | ErrorCode::OutOfMemory
                | ErrorCode::SystemIoFailure,
            ) => Self::Unavailable(message),
            _ => Self::Unusable(message),
        }
    }
}

impl StoreError {
    /// A stored text that this program did not write.
    pub(crate) fn unreadable(what: &str, error: &serde_json::Error) -> Self {
        Self::Unusable(format!("stored {what} cannot be read: {error}"))
    }

    /// As the queue says it.
    pub(crate) fn into_queue(self, url: &str) -> QueueError {
        match self {
            Self::Full(message) => QueueError::StorageFull { message },
            Self::Unavailable(message) => QueueError::Unreachable {
                url: url.to_owned(),
                message,
            },
            other => QueueError::Unusable {
                message: format!("{other} ({url})"),
            },
        }
    }

    /// As the results store says it.
    pub(crate) fn into_results(self, url: &str) -> ResultsError {
        match self {
            Self::Full(message) => ResultsError::StorageFull { message },
            Self::Unavailable(message) => ResultsError::Unreachable {
                url: url.to_owned(),
                message,
            },
            Self::Unusable(message) => ResultsError::Unusable {
                message: format!("{message} ({url})"),
            },
            Self::Conflict(message) => ResultsError::Conflict { message },
            Self::NoSuchBatch(batch_id) => ResultsError::NoSuchBatch { batch_id },
        }
    }
}
