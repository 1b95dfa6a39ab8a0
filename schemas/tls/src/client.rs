//! A client's side: who is believed to be the host.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use crate::pin::pin;
use crate::{NoPin, Pin, TlsError, certificates, provider};

/// Whose certificates are believed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Trusted {
    /// Those of the authorities this machine lists.
    #[default]
    System,
    /// Those of the authorities in this PEM text, and no others.
    Authorities(Vec<u8>),
    /// The one certificate of this key: signed by itself, within its dates, whatever name it is for.
    Pin(Pin),
}

/// Why nobody can be believed.
#[derive(Debug, thiserror::Error)]
pub enum NobodyTrusted {
    /// It is no pin.
    #[error(transparent)]
    Pin(#[from] NoPin),
    /// The file of authorities.
    #[error("{} cannot be read: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl Trusted {
    /// What was chosen for a host: one pinned key, which wins; the authorities in a file; or this machine's.
    /// Reads the file.
    ///
    /// # Errors
    /// It is no pin, or the file cannot be read.
    pub fn chosen(pin: Option<&str>, authorities: Option<&Path>) -> Result<Trusted, NobodyTrusted> {
        match (pin, authorities) {
            (Some(pin), _) => Ok(Trusted::Pin(pin.parse()?)),
            (None, Some(path)) => std::fs::read(path)
                .map(Trusted::Authorities)
                .map_err(|source| NobodyTrusted::File { path: path.to_owned(), source }),
            (None, None) => Ok(Trusted::System),
        }
    }
}

/// A client's settings. `own` is the certificate and key it shows to a host that asks for one.
///
/// # Errors
/// There is nobody to believe, or what is its own does not fit together.
pub fn client(
    trusted: &Trusted,
    own: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
) -> Result<ClientConfig, TlsError> {
    let provider = provider();
    let builder = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
    let builder = match trusted {
        Trusted::System => {
            let mut roots = RootCertStore::empty();
            // One that cannot be read is one that is not believed.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            builder.with_root_certificates(some(roots)?)
        }
        Trusted::Authorities(pem) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(pem)? {
                roots.add(certificate)?;
            }
            builder.with_root_certificates(some(roots)?)
        }
        Trusted::Pin(pin) => {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Pinned { pin: *pin, provider }))
        }
    };
    Ok(match own {
        Some((chain, key)) => builder.with_client_auth_cert(chain, key)?,
        None => builder.with_no_client_auth(),
    })
}

fn some(roots: RootCertStore) -> Result<RootCertStore, TlsError> {
    if roots.is_empty() { Err(TlsError::NoAuthorities) } else { Ok(roots) }
}

/// Believes one key.
#[derive(Debug)]
struct Pinned {
    pin: Pin,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let certificate = ParsedCertificate::try_from(end_entity)?;
        let found = pin(&certificate);
        if found != self.pin {
            return Err(Error::General(format!("the host's key has the pin {found}, not {}", self.pin)));
        }
        // Its own authority: what is left to look at are its dates.
        let mut roots = RootCertStore::empty();
        roots.add(end_entity.clone().into_owned())?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&certificate, &roots, &[], now, algorithms)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

    use super::*;
    use crate::pin_of;

    fn judged(trusted: &Trusted, certificate: &CertificateDer<'_>, name: &str, now: UnixTime) -> Result<(), Error> {
        let verifier: Arc<dyn ServerCertVerifier> = match trusted {
            Trusted::Pin(pin) => Arc::new(Pinned { pin: *pin, provider: provider() }),
            Trusted::Authorities(pem) => {
                let mut roots = RootCertStore::empty();
                roots.add_parsable_certificates(certificates(pem).expect("authorities"));
                let built =
                    rustls::client::WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider()).build();
                built.expect("a verifier")
            }
            Trusted::System => panic!("depends on the machine"),
        };
        let name = ServerName::try_from(name.to_owned()).expect("a name");
        verifier.verify_server_cert(certificate, &[], &name, &[], now).map(drop)
    }

    #[test]
    fn a_pinned_key_is_believed_under_any_name_within_its_dates_and_no_other_key_is() {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(["localhost".to_owned()]).expect("a name");
        #[expect(clippy::disallowed_methods, reason = "a certificate is good for a time of the real world")]
        let now = SystemTime::now();
        params.not_before = (now - Duration::from_secs(60)).into();
        params.not_after = (now + Duration::from_secs(60)).into();
        let certificate = params.self_signed(&key).expect("signed");
        let trusted = Trusted::Pin(pin_of(certificate.der()).expect("a pin"));
        let (today, later) = (UnixTime::now(), UnixTime::since_unix_epoch(Duration::from_secs(9_000_000_000)));
        assert_eq!(judged(&trusted, certificate.der(), "elsewhere.test", today), Ok(()));
        assert!(judged(&trusted, certificate.der(), "localhost", later).is_err(), "it has expired");
        let other = params.self_signed(&KeyPair::generate().expect("a key")).expect("signed");
        let refused = judged(&trusted, other.der(), "localhost", today).expect_err("another key");
        assert!(refused.to_string().contains("has the pin"), "{refused}");
        let renewed = CertificateParams::default().self_signed(&key).expect("signed");
        assert_eq!(judged(&trusted, renewed.der(), "localhost", today), Ok(()), "the same key, a new certificate");
    }

    #[test]
    fn an_authority_speaks_for_names_and_only_for_what_it_signed() {
        let authority = || {
            let mut params = CertificateParams::default();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("signed")
        };
        let (ours, theirs) = (authority(), authority());
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(["host.test".to_owned()]).expect("a name");
        let certificate = params.signed_by(&key, &ours).expect("signed");
        let trust = |authority: &CertifiedIssuer<'_, KeyPair>| Trusted::Authorities(authority.pem().into_bytes());
        let now = UnixTime::now();
        assert_eq!(judged(&trust(&ours), certificate.der(), "host.test", now), Ok(()));
        assert!(judged(&trust(&ours), certificate.der(), "other.test", now).is_err());
        assert!(judged(&trust(&theirs), certificate.der(), "host.test", now).is_err());
        assert!(client(&Trusted::Authorities(b"nothing".to_vec()), None).is_err());
        assert!(client(&trust(&ours), None).is_ok());
    }
}
