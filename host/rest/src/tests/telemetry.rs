//! Telemetry and health.

use std::time::Duration;

use domain::agent::Agent;
use domain::telemetry::history::MACHINES_MAX;
use domain::telemetry::metric::Metric;
use domain::telemetry::report::{Reading, Report};
use domain::telemetry::rollup::start;
use domain::time::Timestamp;
use plan::id::AgentId;
use ports::clock::Clock;
use ports::telemetry::{MAX_BATCH, Telemetry};
use serde_json::{Value, json};
use services::directory::Latest;
use services::history::QUESTIONS_AT_ONCE;

use super::world::World;
use crate::instant;

fn readings(cpu: f64, disk: f64) -> Vec<Reading> {
    vec![
        Reading::new(Metric::CpuTotal, cpu),
        Reading::labelled(Metric::DiskUsedPct, "/", disk),
        Reading::labelled(Metric::ContainerHealth, "web", Metric::ContainerHealth.unit().number("unhealthy")),
    ]
}

fn say(world: &World, agent: AgentId, cpu: f64, skew_ms: i64) {
    let (at, received_at) = (world.clock.now(), world.clock.now());
    let sample = r#"{"at_ms":5,"missing":["services: there is no systemctl here"]}"#.into();
    world
        .directory
        .set_latest(agent, Latest { sample, at, received_at, skew_ms, readings: readings(cpu, 40.0).into() });
}

#[tokio::test]
async fn the_latest_of_agents_in_sight_is_listed_with_words_for_states() {
    let world = World::new().await;
    let (root, eu) = (world.login("root").await, world.login("eu").await);
    say(&world, world.web, 12.5, -400);
    let all = world.get(&root, "/api/v1/telemetry").await.expect(200).json();
    let names = |list: &Value| {
        list["items"].as_array().map(|items| items.iter().map(|item| item["agent_name"].clone()).collect::<Vec<_>>())
    };
    assert_eq!(names(&all), Some(vec![json!("db-1"), json!("web-1")]));
    assert_eq!((&all["items"][0]["at"], &all["items"][0]["series"]), (&Value::Null, &json!({})));
    let web = &all["items"][1];
    assert_eq!(
        web["series"],
        json!({ "container.health{web}": "unhealthy", "cpu.total": 12.5, "disk.used_pct{/}": 40.0 })
    );
    assert_eq!((&web["clock_skew_ms"], &web["is_stale"]), (&json!(-400), &json!(false)));
    assert_eq!(web["missing"], json!(["services: there is no systemctl here"]));
    let seen = world.get(&eu, "/api/v1/telemetry?metrics=cpu.total&site=eu").await.expect(200).json();
    assert_eq!(
        (names(&seen), &seen["items"][0]["series"]),
        (Some(vec![json!("web-1")]), &json!({ "cpu.total": 12.5 }))
    );
    world.get(&eu, "/api/v1/telemetry/db-1").await.refused(404, "not_found");
    world.get(&eu, "/api/v1/telemetry/db-1/history").await.refused(404, "not_found");
    world.get(&root, "/api/v1/telemetry?metrics=cpu").await.refused(400, "invalid_parameter");
    assert_eq!(world.get(&root, "/api/v1/telemetry/web-1").await.expect(200).json(), *web);
}

