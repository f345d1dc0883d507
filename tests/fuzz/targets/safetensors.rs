//! The weights of a folder: `model.safetensors`, and an answer of what can be loaded.
#![no_main]

use lapidary_fuzz::{answers, model_with};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| answers(&model_with("model.safetensors", bytes)));
