//! PDF files: their pages and their text, as the process reads them that `lapidary` starts for it.
#![no_main]

use lapidary_fuzz::{Caught, catching, isolated};
use lapidary_producer::pdf;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    catching(Caught::Anywhere, || {
        let pages = isolated(|| pdf::pages(bytes.to_vec()));
        let Some(Ok(pages)) = pages else { return };
        assert!(pages > 0, "a PDF without pages was read");
        let mut text = Vec::new();
        let written = isolated(|| pdf::write_text(bytes.to_vec(), &mut text));
        if matches!(written, Some(Ok(()))) {
            assert!(str::from_utf8(&text).is_ok(), "its text is not UTF-8");
        }
    });
});
