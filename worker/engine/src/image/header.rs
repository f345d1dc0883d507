//! What a picture's first bytes say: its format, its size, and what decoding it will take.

use image::{ImageDecoder, ImageFormat, ImageReader, Limits};

use super::metered::{Metered, is_out_of_memory};
use super::{ImageError, ImageLimits};

/// Bytes of the start of a file that tell what it is.
const MAGIC_BYTES: usize = 512;
/// Bytes that any decoder may take beside what its picture needs: tables, metadata.
const ASIDE_BYTES: u64 = 4 << 20;
/// Bytes that a part of a WebP may say that it has, 24 bits; they are taken before the part is found shorter.
const WEBP_PART_BYTES: u64 = 1 << 24;
/// Bytes that code tables of a WebP take for each of the file, and at most: encoders write up to 2,600 groups of
/// tables, of some 60 KB each.
const WEBP_TABLES_PER_BYTE: u64 = 400;
const WEBP_TABLES_BYTES_MAX: u64 = 160 << 20;

/// What a picture's header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) format: ImageFormat,
    /// Bytes of memory that decoding takes at most.
    pub(super) memory_bytes: u64,
}

impl Header {
    pub(super) fn format_name(&self) -> &'static str {
        name(self.format)
    }
}

/// Bytes of memory that [`super::prepare`] takes at most for these bytes, besides them and the
/// views. Reads the header only.
pub fn memory_bytes(bytes: &[u8], limits: &ImageLimits) -> Result<u64, ImageError> {
    Ok(read(bytes, limits)?.memory_bytes)
}

/// Reads the header, and refuses what is too large.
pub(super) fn read(bytes: &[u8], limits: &ImageLimits) -> Result<Header, ImageError> {
    if bytes.len() > limits.bytes_max {
        return Err(ImageError::Bytes {
            bytes: bytes.len(),
            limit: limits.bytes_max,
        });
    }
    let format = sniff(bytes)?;
    let decoder = decoder(bytes, format, limits.memory_bytes_max)?;
    let (width, height) = decoder.dimensions();
    let limit = limits.side_max;
    if width > limit || height > limit {
        return Err(ImageError::Side {
            width,
            height,
            limit,
        });
    }
    let (pixels, limit) = (u64::from(width) * u64::from(height), limits.pixels_max);
    if pixels > limit {
        return Err(ImageError::Pixels {
            width,
            height,
            limit,
        });
    }
    let memory_bytes = memory(format, decoder.total_bytes(), pixels, bytes.len() as u64);
    if memory_bytes > limits.memory_bytes_max {
        return Err(ImageError::Memory {
            format: name(format),
            bytes: memory_bytes,
            limit: limits.memory_bytes_max,
        });
    }
    Ok(Header {
        format,
        memory_bytes,
    })
}

/// A decoder that has read the header, and takes no more memory than so much.
pub(super) fn decoder(
    bytes: &[u8],
    format: ImageFormat,
    memory_bytes: u64,
) -> Result<impl ImageDecoder, ImageError> {
    let mut reader = ImageReader::with_format(Metered::new(bytes, memory_bytes), format);
    // Width and height are checked with words of our own.
    let mut inner = Limits::no_limits();
    inner.max_alloc = Some(memory_bytes);
    reader.limits(inner);
    reader
        .into_decoder()
        .map_err(|error| undecoded(format, &error, memory_bytes))
}

/// What the error of a decoder means that was given so much memory.
pub(super) fn undecoded(
    format: ImageFormat,
    error: &image::ImageError,
    memory_bytes: u64,
) -> ImageError {
    let exceeded = ImageError::Memory {
        format: name(format),
        bytes: memory_bytes.saturating_add(1),
        limit: memory_bytes,
    };
    match error {
        image::ImageError::Limits(_) => exceeded,
        image::ImageError::IoError(error) if is_out_of_memory(error) => exceeded,
        other => ImageError::Broken {
            format: name(format),
            message: other.to_string(),
        },
    }
}

/// Bytes that decoding takes: the decoded picture, what its decoder keeps beside it, the picture as RGB where it
/// is decoded to something else, and the file or its metadata in buffers that double as they grow.
fn memory(format: ImageFormat, decoded: u64, pixels: u64, file: u64) -> u64 {
    let beside = match format {
        // The coefficients of a progressive picture, two bytes a sample.
        ImageFormat::Jpeg => 2 * decoded,
        // A frame in the decoder's own layout.
        ImageFormat::Gif | ImageFormat::Tiff => decoded.max(4 * pixels),
        // The same, a part that is shorter than it says, and the tables of what is stored without loss.
        ImageFormat::WebP => {
            let tables = WEBP_TABLES_BYTES_MAX.min(WEBP_TABLES_PER_BYTE * file);
            decoded.max(4 * pixels) + WEBP_PART_BYTES + tables
        }
        _ => 0,
    };
    decoded + beside + 4 * pixels + 2 * file + ASIDE_BYTES
}

/// The format of a picture, by its content.
fn sniff(bytes: &[u8]) -> Result<ImageFormat, ImageError> {
    if bytes.is_empty() {
        return Err(ImageError::Empty);
    }
    match image::guess_format(bytes) {
        Ok(
            format @ (ImageFormat::Jpeg
            | ImageFormat::Png
            | ImageFormat::WebP
            | ImageFormat::Gif
            | ImageFormat::Bmp
            | ImageFormat::Tiff),
        ) => Ok(format),
        _ => Err(ImageError::Format {
            found: looks_like(bytes),
        }),
    }
}

/// What other bytes are, in a person's words.
fn looks_like(bytes: &[u8]) -> &'static str {
    let start = &bytes[..bytes.len().min(MAGIC_BYTES)];
    match start {
        [_, _, _, _, b'f', b't', b'y', b'p', b'a', b'v', b'i', ..] => return "an AVIF picture",
        [_, _, _, _, b'f', b't', b'y', b'p', b'h', b'e', ..]
        | [_, _, _, _, b'f', b't', b'y', b'p', b'm', b'i', b'f', ..] => return "a HEIC picture",
        [_, _, _, _, b'f', b't', b'y', b'p', ..] => return "a video",
        [0xFF, 0x0A, ..] | [0, 0, 0, 0x0C, b'J', b'X', b'L', ..] => return "a JPEG XL picture",
        [b'%', b'P', b'D', b'F', ..] => return "a PDF document",
        [b'P', b'K', 3, 4, ..] => return "a ZIP archive",
        [0x1F, 0x8B, ..] => return "a gzip file",
        _ => {}
    }
    let text = String::from_utf8_lossy(start).to_ascii_lowercase();
    let text = text.trim_start_matches('\u{feff}').trim_start();
    if text.contains("<svg") {
        "an SVG drawing"
    } else if text.starts_with("<!doctype html") || text.starts_with("<html") {
        "an HTML page"
    } else if text.starts_with("<?xml") {
        "an XML document"
    } else if text.chars().all(|c| !c.is_control() || c.is_whitespace())
        && !text.contains('\u{fffd}')
    {
        "text"
    } else {
        "no known kind of picture"
    }
}

/// The name of a format.
fn name(format: ImageFormat) -> &'static str {
    match format {
        ImageFormat::Jpeg => "JPEG",
        ImageFormat::Png => "PNG",
        ImageFormat::WebP => "WebP",
        ImageFormat::Gif => "GIF",
        ImageFormat::Bmp => "BMP",
        ImageFormat::Tiff => "TIFF",
        _ => "picture",
    }
}
