//! A part of a picture, as a square of a model's size.
//!
//! Antialiased bilinear interpolation whatever the ratio of the sides, as in `transformers`
//! `models/gemma3/image_processing_gemma3.py`: a triangle as wide as the scale, never narrower
//! than a pixel.

use fast_image_resize::images::{CroppedImage, Image as Pixels, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};

use super::ImageError;
use super::crops::Area;
use super::decode::Picture;

/// `side * side * 3` bytes of the pixels in `area`: RGB interleaved, rows from the top.
pub(super) fn to_square(picture: &Picture, area: Area, side: u32) -> Result<Vec<u8>, ImageError> {
    let failed = |message: String| ImageError::Broken {
        format: "picture",
        message,
    };
    let source = ImageRef::new(picture.width, picture.height, &picture.rgb, PixelType::U8x3);
    let source = source.map_err(|error| failed(error.to_string()))?;
    // Cut first: the resizer's own option lets what is beside the area shine in at its borders.
    let part = CroppedImage::new(&source, area.x, area.y, area.width, area.height);
    let part = part.map_err(|error| failed(error.to_string()))?;
    let mut square = Pixels::new(side, side, PixelType::U8x3);
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear));
    Resizer::new()
        .resize(&part, &mut square, &options)
        .map_err(|error| failed(error.to_string()))?;
    Ok(square.into_vec())
}
