//! Who may do what, while work is under way: grants and keys that are taken away, logins that end, keys that
//! are rotated.

use std::process::Command;

use domain::attempt::State;
use reqwest::Method;
use serde_json::{Value, json};
use tests::cli::Cli;
use tests::client::{Api, exec_body};
use tests::host::TestHost;
use tests::machine::TestAgent;
use tests::programs::program;
use tests::store::Store;
use tests::wait::until;

tests::on_both_stores![
    what_was_queued_is_not_sent_when_its_submitter_may_no_longer,
    of_two_admins_who_demote_each_other_one_stays,
    a_logout_and_a_revoked_key_hold_after_a_restart_and_end_what_is_being_read,
];

/// A user who may run `exec.run`, logged in.
async fn operator(host: &TestHost, admin: &Api, name: &str) -> Api {
    let api = host.user(admin, name, "operator").await;
    let grants = json!({ "grants": [{ "sites": ["*"], "verbs": ["exec.*"], "effects": ["read", "host"] }] });
    put(admin, &format!("/api/v1/grants/{name}"), &grants).await;
    api
}

async fn put(api: &Api, path: &str, body: &Value) -> Value {
    let request = api.request(Method::PUT, path).header("content-type", "application/json").header("if-match", "*");
    api.send(request.body(body.to_string())).await.expect(200)
}

async fn delete(api: &Api, path: &str) -> u16 {
    api.send(api.request(Method::DELETE, path)).await.status
}

/// A key of this user's; its client and its id.
async fn key(api: &Api) -> (Api, String) {
    let made = api.post("/api/v1/api-keys", &json!({})).await.expect(201);
    (api.with_token(made["key"].as_str().expect("a key")), made["id"].as_str().expect("an id").to_owned())
}

async fn what_was_queued_is_not_sent_when_its_submitter_may_no_longer(store: Store) {
    let host = TestHost::start_on(store).await;
    let admin = host.admin().await;
    let mut agent = TestAgent::start(&host, &admin, "web-1").await;
    agent.kill9();
    agent.seen(&admin, "offline").await;
    let (gone, narrowed, keyed, honest) = (
        operator(&host, &admin, "gone").await,
        operator(&host, &admin, "narrowed").await,
        operator(&host, &admin, "keyed").await,
        operator(&host, &admin, "honest").await,
    );
    let (with_key, id) = key(&keyed).await;
    let quick = json!({ "program": "uname" });
    let mut queued = Vec::new();
    for who in [&gone, &narrowed, &with_key, &honest] {
        queued.push(who.exec("web-1", &quick).await);
    }
    assert_eq!(delete(&admin, "/api/v1/users/gone").await, 204);
    put(&admin, "/api/v1/grants/narrowed", &json!({ "grants": [] })).await;
    assert_eq!(delete(&admin, &format!("/api/v1/api-keys/{id}")).await, 204);
    agent.run();
    for (command, said) in [(0, "was deleted"), (1, "no grant of yours covers"), (2, "API key of `keyed`")] {
        let ended = admin.reaches(&queued[command], "web-1", State::Rejected).await;
        assert_eq!(ended["reason"], "grant_revoked", "{ended:#}");
        assert!(ended["explanation"].as_str().is_some_and(|message| message.contains(said)), "{ended:#}");
    }
    admin.reaches(&queued[3], "web-1", State::Succeeded).await;

    // The same for what waits in the host's memory because its agent is busy.
    let busy = json!({ "program": "sleep", "args": ["600"] });
    let mut sleeping = Vec::new();
    for _ in 0..4 {
        sleeping.push(admin.exec("web-1", &busy).await);
    }
    for command in &sleeping {
        admin.reaches(command, "web-1", State::Running).await;
    }
    let waits = honest.submit(&exec_body("web-1", &quick)).await;
    assert_eq!(delete(&admin, "/api/v1/users/honest").await, 204);
    let again = operator(&host, &admin, "honest").await;
    let later = again.submit(&exec_body("web-1", &quick)).await;
    admin.reaches(&waits, "web-1", State::Queued).await;
    for command in &sleeping {
        admin.cancel(command).await;
    }
    let ended = admin.reaches(&waits, "web-1", State::Rejected).await;
    assert!(ended["explanation"].as_str().is_some_and(|message| message.contains("was deleted")), "{ended:#}");
    admin.reaches(&later, "web-1", State::Succeeded).await;
}

