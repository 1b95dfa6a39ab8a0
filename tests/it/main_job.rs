//! The main job: a command is accepted, runs on a machine, and its output and result come back.

use domain::attempt::State;
use serde_json::json;
use tests::client::state_of;
use tests::gate::Gated;
use tests::host::TestHost;
use tests::machine::TestAgent;
use tests::store::Store;

tests::on_both_stores![
    a_command_runs_on_the_machine_and_everything_about_it_can_be_read,
    a_program_that_fails_is_a_failed_command_with_its_typed_result,
    output_arrives_while_the_command_still_runs,
];

async fn a_command_runs_on_the_machine_and_everything_about_it_can_be_read(store: Store) {
    let host = TestHost::start_on(store).await;
    let admin = host.admin().await;
    let _agent = TestAgent::start(&host, &admin, "web-1").await;

    let id = admin.exec("web-1", &json!({ "program": "uname", "args": ["-s"] })).await;
    let invocation = admin.ended(&id, "web-1").await;
    assert_eq!(state_of(&invocation), State::Succeeded, "{invocation:#}");
    assert_eq!((&invocation["stdout"], &invocation["stderr"]), (&json!("Linux\n"), &json!("")));
    assert_eq!((&invocation["exit_code"], &invocation["attempt"]), (&json!(0), &json!(1)));
    assert_eq!(invocation["parsed"], true);
    let result = &invocation["result"];
    assert_eq!((&result["exit_code"], &result["stdout"]), (&json!(0), &json!("Linux\n")));

    let command = admin.command(&id).await;
    assert_eq!((&command["status"], &command["counts"]), (&json!("succeeded"), &json!({ "succeeded": 1 })));

    let path = format!("/api/v1/commands/{id}/invocations/web-1/output");
    assert_eq!(admin.get(&format!("{path}?stream=stdout")).await.bytes, b"Linux\n");
    assert_eq!(admin.get(&format!("{path}?stream=stdout&offset=3")).await.bytes, b"ux\n");
    assert_eq!(admin.get(&format!("{path}?stream=stderr")).await.bytes, b"");

    let events = admin.events(&id, None).await.rest().await;
    let states: Vec<&str> =
        events.iter().filter(|event| event.name == "state").filter_map(|event| event.data["state"].as_str()).collect();
    assert_eq!(states.last(), Some(&"succeeded"), "{states:?}");
    let output: String = events.iter().filter(|event| event.name == "output").map(|event| event.text()).collect();
    assert_eq!(output, "Linux\n");
    assert!(events.iter().any(|event| event.name == "status" && event.data["status"] == "succeeded"));
    assert_eq!(events.last().map(|event| event.name.as_str()), Some("end"));
    let ids: Vec<u64> = events.iter().map(|event| event.id.parse().expect("a number")).collect();
    assert!(ids.is_sorted(), "{ids:?}");
    // Whoever comes back with a cursor gets what came after it, and nothing twice.
    let again = admin.events(&id, Some(&events[0].id)).await.rest().await;
    assert_eq!(again, events[1..]);

    let audit = admin.get("/api/v1/audit").await.expect(200);
    let rows = audit["items"].as_array().expect("items");
    let submit = rows.iter().find(|row| row["action"] == "command.submit").expect("the submission is on record");
    assert_eq!((&submit["actor"], &submit["resource_id"]), (&json!("admin"), &json!(id)));
    assert_eq!(submit["correlation_id"], command["correlation_id"]);
}

async fn a_program_that_fails_is_a_failed_command_with_its_typed_result(store: Store) {
    let host = TestHost::start_on(store).await;
    let admin = host.admin().await;
    let _agent = TestAgent::start(&host, &admin, "web-1").await;

    let script = "echo part; echo no such file >&2; exit 3";
    let id = admin.exec("web-1", &json!({ "program": "sh", "args": ["-c", script] })).await;
    let invocation = admin.ended(&id, "web-1").await;
    assert_eq!(state_of(&invocation), State::Failed, "{invocation:#}");
    assert_eq!(invocation["exit_code"], 3);
    let result = &invocation["result"];
    assert_eq!((&result["exit_code"], &result["stdout"]), (&json!(3), &json!("part\n")));
    assert_eq!(result["stderr"], "no such file\n");
    assert_eq!(admin.command(&id).await["status"], "failed");
}

async fn output_arrives_while_the_command_still_runs(store: Store) {
    let host = TestHost::start_on(store).await;
    let admin = host.admin().await;
    let _agent = TestAgent::start(&host, &admin, "web-1").await;

    let mut gated = Gated::new();
    let id = admin.exec("web-1", &gated.args()).await;
    let mut events = admin.events(&id, None).await;
    let first = loop {
        let event = events.next().await.expect("the stream goes on");
        if event.name == "output" {
            break event;
        }
    };
    assert_eq!((first.text().as_str(), &first.data["stream"]), ("out\n", &json!("stdout")));
    assert_eq!(gated.ends(), 0, "it waits at the gate");
    assert_eq!(state_of(&admin.reaches(&id, "web-1", State::Running).await), State::Running);

    gated.open();
    let rest = events.rest().await;
    let output: String = rest.iter().filter(|event| event.name == "output").map(|event| event.text()).collect();
    assert_eq!(output, "end\n");
    assert_eq!(rest.last().map(|event| event.data["status"].clone()), Some(json!("succeeded")));
}
