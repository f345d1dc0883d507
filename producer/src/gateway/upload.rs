//! `POST /v1/files`: a file of requests, checked line by line while it arrives.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use chrono::{DateTime, Utc};
use futures::stream::{self, Stream, StreamExt as _};
use lapidary_schemas::BatchId;
use lapidary_schemas::metrics::{self, number};
use multer::{Field, Multipart};
use tokio_util::io::StreamReader;

use super::access::MaySubmit;
use super::error::ApiError;
use super::files::FileObject;
use super::limits::{
    FILE_ITEMS_MAX, FILE_KEPT_S, FILENAME_BYTES_MAX, PARTS_BYTES_MAX, UPLOAD_SILENCE_MAX,
    UPLOAD_TIME_MAX,
};
use super::pieces::Pieces;
use super::{Gateway, Shared};
use crate::catalogue::{self, FileRecord};
use crate::submission::{self, Submission, Terms};

/// Name of a file that was sent without one.
const NAMELESS: &str = "requests.jsonl";

/// Takes a file of requests.
pub(super) async fn create(
    State(gateway): State<Shared>,
    MaySubmit(tenant): MaySubmit,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<FileObject>, ApiError> {
    let _turn = gateway.turn().await?;
    let written = headers.get(header::CONTENT_TYPE);
    let written = written.and_then(|value| value.to_str().ok());
    let boundary = multer::parse_boundary(written.unwrap_or_default()).map_err(|_| {
        ApiError::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported_media_type",
            "the `Content-Type` must be `multipart/form-data` with a boundary",
        )
    })?;
    let taken = Arc::new(AtomicU64::new(0));
    let mut parts = Multipart::new(step_by_step(body, Arc::clone(&taken)), boundary);
    let now = Utc::now();
    let mut upload = Upload {
        gateway: &gateway,
        tenant: &tenant,
        id: BatchId::new(now),
        now,
        has_purpose: false,
        kept_s: *FILE_KEPT_S.end(),
        received: None,
        taken: &taken,
    };
    tokio::time::timeout(UPLOAD_TIME_MAX, upload.read(&mut parts))
        .await
        .map_err(|_| too_slow(UPLOAD_TIME_MAX))??;
    let record = upload.finish().await?;
    let (metrics, bytes) = (&gateway.metrics, number(record.bytes));
    metrics.add(&metrics::UPLOADS, &[], 1.0);
    metrics.add(&metrics::UPLOADED_BYTES, &[], bytes);
    Ok(Json(FileObject::input(upload.id.0, &record)))
}

/// An upload so far.
#[derive(Debug)]
struct Upload<'a> {
    gateway: &'a Gateway,
    tenant: &'a str,
    id: BatchId,
    now: DateTime<Utc>,
    has_purpose: bool,
    kept_s: u64,
    received: Option<(String, Pieces<'a>)>,
    /// Bytes of the file that were taken out of the form.
    taken: &'a AtomicU64,
}

