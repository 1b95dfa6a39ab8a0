//! What a real agent says of its machine: how it gets to the latest, to the past and to health, and what it tells of
//! the containers of a real engine.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use servers::docker::Engine;
use tests::client::Api;
use tests::control_group::ControlGroup;
use tests::dock::MACHINE;
use tests::host::TestHost;
use tests::machine::TestAgent;
use tests::oracle::tell;
use tests::played::Played;
use tests::programs::plugin;
use tests::store::Store;
use tests::wait::until;
use tokio::task::JoinSet;
use wire::frame::AgentFrame;
use wire::sample::{Disk, Sample, Usage};

tests::on_both_stores![
    a_machine_says_how_it_is_now_and_how_it_was,
    what_cannot_be_is_refused_counted_and_laid_at_its_senders_door,
    what_comes_faster_than_it_is_stored_is_counted_to_the_last_report,
    what_many_said_is_put_together_by_site_and_by_label,
];

/// The least there is.
const EACH_SECOND: &str = "[telemetry]\ninterval_ms = 1000\n";

/// The latest series of an agent, when they are as they should be.
async fn series(admin: &Api, agent: &str, fits: impl Fn(&Value) -> bool) -> Value {
    until(&format!("{agent} tells of itself"), async || {
        let latest = admin.get(&format!("/api/v1/telemetry/{agent}")).await.expect(200);
        Some(latest["series"].clone()).filter(&fits)
    })
    .await
}

