//! Two hosts on one PostgreSQL behind a balancer: either may be killed, frozen or cut off at any moment. Nothing
//! that was accepted is lost, nothing starts twice, and every agent is served again by whoever is left.
//!
//! Balancer and lines live in the test itself, so they need a thread beside the one that starts programs.
//! `VIWORKS_CLUSTER_KILLS` is the number of kills; the other faults follow it.

use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use serde_json::{Value, json};
use servers::postgres::End;
use servers::redis::Redis;
use tests::client::{Api, exec_body};
use tests::cluster::{AGENTS, Cluster, Outages};
use tests::host::TestHost;
use tests::load::times;
use tests::machine::TestAgent;
use tests::oracle::{Excuses, tell};
use tests::store::Store;
use tests::wait::{until, whenever};

/// A fault comes up to this long after the work it is to meet.
const LATER: Duration = Duration::from_millis(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn either_of_two_hosts_killed_again_and_again_loses_nothing_and_leaves_no_agent_alone() {
    let Some(mut cluster) = Cluster::start().await else { return };
    let (load, kills) = (cluster.load(), times("VIWORKS_CLUSTER_KILLS", 20));
    let mut took = Outages::default();
    for number in 0..kills {
        let (down, up) = (number % 2, (number + 1) % 2);
        load.more_started(rand::random_range(1..8)).await;
        whenever(LATER).await;
        cluster.hosts[down].kill9();
        took.push(cluster.served_by(up).await);
        cluster.hosts[down].launch().await;
        cluster.balancer.sees(down, true).await;
    }
    let verdict = load.judge(&cluster.admin, Excuses::default()).await;
    tell(&format!("one of two hosts killed {kills} times, {took}: {verdict}"));
    took.assert_short();
    verdict.assert_true();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_stood_still_past_its_lease_and_goes_on_says_and_starts_nothing_twice() {
    let Some(cluster) = Cluster::start().await else { return };
    let (load, stops) = (cluster.load(), times("VIWORKS_CLUSTER_KILLS", 20).div_ceil(2));
    let mut took = Outages::default();
    for number in 0..stops {
        let (down, up) = (number % 2, (number + 1) % 2);
        load.more_started(rand::random_range(1..8)).await;
        whenever(LATER).await;
        cluster.hosts[down].freeze(true);
        took.push(cluster.served_by(up).await);
        // Past its lease: the other one has closed what it left behind, or has taken all of it over.
        cluster.balancer.sees(down, false).await;
        cluster.hosts[down].freeze(false);
        cluster.balancer.sees(down, true).await;
    }
    let verdict = load.judge(&cluster.admin, Excuses::default()).await;
    tell(&format!("one of two hosts frozen {stops} times, {took}: {verdict}"));
    took.assert_short();
    verdict.assert_true();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_killed_under_two_hosts_and_lines_cut_to_it_lose_nothing() {
    let Some(mut cluster) = Cluster::start().await else { return };
    let (load, kills) = (cluster.load(), times("VIWORKS_CLUSTER_KILLS", 20).div_ceil(2));
    let mut took = Outages::default();
    for number in 0..kills {
        load.more_started(rand::random_range(1..8)).await;
        whenever(LATER).await;
        cluster.server.stop(End::Kill).expect("it is killed");
        cluster.server.start().expect("it starts again");
        took.push(cluster.served_by(number % 2).await);
        load.more_accepted(rand::random_range(1..8)).await;
        whenever(LATER).await;
        cluster.lines[number % 2].cut();
    }
    took.push(cluster.served_by(0).await);
    let verdict = load.judge(&cluster.admin, Excuses::default()).await;
    tell(&format!("database of two hosts killed and a line to it cut {kills} times, {took}: {verdict}"));
    took.assert_short();
    verdict.assert_true();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_cut_off_from_the_database_says_so_sends_its_agents_away_and_recovers() {
    let Some(cluster) = Cluster::start().await else { return };
    let load = cluster.load();
    let mut took = Outages::default();
    for (down, up) in [(0, 1), (1, 0)] {
        load.more_started(3).await;
        cluster.lines[down].block();
        took.push(cluster.served_by(up).await);
        let nobody = cluster.hosts[down].nobody();
        until("the host says that it is cut off", async || {
            let answer = nobody.get("/readyz").await;
            let database = answer.json["components"]["database"].as_str()?.to_owned();
            (answer.status == 503 && database.starts_with("unavailable")).then_some(())
        })
        .await;
        cluster.lines[down].open();
        cluster.balancer.sees(down, true).await;
        cluster.served_by(down).await;
    }
    let verdict = load.judge(&cluster.admin, Excuses::default()).await;
    tell(&format!("each of two hosts cut off from the database once, {took}: {verdict}"));
    took.assert_short();
    verdict.assert_true();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hosts_restarted_one_after_the_other_under_load_fail_no_request_and_lose_nothing() {
    // Longer than the balancer takes to notice.
    let Some(mut cluster) = Cluster::start_with("", "drain_ms = 5000\n").await else { return };
    let (load, rounds) = (cluster.load(), times("VIWORKS_CLUSTER_KILLS", 20).div_ceil(10));
    for number in (0..2).cycle().take(2 * rounds) {
        load.more_started(rand::random_range(1..8)).await;
        let ended = cluster.hosts[number].stop().await;
        assert!(ended.success(), "in order: {ended}");
        load.more_started(4).await;
        cluster.hosts[number].launch().await;
        cluster.balancer.sees(number, true).await;
    }
    let verdict = load.judge(&cluster.admin, Excuses::default()).await;
    tell(&format!("each of two hosts restarted {rounds} times under load: {verdict}"));
    verdict.assert_true();
    assert_eq!(verdict.refused, (0, 0), "no request has failed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_done_at_one_host_is_known_and_followed_at_the_other() {
    let Some(store) = Store::postgres() else { return };
    let host = TestHost::start_on(store).await;
    let mut other = host.beside();
    other.launch().await;
    let [here, there] = [host.admin().await, other.admin().await];
    // It joined here and is met there, at once.
    let mut agent = TestAgent::join(&host, &here, "web-1").await;
    agent.connect_to(other.agents_address());
    agent.run();
    agent.seen(&here, "online").await;
    agent.seen(&there, "online").await;

    // Submitted and followed here, run there.
    let script = "echo one; sleep 0.3; echo two";
    let id = here.submit(&exec_body("web-1", &json!({ "program": "sh", "args": ["-c", script] }))).await;
    let mut events = here.events(&id, None).await;
    let mut printed = String::new();
    let mut states = Vec::new();
    while let Some(event) = events.next().await {
        match event.name.as_str() {
            "output" => printed.push_str(&event.text()),
            "state" => states.push(event.data["state"].as_str().unwrap_or_default().to_owned()),
            _ => {}
        }
    }
    assert_eq!(states.last().map(String::as_str), Some("succeeded"), "{states:?}");
    assert_eq!(printed, "one\ntwo\n", "its output came, too");
    let ended: Value = there.ended(&id, "web-1").await;
    assert_eq!(ended["stdout"], "one\ntwo\n");

    // Changed and revoked here, heeded there.
    here.send(here.request(reqwest::Method::PATCH, "/api/v1/agents/web-1").json(&json!({ "site": "us-1" }))).await;
    until("the other host knows its site", async || {
        (there.get("/api/v1/agents/web-1").await.json["site"] == "us-1").then_some(())
    })
    .await;
    here.send(here.request(reqwest::Method::POST, "/api/v1/agents/web-1/revoke")).await;
    agent.seen(&there, "offline").await;
    drop(agent);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_with_other_keys_than_those_beside_it_does_not_start_and_says_what_to_do() {
    let Some(store) = Store::postgres() else { return };
    let host = TestHost::start_on(store.clone()).await;
    let stranger = TestHost::new_on(store);
    let words = stranger.refuses_to_start();
    assert!(words.contains("cluster.key") && words.contains("copy the folder `keys`"), "{words}");
    drop(host);
}

/// What a host says of its Redis.
async fn redis_is(host: &TestHost, well: bool) {
    let nobody = host.nobody();
    until("the host says how Redis is", async || {
        let answer = nobody.get("/readyz").await;
        let parts = answer.json["components"].as_object()?;
        let is_ok = |said: &Value| said.as_str().is_some_and(|said| said.starts_with("ok"));
        // A disk that stands still for some seconds may keep the database from answering in time.
        let others = parts.iter().filter(|(name, _)| *name != "redis").all(|(_, said)| is_ok(said));
        assert_eq!(answer.status == 200, others, "Redis alone keeps no host from working: {}", answer.json);
        (others && is_ok(&parts["redis"]) == well).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_flushed_and_killed_under_two_hosts_costs_time_and_nothing_else() {
    let Some(redis) = Redis::own() else { return };
    let Some(cluster) = Cluster::start_with(&redis.section(), "").await else { return };
    let (load, faults) = (cluster.load(), times("VIWORKS_CLUSTER_KILLS", 20).div_ceil(2));
    let mut took = Outages::default();
    for number in 0..faults {
        load.more_started(rand::random_range(1..8)).await;
        whenever(LATER).await;
        redis.flush().expect("it is flushed");
        load.more_started(rand::random_range(1..8)).await;
        redis.kill().expect("it is killed");
        redis_is(&cluster.hosts[number % 2], false).await;
        took.push(cluster.served_by(number % 2).await);
        redis.restart().expect("it starts again");
        redis_is(&cluster.hosts[number % 2], true).await;
    }
    let verdict = load.judge(&cluster.admin, Excuses::default()).await;
    tell(&format!("Redis of two hosts flushed and killed {faults} times, {took}: {verdict}"));
    took.assert_short();
    verdict.assert_true();
    assert_eq!(verdict.refused, (0, 0), "nobody was told of it");
}

/// Between two commands, on average half of it: a pace that a small machine keeps up with.
const PACE: Duration = Duration::from_millis(100);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_redis_whatever_is_accepted_at_one_host_is_run_by_agents_of_the_other() {
    let Some(redis) = Redis::own() else { return };
    let Some(cluster) = Cluster::start_with(&redis.section(), "").await else { return };
    let mut figures = Vec::new();
    for (with, words) in [(true, "with Redis"), (false, "without")] {
        if !with {
            redis.kill().expect("it is killed");
        }
        for host in &cluster.hosts {
            redis_is(host, with).await;
        }
        let (mut under_way, mut took) = (FuturesUnordered::new(), Vec::new());
        for number in 0..times("VIWORKS_PACED", 100) {
            let api = Api::anonymous(&cluster.hosts[number % 2].url()).with_token(cluster.admin.token());
            let agent = AGENTS[number / 2 % 2];
            under_way.push(async move {
                let begun = Instant::now();
                let id = api.submit(&exec_body(agent, &json!({ "program": "true" }))).await;
                let ended = api.ended(&id, agent).await;
                assert_eq!(ended["state"], "succeeded", "{ended}");
                begun.elapsed()
            });
            let mut next = std::pin::pin!(whenever(PACE));
            loop {
                tokio::select! {
                    () = &mut next => break,
                    Some(time) = under_way.next(), if !under_way.is_empty() => took.push(time),
                }
            }
        }
        took.extend(under_way.collect::<Vec<Duration>>().await);
        took.sort_unstable();
        let at = |percent: usize| took[(took.len() - 1) * percent / 100].as_millis();
        figures.push(format!("{words} p50 {} ms, p99 {} ms", at(50), at(99)));
    }
    tell(&format!("from submission to end, at either host for agents of both: {}", figures.join("; ")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reports_of_agents_cost_no_requests_to_redis_of_their_own() {
    use std::sync::Arc;
    use std::sync::atomic::Ordering;

    use bus::board::SharedBoard;
    use domain::telemetry::metric::Metric;
    use domain::telemetry::report::Reading;
    use domain::time::Timestamp;
    use plan::id::AgentId;
    use ports::latest::{Board as _, Latest};

    const REPORTS: u128 = 1_000;
    let Some(redis) = Redis::own() else { return };
    let options = bus::redis::Options { url: redis.url(), prefix: "test".to_owned(), root_certificate: None };
    let build = |me: &str| bus::redis::build(&options, me.to_owned(), Arc::new(bus::local::Local::shared()));
    let ((_, calls, line), (_, far, far_line)) = (build("here").expect("a URL"), build("there").expect("a URL"));
    let stop = tokio_util::sync::CancellationToken::new();
    let mut running = tokio::task::JoinSet::new();
    running.spawn(calls.run(stop.clone()));
    running.spawn(far.run(stop.clone()));
    until("both hear Redis", async || (line.is_up() && far_line.is_up()).then_some(())).await;
    let board = |line| SharedBoard::of(line, Arc::new(server::clock::WallClock));
    let (near_board, far_board) = (board(&line), board(&far_line));
    let agents: Vec<AgentId> = (1..=REPORTS).map(|number| AgentId(uuid::Uuid::from_u128(number))).collect();
    let before = line.counters().requests.load(Ordering::Relaxed);
    for (number, agent) in agents.iter().enumerate() {
        let at = Timestamp(number as i64);
        let readings = vec![Reading::new(Metric::CpuTotal, 12.5)];
        near_board.put(
            *agent,
            Arc::new(Latest { sample: "{}".into(), at, received_at: at, skew_ms: 0, readings: readings.into() }),
        );
    }
    let there = until("all of them are up", async || {
        let there = far_board.of(&agents).await;
        (there.len() == agents.len()).then_some(there)
    })
    .await;
    let requests = line.counters().requests.load(Ordering::Relaxed) - before;
    tell(&format!("{REPORTS} reports: {requests} requests to Redis"));
    assert!(u128::from(requests) < REPORTS / 10, "{requests}");
    assert!(there.iter().zip(&agents).all(|((found, _), agent)| found == agent), "each has its own");
    stop.cancel();
    running.join_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_that_keep_coming_cost_less_than_two_requests_to_redis_each() {
    use std::sync::Arc;
    use std::sync::atomic::Ordering;

    use bus::local::Local;
    use domain::attempt::State;
    use domain::event::{Event, What};
    use domain::time::Timestamp;
    use plan::id::{AgentId, CommandId};
    use ports::live::Live as _;
    use ports::paces::Paces as _;

    const COMMANDS: u64 = 300;
    let Some(redis) = Redis::own() else { return };
    let options = bus::redis::Options { url: redis.url(), prefix: "test".to_owned(), root_certificate: None };
    let build = |me: &str| bus::redis::build(&options, me.to_owned(), Arc::new(Local::shared())).expect("a URL");
    let ((caller, calls, line), (_, far, far_line)) = (build("here"), build("there"));
    let (work, own) = (far.work.clone(), calls.work.clone());
    let stop = tokio_util::sync::CancellationToken::new();
    let mut running = tokio::task::JoinSet::new();
    running.spawn(calls.run(stop.clone()));
    running.spawn(far.run(stop.clone()));
    until("both hear Redis", async || (line.is_up() && far_line.is_up()).then_some(())).await;
    // Each rings once when it begins to hear.
    work.notified().await;
    own.notified().await;
    let before = line.counters().requests.load(Ordering::Relaxed);
    let agent = AgentId(uuid::Uuid::from_u128(1));
    let paces = bus::paces::SharedPaces::of(&line);
    let mut late = 0;
    for number in 0..COMMANDS {
        let command = CommandId(uuid::Uuid::from_u128(u128::from(number)));
        let taken = paces.take("principal:ada", 1_000, Duration::from_millis(1)).await;
        // Nobody is held up by a Redis that does not answer at once: that host counts by itself then.
        assert!(taken.is_none_or(|taken| taken.granted), "{taken:?}");
        late += u64::from(taken.is_none());
        // As many commits as a command can cause by itself.
        for state in [State::Queued, State::Sent, State::Accepted, State::Running, State::Succeeded] {
            let what = What::State { command, agent, attempt: 1, state, reason: None };
            caller.publish(&[Arc::new(Event { seq: number + 1, at: Timestamp(1), what })]);
        }
        work.notified().await;
    }
    let requests = line.counters().requests.load(Ordering::Relaxed) - before;
    tell(&format!("{COMMANDS} commands one after the other: {requests} requests to Redis"));
    assert!(requests <= 2 * COMMANDS && late < COMMANDS / 2, "{requests}, {late} answered late");
    let heard_itself = futures_util::FutureExt::now_or_never(own.notified());
    assert!(heard_itself.is_none(), "a host is not called by itself");
    stop.cancel();
    running.join_all().await;
}
