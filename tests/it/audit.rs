//! The audit log as an operator keeps it: exported, verified with and without a host, over a kill and a restart.

use reqwest::Method;
use serde_json::json;
use tests::cli::Cli;
use tests::host::TestHost;
use tests::store::Store;

tests::on_both_stores![an_exported_log_is_verified_without_a_host_and_holds_the_next_one];

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
