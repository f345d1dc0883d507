//! Fetches images from the web, for a model's users who are not to reach anything else with it.
//!
//! Only hosts that the operator named, or, where any is allowed, what is at a public address. A host's
//! addresses are checked when they come from the resolver, and the connection is made to what was
//! checked; redirects are followed here, each checked like the first address. Nothing is sent but
//! the request: no credentials, no cookies, no referrer, through no proxy. What comes is bounded in
//! bytes and time, and what it is shows its content, when it is decoded.

mod error;
mod resolver;
#[cfg(test)]
pub(crate) mod tests;

use std::sync::Arc;
use std::time::Duration;

use lapidary_schemas::limits::MEDIA_BYTES_MAX;
use lapidary_schemas::remote;
use lapidary_transport::tls;
use reqwest::header::LOCATION;
use reqwest::{Client, Response, StatusCode, redirect};
use url::Url;

pub(crate) use error::FetchError;
use resolver::PublicAddresses;

/// How much and how long a fetch may be.
#[derive(Debug, Clone)]
pub(crate) struct FetchLimits {
    /// Bytes of the content.
    pub(crate) bytes_max: usize,
    /// Redirects that are followed.
    pub(crate) redirects_max: usize,
    /// Everything together, redirects included.
    pub(crate) total: Duration,
    /// Until there is a connection.
    pub(crate) connecting: Duration,
    /// From some bytes to the next.
    pub(crate) silence: Duration,
}

impl Default for FetchLimits {
    fn default() -> Self {
        Self {
            bytes_max: MEDIA_BYTES_MAX,
            redirects_max: 5,
            total: Duration::from_mins(1),
            connecting: Duration::from_secs(10),
            silence: Duration::from_secs(10),
        }
    }
}

/// Fetches what is at the hosts that it was given.
#[derive(Debug)]
pub(crate) struct Fetcher {
    hosts: Vec<String>,
    limits: FetchLimits,
    client: Client,
}

/// No client could be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot fetch from the web")]
pub struct ClientError(#[source] reqwest::Error);

impl Fetcher {
    /// For `hosts`, as [`remote::parse_host`] writes them.
    pub(crate) fn new(hosts: Vec<String>, limits: FetchLimits) -> Result<Self, ClientError> {
        tls::provide();
        let client = Client::builder()
            .user_agent(concat!("lapidary-worker/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .no_proxy()
            .referer(false)
            .connect_timeout(limits.connecting)
            .read_timeout(limits.silence)
            .dns_resolver(Arc::new(PublicAddresses));
        Ok(Self {
            hosts,
            limits,
            client: client.build().map_err(ClientError)?,
        })
    }

    /// The bytes at an address.
    pub(crate) async fn fetch(&self, address: &str) -> Result<Vec<u8>, FetchError> {
        let limit = self.limits.total;
        tokio::time::timeout(limit, self.follow(address))
            .await
            .unwrap_or(Err(FetchError::TooLong { limit }))
    }

    async fn follow(&self, address: &str) -> Result<Vec<u8>, FetchError> {
        let mut url = self.allowed(address)?;
        for _ in 0..=self.limits.redirects_max {
            let response = self.client.get(url.clone()).send().await;
            let response = response.map_err(|error| FetchError::of(&url, error))?;
            let status = response.status();
            if status == StatusCode::OK {
                return self.content(&url, response).await;
            }
            if !status.is_redirection() {
                return Err(FetchError::Status { url, status });
            }
            let location = response.headers().get(LOCATION);
            let Some(location) = location.and_then(|value| value.to_str().ok()) else {
                return Err(FetchError::Status { url, status });
            };
            let next = url.join(location).map_err(|error| FetchError::Refused {
                message: format!("it leads to what is no address: {error}"),
            })?;
            url = self.allowed(next.as_str())?;
        }
        Err(FetchError::Redirects {
            limit: self.limits.redirects_max,
        })
    }

    /// An address that may be connected to, as far as can be told before its host is resolved.
    fn allowed(&self, address: &str) -> Result<Url, FetchError> {
        remote::check(address, &self.hosts).map_err(|message| FetchError::Refused { message })
    }

    async fn content(&self, url: &Url, mut response: Response) -> Result<Vec<u8>, FetchError> {
        let limit = self.limits.bytes_max;
        let announced = response.content_length();
        if announced.is_some_and(|bytes| bytes > limit as u64) {
            return Err(FetchError::TooLarge { limit });
        }
        let mut bytes = Vec::new();
        while let Some(more) = response
            .chunk()
            .await
            .map_err(|error| FetchError::of(url, error))?
        {
            if bytes.len() + more.len() > limit {
                return Err(FetchError::TooLarge { limit });
            }
            bytes.extend_from_slice(&more);
        }
        Ok(bytes)
    }
}
