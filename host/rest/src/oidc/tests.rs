//! Another issuer, played: its keys are made here, its JWK Set is served on loopback, and some of its tokens are
//! forged.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use domain::access::Permission;
use domain::verb::VerbName;
use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::EncodePrivateKey;
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::*;

const NOW: Timestamp = Timestamp(1_700_000_000_000_000);
const SECOND: i64 = 1_700_000_000;

/// An issuer with one key at a time.
struct Issuer {
    url: String,
    /// Which key it has.
    key: Arc<AtomicU32>,
    /// How often its keys were fetched.
    fetched: Arc<AtomicU32>,
    _server: JoinSet<()>,
}

fn signing(seed: u32) -> SigningKey {
    SigningKey::from_bytes(&[u8::try_from(seed).expect("a small number"); 32])
}

fn jwks(seed: u32) -> Value {
    let x = URL_SAFE_NO_PAD.encode(signing(seed).verifying_key().as_bytes());
    json!({ "keys": [
        { "kty": "oct", "kid": "shared", "k": "c2VjcmV0" },
        { "kty": "OKP", "crv": "Ed25519", "kid": "enc", "use": "enc", "x": x },
        { "kty": "OKP", "crv": "Ed25519", "kid": format!("k{seed}"), "use": "sig", "x": x },
        "nonsense",
    ] })
}

impl Issuer {
    async fn start() -> Issuer {
        let (key, fetched) = (Arc::new(AtomicU32::new(1)), Arc::new(AtomicU32::new(0)));
        let (now, count) = (key.clone(), fetched.clone());
        let router = Router::new().route(
            "/jwks",
            get(async move || {
                count.fetch_add(1, Ordering::SeqCst);
                axum::Json(jwks(now.load(Ordering::SeqCst)))
            }),
        );
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/jwks", listener.local_addr().expect("an address"));
        let mut server = JoinSet::new();
        server.spawn(async move { axum::serve(listener, router).await.expect("serves") });
        Issuer { url, key, fetched, _server: server }
    }

    fn fetches(&self) -> u32 {
        self.fetched.load(Ordering::SeqCst)
    }
}

fn oidc(from: Source) -> Oidc {
    let roles = [("ops", Role::Operator), ("root", Role::Admin), ("look", Role::Viewer)];
    let options = Options {
        issuer: "https://id.test".into(),
        audience: "viworks".into(),
        from,
        name_claim: "preferred_username".into(),
        role_claim: "groups".into(),
        roles: roles.map(|(word, role)| (word.to_owned(), role)).into(),
        sites_claim: Some("sites".into()),
        effects: vec![Effect::Read, Effect::Change],
    };
    Oidc::new(options).expect("a client")
}

fn claims() -> Value {
    json!({
        "iss": "https://id.test", "aud": ["account", "viworks"], "sub": "7", "preferred_username": "grace",
        "exp": SECOND + 300, "iat": SECOND, "groups": ["look", "ops", "other"], "sites": ["eu-*"], "scope": "openid"
    })
}

fn token(seed: u32, header: &Value, claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", part(header), part(claims));
    let der = signing(seed).to_pkcs8_der().expect("encodes");
    let key = EncodingKey::from_ed_der(der.as_bytes());
    let signature = crypto::sign(message.as_bytes(), &key, Algorithm::EdDSA).expect("signs");
    format!("{message}.{signature}")
}

fn header(seed: u32) -> Value {
    json!({ "alg": "EdDSA", "kid": format!("k{seed}"), "typ": "JWT", "x5t": "whatever" })
}

