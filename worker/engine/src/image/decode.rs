//! From a file's bytes to opaque RGB, as it is stored.

use image::{ColorType, DynamicImage, ImageDecoder, ImageFormat, RgbImage};

use super::ImageError;
use super::header::{Header, decoder, undecoded};
use super::turn::Turn;

/// A decoded picture, before it is turned upright.
#[derive(Debug)]
pub(super) struct Picture {
    /// Width as stored, in pixels.
    pub(super) width: u32,
    /// Height as stored, in pixels.
    pub(super) height: u32,
    /// `width * height * 3` bytes: RGB interleaved, rows from the top.
    pub(super) rgb: Vec<u8>,
    /// How it is to be turned.
    pub(super) turn: Turn,
}

/// Decodes a picture whose header was read; of an animation, the first frame.
pub(super) fn decode(bytes: &[u8], header: &Header) -> Result<Picture, ImageError> {
    let failed = |error| undecoded(header.format, &error, header.memory_bytes);
    if header.format == ImageFormat::Jpeg && !jpeg_is_whole(bytes) {
        return Err(ImageError::Broken {
            format: header.format_name(),
            message: "it ends before its pixels do".to_owned(),
        });
    }
    let mut decoder = decoder(bytes, header.format, header.memory_bytes)?;
    // A picture whose metadata is damaged is shown as it is stored.
    let turn = decoder.orientation().map_or(Turn::default(), Turn::from);
    let pixels = DynamicImage::from_decoder(decoder).map_err(failed)?;
    if pixels.width() == 0 || pixels.height() == 0 {
        return Err(ImageError::Broken {
            format: header.format_name(),
            message: format!("it is {}x{} pixels", pixels.width(), pixels.height()),
        });
    }
    let rgb = opaque(pixels);
    Ok(Picture {
        width: rgb.width(),
        height: rgb.height(),
        rgb: rgb.into_raw(),
        turn,
    })
}

/// Whether a JPEG has an end behind its pixels: the decoder would fill what is missing with grey.
fn jpeg_is_whole(bytes: &[u8]) -> bool {
    const MARKER: u8 = 0xFF;
    const START_OF_PIXELS: u8 = 0xDA;
    const END: [u8; 2] = [MARKER, 0xD9];
    // Segments with a length each, thumbnails with an end of their own among them.
    let mut at = 2;
    while let Some([MARKER, kind, high, low]) = bytes.get(at..at + 4) {
        if *kind == START_OF_PIXELS {
            return bytes[at..].windows(2).any(|pair| pair == END);
        }
        at += match *kind {
            // A byte of padding.
            MARKER => 1,
            _ => 2 + usize::from(u16::from_be_bytes([*high, *low])),
        };
    }
    false
}

/// Eight bits a channel, and white where nothing is.
fn opaque(decoded: DynamicImage) -> RgbImage {
    let (width, height) = (decoded.width(), decoded.height());
    if matches!(decoded.color(), ColorType::Rgb8) || !decoded.color().has_alpha() {
        return decoded.into_rgb8();
    }
    let rgba = decoded.into_rgba8();
    let mut rgb = RgbImage::new(width, height);
    for (opaque, pixel) in rgb.pixels_mut().zip(rgba.pixels()) {
        let [red, green, blue, alpha] = pixel.0;
        opaque.0 = [red, green, blue].map(|colour| on_white(colour, alpha));
    }
    rgb
}

/// A colour of opacity `alpha` on white, rounded to the nearest.
fn on_white(colour: u8, alpha: u8) -> u8 {
    let (colour, alpha) = (u32::from(colour), u32::from(alpha));
    let sum = colour * alpha + 255 * (255 - alpha);
    // At most 255: both shares are of 255.
    u8::try_from((sum + 127) / 255).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_transparent_is_white() {
        assert_eq!(on_white(0, 0), 255);
        assert_eq!(on_white(0, 255), 0);
        assert_eq!(on_white(200, 255), 200);
        assert_eq!(on_white(0, 128), 127);
        assert_eq!(on_white(255, 7), 255);
    }
}