impl Upload<'_> {
    async fn read(&mut self, parts: &mut Multipart<'_>) -> Result<(), ApiError> {
        while let Some(part) = next_part(parts).await? {
            let name = part.name().unwrap_or_default().to_owned();
            match name.as_str() {
                "file" if self.received.is_some() => {
                    return Err(ApiError::parameter("file", "there is more than one `file`"));
                }
                "file" => self.file(part).await?,
                "purpose" => {
                    check_purpose(&text(part).await?)?;
                    self.has_purpose = true;
                }
                "expires_after[anchor]" => {
                    let anchor = text(part).await?;
                    if anchor != "created_at" {
                        let message = format!("it is `{anchor}`, it must be `created_at`");
                        return Err(ApiError::parameter("expires_after[anchor]", message));
                    }
                }
                "expires_after[seconds]" => self.kept_s = kept_s(&text(part).await?)?,
                _ => {
                    let message = format!("`{name}` is no part of an upload");
                    return Err(ApiError::invalid(message));
                }
            }
        }
        if self.has_purpose {
            Ok(())
        } else {
            Err(ApiError::parameter("purpose", "there is no `purpose`"))
        }
    }

    /// Reads the file once: every chunk is kept, and its lines are checked.
    async fn file(&mut self, part: Field<'_>) -> Result<(), ApiError> {
        let filename = part.file_name().unwrap_or(NAMELESS).to_owned();
        if filename.len() > FILENAME_BYTES_MAX {
            let message = format!(
                "its name is {} bytes, the limit is {FILENAME_BYTES_MAX}",
                filename.len()
            );
            return Err(ApiError::parameter("file", message));
        }
        let (stores, taken) = (&self.gateway.stores, self.taken);
        let terms = Terms {
            ceiling: self.gateway.ceiling,
            items_max: FILE_ITEMS_MAX,
            check_only: true,
        };
        let batch = submission::bulk(self.tenant, self.now, None);
        let mut submission = Submission::new(stores.clone(), batch, terms);
        let mut pieces = Pieces::new(&stores.media, self.tenant);
        let chunks = stream::try_unfold((part, &mut pieces), |(mut part, pieces)| async move {
            let next = next_chunk(&mut part).await.map_err(io::Error::other)?;
            let Some(chunk) = next else { return Ok(None) };
            taken.fetch_add(chunk.len() as u64, Ordering::Relaxed);
            pieces.add(&chunk).await.map_err(io::Error::other)?;
            Ok::<_, io::Error>(Some((chunk, (part, pieces))))
        });
        let mut lines = StreamReader::new(Box::pin(chunks));
        submission.read(&mut lines).await?;
        drop(lines);
        let mistakes = submission.mistakes();
        if !mistakes.is_empty() {
            return Err(ApiError::mistakes(mistakes));
        }
        tracing::debug!(
            file = %self.id,
            requests = submission.items_count(),
            model = submission.model(),
            "a file was checked"
        );
        self.received = Some((filename, pieces));
        Ok(())
    }

    /// Keeps the file.
    async fn finish(&mut self) -> Result<FileRecord, ApiError> {
        let (filename, pieces) = self
            .received
            .take()
            .ok_or_else(|| ApiError::parameter("file", "there is no `file`"))?;
        let kept = Duration::from_secs(self.kept_s);
        let record = FileRecord {
            filename,
            bytes: pieces.bytes(),
            created_at: self.now,
            expires_at: self.now + kept,
            pieces: pieces.finish(self.id).await?,
        };
        let results = &self.gateway.stores.results;
        catalogue::keep(results, self.tenant, self.id.0, &record, kept).await?;
        Ok(record)
    }
}

fn check_purpose(purpose: &str) -> Result<(), ApiError> {
    if purpose == "batch" {
        return Ok(());
    }
    let message = format!("`purpose` is `{purpose}`, only `batch` is served");
    Err(ApiError::parameter("purpose", message))
}

fn kept_s(written: &str) -> Result<u64, ApiError> {
    let seconds = written.parse().ok();
    seconds
        .filter(|seconds| FILE_KEPT_S.contains(seconds))
        .ok_or_else(|| {
            let (min, max) = (FILE_KEPT_S.start(), FILE_KEPT_S.end());
            let message = format!("it is `{written}`, it must be from {min} to {max}");
            ApiError::parameter("expires_after[seconds]", message)
        })
}

fn too_slow(within: Duration) -> ApiError {
    ApiError::new(
        StatusCode::REQUEST_TIMEOUT,
        "too_slow",
        format!("the upload did not go on within {within:?}"),
    )
}

/// What broke an upload: this module's own word on it, or the library's.
fn broken(error: multer::Error) -> ApiError {
    match error {
        multer::Error::StreamReadFailed(inner) => match inner.downcast::<ApiError>() {
            Ok(error) => *error,
            Err(error) => ApiError::invalid(format!("the upload broke off: {error}")),
        },
        error => ApiError::invalid(format!("the upload is no form: {error}")),
    }
}