async fn of_two_admins_who_demote_each_other_one_stays(store: Store) {
    let host = TestHost::start_on(store).await;
    let admin = host.admin().await;
    let other = host.user(&admin, "other", "admin").await;
    let demote = async |by: &Api, whom: &str| {
        let request = by.request(Method::PATCH, &format!("/api/v1/users/{whom}"));
        let request = request.header("content-type", "application/json").body(r#"{"role":"viewer"}"#);
        by.send(request).await.status
    };
    let (one, two) = tokio::join!(demote(&admin, "other"), demote(&other, "admin"));
    let answers = [one, two];
    assert_eq!(answers.iter().filter(|status| **status == 200).count(), 1, "{answers:?}");
    assert!(answers.iter().all(|status| [200, 403, 409].contains(status)), "{answers:?}");
}

async fn a_logout_and_a_revoked_key_hold_after_a_restart_and_end_what_is_being_read(store: Store) {
    let mut host = TestHost::start_on(store).await;
    let admin = host.admin().await;
    let mut agent = TestAgent::start(&host, &admin, "web-1").await;
    agent.kill9();
    agent.seen(&admin, "offline").await;
    let command = admin.exec("web-1", &json!({ "program": "uname" })).await;
    let op = host.user(&admin, "op", "operator").await;
    let (with_key, id) = key(&op).await;
    let mut streams = [op.events(&command, None).await, with_key.events(&command, None).await];
    for stream in &mut streams {
        assert!(stream.next().await.is_some(), "it is read");
    }
    assert_eq!(delete(&op, &format!("/api/v1/api-keys/{id}")).await, 204);
    let ended = op.post("/api/v1/auth/logout", &json!({ "refresh_token": "vwr_another" })).await;
    assert_eq!(ended.status, 204);
    for stream in &mut streams {
        let rest = stream.rest().await;
        assert!(rest.iter().all(|event| event.name != "end"), "cut off, for the command goes on: {rest:?}");
    }
    for who in [&op, &with_key] {
        assert_eq!(who.get("/api/v1/me").await.status, 401);
    }
    host.kill9();
    host.launch().await;
    for who in [&op, &with_key] {
        assert_eq!(who.get("/api/v1/me").await.status, 401, "written down, and not only remembered");
    }
    assert_eq!(admin.get("/api/v1/me").await.status, 200, "others stay logged in");
    agent.run();
    // Its submitter is still there.
    admin.reaches(&command, "web-1", State::Succeeded).await;
}

#[tokio::test]
async fn the_token_key_is_rotated_under_a_running_host_and_nobody_is_logged_out() {
    let mut host = TestHost::start().await;
    let admin = host.admin().await;
    let nobody = Api::anonymous(&host.url());
    let recorded = async |admin: &Api| {
        let found = admin.get("/api/v1/audit?action=system.token_key_rotate").await.expect(200);
        found["items"].as_array().expect("entries").clone()
    };
    let rotate = |host: &TestHost| {
        let mut rotate = Command::new(program("viworks-host"));
        rotate.args(["keys", "rotate-token-key", "--data"]).arg(host.data());
        let done = rotate.output().expect("starts");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    };
    let keys = async || {
        let set = nobody.get("/.well-known/jwks.json").await.expect(200);
        set["keys"].as_array().expect("keys").clone()
    };
    let before = keys().await;
    assert_eq!((before.len(), &before[0]["crv"]), (1, &json!("Ed25519")));
    rotate(&host);
    let after = until("the running host takes it over", async || {
        let after = keys().await;
        (after.len() == 2).then_some(after)
    })
    .await;
    assert_eq!(after[1], before[0], "the old one still verifies");
    assert_eq!(admin.get("/api/v1/me").await.status, 200);
    assert_eq!(host.admin().await.get("/api/v1/me").await.status, 200);
    let entries =
        until("it is on record", async || Some(recorded(&admin).await).filter(|found| !found.is_empty())).await;
    assert_eq!((entries.len(), &entries[0]["details"]["public_key"]), (1, &after[0]["x"]));
    // So it is when no host ran meanwhile, and each rotation once.
    assert!(host.stop().await.success());
    rotate(&host);
    host.launch().await;
    let admin = host.admin().await;
    until("the second is on record", async || (recorded(&admin).await.len() == 2).then_some(())).await;
    assert!(host.stop().await.success());
    host.launch().await;
    assert_eq!(recorded(&host.admin().await).await.len(), 2);
}

#[tokio::test]
async fn the_command_line_manages_users_and_comes_with_a_key() {
    let host = TestHost::start().await;
    let cli = Cli::login(&host).await;
    let run = async |words: &[&str]| {
        let ran = cli.run(words).await;
        assert_eq!(ran.code, Some(0), "{words:?}: {ran:?}");
        ran
    };
    let password = host.scratch().join("password");
    std::fs::write(&password, "correct horse battery\n").expect("written");
    let password = password.display().to_string();
    run(&["user", "create", "ci", "--role", "operator", "--password-file", &password]).await;
    let granted = run(&["user", "grant", "ci", "--site", "eu", "--verb", "exec.*", "--effect", "host", "-o", "json"]);
    let granted = granted.await.json();
    assert_eq!(granted["grants"], json!([{ "sites": ["eu"], "verbs": ["exec.*"], "effects": ["host"] }]));
    let more = run(&["user", "grant", "ci", "--site", "us", "--add", "-o", "json"]).await.json();
    assert_eq!(more["grants"].as_array().map(Vec::len), Some(2));
    let shown = run(&["user", "change", "ci", "--role", "viewer", "-o", "json"]).await.json();
    assert_eq!((&shown["role"], &run(&["user", "show", "ci", "-o", "json"]).await.json()), (&json!("viewer"), &shown));
    assert_eq!(cli.run(&["user", "change", "ci"]).await.code, Some(2));
    assert_eq!(cli.run(&["user", "delete", "admin"]).await.code, Some(1), "the last admin stays");

    let made = run(&["api-key", "create", "--name", "deploy", "--role", "viewer", "--ttl", "24h"]).await;
    let key = made.stdout.trim().to_owned();
    assert!(key.starts_with("vwk_") && made.stderr.contains("good until"), "{made:?}");
    let file = host.scratch().join("key");
    std::fs::write(&file, &key).expect("written");
    let file = file.display().to_string();
    run(&["login", &host.url(), "--name", "by-key", "--api-key-file", &file]).await;
    run(&["agent", "list", "--context", "by-key"]).await;
    assert_eq!(cli.run(&["user", "list", "--context", "by-key"]).await.code, Some(4), "a viewer's key");
    let admins = run(&["context", "list", "-o", "name"]).await.stdout;
    let admins = admins.lines().find(|name| *name != "by-key").expect("the login").to_owned();
    let list = run(&["api-key", "list", "--context", &admins, "-o", "json"]).await.json();
    let items = list.as_array().or_else(|| list["items"].as_array()).expect("a list");
    assert_eq!((items.len(), &items[0]["name"]), (1, &json!("deploy")));
    run(&["api-key", "revoke", items[0]["id"].as_str().expect("an id"), "--context", &admins]).await;
    assert_eq!(cli.run(&["agent", "list", "--context", "by-key"]).await.code, Some(4));
    run(&["user", "delete", "ci", "--context", &admins]).await;
    run(&["logout", "--context", "by-key"]).await;
}
