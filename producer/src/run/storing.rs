//! Pictures on their way into the media store, several at once: each waits for a disk.

use lapidary_transport::Media as _;
use tokio::task::JoinSet;

use crate::exit::{Exit, Stop};
use crate::picture::Picture;
use crate::plan::PictureAt;
use crate::sources::Shown;
use crate::stores::Stores;

/// Documents whose pictures are stored at once.
const STORING_MAX: usize = 16;

/// A document whose pictures are where a worker finds them.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) name: String,
    pub(super) key: String,
    pub(super) pictures: Vec<PictureAt>,
}

/// Documents on their way.
#[derive(Debug, Default)]
pub(super) struct Storing(JoinSet<Result<Stored, Stop>>);

impl Storing {
    /// Sends one on its way.
    pub(super) fn add(
        &mut self,
        place: &Stores,
        tenant: &str,
        (name, key): (String, String),
        shown: Vec<Shown>,
    ) {
        let (media, tenant) = (place.media.clone(), tenant.to_owned());
        self.0.spawn(async move {
            let mut pictures = Vec::with_capacity(shown.len());
            for shown in shown {
                pictures.push(match shown {
                    // The room it takes in memory is given back once it is stored.
                    Shown::Picture(Picture { bytes, room, .. }) => {
                        let stored = media.put(&tenant, bytes).await;
                        drop(room);
                        PictureAt::Stored(stored?)
                    }
                    Shown::Address(url) => PictureAt::Address(url),
                });
            }
            Ok(Stored {
                name,
                key,
                pictures,
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
