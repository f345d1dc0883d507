//! Pictures: from bytes to the pixels that a vision tower reads.
//!
//! A picture is known by its content, never by its name. Its header is read first, and everything
//! that would be too large is refused there; then it is decoded, made opaque on white, cut into
//! views, and each view is resized to the model's square and turned upright. Turning comes last:
//! a small square is cheap to turn, and the result is the same.

mod crops;
mod decode;
mod header;
mod metered;
mod resize;
mod turn;
mod view;

use sha2::{Digest, Sha256};

pub use header::memory_bytes;
pub use view::{Image, ImageSpec, View};

use crate::image::crops::Area;

/// What a picture may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageLimits {
    /// Bytes of the file.
    pub bytes_max: usize,
    /// Pixels.
    pub pixels_max: u64,
    /// Width and height, in pixels.
    pub side_max: u32,
    /// Bytes of memory that decoding takes, by [`memory_bytes`].
    pub memory_bytes_max: u64,
}

impl Default for ImageLimits {
    fn default() -> Self {
        Self {
            bytes_max: 64 << 20,
            pixels_max: 100_000_000,
            side_max: 65_535,
            memory_bytes_max: 1 << 30,
        }
    }
}

/// Why bytes are no picture that can be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// There are none.
    #[error("it is empty")]
    Empty,
    /// They are something else.
    #[error("it is {found}, read are JPEG, PNG, WebP, GIF, BMP and TIFF")]
    Format {
        /// What it looks like.
        found: &'static str,
    },
    /// They are damaged, or of a variant that is not read.
    #[error("its {format} cannot be decoded: {message}")]
    Broken {
        /// Name of the format.
        format: &'static str,
        /// What the decoder said.
        message: String,
    },
    /// The file is too large.
    #[error("it is {bytes} bytes, the limit is {limit}")]
    Bytes {
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The picture is too wide or too high.
    #[error("it is {width}x{height} pixels, the limit is {limit} on a side")]
    Side {
        /// Its width.
        width: u32,
        /// Its height.
        height: u32,
        /// The limit.
        limit: u32,
    },
    /// The picture has too many pixels.
    #[error("it is {width}x{height} pixels, the limit is {limit} in all")]
    Pixels {
        /// Its width.
        width: u32,
        /// Its height.
        height: u32,
        /// The limit.
        limit: u64,
    },
    /// Decoding would take too much memory.
    #[error("its {format} takes {bytes} bytes of memory to decode, the limit is {limit}")]
    Memory {
        /// Name of the format.
        format: &'static str,
        /// Bytes it would take, or the least that it would.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
}

impl ImageError {
    /// Whether it is a limit that the picture breaks, and not the picture that is broken.
    pub fn is_too_large(&self) -> bool {
        match self {
            Self::Bytes { .. } | Self::Side { .. } | Self::Pixels { .. } | Self::Memory { .. } => {
                true
            }
            Self::Empty | Self::Format { .. } | Self::Broken { .. } => false,
        }
    }
}

/// Views of the picture in `bytes`. CPU-bound, and takes [`memory_bytes`] of memory.
///
/// Colours are taken as they are stored: neither gamma nor colour profiles are applied, as in the
/// reference processor. What is transparent is white; the reference processor drops transparency,
/// which shows whatever colour lies under it.
pub fn prepare(bytes: &[u8], spec: &ImageSpec, limits: &ImageLimits) -> Result<Image, ImageError> {
    let header = header::read(bytes, limits)?;
    let picture = decode::decode(bytes, &header)?;
    let (width, height) = picture.turn.turned(picture.width, picture.height);
    let whole = Area::whole(width, height);
    let crops = if spec.pan_and_scan {
        crops::pan_and_scan(width, height)
    } else {
        Vec::new()
    };
    let views = std::iter::once(whole).chain(crops).map(|area| {
        let area = picture.turn.stored_area(area, width, height);
        let square = resize::to_square(&picture, area, spec.side)?;
        Ok(View::new(picture.turn.turn_square(square, spec.side)))
    });
    let views = views.collect::<Result<_, ImageError>>()?;
    Ok(Image::new(
        Sha256::digest(bytes).into(),
        width,
        height,
        views,
    ))
}
