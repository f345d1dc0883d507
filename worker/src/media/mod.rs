//! Loads what a request refers to, within limits: the texts of its documents, and its images ready
//! for the model's vision tower.

mod document;
mod images;

use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use lapidary_engine::image::{Image, ImageSpec};
use lapidary_schemas::limits::MEDIA_BYTES_MAX;
use lapidary_schemas::media::MEDIA_SCHEME;
use lapidary_schemas::metrics::Metrics;
use lapidary_schemas::request::Content;
use lapidary_schemas::{Failure, FailureCode, Job, MediaRef, Message, Part};
use lapidary_transport::media::MediaError;
use lapidary_transport::{AnyMedia, Media};

use crate::fetch::Fetcher;
use crate::media::images::{Held, Images, JobImages};

/// What a part of a message refers to, loaded.
#[derive(Debug)]
pub(crate) enum Medium {
    /// The text of a document.
    Document(String),
    /// An image as the model sees it.
    Image(Arc<Image>),
}

/// What the parts of a request refer to, in their order.
#[derive(Debug, Default)]
pub(crate) struct Loaded {
    pub(crate) media: Vec<Medium>,
    /// The memory that its images take; given back when dropped.
    pub(crate) held: Option<Held>,
}

/// Where a part stands, in the words of validation.
#[derive(Debug, Clone, Copy)]
struct Place {
    part: usize,
    message: usize,
}

/// Loads the media of jobs.
#[derive(Debug)]
pub(crate) struct Loader {
    store: Arc<AnyMedia>,
    /// `None` for a model that reads text only: validation lets no image get here.
    images: Option<Images>,
}

impl Loader {
    /// For a model that wants `spec` of images, some of which are fetched from the web.
    pub(crate) fn new(
        store: Arc<AnyMedia>,
        spec: Option<ImageSpec>,
        fetcher: Option<Fetcher>,
        metrics: &Arc<Metrics>,
    ) -> Self {
        let images = spec.map(|spec| Images::new(spec, store.clone(), fetcher, metrics.clone()));
        Self { store, images }
    }

    /// Loads everything that the messages of a job refer to.
    pub(crate) async fn load(&self, job: &Job, messages: &[Message]) -> Result<Loaded, Failure> {
        let mut loaded = Loaded::default();
        let mut images = match &self.images {
            Some(images) => Some(images.begin(job, &urls(messages)).await?),
            None => None,
        };
        let mut document_bytes = 0;
        for (place, part) in parts(messages) {
            match (part, &mut images) {
                (Part::File { file }, _) => {
                    let text = document::load(&*self.store, &job.tenant, file).await?;
                    document_bytes += text.len();
                    if document_bytes > MEDIA_BYTES_MAX {
                        let message = format!(
                            "the request's documents are over the limit of {MEDIA_BYTES_MAX} bytes"
                        );
                        return Err(Failure::new(FailureCode::MediaTooLarge, message));
                    }
                    loaded.media.push(Medium::Document(text));
                }
                (Part::ImageUrl { image_url }, Some(images)) => {
                    let image = images.load(place, &image_url.url).await?;
                    loaded.media.push(Medium::Image(Arc::new(image)));
                }
                (Part::Text { .. } | Part::InputAudio { .. } | Part::ImageUrl { .. }, _) => {}
            }
        }
        loaded.held = images.and_then(JobImages::finish);
        Ok(loaded)
    }
}

/// All parts of the messages, and where they stand.
fn parts(messages: &[Message]) -> impl Iterator<Item = (Place, &Part)> {
    messages.iter().enumerate().flat_map(|(message, turn)| {
        let parts = match &turn.content {
            Content::Text(_) => &[][..],
            Content::Parts(parts) => parts,
        };
        let placed = parts.iter().enumerate();
        placed.map(move |(part, content)| (Place { part, message }, content))
    })
}

/// Where the images of the messages are.
fn urls(messages: &[Message]) -> Vec<&str> {
    let urls = parts(messages).filter_map(|(_, part)| match part {
        Part::ImageUrl { image_url } => Some(image_url.url.as_str()),
        _ => None,
    });
    urls.collect()
}

/// Why the bytes of a reference are not there.
#[derive(Debug)]
enum Unloaded {
    /// The reference or its content is broken.
    Broken(String),
    /// The store did not give them.
    Store(MediaError),
}

/// The bytes of a `media:` or `data:` reference.
async fn bytes_of(store: &impl Media, tenant: &str, written: &str) -> Result<Vec<u8>, Unloaded> {
    if written.starts_with(MEDIA_SCHEME) {
        let media: MediaRef = written
            .parse()
            .map_err(|error| Unloaded::Broken(format!("{error}")))?;
        return store.get(tenant, &media).await.map_err(Unloaded::Store);
    }
    let Some((_, payload)) = written.split_once(',') else {
        let why = "its `data:` reference has no comma before the content";
        return Err(Unloaded::Broken(why.to_owned()));
    };
    BASE64_STANDARD
        .decode(payload)
        .map_err(|error| Unloaded::Broken(format!("its base64: {error}")))
}

impl Unloaded {
    /// What it means for a job that refers to `what`.
    fn failure(&self, what: &str) -> Failure {
        let error = match self {
            Self::Broken(why) => return broken(what, why),
            Self::Store(error) => error,
        };
        let code = match error {
            MediaError::Damaged { .. } => FailureCode::MediaInvalid,
            MediaError::TooLarge { .. } => FailureCode::MediaTooLarge,
            // Bytes that are not there yet may be there later: stores may replicate.
            MediaError::Missing { .. }
            | MediaError::Unreachable { .. }
            | MediaError::StorageFull { .. }
            | MediaError::Unusable { .. } => FailureCode::MediaUnreachable,
        };
        Failure::new(code, format!("{what} cannot be loaded: {error}"))
    }
}

fn broken(what: &str, why: &str) -> Failure {
    Failure::new(
        FailureCode::MediaInvalid,
        format!("{what} cannot be read: {why}"),
    )
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "part {} of message {}", self.part, self.message)
    }
}
