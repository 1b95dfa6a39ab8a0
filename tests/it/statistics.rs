//! What an operator asks first, held against what truly happened, whichever store keeps it.

use std::time::Instant;

use serde_json::{Value, json};
use tests::client::exec_body;
use tests::host::TestHost;
use tests::machine::TestAgent;
use tests::store::Store;
use tests::wait::until;

tests::on_both_stores![what_an_operator_is_told_is_what_happened];

async fn what_an_operator_is_told_is_what_happened(store: Store) {
    let host = TestHost::start_on(store).await;
    let admin = host.admin().await;
    host.put_plugin("exec").await;
    host.serves_plugin(&admin, "exec").await;
    let _here = TestAgent::start(&host, &admin, "web-1").await;
    let mut away = TestAgent::start(&host, &admin, "web-2").await;
    away.kill9();
    away.seen(&admin, "offline").await;

    let begun = Instant::now();
    for program in ["true", "true", "false"] {
        let id = admin.exec("web-1", &json!({ "program": program })).await;
        admin.ended(&id, "web-1").await;
    }
    let mut waits = exec_body("web-2", &json!({ "program": "true" }));
    waits["priority"] = json!("high");
    let waits = admin.submit(&waits).await;

    // Commands are counted when they are asked for, invocations once a second at most.
    let told = async |open: u64| {
        until("what waits is told", async || {
            let told = admin.get("/api/v1/statistics").await.expect(200);
            let counts = [&told["open_commands"]["pending"], &told["open_invocations"]["queued"]];
            counts.iter().all(|count| **count == open).then_some(told)
        })
        .await
    };
    let seen = told(1).await;
    let both = json!({ "online": 1, "offline": 1 });
    assert_eq!(named(&seen["agents"]["by_status"]), both);
    assert_eq!(seen["agents"]["total"], 2);
    assert_eq!(seen["agents"]["by_site"], json!({ "default": both }));
    assert_eq!(named(&seen["open_commands"]), json!({ "pending": 1 }));
    assert_eq!(named(&seen["open_invocations"]), json!({ "queued": 1 }));
    assert_eq!(named(&seen["queue"]), json!({ "high": 1 }));
    for (stretch, seconds) in [("last_1m", 60), ("last_5m", 300), ("last_1h", 3_600)] {
        let rate = &seen["rates"][stretch];
        let counts = ["submitted", "succeeded", "unsuccessful"].map(|name| rate[name].as_u64().expect("a count"));
        // What a slow machine did before the stretch began is not in it; steps are of five seconds.
        let is_whole = begun.elapsed().as_secs() + 5 < seconds;
        assert!(counts == [4, 2, 1] || !is_whole && counts.iter().zip([4, 2, 1]).all(|(n, all)| *n <= all), "{rate}");
        assert!(rate["submitted_per_s"].as_f64() >= rate["ended_per_s"].as_f64(), "{rate}");
    }
    for span in ["queue_wait", "run"] {
        let spread = &seen["latency"][span];
        assert_eq!(spread["count"], 3, "{span}: also what was over at once");
        assert!(spread["p50_ms"].as_u64() <= spread["p99_ms"].as_u64() && spread["p99_ms"].is_u64(), "{spread}");
    }
    assert_eq!(seen["plugins"], json!({ "by_state": { "active": 1 }, "verbs": 1, "faults": 0 }));

    admin.cancel(&waits).await;
    let seen = told(0).await;
    for open in ["open_commands", "open_invocations", "queue"] {
        assert_eq!(named(&seen[open]), json!({}), "{open}");
    }
}

/// Only the names of which there are some.
fn named(counts: &Value) -> Value {
    let some = counts.as_object().expect("counts").iter().filter(|(_, count)| **count != 0);
    some.map(|(name, count)| (name.clone(), count.clone())).collect::<serde_json::Map<_, _>>().into()
}
