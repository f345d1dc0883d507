//! Pictures on their way into the media store, several at once: each waits for a disk.

use lapidary_schemas::MediaRef;
use lapidary_transport::Media as _;
use tokio::task::JoinSet;

use crate::config::Stores;
use crate::exit::{Exit, Stop};
use crate::picture::Picture;

/// Pictures that are stored at once.
const STORING_MAX: usize = 16;

/// A picture that is in the store.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) name: String,
    pub(super) key: String,
    pub(super) media: MediaRef,
}

/// Pictures on their way.
#[derive(Debug, Default)]
pub(super) struct Storing(JoinSet<Result<Stored, Stop>>);

impl Storing {
    /// Sends one on its way.
    pub(super) fn add(
        &mut self,
        place: &Stores,
        tenant: &str,
        (name, key): (String, String),
        picture: Picture,
    ) {
        let (media, tenant) = (place.media.clone(), tenant.to_owned());
        self.0.spawn(async move {
            // The room it takes in memory is given back once it is stored.
            let Picture { bytes, room, .. } = picture;
            let stored = media.put(&tenant, bytes).await;
            drop(room);
            Ok(Stored {
                name,
                key,
                media: stored?,
            })
        });
    }

    /// The next one that is stored. `None`: none is on its way.
    pub(super) async fn next(&mut self) -> Option<Result<Stored, Stop>> {
        let joined = self.0.join_next().await?;
        Some(joined.unwrap_or_else(|error| {
            Err(Stop::new(
                Exit::Failed,
                format!("storing a picture broke: {error}"),
            ))
        }))
    }

    /// Whether another one may be added.
    pub(super) fn has_room(&self) -> bool {
        self.0.len() < STORING_MAX
    }

    /// Whether none is on its way.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
