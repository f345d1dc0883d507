//! Signatures of deliveries by the Standard Webhooks scheme: HMAC-SHA256 of id, time and body.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;

/// What every secret begins with.
const PREFIX: &str = "whsec_";
/// Bytes of chance in a secret.
const SECRET_BYTES: usize = 32;

/// A new secret, as it is written.
pub(super) fn secret() -> Result<String, getrandom::Error> {
    let mut bytes = [0; SECRET_BYTES];
    getrandom::fill(&mut bytes)?;
    Ok(format!("{PREFIX}{}", STANDARD.encode(bytes)))
}

/// The signature of a delivery; `None` if the secret is none.
pub(super) fn signature(secret: &str, id: &str, sent_at: i64, body: &str) -> Option<String> {
    let key = STANDARD.decode(secret.strip_prefix(PREFIX)?).ok()?;
    let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
    let tag = hmac::sign(&key, format!("{id}.{sent_at}.{body}").as_bytes());
    Some(format!("v1,{}", STANDARD.encode(tag)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_signed_as_the_scheme_says() {
        // Made with Python's hmac: base64(HMAC-SHA256(key, "msg_1.1700000000.{}")).
        let secret = "whsec_AAECAwQFBgcICQoLDA0ODw==";
        let signed = signature(secret, "msg_1", 1_700_000_000, "{}").unwrap();
        assert_eq!(signed, "v1,j66QPGXlAuCUHdmJ+xCQJu3Wf9XlOk64XEla2cPoChw=");
        assert_eq!(signature("other", "msg_1", 1_700_000_000, "{}"), None);
    }

    #[test]
    fn secrets_differ() {
        let (one, other) = (secret().unwrap(), secret().unwrap());
        assert_ne!(one, other);
        assert!(signature(&one, "a", 1, "b") != signature(&other, "a", 1, "b"));
    }
}
