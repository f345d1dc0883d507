//! Which makers a run uses, chosen by URL.

use std::path::{Path, PathBuf};

use crate::embedded::{EmbeddedFile, StoreError};
use crate::media::object_store::ObjectMedia;
use crate::media::{AnyMedia, MediaError};
use crate::queue::amqp::AmqpQueue;
use crate::queue::{AnyQueue, EmbeddedQueue, QueueError};
use crate::results::redis::RedisResults;
use crate::results::{AnyResults, EmbeddedResults, ResultsError};

/// Where the three stores are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PlaceUrls {
    /// `amqp://…`, or `file:PATH` for the embedded file.
    pub broker: String,
    /// `redis://…` or `file:PATH`; absent: the broker's file.
    pub results: Option<String>,
    /// `file:///folder`, `s3://bucket/folder`, or `file:PATH` for the folder beside that file; absent: the broker's file.
    pub media: Option<String>,
    /// Whether a Redis that may lose what it confirmed will do.
    pub lossy_allowed: bool,
}

/// A queue, a results store and a media store that belong together.
#[derive(Debug)]
pub struct Place {
    /// Where jobs wait.
    pub queue: AnyQueue,
    /// Where results rest.
    pub results: AnyResults,
    /// Where manifests and large media rest.
    pub media: AnyMedia,
}

/// Why a place could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The queue.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// The results store.
    #[error(transparent)]
    Results(#[from] ResultsError),
    /// The media store.
    #[error(transparent)]
    Media(#[from] MediaError),
    /// A URL is missing.
    #[error("{broker} keeps no {what}: say where they are")]
    Missing {
        /// The broker's URL, without credentials.
        broker: String,
        /// `results` or `media`.
        what: &'static str,
    },
}

/// The path of `file:PATH`. Two slashes before an absolute path are the URL's, not the path's.
pub(crate) fn file_path(url: &str) -> Option<PathBuf> {
    let path = url.strip_prefix("file:")?;
    let path = path
        .strip_prefix("//")
        .filter(|path| path.starts_with('/'))
        .unwrap_or(path);
    Some(PathBuf::from(path))
}

/// A URL as messages may show it: without user and password.
pub fn without_credentials(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at(end);
    let host = authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host);
    format!("{scheme}://{host}{tail}")
}

pub(crate) fn scheme_of(url: &str) -> &str {
    url.split_once(':').map_or("", |(scheme, _)| scheme)
}

/// The folder of media beside an embedded file.
pub(crate) fn media_folder(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".media");
    PathBuf::from(name)
}

fn refused(what: &str, url: &str, known: &str) -> String {
    let url = without_credentials(url);
    format!("{what} `{url}` begins with none of {known}")
}

impl AnyQueue {
    /// Opens the queue at `amqp://…` or `file:PATH`.
    pub async fn open(url: &str) -> Result<Self, QueueError> {
        match (file_path(url), scheme_of(url)) {
            (Some(path), _) => EmbeddedQueue::open_path(&path).await.map(Self::Embedded),
            (None, "amqp" | "amqps") => AmqpQueue::open(url).await.map(Self::Amqp),
            _ => Err(QueueError::Unusable {
                message: refused("broker", url, "`amqp:`, `file:`"),
            }),
        }
    }
}

impl AnyResults {
    /// Opens the results store at `redis://…` or `file:PATH`. `lossy_allowed`: whether a Redis that
    /// may lose what it confirmed will do.
    pub async fn open(url: &str, lossy_allowed: bool) -> Result<Self, ResultsError> {
        match (file_path(url), scheme_of(url).split('+').next()) {
            (Some(path), _) => EmbeddedResults::open_path(&path).await.map(Self::Embedded),
            (None, Some("redis" | "rediss")) => RedisResults::open(url, lossy_allowed)
                .await
                .map(|results| Self::Redis(Box::new(results))),
            _ => Err(ResultsError::Unusable {
                message: refused("results store", url, "`redis:`, `file:`"),
            }),
        }
    }
}

