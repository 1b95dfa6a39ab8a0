//! Redis as operators set it up: by TLS, for a user who may do little; what two hosts count together in it, and what
//! they tell each other there of machines.

use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use servers::need;
use servers::redis::Redis;
use tests::client::Api;
use tests::host::TestHost;
use tests::machine::TestAgent;
use tests::store::Store;
use tests::wait::until;

/// All that a host asks of Redis, as docs/operations.md has it.
const MAY: &str = "on >wire ~viworks:* &viworks:* -@all +ping +publish +subscribe +eval +get +set +time";
/// Requests of one principal at once, at all hosts.
const BURST: usize = 60;
/// How often a slow machine may try: whenever Redis does not answer at once, a host counts by itself.
const ROUNDS: usize = 5;

/// A Redis with TLS, and the authority that its certificate is believed by.
fn secured(folder: &std::path::Path) -> Option<(Redis, PathBuf)> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority =
        CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("signed by itself");
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(["127.0.0.1".to_owned()]).expect("a name");
    let certificate = params.signed_by(&key, &authority).expect("signed");
    let put = |name: &str, text: &str| {
        let file = folder.join(name);
        std::fs::write(&file, text).expect("written");
        file
    };
    let (certificate, key) = (put("redis.crt", &certificate.pem()), put("redis.key", &key.serialize_pem()));
    let believed = put("authority.pem", &authority.pem());
    let user = [&["--user", "viworks"][..], &MAY.split(' ').collect::<Vec<_>>()].concat();
    let started = Redis::start_as(Some((&certificate, &key)), &user);
    started.map_err(|error| need::skipped(&format!("{error:#}"))).ok().map(|redis| (redis, believed))
}

async fn says(host: &TestHost, word: &str) {
    let nobody = host.nobody();
    until(&format!("the host says of Redis `{word}`"), async || {
        let answer = nobody.get("/readyz").await;
        assert_eq!(answer.status, 200, "Redis alone keeps no host from working");
        answer.json["components"]["redis"].as_str()?.starts_with(word).then_some(())
    })
    .await;
}

/// How many of so many requests are let through.
async fn let_through(api: &Api, requests: usize) -> usize {
    let mut well = 0;
    for _ in 0..requests {
        match api.get("/api/v1/verbs").await.status {
            200 => well += 1,
            429 => {}
            other => panic!("status {other}"),
        }
    }
    well
}

#[tokio::test]
async fn hosts_speak_tls_to_redis_as_a_user_who_may_do_little_and_count_requests_together() {
    let folder = tempfile::tempdir().expect("a folder");
    let Some(store) = Store::postgres() else { return };
    let Some((redis, authority)) = secured(folder.path()) else { return };
    let at = redis.tls().expect("it speaks TLS");
    let section = |password: &str| {
        format!("[redis]\nurl = \"rediss://viworks:{password}@{at}/\"\nroot_certificate = {authority:?}\n")
    };
    let pace = format!("[security]\nrequests_per_second = 1\nrequest_burst = {BURST}\n");
    let mut host = TestHost::new_on(store);
    host.set_sections(&format!("{}{pace}", section("wire")));
    host.launch().await;
    let mut other = host.beside();
    other.set_sections(&format!("{}{pace}", section("wire")));
    other.launch().await;
    says(&host, "ok").await;
    says(&other, "ok").await;

    // One principal, whose requests are counted wherever they go.
    let [here, there] = [host.admin().await, other.admin().await];
    let (mut counts, mut together) = (Vec::new(), false);
    for round in 0..ROUNDS {
        let name = format!("viewer-{round}");
        let credential = serde_json::json!({ "name": name, "password": TestHost::password(&name) });
        let asked_here = host.user(&here, &name, "viewer").await;
        let asked_there = other.nobody().login(&credential).await;
        let (well, more) = (let_through(&asked_here, BURST).await, let_through(&asked_there, BURST).await);
        counts.push((well, more));
        together = well > 0 && more < BURST / 2;
        if together {
            break;
        }
    }
    assert!(together, "here, and then at the other host, in a burst of {BURST}: {counts:?}");
    assert!(redis.ask("EXISTS viworks:pace:none").expect("an answer").starts_with(":0"), "it answers others, too");

    // So are wrong guesses of a password, and right ones cost nothing.
    let guess = async |host: &TestHost, name: &str| {
        let wrong = serde_json::json!({ "name": name, "password": "is guessed" });
        host.nobody().post("/api/v1/auth/login", &wrong).await.status
    };
    let mut guesses = Vec::new();
    for round in 0..ROUNDS {
        let name = format!("nobody-{round}");
        let mut statuses = Vec::new();
        for _ in 0..7 {
            statuses.extend([guess(&host, &name).await, guess(&other, &name).await]);
        }
        let is_over = statuses.last() == Some(&429);
        guesses.push(statuses);
        if is_over {
            break;
        }
    }
    // Each host by itself would have let all of them be tried.
    let last = guesses.last().expect("a round");
    assert!(guesses[0].iter().filter(|status| **status == 401).count() >= 10, "{guesses:?}");
    assert!(last.last() == Some(&429) && last.iter().all(|status| [401, 429].contains(status)), "{guesses:?}");
    other.admin().await;

    // Away: each host counts by itself, and says so; nobody is told.
    redis.kill().expect("it is killed");
    says(&host, "degraded").await;
    says(&other, "degraded").await;
    assert_eq!(let_through(&there, 5).await, 5, "its own count has seen few of them");
    assert_eq!(here.metric("viworks_redis_away").await, 1);
    assert!(here.metric("viworks_redis_requests_total").await > 0);
    redis.restart().expect("it starts again");
    says(&host, "ok").await;
    says(&other, "ok").await;
    assert_eq!(there.metric("viworks_redis_away").await, 0);

    // Another password: the host works, and says that Redis is of no use to it.
    let mut wrong = host.beside();
    wrong.set_sections(&section("guessed"));
    wrong.launch().await;
    says(&wrong, "degraded").await;
    assert!(!wrong.log().contains("guessed"), "no password in the log");
}

