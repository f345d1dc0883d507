//! `POST /v1/files`: a file of requests, checked line by line while it arrives.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{FromRequest, Request, State};
use axum::http::HeaderMap;
use chrono::{DateTime, Utc};
use futures::stream;
use lapidary_schemas::metrics::{self, number};
use lapidary_schemas::{BatchId, MediaRef};
use lapidary_transport::Media as _;
use multer::{Field, Multipart};
use serde_json::json;
use tokio_util::io::StreamReader;

use super::access::MaySubmit;
use super::describe::{Input, Operation};
use super::error::ApiError;
use super::files::{self, FileObject, PURPOSE};
use super::form::{self, next_chunk, next_part, text, too_slow};
use super::ids::FileId;
use super::limits::{FILE_ITEMS_MAX, FILE_KEPT_S, FILENAME_BYTES_MAX, UPLOAD_TIME_MAX};
use super::once::{Key, Made};
use super::pieces::Pieces;
use super::{Gateway, Shared};
use crate::catalogue::{self, FileRecord};
use crate::submission::{self, Submission, Terms};

/// Parts of an upload.
const FILE_PART: &str = "file";
const PURPOSE_PART: &str = "purpose";
const ANCHOR_PART: &str = "expires_after[anchor]";
const SECONDS_PART: &str = "expires_after[seconds]";
/// From when on the seconds count for which a file is kept.
const ANCHOR: &str = "created_at";
/// Name of a file that was sent without one.
const NAMELESS: &str = "requests.jsonl";

/// A file on its way in.
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
        let (min, max) = (FILE_KEPT_S.start(), FILE_KEPT_S.end());
        let form = json!({
            "type": "object",
            "properties": {
                PURPOSE_PART: {"const": PURPOSE},
                FILE_PART: {
                    "type": "string",
                    "format": "binary",
                    "description": "JSON lines, each a request.",
                },
                ANCHOR_PART: {"const": ANCHOR},
                SECONDS_PART: {"type": "integer", "minimum": min, "maximum": max},
            },
            "required": [PURPOSE_PART, FILE_PART],
            "additionalProperties": false,
        });
        operation.takes_body(vec![(form::KIND, form)]);
    }
}

/// Takes a file of requests.
pub(super) async fn create(
    State(gateway): State<Shared>,
    MaySubmit(tenant): MaySubmit,
    key: Key,
    headers: HeaderMap,
    Sending(body): Sending,
) -> Result<Json<FileObject>, ApiError> {
    let _turn = gateway.turn().await?;
    let taken = Arc::new(AtomicU64::new(0));
    let mut parts = form::parts(&headers, body, Arc::clone(&taken))?;
    let mut upload = Upload {
        gateway: &gateway,
        tenant: &tenant,
        now: Utc::now(),
        has_purpose: false,
        kept_s: *FILE_KEPT_S.end(),
        received: None,
        taken: &taken,
    };
    tokio::time::timeout(UPLOAD_TIME_MAX, upload.read(&mut parts))
        .await
        .map_err(|_| too_slow(UPLOAD_TIME_MAX))??;
    let (record, media) = upload.stored().await?;
    let content = format!("{} {} {}", record.filename, upload.kept_s, record.pieces);
    let bound = key.bind(&tenant, "files", content.as_bytes());
    let (id, kept) = (BatchId::new(upload.now), Duration::from_secs(upload.kept_s));
    let (stores, owner) = (gateway.stores.clone(), tenant.clone());
    let bytes = number(record.bytes);
    let making = async move {
        stores.media.pin(&owner, id, &media).await?;
        catalogue::keep(&stores.results, &owner, id.0, &record, kept).await?;
        let object = FileObject::input(id.0, &record);
        Ok((FileId::Input(id.0).to_string(), object))
    };
    match gateway.once(bound, making).await? {
        Made::Now(object) => {
            gateway.metrics.add(&metrics::UPLOADS, &[], 1.0);
            gateway.metrics.add(&metrics::UPLOADED_BYTES, &[], bytes);
            Ok(Json(object))
        }
        Made::Before(id) => files::shown(&gateway, &tenant, &id).await.map(Json),
    }
}

/// An upload so far.
#[derive(Debug)]
struct Upload<'a> {
    gateway: &'a Gateway,
    tenant: &'a str,
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
                FILE_PART if self.received.is_some() => {
                    return Err(ApiError::parameter("file", "there is more than one `file`"));
                }
                FILE_PART => self.file(part).await?,
                PURPOSE_PART => {
                    check_purpose(&text(part).await?)?;
                    self.has_purpose = true;
                }
                ANCHOR_PART => {
                    let anchor = text(part).await?;
                    if anchor != ANCHOR {
                        let message = format!("it is `{anchor}`, it must be `{ANCHOR}`");
                        return Err(ApiError::parameter(ANCHOR_PART, message));
                    }
                }
                SECONDS_PART => self.kept_s = kept_s(&text(part).await?)?,
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
            requests = submission.items_count(),
            model = submission.model(),
            "a file was checked"
        );
        self.received = Some((filename, pieces));
        Ok(())
    }

    /// The file as it rests in the media store, and all that it consists of; nobody knows of it so far.
    async fn stored(&mut self) -> Result<(FileRecord, Vec<MediaRef>), ApiError> {
        let (filename, pieces) = self
            .received
            .take()
            .ok_or_else(|| ApiError::parameter("file", "there is no `file`"))?;
        let bytes = pieces.bytes();
        let (list, media) = pieces.store().await?;
        let record = FileRecord {
            filename,
            bytes,
            created_at: self.now,
            expires_at: self.now + Duration::from_secs(self.kept_s),
            pieces: list,
        };
        Ok((record, media))
    }
}

fn check_purpose(purpose: &str) -> Result<(), ApiError> {
    if purpose == PURPOSE {
        return Ok(());
    }
    let message = format!("`purpose` is `{purpose}`, only `{PURPOSE}` is served");
    Err(ApiError::parameter("purpose", message))
}

fn kept_s(written: &str) -> Result<u64, ApiError> {
    let seconds = written.parse().ok();
    seconds
        .filter(|seconds| FILE_KEPT_S.contains(seconds))
        .ok_or_else(|| {
            let (min, max) = (FILE_KEPT_S.start(), FILE_KEPT_S.end());
            let message = format!("it is `{written}`, it must be from {min} to {max}");
            ApiError::parameter(SECONDS_PART, message)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_kept_for_a_time_within_bounds() {
        assert_eq!(kept_s("3600").unwrap(), 3_600);
        for wrong in ["", "x", "-1", "3599", "2592001"] {
            assert!(kept_s(wrong).is_err(), "{wrong}");
        }
    }
}
