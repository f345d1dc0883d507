//! Rules of media in a request: which kinds the model reads, and that every reference is well
//! formed and small enough. The bytes themselves are checked by the worker that loads them.

use super::{Policy, invalid};
use crate::failure::{Failure, FailureCode};
use crate::limits::{INLINE_MEDIA_BYTES_MAX, MEDIA_BYTES_MAX};
use crate::media::{MEDIA_SCHEME, MediaRef};
use crate::remote;
use crate::request::InputAudio;

const AUDIO_FORMATS: [&str; 4] = ["wav", "mp3", "flac", "ogg"];

/// An image: stored, inline, or at an address where that is served.
pub(super) fn check_image(place: &str, url: &str, policy: &Policy) -> Result<(), Failure> {
    check_modality(place, "image", policy)?;
    if remote::is_remote(url) {
        if policy.fetch.is_empty() {
            return Err(invalid(format!(
                "{place} is at a remote address, remote media is not served by `{}`",
                policy.model
            )));
        }
        return match remote::check(url, &policy.fetch) {
            Ok(_) => Ok(()),
            Err(why) => Err(invalid(format!("{place}: {why}"))),
        };
    }
    check_stored_or_inline(place, url, "image/")
}

/// A sound clip: stored, or inline base64.
pub(super) fn check_audio(place: &str, audio: &InputAudio, policy: &Policy) -> Result<(), Failure> {
    check_modality(place, "audio", policy)?;
    if !AUDIO_FORMATS.contains(&audio.format.as_str()) {
        return Err(invalid(format!(
            "{place} has the audio format `{}`, served are {}",
            audio.format,
            AUDIO_FORMATS.map(|format| format!("`{format}`")).join(", ")
        )));
    }
    if audio.data.starts_with(MEDIA_SCHEME) {
        return check_stored(place, &audio.data);
    }
    check_base64(place, &audio.data)
}

/// A document of text: every model reads it.
pub(super) fn check_document(place: &str, file_data: &str) -> Result<(), Failure> {
    check_stored_or_inline(place, file_data, "text/")
}

fn check_modality(place: &str, modality: &str, policy: &Policy) -> Result<(), Failure> {
    if policy.modalities.iter().any(|served| served == modality) {
        return Ok(());
    }
    Err(invalid(format!(
        "{place} is {modality}, which `{}` does not read",
        policy.model
    )))
}

fn check_stored_or_inline(place: &str, url: &str, media_type: &str) -> Result<(), Failure> {
    if url.starts_with(MEDIA_SCHEME) {
        return check_stored(place, url);
    }
    let Some(rest) = url.strip_prefix("data:") else {
        return Err(invalid(format!(
            "{place} is at `{}`, it must be a `data:` or `media:` reference",
            shortened(url)
        )));
    };
    let Some((header, payload)) = rest.split_once(',') else {
        return Err(broken(
            place,
            "its `data:` reference has no comma before the content",
        ));
    };
    if !header.starts_with(media_type) {
        return Err(invalid(format!(
            "{place} has the media type `{}`, it must be `{media_type}…`",
            shortened(header)
        )));
    }
    if !header.ends_with(";base64") {
        return Err(broken(
            place,
            "its `data:` reference is not marked `;base64`",
        ));
    }
    check_base64(place, payload)
}

fn check_stored(place: &str, written: &str) -> Result<(), Failure> {
    let media: MediaRef = written
        .parse()
        .map_err(|error| invalid(format!("{place}: {error}")))?;
    if media.bytes > MEDIA_BYTES_MAX as u64 {
        return Err(Failure::new(
            FailureCode::MediaTooLarge,
            format!(
                "{place} is {} bytes, the limit is {MEDIA_BYTES_MAX}",
                media.bytes
            ),
        ));
    }
    Ok(())
}

/// Padded base64 in the standard alphabet (RFC 4648 §4), of few enough bytes to travel inline.
fn check_base64(place: &str, payload: &str) -> Result<(), Failure> {
    let digits = payload.trim_end_matches('=');
    let padding = payload.len() - digits.len();
    let in_alphabet = digits
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/');
    if !in_alphabet || padding > 2 || !payload.len().is_multiple_of(4) {
        return Err(broken(place, "its content is not base64"));
    }
    if digits.is_empty() {
        return Err(broken(place, "its content is empty"));
    }
    let bytes = payload.len() / 4 * 3 - padding;
    if bytes > INLINE_MEDIA_BYTES_MAX {
        return Err(Failure::new(
            FailureCode::MediaTooLarge,
            format!(
                "{place} is {bytes} bytes inline, the limit is {INLINE_MEDIA_BYTES_MAX}; store it \
                 and send its `media:` reference"
            ),
        ));
    }
    Ok(())
}

fn broken(place: &str, why: &str) -> Failure {
    Failure::new(FailureCode::MediaInvalid, format!("{place}: {why}"))
}

/// Enough of a value to recognise it in a message.
fn shortened(value: &str) -> String {
    let mut shown: String = value.chars().take(60).collect();
    if shown.len() < value.len() {
        shown.push('…');
    }
    shown
}
