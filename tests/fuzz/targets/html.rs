//! Text files and pages: encodings, and what a reader of a page would see.
#![no_main]

use lapidary_fuzz::{Caught, catching, isolated};
use lapidary_producer::text::{html, plain};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    catching(Caught::Here, || {
        if let Ok(text) = plain::decode(bytes) {
            assert!(!text.contains('\0'), "a text with NUL characters");
            // What was read is UTF-8, and is read as that.
            assert_eq!(
                plain::decode(text.as_bytes()).as_deref(),
                Ok(text.trim_start_matches('\u{feff}'))
            );
        }
        // In a process of its own.
        isolated(|| html::text(bytes));
    });
});