/// When the agent said last how its machine is, as this host tells it.
async fn said_at(api: &Api) -> Option<String> {
    let told = api.get("/api/v1/telemetry/web-1").await;
    assert_eq!(told.status, 200, "{}", told.json);
    told.json["at"].as_str().map(str::to_owned)
}

async fn says_something_later(api: &Api, than: Option<&str>, what: &str) -> String {
    until(what, async || said_at(api).await.filter(|at| than.is_none_or(|than| at.as_str() > than))).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_agent_said_at_one_host_is_told_by_the_other_as_long_as_there_is_a_redis() {
    let Some(store) = Store::postgres() else { return };
    let Some(redis) = Redis::own() else { return };
    let sections = format!("{}[telemetry]\ninterval_ms = 1000\n", redis.section());
    let mut host = TestHost::new_on(store);
    host.set_sections(&sections);
    host.launch().await;
    let mut other = host.beside();
    other.set_sections(&sections);
    other.launch().await;
    says(&host, "ok").await;
    says(&other, "ok").await;
    let [here, there] = [host.admin().await, other.admin().await];
    let mut agent = TestAgent::join(&host, &here, "web-1").await;
    agent.connect_to(other.agents_address());
    agent.run();
    agent.seen(&here, "online").await;

    let first = says_something_later(&here, None, "the other host tells what the agent said").await;
    until("in its own words, too", async || {
        here.get("/api/v1/agents/web-1/telemetry").await.json["sample"]["at_ms"].is_i64().then_some(())
    })
    .await;
    says_something_later(&here, Some(&first), "and what it said after that").await;
    until("it is counted among those that report", async || {
        (here.get("/api/v1/telemetry/across").await.json["items"][0]["reporting"] == 1).then_some(())
    })
    .await;
    until("both hosts give a sign of life", async || {
        let living = redis.ask("EVAL \"return #redis.call('KEYS', 'viworks:host:*')\" 0").expect("an answer");
        living.starts_with(":2").then_some(())
    })
    .await;

    // Away: what is known stays, and where the agent is everything goes on.
    redis.kill().expect("it is killed");
    says(&host, "degraded").await;
    let known = said_at(&here).await.expect("what it told before");
    let later = says_something_later(&there, Some(&known), "where the agent is, it is told").await;
    redis.restart().expect("it starts again");
    says_something_later(&here, Some(&later), "the other host tells again").await;
}
