//! Forgeries. All must fail; the honest token beside them must not.

use ed25519_dalek::pkcs8::EncodePrivateKey;
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

fn header(tokens: &Tokens) -> Value {
    json!({ "alg": "EdDSA", "kid": tokens.kid, "typ": "at+jwt" })
}

fn body() -> Value {
    json!({
        "iss": "cluster-a", "aud": "viworks-api", "sub": USER.to_string(), "exp": SECOND + 600, "nbf": SECOND,
        "iat": SECOND, "jti": "j1", "ver": 1
    })
}

/// Signed correctly, whatever it says.
fn signed(tokens: &Tokens, header: &str, body: &str) -> String {
    let message = format!("{header}.{body}");
    let signature = tokens.sign(&message).expect("signs");
    format!("{message}.{signature}")
}

#[track_caller]
fn refused(tokens: &Tokens, token: &str, what: &str) {
    assert_eq!(tokens.read(token, NOW), Err(TokenError::Invalid), "{what}");
}

#[test]
fn an_honest_token_is_good_until_it_is_over() {
    let tokens = tokens();
    let token = tokens.issue(USER, 3, NOW).expect("issues");
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
        let header = json!({ "alg": alg, "kid": tokens.kid, "typ": "at+jwt" });
        let message = format!("{}.{}", part(&header), part(&body()));
        let key = EncodingKey::from_secret(public.as_bytes());
        let signature = crypto::sign(message.as_bytes(), &key, Algorithm::HS256).expect("signs");
        refused(&tokens, &format!("{message}.{signature}"), alg);
    }
    let stranger = Tokens::new(&Key::Ed25519(der(2)), "cluster-a", LIFE_MAX).expect("a key");
    refused(&tokens, &signed(&stranger, &part(&header(&tokens)), &part(&body())), "another key under our kid");
    refused(&tokens, &stranger.issue(USER, 1, NOW).expect("issues"), "another host's token");
}

#[test]
fn every_claim_is_required_typed_and_ours() {
    let tokens = tokens();
    for name in ["iss", "aud", "sub", "exp", "nbf", "iat", "jti", "ver"] {
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
    let token = tokens.issue(USER, 1, NOW).expect("issues");
    assert!(tokens.read(&token, NOW).is_ok() && tokens.read(&token, NOW).is_ok());
    assert_eq!(tokens.read(&token, NOW + LIFE_MAX + LEEWAY), Err(TokenError::Expired));
}

#[test]
fn no_bit_may_be_turned() {
    let tokens = tokens();
    let token = tokens.issue(USER, 1, NOW).expect("issues");
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
    let token = tokens.issue(USER, 1, NOW).expect("issues");
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
    let token = tokens.issue(USER, 1, NOW).expect("issues");
    assert!(tokens.read(&token, NOW).is_ok());
    let mut other = header(&tokens);
    other["alg"] = json!("HS384");
    refused(&tokens, &signed(&tokens, &part(&other), &part(&body())), "HS384");
    assert_eq!(Tokens::new(&Key::Hs256(vec![7; 31]), "a", LIFE_MAX).err(), Some(KeyError::Short(31)));
    assert_eq!(Tokens::new(&Key::Ed25519(vec![7; 48]), "a", LIFE_MAX).err(), Some(KeyError::NotEd25519));
    let day = Duration::from_secs(86_400);
    assert_eq!(Tokens::new(&Key::Ed25519(der(1)), "a", day).err(), Some(KeyError::Life(86_400)));
}
