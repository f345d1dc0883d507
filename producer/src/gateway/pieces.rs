//! An uploaded file in the media store: pieces in order, and a list of them.

use std::io;
use std::sync::Arc;

use axum::body::Bytes;
use axum::http::StatusCode;
use futures::stream::{self, Stream, StreamExt as _};
use lapidary_schemas::MediaRef;
use lapidary_transport::{AnyMedia, Media as _};

use super::error::{ApiError, Code};
use super::limits::{FILE_BYTES_MAX, PIECE_BYTES};

/// A file on its way into the store.
#[derive(Debug)]
pub(super) struct Pieces<'a> {
    media: &'a AnyMedia,
    tenant: &'a str,
    rest: Vec<u8>,
    stored: Vec<MediaRef>,
    bytes: u64,
}

impl<'a> Pieces<'a> {
    /// An empty file.
    pub(super) fn new(media: &'a AnyMedia, tenant: &'a str) -> Self {
        Self {
            media,
            tenant,
            rest: Vec::new(),
            stored: Vec::new(),
            bytes: 0,
        }
    }

    /// Its size so far.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Goes on with these bytes.
    pub(super) async fn add(&mut self, bytes: &[u8]) -> Result<(), ApiError> {
        self.bytes += bytes.len() as u64;
        if self.bytes > FILE_BYTES_MAX {
            return Err(ApiError::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                Code::FileTooLarge,
                format!("the file is over the limit of {FILE_BYTES_MAX} bytes"),
            ));
        }
        self.rest.extend_from_slice(bytes);
        while self.rest.len() >= PIECE_BYTES {
            let more = self.rest.split_off(PIECE_BYTES);
            let piece = std::mem::replace(&mut self.rest, more);
            self.stored.push(self.media.put(self.tenant, piece).await?);
        }
        Ok(())
    }

    /// Stores the rest and the list; answers where the list is, and all that is to be kept.
    pub(super) async fn store(mut self) -> Result<(MediaRef, Vec<MediaRef>), ApiError> {
        if !self.rest.is_empty() {
            let piece = std::mem::take(&mut self.rest);
            self.stored.push(self.media.put(self.tenant, piece).await?);
        }
        let list = serde_json::to_vec(&self.stored).map_err(|error| ApiError::fault(&error))?;
        let list = self.media.put(self.tenant, list).await?;
        self.stored.push(list.clone());
        Ok((list, self.stored))
    }
}

/// The bytes of a stored file, piece by piece.
pub(super) async fn read(
    media: &Arc<AnyMedia>,
    tenant: &str,
    list: &MediaRef,
) -> Result<impl Stream<Item = io::Result<Bytes>> + Send + use<>, ApiError> {
    let list = media.get(tenant, list).await?;
    let pieces: Vec<MediaRef> =
        serde_json::from_slice(&list).map_err(|error| ApiError::fault(&error))?;
    let (media, tenant) = (Arc::clone(media), tenant.to_owned());
    Ok(stream::iter(pieces).then(move |piece| {
        let (media, tenant) = (Arc::clone(&media), tenant.clone());
        async move {
            let bytes = media.get(&tenant, &piece).await;
            bytes
                .map(Bytes::from)
                .map_err(|error| io::Error::other(ApiError::from(error)))
        }
    }))
}