impl AnyMedia {
    /// Opens the media store at `file:///folder` or `s3://bucket/folder`, or beside the embedded file at `file:PATH`.
    pub fn open(url: &str) -> Result<Self, MediaError> {
        match file_path(url) {
            Some(path) if !url.starts_with("file://") => Self::beside(&path),
            _ => ObjectMedia::open(url).map(Self::Objects),
        }
    }

    /// The media store beside the embedded file at `path`.
    fn beside(path: &Path) -> Result<Self, MediaError> {
        ObjectMedia::open_folder(&media_folder(path)).map(Self::Objects)
    }
}

impl Place {
    /// Opens all three. On one embedded file they share its threads.
    pub async fn open(urls: &PlaceUrls) -> Result<Self, OpenError> {
        let Some(path) = file_path(&urls.broker) else {
            return Self::open_apart(urls).await;
        };
        let as_queue = |error: StoreError| error.into_queue(&urls.broker);
        let file = EmbeddedFile::open(&path).await.map_err(as_queue)?;
        let media = match &urls.media {
            Some(url) => AnyMedia::open(url)?,
            None => AnyMedia::beside(file.path())?,
        };
        let results = match &urls.results {
            Some(url) if file_path(url) != Some(path.clone()) => {
                let results = AnyResults::open(url, urls.lossy_allowed).await?;
                results.with_archive(&media)
            }
            _ => AnyResults::Embedded(EmbeddedResults::new(&file)),
        };
        let queue = AnyQueue::Embedded(EmbeddedQueue::open(&file).await?);
        Ok(Self {
            queue,
            results,
            media,
        })
    }

    async fn open_apart(urls: &PlaceUrls) -> Result<Self, OpenError> {
        let missing = |what| OpenError::Missing {
            broker: without_credentials(&urls.broker),
            what,
        };
        let results = urls.results.as_deref().ok_or_else(|| missing("results"))?;
        // Results on an embedded file bring a place for media along.
        let media = urls
            .media
            .as_deref()
            .or_else(|| file_path(results).map(|_| results));
        let media = AnyMedia::open(media.ok_or_else(|| missing("media"))?)?;
        let queue = AnyQueue::open(&urls.broker).await?;
        let results = AnyResults::open(results, urls.lossy_allowed).await?;
        Ok(Self {
            queue,
            results: results.with_archive(&media),
            media,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_show_no_credentials() {
        for (url, shown) in [
            ("amqp://me:p%40ss@host:5672/v", "amqp://host:5672/v"),
            ("redis://:secret@host", "redis://host"),
            ("redis://host/0?a=b@c", "redis://host/0?a=b@c"),
            ("file:/tmp/a", "file:/tmp/a"),
        ] {
            assert_eq!(without_credentials(url), shown);
        }
    }

    #[test]
    fn a_file_is_named_with_and_without_slashes() {
        for (url, path) in [
            ("file:jobs.db", "jobs.db"),
            ("file:/tmp/jobs.db", "/tmp/jobs.db"),
            ("file:///tmp/jobs.db", "/tmp/jobs.db"),
        ] {
            assert_eq!(file_path(url), Some(PathBuf::from(path)));
        }
        assert_eq!(file_path("amqp://host"), None);
    }

    #[tokio::test]
    async fn what_is_missing_or_unknown_is_named() {
        let urls = |broker: &str, results: Option<&str>| PlaceUrls {
            broker: broker.to_owned(),
            results: results.map(str::to_owned),
            ..PlaceUrls::default()
        };
        let said = |opened: Result<Place, OpenError>| opened.unwrap_err().to_string();
        assert_eq!(
            said(Place::open(&urls("amqp://u:p@host", None)).await),
            "amqp://host keeps no results: say where they are"
        );
        assert_eq!(
            said(Place::open(&urls("amqp://u:p@host", Some("redis://:p@host"))).await),
            "amqp://host keeps no media: say where they are"
        );
        assert_eq!(
            AnyQueue::open("http://u:p@host")
                .await
                .unwrap_err()
                .to_string(),
            "queue cannot be used: broker `http://host` begins with none of `amqp:`, `file:`"
        );
    }
}
