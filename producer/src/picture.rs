//! Pictures as bytes: nothing is decoded here, but what is no picture at all is refused at once.

use std::io::SeekFrom;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use image::ImageFormat;
use lapidary_schemas::{Failure, FailureCode, MediaRef};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::digest::sha256_hex;
use crate::file::{DOCUMENT_BYTES_MAX, check_size, invalid, unreadable};

/// Bytes of all pictures that are in memory at once, from before they are read until they are stored.
const PICTURES_BYTES_MAX: u64 = 128 << 20;
/// Room is handed out in pieces of this many bytes.
const ROOM_PIECE_BYTES: u64 = 1024;
/// Bytes of a file in which a mark-up language shows itself.
const MARKUP_BYTES: usize = 512;

const _: () = assert!(PICTURES_BYTES_MAX >= DOCUMENT_BYTES_MAX);
const _: () = assert!(PICTURES_BYTES_MAX / ROOM_PIECE_BYTES <= u32::MAX as u64);

/// A picture on its way to the media store.
#[derive(Debug)]
pub struct Picture {
    /// What the store will call it.
    pub media: MediaRef,
    /// The file's bytes.
    pub bytes: Vec<u8>,
    /// The room it takes in memory, given back when it is dropped.
    pub room: Option<OwnedSemaphorePermit>,
}

/// Room in memory for pictures; those who want more than there is wait.
#[derive(Debug, Clone)]
pub struct Room(Arc<Semaphore>);

impl Room {
    /// All the room there is.
    pub fn new() -> Self {
        let pieces = u32::try_from(PICTURES_BYTES_MAX / ROOM_PIECE_BYTES).unwrap_or(u32::MAX);
        Self(Arc::new(Semaphore::new(pieces as usize)))
    }

    /// Waits for room for so many bytes.
    async fn take(&self, bytes: u64) -> Option<OwnedSemaphorePermit> {
        // Fails only once the semaphore is closed, which it never is.
        let all = Arc::clone(&self.0);
        all.acquire_many_owned(pieces(bytes)).await.ok()
    }

    /// Waits for room for all of what `name` holds at once: those who have some and want more would
    /// wait for each other.
    pub(crate) async fn take_each(
        &self,
        sizes: &[u64],
        name: &str,
    ) -> Result<Vec<Option<OwnedSemaphorePermit>>, Failure> {
        let bytes = sizes
            .iter()
            .map(|bytes| u64::from(pieces(*bytes)) * ROOM_PIECE_BYTES);
        let bytes: u64 = bytes.sum();
        if bytes > PICTURES_BYTES_MAX {
            return Err(Failure::new(
                FailureCode::MediaTooLarge,
                format!("{name} are {bytes} bytes together, the limit is {PICTURES_BYTES_MAX}"),
            ));
        }
        let mut room = self.take(bytes).await;
        let mut part = |bytes: &u64| room.as_mut()?.split(pieces(*bytes) as usize);
        Ok(sizes.iter().map(&mut part).collect())
    }
}

/// How many pieces of room so many bytes take.
fn pieces(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(ROOM_PIECE_BYTES)).unwrap_or(u32::MAX)
}

impl Default for Room {
    fn default() -> Self {
        Self::new()
    }
}

/// Whether a file with this ending is a picture, in any case.
pub fn is_ending(ending: &str) -> bool {
    ENDINGS
        .iter()
        .any(|known| known.eq_ignore_ascii_case(ending))
}

/// The endings of files that are pictures, in lower case.
pub const ENDINGS: [&str; 8] = ["jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff"];

/// Reads a picture from a stretch of a file, once there is room for it. The failure names it and the
/// reason.
pub(crate) async fn read(
    path: &Path,
    stretch: Range<u64>,
    name: &str,
    room: &Room,
) -> Result<Picture, Failure> {
    let room = room
        .take(check_size(stretch.end - stretch.start, name)?)
        .await;
    read_into(room, path, stretch, name).await
}

/// Reads a picture into room that was taken for all of it.
pub(crate) async fn read_into(
    room: Option<OwnedSemaphorePermit>,
    path: &Path,
    stretch: Range<u64>,
    name: &str,
) -> Result<Picture, Failure> {
    let size = stretch.end - stretch.start;
    let read = async {
        let mut file = tokio::fs::File::open(path).await?;
        file.seek(SeekFrom::Start(stretch.start)).await?;
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
        // No more than there is room for, should the file grow meanwhile.
        file.take(size).read_to_end(&mut bytes).await?;
        Ok(bytes)
    };
    let bytes: Vec<u8> = read.await.map_err(|error| unreadable(name, &error))?;
    Picture::new(bytes, room, name)
}

impl Picture {
    /// Takes bytes that are in memory already, once there is room for them.
    pub(crate) async fn of(bytes: Vec<u8>, name: &str, room: &Room) -> Result<Self, Failure> {
        let room = room.take(check_size(bytes.len() as u64, name)?).await;
        Self::new(bytes, room, name)
    }

