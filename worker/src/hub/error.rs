//! Why a model of the hub is not there, split by what comes next: try again, take what the cache
//! holds, or tell the user.

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use lapidary_schemas::remote::origin;
use reqwest::StatusCode;

/// Why a model of the hub is not there.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// The hub's address is none.
    #[error("HF_ENDPOINT is `{endpoint}`, it must be an http or https address")]
    Endpoint {
        /// As it was given.
        endpoint: String,
    },
    /// The token cannot be sent.
    #[error("the token for the hub has characters that a token cannot have")]
    Token,
    /// No client could be made.
    #[error("cannot reach the hub")]
    Client(#[source] reqwest::Error),
    /// There is no such repository, for all that this user may see.
    #[error(
        "there is no file or folder `{repo}` here, and no model of that name at {endpoint}, or it is \
         private: set HF_TOKEN to a token that may read it"
    )]
    NoRepo {
        /// Which.
        repo: String,
        /// Where.
        endpoint: String,
    },
    /// The repository has no such state.
    #[error("`{repo}` has no revision `{revision}` at {endpoint}")]
    NoRevision {
        /// Which repository.
        repo: String,
        /// Which branch, tag or commit.
        revision: String,
        /// Where.
        endpoint: String,
    },
    /// Its terms were not accepted.
    #[error(
        "`{repo}` is gated: accept its terms at {endpoint}/{repo}, and set HF_TOKEN to a token of the \
         account that did"
    )]
    Gated {
        /// Which.
        repo: String,
        /// Where.
        endpoint: String,
    },
    /// The token is not one of the hub's.
    #[error("{endpoint} refused the token: set HF_TOKEN to a valid one, or to none")]
    TokenRefused {
        /// Where.
        endpoint: String,
    },
    /// The repository has no such file.
    #[error("`{repo}` has no file `{file}`{}", listed(gguf))]
    NoFile {
        /// Which repository.
        repo: String,
        /// Which file.
        file: String,
        /// Files that could be meant.
        gguf: Vec<String>,
    },
    /// What the repository holds is not a model that can be served.
    #[error("`{repo}` has no {missing}{}", listed(gguf))]
    NotAModel {
        /// Which.
        repo: String,
        /// What a model's folder would have.
        missing: &'static str,
        /// Files that could be meant, each with the repository's name.
        gguf: Vec<String>,
    },
    /// There are too many files, or too large ones.
    #[error("{what} of `{repo}` is {value}, the limit is {limit}")]
    TooMuch {
        /// Which repository.
        repo: String,
        /// What there is too much of.
        what: String,
        /// How much.
        value: u64,
        /// How much may be.
        limit: u64,
    },
    /// There is no connection, or it broke.
    #[error("the connection to {host} failed: {message}")]
    Unreachable {
        /// Whom.
        host: String,
        /// What happened.
        message: String,
    },
    /// The server answered something else than what was asked for.
    #[error("{host} answered {status} to the request for `{what}`")]
    Status {
        /// Who.
        host: String,
        /// What was asked for.
        what: String,
        /// The answer.
        status: StatusCode,
    },
    /// The server answered what is not understood.
    #[error("the answer about `{repo}` is not understood: {message}")]
    Malformed {
        /// Which repository.
        repo: String,
        /// What is wrong with it.
        message: String,
    },
    /// A file ended too soon.
    #[error("`{file}` ended after {got} of {size} bytes")]
    Cut {
        /// Which.
        file: String,
        /// What came.
        got: u64,
        /// What was to come.
        size: u64,
    },
    /// A file is not what the hub said it is.
    #[error("`{file}` is damaged: {message}")]
    Damaged {
        /// Which.
        file: String,
        /// How that is known.
        message: String,
    },
    /// Another program downloads the same and does not get on.
    #[error(
        "another program has held `{}` for {} s without getting on",
        lock.display(),
        limit.as_secs()
    )]
    Locked {
        /// What it holds.
        lock: PathBuf,
        /// The limit.
        limit: Duration,
    },
    /// It does not fit.
    #[error(
        "`{repo}` needs {} more on the disk of `{}`, which has {}",
        ByteSize(*needed), folder.display(), ByteSize(*free)
    )]
    NoSpace {
        /// Which repository.
        repo: String,
        /// Where it was to be.
        folder: PathBuf,
        /// Bytes that are missing.
        needed: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// The hub is not to be asked, and the cache does not hold it.
    #[error("HF_HUB_OFFLINE is set, and `{model}` is not in `{}`: {message}", cache.display())]
    Offline {
        /// What was asked for.
        model: String,
        /// The cache.
        cache: PathBuf,
        /// What is missing.
        message: String,
    },
    /// The cache cannot be read or written.
    #[error("cannot {what} `{}`", path.display())]
    Cache {
        /// What was to be done.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The system gave no thread or connection to work with.
    #[error("cannot start the download")]
    Start(#[source] std::io::Error),
}

impl HubError {
    /// There was no answer; the address may hold a signature and is not shown.
    pub(super) fn unreachable(host: &str, error: reqwest::Error) -> Self {
        let host = error.url().map_or_else(|| host.to_owned(), origin);
        let error = error.without_url();
        let mut cause: &dyn Error = &error;
        while let Some(inner) = cause.source() {
            cause = inner;
        }
        Self::Unreachable {
            host,
            message: cause.to_string(),
        }
    }

    /// Whether the same may work in a moment; if it does not, what the cache holds may do.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Cut { .. } => true,
            Self::Status { status, .. } => {
                status.is_server_error()
                    || matches!(
                        *status,
                        StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT
                    )
            }
            _ => false,
        }
    }
}

/// Files that can be named instead.
fn listed(files: &[String]) -> String {
    /// More are not shown.
    const SHOWN_MAX: usize = 12;
    if files.is_empty() {
        return String::new();
    }
    let shown: Vec<_> = files.iter().take(SHOWN_MAX).map(String::as_str).collect();
    let more = files.len() - shown.len();
    let rest = if more > 0 {
        format!(" and {more} more")
    } else {
        String::new()
    };
    format!("; it has {}{rest}", shown.join(", "))
}
