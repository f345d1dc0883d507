//! Manifests: one JSON line an item of a batch.

use lapidary_schemas::batch::ManifestItem;

/// The manifest of `items`.
pub(crate) fn lines(items: &[ManifestItem]) -> Result<Vec<u8>, serde_json::Error> {
    let mut lines = Vec::new();
    for item in items {
        serde_json::to_writer(&mut lines, item)?;
        lines.push(b'\n');
    }
    Ok(lines)
}

/// The items of a manifest.
pub(crate) fn items(lines: &[u8]) -> Result<Vec<ManifestItem>, serde_json::Error> {
    serde_json::Deserializer::from_slice(lines)
        .into_iter()
        .collect()
}
