//! Commands that are tried again, asked twice, or run on many machines step by step.

use domain::attempt::State;
use reqwest::Method;
use serde_json::{Value, json};
use tests::client::{Answer, Api, exec_body, state_of};
use tests::gate::Gated;
use tests::host::TestHost;
use tests::machine::TestAgent;
use tests::store::Store;
use tests::wait::until;

tests::on_both_stores![
    a_failed_attempt_is_tried_again_and_every_attempt_stays_in_history,
    a_pending_retry_survives_the_host_and_a_cancel_ends_it_unsent,
    the_same_request_under_one_key_is_accepted_once_even_across_a_restart,
    a_rollout_lets_go_one_by_one_halts_at_the_first_error_and_can_be_taken_up_again,
    nothing_runs_past_its_finish_by,
];

/// A program that fails until it was run so many times, and notes each run.
fn fails_until(notes: &std::path::Path, times: u32) -> Value {
    let notes = notes.display();
    let script = format!("echo run >> {notes}; [ $(wc -l < {notes}) -ge {times} ]");
    json!({ "program": "sh", "args": ["-c", script] })
}

fn lines(notes: &std::path::Path) -> usize {
    std::fs::read_to_string(notes).unwrap_or_default().lines().count()
}

async fn a_failed_attempt_is_tried_again_and_every_attempt_stays_in_history(store: Store) {
    let host = TestHost::start_on(store).await;
    let admin = host.admin().await;
    let _agent = TestAgent::start(&host, &admin, "web-1").await;
    let notes = host.scratch().join("notes");
    let mut body = exec_body("web-1", &fails_until(&notes, 3));
    body["retry"] = json!({ "max_attempts": 5, "on": ["failed"], "backoff_ms": 50 });
    let id = admin.submit(&body).await;
    let last = until("it succeeds", async || {
        let now = admin.invocation(&id, "web-1").await;
        (state_of(&now) == State::Succeeded).then_some(now)
    })
    .await;
    assert_eq!((&last["attempt"], lines(&notes)), (&json!(3), 3));
    let command = admin.command(&id).await;
    assert_eq!((&command["status"], &command["counts"]), (&json!("succeeded"), &json!({ "succeeded": 1 })));
    let before = admin.get(&format!("/api/v1/commands/{id}/invocations/web-1/attempts")).await.expect(200);
    let before: Vec<_> =
        before["items"].as_array().expect("items").iter().map(|one| (&one["attempt"], &one["state"])).collect();
    assert_eq!(before, [(&json!(1), &json!("failed")), (&json!(2), &json!("failed"))]);

    // What nobody asked to be tried again is not.
    body.as_object_mut().expect("a body").remove("retry");
    body["args"] = fails_until(&host.scratch().join("other"), 9);
    let id = admin.submit(&body).await;
    assert_eq!(state_of(&admin.ended(&id, "web-1").await), State::Failed);
    assert_eq!(lines(&host.scratch().join("other")), 1);
}

async fn a_pending_retry_survives_the_host_and_a_cancel_ends_it_unsent(store: Store) {
    let mut host = TestHost::start_on(store).await;
    let admin = host.admin().await;
    let _agent = TestAgent::start(&host, &admin, "web-1").await;
    let notes = host.scratch().join("notes");
    let mut body = exec_body("web-1", &fails_until(&notes, 2));
    // The jitter is whole, so of several one is far enough away to be met between its attempts.
    body["retry"] = json!({ "max_attempts": 2, "on": ["failed"], "backoff_ms": 3_600_000 });
    let id = admin.submit(&body).await;
    let held = until("it waits for its next try", async || {
        let now = admin.invocation(&id, "web-1").await;
        (now["reason"] == "retry").then_some(now)
    })
    .await;
    assert_eq!((state_of(&held), &held["attempt"]), (State::Held, &json!(2)));
    assert_eq!(held["explanation"], "waits for its next try");
    assert!(held["due_at"].is_string(), "{held:#}");
    host.kill9();
    host.launch().await;
    let admin = host.admin().await;
    let still = admin.invocation(&id, "web-1").await;
    assert_eq!((state_of(&still), &still["due_at"]), (State::Held, &held["due_at"]), "a row, not a timer");
    admin.post(&format!("/api/v1/commands/{id}/cancel"), &json!({})).await.expect(202);
    let ended = admin.ended(&id, "web-1").await;
    assert_eq!((state_of(&ended), &ended["reason"]), (State::Cancelled, &json!("never_sent")));
    assert_eq!(lines(&notes), 1);
}

async fn ask(api: &Api, key: &str, body: &Value) -> Answer {
    let request = api.request(Method::POST, "/api/v1/commands").header("idempotency-key", key);
    api.send(request.header("content-type", "application/json").body(body.to_string())).await
}

