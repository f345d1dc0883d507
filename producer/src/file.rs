//! Files before anybody reads them: what is refused for its kind or size, and how that is said.

use std::path::Path;

use lapidary_schemas::limits::MEDIA_BYTES_MAX;
use lapidary_schemas::{Failure, FailureCode};

/// Bytes a document may have, as a file and as text.
pub const DOCUMENT_BYTES_MAX: u64 = MEDIA_BYTES_MAX as u64;

/// Refuses what is no regular file, is empty or is too large; returns its size in bytes.
pub(crate) async fn check(path: &Path, name: &str) -> Result<u64, Failure> {
    check_size(regular(path, name).await?, name)
}

/// Refuses what is no regular file; returns its size in bytes.
pub(crate) async fn regular(path: &Path, name: &str) -> Result<u64, Failure> {
    let about = tokio::fs::metadata(path)
        .await
        .map_err(|error| unreadable(name, &error))?;
    if !about.is_file() {
        return Err(Failure::new(
            FailureCode::MediaUnreachable,
            format!("{name} is not a regular file"),
        ));
    }
    Ok(about.len())
}

/// Refuses what is empty or too large.
pub(crate) fn check_size(bytes: u64, name: &str) -> Result<u64, Failure> {
    match bytes {
        0 => Err(invalid(format!("{name} is empty"))),
        bytes if bytes > DOCUMENT_BYTES_MAX => Err(too_large(name, bytes)),
        bytes => Ok(bytes),
    }
}

/// The file cannot be opened or read.
pub(crate) fn unreadable(name: &str, error: &std::io::Error) -> Failure {
    let reason = match error.kind() {
        std::io::ErrorKind::NotFound => "it does not exist".to_owned(),
        std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    };
    Failure::new(
        FailureCode::MediaUnreachable,
        format!("cannot read {name}: {reason}"),
    )
}

/// The file is not what it claims to be.
pub(crate) fn invalid(message: String) -> Failure {
    Failure::new(FailureCode::MediaInvalid, message)
}

/// The file or its text is over the limit.
pub(crate) fn too_large(name: &str, bytes: u64) -> Failure {
    Failure::new(
        FailureCode::MediaTooLarge,
        format!("{name} is {bytes} bytes, the limit of a document is {DOCUMENT_BYTES_MAX}"),
    )
}
