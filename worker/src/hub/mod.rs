//! Models of the Hugging Face hub: which files a model needs, and where they are once downloaded.
//!
//! `client` asks the hub what a repository holds at one commit (`listing`), `select` chooses what makes
//! the model, `download` brings what is missing, a file at a time and from where an earlier try ended
//! (`partial`), and `cache` keeps it where Python programs look for it, too. Without a network, what was
//! downloaded before serves.

mod cache;
mod client;
mod download;
mod error;
mod listing;
mod partial;
mod progress;
mod select;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use lapidary_schemas::hub::RepoRef;
use reqwest::header::HeaderValue;

use cache::{RepoCache, failed};
use client::{HubClient, Tries};
use download::Download;
pub(crate) use error::HubError;
use listing::{Listing, RemoteFile};
use progress::Progress;
use select::Chosen;

/// The hub itself.
pub(crate) const ENDPOINT: &str = "https://huggingface.co";
/// The state of a repository that nobody names.
const NEWEST: &str = "main";
/// Bytes of a file that holds a token.
const TOKEN_BYTES_MAX: u64 = 4_096;

/// Where the hub is, who asks, and where files are kept.
#[derive(Debug, Clone)]
pub struct HubOptions {
    /// The hub's address.
    pub endpoint: String,
    /// Who asks.
    pub token: Option<Token>,
    /// The file that holds the token, where none was given.
    pub token_file: PathBuf,
    /// The folder of the repositories' folders.
    pub cache: PathBuf,
    /// Nothing is asked of the hub.
    pub offline: bool,
}

/// A secret by which the hub knows a user. It is in no log.
#[derive(Clone)]
pub struct Token(String);

impl From<&str> for Token {
    fn from(token: &str) -> Self {
        Self(token.trim().to_owned())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

impl HubOptions {
    /// The header that says who asks: by the token that was given, else by the one in the file.
    fn bearer(&self) -> Result<Option<HeaderValue>, HubError> {
        let token = match &self.token {
            Some(token) if !token.0.is_empty() => token.clone(),
            _ => match self.stored()? {
                Some(token) => token,
                None => return Ok(None),
            },
        };
        let header = HeaderValue::from_str(&format!("Bearer {}", token.0));
        let mut header = header.map_err(|_| HubError::Token)?;
        header.set_sensitive(true);
        Ok(Some(header))
    }

    fn stored(&self) -> Result<Option<Token>, HubError> {
        let path = &self.token_file;
        let small = std::fs::metadata(path)
            .is_ok_and(|found| found.is_file() && found.len() <= TOKEN_BYTES_MAX);
        if !small {
            return Ok(None);
        }
        let token = std::fs::read_to_string(path).map_err(failed("read", path))?;
        let token = Token::from(token.as_str());
        Ok((!token.0.is_empty()).then_some(token))
    }
}

/// How much and how long a download may be.
#[derive(Debug, Clone)]
pub(crate) struct HubLimits {
    /// Files of a model.
    pub(crate) files_max: usize,
    /// Bytes of a file.
    pub(crate) file_bytes_max: u64,
    /// Until there is a connection.
    pub(crate) connecting: Duration,
    /// From some bytes to the next.
    pub(crate) silence: Duration,
    /// Tries in a row that bring nothing.
    pub(crate) tries_max: u32,
    /// From the first of them to the second.
    pub(crate) pause: Duration,
    /// How long another program may hold a file without getting on.
    pub(crate) lock_silence: Duration,
}

impl Default for HubLimits {
    fn default() -> Self {
        Self {
            files_max: 256,
            file_bytes_max: 256 << 30,
            connecting: Duration::from_secs(10),
            silence: Duration::from_secs(30),
            tries_max: 5,
            pause: Duration::from_secs(1),
            lock_silence: Duration::from_mins(10),
        }
    }
}

/// A model that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fetched {
    /// Its folder or GGUF file.
    pub(crate) path: PathBuf,
    /// The vision tower of a GGUF file.
    pub(crate) mmproj: Option<PathBuf>,
}

/// Fetches a model, on this thread; with a vision tower for a GGUF file, where there is one, only
/// `with_mmproj`.
pub(crate) fn fetch(
    options: &HubOptions,
    wanted: &RepoRef,
    with_mmproj: bool,
) -> Result<Fetched, HubError> {
    // One of its own, because files are written and hashed on it.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(HubError::Start)?;
    let limits = HubLimits::default();
    runtime.block_on(Hub::new(options, limits)?.fetch(wanted, with_mmproj))
}

/// The hub, and the cache of what came from it.
#[derive(Debug)]
pub(crate) struct Hub {
    /// `None`: it is not to be asked.
    client: Option<HubClient>,
    cache: PathBuf,
    limits: HubLimits,
}

impl Hub {
    /// Nothing is asked yet.
    pub(crate) fn new(options: &HubOptions, limits: HubLimits) -> Result<Self, HubError> {
        let client = if options.offline {
            None
        } else {
            Some(HubClient::new(options, &limits)?)
        };
        Ok(Self {
            client,
            cache: options.cache.clone(),
            limits,
        })
    }

