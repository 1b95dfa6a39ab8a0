//! The audit log as an operator keeps it: exported, verified with and without a host, over a kill and a restart.

use reqwest::Method;
use serde_json::{Value, json};
use tests::cli::Cli;
use tests::host::TestHost;
use tests::store::Store;
use tests::wait::CEILING;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::time::timeout;

tests::on_both_stores![
    an_exported_log_is_verified_without_a_host_and_holds_the_next_one,
    who_follows_the_log_is_told_of_each_entry_once,
];

async fn an_exported_log_is_verified_without_a_host_and_holds_the_next_one(store: Store) {
    let mut host = TestHost::start_on(store).await;
    let admin = host.admin().await;
    let cli = Cli::login(&host).await;
    let file = |name: &str| host.scratch().join(name).display().to_string();
    let (first, second, edited) = (file("first.ndjson"), file("second.ndjson"), file("edited.ndjson"));

    let user = json!({ "name": "eve", "password": "correct horse battery", "role": "viewer" });
    admin.post("/api/v1/users", &user).await.expect(201);
    assert_eq!(cli.run(&["audit", "export", &first]).await.code, Some(0));
    assert_eq!(cli.run(&["audit", "export", &first]).await.code, Some(1), "nothing is written over");

    // Each start has a chain of its own, and the next one names it.
    host.kill9();
    host.launch().await;
    let cli = Cli::login(&host).await;
    let forged = host.admin().await.with_token("forged");
    assert_eq!(forged.send(forged.request(Method::DELETE, "/api/v1/users/eve")).await.status, 401);
    let report = cli.run(&["audit", "verify", "-o", "json"]).await;
    assert_eq!((report.code, &report.json()["whole"]), (Some(0), &json!(true)), "{report:?}");
    assert_eq!(report.json()["heads"].as_array().expect("chains").len(), 2);
    let key = report.json()["public_key"].as_str().expect("a key").to_owned();
    assert_eq!(cli.run(&["audit", "export", &second]).await.code, Some(0));
    assert!(host.log().contains("audit log exported"));

    let tail = cli.run(&["audit", "tail", "-n", "3", "-o", "ndjson"]).await;
    let actions: Vec<&str> =
        ["auth.refused", "audit.export"].into_iter().filter(|word| tail.stdout.contains(word)).collect();
    assert_eq!(actions, ["auth.refused", "audit.export"], "{tail:?}");

    host.kill9();
    let whole = cli.run(&["audit", "verify", &second, "--key", &key, "--since", &first]).await;
    assert_eq!((whole.code, whole.stdout.contains("\nwhole: ")), (Some(0), true), "{whole:?}");
    let text = std::fs::read_to_string(&second).expect("the export");
    assert!(text.contains("\"actor\":\"admin\""), "{text}");
    std::fs::write(&edited, text.replacen("\"actor\":\"admin\"", "\"actor\":\"nobody\"", 1)).expect("written");
    let found = cli.run(&["audit", "verify", &edited, "--key", &key]).await;
    assert_eq!((found.code, found.stdout.contains("is not as it was written")), (Some(1), true), "{found:?}");
    let lost = cli.run(&["audit", "verify", &first, "--key", &key, "--since", &second]).await;
    assert_eq!(
        (lost.code, lost.stdout.contains("NOT whole")),
        (Some(1), true),
        "the older one lacks what came later: {lost:?}"
    );
}

async fn who_follows_the_log_is_told_of_each_entry_once(store: Store) {
    let host = TestHost::start_on(store).await;
    let admin = host.admin().await;
    let cli = Cli::login(&host).await;
    let make = async |name: &str| {
        let user = json!({ "name": name, "password": "correct horse battery", "role": "viewer" });
        admin.post("/api/v1/users", &user).await.expect(201);
    };
    make("ada").await;
    make("bea").await;

    let words = ["audit", "tail", "-f", "-n", "1", "--action", "users.create", "-o", "ndjson"];
    let mut tail = cli.start(&words);
    let mut lines = BufReader::new(tail.stdout.take().expect("it is piped")).lines();
    let mut next = async || -> Value {
        let line = timeout(CEILING, lines.next_line()).await.expect("told in time").expect("text");
        serde_json::from_str(&line.expect("it goes on")).expect("JSON on each line")
    };
    let mut told = vec![next().await];
    // It looks every second: these are told by several looks, some of them many at once.
    let names: Vec<String> = (0..12).map(|number| format!("user-{number:02}")).collect();
    for (number, name) in names.iter().enumerate() {
        make(name).await;
        // Of another kind, between those that are asked for.
        let change = admin.request(Method::PATCH, "/api/v1/users/ada").header("content-type", "application/json");
        admin.send(change.body(json!({ "role": "operator" }).to_string())).await.expect(200);
        if number % 4 == 0 {
            while told.len() < number + 2 {
                told.push(next().await);
            }
        }
    }
    while told.len() < names.len() + 1 {
        told.push(next().await);
    }
    let of: Vec<&str> = told.iter().map(|entry| entry["resource_id"].as_str().unwrap_or_default()).collect();
    let page = admin.get("/api/v1/audit?action=users.create&limit=13").await.expect(200);
    let mut expected: Vec<Value> = page["items"].as_array().expect("items").clone();
    expected.reverse();
    assert_eq!(told, expected, "the last that was there, and each that came, in their order: {of:?}");
    assert!(tail.try_wait().expect("it is waited for").is_none(), "it goes on");
    assert!(told.windows(2).all(|two| two[0]["id"].as_u64() < two[1]["id"].as_u64()), "{told:#?}");
    tail.kill().await.expect("it runs");
}
