//! Pictures: what their heads say, decoded and resized within a worker's limits, in no more memory than
//! was foretold.
#![no_main]

use lapidary_engine::image::{ImageLimits, ImageSpec, memory_bytes, prepare};
use lapidary_engine::memory::Counted;
use lapidary_fuzz::memory::{Watched, most_of};
use libfuzzer_sys::fuzz_target;

#[global_allocator]
static ALLOCATOR: Counted<Watched> = Counted(Watched::without_limit());

const SPEC: ImageSpec = ImageSpec {
    side: 64,
    pan_and_scan: true,
};
/// Larger ones are refused or not by their heads alone: decoding them shows nothing new, and takes seconds.
const DECODED_BYTES_MAX: u64 = 64 << 20;

fuzz_target!(|bytes: &[u8]| {
    let limits = ImageLimits::default();
    let (foretold, most) = most_of(|| memory_bytes(bytes, &limits));
    assert!(most as u64 <= limits.memory_bytes_max, "{most} for a head");
    let Ok(foretold) = foretold else { return };
    assert!(foretold <= limits.memory_bytes_max, "{foretold} bytes");
    if foretold > DECODED_BYTES_MAX {
        return;
    }
    let (prepared, most) = most_of(|| prepare(bytes, &SPEC, &limits));
    let room = foretold + SPEC.bytes_max() as u64;
    assert!(
        most as u64 <= room,
        "{most} bytes, foretold were {foretold}"
    );
    let Ok(image) = prepared else { return };
    let pixels = u64::from(image.width()) * u64::from(image.height());
    assert!((1..=limits.pixels_max).contains(&pixels), "{pixels} pixels");
    let square = (SPEC.side * SPEC.side * 3) as usize;
    let views = image.views();
    assert!(!views.is_empty() && views.len() * square <= SPEC.bytes_max());
    assert!(views.iter().all(|view| view.rgb().len() == square));
});
