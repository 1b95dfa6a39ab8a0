//! Certificates of agents: who gets them, who is turned away without, and how they are renewed.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use domain::attempt::State;
use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::EncodePrivateKey as _;
use futures_util::{SinkExt as _, StreamExt as _};
use plan::envelope::{hello_parts, sign};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType,
};
use serde_json::{Value, json};
use tests::client::{Api, state_of};
use tests::host::{TestHost, Tls};
use tests::machine::TestAgent;
use tests::store::Store;
use tests::wait::until;
use tls::Trusted;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::{Error, Message};
use wire::codec::{decode, encode};
use wire::facts::Facts;
use wire::frame::{AgentFrame, Hello, HostFrame};

const REQUIRED: &str = "[tls]\nself_signed = true\nagent_certificates = \"required\"\n";
const OFFERED: &str = "[tls]\nself_signed = true\nagent_certificates = \"offered\"\n";
const DAY: Duration = Duration::from_secs(86_400);

async fn host(sections: &str) -> (TestHost, Api) {
    let mut host = TestHost::new();
    host.set_tls(Tls::SelfSigned, sections);
    host.launch().await;
    let admin = host.admin().await;
    (host, admin)
}

/// What an agent keeps of itself.
struct Kept {
    identity: Value,
    key: SigningKey,
    certificate: Option<Vec<CertificateDer<'static>>>,
}

impl Kept {
    fn of(data: &Path) -> Kept {
        let text = |name: &str| std::fs::read_to_string(data.join(name)).ok();
        let identity = serde_json::from_str(&text("identity.json").expect("an identity")).expect("JSON");
        let seed = URL_SAFE_NO_PAD.decode(text("agent.key").expect("a key").trim()).expect("base64url");
        let certificate = text("agent.crt").map(|pem| tls::certificates(pem.as_bytes()).expect("a certificate"));
        Kept { identity, key: SigningKey::from_bytes(&seed.try_into().expect("32 bytes")), certificate }
    }

    fn field(&self, name: &str) -> &str {
        self.identity[name].as_str().expect("text")
    }

    /// A certificate of its key and id by this authority, good until then.
    fn signed(&self, by: &CertifiedIssuer<'static, KeyPair>, until: SystemTime) -> Vec<CertificateDer<'static>> {
        let mut params = CertificateParams::default();
        params.not_before = (until - 10 * DAY).into();
        params.not_after = until.into();
        let uri = format!("viworks://{}/agents/{}", self.field("cluster_id"), self.field("agent_id"));
        params.subject_alt_names = vec![SanType::URI(uri.try_into().expect("ASCII"))];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        vec![params.signed_by(&pair(&self.key), by).expect("signed").der().clone()]
    }

    /// What becomes of a session in which this is shown: the answer to HELLO, or what went wrong before the host
    /// has said a word.
    async fn session(&self, host: &TestHost, shown: Option<Vec<CertificateDer<'static>>>) -> Result<HostFrame, Error> {
        let pin = self.identity["host"]["pin"].as_str().expect("a pin").parse().expect("a pin");
        let own = shown.map(|chain| (chain, PrivateKeyDer::Pkcs8(pkcs8(&self.key))));
        let settings = tls::client(&Trusted::Pin(pin), own).expect("they fit together");
        let stream = TcpStream::connect(host.agents_address()).await.expect("connects");
        let name = ServerName::from(host.agents_address().ip());
        let stream = TlsConnector::from(Arc::new(settings)).connect(name, stream).await?;
        let (mut socket, _) = client_async(self.field("ws_url"), stream).await?;
        let Some(HostFrame::Challenge(challenge)) = hear(&mut socket).await else { panic!("the host speaks first") };
        let nonce = URL_SAFE_NO_PAD.decode(&challenge.nonce).expect("base64url");
        let agent_id = self.field("agent_id").parse().expect("an id");
        let said = hello_parts(self.field("cluster_id").parse().expect("an id"), agent_id, &nonce);
        let hello = AgentFrame::Hello(Hello {
            protocol: wire::limits::PROTOCOL_VERSION,
            agent_id,
            signature: sign(&self.key, &[&said]),
            next_key: None,
            facts: Facts { version: "0.1.0".into(), os: "linux".into(), ..Facts::default() },
            unfinished: Vec::new(),
            unacknowledged: Vec::new(),
        });
        socket.send(Message::Text(encode(&hello).into())).await?;
        let answer = hear(&mut socket).await;
        answer.ok_or_else(|| Error::Io(io::Error::from(io::ErrorKind::UnexpectedEof)))
    }
}

async fn hear<S>(socket: &mut S) -> Option<HostFrame>
where
    S: futures_util::Stream<Item = Result<Message, Error>> + Unpin,
{
    match tokio::time::timeout(tests::wait::CEILING, socket.next()).await.expect("in time") {
        Some(Ok(Message::Text(text))) => Some(decode(&text).expect("a frame")),
        _ => None,
    }
}

fn pkcs8(key: &SigningKey) -> PrivatePkcs8KeyDer<'static> {
    key.to_pkcs8_der().expect("plain").as_bytes().to_vec().into()
}

