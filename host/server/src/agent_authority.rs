//! The authority that vouches for agents by certificates: made here, kept among the keys, the same on every host.
//!
//! A certificate is about an agent's own key and its id. It is good for a while and renewed over sessions; who is
//! revoked is known by id, so nobody keeps lists of certificates.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use domain::time::Timestamp;
use ed25519_dalek::{SigningKey, VerifyingKey};
use plan::envelope::{key_text, parse_key};
use plan::id::{AgentId, ClusterId};
use ports::seal::{Authority, Badge, Certificate};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, PKCS_ED25519, PublicKeyData, SanType, SerialNumber, SignatureAlgorithm,
};
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;

use crate::config::{AgentCertificates, Config};
use crate::keys;

/// The authority's key, in the data directory.
pub const KEY: &str = "keys/agents-ca.key";
/// The one before it, if an operator put it there: what it vouched for counts until it is exchanged.
pub const FORMER: &str = "keys/agents-ca.former.key";
/// A certificate made on a host whose clock is ahead is good at once on the others.
const AHEAD: Duration = Duration::from_secs(3600);

/// The authority of one installation.
pub struct AgentAuthority {
    cluster: ClusterId,
    life: Duration,
    issuer: CertifiedIssuer<'static, KeyPair>,
    /// What the present key vouches for.
    present: Arc<dyn ClientCertVerifier>,
    /// And the one before it.
    accepted: Arc<dyn ClientCertVerifier>,
}

/// An agent's public key.
struct AgentKey([u8; 32]);

impl PublicKeyData for AgentKey {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ED25519
    }
}

/// What tells the keys apart, the present one first; nothing where agents show no certificates.
///
/// # Errors
/// A key cannot be read or made.
pub fn marks(config: &Config) -> anyhow::Result<Option<Vec<String>>> {
    if config.tls.agent_certificates == AgentCertificates::Off {
        return Ok(None);
    }
    Ok(Some(read(&config.data.dir)?.iter().map(|key| key_text(&key.verifying_key())).collect()))
}

/// The present key, made now if there is none, and the one before it.
fn read(data: &Path) -> anyhow::Result<Vec<SigningKey>> {
    let mut found = vec![keys::load_or_make(&data.join(KEY))?];
    let former = data.join(FORMER);
    if former.exists() {
        found.push(keys::load_or_make(&former)?);
    }
    Ok(found)
}

impl AgentAuthority {
    /// The authority of the installation `cluster`; `None` where agents show no certificates.
    ///
    /// # Errors
    /// Its key cannot be used.
    pub fn build(config: &Config, cluster: ClusterId) -> anyhow::Result<Option<Arc<AgentAuthority>>> {
        if config.tls.agent_certificates == AgentCertificates::Off {
            return Ok(None);
        }
        let found = read(&config.data.dir)?;
        let life = Duration::from_secs(config.tls.agent_certificate_life_s);
        Ok(Some(Arc::new(AgentAuthority::of(&found, cluster, life)?)))
    }

    fn of(found: &[SigningKey], cluster: ClusterId, life: Duration) -> anyhow::Result<AgentAuthority> {
        let issuers = found.iter().map(issuer).collect::<anyhow::Result<Vec<_>>>()?;
        let accepted = verifier(&issuers)?;
        let issuer = issuers.into_iter().next().context("there is no key")?;
        let present = verifier(std::slice::from_ref(&issuer))?;
        Ok(AgentAuthority { cluster, life, issuer, present, accepted })
    }

    /// What a TLS handshake asks of the certificate that is shown, if one is.
    pub fn verifier(&self) -> Arc<dyn ClientCertVerifier> {
        self.accepted.clone()
    }
}

/// The certificate around the key is the same at each start but for its dates, which nobody looks at.
fn issuer(key: &SigningKey) -> anyhow::Result<CertifiedIssuer<'static, KeyPair>> {
    let pair = KeyPair::try_from(&PrivatePkcs8KeyDer::from(keys::pkcs8(key)?)).context("the agents' authority")?;
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.distinguished_name.push(DnType::CommonName, "ViWorkS agents");
    CertifiedIssuer::self_signed(params, pair).context("the agents' authority")
}