#[tokio::test]
async fn claims_become_a_guest_with_a_role_and_sites() {
    let issuer = Issuer::start().await;
    let oidc = oidc(Source::Url(issuer.url.clone()));
    let guest = oidc.read(&token(1, &header(1), &claims()), NOW).await.expect("good");
    assert_eq!((guest.name.as_str(), guest.role), ("oidc:grace", Role::Operator), "the highest of its words");
    let caller = guest.caller();
    assert!(caller.sees_site("eu-1") && !caller.sees_site("us-1"));
    assert_eq!(guest.expires_at, NOW + Duration::from_secs(300));
    assert!(oidc.read(&token(1, &header(1), &claims()), NOW + Duration::from_secs(329)).await.is_ok());
    let over = oidc.read(&token(1, &header(1), &claims()), NOW + Duration::from_secs(330)).await;
    assert_eq!(over, Err(TokenError::Expired));
    assert_eq!(issuer.fetches(), 1, "keys are remembered");
    let mut nowhere = claims();
    nowhere["sites"] = json!(null);
    let guest = oidc.read(&token(1, &header(1), &nowhere), NOW).await.expect("good");
    assert!(!guest.caller().sees_site("eu-1"), "who lists no site sees none");
}

#[tokio::test]
async fn an_admin_of_another_issuer_stays_within_what_it_says() {
    let issuer = Issuer::start().await;
    let oidc = oidc(Source::Url(issuer.url.clone()));
    let caller = async |sites: Value| {
        let mut said = claims();
        (said["groups"], said["sites"]) = (json!("root"), sites);
        let guest = oidc.read(&token(1, &header(1), &said), NOW).await.expect("good");
        assert_eq!(guest.role, Role::Admin);
        guest.caller()
    };
    let verb = VerbName::parse("exec.run").expect("a verb");
    let eu = caller(json!(["eu-*"])).await;
    assert!(eu.sees_site("eu-1") && !eu.sees_site("us-1"));
    assert!(eu.may(Permission::ManageAgents).is_ok() && eu.may(Permission::ManageUsers).is_err());
    let all = caller(json!(["*"])).await;
    assert!(all.may(Permission::ManageUsers).is_ok());
    for caller in [eu, all] {
        assert!(caller.may_run(&verb, Effect::Change, "eu-1").is_ok());
        assert!(caller.may_run(&verb, Effect::Host, "eu-1").is_err(), "not among the effects of guests");
    }
}

#[tokio::test]
async fn keys_are_asked_for_again_after_the_clock_was_set_back() {
    let issuer = Issuer::start().await;
    let oidc = oidc(Source::Url(issuer.url.clone()));
    assert!(oidc.read(&token(1, &header(1), &claims()), NOW).await.is_ok());
    // Its keys are others by now, and nobody could tell for how long we have had ours.
    issuer.key.store(2, Ordering::SeqCst);
    let mut earlier = claims();
    (earlier["iat"], earlier["exp"]) = (json!(SECOND - 3_600), json!(SECOND - 3_300));
    let now = NOW - Duration::from_secs(3_600);
    assert!(oidc.read(&token(2, &header(2), &earlier), now).await.is_ok());
    assert_eq!(issuer.fetches(), 2);
}

