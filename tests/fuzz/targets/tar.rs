//! Archives of pictures, as `lapidary caption` reads them: no picture is more than a stretch of its archive.
#![no_main]

use lapidary_fuzz::documents;
use lapidary_producer::sources::{Body, Shown};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    documents("tar", bytes, |document| match document.body {
        Ok(Body::Pictures(shown)) => {
            for shown in shown {
                let Shown::Picture(picture) = shown else {
                    panic!("an address out of an archive");
                };
                assert_eq!(picture.bytes.len() as u64, picture.media.bytes);
                let within = bytes
                    .windows(picture.bytes.len())
                    .any(|stretch| stretch == picture.bytes);
                assert!(within, "{} is not in the archive", document.name);
            }
        }
        Ok(Body::Text(_)) => panic!("a text out of an archive"),
        Err(failure) => assert!(!failure.message.is_empty()),
    });
});
