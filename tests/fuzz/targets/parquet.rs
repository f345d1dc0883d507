//! Tables of pictures, as `lapidary caption` reads them.
#![no_main]

use lapidary_fuzz::{Caught, catching, documents};
use lapidary_producer::sources::{Body, Shown};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    // A reader that breaks down is the end of its table, and of nothing else.
    catching(Caught::Anywhere, || {
        documents("parquet", bytes, |document| match document.body {
            Ok(Body::Pictures(shown)) => {
                for shown in shown {
                    let Shown::Picture(picture) = shown else {
                        panic!("an address out of a table");
                    };
                    assert_eq!(picture.bytes.len() as u64, picture.media.bytes);
                }
            }
            Ok(Body::Text(_)) => panic!("a text out of a table"),
            Err(failure) => assert!(!failure.message.is_empty()),
        });
    });
});
