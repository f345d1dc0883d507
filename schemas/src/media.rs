//! References to bytes in the media store.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Bytes in the media store, named by their content. Written `media:<sha256 hex>` in requests.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MediaRef {
    /// SHA-256 of the bytes, 64 lower-case hex digits.
    pub sha256: String,
    /// How many bytes.
    pub bytes: u64,
}
