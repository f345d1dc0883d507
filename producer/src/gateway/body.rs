//! Bodies of JSON, ids in paths and pairs of queries, each within its limits.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use http_body_util::LengthLimitError;
use serde::de::DeserializeOwned;
use tokio::sync::OwnedSemaphorePermit;

use super::error::ApiError;
use super::limits::{BODIES_BYTES_MAX, BODY_BYTES_MAX, BODY_TIME_MAX};
use super::{Gateway, Shared};

/// Room is handed out in pieces of this many bytes.
const ROOM_PIECE_BYTES: usize = 1024;
/// Pieces of room for all bodies.
pub(super) const ROOM_PIECES: usize = BODIES_BYTES_MAX / ROOM_PIECE_BYTES;

/// A body of JSON, and the room that it takes until it is dropped.
#[derive(Debug)]
pub(super) struct JsonBody {
    pub(super) bytes: Bytes,
    _room: OwnedSemaphorePermit,
}

impl JsonBody {
    /// Reads it as a `T`.
    pub(super) fn read<T: DeserializeOwned>(&self) -> Result<T, ApiError> {
        serde_json::from_slice(&self.bytes)
            .map_err(|error| ApiError::invalid(format!("the body cannot be read: {error}")))
    }
}

/// Room in memory for so many bytes that are held whole, until it is dropped.
pub(super) fn room(gateway: &Gateway, bytes: usize) -> Result<OwnedSemaphorePermit, ApiError> {
    let pieces = u32::try_from(bytes.div_ceil(ROOM_PIECE_BYTES)).unwrap_or(u32::MAX);
    let room = Arc::clone(&gateway.bodies).try_acquire_many_owned(pieces);
    room.map_err(|_| ApiError::busy("there is no room for it now, try again later"))
}

fn too_large() -> ApiError {
    ApiError::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "body_too_large",
        format!("the body is over the limit of {BODY_BYTES_MAX} bytes"),
    )
}

impl FromRequest<Shared> for JsonBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, gateway: &Shared) -> Result<Self, ApiError> {
        check_type(request.headers())?;
        let length = request.headers().get(header::CONTENT_LENGTH);
        let length = length.and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
        if length.is_some_and(|length| length > BODY_BYTES_MAX) {
            return Err(too_large());
        }
        let room = room(gateway, length.unwrap_or(BODY_BYTES_MAX))?;
        let reading = axum::body::to_bytes(request.into_body(), BODY_BYTES_MAX);
        match tokio::time::timeout(BODY_TIME_MAX, reading).await {
            Ok(Ok(bytes)) => Ok(Self { bytes, _room: room }),
            Ok(Err(error)) if is_over_limit(&error) => Err(too_large()),
            Ok(Err(error)) => Err(ApiError::invalid(format!("the body broke off: {error}"))),
            Err(_) => Err(ApiError::new(
                StatusCode::REQUEST_TIMEOUT,
                "too_slow",
                format!("the body was not there within {BODY_TIME_MAX:?}"),
            )),
        }
    }
}

fn is_over_limit(error: &axum::Error) -> bool {
    let source = std::error::Error::source(error);
    let limit = source.and_then(|source| source.downcast_ref::<LengthLimitError>());
    limit.is_some()
}

/// Nothing else: a page of another origin can send other types without being asked for permission.
fn check_type(headers: &HeaderMap) -> Result<(), ApiError> {
    let written = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let essence = written.unwrap_or_default().split(';').next();
    if essence.is_some_and(|essence| essence.trim().eq_ignore_ascii_case("application/json")) {
        return Ok(());
    }
    Err(ApiError::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "unsupported_media_type",
        "the `Content-Type` must be `application/json`",
    ))
}

/// The id in a path, as it is written.
#[derive(Debug)]
pub(super) struct Id(pub(super) String);

impl FromRequestParts<Shared> for Id {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, gateway: &Shared) -> Result<Self, ApiError> {
        let path = Path::<String>::from_request_parts(parts, gateway).await;
        let Path(id) = path.map_err(|_| ApiError::unknown("object", parts.uri.path()))?;
        Ok(Self(id))
    }
}

/// The pairs of a query, each name once.
#[derive(Debug)]
pub(super) struct Query(BTreeMap<String, String>);

impl FromRequestParts<Shared> for Query {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &Shared) -> Result<Self, ApiError> {
        let written = parts.uri.query().unwrap_or_default();
        let mut pairs = BTreeMap::new();
        for (name, value) in url::form_urlencoded::parse(written.as_bytes()) {
            if pairs
                .insert(name.clone().into_owned(), value.into_owned())
                .is_some()
            {
                return Err(ApiError::invalid(format!("`{name}` is given twice")));
            }
        }
        Ok(Self(pairs))
    }
}

impl Query {
    /// The value of a parameter.
    pub(super) fn take(&mut self, name: &str) -> Option<String> {
        self.0.remove(name)
    }

    /// How many objects are wanted.
    pub(super) fn limit(&mut self, default: usize, max: usize) -> Result<usize, ApiError> {
        let Some(written) = self.take("limit") else {
            return Ok(default);
        };
        let limit = written.parse().ok();
        limit
            .filter(|limit| (1..=max).contains(limit))
            .ok_or_else(|| {
                let message = format!("`limit` is `{written}`, it must be from 1 to {max}");
                ApiError::parameter("limit", message)
            })
    }

    /// Refuses what nobody took.
    pub(super) fn end(self) -> Result<(), ApiError> {
        match self.0.into_keys().next() {
            None => Ok(()),
            Some(name) => Err(ApiError::invalid(format!(
                "`{name}` is no parameter of this request"
            ))),
        }
    }
}
