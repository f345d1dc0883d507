//! The demonstration model: small enough to be part of the program, so that a first try needs no
//! download. How it was made, and what it knows: `worker/bundled/training`.

use lapidary_engine::EmbeddedFile;

/// The files of its folder.
pub(crate) const FILES: &[EmbeddedFile] = &[
    file(
        "config.json",
        include_bytes!("../bundled/model/config.json"),
    ),
    file(
        "generation_config.json",
        include_bytes!("../bundled/model/generation_config.json"),
    ),
    file(
        "model.safetensors",
        include_bytes!("../bundled/model/model.safetensors"),
    ),
    file(
        "tokenizer.json",
        include_bytes!("../bundled/model/tokenizer.json"),
    ),
    file(
        "tokenizer_config.json",
        include_bytes!("../bundled/model/tokenizer_config.json"),
    ),
];

const fn file(name: &'static str, bytes: &'static [u8]) -> EmbeddedFile {
    EmbeddedFile { name, bytes }
}
