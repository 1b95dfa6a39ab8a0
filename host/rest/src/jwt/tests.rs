//! Forgeries. All must fail; the honest token beside them must not.

use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::EncodePrivateKey;
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Value, json};
use uuid::Uuid;

use super::*;

const NOW: Timestamp = Timestamp(1_700_000_000_000_000);
const SECOND: i64 = 1_700_000_000;
const USER: UserId = UserId(Uuid::from_u128(7));

fn der(seed: u8) -> Vec<u8> {
    SigningKey::from_bytes(&[seed; 32]).to_pkcs8_der().expect("encodes").as_bytes().to_vec()
}

fn tokens() -> Tokens {
    Tokens::new(&Key::Ed25519(der(1)), "cluster-a", LIFE_MAX).expect("a key")
}

fn part(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

fn kid(tokens: &Tokens) -> String {
    tokens.ring().kid.clone()
}

fn header(tokens: &Tokens) -> Value {
    json!({ "alg": "EdDSA", "kid": kid(tokens), "typ": "at+jwt" })
}

fn body() -> Value {
    json!({
        "iss": "cluster-a", "aud": "viworks-api", "sub": USER.to_string(), "exp": SECOND + 600, "nbf": SECOND,
        "iat": SECOND, "jti": "j1", "sid": "l1", "ver": 1
    })
}

/// Signed correctly, whatever it says.
fn signed(tokens: &Tokens, header: &str, body: &str) -> String {
    let message = format!("{header}.{body}");
    let signature = tokens.ring().sign(&message).expect("signs");
    format!("{message}.{signature}")
}

#[track_caller]
fn refused(tokens: &Tokens, token: &str, what: &str) {
    assert_eq!(tokens.read(token, NOW), Err(TokenError::Invalid), "{what}");
}

#[test]
fn an_honest_token_is_good_until_it_is_over() {
    let tokens = tokens();
    let token = tokens.issue(USER, 3, "l1", NOW).expect("issues");
    let claims = tokens.read(&token, NOW).expect("good");
    assert_eq!((claims.user, claims.version), (USER, 3));
    assert_eq!(claims.expires_at, NOW + LIFE_MAX);
    assert!(tokens.read(&token, NOW + LIFE_MAX + LEEWAY - Duration::from_secs(1)).is_ok());
    assert_eq!(tokens.read(&token, NOW + LIFE_MAX + LEEWAY), Err(TokenError::Expired));
    assert!(tokens.read(&token, NOW - LEEWAY).is_ok());
    assert_eq!(tokens.read(&token, NOW - LEEWAY - Duration::from_secs(1)), Err(TokenError::Invalid));
    assert!(tokens.read(&signed(&tokens, &part(&header(&tokens)), &part(&body())), NOW).is_ok());
}

#[test]
fn the_header_cannot_choose_algorithm_or_key() {
    let tokens = tokens();
    for alg in ["none", "None", "nOnE", "HS256", "HS384", "RS256", "ES256", "ES256K", "EdDsa", ""] {
        let mut header = header(&tokens);
        header["alg"] = json!(alg);
        refused(&tokens, &signed(&tokens, &part(&header), &part(&body())), alg);
        refused(&tokens, &format!("{}.{}.", part(&header), part(&body())), alg);
    }
    for (name, value) in [
        ("kid", json!("0000000000000000")),
        ("kid", json!("../../dev/null")),
        ("kid", json!(1)),
        ("typ", json!("JWT")),
        ("jwk", json!({})),
        ("jku", json!("http://127.0.0.1:1/")),
        ("x5u", json!("http://127.0.0.1:1/")),
        ("x5c", json!([])),
        ("crit", json!(["exp"])),
        ("b64", json!(false)),
        ("zip", json!("DEF")),
    ] {
        let mut header = header(&tokens);
        header[name] = value;
        refused(&tokens, &signed(&tokens, &part(&header), &part(&body())), name);
    }
    for missing in ["alg", "kid", "typ"] {
        let mut header = header(&tokens);
        header.as_object_mut().expect("an object").remove(missing);
        refused(&tokens, &signed(&tokens, &part(&header), &part(&body())), missing);
    }
}

#[test]
fn the_public_key_is_no_secret_to_sign_with() {
    let tokens = tokens();
    let public = SigningKey::from_bytes(&[1; 32]).verifying_key();
    for alg in ["HS256", "EdDSA"] {
        let header = json!({ "alg": alg, "kid": kid(&tokens), "typ": "at+jwt" });
        let message = format!("{}.{}", part(&header), part(&body()));
        let key = EncodingKey::from_secret(public.as_bytes());
        let signature = crypto::sign(message.as_bytes(), &key, Algorithm::HS256).expect("signs");
        refused(&tokens, &format!("{message}.{signature}"), alg);
    }
    let stranger = Tokens::new(&Key::Ed25519(der(2)), "cluster-a", LIFE_MAX).expect("a key");
    refused(&tokens, &signed(&stranger, &part(&header(&tokens)), &part(&body())), "another key under our kid");
    refused(&tokens, &stranger.issue(USER, 1, "l1", NOW).expect("issues"), "another host's token");
}

#[test]
fn every_claim_is_required_typed_and_ours() {
    let tokens = tokens();
    for name in ["iss", "aud", "sub", "exp", "nbf", "iat", "jti", "sid", "ver"] {
        let mut without = body();
        without.as_object_mut().expect("an object").remove(name);
        refused(&tokens, &signed(&tokens, &part(&header(&tokens)), &part(&without)), name);
        let mut null = body();
        null[name] = Value::Null;
        refused(&tokens, &signed(&tokens, &part(&header(&tokens)), &part(&null)), name);
    }
    for (name, value) in [
        ("iss", json!("cluster-b")),
        ("iss", json!(["cluster-a"])),
        ("aud", json!("other")),
        ("aud", json!(["viworks-api"])),
        ("sub", json!("admin")),
        ("sub", json!(7)),
        ("sub", json!(format!("{{{USER}}}"))),
        ("exp", json!((SECOND + 600).to_string())),
        ("exp", json!(1.7e9)),
        ("exp", json!(SECOND + 601)),
        ("exp", json!(SECOND + 86_400)),
        ("exp", json!(i64::MAX)),
        ("nbf", json!("0")),
        ("nbf", json!(SECOND + 31)),
        ("iat", json!(SECOND + 31)),
        ("iat", json!(SECOND + 601)),
        ("iat", json!(0)),
        ("iat", json!(i64::MIN)),
        ("jti", json!("")),
        ("jti", json!("j".repeat(65))),
        ("sid", json!("")),
        ("sid", json!(1)),
        ("ver", json!("1")),
        ("ver", json!(-1)),
        ("role", json!("admin")),
    ] {
        let mut changed = body();
        changed[name] = value.clone();
        refused(&tokens, &signed(&tokens, &part(&header(&tokens)), &part(&changed)), &format!("{name} = {value}"));
    }
    let twice = body().to_string().replacen('{', r#"{"ver":9,"#, 1);
    refused(&tokens, &signed(&tokens, &part(&header(&tokens)), &URL_SAFE_NO_PAD.encode(twice)), "a claim twice");
}

#[test]
fn a_token_whose_signature_is_remembered_is_over_in_time() {
    let tokens = tokens();
    let token = tokens.issue(USER, 1, "l1", NOW).expect("issues");
    assert!(tokens.read(&token, NOW).is_ok() && tokens.read(&token, NOW).is_ok());
    assert_eq!(tokens.read(&token, NOW + LIFE_MAX + LEEWAY), Err(TokenError::Expired));
}

#[test]
fn no_bit_may_be_turned() {
    let tokens = tokens();
    let token = tokens.issue(USER, 1, "l1", NOW).expect("issues");
    assert!(tokens.read(&token, NOW).is_ok(), "its signature is remembered, its neighbours' are not");
    for at in 0..token.len() {
        for bit in 0..7 {
            let mut bytes = token.clone().into_bytes();
            bytes[at] ^= 1 << bit;
            if let Ok(text) = String::from_utf8(bytes) {
                refused(&tokens, &text, &format!("bit {bit} of byte {at}"));
            }
        }
    }
}

#[test]
fn only_three_canonical_parts_are_a_token() {
    let tokens = tokens();
    let token = tokens.issue(USER, 1, "l1", NOW).expect("issues");
    let parts: Vec<&str> = token.split('.').collect();
    let (head, body, signature) = (parts[0], parts[1], parts[2]);
    let odd = [
        String::new(),
        ".".into(),
        "..".into(),
        "...".into(),
        format!("{head}.{body}"),
        format!("{head}.{body}."),
        format!("{token}.x"),
        format!("{token}."),
        format!(".{token}"),
        format!("{token}="),
        format!(" {token}"),
        format!("{token}\n"),
        format!("{head}.{body}=.{signature}"),
        format!("{head}.a.b.{body}.{signature}"),
        format!("{head}..{signature}"),
        "a".repeat(64 * 1024),
    ];
    for token in odd {
        refused(&tokens, &token, &token.chars().take(80).collect::<String>());
    }
}

#[test]
fn a_symmetric_key_works_and_must_be_long() {
    let tokens = Tokens::new(&Key::Hs256(vec![7; 32]), "cluster-a", LIFE_MAX).expect("a key");
    let token = tokens.issue(USER, 1, "l1", NOW).expect("issues");
    assert!(tokens.read(&token, NOW).is_ok());
    let mut other = header(&tokens);
    other["alg"] = json!("HS384");
    refused(&tokens, &signed(&tokens, &part(&other), &part(&body())), "HS384");
    assert_eq!(Tokens::new(&Key::Hs256(vec![7; 31]), "a", LIFE_MAX).err(), Some(KeyError::Short(31)));
    assert_eq!(Tokens::new(&Key::Ed25519(vec![7; 48]), "a", LIFE_MAX).err(), Some(KeyError::NotEd25519));
    let day = Duration::from_secs(86_400);
    assert_eq!(Tokens::new(&Key::Ed25519(der(1)), "a", day).err(), Some(KeyError::Life(86_400)));
}

/// Every way to come by a token that is none: what is wrong with it, and the token. `honest` is a good one of
/// `tokens`.
pub(crate) fn forgeries(tokens: &Tokens, honest: &str, now: Timestamp) -> Vec<(String, String)> {
    let second = now.as_millis() / 1000;
    let parts: Vec<&str> = honest.split('.').collect();
    let (head, claims, signature) = (parts[0], parts[1], parts[2]);
    let read = |part: &str| -> Value {
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).expect("base64url")).expect("JSON")
    };
    let (honest_head, honest_claims) = (read(head), read(claims));
    let public = tokens.jwks(now)["keys"][0]["x"].as_str().map(|x| URL_SAFE_NO_PAD.decode(x).expect("base64url"));
    let mut forged = Vec::new();
    let mut add = |what: String, token: String| forged.push((what, token));

    let strange_heads = [
        ("alg", json!("none")),
        ("alg", json!("None")),
        ("alg", json!("HS256")),
        ("alg", json!("RS256")),
        ("alg", json!("ES256")),
        ("alg", json!(null)),
        ("kid", json!("0000000000000000")),
        ("kid", json!("../token.key")),
        ("kid", json!(["a"])),
        ("typ", json!("JWT")),
        ("typ", json!(null)),
        ("jwk", json!({ "kty": "OKP" })),
        ("jku", json!("http://127.0.0.1:1/")),
        ("x5u", json!("http://127.0.0.1:1/")),
        ("crit", json!(["exp"])),
        ("b64", json!(false)),
    ];
    for (name, value) in strange_heads {
        let mut changed = honest_head.clone();
        changed[name] = value.clone();
        add(format!("signed, with {name} = {value}"), signed(tokens, &part(&changed), claims));
        add(format!("unsigned, with {name} = {value}"), format!("{}.{claims}.", part(&changed)));
    }
    for name in ["alg", "kid", "typ"] {
        let mut changed = honest_head.clone();
        changed.as_object_mut().expect("an object").remove(name);
        add(format!("signed, without {name}"), signed(tokens, &part(&changed), claims));
        let twice = honest_head.to_string().replacen('{', &format!("{{\"{name}\":\"x\","), 1);
        add(format!("signed, with {name} twice"), signed(tokens, &URL_SAFE_NO_PAD.encode(twice), claims));
    }
    for (name, value) in [
        ("iss", json!("00000000-0000-0000-0000-0000000000ff")),
        ("iss", json!("")),
        ("aud", json!("viworks-agents")),
        ("aud", json!(["viworks-api"])),
        ("sub", json!("root")),
        ("sub", json!(1)),
        ("exp", json!(second - 31)),
        ("exp", json!(second + 86_400)),
        ("exp", json!("never")),
        ("exp", json!(1.7e9)),
        ("nbf", json!(second + 31)),
        ("nbf", json!(second + 3_600)),
        ("iat", json!(second + 31)),
        ("iat", json!(second + 3_600)),
        ("iat", json!(0)),
        ("jti", json!("")),
        ("jti", json!("j".repeat(65))),
        ("sid", json!("another login")),
        ("sid", json!("")),
        ("ver", json!("1")),
        ("ver", json!(99)),
        ("ver", json!(-1)),
        ("role", json!("admin")),
    ] {
        let mut changed = honest_claims.clone();
        changed[name] = value.clone();
        add(format!("signed, with {name} = {value}"), signed(tokens, head, &part(&changed)));
    }
    for name in ["iss", "aud", "sub", "exp", "nbf", "iat", "jti", "sid", "ver"] {
        let mut changed = honest_claims.clone();
        changed.as_object_mut().expect("an object").remove(name);
        add(format!("signed, without {name}"), signed(tokens, head, &part(&changed)));
        let twice = honest_claims.to_string().replacen('{', &format!("{{\"{name}\":0,"), 1);
        add(format!("signed, with {name} twice"), signed(tokens, head, &URL_SAFE_NO_PAD.encode(twice)));
    }
    // Who has the public key has no secret.
    if let Some(public) = public {
        for alg in ["HS256", "EdDSA"] {
            let mut changed = honest_head.clone();
            changed["alg"] = json!(alg);
            let message = format!("{}.{claims}", part(&changed));
            let hmac = crypto::sign(message.as_bytes(), &EncodingKey::from_secret(&public), Algorithm::HS256);
            add(format!("{alg}, signed with the public key"), format!("{message}.{}", hmac.expect("signs")));
        }
    }
    let stranger = Tokens::new(&Key::Ed25519(der(200)), "another-cluster", LIFE_MAX).expect("a key");
    add("another cluster's".into(), stranger.issue(USER, 1, "l1", now).expect("issues"));
    add("another's signature under our kid".into(), signed(&stranger, head, claims));
    for (what, token) in [
        ("with a part too many", format!("{honest}.x")),
        ("with a dot too many", format!("{honest}.")),
        ("with padding", format!("{honest}=")),
        ("with octets after it", format!("{honest}AAAA")),
        ("without its signature", format!("{head}.{claims}.")),
        ("of two parts", format!("{head}.{claims}")),
        ("of one part", head.to_owned()),
        ("with padded claims", format!("{head}.{claims}=.{signature}")),
        ("cut short", honest[..honest.len() - 1].to_owned()),
        ("too long", format!("{head}.{claims}.{}", "A".repeat(2048))),
        ("no token at all", "x".to_owned()),
    ] {
        add(what.to_owned(), token);
    }
    forged
}

