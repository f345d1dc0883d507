//! Media in an object store: a folder of the file system, shared or not, or a bucket of S3.
//!
//! `objects/<tenant>/<first two digits>/<sha256>` holds the bytes, `pins/<batch>/<tenant>/<sha256>`
//! is an empty object for each pin. Writes are atomic and synced; storing again renews the age.

mod s3;

use std::collections::HashSet;
use std::path::Path as FilePath;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use futures::TryStreamExt;
use futures::stream::{self, StreamExt};
use lapidary_schemas::limits::MEDIA_BYTES_MAX;
use lapidary_schemas::{BatchId, MediaRef};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use sha2::{Digest, Sha256};

use super::{Collected, Media, MediaError, UNPINNED_KEPT};

/// Requests under way at once.
const CONCURRENT: usize = 16;

/// Content-addressed bytes in an object store.
#[derive(Debug, Clone)]
pub struct ObjectMedia {
    store: Arc<dyn ObjectStore>,
}

impl ObjectMedia {
    /// Opens the store at `file:///folder`, which is made if it does not exist, or at
    /// `s3://bucket/folder`.
    pub fn open(url: &str) -> Result<Self, MediaError> {
        match url.split_once("://") {
            Some(("file", path)) if path.starts_with('/') => Self::open_folder(FilePath::new(path)),
            Some(("file", path)) => Err(MediaError::Unusable {
                message: format!("`file://{path}` is no absolute path: write `file:///folder`"),
            }),
            Some(("s3", place)) => Ok(Self {
                store: s3::open(place, s3::variables())?,
            }),
            Some((scheme @ ("gs" | "az"), _)) => Err(MediaError::Unusable {
                message: format!(
                    "`{scheme}` is not supported by this build: use `s3://bucket/folder` or \
                     `file:///folder`"
                ),
            }),
            _ => Err(MediaError::Unusable {
                message: "media address must read `file:///folder` or `s3://bucket/folder`"
                    .to_owned(),
            }),
        }
    }

    /// Opens the store at `BUCKET[/FOLDER]` of S3, as these variables of AWS's tools say.
    pub fn open_s3(
        place: &str,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, MediaError> {
        let store = s3::open(place, variables.into_iter())?;
        Ok(Self { store })
    }

    /// Opens the store in a folder, which is made if it does not exist.
    pub fn open_folder(folder: &FilePath) -> Result<Self, MediaError> {
        let unusable = |message: String| MediaError::Unusable {
            message: format!("folder {}: {message}", folder.display()),
        };
        std::fs::create_dir_all(folder).map_err(|error| unusable(error.to_string()))?;
        let store = LocalFileSystem::new_with_prefix(folder)
            .map_err(|error| unusable(error.to_string()))?
            .with_fsync(true);
        Ok(Self {
            store: Arc::new(store),
        })
    }

    async fn exists(&self, path: &Path) -> Result<bool, MediaError> {
        match self.store.head(path).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(fault(&error)),
        }
    }

    /// Names under a prefix.
    async fn names(&self, prefix: &Path) -> Result<Vec<Path>, MediaError> {
        let listing = self
            .store
            .list(Some(prefix))
            .map_ok(|object| object.location);
        listing.try_collect().await.map_err(|error| fault(&error))
    }

    async fn remove(&self, path: &Path) -> Result<(), MediaError> {
        match self.store.delete(path).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(fault(&error)),
        }
    }

    /// Tenant and content of everything pinned, as they stand in both kinds of path.
    async fn pins(&self) -> Result<HashSet<(String, String)>, MediaError> {
        let all = self.names(&Path::from("pins")).await?;
        Ok(all.iter().filter_map(tail_of).collect())
    }
}

/// The last name of a path, and the tenant's.
fn tail_of(path: &Path) -> Option<(String, String)> {
    let parts: Vec<_> = path.parts().collect();
    let [_, second, third, last] = parts.as_slice() else {
        return None;
    };
    let tenant = if parts[0].as_ref() == "pins" {
        third
    } else {
        second
    };
    Some((tenant.as_ref().to_owned(), last.as_ref().to_owned()))
}

/// `Path::from_iter` escapes what a path cannot hold, so a tenant's name cannot leave its folder.
fn object_path(tenant: &str, sha256: &str) -> Path {
    Path::from_iter(["objects", tenant, sha256.get(..2).unwrap_or("00"), sha256])
}

fn pin_path(batch: BatchId, tenant: &str, sha256: &str) -> Path {
    Path::from_iter(["pins", &batch.to_string(), tenant, sha256])
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}

fn fault(error: &object_store::Error) -> MediaError {
    let message = error.to_string();
    let mut source: Option<&dyn std::error::Error> = Some(error);
    while let Some(cause) = source {
        if let Some(io) = cause.downcast_ref::<std::io::Error>() {
            return match io.kind() {
                std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                    MediaError::StorageFull { message }
                }
                std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => {
                    MediaError::Unusable { message }
                }
                _ => MediaError::Unreachable { message },
            };
        }
        source = cause.source();
    }
    match error {
        // Of a bucket: what may be missing is asked for in other ways.
        object_store::Error::NotFound { .. }
        | object_store::Error::PermissionDenied { .. }
        | object_store::Error::Unauthenticated { .. } => MediaError::Unusable { message },
        _ => MediaError::Unreachable { message },
    }
}

