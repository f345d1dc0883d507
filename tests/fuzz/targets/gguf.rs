//! GGUF files: head, metadata, tokenizer, chat template, tensors, and an answer of what can be loaded.
#![no_main]

use lapidary_engine::Prompter;
use lapidary_fuzz::{Caught, answers, catching, file};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    // What the library divides by is caught where its head is read.
    catching(Caught::Here, || {
        let path = file("model.gguf", bytes);
        // Of a file whose tensors are refused, the words are read all the same.
        let _ = Prompter::open(&path, &[]);
        answers(&path);
    });
});
