//! Whom a certificate is about.
//!
//! Invariant: nothing is judged here; a certificate that nobody vouches for reads as well as any other.

use rustls::pki_types::CertificateDer;
use rustls::server::ParsedCertificate;
use webpki::EndEntityCert;

use crate::TlsError;

/// What stands before the 32 bytes of an Ed25519 key in its SubjectPublicKeyInfo. Source: RFC 8410.
const ED25519: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// What a certificate says of whoever shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// The URIs among its names.
    pub uris: Vec<String>,
    /// Its key, if that is an Ed25519 key.
    pub ed25519: Option<[u8; 32]>,
}

/// Reads a certificate.
///
/// # Errors
/// It is none.
pub fn named(certificate: &CertificateDer<'_>) -> Result<Named, TlsError> {
    let parsed = ParsedCertificate::try_from(certificate)?;
    let key = parsed.subject_public_key_info();
    let ed25519 = key.strip_prefix(&ED25519).and_then(|bytes| bytes.try_into().ok());
    let entity = EndEntityCert::try_from(certificate).map_err(|_| TlsError::Pem("is no certificate".to_owned()))?;
    Ok(Named { uris: entity.valid_uri_names().map(str::to_owned).collect(), ed25519 })
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, PKCS_ED25519, PublicKeyData as _, SanType};

    use super::*;

    #[test]
    fn names_and_key_are_read_and_another_kind_of_key_is_none() {
        let mut params = CertificateParams::new(["host.test".to_owned()]).expect("a name");
        params.subject_alt_names.push(SanType::URI("viworks://a/agents/b".try_into().expect("ASCII")));
        let key = KeyPair::generate_for(&PKCS_ED25519).expect("a key");
        let certificate = params.self_signed(&key).expect("signed");
        let read = named(certificate.der()).expect("a certificate");
        assert_eq!(read.uris, ["viworks://a/agents/b"]);
        assert_eq!(read.ed25519.as_ref().map(<[u8; 32]>::as_slice), Some(key.der_bytes()));
        let other = params.self_signed(&KeyPair::generate().expect("a key")).expect("signed");
        assert_eq!(named(other.der()).expect("a certificate").ed25519, None);
        assert!(named(&CertificateDer::from(vec![0x30, 0x00])).is_err());
    }
}
