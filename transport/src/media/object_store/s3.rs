//! Media in a bucket of S3, or of a server that speaks as it does.
//!
//! Where it is and who asks, the usual variables of AWS's tools say: `AWS_ACCESS_KEY_ID`,
//! `AWS_SECRET_ACCESS_KEY`, `AWS_REGION`, and for another server `AWS_ENDPOINT_URL` (with
//! `AWS_ALLOW_HTTP=true` where it speaks plain HTTP). On a machine of AWS its role will do.

use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{ClientConfigKey, ObjectStore, RetryConfig};

use crate::media::MediaError;
use crate::tls;

/// Longest wait for a connection.
const CONNECT_MAX: &str = "5s";
/// Longest time of one request.
const REQUEST_MAX: &str = "60s";
/// Times a request is made again that the server refused for now, or that broke off.
const RETRIES_MAX: usize = 4;
/// Longest time from a request's beginning until it is made again.
const RETRY_WITHIN: Duration = Duration::from_secs(30);

/// The variables of AWS's tools that this process was given.
pub(super) fn variables() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, _)| name.starts_with("AWS_"))
}

/// Opens a bucket, or a folder in it, at `BUCKET[/FOLDER]`. Whether it is there shows with the first
/// request.
pub(super) fn open(
    place: &str,
    variables: impl Iterator<Item = (String, String)>,
) -> Result<Arc<dyn ObjectStore>, MediaError> {
    let unusable = |message: String| MediaError::Unusable {
        message: format!("`s3://{place}`: {message}"),
    };
    let (bucket, folder) = place.split_once('/').unwrap_or((place, ""));
    if bucket.is_empty() {
        return Err(unusable(
            "it names no bucket: write `s3://BUCKET/FOLDER`".to_owned(),
        ));
    }
    tls::provide();
    let retry = RetryConfig {
        max_retries: RETRIES_MAX,
        retry_timeout: RETRY_WITHIN,
        ..RetryConfig::default()
    };
    let client = AmazonS3ConfigKey::Client;
    let mut builder = AmazonS3Builder::new()
        .with_config(client(ClientConfigKey::ConnectTimeout), CONNECT_MAX)
        .with_config(client(ClientConfigKey::Timeout), REQUEST_MAX);
    for (name, value) in variables {
        // Other tools have variables of their own.
        if let Ok(key) = name.to_ascii_lowercase().parse() {
            builder = builder.with_config(key, value);
        }
    }
    let store = builder
        .with_retry(retry)
        .with_bucket_name(bucket)
        .build()
        .map_err(|error| unusable(error.to_string()))?;
    let folder = Path::parse(folder).map_err(|error| unusable(error.to_string()))?;
    Ok(Arc::new(PrefixStore::new(store, folder)))
}