#[tokio::test]
async fn the_past_comes_in_steps_and_pages_whether_or_not_it_is_rolled_up() {
    let world = World::new().await;
    let root = world.login("root").await;
    let now = world.clock.now();
    let begin = now - Duration::from_secs(7_200);
    let report = |n: u32| {
        let at = begin + Duration::from_secs(20) * n;
        let readings = readings(f64::from(n % 10), 40.0 + f64::from(n) / 36.0);
        Report { agent: world.web, at, received_at: at, readings: readings.into() }
    };
    let reports: Vec<Report> = (0..360).map(report).collect();
    assert_eq!(world.store.store_reports(&reports).await, Ok(360));

    let mut path = "/api/v1/telemetry/web-1/history?step=600&limit=5&metrics=cpu.total".to_owned();
    let (mut count, mut points, first) = (0, 0, path.clone());
    loop {
        let page = world.get(&root, &path).await.expect(200).json();
        assert_eq!((&page["level"], &page["step_s"]), (&json!("minute"), &json!(600)));
        for point in page["items"].as_array().expect("items") {
            let cpu = &point["series"]["cpu.total"];
            assert_eq!((&cpu["min"], &cpu["max"]), (&json!(0.0), &json!(9.0)));
            count += cpu["count"].as_u64().expect("a number");
            points += 1;
        }
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        path = format!("{first}&cursor={cursor}");
    }
    assert_eq!(count, 360, "every report is in one step");
    assert!((12..=13).contains(&points), "{points}");

    let trends = world.get(&root, "/api/v1/telemetry/trends?metrics=disk.used_pct&site=eu").await.expect(200).json();
    let disk = &trends["items"][0];
    assert_eq!((&disk["agent_name"], &disk["series"]), (&json!("web-1"), &json!("disk.used_pct{/}")));
    let per_hour = disk["per_hour"].as_f64().expect("a number");
    assert!((per_hour - 5.0).abs() < 0.1, "{disk}");
    assert!(
        disk["full"]["earliest"].as_str() <= disk["full"]["at"].as_str() && disk["full"]["at"].is_string(),
        "{disk}"
    );
    // As many steps as a line is drawn through, and one more.
    let end = start(begin, Duration::from_secs(60));
    let of = |minutes: u32| {
        let from = instant::text(end - Duration::from_secs(60) * minutes);
        format!("/api/v1/telemetry/trends?from={from}&to={}&step=60", instant::text(end))
    };
    world.get(&root, &of(2_000)).await.expect(200);
    let refused = world.get(&root, &of(2_001)).await.refused(400, "invalid_parameter").json();
    assert_eq!(refused["errors"][0]["pointer"], "?step", "{refused}");
    let detail = refused["detail"].as_str().unwrap_or_default();
    assert!(detail.contains("2001 steps") && detail.contains("a coarser one, or a shorter span"), "{detail}");
    // What nothing was said in counts for a page, too: only the cursor says which one is the last.
    let before = "from=2025-01-01T00:00:00Z&to=2025-01-01T02:00:00Z&step=3600&limit=1";
    let empty = world.get(&root, &format!("/api/v1/telemetry/web-1/history?{before}")).await.expect(200).json();
    assert_eq!((&empty["items"], empty["next_cursor"].is_string()), (&json!([]), true), "{empty}");
    let last = format!("{before}&cursor={}", empty["next_cursor"].as_str().unwrap_or_default());
    let last = world.get(&root, &format!("/api/v1/telemetry/web-1/history?{last}")).await.expect(200).json();
    assert_eq!((&last["items"], &last["next_cursor"]), (&json!([]), &Value::Null), "{last}");

    for bad in ["step=0", "step=x", "from=yesterday", "cursor=zz", "metrics=nothing"] {
        world.get(&root, &format!("/api/v1/telemetry/web-1/history?{bad}")).await.expect(400);
    }
}

