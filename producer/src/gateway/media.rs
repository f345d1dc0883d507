//! `POST /v1/media`: a picture or a text that requests name instead of carrying it.

use std::borrow::Cow;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use axum::Json;
use axum::body::Body;
use axum::extract::{FromRequest, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use chrono::Utc;
use lapidary_schemas::limits::MEDIA_BYTES_MAX;
use lapidary_schemas::{Failure, FailureCode, MediaRef};
use lapidary_transport::Media as _;
use lapidary_transport::media::UNPINNED_KEPT;
use multer::Field;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::access::MaySubmit;
use super::describe::{Input, Operation, bytes};
use super::error::{ApiError, Code};
use super::limits::{MEDIA_TIME_MAX, PARTS_BYTES_MAX};
use super::once::{Key, Made};
use super::{Shared, body, form};
use crate::picture;

/// The type of bytes that nobody says anything of.
pub(super) const UNTYPED: &str = "application/octet-stream";
/// What stands for a text.
const TEXT: &str = "text/plain; charset=utf-8";

/// What was sent: what it is said to be, and its bytes.
struct Sent {
    declared: String,
    bytes: Vec<u8>,
}

/// Media as clients see it.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub(super) struct MediaObject {
    /// What requests name.
    id: String,
    object: Cow<'static, str>,
    bytes: u64,
    /// What it was found to be.
    media_type: Cow<'static, str>,
    created_at: i64,
    expires_at: i64,
}

/// Media on its way in.
#[derive(Debug)]
pub(super) struct Sending(Body);

impl FromRequest<Shared> for Sending {
    type Rejection = Infallible;

    async fn from_request(request: Request, _: &Shared) -> Result<Self, Infallible> {
        Ok(Self(request.into_body()))
    }
}

impl Input for Sending {
    fn describe(operation: &mut Operation<'_>) {
        let form = json!({
            "type": "object",
            "properties": {"file": bytes()},
            "required": ["file"],
            "additionalProperties": false,
        });
        operation.takes_body(vec![
            (UNTYPED, bytes()),
            ("image/*", bytes()),
            ("text/*", bytes()),
            (form::KIND, form),
        ]);
    }
}

/// Stores what is sent, as the body or as the part `file` of a form.
pub(super) async fn create(
    State(gateway): State<Shared>,
    MaySubmit(tenant): MaySubmit,
    key: Key,
    headers: HeaderMap,
    Sending(body): Sending,
) -> Result<Json<MediaObject>, ApiError> {
    let declared = headers.get(header::CONTENT_TYPE);
    let declared = declared.map_or(Ok(UNTYPED), |value| value.to_str().map_err(|_| unread("")))?;
    let is_form = essence(declared) == form::KIND;
    let form_bytes = usize::try_from(PARTS_BYTES_MAX).unwrap_or(0);
    let bytes_max = MEDIA_BYTES_MAX + if is_form { form_bytes } else { 0 };
    let _room = body::body_room(&gateway, &headers, bytes_max)?;
    let sent = if is_form {
        let reading = of_form(&headers, body);
        let read = tokio::time::timeout(MEDIA_TIME_MAX, reading).await;
        read.map_err(|_| form::too_slow(MEDIA_TIME_MAX))??
    } else {
        Sent {
            declared: declared.to_owned(),
            bytes: body::whole(body, bytes_max, MEDIA_TIME_MAX).await?.into(),
        }
    };
    let kind = kind(essence(&sent.declared), &sent.bytes)?;
    let media = gateway.stores.media.put(&tenant, sent.bytes).await?;
    // The same bytes are the same media; what a key adds is that it stands for nothing else.
    let bound = key.bind(&tenant, "media", media.to_string().as_bytes());
    let object = object(&media, kind);
    let written = serde_json::to_string(&object).map_err(|error| ApiError::fault(&error))?;
    let making = async move { Ok((written, object)) };
    match gateway.once(bound, making).await? {
        Made::Now(object) => Ok(Json(object)),
        Made::Before(object) => serde_json::from_str(&object)
            .map(Json)
            .map_err(|error| ApiError::fault(&error)),
    }
}

/// As clients see it; its id is what requests name.
fn object(media: &MediaRef, kind: &'static str) -> MediaObject {
    let now = Utc::now();
    MediaObject {
        id: media.to_string(),
        object: "media".into(),
        bytes: media.bytes,
        media_type: kind.into(),
        created_at: now.timestamp(),
        expires_at: (now + UNPINNED_KEPT).timestamp(),
    }
}

