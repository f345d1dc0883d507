//! A part of a picture, as a square of a model's size.
//!
//! Antialiased bilinear interpolation whatever the ratio of the sides, as in `transformers`
//! `models/gemma3/image_processing_gemma3.py`: a triangle as wide as the scale, never narrower
//! than a pixel.

use fast_image_resize::images::{TypedCroppedImage, TypedImage, TypedImageRef};
use fast_image_resize::pixels::U8x3;
use fast_image_resize::{FilterType, ResizeAlg, ResizeOptions, Resizer};

use super::ImageError;
use super::crops::Area;
use super::decode::Picture;

/// `side * side * 3` bytes of the pixels in `area`: RGB interleaved, rows from the top.
pub(super) fn to_square(picture: &Picture, area: Area, side: u32) -> Result<Vec<u8>, ImageError> {
    let failed = |message: String| ImageError::Broken {
        format: "picture",
        message,
    };
    // Typed, because the untyped call compiles a resizer for every kind of pixel there is.
    let source = TypedImageRef::<U8x3>::from_buffer(picture.width, picture.height, &picture.rgb);
    let source = source.map_err(|error| failed(error.to_string()))?;
    // Cut first: the resizer's own option lets what is beside the area shine in at its borders.
    let part = TypedCroppedImage::from_ref(&source, area.x, area.y, area.width, area.height);
    let part = part.map_err(|error| failed(error.to_string()))?;
    let mut square = TypedImage::<U8x3>::new(side, side);
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear));
    Resizer::new()
        .resize_typed(&part, &mut square, &options)
        .map_err(|error| failed(error.to_string()))?;
    let pixels = square.pixels().iter();
    Ok(pixels.flat_map(|pixel| pixel.0).collect())
}