#[tokio::test]
async fn the_past_of_many_is_put_together_by_site_or_label_in_pages() {
    let world = World::new().await;
    let (root, eu) = (world.login("root").await, world.login("eu").await);
    let begin = world.clock.now() - Duration::from_secs(7_200);
    let said = |agent: AgentId, cpu: f64| {
        move |n: u32| {
            let at = begin + Duration::from_secs(60) * n;
            Report { agent, at, received_at: at, readings: readings(cpu, 40.0).into() }
        }
    };
    // One of them was there for half of the time only.
    let reports: Vec<Report> = (0..120).map(said(world.web, 20.0)).chain((0..60).map(said(world.db, 60.0))).collect();
    assert_eq!(world.store.store_reports(&reports).await, Ok(180));
    let all = async |who: &str, query: &str| {
        let (mut moments, mut pages, mut cursor) = (Vec::new(), 0, String::new());
        loop {
            let path = format!("/api/v1/telemetry/across/history?step=600&limit=5&{query}{cursor}");
            let page = world.get(who, &path).await.expect(200).json();
            assert_eq!((&page["level"], &page["step_s"]), (&json!("minute"), &json!(600)));
            let items = page["items"].as_array().expect("items").clone();
            assert!(items.len() <= 5, "{page}");
            moments.extend(items);
            pages += 1;
            let Some(next) = page["next_cursor"].as_str() else { return (moments, pages) };
            cursor = format!("&cursor={next}");
        }
    };

    let (sites, pages) = all(&root, "by=site&metrics=cpu.total,container.health").await;
    assert!(pages > 20 && (12..=13).contains(&sites.len()), "a day in steps of ten minutes: {pages}, {}", sites.len());
    let keys: Vec<&Value> = sites[1]["groups"].as_array().expect("groups").iter().map(|group| &group["key"]).collect();
    assert_eq!(keys.len(), 2, "{:#}", sites[1]);
    let of = |moment: &Value, key: &Value| {
        moment["groups"].as_array().expect("groups").iter().find(|group| group["key"] == *key).cloned()
    };
    let web = of(&sites[1], &json!("eu")).expect("it was there");
    assert_eq!((&web["agents"], &web["reporting"]), (&json!(1), &json!(1)));
    let spread =
        json!({ "count": 1, "sum": 20.0, "min": 20.0, "avg": 20.0, "p95": 20.0, "max": 20.0, "max_agent": "web-1" });
    assert_eq!(web["series"], json!({ "cpu.total": spread }), "of a state there is no average");
    let last = sites.last().expect("some");
    assert_eq!(last["groups"].as_array().map(Vec::len), Some(1), "who was not there is not counted: {last:#}");

    let (labels, _) = all(&root, "by=label.tier&metrics=cpu.total").await;
    let both = of(&labels[1], &Value::Null).expect("neither has the label");
    assert_eq!((&both["agents"], &both["reporting"]), (&json!(2), &json!(2)));
    let cpu = &both["series"]["cpu.total"];
    assert_eq!((&cpu["avg"], &cpu["sum"], &cpu["max_agent"]), (&json!(40.0), &json!(80.0), &json!("db-1")));
    let one = of(labels.last().expect("some"), &Value::Null).expect("one is left");
    assert_eq!(
        (&one["agents"], &one["reporting"], &one["series"]["cpu.total"]["avg"]),
        (&json!(2), &json!(1), &json!(20.0))
    );

    let (seen, _) = all(&eu, "by=site&metrics=cpu.total").await;
    assert!(seen.iter().all(|moment| of(moment, &json!("eu")).is_some() && moment["groups"][1].is_null()), "{seen:#?}");
    for (bad, pointer) in
        [("by=owner", "?by"), ("step=0", "?step"), ("label==x", "?label"), ("metrics=nope", "?metrics")]
    {
        let path = format!("/api/v1/telemetry/across/history?{bad}");
        let refused = world.get(&root, &path).await.refused(400, "invalid_parameter").json();
        assert_eq!(refused["errors"][0]["pointer"], pointer, "{refused}");
    }
}

#[tokio::test]
async fn a_span_that_ends_before_it_begins_is_refused_wherever_the_past_is_asked_for() {
    let world = World::new().await;
    let root = world.login("root").await;
    let (early, late) = ("2001-01-31T12:00:00Z", "2001-01-31T12:00:01Z");
    for (path, from, to) in [
        ("telemetry/web-1/history", "from", "to"),
        ("telemetry/trends", "from", "to"),
        ("telemetry/across/history", "from", "to"),
        ("commands", "since", "until"),
        ("audit", "since", "until"),
    ] {
        let asked = |first: &str, last: &str| format!("/api/v1/{path}?{from}={first}&{to}={last}");
        world.get(&root, &asked(early, late)).await.expect(200);
        world.get(&root, &asked(early, early)).await.expect(200);
        let refused = world.get(&root, &asked(late, early)).await.refused(400, "invalid_parameter").json();
        let named: Vec<&Value> = refused["errors"].as_array().expect("errors").iter().map(|e| &e["pointer"]).collect();
        assert_eq!(named, [&json!(format!("?{from}")), &json!(format!("?{to}"))], "{path}");
    }
    // Without an end it ends now.
    let refused = world.get(&root, "/api/v1/telemetry/web-1/history?from=2999-01-01T00:00:00Z").await;
    refused.refused(400, "invalid_parameter");
    // Without a beginning there is one, however long ago the end was.
    world.get(&root, &format!("/api/v1/telemetry/web-1/history?to={early}")).await.expect(200);
}

