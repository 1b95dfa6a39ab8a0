//! One request, found again wherever it led: in its answer, on the command, in the audit log, and in the log of the
//! agent that ran it.

use reqwest::Method;
use serde_json::json;
use tests::client::exec_body;
use tests::host::TestHost;
use tests::machine::TestAgent;
use tests::played::Played;
use tests::wait::until;
use wire::frame::HostFrame;

#[tokio::test]
async fn a_trace_leads_from_the_request_to_the_agent_and_back() {
    let host = TestHost::start().await;
    let admin = host.admin().await;
    host.put_plugin("exec").await;
    host.serves_plugin(&admin, "exec").await;
    let agent = TestAgent::start(&host, &admin, "web-1").await;
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let request = admin.request(Method::POST, "/api/v1/commands").header("content-type", "application/json");
    let request = request.header("x-request-id", "mine-1").header("traceparent", trace);
    let body = exec_body("web-1", &json!({ "program": "true" })).to_string();
    let answer = admin.send(request.body(body)).await;
    assert_eq!(answer.headers["x-request-id"], "mine-1");
    assert_eq!(answer.headers["traceparent"], trace);
    let accepted = answer.expect(202);
    let id = accepted["id"].as_str().expect("an id");
    let ended = admin.ended(id, "web-1").await;
    assert_eq!(ended["traceparent"], trace);
    let events = admin.send(admin.request(Method::GET, &format!("/api/v1/commands/{id}/events"))).await;
    let text = String::from_utf8_lossy(&events.bytes).into_owned();
    let told: Vec<&str> =
        text.lines().filter(|line| line.starts_with("data:") && !line.contains("data_base64")).collect();
    assert!(told.len() >= 3 && told.iter().all(|line| line.contains(trace)), "{text}");

    let command = admin.command(id).await;
    assert_eq!((&command["correlation_id"], &command["traceparent"]), (&json!("mine-1"), &json!(trace)));
    let entries = admin.get("/api/v1/audit?action=command.submit").await.expect(200);
    assert_eq!(entries["items"][0]["details"]["traceparent"], trace);
    // From its trace to the attempt, and with that to everything else the agent says of it.
    let told = until("the agent's log has the trace", async || {
        agent.log().lines().find(|line| line.contains(trace)).map(str::to_owned)
    });
    assert!(told.await.contains(id));
    let access = until("the host's access log has the trace", async || {
        host.log().lines().find(|line| line.contains(trace) && line.contains("/api/v1/commands")).map(str::to_owned)
    });
    assert!(access.await.contains("\"request_id\":\"mine-1\""));
    until("the agent says of what it was that it is over", async || {
        agent.log().lines().find(|line| line.contains(trace) && line.contains("an attempt is over")).map(str::to_owned)
    })
    .await;
}

#[tokio::test]
async fn the_frame_that_brings_a_command_names_the_trace_of_its_request() {
    let host = TestHost::start().await;
    let admin = host.admin().await;
    host.put_plugin("exec").await;
    host.serves_plugin(&admin, "exec").await;
    let played = Played::join(&host, &admin, "played").await;
    let (mut socket, _) = played.open().await;
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let request = admin.request(Method::POST, "/api/v1/commands").header("content-type", "application/json");
    let body = exec_body("played", &json!({ "program": "true" })).to_string();
    admin.send(request.header("traceparent", trace).body(body)).await.expect(202);
    let command = loop {
        if let HostFrame::Command(command) = socket.hear().await.expect("a frame") {
            break command;
        }
    };
    assert_eq!(command.traceparent.as_deref(), Some(trace));
}
