//! Bodies of JSON, ids in paths and pairs of queries, each within its limits.

use std::borrow::Cow;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use http_body_util::LengthLimitError;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use tokio::sync::OwnedSemaphorePermit;

use super::describe::{Input, JSON, Operation};
use super::error::{ApiError, Code};
use super::limits::{
    BODIES_BYTES_MAX, BODY_BYTES_MAX, BODY_TIME_MAX, LIST_ITEMS_DEFAULT, LIST_ITEMS_MAX,
};
use super::{Gateway, Shared};

/// Room is handed out in pieces of this many bytes.
const ROOM_PIECE_BYTES: usize = 1024;
/// Pieces of room for all bodies.
pub(super) const ROOM_PIECES: usize = BODIES_BYTES_MAX / ROOM_PIECE_BYTES;

/// A body of JSON that is a `T`, and the room that it takes until it is dropped.
#[derive(Debug)]
pub(super) struct JsonBody<T> {
    pub(super) bytes: Bytes,
    _room: OwnedSemaphorePermit,
    _is: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> JsonBody<T> {
    /// What it says.
    pub(super) fn read(&self) -> Result<T, ApiError> {
        serde_json::from_slice(&self.bytes)
            .map_err(|error| ApiError::invalid(format!("the body cannot be read: {error}")))
    }
}

impl<T: JsonSchema> Input for JsonBody<T> {
    fn describe(operation: &mut Operation<'_>) {
        let schema = operation.schema::<T>();
        operation.takes_body(vec![(JSON, schema)]);
    }
}

/// Room in memory for so many bytes that are held whole, until it is dropped.
pub(super) fn room(gateway: &Gateway, bytes: usize) -> Result<OwnedSemaphorePermit, ApiError> {
    let pieces = u32::try_from(bytes.div_ceil(ROOM_PIECE_BYTES)).unwrap_or(u32::MAX);
    let room = Arc::clone(&gateway.bodies).try_acquire_many_owned(pieces);
    room.map_err(|_| ApiError::busy("there is no room for it now, try again later"))
}

/// It has more bytes than it may have.
pub(super) fn too_large(bytes_max: usize) -> ApiError {
    ApiError::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        Code::BodyTooLarge,
        format!("the body is over the limit of {bytes_max} bytes"),
    )
}

/// Room in memory for a body of at most `bytes_max`: for as many bytes as it says it has.
pub(super) fn body_room(
    gateway: &Gateway,
    headers: &HeaderMap,
    bytes_max: usize,
) -> Result<OwnedSemaphorePermit, ApiError> {
    let length = headers.get(header::CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if length.is_some_and(|length| length > bytes_max) {
        return Err(too_large(bytes_max));
    }
    room(gateway, length.unwrap_or(bytes_max))
}

/// All of a body, within a number of bytes and a time.
pub(super) async fn whole(
    body: Body,
    bytes_max: usize,
    within: Duration,
) -> Result<Bytes, ApiError> {
    match tokio::time::timeout(within, axum::body::to_bytes(body, bytes_max)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) if is_over_limit(&error) => Err(too_large(bytes_max)),
        Ok(Err(error)) => Err(ApiError::invalid(format!("the body broke off: {error}"))),
        Err(_) => Err(ApiError::new(
            StatusCode::REQUEST_TIMEOUT,
            Code::TooSlow,
            format!("the body was not there within {within:?}"),
        )),
    }
}

impl<T> FromRequest<Shared> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, gateway: &Shared) -> Result<Self, ApiError> {
        check_type(request.headers())?;
        let room = body_room(gateway, request.headers(), BODY_BYTES_MAX)?;
        let bytes = whole(request.into_body(), BODY_BYTES_MAX, BODY_TIME_MAX).await?;
        Ok(Self {
            bytes,
            _room: room,
            _is: PhantomData,
        })
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
        Code::UnsupportedMediaType,
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

impl Input for Id {
    fn describe(operation: &mut Operation<'_>) {
        operation.takes_id();
    }
}

/// The parameters of a query, each given once at most; others are refused.
#[derive(Debug)]
pub(super) struct Query<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequestParts<Shared> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &Shared) -> Result<Self, ApiError> {
        let written = parts.uri.query().unwrap_or_default();
        let mut pairs = Map::new();
        for (name, value) in url::form_urlencoded::parse(written.as_bytes()) {
            let value = Value::String(value.into_owned());
            if pairs.insert(name.clone().into_owned(), value).is_some() {
                let message = format!("`{name}` is given twice");
                return Err(ApiError::parameter(name, message));
            }
        }
        let read = serde_path_to_error::deserialize(Value::Object(pairs));
        read.map(Self).map_err(|error| {
            let name = error.path().to_string();
            let message = format!("`{name}` cannot be read: {}", error.into_inner());
            ApiError::parameter(name, message)
        })
    }
}

impl<T: JsonSchema> Input for Query<T> {
    fn describe(operation: &mut Operation<'_>) {
        operation.takes_query::<T>();
    }
}

/// How many objects are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limit<const DEFAULT: usize, const MAX: usize>(pub(super) usize);

impl<const DEFAULT: usize, const MAX: usize> Default for Limit<DEFAULT, MAX> {
    fn default() -> Self {
        Self(DEFAULT)
    }
}

impl<'de, const DEFAULT: usize, const MAX: usize> Deserialize<'de> for Limit<DEFAULT, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let written = String::deserialize(deserializer)?;
        let limit = written.parse().ok();
        let limit = limit.filter(|limit| (1..=MAX).contains(limit));
        limit.map(Self).ok_or_else(|| {
            let message = format!("it is `{written}`, it must be from 1 to {MAX}");
            D::Error::custom(message)
        })
    }
}

impl<const DEFAULT: usize, const MAX: usize> JsonSchema for Limit<DEFAULT, MAX> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Limit".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "integer", "minimum": 1, "maximum": MAX, "default": DEFAULT})
    }
}

/// A number as it is written in a query; one that is too large is as large as can be.
pub(super) fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let written = String::deserialize(deserializer)?;
    if written.is_empty() || !written.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(D::Error::custom(format!("`{written}` is no number")));
    }
    Ok(Some(written.parse().unwrap_or(u64::MAX)))
}

/// Which part of a list is wanted.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Paging {
    /// How many at most.
    #[serde(default)]
    pub(super) limit: Limit<LIST_ITEMS_DEFAULT, LIST_ITEMS_MAX>,
    /// The id behind which the list goes on.
    pub(super) after: Option<String>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_list_is_read_in_parts_within_limits() {
        let read = |query| serde_json::from_value::<Paging>(query);
        assert_eq!(read(json!({})).unwrap().limit.0, LIST_ITEMS_DEFAULT);
        let asked = read(json!({"limit": "100", "after": "x"})).unwrap();
        assert_eq!((asked.limit.0, asked.after.as_deref()), (100, Some("x")));
        for (wrong, why) in [
            (json!({"limit": "0"}), "it is `0`, it must be from 1 to 100"),
            (json!({"limit": "101"}), "it is `101`, it must be"),
            (json!({"limit": ""}), "it is ``, it must be"),
            (json!({"before": "x"}), "unknown field `before`"),
        ] {
            let error = read(wrong).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