async fn the_same_request_under_one_key_is_accepted_once_even_across_a_restart(store: Store) {
    let mut host = TestHost::start_on(store).await;
    let admin = host.admin().await;
    let _agent = TestAgent::start(&host, &admin, "web-1").await;
    let notes = host.scratch().join("notes");
    let body = exec_body("web-1", &fails_until(&notes, 1));
    let first = ask(&admin, "k-1", &body).await;
    assert!(first.headers.get("idempotency-replayed").is_none());
    let location = first.headers["location"].clone();
    let first = first.expect(202);
    let id = first["id"].as_str().expect("an id").to_owned();
    admin.ended(&id, "web-1").await;

    let again = ask(&admin, "k-1", &body).await;
    assert_eq!(
        (&again.headers["idempotency-replayed"], &again.headers["location"]),
        (&"true".parse().expect("a value"), &location)
    );
    assert_eq!(again.expect(202), first);
    let mut other = body.clone();
    other["priority"] = json!("high");
    let refused = ask(&admin, "k-1", &other).await;
    assert_eq!((refused.status, refused.code()), (422, "idempotency_key_reused"));
    let refused = ask(&admin, "two words", &body).await;
    assert_eq!((refused.status, refused.code()), (400, "invalid_header"));

    host.kill9();
    host.launch().await;
    let admin = host.admin().await;
    assert_eq!(ask(&admin, "k-1", &body).await.expect(202), first);
    // Many at once: one command, whoever wins.
    let storm = futures_util::future::join_all((0..20).map(|_| ask(&admin, "k-2", &body))).await;
    let ids: std::collections::BTreeSet<String> = storm
        .iter()
        .filter(|answer| answer.status == 202)
        .map(|answer| answer.json["id"].as_str().expect("an id").to_owned())
        .collect();
    assert_eq!(ids.len(), 1, "{ids:?}");
    for answer in storm.iter().filter(|answer| answer.status != 202) {
        assert_eq!((answer.status, answer.code()), (409, "request_under_way"));
    }
    let all = admin.get("/api/v1/commands").await.expect(200);
    assert_eq!(all["items"].as_array().expect("items").len(), 2);
    admin.ended(ids.first().expect("one"), "web-1").await;
    assert_eq!(lines(&notes), 2);
}

async fn a_rollout_lets_go_one_by_one_halts_at_the_first_error_and_can_be_taken_up_again(store: Store) {
    let host = TestHost::start_on(store).await;
    let admin = host.admin().await;
    let mut agents = Vec::new();
    for name in ["web-1", "web-2", "web-3"] {
        agents.push(TestAgent::start(&host, &admin, name).await);
    }
    // All of them see one file: the first two runs are good, the third is not, later ones are.
    let notes = host.scratch().join("notes");
    let script = format!("echo run >> {0}; [ $(wc -l < {0}) -ne 2 ]", notes.display());
    let body = json!({
        "verb": "exec.run", "args": { "program": "sh", "args": ["-c", script] }, "target": { "expr": "agent = web-*" },
        "rollout": { "max_concurrency": 1, "max_errors": 0 },
    });
    let id = admin.submit(&body).await;
    let halted = until("it halts", async || {
        let now = admin.command(&id).await;
        (now["status"] == "halted").then_some(now)
    })
    .await;
    assert_eq!(halted["counts"], json!({ "succeeded": 1, "failed": 1, "skipped": 1 }));
    assert_eq!((lines(&notes), &halted["halted"]), (2, &json!("1 ended in error, at most 0 may")));
    let rollup = admin.get(&format!("/api/v1/commands/{id}/rollup")).await.expect(200);
    let states: Vec<_> =
        rollup["items"].as_array().expect("items").iter().map(|one| (&one["state"], &one["count"])).collect();
    assert_eq!(states.len(), 3, "{states:?}");

    let retry = |only: &str| json!({ "only": only });
    let path = format!("/api/v1/commands/{id}/retry");
    let skipped = admin.post(&path, &retry("never_started")).await.expect(202);
    assert_eq!(skipped["targets"].as_array().expect("targets").len(), 1);
    let failed = admin.post(&path, &retry("failed")).await.expect(202);
    for child in [&skipped, &failed] {
        let child_id = child["id"].as_str().expect("an id");
        let done = until("it ends", async || {
            let now = admin.command(child_id).await;
            (now["status"] == "succeeded").then_some(now)
        })
        .await;
        assert_eq!((&done["parent"], &done["args"]), (&json!(id), &body["args"]));
    }
    assert_eq!(lines(&notes), 4);
    let child = skipped["id"].as_str().expect("an id");
    let none = admin.post(&format!("/api/v1/commands/{child}/retry"), &retry("failed")).await;
    assert_eq!((none.status, none.code()), (422, "nothing_to_retry"));
    let groups = admin.get(&format!("/api/v1/commands/{id}/results?by=/exit_code")).await.expect(200);
    let counts: Vec<_> = groups["items"].as_array().expect("items").iter().map(|one| &one["count"]).collect();
    assert_eq!(counts.len(), 3, "{groups:#}");
}

async fn nothing_runs_past_its_finish_by(store: Store) {
    let host = TestHost::start_on(store).await;
    let admin = host.admin().await;
    let _agent = TestAgent::start(&host, &admin, "web-1").await;
    let mut body = exec_body("web-1", &json!({ "program": "true" }));
    body["finish_by"] = json!("2020-01-01T00:00:00Z");
    let refused = admin.post("/api/v1/commands", &body).await;
    assert_eq!((refused.status, refused.code()), (422, "invalid_body"));
    assert_eq!(refused.json["errors"][0]["pointer"], "/finish_by");

    // What a machine is too busy to start by then never runs; it is given longer.
    for seconds in [3, 15, 60] {
        let gated = Gated::new();
        let mut body = exec_body("web-1", &gated.args());
        let end = chrono::Utc::now() + chrono::Duration::seconds(seconds);
        body["finish_by"] = json!(end.to_rfc3339());
        let id = admin.submit(&body).await;
        let ended = admin.ended(&id, "web-1").await;
        assert_eq!(gated.ends(), 0, "{ended:#}");
        if gated.starts() > 0 {
            assert_eq!(state_of(&ended), State::TimedOut, "{ended:#}");
            return;
        }
    }
    panic!("nothing starts within a minute");
}