#[test]
fn every_forgery_of_the_table_is_refused() {
    let tokens = tokens();
    let honest = tokens.issue(USER, 1, "l1", NOW).expect("issues");
    // Only the store knows which logins there are, and their version.
    let of_the_store = ["sid = \"another login\"", "ver = 99"];
    for (what, token) in forgeries(&tokens, &honest, NOW) {
        let said = tokens.read(&token, NOW);
        assert_eq!(said.is_ok(), of_the_store.iter().any(|known| what.contains(known)), "{what}: {said:?}");
    }
}

#[test]
fn a_retired_key_verifies_until_its_time_is_up_and_signs_nothing() {
    let tokens = tokens();
    let old = tokens.issue(USER, 1, "l1", NOW).expect("issues");
    let public = SigningKey::from_bytes(&[1; 32]).verifying_key().to_bytes();
    let until = NOW + Duration::from_secs(60);
    tokens.turn(&Key::Ed25519(der(2)), vec![Retired { public, until }]).expect("a key");
    let new = tokens.issue(USER, 1, "l1", NOW).expect("issues");
    assert_ne!(old.split('.').next(), new.split('.').next());
    assert!(tokens.read(&old, NOW).is_ok() && tokens.read(&new, NOW).is_ok());
    let kids = |now| -> Vec<String> {
        let keys = tokens.jwks(now)["keys"].clone();
        keys.as_array().expect("keys").iter().map(|key| key["kid"].as_str().expect("a kid").to_owned()).collect()
    };
    assert_eq!(kids(NOW).len(), 2);
    assert_eq!(tokens.read(&old, until), Err(TokenError::Invalid), "remembered or not");
    assert_eq!(kids(until), [kid(&tokens)]);
    tokens.turn(&Key::Ed25519(der(3)), vec![]).expect("a key");
    assert_eq!(tokens.read(&new, NOW), Err(TokenError::Invalid));
    assert!(tokens.turn(&Key::Hs256(vec![7; 31]), vec![]).is_err());
    assert_eq!(kids(NOW), [kid(&tokens)], "a key that cannot be used changes nothing");
    tokens.turn(&Key::Hs256(vec![7; 32]), vec![Retired { public, until }]).expect("a secret");
    assert_eq!(kids(NOW), [] as [String; 0], "a secret is shown to nobody");
    assert_eq!(tokens.read(&old, NOW), Err(TokenError::Invalid), "its algorithm is another");
}
