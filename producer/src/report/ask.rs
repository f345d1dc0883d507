//! One question over HTTP.

use std::time::Duration;

use lapidary_transport::{tls, without_credentials};
use url::Url;

/// Longest time until an answer is whole.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(30);
/// Bytes of an answer.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    /// It is no address.
    #[error("`{address}` is no http: or https: address")]
    Address {
        /// What was written.
        address: String,
    },
    /// Nobody answered, or not in time.
    #[error("{address} does not answer")]
    Away {
        /// Who was asked.
        address: String,
        /// What happened.
        #[source]
        source: reqwest::Error,
    },
    /// The answer is none that can be used.
    #[error("{address} answered something else: {message}")]
    Answer {
        /// Who was asked.
        address: String,
        /// What is wrong with it.
        message: String,
    },
}

/// What is at an address and a path below it, for these parameters.
pub(crate) async fn ask(
    address: &str,
    path: &str,
    parameters: &[(&str, &str)],
) -> Result<Vec<u8>, AskError> {
    let shown = without_credentials(address);
    let base = format!("{}/{path}", address.trim_end_matches('/'));
    let url = match Url::parse_with_params(&base, parameters) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => url,
        _ => return Err(AskError::Address { address: shown }),
    };
    tls::provide();
    let away = |source: reqwest::Error| AskError::Away {
        address: shown.clone(),
        source: source.without_url(),
    };
    let wrong = |message: String| AskError::Answer {
        address: shown.clone(),
        message,
    };
    let client = reqwest::Client::builder().timeout(ANSWER_TIME_MAX);
    let client = client.build().map_err(away)?;
    let mut response = client.get(url).send().await.map_err(away)?;
    let mut answer = Vec::new();
    while let Some(more) = response.chunk().await.map_err(away)? {
        answer.extend_from_slice(&more);
        if answer.len() > ANSWER_BYTES_MAX {
            return Err(wrong(format!("more than {ANSWER_BYTES_MAX} bytes")));
        }
    }
    if !response.status().is_success() {
        return Err(wrong(format!("status {}", response.status().as_u16())));
    }
    Ok(answer)
}