#[tokio::test]
async fn health_shows_its_arithmetic_and_counts_who_is_offline() {
    let world = World::new().await;
    let (root, eu) = (world.login("root").await, world.login("eu").await);
    say(&world, world.web, 97.0, 0);
    say(&world, world.db, 97.0, 0);
    let report = world.get(&root, "/api/v1/health-report").await.expect(200).json();
    let web = &report["items"][1];
    let points: u64 = web["deductions"].as_array().expect("a list").iter().filter_map(|d| d["points"].as_u64()).sum();
    assert_eq!((&web["agent_name"], web["score"].as_u64(), points), (&json!("web-1"), Some(65), 35));
    assert_eq!(
        (&report["items"][0]["score"], &report["items"][0]["deductions"][0]["why"]),
        (&json!(0), &json!("it is offline"))
    );
    let fleet = &report["fleet"];
    assert_eq!(
        (&fleet["agents"], &fleet["offline"], &fleet["sum"], &fleet["counted"]),
        (&json!(2), &json!(1), &json!(65), &json!(2))
    );
    assert_eq!(fleet["score"], json!(32.5));
    assert_eq!(report["sites"].as_array().map(Vec::len), Some(2));
    assert_eq!(world.get(&eu, "/api/v1/health-report").await.expect(200).json()["fleet"]["agents"], json!(1));

    let across = world.get(&root, "/api/v1/telemetry/across?by=site&metrics=cpu.total").await.expect(200).json();
    assert_eq!(across["items"][0]["key"], json!("eu"));
    assert_eq!(across["items"][0]["series"]["cpu.total"]["max_agent"], json!("web-1"));
    let across = world.get(&root, "/api/v1/telemetry/across?by=label.tier").await.expect(200).json();
    assert_eq!((&across["items"][0]["key"], &across["items"][0]["reporting"]), (&Value::Null, &json!(2)));
    world.get(&root, "/api/v1/telemetry/across?by=owner").await.refused(400, "invalid_parameter");
}

/// A report each minute from `begin` on.
async fn tell(world: &World, agent: AgentId, begin: Timestamp, count: u32) {
    let report = |n: u32| {
        let at = begin + Duration::from_secs(60) * n;
        Report { agent, at, received_at: at, readings: readings(f64::from(n % 100), 40.0).into() }
    };
    for some in (0..count).map(report).collect::<Vec<_>>().chunks(MAX_BATCH) {
        assert_eq!(world.store.store_reports(some).await, Ok(some.len() as u64));
    }
}

/// Every page of `asked`, while both machines go on speaking and time goes on. How many pages that was, and their items.
async fn walk(world: &World, asked: &str, limit: u32) -> (usize, Vec<Value>) {
    let (mut pages, mut items, mut cursor) = (0, Vec::new(), String::new());
    loop {
        // Tokens are over before the walk is.
        let root = world.login("root").await;
        let page = world.get(&root, &format!("{asked}&limit={limit}{cursor}")).await.expect(200).json();
        items.extend(page["items"].as_array().expect("items").clone());
        pages += 1;
        let Some(next) = page["next_cursor"].as_str() else { return (pages, items) };
        cursor = format!("&cursor={next}");
        for agent in [world.web, world.db] {
            tell(world, agent, world.clock.now(), 5).await;
        }
        world.clock.forward(Duration::from_secs(300));
    }
}

