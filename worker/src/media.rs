//! Loads what a request refers to: the texts of its documents, within limits.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use lapidary_schemas::limits::MEDIA_BYTES_MAX;
use lapidary_schemas::media::MEDIA_SCHEME;
use lapidary_schemas::request::{Content, FileRef};
use lapidary_schemas::{Failure, FailureCode, MediaRef, Message, Part};
use lapidary_transport::Media;
use lapidary_transport::media::MediaError;

/// The texts of all documents of the messages, in order.
pub(crate) async fn documents(
    store: &impl Media,
    tenant: &str,
    messages: &[Message],
) -> Result<Vec<String>, Failure> {
    let mut texts = Vec::new();
    let mut bytes = 0;
    for file in messages.iter().flat_map(files) {
        let document = load(store, tenant, file).await?;
        bytes += document.len();
        if bytes > MEDIA_BYTES_MAX {
            return Err(Failure::new(
                FailureCode::MediaTooLarge,
                format!("the request's documents are over the limit of {MEDIA_BYTES_MAX} bytes"),
            ));
        }
        texts.push(text(file, document)?);
    }
    Ok(texts)
}

fn files(message: &Message) -> impl Iterator<Item = &FileRef> {
    let parts = match &message.content {
        Content::Text(_) => &[][..],
        Content::Parts(parts) => parts,
    };
    parts.iter().filter_map(|part| match part {
        Part::File { file } => Some(file),
        _ => None,
    })
}

async fn load(store: &impl Media, tenant: &str, file: &FileRef) -> Result<Vec<u8>, Failure> {
    if file.file_data.starts_with(MEDIA_SCHEME) {
        let media: MediaRef = file
            .file_data
            .parse()
            .map_err(|error| broken(file, &format!("{error}")))?;
        return store
            .get(tenant, &media)
            .await
            .map_err(|error| unloaded(file, &error));
    }
    let Some((_, payload)) = file.file_data.split_once(',') else {
        return Err(broken(
            file,
            "its `data:` reference has no comma before the content",
        ));
    };
    BASE64_STANDARD
        .decode(payload)
        .map_err(|error| broken(file, &format!("its base64: {error}")))
}

fn text(file: &FileRef, bytes: Vec<u8>) -> Result<String, Failure> {
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        broken(file, &format!("it is no UTF-8 text from byte {at} on"))
    })
}

fn named(file: &FileRef) -> String {
    file.filename.as_ref().map_or_else(
        || "document".to_owned(),
        |name| format!("document `{name}`"),
    )
}

fn broken(file: &FileRef, why: &str) -> Failure {
    Failure::new(
        FailureCode::MediaInvalid,
        format!("{} cannot be read: {why}", named(file)),
    )
}

fn unloaded(file: &FileRef, error: &MediaError) -> Failure {
    let code = match error {
        MediaError::Damaged { .. } => FailureCode::MediaInvalid,
        MediaError::TooLarge { .. } => FailureCode::MediaTooLarge,
        // Bytes that are not there yet may be there later: stores may replicate.
        MediaError::Missing { .. }
        | MediaError::Unreachable { .. }
        | MediaError::StorageFull { .. }
        | MediaError::Unusable { .. } => FailureCode::MediaUnreachable,
    };
    Failure::new(code, format!("{} cannot be loaded: {error}", named(file)))
}
