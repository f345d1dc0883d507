//! Sending a delivery: to the hosts that the operator allows, at public addresses or such as are listed by
//! number, and nowhere else.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use lapidary_schemas::remote;
use lapidary_transport::tls;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Client, StatusCode, Url, header, redirect};

use super::super::limits::{SENDING_TIME_MAX, SENDING_WAIT_MAX};
use super::records::Endpoint;
use super::sign;

/// Sends deliveries.
#[derive(Debug)]
pub(crate) struct Sender {
    hosts: Vec<String>,
    client: Client,
}

/// Names lead to public addresses only.
#[derive(Debug)]
struct PublicAddresses;

impl Resolve for PublicAddresses {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let name = name.as_str();
            let found = tokio::net::lookup_host((name, 0)).await?;
            let public = remote::public_only(name, found)?;
            Ok(Box::new(public.into_iter()) as Addrs)
        })
    }
}

/// Why an endpoint does not have a delivery.
#[derive(Debug)]
pub(super) struct Unsent {
    /// In words.
    pub(super) why: String,
    /// It says that there is no such endpoint any more, and will not be.
    pub(super) is_gone: bool,
}

impl From<String> for Unsent {
    fn from(why: String) -> Self {
        Self {
            why,
            is_gone: false,
        }
    }
}

impl From<&str> for Unsent {
    fn from(why: &str) -> Self {
        why.to_owned().into()
    }
}

impl Sender {
    /// To `hosts`, as [`remote::parse_host`] writes them. Nothing but the delivery is sent: no
    /// credentials, no referrer, through no proxy, and no redirect is followed.
    pub(crate) fn new(hosts: Vec<String>) -> Result<Self, reqwest::Error> {
        tls::provide();
        let client = Client::builder()
            .user_agent(concat!("lapidary/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .no_proxy()
            .referer(false)
            .connect_timeout(SENDING_WAIT_MAX)
            .read_timeout(SENDING_WAIT_MAX)
            .timeout(SENDING_TIME_MAX)
            .dns_resolver(Arc::new(PublicAddresses));
        Ok(Self {
            hosts,
            client: client.build()?,
        })
    }

    /// An address that may be sent to, as far as can be told before its host is resolved; the error says
    /// why not.
    pub(super) fn check(&self, url: &str) -> Result<Url, String> {
        remote::check(url, &self.hosts)
    }

    /// Sends a delivery once; what came of it, in words. What the endpoint says besides its status is not
    /// read.
    pub(super) async fn send(
        &self,
        endpoint: &Endpoint,
        id: &str,
        body: &str,
        now: DateTime<Utc>,
    ) -> Result<String, Unsent> {
        // The operator may have changed what is allowed since it was registered.
        let url = self.check(&endpoint.url)?;
        let sent_at = now.timestamp();
        let signature = sign::signature(&endpoint.secret, id, sent_at, body)
            .ok_or("the endpoint's secret cannot be read")?;
        let request = self
            .client
            .post(url)
            .header(header::CONTENT_TYPE, "application/json")
            .header("webhook-id", id)
            .header("webhook-timestamp", sent_at)
            .header("webhook-signature", signature)
            .body(body.to_owned());
        match request.send().await {
            Ok(answer) if answer.status().is_success() => {
                Ok(format!("answered {}", answer.status()))
            }
            Ok(answer) => Err(Unsent {
                is_gone: answer.status() == StatusCode::GONE,
                why: format!("answered {}", answer.status()),
            }),
            Err(error) => Err(reason(&error.without_url()).into()),
        }
    }
}

/// The innermost reason of an error, which the outer ones only lead to.
fn reason(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "it did not answer in time".to_owned();
    }
    let mut inner: &dyn std::error::Error = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}
