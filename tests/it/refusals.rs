//! Bad input through the REST door: exact status, code and place, and nothing done.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::SigningKey;
use reqwest::Method;
use reqwest::header::AUTHORIZATION;
use serde_json::{Value, json};
use tests::client::{Answer, Api};
use tests::host::TestHost;
use tests::machine::TestAgent;
use tests::store::Store;

tests::on_both_stores![
    bodies_that_cannot_be_meant_are_refused_with_status_code_and_place,
    whoever_is_not_known_or_may_not_is_refused_and_nothing_runs,
];

const COMMANDS: &str = "/api/v1/commands";

#[track_caller]
fn assert_problem(answer: &Answer, status: u16, code: &str, pointer: Option<&str>, about: &str) {
    let found = (answer.status, answer.code());
    assert_eq!(found, (status, code), "{about}: {}", String::from_utf8_lossy(&answer.bytes));
    assert_eq!(answer.headers["content-type"], "application/problem+json", "{about}");
    assert_eq!(answer.json["status"], status, "{about}");
    let at = answer.json["errors"][0]["pointer"].as_str();
    if pointer.is_some() {
        assert_eq!(at, pointer, "{about}: {:#}", answer.json);
    }
}

async fn bodies_that_cannot_be_meant_are_refused_with_status_code_and_place(store: Store) {
    let host = TestHost::start_on(store).await;
    let admin = host.admin().await;
    let _agent = TestAgent::start(&host, &admin, "web-1").await;
    let good = json!({ "verb": "exec.run", "args": { "program": "true" }, "target": { "agents": ["web-1"] } });
    let with = |pointer: &str, value: Value| {
        let mut body = good.clone();
        let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
        body.pointer_mut(parent).and_then(Value::as_object_mut).expect("an object").insert(key.to_owned(), value);
        body.to_string()
    };
    let raw = |text: &str| text.to_owned();
    let table: Vec<(String, u16, &str, Option<&str>)> = vec![
        (with("/verb", json!("exec.rum")), 422, "unknown_verb", Some("/verb")),
        (with("/verb", json!("")), 422, "unknown_verb", Some("/verb")),
        (with("/verb", json!(7)), 422, "invalid_body", Some("/verb")),
        (with("/args", json!({})), 422, "invalid_args", Some("/args/program")),
        (with("/args", json!([])), 422, "invalid_args", Some("/args")),
        (with("/args/shell", json!(true)), 422, "invalid_args", Some("/args/shell")),
        (with("/args/args", json!("-a")), 422, "invalid_args", Some("/args/args")),
        (with("/args/args", json!(["a", 1])), 422, "invalid_args", Some("/args/args/1")),
        (with("/args/cwd", json!("tmp")), 422, "invalid_args", Some("/args/cwd")),
        (with("/args/program", json!("a\u{0}b")), 400, "nul_byte", Some("/args/program")),
        (with("/target", json!({})), 422, "no_target", None),
        (with("/target", json!({ "agents": ["nobody"] })), 422, "no_target", None),
        (with("/target", json!({ "labels": ["env=none"] })), 422, "no_target", None),
        (with("/target", json!({ "agent": ["web-1"] })), 422, "unknown_field", Some("/target/agent")),
        (with("/retries", json!(1)), 422, "unknown_field", Some("/retries")),
        (with("/priority", json!("urgent")), 422, "invalid_body", Some("/priority")),
        (with("/run_timeout_ms", json!(-1)), 422, "invalid_body", Some("/run_timeout_ms")),
        (with("/run_timeout_ms", json!(0)), 422, "invalid_body", Some("/run_timeout_ms")),
        (with("/start_within_ms", json!(40_u64 * 24 * 3_600_000)), 422, "invalid_body", Some("/start_within_ms")),
        (with("/run_timeout_ms", json!(9_007_199_254_740_992_u64)), 400, "big_integer", Some("/run_timeout_ms")),
        (raw("{\"verb\":\"exec.run\",\"verb\":\"exec.run\"}"), 400, "duplicate_key", Some("/verb")),
        (raw("{\"verb\":"), 400, "invalid_json", None),
        (raw(""), 400, "invalid_json", None),
        (raw("[]"), 422, "invalid_body", None),
        ("[".repeat(100), 400, "json_depth", None),
        (with("/args/stdin", json!("x".repeat(1 << 20))), 413, "body_too_large", None),
    ];
    for (body, status, code, pointer) in table {
        let about: String = body.chars().take(120).collect();
        let answer = admin.post_raw(COMMANDS, "application/json", body).await;
        assert_problem(&answer, status, code, pointer, &about);
    }
    let nearest = admin.post(COMMANDS, &json!({ "verb": "exec.rum", "target": { "all": true } })).await;
    assert!(nearest.json["detail"].as_str().is_some_and(|text| text.contains("exec.run")), "{:#}", nearest.json);

    for content_type in ["text/plain", "application/x-www-form-urlencoded"] {
        let answer = admin.post_raw(COMMANDS, content_type, good.to_string()).await;
        assert_problem(&answer, 415, "unsupported_media_type", None, content_type);
    }
    for (method, path, status, code) in [
        (Method::GET, "/api/v1/commands?limt=1", 400, "unknown_parameter"),
        (Method::GET, "/api/v1/commands?limit=0", 400, "invalid_parameter"),
        (Method::GET, "/api/v1/commands?cursor=zz", 400, "invalid_cursor"),
        (Method::GET, "/api/v1/commands/0193f2a4-7c1e-7abc-8def-0123456789ab", 404, "not_found"),
        (Method::GET, "/api/v1/agents/nobody", 404, "not_found"),
        (Method::GET, "/api/v1/nothing", 404, "not_found"),
        (Method::DELETE, "/api/v1/commands", 405, "method_not_allowed"),
    ] {
        let answer = admin.send(admin.request(method, path)).await;
        assert_problem(&answer, status, code, None, path);
    }
    let left = admin.get(COMMANDS).await.expect(200);
    assert_eq!(left["items"], json!([]), "nothing that was refused left a command behind");
}

