//! Requests to the hub.

use std::time::Duration;

use lapidary_schemas::hub::RepoRef;
use lapidary_schemas::remote::origin;
use lapidary_schemas::worker::DOWNLOAD_LOG;
use lapidary_transport::tls;
use reqwest::header::{AUTHORIZATION, HeaderValue, RANGE};
use reqwest::redirect::Policy;
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use url::Url;

use super::error::HubError;
use super::listing::Listing;
use super::{HubLimits, HubOptions, revision_of};

/// Redirects that are followed: to the servers that hold large files.
const REDIRECTS_MAX: usize = 5;
/// Bytes of the list of a repository's files.
const LISTING_BYTES_MAX: usize = 32 << 20;
/// In which the hub says what is wrong.
const ERROR_CODE: &str = "x-error-code";

/// Asks the hub, in the name of who owns the token. The token goes to the hub alone: the client drops
/// it where a redirect leads to another host, port or scheme.
#[derive(Debug)]
pub(super) struct HubClient {
    endpoint: Url,
    authorization: Option<HeaderValue>,
    client: Client,
}

impl HubClient {
    /// Nothing is connected to yet.
    pub(super) fn new(options: &HubOptions, limits: &HubLimits) -> Result<Self, HubError> {
        tls::provide();
        let endpoint = Url::parse(&options.endpoint).ok();
        let web = |url: &Url| matches!(url.scheme(), "http" | "https") && url.has_host();
        let endpoint = endpoint.filter(web).ok_or_else(|| HubError::Endpoint {
            endpoint: options.endpoint.clone(),
        })?;
        let authorization = options.bearer()?;
        let client = Client::builder()
            .user_agent(concat!("lapidary-worker/", env!("CARGO_PKG_VERSION")))
            .redirect(Policy::limited(REDIRECTS_MAX))
            .referer(false)
            .connect_timeout(limits.connecting)
            .read_timeout(limits.silence);
        Ok(Self {
            endpoint,
            authorization,
            client: client.build().map_err(HubError::Client)?,
        })
    }

    /// What a repository holds.
    pub(super) async fn listing(&self, wanted: &RepoRef) -> Result<Listing, HubError> {
        let path = ["api", "models"].into_iter().chain(wanted.repo.split('/'));
        let mut url = self.url(path.chain(["revision", revision_of(wanted)]));
        url.set_query(Some("blobs=true"));
        let mut response = self
            .send(wanted, &wanted.repo, self.client.get(url))
            .await?;
        let mut json = Vec::new();
        while let Some(more) = response
            .chunk()
            .await
            .map_err(|error| HubError::unreachable(&self.host(), error))?
        {
            json.extend_from_slice(&more);
            if json.len() > LISTING_BYTES_MAX {
                return Err(HubError::Malformed {
                    repo: wanted.repo.clone(),
                    message: format!("it is larger than the limit of {LISTING_BYTES_MAX} bytes"),
                });
            }
        }
        Listing::parse(&wanted.repo, &json)
    }

    /// A file's content from this byte on, or all of it where the server knows no ranges.
    pub(super) async fn content(
        &self,
        wanted: &RepoRef,
        commit: &str,
        file: &str,
        from: u64,
    ) -> Result<Response, HubError> {
        let path = wanted.repo.split('/').chain(["resolve", commit]);
        let url = self.url(path.chain(file.split('/')));
        let mut request = self.client.get(url);
        if from > 0 {
            request = request.header(RANGE, format!("bytes={from}-"));
        }
        self.send(wanted, file, request).await
    }

    async fn send(
        &self,
        wanted: &RepoRef,
        what: &str,
        request: RequestBuilder,
    ) -> Result<Response, HubError> {
        let request = match &self.authorization {
            Some(token) => request.header(AUTHORIZATION, token),
            None => request,
        };
        let response = request.send().await;
        let response = response.map_err(|error| HubError::unreachable(&self.host(), error))?;
        if response.status().is_success() {
            return Ok(response);
        }
        Err(self.refusal(wanted, what, &response))
    }

    /// What an answer that is none means.
    fn refusal(&self, wanted: &RepoRef, what: &str, response: &Response) -> HubError {
        let (repo, endpoint) = (wanted.repo.clone(), self.shown());
        let code = response.headers().get(ERROR_CODE);
        let code = code.and_then(|code| code.to_str().ok());
        // Servers that the hub leads to know nothing of repositories and who may read them.
        let elsewhere = response.url().origin() != self.endpoint.origin();
        match (code.or(elsewhere.then_some("")), response.status()) {
            (Some("GatedRepo"), _) | (None, StatusCode::FORBIDDEN) => {
                HubError::Gated { repo, endpoint }
            }
            (Some("RevisionNotFound"), _) => HubError::NoRevision {
                repo,
                revision: revision_of(wanted).to_owned(),
                endpoint,
            },
            (None, StatusCode::UNAUTHORIZED) if self.authorization.is_some() => {
                HubError::TokenRefused { endpoint }
            }
            // Whoever is not known is told this of what is not there, too.
            (Some("RepoNotFound"), _)
            | (None, StatusCode::UNAUTHORIZED | StatusCode::NOT_FOUND) => {
                HubError::NoRepo { repo, endpoint }
            }
            (_, status) => HubError::Status {
                host: origin(response.url()),
                what: what.to_owned(),
                status,
            },
        }
    }

    fn url<'a>(&self, path: impl Iterator<Item = &'a str>) -> Url {
        let mut url = self.endpoint.clone();
        // Addresses with a host have segments.
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        url
    }

    fn host(&self) -> String {
        origin(&self.endpoint)
    }

    /// The hub's address without user, password and a slash at its end.
    fn shown(&self) -> String {
        let mut url = self.endpoint.clone();
        // Both can be taken away from an address with a host.
        let _ = (url.set_username(""), url.set_password(None));
        url.as_str().trim_end_matches('/').to_owned()
    }
}

/// Tries that may follow one that failed.
#[derive(Debug)]
pub(super) struct Tries {
    max: u32,
    failed: u32,
    pause: Duration,
}

impl Tries {
    /// None has failed.
    pub(super) fn new(limits: &HubLimits) -> Self {
        Self {
            max: limits.tries_max,
            failed: 0,
            pause: limits.pause,
        }
    }

    /// Something came: those that failed before count no more.
    pub(super) fn reset(&mut self) {
        self.failed = 0;
    }

    /// Waits until the next try is due, twice as long each time; gives the error back if there is
    /// none.
    pub(super) async fn again(&mut self, error: HubError) -> Result<(), HubError> {
        self.failed += 1;
        if !error.may_pass() || self.failed >= self.max {
            return Err(error);
        }
        let pause = self.pause * 2_u32.saturating_pow(self.failed - 1);
        tracing::info!(
            target: DOWNLOAD_LOG,
            "{error}; trying again in {} s",
            pause.as_secs_f64()
        );
        tokio::time::sleep(pause).await;
        Ok(())
    }
}