async fn of_form(headers: &HeaderMap, body: Body) -> Result<Sent, ApiError> {
    // All of the form is the file, and that has a limit of its own.
    let taken = Arc::new(AtomicU64::new(0));
    let mut parts = form::parts(headers, body, Arc::clone(&taken))?;
    let mut sent = None;
    while let Some(part) = form::next_part(&mut parts).await? {
        let name = part.name().unwrap_or_default();
        if name != "file" {
            let message = format!("`{name}` is no part of media");
            return Err(ApiError::invalid(message));
        }
        if sent.is_some() {
            return Err(ApiError::parameter("file", "there is more than one `file`"));
        }
        sent = Some(of_part(part, &taken).await?);
    }
    sent.ok_or_else(|| ApiError::parameter("file", "there is no `file`"))
}

async fn of_part(mut part: Field<'_>, taken: &AtomicU64) -> Result<Sent, ApiError> {
    let declared = part
        .content_type()
        .map_or(UNTYPED, |kind| kind.essence_str());
    let declared = declared.to_owned();
    let mut bytes = Vec::new();
    while let Some(chunk) = form::next_chunk(&mut part).await? {
        taken.fetch_add(chunk.len() as u64, std::sync::atomic::Ordering::Relaxed);
        if bytes.len() + chunk.len() > MEDIA_BYTES_MAX {
            return Err(body::too_large(MEDIA_BYTES_MAX));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(Sent { declared, bytes })
}

/// A media type without its parameters.
fn essence(declared: &str) -> &str {
    declared.split(';').next().unwrap_or_default().trim()
}

/// What the bytes are, which must be of the kind that they are said to be: a picture that workers
/// decode, or a text.
fn kind(declared: &str, bytes: &[u8]) -> Result<&'static str, ApiError> {
    let text = || std::str::from_utf8(bytes).is_ok_and(|text| !text.contains('\0'));
    let wrong = |message: String| Failure::new(FailureCode::MediaInvalid, message).into();
    if bytes.is_empty() {
        return Err(wrong("there are no bytes in it".to_owned()));
    }
    match declared.split('/').next() {
        Some("image") => picture::format(bytes)
            .map(|format| format.to_mime_type())
            .map_err(|reason| wrong(format!("it {reason}"))),
        Some("text") if text() => Ok(TEXT),
        Some("text") => Err(wrong("it is no UTF-8 text".to_owned())),
        _ if declared != UNTYPED => Err(unread(declared)),
        _ => match picture::format(bytes) {
            Ok(format) => Ok(format.to_mime_type()),
            Err(_) if text() => Ok(TEXT),
            Err(reason) => Err(wrong(format!("it {reason}, and is no UTF-8 text"))),
        },
    }
}

fn unread(declared: &str) -> ApiError {
    let message = format!(
        "the `Content-Type` is `{declared}`, it must be `image/…`, `text/…`, `{UNTYPED}` or a form"
    );
    let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
    ApiError::new(status, Code::UnsupportedMediaType, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";

    #[test]
    fn what_it_is_is_shown_by_its_content() {
        for (declared, bytes, is) in [
            ("image/png", PNG, "image/png"),
            // The name is wrong, the kind is right.
            ("image/jpeg", PNG, "image/png"),
            (UNTYPED, PNG, "image/png"),
            (UNTYPED, "Grüße".as_bytes(), TEXT),
            // A text that begins like a picture is one if that is said.
            ("text/plain", b"BM", TEXT),
        ] {
            assert_eq!(kind(declared, bytes).unwrap(), is, "{declared}");
        }
    }

    #[test]
    fn what_it_is_not_is_refused() {
        for (declared, bytes, why) in [
            ("image/png", &b"hello"[..], "it begins like no JPEG"),
            ("image/svg+xml", b"<svg>", "it is SVG"),
            ("text/plain", PNG, "it is no UTF-8 text"),
            ("text/plain", b"a\0", "it is no UTF-8 text"),
            (UNTYPED, b"\xff\xff", "and is no UTF-8 text"),
            (UNTYPED, b"", "there are no bytes in it"),
            ("application/pdf", b"%PDF-1.7", "it must be `image/…`"),
        ] {
            let error = kind(declared, bytes).unwrap_err().to_string();
            assert!(error.contains(why), "{declared}: {error}");
        }
    }
}
