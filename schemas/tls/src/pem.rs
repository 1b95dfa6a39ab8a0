//! Certificates and keys as operators keep them.

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::TlsError;

/// Every certificate in a PEM text, at least one.
///
/// # Errors
/// There is none, or one is broken.
pub fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if found.is_empty() => Err(TlsError::Pem("holds no certificate (PEM)".to_owned())),
        Ok(found) => Ok(found),
        Err(error) => Err(TlsError::Pem(format!("holds a broken certificate: {error}"))),
    }
}

/// The first private key in a PEM text.
///
/// # Errors
/// There is none, or it is broken. The text of the error holds nothing of the key.
pub fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(pem)
        .map_err(|_| TlsError::Pem("holds no private key (PEM: PKCS#8, SEC1 or PKCS#1)".to_owned()))
}
