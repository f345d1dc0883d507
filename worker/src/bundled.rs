//! The demonstration model: small enough to be part of the program, so that a first try needs no
//! download. How it was made, and what it knows: `worker/bundled/training`.

use std::path::Path;

use lapidary_engine::{EmbeddedFile, ModelSource};
use lapidary_schemas::worker::DEMONSTRATION;

/// The files of its folder.
const FILES: &[EmbeddedFile] = &[
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

/// Whether this names the demonstration model. A file or folder of that name is `./demonstration`.
pub(crate) fn is_named(model: &Path) -> bool {
    model == Path::new(DEMONSTRATION)
}

/// Where the files of the model are that `--model` names.
pub(crate) fn source(model: &Path) -> ModelSource {
    if is_named(model) {
        FILES.into()
    } else {
        model.into()
    }
}