    /// Sees to it that a model is there.
    pub(crate) async fn fetch(
        &self,
        wanted: &RepoRef,
        with_mmproj: bool,
    ) -> Result<Fetched, HubError> {
        let cache = RepoCache::new(&self.cache, &wanted.repo);
        let cached = cache.find(wanted, with_mmproj);
        let Some(client) = &self.client else {
            return cached.map_err(|message| HubError::Offline {
                model: wanted.to_string(),
                cache: self.cache.clone(),
                message,
            });
        };
        let mut tries = Tries::new(&self.limits);
        let listing = loop {
            match (client.listing(wanted).await, &cached) {
                (Ok(listing), _) => break listing,
                (Err(error), Ok(found)) if error.may_pass() => {
                    tracing::warn!(%error, path = %found.path.display(), "as downloaded before");
                    return Ok(found.clone());
                }
                (Err(error), _) => tries.again(error).await?,
            }
        };
        let names: Vec<&str> = listing
            .files
            .iter()
            .map(|file| file.name.as_str())
            .collect();
        let chosen = select::choose(wanted, with_mmproj, &names)?;
        let files = self.within_limits(wanted, &listing, &chosen)?;
        let commit = &listing.commit;
        let missing = files.iter().filter(|file| !cache.has(commit, file));
        let missing: Vec<&RemoteFile> = missing.copied().collect();
        if !missing.is_empty() {
            let sizes = missing.iter().map(|file| file.size);
            let size = sizes.fold(0, u64::saturating_add);
            let download = Download {
                client,
                cache: &cache,
                limits: &self.limits,
                wanted,
                commit,
                progress: Progress::new(wanted.to_string(), size, Instant::now()),
            };
            download.run(&missing).await?;
        }
        for file in files {
            cache.link(commit, file)?;
        }
        // Last, so that what was there before serves until all of the new is.
        cache.remember(revision_of(wanted), commit)?;
        Ok(cache.fetched(commit, wanted, &chosen))
    }

    /// The chosen files, where they are neither too many nor too large.
    fn within_limits<'a>(
        &self,
        wanted: &RepoRef,
        listing: &'a Listing,
        chosen: &Chosen,
    ) -> Result<Vec<&'a RemoteFile>, HubError> {
        let too_much = |what: String, value: u64, limit: u64| HubError::TooMuch {
            repo: wanted.repo.clone(),
            what,
            value,
            limit,
        };
        let files = listing.files.iter();
        let files: Vec<_> = files
            .filter(|file| chosen.names.contains(&file.name))
            .collect();
        if files.len() > self.limits.files_max {
            let (count, limit) = (files.len() as u64, self.limits.files_max as u64);
            return Err(too_much("the number of files".to_owned(), count, limit));
        }
        let limit = self.limits.file_bytes_max;
        match files.iter().find(|file| file.size > limit) {
            Some(file) => {
                let what = format!("the size of `{}`", file.name);
                Err(too_much(what, file.size, limit))
            }
            None => Ok(files),
        }
    }
}

/// Which state of the repository is wanted.
fn revision_of(wanted: &RepoRef) -> &str {
    wanted.revision.as_deref().unwrap_or(NEWEST)
}
