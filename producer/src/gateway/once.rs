//! Submissions under a key of the client's: made once, however often they are sent and to whichever
//! gateway (the IETF's `Idempotency-Key` header).

use std::future::Future;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use serde_json::json;
use uuid::Uuid;

use super::describe::{Input, Operation};
use super::error::{ApiError, Code};
use super::limits::{KEY_BYTES_MAX, KEY_KEPT, MAKING_TIME_MAX, RETRY_AFTER};
use super::{Gateway, Shared};
use crate::catalogue::{self, OnceRecord};
use crate::digest::{sha256_hex, short};

/// The header's name.
const HEADER: &str = "idempotency-key";

/// The key of a submission, if it has one.
#[derive(Debug)]
pub(super) struct Key(Option<String>);

impl FromRequestParts<Shared> for Key {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &Shared) -> Result<Self, ApiError> {
        Self::read(&parts.headers)
    }
}

impl Input for Key {
    fn describe(operation: &mut Operation<'_>) {
        let description = "Under it one thing is made, however often the request is sent.";
        let schema = json!({"type": "string", "minLength": 1, "maxLength": KEY_BYTES_MAX});
        operation.takes_header(HEADER, description, &schema);
        operation.refuses("400", "The request is wrong.");
        operation.refuses("409", "The request under this key is being answered.");
        operation.refuses("422", "The key was used for another request.");
    }
}

impl Key {
    fn read(headers: &HeaderMap) -> Result<Self, ApiError> {
        let mut written = headers.get_all(HEADER).iter();
        let Some(key) = written.next() else {
            return Ok(Self(None));
        };
        let key = key.to_str().ok().filter(|_| written.next().is_none());
        let key = key.filter(|key| (1..=KEY_BYTES_MAX).contains(&key.len()));
        match key {
            Some(key) => Ok(Self(Some(key.to_owned()))),
            None => Err(ApiError::invalid(format!(
                "the `Idempotency-Key` must be one of 1 to {KEY_BYTES_MAX} characters of ASCII"
            ))),
        }
    }

    /// The key stands for asking this tenant's gateway at `address` for what `content` says.
    pub(super) fn bind(self, tenant: &str, address: &str, content: &[u8]) -> Option<Bound> {
        let request = [address.as_bytes(), b"\n", content].concat();
        self.0.map(|key| Bound {
            tenant: tenant.to_owned(),
            key: Uuid::from_u128(short(key.as_bytes())),
            request: sha256_hex(&request),
        })
    }
}

/// A key, and the one request that it stands for.
#[derive(Debug)]
pub(super) struct Bound {
    tenant: String,
    key: Uuid,
    request: String,
}

/// What there is of what was asked for.
#[derive(Debug)]
pub(super) enum Made<T> {
    /// It was made now.
    Now(T),
    /// It was made when this very request was sent before; what it is called.
    Before(String),
}

/// The same request is being answered.
pub(super) fn under_way() -> ApiError {
    ApiError::new(
        StatusCode::CONFLICT,
        Code::IdempotencyKeyInUse,
        "the request with this `Idempotency-Key` is under way, try again later",
    )
    .later(RETRY_AFTER)
}

impl Gateway {
    /// Makes what `making` makes and names, to its end whether or not the client still listens, unless
    /// the key says that it was made before.
    pub(super) async fn once<T, F>(
        self: &Arc<Self>,
        bound: Option<Bound>,
        making: F,
    ) -> Result<Made<T>, ApiError>
    where
        T: Send + 'static,
        F: Future<Output = Result<(String, T), ApiError>> + Send + 'static,
    {
        let gateway = Arc::clone(self);
        let made = self.tasks.spawn(async move {
            let Some(bound) = bound else {
                return Ok(Made::Now(making.await?.1));
            };
            let by = Uuid::now_v7();
            if let Some(made) = gateway.claim(&bound, by).await? {
                return Ok(Made::Before(made));
            }
            let made = making.await;
            let name = made.as_ref().ok().map(|(name, _)| name.clone());
            gateway.conclude(&bound, by, name).await;
            Ok(Made::Now(made?.1))
        });
        made.await.map_err(|error| ApiError::fault(&error))?
    }

    /// Takes the key, unless it was used; answers what was made then.
    async fn claim(&self, bound: &Bound, by: Uuid) -> Result<Option<String>, ApiError> {
        let results = &self.stores.results;
        let mine = OnceRecord {
            request: bound.request.clone(),
            by,
            made: None,
        };
        let there = catalogue::add(results, &bound.tenant, bound.key, &mine, MAKING_TIME_MAX);
        match there.await? {
            None => Ok(None),
            // The store was asked twice, because its first answer was lost.
            Some(there) if there.by == by => Ok(None),
            Some(there) if there.request != bound.request => Err(ApiError::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                Code::IdempotencyKeyReused,
                "the `Idempotency-Key` was used for another request",
            )),
            Some(there) => there.made.ok_or_else(under_way).map(Some),
        }
    }

    /// Writes down what was made, or gives the key back.
    async fn conclude(&self, bound: &Bound, by: Uuid, made: Option<String>) {
        let (results, tenant) = (&self.stores.results, &bound.tenant);
        let concluded = if made.is_some() {
            let request = bound.request.clone();
            let record = OnceRecord { request, by, made };
            catalogue::keep(results, tenant, bound.key, &record, KEY_KEPT).await
        } else {
            let forgotten = catalogue::forget::<OnceRecord>(results, tenant, bound.key).await;
            forgotten.map(|_| ())
        };
        if let Err(error) = concluded {
            // It stays taken for a while, and is free then.
            tracing::warn!(%error, "it cannot be written down what an idempotency key stands for");
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn key(written: &[&str]) -> Result<Key, ApiError> {
        let mut headers = HeaderMap::new();
        for one in written {
            headers.append(HEADER, HeaderValue::from_bytes(one.as_bytes()).unwrap());
        }
        Key::read(&headers)
    }

    #[test]
    fn a_key_is_one_short_text() {
        assert_eq!(key(&[]).unwrap().0, None);
        assert_eq!(key(&["a b"]).unwrap().0.as_deref(), Some("a b"));
        let longest = "x".repeat(KEY_BYTES_MAX);
        assert!(key(&[&longest]).is_ok());
        let longer = "x".repeat(KEY_BYTES_MAX + 1);
        for wrong in [&[""][..], &[&longer], &["\u{e4}"], &["a", "b"]] {
            assert!(key(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_key_stands_for_one_request() {
        let bound = |address, content: &str| {
            let key = key(&["k"]).unwrap();
            key.bind("t", address, content.as_bytes()).unwrap().request
        };
        assert_eq!(bound("jobs", "{}"), bound("jobs", "{}"));
        assert_ne!(bound("jobs", "{}"), bound("jobs", "{ }"));
        assert_ne!(bound("jobs", "{}"), bound("chat", "{}"));
        assert!(Key(None).bind("t", "jobs", b"{}").is_none());
    }
}
