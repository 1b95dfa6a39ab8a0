//! TLS on both listeners: who is believed, who is not, and certificates exchanged while agents work.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use domain::attempt::State;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::json;
use tests::client::state_of;
use tests::gate::Gated;
use tests::host::{TestHost, Tls};
use tests::machine::TestAgent;
use tests::wait::until;

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("signed by itself")
}

/// The files of one host.
struct Files {
    certificate: PathBuf,
    key: PathBuf,
    authority: PathBuf,
}

impl Files {
    fn of(host: &TestHost) -> Files {
        let at = |name: &str| host.scratch().join(name);
        Files { certificate: at("host.crt"), key: at("host.key"), authority: at("authority.pem") }
    }

    /// A certificate for `address`, good for this long from now; a negative time is over.
    fn sign(&self, authority: &Authority, address: Ipv4Addr, over: bool) {
        let mut params = CertificateParams::new([address.to_string()]).expect("a name");
        #[expect(clippy::disallowed_methods, reason = "a certificate is good for a time of the real world")]
        let (now, day) = (SystemTime::now(), Duration::from_secs(86_400));
        params.not_before = (now - 2 * day).into();
        params.not_after = (if over { now - day } else { now + day }).into();
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, authority).expect("signed");
        self.put(&certificate.pem(), &key.serialize_pem());
    }

    fn put(&self, certificate: &str, key: &str) {
        fs::write(&self.certificate, certificate).expect("written");
        fs::write(&self.key, key).expect("written");
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        fs::set_permissions(&self.key, private).expect("private");
    }

    fn section(&self) -> String {
        format!("[tls]\ncertificate = {:?}\nkey = {:?}\n", self.certificate, self.key)
    }
}

async fn signed(authority: &Authority) -> (TestHost, Files) {
    let mut host = TestHost::new();
    let files = Files::of(&host);
    fs::write(&files.authority, authority.pem()).expect("written");
    files.sign(authority, host.address(), false);
    host.set_tls(Tls::SignedBy(files.authority.clone()), &files.section());
    host.launch().await;
    (host, files)
}

#[tokio::test]
async fn a_self_signed_host_is_joined_by_one_line_and_only_its_own_key_is_believed() {
    let mut host = TestHost::new();
    host.set_tls(Tls::SelfSigned, "[tls]\nself_signed = true\n");
    host.launch().await;
    let admin = host.admin().await;
    let version = admin.get("/version").await.expect(200);
    let pin = version["tls_pin"].as_str().expect("a pin").to_owned();
    assert!(host.log().contains(&pin), "the log shows it");
    let agent = TestAgent::start(&host, &admin, "web-1").await;
    let id = admin.exec("web-1", &json!({ "program": "uname" })).await;
    assert_eq!(state_of(&admin.ended(&id, "web-1").await), State::Succeeded);

    // The same line with another pin: nothing is sent to whoever answers.
    let made = admin.post("/api/v1/join-tokens", &json!({})).await.expect(201);
    let token = made["token"].as_str().expect("a token");
    assert!(token.ends_with(&pin), "{token}");
    let other = token.replace(&pin, &"0".repeat(64));
    let words = TestAgent::join_with(&host, &other, "web-2").err().expect("refused");
    assert!(words.contains("has the pin"), "{words}");
    // Without a pin nobody vouches for it.
    let bare = token.trim_end_matches(&pin).trim_end_matches('_');
    let words = TestAgent::join_with(&host, bare, "web-2").err().expect("refused");
    assert!(words.contains("no answer from"), "{words}");
    let unused = admin.get("/api/v1/join-tokens").await.expect(200);
    assert!(unused["items"][0]["used_at"].is_null(), "{unused:#}");
    TestAgent::join_with(&host, token, "web-2").expect("the right pin is believed");

    // The key outlives the host, so the agent finds it again.
    assert!(host.stop().await.success());
    host.launch().await;
    let admin = host.admin().await;
    assert_eq!(admin.get("/version").await.expect(200)["tls_pin"], json!(pin));
    let mut agent = agent;
    agent.seen(&admin, "online").await;
}

#[tokio::test]
async fn a_certificate_is_exchanged_under_open_sessions_and_a_broken_one_is_not_taken() {
    let ours = authority();
    let (host, files) = signed(&ours).await;
    let admin = host.admin().await;
    let mut agent = TestAgent::start(&host, &admin, "web-1").await;
    let mut gated = Gated::new();
    let id = admin.exec("web-1", &gated.args()).await;
    gated.started().await;

    files.put("nonsense", "nonsense");
    host.hang_up();
    until("the broken certificate is told of", async || host.log().contains("the one before goes on").then_some(()))
        .await;
    assert_eq!(host.nobody().get("/version").await.status, 200, "the one before goes on");

    let theirs = authority();
    files.sign(&theirs, host.address(), false);
    host.hang_up();
    until("the new certificate is shown", async || {
        let request = host.nobody().request(reqwest::Method::GET, "/version");
        host.nobody().try_send(request).await.is_err().then_some(())
    })
    .await;
    gated.open();
    // The connection of before is as good as it was.
    assert_eq!(state_of(&admin.ended(&id, "web-1").await), State::Succeeded);
    agent.seen(&admin, "online").await;

    // Who dials anew believes the authority that its file names then.
    fs::write(&files.authority, theirs.pem()).expect("written");
    agent.kill9();
    agent.run();
    let admin = host.admin().await;
    agent.seen(&admin, "online").await;
}

#[tokio::test]
async fn strangers_authorities_and_certificates_that_are_over_are_refused() {
    let ours = authority();
    let (host, files) = signed(&ours).await;
    let admin = host.admin().await;
    let made = admin.post("/api/v1/join-tokens", &json!({})).await.expect(201);
    let token = made["token"].as_str().expect("a token");
    assert_eq!(token.split('_').count(), 4, "no pin where an authority vouches: {token}");

    fs::write(&files.authority, authority().pem()).expect("written");
    let words = TestAgent::join_with(&host, token, "web-1").err().expect("refused");
    assert!(words.contains("no answer from https://"), "{words}");

    fs::write(&files.authority, ours.pem()).expect("written");
    files.sign(&ours, host.address(), true);
    host.hang_up();
    until("the certificate that is over is shown", async || {
        let words = TestAgent::join_with(&host, token, "web-1").err()?;
        words.to_lowercase().contains("expired").then_some(())
    })
    .await;
    files.sign(&ours, host.address(), false);
    host.hang_up();
    until("a good one is believed", async || {
        TestAgent::join_with(&host, "vwj_a_b_0123456789abcdef", "web-1").err().filter(|words| words.contains("401"))
    })
    .await;
    TestAgent::join_with(&host, token, "web-1").expect("the token was not used up");
}

#[tokio::test]
async fn who_speaks_plain_text_to_a_tls_port_hears_no_http() {
    let mut host = TestHost::new();
    host.set_tls(Tls::SelfSigned, "[tls]\nself_signed = true\n");
    host.launch().await;
    let answers = [host.url(), host.agents_url()].map(|url| {
        let address = url.trim_start_matches("https://").to_owned();
        let mut stream = TcpStream::connect(address).expect("connects");
        stream.write_all(b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n").expect("written");
        let mut answer = Vec::new();
        // Closed, or reset: either way it is over.
        let _ = stream.read_to_end(&mut answer);
        answer
    });
    for answer in answers {
        assert!(answer.len() < 16 && !answer.starts_with(b"HTTP"), "{answer:?}");
    }
}