impl Media for ObjectMedia {
    async fn put(&self, tenant: &str, bytes: Vec<u8>) -> Result<MediaRef, MediaError> {
        let length = bytes.len() as u64;
        if bytes.len() > MEDIA_BYTES_MAX {
            return Err(MediaError::TooLarge {
                bytes: length,
                limit: MEDIA_BYTES_MAX as u64,
            });
        }
        let sha256 = hex(&Sha256::digest(&bytes));
        let path = object_path(tenant, &sha256);
        self.store
            .put(&path, bytes.into())
            .await
            .map_err(|error| fault(&error))?;
        Ok(MediaRef {
            sha256,
            bytes: length,
        })
    }

    async fn get(&self, tenant: &str, media: &MediaRef) -> Result<Vec<u8>, MediaError> {
        let found = match self.store.get(&object_path(tenant, &media.sha256)).await {
            Ok(found) => found,
            Err(object_store::Error::NotFound { .. }) => {
                return Err(MediaError::Missing {
                    sha256: media.sha256.clone(),
                });
            }
            Err(error) => return Err(fault(&error)),
        };
        if found.meta.size > MEDIA_BYTES_MAX as u64 {
            return Err(MediaError::Damaged {
                sha256: media.sha256.clone(),
            });
        }
        let bytes: Vec<u8> = found.bytes().await.map_err(|error| fault(&error))?.into();
        if hex(&Sha256::digest(&bytes)) == media.sha256 {
            Ok(bytes)
        } else {
            Err(MediaError::Damaged {
                sha256: media.sha256.clone(),
            })
        }
    }

    async fn pin(
        &self,
        tenant: &str,
        batch: BatchId,
        media: &[MediaRef],
    ) -> Result<(), MediaError> {
        // Pinned first and looked for second: a collection under way either sees the pin or has
        // removed the object, which is then missed here.
        let pinning: Vec<_> = media
            .iter()
            .map(|one| async move {
                let path = pin_path(batch, tenant, &one.sha256);
                self.store
                    .put(&path, Vec::new().into())
                    .await
                    .map_err(|error| fault(&error))?;
                if self.exists(&object_path(tenant, &one.sha256)).await? {
                    return Ok(());
                }
                self.remove(&path).await?;
                Err(MediaError::Missing {
                    sha256: one.sha256.clone(),
                })
            })
            .collect();
        stream::iter(pinning)
            .buffer_unordered(CONCURRENT)
            .try_collect()
            .await
    }

    async fn unpin(&self, batch: BatchId) -> Result<(), MediaError> {
        let pins = self
            .names(&Path::from_iter(["pins", &batch.to_string()]))
            .await?;
        let removing: Vec<_> = pins.iter().map(|path| self.remove(path)).collect();
        stream::iter(removing)
            .buffer_unordered(CONCURRENT)
            .try_collect()
            .await
    }

    async fn pinned(&self, after: Option<BatchId>, max: usize) -> Result<Vec<BatchId>, MediaError> {
        let pins = Path::from("pins");
        let listing = self.store.list_with_delimiter(Some(&pins)).await;
        let folders = listing.map_err(|error| fault(&error))?.common_prefixes;
        let mut batches = Vec::new();
        for folder in folders {
            let batch = folder
                .filename()
                .and_then(|name| name.parse::<BatchId>().ok());
            let Some(batch) = batch.filter(|batch| after.is_none_or(|after| *batch > after)) else {
                continue;
            };
            // A folder may outlive its last pin.
            if self.store.list(Some(&folder)).next().await.is_some() {
                batches.push(batch);
            }
        }
        batches.sort_unstable();
        batches.truncate(max);
        Ok(batches)
    }

    async fn collect(&self, now: DateTime<Utc>) -> Result<Collected, MediaError> {
        let before = now - UNPINNED_KEPT;
        let objects = Path::from("objects");
        let mut old = self
            .store
            .list(Some(&objects))
            .try_filter(|object| futures::future::ready(object.last_modified < before));
        let mut candidates = Vec::new();
        while let Some(object) = old.try_next().await.map_err(|error| fault(&error))? {
            candidates.push(object);
        }
        let pins = self.pins().await?;
        let mut collected = Collected::default();
        for object in candidates {
            if tail_of(&object.location).is_none_or(|tail| pins.contains(&tail)) {
                continue;
            }
            // Stored again since it was listed?
            match self.store.head(&object.location).await {
                Ok(found) if found.last_modified < before => {}
                Ok(_) | Err(object_store::Error::NotFound { .. }) => continue,
                Err(error) => return Err(fault(&error)),
            }
            self.remove(&object.location).await?;
            collected.objects += 1;
            collected.bytes += object.size;
        }
        Ok(collected)
    }
}
