//! What the engine's tests share.

use std::path::PathBuf;

/// A file of the model cache, which `tests/run` fills.
pub(crate) fn model_file(name: &str) -> PathBuf {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../.cache/models");
    let path = PathBuf::from(root).join(name);
    assert!(
        path.exists(),
        "`{}` is missing: `tests/run` fetches it",
        path.display()
    );
    path
}
