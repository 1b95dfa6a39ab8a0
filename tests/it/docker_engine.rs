//! Engines that are away, that die under a command, and that come back.

use domain::attempt::State;
use serde_json::{Value, json};
use servers::docker::Engine;
use tests::client::state_of;
use tests::dock::{Dock, MACHINE, summary};
use tests::process::is_alive;

/// Prints until it is asked to end.
const PRINTS: &str = "trap 'exit 0' TERM; while :; do echo tick; sleep 0.1; done";

/// Waits until the command has printed something.
async fn printed(dock: &Dock, id: &str) {
    let mut events = dock.admin.events(id, None).await;
    while events.next().await.expect("the stream goes on").name != "output" {}
}

async fn assert_alive(dock: &Dock, agent: i32) {
    let id = dock.admin.exec(MACHINE, &json!({ "program": "echo", "args": ["still here"] })).await;
    let invocation = dock.admin.ended(&id, MACHINE).await;
    assert_eq!(state_of(&invocation), State::Succeeded, "{invocation:#}");
    assert_eq!(invocation["stdout"], "still here\n");
    assert_eq!(dock.admin.get("/readyz").await.status, 200);
    assert!(is_alive(agent), "it is the same agent");
}

#[tokio::test]
async fn an_engine_that_dies_under_commands_fails_them_in_words_that_help_and_serves_again_when_it_is_back() {
    let Some(engine) = Engine::own() else { return };
    let image = engine.busybox().expect("a base image");
    let held = ["run", "-d", "--network", "none", "--stop-timeout", "1", "--name", "held", image, "sh", "-c", PRINTS];
    engine.run(&held).expect("it runs");
    let dock = Dock::at(&engine.endpoint()).await;
    let agent = dock.agent.pid();

    let run = json!({
        "image": image, "name": "ran", "network": "none", "detach": false, "stop_timeout": 1,
        "command": ["sh", "-c", PRINTS],
    });
    let follow = json!({ "container": "held", "follow": true });
    let inside = json!({ "container": "held", "command": ["sh", "-c", PRINTS] });
    let mut ids = Vec::new();
    for (verb, args) in [("docker.run", run), ("docker.logs", follow), ("docker.exec", inside)] {
        let id = dock.submit(verb, &args).await;
        printed(&dock, &id).await;
        ids.push((verb, id));
    }

    engine.kill9().expect("killed");
    for (verb, id) in &ids {
        let invocation = dock.admin.ended(id, MACHINE).await;
        assert_eq!(state_of(&invocation), State::Failed, "{verb}: {invocation:#}");
        let said = summary(&invocation);
        // When docker can no longer ask for the exit code, it has but one number to say so.
        let unasked =
            *verb == "docker.exec" && said.ends_with("docker says 255 too when its engine goes away meanwhile");
        assert!(said.starts_with("the docker engine ") || unasked, "{verb} says whose fault it is: {said}");
        assert!(invocation["stdout"].as_str().is_some_and(|text| text.contains("tick\n")), "{verb}: what came is kept");
        let code = invocation["result"].pointer("/ended/exit_code").or_else(|| invocation["result"].get("exit_code"));
        assert_eq!(code, None, "{verb}: nobody knows how the program ended: {invocation:#}");
    }
    assert_alive(&dock, agent).await;

    let away = dock.failure("docker.ps", &json!({})).await;
    let expected = format!(
        "the docker engine at {} does not answer: start it, or mend `container_engine.endpoint` in the agent's configuration",
        engine.endpoint()
    );
    assert_eq!(summary(&away), expected);
    assert_eq!((&away["result"], &away["exit_code"]), (&Value::Null, &json!(1)), "{away:#}");

    engine.restart().expect("it comes back");
    let listed = dock.result("docker.ps", &json!({ "all": true })).await;
    let mut found: Vec<&str> =
        listed.as_array().expect("a list").iter().filter_map(|item| item["name"].as_str()).collect();
    found.sort_unstable();
    assert_eq!(found, ["held", "ran"], "the engine tells itself what became of them: {listed:#}");
    let again = json!({ "image": image, "network": "none", "detach": false, "rm": true, "command": ["echo", "again"] });
    assert_eq!(dock.result("docker.run", &again).await["ended"]["stdout"], "again\n");
    assert!(is_alive(agent), "it is the same agent");
}

#[tokio::test]
async fn a_machine_whose_engine_is_away_serves_all_but_containers() {
    // A real docker is needed, though no engine.
    if Engine::shared().is_none() {
        return;
    }
    let dir = tempfile::tempdir().expect("a temporary folder");
    let endpoint = format!("unix://{}/docker.sock", dir.path().display());
    let dock = Dock::at(&endpoint).await;
    let agent = dock.admin.get(&format!("/api/v1/agents/{MACHINE}")).await.expect(200);
    assert!(agent["container_engine"].as_str().is_some_and(|text| text.starts_with("docker unreachable")), "{agent:#}");

    let expected = format!(
        "the docker engine at {endpoint} does not answer: start it, or mend `container_engine.endpoint` in the agent's configuration"
    );
    for (verb, args) in [
        ("docker.ps", json!({})),
        ("docker.inspect", json!({ "targets": ["web"] })),
        ("docker.logs", json!({ "container": "web" })),
        ("docker.stats", json!({})),
        ("docker.exec", json!({ "container": "web", "command": ["true"] })),
        ("docker.run", json!({ "image": "box:1" })),
        ("docker.run", json!({ "image": "box:1", "detach": false })),
        ("docker.stop", json!({ "containers": ["web", "db"] })),
        ("docker.rm", json!({ "containers": ["web"] })),
        ("docker.pull", json!({ "image": "box:1" })),
        ("docker.build", json!({ "tags": ["web:1"], "dockerfile": "FROM scratch\n" })),
    ] {
        let failed = dock.failure(verb, &args).await;
        assert_eq!(summary(&failed), expected, "{verb}: {failed:#}");
        assert_eq!(failed["result"], Value::Null, "{verb}: {failed:#}");
    }
    assert_alive(&dock, dock.agent.pid()).await;
}

#[tokio::test]
async fn the_machines_own_policy_has_the_last_word_on_containers() {
    let Some(engine) = Engine::shared() else { return };
    let image = engine.busybox().expect("a base image");
    let mut dock = Dock::at(&engine.endpoint()).await;
    // No effect `host`, and of docker's subcommands only these.
    dock.agent.change_policy(|text| {
        let text = text.replace(", \"host\"]", "]");
        text.replace("[programs.docker]", "[programs.docker]\nargs = [[\"ps\", \"**\"], [\"run\", \"**\"]]")
    });
    dock.agent.seen(&dock.admin, "online").await;

    let forbidden = json!({ "image": image, "name": "forbidden", "network": "none", "privileged": true });
    for (verb, args, why) in [
        ("docker.run", forbidden, "effect `host` is not allowed"),
        ("docker.rm", json!({ "containers": ["forbidden"], "force": true }), "not among those allowed for `docker`"),
    ] {
        let invocation = dock.run(verb, &args).await;
        assert_eq!(state_of(&invocation), State::Rejected, "{invocation:#}");
        assert_eq!(invocation["reason"], "policy", "{invocation:#}");
        assert!(invocation["explanation"].as_str().is_some_and(|text| text.contains(why)), "{invocation:#}");
    }
    assert!(engine.run(&["inspect", "forbidden"]).is_err(), "nothing was started");
    let allowed = json!({ "image": image, "network": "none", "rm": true, "detach": false, "command": ["echo", "yes"] });
    assert_eq!(dock.result("docker.run", &allowed).await["ended"]["stdout"], "yes\n");
}