async fn a_machine_says_how_it_is_now_and_how_it_was(store: Store) {
    let mut host = TestHost::new_on(store);
    host.set_sections(EACH_SECOND);
    host.launch().await;
    let admin = host.admin().await;
    let _agent = TestAgent::start(&host, &admin, "web-1").await;
    let now = series(&admin, "web-1", |series| series["cpu.total"].is_number()).await;
    let number = |name: &str| now[name].as_f64().unwrap_or_else(|| panic!("{name}: {now:#}"));
    for percentage in ["cpu.total", "mem.used_pct"] {
        assert!((0.0..=100.0).contains(&number(percentage)), "{now:#}");
    }
    assert!(number("mem.total") > 1e8 && number("agent.rss") > 1e6 && number("load.1") >= 0.0, "{now:#}");
    assert!(now.as_object().is_some_and(|all| all.keys().any(|name| name.starts_with("disk.used_pct{"))), "{now:#}");

    let health = until("nothing of it waits", async || {
        let report = admin.get("/api/v1/health-report").await.expect(200);
        let ingest = &report["ingest"];
        (ingest["stored"].as_u64() >= Some(2) && ingest["waiting"] == 0).then_some(report)
    })
    .await;
    let ingest = &health["ingest"];
    assert_eq!((&ingest["dropped"], &ingest["passed_over"]), (&json!(0), &json!(0)), "{ingest:#}");
    assert_eq!(health["items"][0]["agent_name"], "web-1", "{health:#}");
    // A page is a stretch of time; nothing was heard in the first ones of the last hour.
    let (mut points, mut cursor) = (Vec::new(), String::new());
    let path = "/api/v1/telemetry/web-1/history?step=1&metrics=cpu.total,mem.total";
    loop {
        let past = admin.get(&format!("{path}{cursor}")).await.expect(200);
        points.extend(past["items"].as_array().expect("points").clone());
        let Some(next) = past["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert!(points.len() >= 2, "{points:#?}");
    let last = &points[points.len() - 1]["series"]["mem.total"];
    assert_eq!(last["last"].as_f64(), Some(number("mem.total")), "what is stored is what was said: {points:#?}");
}

/// The host's clock, near enough.
#[expect(clippy::disallowed_methods, reason = "the host tells by the real time which reports can be")]
fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    i64::try_from(since.as_millis()).expect("before the end of time")
}

fn telemetry(sample: Sample) -> AgentFrame {
    AgentFrame::Telemetry { sample }
}

/// What became of reports, once nothing waits.
async fn settled(admin: &Api, fits: impl Fn(&Value) -> bool) -> Value {
    until("reports are where they belong", async || {
        let ingest = admin.get("/api/v1/health-report").await.expect(200)["ingest"].clone();
        (ingest["waiting"] == 0 && fits(&ingest)).then_some(ingest)
    })
    .await
}

async fn what_cannot_be_is_refused_counted_and_laid_at_its_senders_door(store: Store) {
    let host = TestHost::start_on(store).await;
    let admin = host.admin().await;
    let (liar, other) = (Played::join(&host, &admin, "liar").await, Played::join(&host, &admin, "honest").await);
    let ((mut lies, _), (mut honest, _)) = (liar.open().await, other.open().await);
    let now = now_ms();
    let cpu = |at_ms: i64, percent: f64| Sample { at_ms, cpu_percent: Some(percent), ..Sample::default() };
    let disks = |names: &mut dyn Iterator<Item = String>, used_bytes: u64| Sample {
        at_ms: now + 10,
        disks: names.map(|mount| Disk { mount, usage: Usage { used_bytes, total_bytes: 4 } }).collect(),
        ..Sample::default()
    };
    honest.say(&telemetry(cpu(now, 5.0))).await;
    lies.say(&telemetry(cpu(now, 7.0))).await;
    for frame in [
        telemetry(cpu(now, 8.0)),
        telemetry(cpu(now - 60_000, 8.0)),
        telemetry(cpu(now + 10, -1.0)),
        telemetry(cpu(now + 10, 1e9)),
        telemetry(disks(&mut ["/".to_owned()].into_iter(), 5)),
        telemetry(disks(&mut (0..10_000).map(|n| n.to_string()), 1)),
        telemetry(disks(&mut ["x".repeat(10_240)].into_iter(), 1)),
        telemetry(disks(&mut ["/".to_owned(), "/".to_owned()].into_iter(), 1)),
        telemetry(disks(&mut ["a\nb".to_owned()].into_iter(), 1)),
    ] {
        lies.say(&frame).await;
    }
    for wrong in [r#"{"at_ms":1,"cpu_percent":NaN}"#, r#"{"at_ms":"noon"}"#, r#"{"at_ms":1,"cpu_percent":1e999}"#] {
        lies.say_text(format!(r#"{{"type":"TELEMETRY","sample":{wrong}}}"#)).await;
    }
    // The session went on: what can be is believed, and a clock that is wrong is told of.
    lies.say(&telemetry(cpu(now + 86_400_000, 9.0))).await;
    let ingest = settled(&admin, |ingest| ingest["stored"] == 3).await;
    let expected = json!({
        "not_new": 2, "out_of_range": 3, "too_many_series": 1, "long_label": 1, "twice": 1, "bad_label": 1,
        "malformed": 3, "not_a_number": 0,
    });
    assert_eq!(ingest["refused"], expected, "{ingest:#}");
    let latest = admin.get("/api/v1/telemetry/liar").await.expect(200);
    assert_eq!(latest["series"]["cpu.total"], 9.0, "{latest:#}");
    assert!(latest["clock_skew_ms"].as_i64() > Some(86_000_000), "{latest:#}");
    assert_eq!(admin.get("/api/v1/telemetry/honest").await.expect(200)["series"]["cpu.total"], 5.0);
    let metrics = String::from_utf8(admin.get("/metrics").await.bytes).expect("text");
    assert!(metrics.contains(r#"viworks_telemetry_refused_total{reason="too_many_series"} 1"#), "{metrics}");
    let named =
        host.log().lines().filter(|line| line.contains("telemetry that cannot be")).collect::<Vec<_>>().concat();
    assert!(named.contains(&liar.id.to_string()) && !named.contains(&other.id.to_string()), "{named}");
}

async fn what_comes_faster_than_it_is_stored_is_counted_to_the_last_report(store: Store) {
    const EACH: i64 = 2_000;
    let host = TestHost::start_on(store).await;
    let admin = host.admin().await;
    let mut floods = JoinSet::new();
    for name in ["a", "b", "c"] {
        let played = Played::join(&host, &admin, name).await;
        floods.spawn(async move {
            let (mut socket, _) = played.open().await;
            let begin = now_ms() - EACH;
            for n in 0..EACH {
                socket.say(&telemetry(Sample { at_ms: begin + n, cpu_percent: Some(1.0), ..Sample::default() })).await;
            }
            // Gone only when all of it is heard.
            socket
        });
    }
    let _open = floods.join_all().await;
    let sent = 3 * EACH.unsigned_abs();
    let ingest = settled(&admin, |ingest| ingest["taken"].as_u64() == Some(sent)).await;
    let count = |name: &str| ingest[name].as_u64().expect("a number");
    assert_eq!(sent - count("stored"), count("dropped"), "sent less stored is the counter: {ingest:#}");
    assert!(count("stored") >= 3 && count("repeated") == 0, "{ingest:#}");
    tell(&format!("{sent} reports at once: {} stored, {} dropped", count("stored"), count("dropped")));
}

async fn what_many_said_is_put_together_by_site_and_by_label(store: Store) {
    let host = TestHost::start_on(store).await;
    let admin = host.admin().await;
    let begin = now_ms() - 60_000;
    // A socket that is gone takes along what was not heard yet.
    let mut open = Vec::new();
    for (name, site, tier, cpu) in [("a", "eu", "web", 10.0), ("b", "eu", "db", 30.0), ("c", "us", "web", 80.0)] {
        let wanted = json!({ "site": site, "labels": { "tier": tier } });
        let played = Played::join_as(&host, &admin, name, &wanted).await;
        let (mut socket, _) = played.open().await;
        for n in 0..6 {
            let sample = Sample { at_ms: begin + n * 10_000, cpu_percent: Some(cpu), ..Sample::default() };
            socket.say(&telemetry(sample)).await;
        }
        open.push(socket);
    }
    settled(&admin, |ingest| ingest["stored"] == 18).await;
    let together = async |query: &str| {
        let (mut moments, mut cursor) = (Vec::new(), String::new());
        loop {
            let path = format!("/api/v1/telemetry/across/history?step=5&metrics=cpu.total&{query}{cursor}");
            let page = admin.get(&path).await.expect(200);
            moments.extend(page["items"].as_array().expect("items").clone());
            let Some(next) = page["next_cursor"].as_str() else { return moments };
            cursor = format!("&cursor={next}");
        }
    };
    let shown = |moments: &[Value]| {
        let of = |group: &Value| {
            let cpu = &group["series"]["cpu.total"];
            json!([group["key"], group["reporting"], cpu["avg"], cpu["max_agent"]])
        };
        let all = moments.iter().map(|moment| moment["groups"].as_array().expect("groups").iter().map(of).collect());
        all.collect::<Vec<Vec<Value>>>()
    };
    let sites = shown(&together("by=site").await);
    assert_eq!(sites, vec![vec![json!(["eu", 2, 20.0, "b"]), json!(["us", 1, 80.0, "c"])]; 6]);
    let tiers = shown(&together("by=label.tier&site=eu").await);
    assert_eq!(tiers, vec![vec![json!(["db", 1, 30.0, "b"]), json!(["web", 1, 10.0, "a"])]; 6]);
    let web = shown(&together("by=label.tier&label=tier=web").await);
    assert_eq!(web, vec![vec![json!(["web", 2, 45.0, "c"])]; 6]);
}

#[tokio::test]
async fn an_agent_hears_how_often_and_how_unevenly_to_speak() {
    let mut host = TestHost::new();
    host.set_sections("[telemetry]\ninterval_ms = 2000\njitter_pct = 25\n");
    host.launch().await;
    let admin = host.admin().await;
    let (_socket, welcome) = Played::join(&host, &admin, "web-1").await.open().await;
    assert_eq!((welcome.telemetry_ms, welcome.telemetry_jitter_ms), (2_000, Some(500)));
}

#[tokio::test]
async fn an_agent_tells_of_what_its_control_group_may_have() {
    const LIMIT: u64 = 192 * 1024 * 1024;
    let Some(group) = ControlGroup::new(LIMIT, 0.5) else { return };
    let mut host = TestHost::new();
    host.set_sections(EACH_SECOND);
    host.launch().await;
    let admin = host.admin().await;
    let agent = TestAgent::start(&host, &admin, MACHINE).await;
    let all = series(&admin, MACHINE, |series| series["mem.total"].is_number()).await;
    assert!(all["mem.total"].as_f64() > Some(LIMIT as f64), "{all:#}");
    // The limits are those of the group above the one it is in.
    group.admit(agent.pid());
    let has = |series: &Value, bytes: u64| series["mem.total"].as_f64() == Some(bytes as f64);
    let told = series(&admin, MACHINE, |series| has(series, LIMIT)).await;
    assert_eq!(told["cpu.limit"].as_f64(), Some(0.5), "{told:#}");
    assert!(told["mem.used"].as_f64() < Some(LIMIT as f64), "{told:#}");
    group.allow_memory(LIMIT / 2).expect("the kernel takes it");
    series(&admin, MACHINE, |series| has(series, LIMIT / 2)).await;
}

#[tokio::test]
async fn containers_of_a_real_engine_are_told_of_and_judged() {
    let Some(engine) = Engine::shared() else { return };
    let image = engine.busybox().expect("a base image");
    let rule = plugin("container_health");
    let mut host = TestHost::new();
    host.set_sections(EACH_SECOND);
    host.launch().await;
    let admin = host.admin().await;
    host.install("container_health.toml", b"[config]\nunhealthy_for_s = 0\n");
    host.install("container_health.wasm", rule);
    host.serves_plugin(&admin, "container_health").await;

    let ill = ["--health-cmd", "false", "--health-interval", "1s", "--health-retries", "1"];
    let run = |name: &str, more: &[&str], script: &str| {
        let detached = ["run", "--detach", "--network", "none", "--name", name];
        let args: Vec<&str> = detached.iter().chain(more).copied().chain([image, "sh", "-c", script]).collect();
        engine.run(&args).expect("it starts");
    };
    run("sampled-well", &[], "while true; do :; done");
    run("sampled-ill", &ill, "sleep 1000");
    run("sampled-over", &[], "exit 3");
    let _agent = TestAgent::start_with_tools(&host, &admin, MACHINE, &engine.endpoint(), None).await;

    let told = series(&admin, MACHINE, |series| {
        series["container.health{sampled-ill}"] == "unhealthy" && series["container.cpu{sampled-well}"].is_number()
    })
    .await;
    let word = |series: &str| told[series].as_str().unwrap_or_default().to_owned();
    assert_eq!(word("container.state{sampled-well}"), "running", "{told:#}");
    assert_eq!(word("container.state{sampled-over}"), "exited", "{told:#}");
    assert_eq!(told["container.exit_code{sampled-over}"], json!(3.0), "{told:#}");
    assert!(told["container.cpu{sampled-well}"].as_f64() > Some(1.0), "it does nothing but run: {told:#}");
    assert!(told["container.mem{sampled-ill}"].as_f64() > Some(0.0), "{told:#}");
    assert!(told["container.count"].as_f64() >= Some(3.0), "{told:#}");
    until("the ill one is told of", async || {
        let alerts = admin.get("/api/v1/alerts?rule=container_health").await.expect(200);
        let items = alerts["items"].as_array().expect("a list");
        assert!(items.iter().all(|alert| alert["key"] != "sampled-well"), "{alerts:#}");
        items.iter().any(|alert| alert["key"] == "sampled-ill" && alert["state"] == "firing").then_some(())
    })
    .await;
    engine.run(&["rm", "--force", "sampled-well", "sampled-ill", "sampled-over"]).expect("removed");
    let gone = |series: &Value| series.as_object().is_some_and(|all| !all.keys().any(|one| one.contains("sampled-")));
    series(&admin, MACHINE, gone).await;
}
