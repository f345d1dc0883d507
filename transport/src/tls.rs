//! TLS to brokers and stores: certificates are checked against those that the system trusts, or those in
//! the file that `SSL_CERT_FILE` names.

use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};

/// Provides cryptography for all of the process; whichever part comes first does.
pub fn provide() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// How connections are made.
pub(crate) fn config() -> std::io::Result<Arc<ClientConfig>> {
    provide();
    let found = rustls_native_certs::load_native_certs();
    let mut trusted = RootCertStore::empty();
    let (added, _) = trusted.add_parsable_certificates(found.certs);
    if added == 0 {
        let why = found.errors.first().map(|error| format!(": {error}"));
        let message = format!(
            "the system trusts no certificates{}; name a file of them by SSL_CERT_FILE",
            why.unwrap_or_default()
        );
        return Err(std::io::Error::other(message));
    }
    let config = ClientConfig::builder().with_root_certificates(trusted);
    Ok(Arc::new(config.with_no_client_auth()))
}