#[tokio::test]
async fn what_the_issuer_did_not_say_to_us_is_refused() {
    let issuer = Issuer::start().await;
    let oidc = oidc(Source::Url(issuer.url.clone()));
    assert!(oidc.read(&token(1, &header(1), &claims()), NOW).await.is_ok());
    for (name, value) in [
        ("iss", json!("https://id.test/")),
        ("iss", json!(null)),
        ("aud", json!("account")),
        ("aud", json!({ "viworks": true })),
        ("exp", json!(null)),
        ("exp", json!((SECOND + 300).to_string())),
        ("exp", json!(1.7e9)),
        ("iat", json!(SECOND + 31)),
        ("iat", json!("now")),
        ("nbf", json!(SECOND + 31)),
        ("preferred_username", json!("")),
        ("preferred_username", json!("a b")),
        ("preferred_username", json!("a\u{202e}b")),
        ("preferred_username", json!("n".repeat(129))),
        ("preferred_username", json!(7)),
        ("groups", json!([])),
        ("groups", json!("admin")),
        ("groups", json!({ "ops": true })),
    ] {
        let mut changed = claims();
        changed[name] = value.clone();
        let said = oidc.read(&token(1, &header(1), &changed), NOW).await;
        assert_eq!(said, Err(TokenError::Invalid), "{name} = {value}");
    }
    for (name, value) in [
        ("alg", json!("none")),
        ("alg", json!("HS256")),
        ("alg", json!("RS256")),
        ("kid", json!("shared")),
        ("kid", json!("enc")),
        ("kid", json!(null)),
        ("typ", json!("dpop+jwt")),
        ("typ", json!(1)),
        ("crit", json!(["exp"])),
    ] {
        let mut changed = header(1);
        changed[name] = value.clone();
        let said = oidc.read(&token(1, &changed, &claims()), NOW).await;
        assert_eq!(said, Err(TokenError::Invalid), "{name} = {value}");
    }
    let good = token(1, &header(1), &claims());
    let public = signing(1).verifying_key();
    let message = good.rsplit_once('.').expect("three parts").0;
    let key = EncodingKey::from_secret(public.as_bytes());
    let hmac = crypto::sign(message.as_bytes(), &key, Algorithm::HS256).expect("signs");
    let long = "a".repeat(MAX_BYTES);
    for forged in [
        token(2, &header(1), &claims()),
        format!("{message}.{hmac}"),
        format!("{message}."),
        format!("{good}="),
        format!("{good}.x"),
        format!("{good}{long}"),
    ] {
        assert_eq!(oidc.read(&forged, NOW).await, Err(TokenError::Invalid), "{}", &forged[..60]);
    }
    let twice = claims().to_string().replacen('{', r#"{"groups":["root"],"#, 1);
    let (head, _) = good.split_once('.').expect("three parts");
    let body = URL_SAFE_NO_PAD.encode(twice);
    assert_eq!(oidc.read(&format!("{head}.{body}.AA"), NOW).await, Err(TokenError::Invalid));
    assert_eq!(issuer.fetches(), 1);
}

#[tokio::test]
async fn an_unknown_key_makes_us_look_once_a_minute_at_most() {
    let issuer = Issuer::start().await;
    let oidc = oidc(Source::Url(issuer.url.clone()));
    let (old, new) = (token(1, &header(1), &claims()), token(2, &header(2), &claims()));
    assert!(oidc.read(&old, NOW).await.is_ok());
    issuer.key.store(2, Ordering::SeqCst);
    for _ in 0..5 {
        assert_eq!(oidc.read(&new, NOW + Duration::from_secs(59)).await, Err(TokenError::Invalid));
    }
    assert_eq!(issuer.fetches(), 1);
    let minute = NOW + Duration::from_secs(60);
    assert!(oidc.read(&new, minute).await.is_ok(), "it has rotated its keys");
    assert_eq!(oidc.read(&old, minute).await, Err(TokenError::Invalid), "and let go of the old one");
    assert_eq!(issuer.fetches(), 2);
}

#[tokio::test]
async fn while_the_issuer_is_away_its_keys_are_believed_for_a_day() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("jwks.json");
    std::fs::write(&file, jwks(1).to_string()).expect("written");
    let oidc = oidc(Source::File(file.clone()));
    let long = |hours: i64| {
        let mut claims = claims();
        claims["exp"] = json!(SECOND + hours * 3600 + 60);
        token(1, &header(1), &claims)
    };
    assert!(oidc.read(&long(0), NOW).await.is_ok());
    std::fs::remove_file(&file).expect("removed");
    assert!(oidc.read(&long(23), NOW + Duration::from_secs(23 * 3600)).await.is_ok());
    assert_eq!(oidc.read(&long(24), NOW + Duration::from_secs(24 * 3600)).await, Err(TokenError::Invalid));
    std::fs::write(&file, jwks(1).to_string()).expect("written");
    assert!(oidc.read(&long(25), NOW + Duration::from_secs(25 * 3600)).await.is_ok());
}
