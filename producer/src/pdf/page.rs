//! A page of a PDF as a picture.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hayro::vello_cpu::Pixmap;
use hayro::vello_cpu::color::palette::css::WHITE;
use hayro::{PixmapSettings, RenderCache, RenderSettings, render};
use hayro_interpret::{InterpreterSettings, InterpreterWarning};
use hayro_syntax::page::Page;
use image::codecs::jpeg::JpegEncoder;
use image::{ExtendedColorType, ImageEncoder as _};

use super::{PdfError, open};

/// The longer side of a picture, in pixels: twice the square that Gemma 3 reads, so that the two crops
/// into which pan-and-scan cuts an upright page fill a square each.
const SIDE_PX: f32 = 1_792.0;
/// The shorter side at least, however narrow a page is.
const SIDE_PX_MIN: f32 = 2.0;
/// JPEG's quality, of 100. What a scanner saw of the paper does not compress: without loss, a page would
/// take five times the room, and look the same to a model.
const QUALITY: u8 = 90;

/// Draws a page, counted from 1, on white; returns a JPEG file. Memory and bytes are bounded by the
/// picture's sides, which are the same for a stamp and for a poster.
pub fn draw(bytes: Vec<u8>, number: usize) -> Result<Vec<u8>, PdfError> {
    let pdf = open(bytes)?;
    let pages = pdf.pages();
    let page = number.checked_sub(1).and_then(|index| pages.get(index));
    let page = page.ok_or(PdfError::NoSuchPage(pages.len()))?;
    // The interpreter passes over what it cannot decode, and draws the rest.
    let incomplete = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&incomplete);
    let settings = InterpreterSettings {
        warning_sink: Arc::new(move |warning| {
            if matches!(warning, InterpreterWarning::ImageDecodeFailure) {
                seen.store(true, Ordering::Relaxed);
            }
        }),
        ..InterpreterSettings::default()
    };
    let cache = RenderCache::new();
    let drawn = render(
        page,
        &cache,
        &settings,
        &RenderSettings::default(),
        &scaled(page),
    );
    if incomplete.load(Ordering::Relaxed) {
        return Err(PdfError::Image);
    }
    jpeg(&drawn)
}

/// Scales a page to the sides of a picture.
fn scaled(page: &Page<'_>) -> PixmapSettings {
    let (width, height) = page.render_dimensions();
    let scale = SIDE_PX / width.max(height);
    PixmapSettings {
        x_scale: scale.max(SIDE_PX_MIN / width),
        y_scale: scale.max(SIDE_PX_MIN / height),
        bg_color: WHITE,
    }
}

/// As a JPEG file; on white there is no transparency to lose.
fn jpeg(drawn: &Pixmap) -> Result<Vec<u8>, PdfError> {
    let pixels = drawn.data().iter();
    let rgb: Vec<u8> = pixels
        .flat_map(|pixel| [pixel.r, pixel.g, pixel.b])
        .collect();
    let (width, height) = (drawn.width().into(), drawn.height().into());
    let mut file = Vec::new();
    JpegEncoder::new_with_quality(&mut file, QUALITY)
        .write_image(&rgb, width, height, ExtendedColorType::Rgb8)
        .map_err(io::Error::other)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::RgbImage;
    use image::imageops::{FilterType, grayscale, resize};

    const NO_TEXT: &[u8] = include_bytes!("../../../tests/fixtures/documents/no-text.pdf");
    const SCAN: &[u8] = include_bytes!("../../../tests/fixtures/documents/scan.pdf");
    const BROKEN: &[u8] = include_bytes!("../../../tests/fixtures/documents/broken-page.pdf");

    fn drawn(bytes: &[u8], number: usize) -> RgbImage {
        let file = draw(bytes.to_vec(), number).unwrap();
        image::load_from_memory(&file).unwrap().into_rgb8()
    }

    #[test]
    fn a_page_is_drawn_on_white_in_its_proportions() {
        let page = grayscale(&drawn(NO_TEXT, 1));
        assert_eq!(page.dimensions(), (1_266, 1_792));
        // A box that begins at 100, 100 of 595 by 842 points, from below, and is 200 by 300.
        let at = |x: u32, y: u32| page.get_pixel(x * 1_792 / 842, (842 - y) * 1_792 / 842).0[0];
        for (x, y) in [(105, 105), (295, 395)] {
            assert!(at(x, y) < 8, "{x}, {y} is {}", at(x, y));
        }
        for (x, y) in [(95, 105), (105, 95), (305, 395), (295, 405), (1, 840)] {
            assert!(at(x, y) > 247, "{x}, {y} is {}", at(x, y));
        }
    }

    #[test]
    fn a_scan_looks_like_what_was_scanned() {
        let scenes = [
            &include_bytes!("../../../tests/fixtures/pictures/00.png")[..],
            // Stored upright on a page that lies on its side.
            include_bytes!("../../../tests/fixtures/pictures/06.png"),
        ];
        for (number, scene) in (1..).zip(scenes) {
            let scene = image::load_from_memory(scene).unwrap().into_rgb8();
            let page = drawn(SCAN, number);
            let page = resize(&page, scene.width(), scene.height(), FilterType::Triangle);
            let bytes = page.as_raw().iter().zip(scene.as_raw());
            let apart = bytes.map(|(a, b)| u64::from(a.abs_diff(*b))).sum::<u64>();
            let mean = apart / scene.as_raw().len() as u64;
            assert!(mean <= 2, "page {number} is {mean} of 255 apart on average");
        }
    }

    #[test]
    fn a_narrow_page_is_a_picture_too() {
        let narrow = b"%PDF-1.4\n1 0 obj <</Type/Catalog/Pages 2 0 R>> endobj\n\
            2 0 obj <</Type/Pages/Count 1/Kids[<</Type/Page/MediaBox[0 0 1 14400]>>]>> endobj\n\
            trailer <</Root 1 0 R>>\n";
        assert_eq!(drawn(narrow, 1).dimensions(), (2, 1_792));
    }

    #[test]
    fn what_cannot_be_drawn_is_not_drawn_in_part() {
        let refused = |bytes: &[u8], number| draw(bytes.to_vec(), number).unwrap_err().to_string();
        for number in [0, 4] {
            assert_eq!(refused(SCAN, number), "is not there: the PDF has 3 pages");
        }
        assert_eq!(refused(BROKEN, 2), "has an image that cannot be decoded");
    }
}
