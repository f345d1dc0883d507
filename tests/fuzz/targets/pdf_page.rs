//! The first page of a PDF file as a picture, as the process draws it that `lapidary` starts for it.
#![no_main]

use lapidary_engine::image::{ImageLimits, ImageSpec, prepare};
use lapidary_fuzz::{Caught, catching, isolated};
use lapidary_producer::pdf;
use libfuzzer_sys::fuzz_target;

const SPEC: ImageSpec = ImageSpec {
    side: 32,
    pan_and_scan: false,
};
/// Pixels of a page's longer side, and one for what is cut.
const SIDE_MAX: u32 = 1_793;

fuzz_target!(|bytes: &[u8]| {
    catching(Caught::Anywhere, || {
        let drawn = isolated(|| pdf::draw(bytes.to_vec(), 1));
        let Some(Ok(drawn)) = drawn else { return };
        let seen = prepare(&drawn, &SPEC, &ImageLimits::default());
        let seen = seen.unwrap_or_else(|error| panic!("a page that nobody can read: {error}"));
        assert!(
            seen.width().max(seen.height()) <= SIDE_MAX,
            "{}x{} pixels",
            seen.width(),
            seen.height()
        );
    });
});