async fn whoever_is_not_known_or_may_not_is_refused_and_nothing_runs(store: Store) {
    let host = TestHost::start_on(store).await;
    let admin = host.admin().await;
    let _agent = TestAgent::start(&host, &admin, "web-1").await;
    let nobody = Api::anonymous(&host.url());
    let body = json!({ "verb": "exec.run", "args": { "program": "true" }, "target": { "agents": ["web-1"] } });

    assert_problem(&nobody.post(COMMANDS, &body).await, 401, "unauthenticated", None, "no token");
    let forged = nobody.with_token("eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZG1pbiJ9.");
    assert_problem(&forged.post(COMMANDS, &body).await, 401, "invalid_token", None, "a token without a signature");
    let basic = nobody.request(Method::GET, "/api/v1/me").header(AUTHORIZATION, "Basic YTpi");
    assert_problem(&nobody.send(basic).await, 401, "invalid_token", None, "another scheme");
    let wrong = json!({ "name": "admin", "password": "not the password" });
    assert_problem(&nobody.post("/api/v1/auth/login", &wrong).await, 401, "login_refused", None, "a wrong password");

    // One changed character in the middle of the signature.
    let tokens = nobody.post("/api/v1/auth/login", &credential(&host)).await.expect(200);
    let token = tokens["access_token"].as_str().expect("a token");
    assert_eq!(nobody.with_token(token).get("/api/v1/me").await.status, 200);
    let (signed, signature) = token.rsplit_once('.').expect("three parts");
    let middle = signature.len() / 2;
    let other = if &signature[middle..=middle] == "A" { "B" } else { "A" };
    let changed = format!("{signed}.{}{other}{}", &signature[..middle], &signature[middle + 1..]);
    let forged = nobody.with_token(&changed);
    assert_problem(&forged.post(COMMANDS, &body).await, 401, "invalid_token", None, "a changed signature");

    let expired = nobody.with_token(&resigned(&host, token, |claims| {
        for claim in ["iat", "nbf", "exp"] {
            claims[claim] = json!(claims[claim].as_i64().expect("a time") - 3600);
        }
    }));
    assert_problem(&expired.post(COMMANDS, &body).await, 401, "token_expired", None, "a token of before");
    let other = nobody.with_token(&resigned(&host, token, |claims| claims["aud"] = json!("another-api")));
    assert_problem(&other.post(COMMANDS, &body).await, 401, "invalid_token", None, "a token for somebody else");

    let viewer = host.user(&admin, "vera", "viewer").await;
    assert_problem(&viewer.post(COMMANDS, &body).await, 403, "forbidden", None, "a viewer submits");
    assert_eq!(viewer.get(COMMANDS).await.status, 200);
    let operator = host.user(&admin, "otto", "operator").await;
    assert_problem(&operator.post(COMMANDS, &body).await, 403, "effect_not_granted", None, "an effect nobody granted");
    let user = json!({ "name": "x", "password": "a long enough one", "role": "admin" });
    assert_problem(&operator.post("/api/v1/users", &user).await, 403, "forbidden", None, "an operator makes an admin");
    let token = operator.post("/api/v1/join-tokens", &json!({})).await;
    assert_problem(&token, 403, "forbidden", None, "an operator lets a machine in");

    // A login that was ended is no login, although its token's time is not over.
    let ended = nobody.with_token(tokens["access_token"].as_str().expect("a token"));
    let refresh = json!({ "refresh_token": tokens["refresh_token"] });
    let out = ended.post("/api/v1/auth/logout", &refresh).await;
    assert!((200..300).contains(&out.status), "{out:?}");
    let again = nobody.post("/api/v1/auth/refresh", &refresh).await;
    assert_eq!(again.status, 401, "{again:?}");

    let left = admin.get(COMMANDS).await.expect(200);
    assert_eq!(left["items"], json!([]));
    let audit = admin.get("/api/v1/audit").await.expect(200);
    let warned = audit["items"].as_array().expect("items").iter().any(|row| row["level"] == "warn");
    assert!(warned, "what was refused is on record");
}

fn credential(host: &TestHost) -> Value {
    let text = std::fs::read_to_string(host.credential_file()).expect("admin.json");
    serde_json::from_str(&text).expect("JSON")
}

/// The token with changed claims, signed with the host's own key.
fn resigned(host: &TestHost, token: &str, change: impl FnOnce(&mut Value)) -> String {
    let parts: Vec<&str> = token.split('.').collect();
    let mut claims =
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(parts[1]).expect("base64url")).expect("JSON claims");
    change(&mut claims);
    let seed = std::fs::read(host.data().join("keys/token.key")).expect("the token key");
    let key = SigningKey::from_bytes(&seed.try_into().expect("32 bytes"));
    let signed = format!("{}.{}", parts[0], URL_SAFE_NO_PAD.encode(claims.to_string()));
    let signature = plan::envelope::sign(&key, &[signed.as_bytes()]);
    format!("{signed}.{signature}")
}