fn pair(key: &SigningKey) -> KeyPair {
    KeyPair::try_from(&pkcs8(key)).expect("a key")
}

/// The authority with this key, or one that nobody knows, under the same name.
fn authority(key: Option<&SigningKey>) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "ViWorkS agents");
    let own = SigningKey::from_bytes(&rand::random());
    CertifiedIssuer::self_signed(params, pair(key.unwrap_or(&own))).expect("signed")
}

fn authority_of(host: &TestHost) -> CertifiedIssuer<'static, KeyPair> {
    let seed = std::fs::read(host.data().join("keys/agents-ca.key")).expect("the authority's key");
    authority(Some(&SigningKey::from_bytes(&seed.try_into().expect("32 bytes"))))
}

#[expect(clippy::disallowed_methods, reason = "a certificate is good for a time of the real world")]
fn now() -> SystemTime {
    SystemTime::now()
}

/// The code of the problem that the upgrade was answered with.
fn code(answered: Result<HostFrame, Error>) -> String {
    match answered {
        Err(Error::Http(answer)) => {
            let body: Value = serde_json::from_slice(answer.body().as_deref().unwrap_or_default()).expect("a problem");
            body["code"].as_str().expect("a code").to_owned()
        }
        other => panic!("expected an answer to the upgrade: {other:?}"),
    }
}

fn fault(answered: Result<HostFrame, Error>) -> String {
    match answered {
        Ok(HostFrame::Error(fault)) => fault.code,
        other => panic!("expected ERROR: {other:?}"),
    }
}

/// Whether it ended in the TLS handshake: the client is told with the first octets it reads.
fn ended_in_the_handshake(answered: &Result<HostFrame, Error>) -> bool {
    matches!(answered, Err(Error::Io(_) | Error::Tls(_) | Error::Protocol(_)))
}

#[tokio::test]
async fn only_an_agents_own_certificate_opens_its_socket_and_joining_needs_none() {
    let (host, admin) = host(REQUIRED).await;
    let one = TestAgent::join(&host, &admin, "web-1").await;
    let two = TestAgent::join(&host, &admin, "web-2").await;
    let (one, two) = (Kept::of(&one.data()), Kept::of(&two.data()));
    let own = one.certificate.clone().expect("given at joining");

    assert_eq!(code(one.session(&host, None).await), "certificate_required");
    assert!(matches!(one.session(&host, Some(own)).await, Ok(HostFrame::Welcome(_))));
    // Another agent's, by whoever has that agent's key, under this agent's name.
    let mixed = Kept { identity: one.identity.clone(), key: two.key.clone(), certificate: None };
    assert_eq!(fault(mixed.session(&host, two.certificate.clone()).await), "unauthenticated");
    // One with this agent's name, of another key than the agent has.
    let ours = authority_of(&host);
    assert_eq!(fault(mixed.session(&host, Some(mixed.signed(&ours, now() + DAY))).await), "unauthenticated");
    let stranger = authority(None);
    for (shown, why) in
        [(one.signed(&stranger, now() + DAY), "another authority"), (one.signed(&ours, now() - DAY), "it is over")]
    {
        let answered = one.session(&host, Some(shown)).await;
        assert!(ended_in_the_handshake(&answered), "{why}: {answered:?}");
    }
    assert!(matches!(one.session(&host, Some(one.signed(&ours, now() + DAY))).await, Ok(HostFrame::Welcome(_))));

    admin.post("/api/v1/agents/web-1/revoke", &json!({})).await.expect(200);
    assert_eq!(code(one.session(&host, one.certificate.clone()).await), "revoked");
    assert!(matches!(two.session(&host, two.certificate.clone()).await, Ok(HostFrame::Welcome(_))));
}