async fn next_part<'a>(parts: &mut Multipart<'a>) -> Result<Option<Field<'a>>, ApiError> {
    match tokio::time::timeout(UPLOAD_SILENCE_MAX, parts.next_field()).await {
        Ok(part) => part.map_err(broken),
        Err(_) => Err(too_slow(UPLOAD_SILENCE_MAX)),
    }
}

async fn next_chunk(part: &mut Field<'_>) -> Result<Option<Bytes>, ApiError> {
    match tokio::time::timeout(UPLOAD_SILENCE_MAX, part.chunk()).await {
        Ok(chunk) => chunk.map_err(broken),
        Err(_) => Err(too_slow(UPLOAD_SILENCE_MAX)),
    }
}

/// A short part as text.
async fn text(mut part: Field<'_>) -> Result<String, ApiError> {
    let mut bytes = Vec::new();
    while let Some(chunk) = next_chunk(&mut part).await? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() as u64 > PARTS_BYTES_MAX {
            let message = format!("a part of the form is over {PARTS_BYTES_MAX} bytes");
            return Err(ApiError::invalid(message));
        }
    }
    String::from_utf8(bytes).map_err(|_| ApiError::invalid("a part of the form is not UTF-8"))
}

/// The body, a chunk at a time. The parser of forms takes in all that is there before it looks at
/// it, and keeps the head of a part until it is whole: so it is told after each chunk that there is
/// no more for now, and what it has and nobody took is bounded.
fn step_by_step(
    body: Body,
    taken: Arc<AtomicU64>,
) -> impl Stream<Item = Result<Bytes, ApiError>> + Send {
    let mut body = body.into_data_stream();
    let (mut pause, mut given) = (false, 0);
    stream::poll_fn(move |context| {
        if std::mem::take(&mut pause) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let Poll::Ready(next) = body.poll_next_unpin(context) else {
            return Poll::Pending;
        };
        pause = true;
        let kept: u64 = given - taken.load(Ordering::Relaxed).min(given);
        Poll::Ready(next.map(|chunk| {
            let chunk = chunk
                .map_err(|error| ApiError::invalid(format!("the upload broke off: {error}")))?;
            given += chunk.len() as u64;
            if kept > PARTS_BYTES_MAX {
                let message = format!("the form is over {PARTS_BYTES_MAX} bytes besides its file");
                return Err(ApiError::invalid(message));
            }
            Ok(chunk)
        }))
    })
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt as _, TryStreamExt as _};

    use super::*;

    #[tokio::test]
    async fn what_nobody_takes_is_bounded() {
        let chunk = Bytes::from_static(&[b'x'; 1024]);
        let chunks = stream::repeat(chunk).map(Ok::<_, io::Error>);
        let taken = Arc::new(AtomicU64::new(0));
        let body = Body::from_stream(chunks);
        let mut steps = Box::pin(step_by_step(body, Arc::clone(&taken)));
        for _ in 0..200 {
            let chunk = steps.next().await.unwrap().unwrap();
            taken.fetch_add(chunk.len() as u64, Ordering::Relaxed);
        }
        let more = steps.try_for_each(|_| async { Ok(()) });
        let message = more.await.unwrap_err().to_string();
        assert!(message.ends_with("besides its file"), "{message}");
    }

    #[test]
    fn a_file_is_kept_for_a_time_within_bounds() {
        assert_eq!(kept_s("3600").unwrap(), 3_600);
        for wrong in ["", "x", "-1", "3599", "2592001"] {
            assert!(kept_s(wrong).is_err(), "{wrong}");
        }
    }

    #[tokio::test]
    async fn a_form_is_never_read_ahead_of_its_parser() {
        let chunk = Bytes::from_static(&[b'x'; 1024]);
        let chunks = stream::iter([chunk.clone(), chunk]).map(Ok::<_, io::Error>);
        let mut steps = Box::pin(step_by_step(Body::from_stream(chunks), Arc::default()));
        let mut step = || steps.next().now_or_never().map(|step| step.is_some());
        let parsers_turn = None;
        let expected = [
            Some(true),
            parsers_turn,
            Some(true),
            parsers_turn,
            Some(false),
        ];
        assert_eq!(expected.map(|_| step()), expected);
    }
}
