//! Content policies: a file of TOML, read and checked.
#![no_main]

use lapidary_fuzz::file;
use lapidary_worker::filter::Filters;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let path = file("policy.toml", bytes);
    let path = path.to_str().expect("a path of letters");
    match Filters::open(path) {
        Ok(filters) => {
            let (name, version) = filters.policy();
            assert!(!name.is_empty() && version.len() == 16, "{name} {version}");
        }
        Err(error) => assert!(error.to_string().contains(path), "{error}"),
    }
});
