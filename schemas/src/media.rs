//! References to bytes in the media store.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What every written reference begins with.
pub const MEDIA_SCHEME: &str = "media:";

/// Bytes in the media store, named by their content.
///
/// Inside a request it is written `media:<sha256 hex>:<bytes>`, which [`std::fmt::Display`] makes
/// and [`std::str::FromStr`] reads; the size is part of it so that a limit can be checked before
/// anything is fetched.
#[derive(
    Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(deny_unknown_fields)]
pub struct MediaRef {
    /// SHA-256 of the bytes, 64 lower-case hex digits.
    pub sha256: String,
    /// How many bytes.
    pub bytes: u64,
}

/// A written reference that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{written}` is no media reference, it must read `media:<64 lower-case hex digits>:<bytes>`"
)]
pub struct InvalidMediaRef {
    /// What was written, at most its first 100 characters.
    pub written: String,
}

impl std::fmt::Display for MediaRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{MEDIA_SCHEME}{}:{}", self.sha256, self.bytes)
    }
}

impl std::str::FromStr for MediaRef {
    type Err = InvalidMediaRef;

    fn from_str(written: &str) -> Result<Self, Self::Err> {
        written
            .strip_prefix(MEDIA_SCHEME)
            .and_then(|rest| rest.split_once(':'))
            .filter(|(sha256, _)| is_sha256(sha256))
            .and_then(|(sha256, bytes)| Some((sha256, decimal(bytes)?)))
            .map(|(sha256, bytes)| Self {
                sha256: sha256.to_owned(),
                bytes,
            })
            .ok_or_else(|| InvalidMediaRef {
                written: written.chars().take(100).collect(),
            })
    }
}

/// Whether this is a SHA-256 as it is written everywhere here: 64 lower-case hex digits.
pub(crate) fn is_sha256(text: &str) -> bool {
    text.len() == 64
        && text
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// A number in its one decimal form: no sign, no leading zero.
fn decimal(text: &str) -> Option<u64> {
    text.parse::<u64>()
        .ok()
        .filter(|number| number.to_string() == text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_and_read_back() {
        let media = MediaRef {
            sha256: "0123456789abcdef".repeat(4),
            bytes: 70_000,
        };
        assert_eq!(media.to_string(), format!("media:{}:70000", media.sha256));
        assert_eq!(media.to_string().parse(), Ok(media));
    }

    #[test]
    fn what_is_no_reference_is_refused() {
        let sha256 = "0123456789abcdef".repeat(4);
        let upper = sha256.to_uppercase();
        for written in [
            String::new(),
            "media:".to_owned(),
            sha256.clone(),
            format!("media:{sha256}"),
            format!("media:{sha256}:"),
            format!("media:{sha256}:-1"),
            format!("media:{sha256}:+1"),
            format!("media:{sha256}:01"),
            format!("media:{sha256}:99999999999999999999"),
            format!("media:{upper}:1"),
            format!("media:{}:1", &sha256[1..]),
        ] {
            let refused = written.parse::<MediaRef>().unwrap_err();
            assert_eq!(refused.written, written);
        }
    }
}