#[tokio::test]
async fn a_certificate_is_renewed_in_a_session_and_goes_with_the_key_when_that_is_exchanged() {
    let (mut host, admin) = host(REQUIRED).await;
    let mut agent = TestAgent::join(&host, &admin, "web-1").await;
    // Nine of its ten days are gone.
    let old = Kept::of(&agent.data()).signed(&authority_of(&host), now() + DAY);
    let pem = format!(
        "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
        base64::engine::general_purpose::STANDARD.encode(&old[0])
    );
    // Written in place, so that it stays as private as it was.
    std::fs::write(agent.data().join("agent.crt"), pem).expect("written");
    agent.run();
    agent.seen(&admin, "online").await;
    let renewed =
        until("it has another certificate", async || Kept::of(&agent.data()).certificate.filter(|kept| *kept != old))
            .await;

    let before = Kept::of(&agent.data());
    admin.post("/api/v1/agents/web-1/rotate-key", &json!({})).await.expect(200);
    let turned = until("it has another key and what goes with it", async || {
        let kept = Kept::of(&agent.data());
        (kept.key != before.key && kept.certificate.as_ref() != Some(&renewed)).then_some(kept)
    })
    .await;
    let id = admin.exec("web-1", &json!({ "program": "true" })).await;
    assert_eq!(state_of(&admin.ended(&id, "web-1").await), State::Succeeded);
    agent.kill9();
    assert!(matches!(turned.session(&host, turned.certificate.clone()).await, Ok(HostFrame::Welcome(_))));
    // Its own certificate is good for months, and its key is worth nothing.
    assert_eq!(fault(before.session(&host, Some(renewed)).await), "unauthenticated");

    // Another authority: what the one before it vouched for counts until it is exchanged.
    assert!(host.stop().await.success());
    let keys = host.data().join("keys");
    std::fs::rename(keys.join("agents-ca.key"), keys.join("agents-ca.former.key")).expect("renamed");
    host.launch().await;
    let admin = host.admin().await;
    agent.run();
    agent.seen(&admin, "online").await;
    until("it has one by the new authority", async || {
        (Kept::of(&agent.data()).certificate != turned.certificate).then_some(())
    })
    .await;
    agent.kill9();
    assert!(host.stop().await.success());
    std::fs::remove_file(keys.join("agents-ca.former.key")).expect("removed");
    host.launch().await;
    let admin = host.admin().await;
    agent.run();
    agent.seen(&admin, "online").await;
    assert!(ended_in_the_handshake(&turned.session(&host, turned.certificate.clone()).await), "the former one is over");
}

#[tokio::test]
async fn a_fleet_that_joined_without_is_offered_certificates_and_then_asked_for_them() {
    let (mut host, admin) = host("[tls]\nself_signed = true\n").await;
    let mut agent = TestAgent::start(&host, &admin, "web-1").await;
    assert!(Kept::of(&agent.data()).certificate.is_none(), "none where they are off");
    assert!(host.stop().await.success());
    assert!(!host.data().join("keys/agents-ca.key").exists());

    host.set_sections(OFFERED);
    host.launch().await;
    let given = until("it is given one", async || Kept::of(&agent.data()).certificate).await;
    // One that does not count is as none: it is let in, and given another.
    let kept = Kept::of(&agent.data());
    let over = kept.signed(&authority_of(&host), now() - DAY);
    agent.kill9();
    assert!(matches!(kept.session(&host, Some(over)).await, Ok(HostFrame::Welcome(_))));
    assert!(host.stop().await.success());

    host.set_sections(REQUIRED);
    host.launch().await;
    let admin = host.admin().await;
    agent.run();
    agent.seen(&admin, "online").await;
    assert_eq!(Kept::of(&agent.data()).certificate, Some(given));
    let (_, words) = agent.doctor();
    assert!(words.contains("TLS with the pinned key"), "{words}");
}

#[tokio::test]
async fn hosts_of_one_store_vouch_by_one_authority_and_know_who_is_revoked() {
    let Some(store) = Store::postgres() else { return };
    let mut host = TestHost::new_on(store);
    host.set_tls(Tls::SelfSigned, REQUIRED);
    host.launch().await;
    let admin = host.admin().await;
    let agent = TestAgent::join(&host, &admin, "web-1").await;
    let kept = Kept::of(&agent.data());
    let mut other = host.beside();
    other.set_tls(Tls::SelfSigned, REQUIRED);
    let there = other.data().join("keys/agents-ca.key");
    std::fs::remove_file(&there).expect("removed");
    let words = other.refuses_to_start();
    assert!(words.contains("use another agents-ca.key"), "{words}");

    std::fs::copy(host.data().join("keys/agents-ca.key"), &there).expect("copied");
    other.launch().await;
    assert!(matches!(kept.session(&other, kept.certificate.clone()).await, Ok(HostFrame::Welcome(_))));
    admin.post("/api/v1/agents/web-1/revoke", &json!({})).await.expect(200);
    // Of a request, as elsewhere, or of HELLO by a host that is about to hear of it.
    let answered = until("the other host turns it away before it speaks", async || {
        match kept.session(&other, kept.certificate.clone()).await {
            Ok(HostFrame::Welcome(_) | HostFrame::Error(_)) => None,
            answered => Some(answered),
        }
    })
    .await;
    assert_eq!(code(answered), "revoked");
}
