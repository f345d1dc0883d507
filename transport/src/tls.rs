//! The one provider of cryptography for connections.

/// Provides for all of the process; whichever part comes first does.
pub fn provide() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}
