//! Limits at the doors, each at its edge: the last that passes and the first that does not.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bus::local::Local;
use bus::paces::SharedPaces;
use bus::redis::Line;
use futures_util::future::join_all;
use ports::paces::Paces as _;
use reqwest::Method;
use serde_json::json;
use servers::redis::Redis;
use tests::host::TestHost;
use tests::wait::until;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

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

/// Two hosts' ends of one bucket, each asked by as many as ask `at_once` until it says no: how many were granted beside
/// what came back meanwhile, and for how many requests.
async fn emptied(burst: u32, refill: Duration, at_once: usize) -> Option<(u32, u64)> {
    let redis = Redis::own()?;
    let options = bus::redis::Options { url: redis.url(), prefix: "test".to_owned(), root_certificate: None };
    let stop = CancellationToken::new();
    let mut running = JoinSet::new();
    let mut line_of = |me: &str| {
        let (_, calls, line) = bus::redis::build(&options, me.to_owned(), Arc::new(Local::shared())).expect("a URL");
        running.spawn(calls.run(stop.clone()));
        line
    };
    let lines = [line_of("here"), line_of("there")];
    until("both hear Redis", async || lines.iter().all(Line::is_up).then_some(())).await;
    let counted = || lines.iter().map(|line| line.counters().requests.load(Ordering::Relaxed)).sum::<u64>();
    let before = counted();
    let ends = lines.each_ref().map(SharedPaces::of);
    let began = Instant::now();
    let mut granted = 0;
    let mut refused = [false; 2];
    while refused != [true; 2] {
        for (end, refused) in ends.iter().zip(&mut refused) {
            let asked = (0..at_once).map(|_| end.take("principal:ada", burst, refill));
            for taken in join_all(asked).await.into_iter().map(|taken| taken.expect("Redis answers in time")) {
                granted += u32::from(taken.granted);
                *refused |= !taken.granted;
            }
        }
    }
    let asked = counted() - before;
    stop.cancel();
    running.join_all().await;
    let came_back = began.elapsed().as_nanos() / refill.as_nanos();
    Some((granted.saturating_sub(came_back as u32), asked))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hosts_give_out_a_bucket_of_redis_once_with_few_requests_for_many() {
    // A small one exactly; of a large one what was taken ahead may be left over, and nothing is given twice.
    let minute = Duration::from_secs(60);
    let Some((small, _)) = emptied(200, minute, 1).await else { return };
    assert_eq!(small, 200);
    let Some((small, asked)) = emptied(200, minute, 16).await else { return };
    assert!(small == 200 && asked <= 100, "{small} in {asked} requests");
    let Some((large, asked)) = emptied(4_096, Duration::from_millis(10), 32).await else { return };
    assert!((4_096 - 4 * 64..=4_096).contains(&large) && asked <= 500, "{large} in {asked} requests");
}
