//! The certificate that both listeners show: an operator's, followed while the host runs, or one made
//! here for a key whose pin clients know.
//!
//! Invariant: what cannot be used never takes the place of what can, and a connection keeps what it was
//! made with.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use rcgen::{CertificateParams, DnType, KeyPair};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme};
use tls::Pin;
use tokio::signal::unix::{SignalKind, signal};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::agent_authority::AgentAuthority;
use crate::config::Config;
use crate::key_pair::{Files, Pair};
use crate::keys::{read_private, write_private};

/// The key that a host makes for itself, among its keys.
pub const SELF_SIGNED_KEY: &str = "tls.key";
/// The certificate it makes for it, in the data directory, for clients that want a file.
const SELF_SIGNED_CERTIFICATE: &str = "tls.crt";
/// Between two looks at an operator's files.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// What the listeners show at this moment.
#[derive(Debug)]
struct Served(ArcSwap<CertifiedKey>);

impl ResolvesServerCert for Served {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

/// TLS of both listeners.
pub struct Shown {
    /// Opens it on a connection.
    pub acceptor: TlsAcceptor,
    /// What clients pin, when the certificate is the host's own.
    pub pin: Option<Pin>,
    /// Follows the operator's files.
    pub follow: Option<Follow>,
    served: Arc<Served>,
}

impl Shown {
    /// Opens TLS for agents, and asks whoever connects for a certificate by this authority.
    ///
    /// # Errors
    /// Never, with the one provider there is.
    pub fn asking(&self, authority: &AgentAuthority, required: bool) -> anyhow::Result<TlsAcceptor> {
        let verifier = authority.verifier();
        // Who is admitted without is not turned away for a certificate that is over: it gets another.
        let verifier = if required { verifier } else { Arc::new(Lenient(verifier)) };
        let mut settings = settings(self.served.clone(), Some(verifier))?;
        // A session that is resumed does not show its certificate again.
        settings.session_storage = Arc::new(NoServerSessionStorage {});
        settings.send_tls13_tickets = 0;
        Ok(TlsAcceptor::from(Arc::new(settings)))
    }
}

/// Takes a certificate from whoever holds its key; what it is worth is judged later.
#[derive(Debug)]
struct Lenient(Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for Lenient {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

fn settings(served: Arc<Served>, asks: Option<Arc<dyn ClientCertVerifier>>) -> anyhow::Result<ServerConfig> {
    let builder = ServerConfig::builder_with_provider(tls::provider()).with_safe_default_protocol_versions()?;
    let builder = match asks {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let mut settings = builder.with_cert_resolver(served);
    settings.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(settings)
}

/// Reads or makes the certificate; `None` without TLS.
///
/// # Errors
/// What cannot be used, and why.
pub fn build(config: &Config, key_dir: &Path) -> anyhow::Result<Option<Shown>> {
    let (certified, pin, read) = if let Some(files) = config.tls.files() {
        let pair = files.read()?;
        (pair.certified()?, None, Some((files, pair)))
    } else if config.tls.self_signed {
        let (certified, pin) = self_signed(config, key_dir)?;
        (certified, Some(pin), None)
    } else {
        return Ok(None);
    };
    let served = Arc::new(Served(ArcSwap::from_pointee(certified)));
    let acceptor = TlsAcceptor::from(Arc::new(settings(served.clone(), None)?));
    let follow = read.map(|(files, seen)| Follow { files, seen: Ok(seen), served: served.clone() });
    Ok(Some(Shown { acceptor, pin, follow, served }))
}

/// The key stays, so that its pin does; the certificate around it is made at each start, with the names
/// that the host goes by then.
fn self_signed(config: &Config, key_dir: &Path) -> anyhow::Result<(CertifiedKey, Pin)> {
    let path = key_dir.join(SELF_SIGNED_KEY);
    if !path.exists() {
        write_private(&path, KeyPair::generate().context("no key could be made")?.serialize_pem().as_bytes())?;
    }
    let is_no_key = || format!("{} is not a key", path.display());
    let key = String::from_utf8(read_private(&path)?).with_context(is_no_key)?;
    let pair = KeyPair::from_pem(&key).with_context(is_no_key)?;
    let mut params =
        CertificateParams::new(names(config)).context("a name of the host cannot stand in a certificate")?;
    params.distinguished_name.push(DnType::CommonName, "viworks-host");
    let certificate = params.self_signed(&pair).context("the certificate could not be made")?;
    let file = config.data.dir.join(SELF_SIGNED_CERTIFICATE);
    write_private(&file, certificate.pem().as_bytes())?;
    let der: CertificateDer<'static> = certificate.into();
    let pin = tls::pin_of(&der)?;
    let certified = CertifiedKey::from_der(vec![der], tls::private_key(key.as_bytes())?, &tls::provider())?;
    Ok((certified, pin))
}

/// Every name that clients may call this host by.
fn names(config: &Config) -> Vec<String> {
    let mut names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).to_vec();
    let bound = [config.server.bind, config.server.agents_bind].map(|address| address.ip());
    names.extend(bound.iter().filter(|address| !address.is_unspecified()).map(ToString::to_string));
    names.extend(config.server.allowed_hosts.iter().filter(|name| *name != "*").cloned());
    let url = config.server.agents_url.as_deref().and_then(|url| url.parse::<axum::http::Uri>().ok());
    names.extend(url.as_ref().and_then(axum::http::Uri::host).map(|host| host.trim_matches(['[', ']']).to_owned()));
    names.sort();
    names.dedup();
    names
}

/// Looks at an operator's files again and again; each new content is told about once.
pub struct Follow {
    files: Files,
    seen: Result<Pair, String>,
    served: Arc<Served>,
}

impl Follow {
    /// Follows until `stop`; SIGHUP makes it look at once.
    ///
    /// # Errors
    /// The system gives no signals.
    pub async fn run(mut self, stop: CancellationToken) -> std::io::Result<()> {
        let mut hangup = signal(SignalKind::hangup())?;
        let mut timer = tokio::time::interval(LOOK_EVERY);
        loop {
            tokio::select! {
                _ = timer.tick() => {}
                _ = hangup.recv() => {}
                () = stop.cancelled() => return Ok(()),
            }
            self.look();
        }
    }

    fn look(&mut self) {
        let read = self.files.read().map_err(|error| format!("{error:#}"));
        if read == self.seen {
            return;
        }
        let judged = read.clone().and_then(|pair| pair.certified().map_err(|error| format!("{error:#}")));
        self.seen = read;
        match judged {
            Ok(certified) => {
                self.served.0.store(Arc::new(certified));
                tracing::info!(file = %self.files.certificate.display(), "new connections get the new certificate");
            }
            Err(why) => {
                let file = self.files.certificate.display();
                tracing::error!(%file, why, "the new certificate cannot be used; the one before goes on");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn put(files: &Files, certificate: &str, key: &str) {
        fs::write(&files.certificate, certificate).expect("written");
        write_private(&files.key, key.as_bytes()).expect("written");
    }

    #[test]
    fn what_cannot_be_used_leaves_the_certificate_before_in_place() {
        let dir = tempfile::tempdir().expect("a folder");
        let files = Files { certificate: dir.path().join("host.crt"), key: dir.path().join("host.key") };
        let fresh = || {
            let key = KeyPair::generate().expect("a key");
            let params = CertificateParams::new(["localhost".to_owned()]).expect("a name");
            (params.self_signed(&key).expect("signed"), key)
        };
        let (first, second) = (fresh(), fresh());
        put(&files, &first.0.pem(), &first.1.serialize_pem());
        let pair = files.read().expect("read");
        let served = Arc::new(Served(ArcSwap::from_pointee(pair.certified().expect("a pair"))));
        let mut follow = Follow { files: files.clone(), seen: Ok(pair), served: served.clone() };
        let shown = || served.0.load().cert[0].clone();
        assert_eq!(shown(), *first.0.der());
        for (certificate, key) in [
            ("nonsense".to_owned(), first.1.serialize_pem()),
            (first.0.pem(), "nonsense".to_owned()),
            // Half of an exchange: the new certificate with the old key.
            (second.0.pem(), first.1.serialize_pem()),
        ] {
            put(&files, &certificate, &key);
            follow.look();
            assert_eq!(shown(), *first.0.der());
        }
        put(&files, &second.0.pem(), &second.1.serialize_pem());
        follow.look();
        assert_eq!(shown(), *second.0.der());
        fs::remove_file(&files.key).expect("removed");
        follow.look();
        assert_eq!(shown(), *second.0.der());
    }
}
