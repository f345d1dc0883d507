//! Lines of batch files: what is valid means the same after a journey.
#![no_main]

use lapidary_schemas::batch_line::read_batch_line;
use lapidary_schemas::validate::{Feature, Policy, parse_request, validate};
use libfuzzer_sys::fuzz_target;

fn policy() -> Policy {
    Policy {
        modalities: vec!["image".to_owned(), "audio".to_owned()],
        fetch: vec!["*".to_owned()],
        features: vec![
            Feature::Tools,
            Feature::JsonObject,
            Feature::JsonSchema,
            Feature::Logprobs,
        ],
        ..Policy::text("gemma")
    }
}

fuzz_target!(|line: &str| {
    let read = match read_batch_line(7, line) {
        Ok(read) => read,
        Err(failure) => return assert!(failure.message.starts_with("line 7: ")),
    };
    let Ok(valid) = validate(&read.request, &policy()) else {
        return;
    };
    let written = serde_json::to_vec(&read.request).expect("a request is JSON");
    let again = parse_request(&written).expect("a valid request is read again");
    assert_eq!(again, read.request);
    assert_eq!(validate(&again, &policy()), Ok(valid));
});
