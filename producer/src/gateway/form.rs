//! Forms (`multipart/form-data`), read part by part while they arrive, within limits.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, StatusCode, header};
use futures::stream::{self, Stream, StreamExt as _};
use multer::{Field, Multipart};

use super::error::{ApiError, Code};
use super::limits::{PARTS_BYTES_MAX, UPLOAD_SILENCE_MAX};

/// What forms are.
pub(super) const KIND: &str = "multipart/form-data";

/// The parts of a form. `taken` is how many bytes of it somebody took out to keep them elsewhere.
pub(super) fn parts(
    headers: &HeaderMap,
    body: Body,
    taken: Arc<AtomicU64>,
) -> Result<Multipart<'static>, ApiError> {
    let written = headers.get(header::CONTENT_TYPE);
    let written = written.and_then(|value| value.to_str().ok());
    let boundary = multer::parse_boundary(written.unwrap_or_default()).map_err(|_| {
        ApiError::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Code::UnsupportedMediaType,
            "the `Content-Type` must be `multipart/form-data` with a boundary",
        )
    })?;
    Ok(Multipart::new(step_by_step(body, taken), boundary))
}

/// It did not go on in time.
pub(super) fn too_slow(within: Duration) -> ApiError {
    ApiError::new(
        StatusCode::REQUEST_TIMEOUT,
        Code::TooSlow,
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

/// The next part, if there is one.
pub(super) async fn next_part<'a>(
    parts: &mut Multipart<'a>,
) -> Result<Option<Field<'a>>, ApiError> {
    match tokio::time::timeout(UPLOAD_SILENCE_MAX, parts.next_field()).await {
        Ok(part) => part.map_err(broken),
        Err(_) => Err(too_slow(UPLOAD_SILENCE_MAX)),
    }
}

/// The next bytes of a part, if there are any.
pub(super) async fn next_chunk(part: &mut Field<'_>) -> Result<Option<Bytes>, ApiError> {
    match tokio::time::timeout(UPLOAD_SILENCE_MAX, part.chunk()).await {
        Ok(chunk) => chunk.map_err(broken),
        Err(_) => Err(too_slow(UPLOAD_SILENCE_MAX)),
    }
}

/// A short part as text.
pub(super) async fn text(mut part: Field<'_>) -> Result<String, ApiError> {
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
    use std::io;

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
