//! What both ends of a TLS connection mean by "my host": an authority's word, or one pinned key.
//!
//! Invariant: one crypto provider, named at every call, so that no second one can slip in by default.

mod client;
mod named;
mod pem;
mod pin;

use std::sync::Arc;

use rustls::crypto::CryptoProvider;

pub use client::{NobodyTrusted, Trusted, client};
pub use named::{Named, named};
pub use pem::{certificates, private_key};
pub use pin::{NoPin, Pin, pin_of};

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Not the PEM that was looked for.
    #[error("{0}")]
    Pem(String),
    /// The library refuses what it was given.
    #[error(transparent)]
    Tls(#[from] rustls::Error),
    /// There is nobody to believe.
    #[error("this machine lists no authorities; name one, or pin the host's key")]
    NoAuthorities,
}

/// The one provider of cryptography.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}