fn verifier(issuers: &[CertifiedIssuer<'static, KeyPair>]) -> anyhow::Result<Arc<dyn ClientCertVerifier>> {
    let mut roots = RootCertStore::empty();
    for issuer in issuers {
        roots.add(issuer.der().clone()).context("the agents' authority")?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), tls::provider());
    // Machines join without one.
    builder.allow_unauthenticated().build().context("the agents' authority")
}

impl Authority for AgentAuthority {
    fn certify(&self, agent: AgentId, public_key: &str, now: Timestamp) -> Option<Certificate> {
        let key = AgentKey(parse_key(public_key).ok()?.to_bytes());
        let now = SystemTime::UNIX_EPOCH + Duration::from_millis(now.as_millis().try_into().ok()?);
        let mut params = CertificateParams::default();
        params.not_before = (now - AHEAD).into();
        params.not_after = (now + self.life).into();
        params.distinguished_name.push(DnType::CommonName, agent.to_string());
        params.subject_alt_names = vec![SanType::URI(wire::certificate::uri(self.cluster, agent).try_into().ok()?)];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        // Two of one key are two; the highest bit would make it negative.
        let serial: [u8; 15] = rand::random();
        params.serial_number = Some(SerialNumber::from_slice(&[&[1], &serial[..]].concat()));
        let made = params.signed_by(&key, &self.issuer).ok()?;
        Some(Certificate { pem: made.pem(), der: made.der().to_vec() })
    }

    fn read(&self, certificate: &[u8], now: Timestamp) -> Option<Badge> {
        let certificate = CertificateDer::from(certificate);
        let at = |time: Timestamp| {
            Some(UnixTime::since_unix_epoch(Duration::from_millis(time.as_millis().try_into().ok()?)))
        };
        self.accepted.verify_client_cert(&certificate, &[], at(now)?).ok()?;
        let said = tls::named(&certificate).ok()?;
        let [uri] = said.uris.as_slice() else { return None };
        let agent = wire::certificate::named(self.cluster, uri)?;
        let public_key = key_text(&VerifyingKey::from_bytes(&said.ed25519?).ok()?);
        let soon = at(now + self.life / 3)?;
        let renew = self.present.verify_client_cert(&certificate, &[], soon).is_err();
        Some(Badge { agent, public_key, renew })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_700_000_000_000_000);
    const LIFE: Duration = Duration::from_secs(90 * 24 * 3600);

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_bytes(&[seed; 32])
    }

    fn cluster(id: u128) -> ClusterId {
        ClusterId(uuid::Uuid::from_u128(id))
    }

    fn by(keys: &[u8], cluster: ClusterId) -> AgentAuthority {
        let keys: Vec<_> = keys.iter().map(|seed| key(*seed)).collect();
        AgentAuthority::of(&keys, cluster, LIFE).expect("keys")
    }

    #[test]
    fn a_certificate_is_about_one_agent_of_one_installation_for_a_while() {
        let (ours, agent) = (by(&[1], cluster(1)), AgentId(uuid::Uuid::from_u128(7)));
        let public_key = key_text(&key(9).verifying_key());
        let made = ours.certify(agent, &public_key, NOW).expect("a key").der;
        let badge = |renew| Some(Badge { agent, public_key: public_key.clone(), renew });
        let second = Duration::from_secs(1);
        for (at, expected) in [
            (NOW, badge(false)),
            (NOW + LIFE * 2 / 3 - second, badge(false)),
            (NOW + LIFE * 2 / 3 + second, badge(true)),
            (NOW + LIFE, badge(true)),
            (NOW + LIFE + second, None),
        ] {
            assert_eq!(ours.read(&made, at), expected, "{at:?}");
        }
        assert_eq!(by(&[1], cluster(2)).read(&made, NOW), None, "another installation");
        assert_eq!(by(&[2], cluster(1)).read(&made, NOW), None, "another authority");
        assert_eq!(by(&[2, 1], cluster(1)).read(&made, NOW), badge(true), "the former one, to be exchanged");
        assert_eq!(by(&[1, 2], cluster(1)).read(&made, NOW), badge(false));
        assert_eq!(ours.read(b"nothing", NOW), None);
        assert!(ours.certify(agent, "no key", NOW).is_none());
        let again = ours.certify(agent, &public_key, NOW).expect("a key").der;
        assert_ne!(made, again, "two of one key are two");
    }
}
