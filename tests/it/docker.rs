//! Containers on a real engine: what a machine says about its engine, who may do what with it, and the
//! command line.

use serde_json::{Value, json};
use servers::docker::Engine;
use tests::cli::Cli;
use tests::client::Api;
use tests::dock::{Dock, MACHINE, body};

#[tokio::test]
async fn a_machine_tells_which_engine_it_has_and_can_be_chosen_by_it() {
    let Some(engine) = Engine::shared() else { return };
    let dock = Dock::at(&engine.endpoint()).await;
    let version = engine.run(&["version", "--format", "{{.Server.Version}}"]).expect("the engine's version");
    let agent = dock.admin.get(&format!("/api/v1/agents/{MACHINE}")).await.expect(200);
    let said = agent["container_engine"].as_str().expect("an engine").to_owned();
    assert!(said == format!("docker {version}") || said.starts_with(&format!("docker {version}, ")), "{agent:#}");
    let capabilities = agent["capabilities"].as_array().expect("a list");
    assert!(capabilities.contains(&json!("docker")) && capabilities.contains(&json!("exec")), "{agent:#}");

    for (target, who) in [
        (json!({ "capabilities": ["docker"] }), 1),
        (json!({ "container_engine": ["docker"] }), 1),
        (json!({ "container_engine": ["podman"] }), 0),
    ] {
        let answer =
            dock.admin.post("/api/v1/commands", &json!({ "verb": "docker.ps", "args": {}, "target": target })).await;
        match who {
            0 => assert_eq!((answer.status, answer.code()), (422, "no_target"), "{target}"),
            _ => {
                let id = answer.expect(202)["id"].as_str().expect("an id").to_owned();
                let ended = dock.admin.ended(&id, MACHINE).await;
                assert_eq!(ended["state"], "succeeded", "{target}: {ended:#}");
            }
        }
    }
}

/// A new operator with these grants, logged in; those of every operator when `None`.
async fn operator(dock: &Dock, name: &str, grants: Option<Value>) -> Api {
    let password = "a password for a test";
    let mut user = json!({ "name": name, "password": password, "role": "operator" });
    if let Some(grants) = grants {
        user["grants"] = grants;
    }
    dock.admin.post("/api/v1/users", &user).await.expect(201);
    Api::anonymous(&dock.host.url()).login(&json!({ "name": name, "password": password })).await
}

#[tokio::test]
async fn a_container_that_would_own_the_machine_needs_the_grant_for_that() {
    let Some(engine) = Engine::shared() else { return };
    let image = engine.busybox().expect("a base image");
    let dock = Dock::at(&engine.endpoint()).await;
    let otto = operator(&dock, "otto", None).await;
    let run = |more: Value| {
        let mut args = json!({ "image": image, "name": "raised", "network": "none", "command": ["sleep", "1000"] });
        args.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        args
    };
    let folder = engine.dir().display().to_string();
    for (verb, args) in [
        ("docker.run", run(json!({ "privileged": true }))),
        ("docker.run", run(json!({ "network": "host" }))),
        ("docker.run", run(json!({ "pid": "host" }))),
        ("docker.run", run(json!({ "ipc": "host" }))),
        ("docker.run", run(json!({ "devices": ["/dev/null"] }))),
        ("docker.run", run(json!({ "cap_add": ["SYS_ADMIN"] }))),
        ("docker.run", run(json!({ "security_opt": ["seccomp=unconfined"] }))),
        ("docker.run", run(json!({ "volumes": ["/:/machine:ro"] }))),
        ("docker.run", run(json!({ "volumes": ["data:/data", "/var/run/docker.sock:/run/docker.sock"] }))),
        ("docker.exec", json!({ "container": "raised", "command": ["id"], "privileged": true })),
        ("docker.build", json!({ "tags": ["raised:1"], "context": folder })),
        ("docker.rm", json!({ "containers": ["raised"], "force": true })),
    ] {
        let answer = otto.post("/api/v1/commands", &body(verb, &args)).await;
        assert_eq!((answer.status, answer.code()), (403, "effect_not_granted"), "{verb} {args}: {:#}", answer.json);
    }
    let left = dock.admin.get("/api/v1/commands").await.expect(200);
    assert_eq!(left["items"], json!([]), "what was refused left no command, so nothing for the agent");
    assert!(engine.run(&["inspect", "raised"]).is_err(), "nothing was started");

    // The same without what raises it is an operator's daily work.
    let id = otto.submit(&body("docker.run", &run(json!({ "volumes": ["data:/data"] })))).await;
    assert_eq!(otto.ended(&id, MACHINE).await["state"], "succeeded");
    assert_eq!(engine.run(&["inspect", "--format", "{{.HostConfig.Privileged}}", "raised"]).expect("it runs"), "false");
    engine.run(&["rm", "--force", "raised"]).expect("removed");

    let grants = json!([{ "sites": ["*"], "verbs": ["docker.*"], "effects": ["read", "change", "host"] }]);
    let hanna = operator(&dock, "hanna", Some(grants)).await;
    // Not `privileged`, which an engine that has not all powers itself cannot give.
    let args =
        run(json!({ "pid": "host", "volumes": [format!("{folder}:/engine:ro")], "devices": ["/dev/null:/dev/x"] }));
    let id = hanna.submit(&body("docker.run", &args)).await;
    let ended = hanna.ended(&id, MACHINE).await;
    assert_eq!(ended["state"], "succeeded", "{ended:#}");
    let said = engine.run(&["inspect", "--format", "{{.HostConfig.PidMode}}", "raised"]).expect("it runs");
    assert_eq!(said, "host");
    let script = "ls /engine/docker.sock /dev/x; touch /engine/x || echo read only";
    let exec = json!({ "container": "raised", "command": ["sh", "-c", script] });
    let id = hanna.submit(&body("docker.exec", &exec)).await;
    let ended = hanna.ended(&id, MACHINE).await;
    assert_eq!(ended["result"]["stdout"], "/dev/x\n/engine/docker.sock\nread only\n", "{ended:#}");
    engine.run(&["rm", "--force", "raised"]).expect("removed");
}

