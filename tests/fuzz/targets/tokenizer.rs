//! Tokenizers: `tokenizer.json`, and texts read and written with what can be loaded.
#![no_main]

use lapidary_engine::prompt::Tokenizer;
use lapidary_fuzz::{Caught, catching};
use libfuzzer_sys::fuzz_target;

const TEXTS: [&str; 3] = ["", "A <bos> gem,\n\n<start_of_turn> 漢字 \u{0}é🙂", "    x"];

fuzz_target!(|bytes: &[u8]| {
    // What the library breaks on is caught where it reads.
    catching(Caught::Here, || read(bytes));
});

fn read(bytes: &[u8]) {
    let Ok(tokenizer) = Tokenizer::from_json(bytes) else {
        return;
    };
    for text in TEXTS {
        for tokens in [tokenizer.encode(text), tokenizer.encode_plain(text)] {
            let Ok(tokens) = tokens else { continue };
            tokenizer.decode(&tokens);
            for token in tokens {
                tokenizer.bytes(token);
            }
        }
    }
}