    fn new(
        bytes: Vec<u8>,
        room: Option<OwnedSemaphorePermit>,
        name: &str,
    ) -> Result<Self, Failure> {
        format(&bytes).map_err(|reason| invalid(format!("{name} {reason}")))?;
        let media = MediaRef {
            sha256: sha256_hex(&bytes),
            bytes: bytes.len() as u64,
        };
        Ok(Self { media, bytes, room })
    }
}

/// What kind of picture it begins like, if workers decode it; the reason why not continues a sentence
/// that begins with the name.
pub(crate) fn format(bytes: &[u8]) -> Result<ImageFormat, String> {
    use ImageFormat::{Bmp, Gif, Jpeg, Png, Tiff, WebP};
    match image::guess_format(bytes) {
        Ok(read @ (Jpeg | Png | WebP | Gif | Bmp | Tiff)) => Ok(read),
        Ok(other) => Err(format!(
            "is {}, which is not read; read are JPEG, PNG, WebP, GIF, BMP and TIFF",
            other.to_mime_type()
        )),
        Err(_) => Err(match markup(bytes) {
            Some(language) => format!("is {language}, not a picture of pixels"),
            None => "begins like no JPEG, PNG, WebP, GIF, BMP or TIFF".to_owned(),
        }),
    }
}

/// The mark-up language that a file is written in, if it is.
fn markup(bytes: &[u8]) -> Option<&'static str> {
    let start = &bytes[..bytes.len().min(MARKUP_BYTES)];
    let start = String::from_utf8_lossy(start).to_ascii_lowercase();
    let start = start.trim_start_matches('\u{feff}').trim_start();
    if start.starts_with("<svg") || start.starts_with("<?xml") && start.contains("<svg") {
        Some("SVG")
    } else if start.starts_with("<!doctype html") || start.starts_with("<html") {
        Some("HTML")
    } else {
        start.starts_with("<?xml").then_some("XML")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_begins_like_a_picture_passes() {
        for start in [
            &b"\xff\xd8\xff\xe0"[..],
            b"\x89PNG\r\n\x1a\n",
            b"GIF89a",
            b"RIFF\x00\x00\x00\x00WEBP",
            b"BM",
            b"II*\0",
            b"MM\0*",
        ] {
            assert!(format(start).is_ok(), "{start:?}");
        }
    }

    #[test]
    fn what_is_no_picture_says_what_it_is() {
        for (start, reason) in [
            (&b"<svg xmlns"[..], "is SVG, not a picture of pixels"),
            (
                b"<?xml version='1.0'?>\n<svg>",
                "is SVG, not a picture of pixels",
            ),
            (
                b"<?xml version='1.0'?>\n<feed>",
                "is XML, not a picture of pixels",
            ),
            (
                b"\n<!DOCTYPE html><title>404",
                "is HTML, not a picture of pixels",
            ),
            (
                b"\0\0\x01\0",
                "is image/x-icon, which is not read; read are JPEG, PNG, WebP, GIF, BMP and TIFF",
            ),
            (
                b"no picture",
                "begins like no JPEG, PNG, WebP, GIF, BMP or TIFF",
            ),
        ] {
            assert_eq!(format(start), Err(reason.to_owned()));
        }
    }

    #[tokio::test]
    async fn pictures_wait_for_room() {
        let room = Room::new();
        let first = room.take(DOCUMENT_BYTES_MAX).await;
        let _second = room.take(DOCUMENT_BYTES_MAX).await;
        let mut third = std::pin::pin!(room.take(1));
        assert!(futures::poll!(&mut third).is_pending());
        drop(first);
        assert!(futures::poll!(&mut third).is_ready());
    }

    #[tokio::test]
    async fn pictures_that_are_shown_together_take_their_room_together() {
        let room = Room::new();
        let each = room.take_each(&[1, 0, DOCUMENT_BYTES_MAX], "a, b").await;
        let each = each.unwrap();
        let taken = each.iter().map(|room| room.as_ref().unwrap().num_permits());
        let taken: Vec<usize> = taken.collect();
        assert_eq!(taken, [1, 0, pieces(DOCUMENT_BYTES_MAX) as usize]);
        drop(each);
        let sizes = [DOCUMENT_BYTES_MAX, DOCUMENT_BYTES_MAX, 1];
        assert_eq!(
            room.take_each(&sizes, "a, b")
                .await
                .unwrap_err()
                .to_string(),
            "MEDIA_TOO_LARGE: a, b are 134218752 bytes together, the limit is 134217728"
        );
        assert!(room.take(PICTURES_BYTES_MAX).await.is_some());
    }

    #[tokio::test]
    async fn a_picture_is_named_by_its_content() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.gif");
        std::fs::write(&path, b"..GIF89a and more").unwrap();
        let room = Room::new();
        let picture = read(&path, 2..8, "a.gif", &room).await.unwrap();
        assert_eq!(picture.bytes, b"GIF89a");
        assert_eq!(
            picture.media.to_string(),
            format!("media:{}:6", sha256_hex(b"GIF89a"))
        );
        let failure = read(&path, 2..2, "a.gif", &room).await.unwrap_err();
        assert_eq!(failure.to_string(), "MEDIA_INVALID: a.gif is empty");
    }
}
