//! The client's examples, as their readers would run them.

use tests::host::TestHost;
use tests::machine::TestAgent;
use viworks_client::{Client, Login, ServerUrl, Trusted};

#[expect(dead_code, reason = "its `main` is for readers who run it by itself")]
#[path = "../../client/examples/fleet.rs"]
mod fleet;

#[expect(dead_code, reason = "its `main` is for readers who run it by itself")]
#[path = "../../client/examples/run_and_follow.rs"]
mod run_and_follow;

#[tokio::test]
async fn the_examples_of_the_client_do_what_they_say() {
    let host = TestHost::start().await;
    let admin = host.admin().await;
    let _agent = TestAgent::start(&host, &admin, "web-1").await;
    let text = std::fs::read_to_string(host.credential_file()).expect("the first administrator's credential");
    let login: Login = serde_json::from_str(&text).expect("the body of a login");
    let server = ServerUrl::parse(&host.url()).expect("an address");
    let client = Client::connect(server, &Trusted::System, &login).await.expect("logged in");

    let mut lines = Vec::new();
    let count = fleet::fleet(&client, |line| lines.push(line.to_owned())).await.expect("a fleet");
    assert_eq!((count, lines.len()), (1, 1));
    assert!(lines[0].starts_with("web-1 at default is online, CPU "), "{lines:?}");

    for (program, status) in [("true", "succeeded"), ("false", "failed")] {
        let mut lines = Vec::new();
        let ended = run_and_follow::run_and_follow(&client, program, &[], |line| lines.push(line.to_owned())).await;
        assert_eq!(ended.expect("it was followed to its end"), status, "{lines:?}");
        assert_eq!(lines.last(), Some(&format!("web-1 is {status}")));
    }
}
