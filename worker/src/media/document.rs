//! The text of a document.

use lapidary_schemas::Failure;
use lapidary_schemas::request::FileRef;
use lapidary_transport::Media;

use super::{broken, bytes_of};

/// The text of the document that `file` refers to.
pub(super) async fn load(
    store: &impl Media,
    tenant: &str,
    file: &FileRef,
) -> Result<String, Failure> {
    let named = || {
        let name = file.filename.as_ref();
        name.map_or_else(
            || "document".to_owned(),
            |name| format!("document `{name}`"),
        )
    };
    let bytes = bytes_of(store, tenant, &file.file_data).await;
    let bytes = bytes.map_err(|unloaded| unloaded.failure(&named()))?;
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        broken(&named(), &format!("it is no UTF-8 text from byte {at} on"))
    })
}