#[tokio::test]
async fn pages_of_the_past_are_those_of_one_moment_though_time_goes_on_and_more_is_said() {
    let world = World::new().await;
    let at_once = async |asked: &str| world.get(&world.login("root").await, asked).await.expect(200).json();
    let day = Duration::from_secs(86_400);
    for agent in [world.web, world.db] {
        tell(&world, agent, world.clock.now() - day * 7, 120).await;
        tell(&world, agent, world.clock.now() - day, 1_440).await;
    }
    for path in ["telemetry/web-1/history", "telemetry/across/history"] {
        let since = |span: Duration| instant::text(world.clock.now() - span);
        // The last of what is kept as it came; while pages are read it becomes too old for that.
        let edge = format!("from={}&to={}&step=5", since(day * 7), since(day * 7 - Duration::from_secs(7_200)));
        for (open, limit) in [(edge.as_str(), 500), ("step=600", 100), ("", 100)] {
            let asked = format!("/api/v1/{path}?metrics=cpu.total&{open}");
            let whole = at_once(&asked).await;
            assert_eq!(whole["next_cursor"], Value::Null);
            let (pages, items) = walk(&world, &asked, limit).await;
            assert!(pages > 1, "{asked}");
            assert_eq!(json!(items), whole["items"], "{asked}");
        }
        let asked = format!("/api/v1/{path}?metrics=cpu.total&from={}", since(day));
        let whole = at_once(&asked).await;
        let (pages, items) = walk(&world, &asked, 100).await;
        assert_eq!((pages, json!(items)), (3, whole["items"].clone()), "the step follows from the end: {asked}");
    }
    let asked = "/api/v1/telemetry/trends?metrics=cpu.total";
    let whole = at_once(asked).await;
    let (pages, items) = walk(&world, asked, 1).await;
    assert_eq!((pages, json!(items)), (2, whole["items"].clone()));
}

#[tokio::test]
async fn a_cursor_of_the_past_goes_on_with_its_own_span_and_step_and_with_no_other() {
    let world = World::new().await;
    let root = world.login("root").await;
    let now = world.clock.now();
    let (from, to) = (instant::text(now - Duration::from_secs(7_200)), instant::text(now));
    let late = instant::text(now + Duration::from_secs(1));
    for path in ["telemetry/web-1/history", "telemetry/across/history", "telemetry/trends"] {
        let first = world.get(&root, &format!("/api/v1/{path}?from={from}&to={to}&step=60&limit=1")).await.expect(200);
        let cursor = first.json()["next_cursor"].as_str().expect("there is more").to_owned();
        world.clock.forward(Duration::from_secs(10));
        let asked =
            async |more: &str| world.get(&root, &format!("/api/v1/{path}?limit=1&cursor={cursor}&{more}")).await;
        for same in ["", "step=60", &format!("from={from}"), &format!("to={to}&step=60")] {
            asked(same).await.expect(200);
        }
        for (other, pointer) in [
            (format!("to={late}"), "?to"),
            (format!("from={from}&to={late}"), "?to"),
            (format!("from={late}"), "?from"),
            ("step=61".to_owned(), "?step"),
        ] {
            let refused = asked(&other).await.refused(400, "invalid_cursor").json();
            assert_eq!(refused["errors"][0]["pointer"], pointer, "{path} {other}");
        }
    }
}

#[tokio::test]
async fn the_past_of_too_many_or_for_too_many_at_once_is_refused_with_what_to_do() {
    let world = World::new().await;
    let root = world.login("root").await;
    let few = "/api/v1/telemetry/across/history?site=us";
    let held: Vec<_> = (0..QUESTIONS_AT_ONCE).map(|_| world.history.turn().expect("a turn")).collect();
    for path in [few, "/api/v1/telemetry/trends"] {
        let refused = world.get(&root, path).await.refused(503, "busy");
        assert_eq!(refused.headers["retry-after"], "1", "{path}");
    }
    world.get(&root, "/api/v1/telemetry/web-1/history").await.expect(200);
    drop(held);
    world.get(&root, few).await.expect(200);

    let one = world.directory.get(world.web).expect("it is there").agent;
    for n in 0..MACHINES_MAX as u128 - 1 {
        let (id, name) = (AgentId(uuid::Uuid::from_u128(u128::MAX - n)), format!("many-{n}"));
        world.directory.put(Agent { id, name, ..Agent::clone(&one) });
    }
    let refused = world.get(&root, "/api/v1/telemetry/across/history").await.refused(400, "invalid_parameter").json();
    assert_eq!(refused["errors"][0]["pointer"], "?site", "{refused}");
    let detail = refused["detail"].as_str().unwrap_or_default();
    assert!(detail.contains("10001 machines") && detail.contains("name `site` or `label`"), "{detail}");
    world.get(&root, few).await.expect(200);
}
