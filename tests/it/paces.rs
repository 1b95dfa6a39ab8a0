//! Limits at the doors, each at its edge: the last that passes and the first that does not.

use reqwest::Method;
use serde_json::json;
use tests::host::TestHost;

/// Slow enough that nothing comes back during the test.
const SLOW: &str =
    "[security]\nrequests_per_second = 1\nrequest_burst = 40\nanonymous_per_second = 1\nanonymous_burst = 30\n";

#[tokio::test]
async fn one_principal_is_told_how_fast_it_may_ask_and_others_go_on() {
    let mut host = TestHost::new();
    host.set_sections(SLOW);
    host.launch().await;
    let admin = host.admin().await;
    let eve = host.user(&admin, "eve", "viewer").await;
    let mut left = Vec::new();
    let refused = loop {
        let answer = eve.get("/api/v1/me").await;
        let text = |name: &str| answer.headers[name].to_str().expect("text").to_owned();
        assert_eq!(text("ratelimit-policy"), "\"principal\";q=40;w=40");
        if answer.status != 200 {
            break answer;
        }
        left.push(text("ratelimit"));
        assert!(left.len() < 200, "never refused");
    };
    assert!(left.len() >= 40, "the whole burst passes: {}", left.len());
    assert!(left[0].starts_with("\"principal\";r=39;t="), "{}", left[0]);
    assert_eq!((refused.status, refused.code()), (429, "rate_limited"));
    assert_eq!(refused.headers["retry-after"], "1");
    // A body that is not even JSON is not looked at.
    let answer = eve.post_raw("/api/v1/commands", "application/json", "{").await;
    assert!(answer.status == 429 || answer.status == 403 || answer.status == 400, "{answer:?}");
    assert_eq!(admin.get("/api/v1/me").await.status, 200, "others go on");
}

#[tokio::test]
async fn one_address_without_a_principal_is_limited_whatever_it_claims_and_a_listed_proxys_clients_are_told_apart() {
    let mut host = TestHost::new();
    host.set_sections(SLOW);
    host.launch().await;
    let nobody = host.nobody();
    let ask = async |client: usize| {
        let request = nobody.request(Method::GET, "/api/v1/me").header("x-forwarded-for", format!("192.0.2.{client}"));
        nobody.send(request.header("forwarded", format!("for=192.0.2.{client}"))).await.status
    };
    let mut statuses = Vec::new();
    for client in 0..60 {
        statuses.push(ask(client).await);
    }
    assert!(statuses.iter().all(|status| [401, 429].contains(status)), "{statuses:?}");
    assert!(statuses.contains(&429), "another name each time is still the same peer");
    assert_eq!(nobody.get("/livez").await.status, 200, "probes go on");
    assert!(host.stop().await.success());

    let mut host = TestHost::new();
    host.set_server("trusted_proxies = [\"127.0.0.0/8\"]");
    host.set_sections(SLOW);
    host.launch().await;
    let nobody = host.nobody();
    let ask = async |client: usize| {
        let request = nobody.request(Method::GET, "/api/v1/me").header("x-forwarded-for", format!("192.0.2.{client}"));
        nobody.send(request).await.status
    };
    for client in 0..60 {
        assert_eq!(ask(client).await, 401, "each is its own");
    }
    let mut statuses = Vec::new();
    for _ in 0..60 {
        statuses.push(ask(7).await);
    }
    assert!(statuses.contains(&429), "one client of the proxy");
    let admin = host.admin().await;
    admin.post("/api/v1/join-tokens", &json!({})).await.expect(201);
}