#[tokio::test]
async fn the_command_line_runs_containers_with_flags_from_the_schema() {
    let Some(engine) = Engine::shared() else { return };
    let image = engine.busybox().expect("a base image");
    let dock = Dock::at(&engine.endpoint()).await;
    let cli = Cli::login(&dock.host).await;

    let help = cli.run(&["run", "docker.run", "--help"]).await;
    assert_eq!(help.code, Some(0), "{help:?}");
    for flag in ["--image", "--network", "--restart", "--volumes"] {
        assert!(help.stdout.contains(flag), "{}", help.stdout);
    }
    let (script, waits) = ("echo \"for $WHO\"; exit 4", "trap 'exit 0' TERM; while :; do sleep 0.1; done");
    let args = json!({ "command": ["sh", "-c", waits], "labels": { "from": "cli" } }).to_string();
    let words = [
        "run",
        "docker.run",
        "-a",
        MACHINE,
        "--image",
        image,
        "--name",
        "by-cli",
        "--network",
        "none",
        "--args",
        &args,
    ];
    let ran = cli.run(&words).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let id = engine.run(&["inspect", "--format", "{{.Id}}", "by-cli"]).expect("it runs");
    assert_eq!((ran.stdout, ran.stderr.contains("1 ok")), (format!("[{MACHINE}] {id}\n"), true), "{}", ran.stderr);

    let listed = cli.run(&["run", "docker.ps", "-a", MACHINE, "--names", "by-cli", "-o", "json"]).await;
    assert_eq!(listed.code, Some(0), "{listed:?}");
    let text = listed.json().to_string();
    assert!(text.contains("\"by-cli\"") && text.contains("\"from\":\"cli\""), "{text}");

    let args = json!({ "command": ["sh", "-c", script], "env": { "WHO": "a script" } }).to_string();
    let exec = cli.run(&["run", "docker.exec", "-a", MACHINE, "--container", "by-cli", "--args", &args]).await;
    assert_eq!(exec.code, Some(5), "what failed on the machine is told by the exit code: {exec:?}");
    assert!(exec.stdout.contains("for a script"), "{exec:?}");

    let wrong = cli.run(&["run", "docker.run", "-a", MACHINE, "--image", "-rf"]).await;
    assert_eq!(wrong.code, Some(2), "{wrong:?}");
    let stopped = cli.run(&["run", "docker.stop", "-a", MACHINE, "--containers", "by-cli"]).await;
    assert_eq!((stopped.code, stopped.stdout.as_str()), (Some(0), "[dock-1] by-cli\n"), "{stopped:?}");
    let state = engine.run(&["inspect", "--format", "{{.State.Status}} {{.State.ExitCode}}", "by-cli"]);
    assert_eq!(state.expect("it is there"), "exited 0");
}
