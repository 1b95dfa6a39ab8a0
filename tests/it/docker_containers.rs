//! Containers on a real engine while they live: run, list, look into, measure, run programs inside.

use domain::attempt::State;
use serde_json::{Value, json};
use servers::docker::Engine;
use servers::registry::Registry;
use tests::client::state_of;
use tests::dock::{Dock, MACHINE, summary};

use crate::secrets::Canary;

/// Runs until it is asked to end, then ends at once.
const WAITS: &str = "trap 'exit 0' TERM; echo up; while :; do sleep 0.1; done";

#[track_caller]
fn only(list: &Value) -> &Value {
    let items = list.as_array().expect("a list");
    assert_eq!(items.len(), 1, "{list:#}");
    &items[0]
}

#[tokio::test]
async fn a_container_is_made_as_asked_and_everything_about_it_can_be_read() {
    let Some(engine) = Engine::shared() else { return };
    let image = engine.busybox().expect("a base image");
    let dock = Dock::at(&engine.endpoint()).await;
    let labels = json!({ "org.example.team": "shop", "note": "a, b" });
    let args = json!({
        "image": image, "name": "full", "network": "none", "entrypoint": "/bin/sh", "command": ["-c", WAITS],
        "env": { "GREETING": "hello  you", "EMPTY": "" }, "labels": labels, "user": "1000:1000", "workdir": "/srv",
        "hostname": "shop-1", "read_only": true, "tmpfs": ["/run:size=1m"], "volumes": ["fulldata:/data", "/anonymous"],
        "restart": "on-failure:3", "memory": "64m", "cpus": 0.5, "pids_limit": 50, "ulimits": { "nofile": "256:512" },
        "stop_timeout": 2, "cap_drop": ["ALL"], "security_opt": ["no-new-privileges"],
        "healthcheck": { "command": "test -d /data", "interval": "200ms", "timeout": "5s", "retries": 3 },
    });
    let ran = dock.result("docker.run", &args).await;
    let id = ran["container_id"].as_str().expect("an id").to_owned();
    assert_eq!((id.len(), &ran["name"], &ran["ended"]), (64, &json!("full"), &Value::Null), "{ran:#}");

    let inspected = dock.result("docker.inspect", &json!({ "targets": ["full"] })).await;
    assert_eq!(inspected["missing"], json!([]));
    let found = only(&inspected["found"]);
    assert_eq!((&found["id"], &found["name"]), (&json!(id), &json!("full")), "{found:#}");
    assert_eq!((&found["state"]["status"], &found["labels"]), (&json!("running"), &labels), "{found:#}");
    assert_eq!(found["made_of"], image);
    let (config, host) = (&found["details"]["Config"], &found["details"]["HostConfig"]);
    for (field, value) in [
        (&config["User"], json!("1000:1000")),
        (&config["WorkingDir"], json!("/srv")),
        (&config["Hostname"], json!("shop-1")),
        (&config["Entrypoint"], json!(["/bin/sh"])),
        (&config["StopTimeout"], json!(2)),
        (&host["Memory"], json!(64 << 20)),
        (&host["NanoCpus"], json!(500_000_000)),
        (&host["PidsLimit"], json!(50)),
        (&host["RestartPolicy"], json!({ "Name": "on-failure", "MaximumRetryCount": 3 })),
        (&host["NetworkMode"], json!("none")),
        (&host["ReadonlyRootfs"], json!(true)),
        (&host["CapDrop"], json!(["ALL"])),
        (&host["Privileged"], json!(false)),
        (&host["Tmpfs"], json!({ "/run": "size=1m" })),
    ] {
        assert_eq!(*field, value, "{:#}", found["details"]);
    }
    let mounts = found["details"]["Mounts"].as_array().expect("mounts");
    assert!(mounts.iter().any(|mount| mount["Name"] == "fulldata" && mount["Destination"] == "/data"), "{mounts:#?}");
    assert_eq!(mounts.len(), 2);

    // What was asked for is what a program inside finds.
    let script = "id -u; id -g; hostname; pwd; echo \"$GREETING\" \"[$EMPTY]\"; ulimit -n; touch /x || echo read only";
    let inside = dock.result("docker.exec", &json!({ "container": "full", "command": ["sh", "-c", script] })).await;
    assert_eq!(inside["stdout"], "1000\n1000\nshop-1\n/srv\nhello  you []\n256\nread only\n", "{inside:#}");

    let healthy = json!({ "names": ["full"], "health": "healthy" });
    let listed = tests::wait::until("its health check has run", async || {
        let listed = dock.result("docker.ps", &healthy).await;
        listed.as_array().is_some_and(|items| !items.is_empty()).then_some(listed)
    })
    .await;
    let listed = only(&listed);
    for (field, value) in [
        ("id", json!(id)),
        ("name", json!("full")),
        ("image", json!(image)),
        ("state", json!("running")),
        ("health", json!("healthy")),
        ("labels", labels),
        ("networks", json!(["none"])),
        ("ports", json!([])),
        ("exit_code", Value::Null),
    ] {
        assert_eq!(listed[field], value, "{field}: {listed:#}");
    }
    assert!(listed["mounts"].as_array().is_some_and(|mounts| mounts.contains(&json!("fulldata"))), "{listed:#}");
    assert!(listed["status"].as_str().is_some_and(|status| status.starts_with("Up ")), "{listed:#}");
    // In the time of this machine's zone.
    let created = listed["created"].as_str().expect("a time");
    assert!(chrono::DateTime::parse_from_rfc3339(created).is_ok(), "{listed:#}");

    // Docker gives up measuring after two seconds and prints dashes: on a busy machine that is soon.
    let used = tests::wait::until("docker has measured it", async || {
        let used = dock.result("docker.stats", &json!({ "containers": ["full"] })).await;
        (!only(&used)["memory_bytes"].is_null()).then_some(used)
    })
    .await;
    let used = only(&used);
    assert_eq!((&used["id"], &used["name"]), (&json!(id), &json!("full")), "{used:#}");
    assert_eq!(used["memory_limit_bytes"], 64 << 20, "{used:#}");
    assert!(used["memory_bytes"].as_u64().is_some_and(|bytes| bytes > 0), "{used:#}");
    assert!(used["cpu_percent"].as_f64().is_some_and(|percent| (0.0..=100.0).contains(&percent)), "{used:#}");
    assert!(used["processes"].as_u64().is_some_and(|count| (1..=50).contains(&count)), "{used:#}");
}

#[tokio::test]
async fn a_list_holds_what_its_filters_ask_for() {
    let Some(engine) = Engine::shared() else { return };
    let image = engine.busybox().expect("a base image");
    let dock = Dock::at(&engine.endpoint()).await;
    let run = |name: &str, part: &str, command: &[&str], detach: bool| {
        let labels = json!({ "list": "yes", "part": part });
        json!({
            "image": image, "name": name, "network": "none", "labels": labels, "command": command, "detach": detach,
            "volumes": [format!("{name}-data:/data")],
        })
    };
    dock.result("docker.run", &run("list-up", "one", &["sh", "-c", WAITS], true)).await;
    dock.failure("docker.run", &run("list-done", "two", &["sh", "-c", "exit 7"], false)).await;
    let names = async |filters: Value| {
        let listed = dock.result("docker.ps", &filters).await;
        let items = listed.as_array().expect("a list");
        let mut names: Vec<String> = items.iter().filter_map(|item| item["name"].as_str()).map(str::to_owned).collect();
        names.sort();
        names
    };
    let mine = json!(["list=yes"]);
    assert_eq!(names(json!({ "labels": mine })).await, ["list-up"]);
    assert_eq!(names(json!({ "labels": mine, "all": true })).await, ["list-done", "list-up"]);
    assert_eq!(names(json!({ "labels": ["list=yes", "part=two"], "all": true })).await, ["list-done"]);
    assert_eq!(names(json!({ "labels": mine, "status": ["exited", "dead"] })).await, ["list-done"]);
    assert_eq!(names(json!({ "names": ["list-d"], "all": true })).await, ["list-done"]);
    assert_eq!(names(json!({ "volumes": ["list-up-data"] })).await, ["list-up"]);
    assert_eq!(names(json!({ "labels": mine, "networks": ["none"], "images": [image] })).await, ["list-up"]);
    assert_eq!(names(json!({ "labels": ["list=no"], "all": true })).await, Vec::<String>::new());
    let done = dock.result("docker.ps", &json!({ "names": ["list-done"], "all": true, "size": true })).await;
    let done = only(&done);
    assert_eq!((&done["state"], &done["exit_code"]), (&json!("exited"), &json!(7)), "{done:#}");
    assert!(done["total_bytes"].as_u64().is_some_and(|bytes| bytes > 1_000_000), "{done:#}");
    assert_eq!(done["written_bytes"], 0, "{done:#}");
}

#[tokio::test]
async fn a_program_inside_a_container_tells_its_exit_code_and_who_ran_it() {
    let Some(engine) = Engine::shared() else { return };
    let image = engine.busybox().expect("a base image");
    engine.run(&["run", "-d", "--network", "none", "--name", "inner", image, "sh", "-c", WAITS]).expect("it runs");
    let dock = Dock::at(&engine.endpoint()).await;
    let exec = |command: Value, more: Value| {
        let mut args = json!({ "container": "inner", "command": command });
        args.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        args
    };

    let script = json!(["sh", "-c", "id -u; echo $WHO; pwd; cat; echo oops >&2; exit 7"]);
    let more =
        json!({ "user": "1001:1002", "env": { "WHO": "me & you" }, "workdir": "/bin", "stdin": "from outside\n" });
    let failed = dock.failure("docker.exec", &exec(script, more)).await;
    assert_eq!((&failed["exit_code"], &failed["parsed"]), (&json!(7), &json!(true)), "{failed:#}");
    let result = &failed["result"];
    assert_eq!((&result["exit_code"], &result["stderr"]), (&json!(7), &json!("oops\n")), "{failed:#}");
    assert_eq!(result["stdout"], "1001\nme & you\n/bin\nfrom outside\n");
    assert_eq!(summary(&failed), "exited with 7: oops");

    let odd = json!(["echo", "$HOME; `id`", "--user=root", "-x"]);
    let echoed = dock.result("docker.exec", &exec(odd, json!({}))).await;
    assert_eq!(echoed["stdout"], "$HOME; `id` --user=root -x\n", "no shell and no option reads what stands behind it");

    for (args, code, said) in [
        // 127 from newer engines.
        (exec(json!(["nosuch"]), json!({})), 126, "there is no program `nosuch` in the container"),
        (exec(json!(["/bin"]), json!({})), 126, "`/bin` in the container is not a program that may be run"),
        (exec(json!(["id"]), json!({ "user": "nobodyx" })), 126, "there is no user `nobodyx` in the container"),
        (json!({ "container": "nosuch", "command": ["id"] }), 1, "there is no container `nosuch` on this machine"),
    ] {
        let failed = dock.failure("docker.exec", &args).await;
        assert_eq!(summary(&failed), said, "{args}: {failed:#}");
        assert!(failed["exit_code"] == code || (code == 126 && failed["exit_code"] == 127), "{args}: {failed:#}");
        assert_eq!(failed["result"], Value::Null, "no program ran, so nothing of one is told: {failed:#}");
    }
    engine.run(&["stop", "-t", "5", "inner"]).expect("stopped");
    let failed = dock.failure("docker.exec", &exec(json!(["id"]), json!({}))).await;
    assert!(summary(&failed).contains("is not running: "), "{failed:#}");
}

#[tokio::test]
async fn a_container_that_cannot_be_had_says_why() {
    let (Some(engine), Some(registry)) = (Engine::shared(), Registry::shared()) else { return };
    let image = engine.busybox().expect("a base image");
    let taken = engine.run(&["create", "--network", "none", "--name", "taken", image, "true"]).expect("created");
    let dock = Dock::at(&engine.endpoint()).await;
    let run = |more: Value| {
        let mut args = json!({ "image": image, "network": "none" });
        args.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        args
    };
    let missing = format!("{}/no/such:1", registry.address());
    for (args, code, said) in [
        (run(json!({ "image": missing })), 125, format!("the registry has no image `{missing}`")),
        (
            run(json!({ "image": "nosuch:1", "pull": "never" })),
            125,
            "there is no image `nosuch:1` on this machine".into(),
        ),
        (
            run(json!({ "name": "taken" })),
            125,
            format!("the name `taken` is taken by container {}: remove it or choose another name", &taken[..12]),
        ),
        (
            run(json!({ "command": ["nosuch"], "detach": false, "rm": true })),
            127,
            "there is no program `nosuch` in the container".into(),
        ),
        (
            run(json!({ "command": ["/bin"], "detach": false, "rm": true })),
            126,
            "`/bin` in the container is not a program that may be run".into(),
        ),
    ] {
        let failed = dock.failure("docker.run", &args).await;
        assert_eq!((&failed["exit_code"], summary(&failed)), (&json!(code), said.as_str()), "{args}: {failed:#}");
        assert_eq!(failed["result"], Value::Null, "{failed:#}");
    }

    // Nobody waits for this one, but what was made and could not be started is there, and is told.
    let failed = dock.failure("docker.run", &run(json!({ "name": "unstarted", "command": ["nosuch"] }))).await;
    let id = failed["result"]["container_id"].as_str().expect("an id").to_owned();
    assert_eq!(
        summary(&failed),
        format!(
            "container {} was created and is left; it did not start: there is no program `nosuch` in the container",
            &id[..12]
        )
    );
    let left = dock.result("docker.ps", &json!({ "names": ["unstarted"], "all": true })).await;
    assert_eq!((&only(&left)["id"], &only(&left)["state"]), (&json!(id), &json!("created")), "{left:#}");

    // A program's own failure is its own, with what it printed.
    let script = json!(["sh", "-c", "echo hello; echo oops >&2; exit 3"]);
    let failed = dock.failure("docker.run", &run(json!({ "command": script, "detach": false, "rm": true }))).await;
    let ended = &failed["result"]["ended"];
    assert_eq!((&ended["exit_code"], &failed["exit_code"]), (&json!(3), &json!(3)), "{failed:#}");
    assert_eq!((&ended["stdout"], &ended["stderr"]), (&json!("hello\n"), &json!("oops\n")), "{failed:#}");
    assert_eq!(summary(&failed), "exited with 3: oops");
}

#[tokio::test]
async fn a_secret_reaches_the_container_through_dockers_environment_and_stands_nowhere_else() {
    let Some(engine) = Engine::shared() else { return };
    let image = engine.busybox().expect("a base image");
    let dock = Dock::at(&engine.endpoint()).await;
    let canary = Canary::new();
    let script = "printf %s \"$TOKEN\" | sha256sum; echo \"it is $TOKEN\"";
    let args = json!({
        "image": image, "network": "none", "command": ["sh", "-c", script], "detach": false, "rm": true,
        "secret_env": { "TOKEN": canary.secret },
    });
    let id = dock.submit("docker.run", &args).await;
    let ended = dock.admin.ended(&id, MACHINE).await;
    assert_eq!(state_of(&ended), State::Succeeded, "{ended:#}");
    let stdout = ended["stdout"].as_str().expect("text");
    assert!(stdout.starts_with(&canary.sha256()) && stdout.ends_with("it is ***\n"), "{ended:#}");
    canary.is_not_in(&dock.admin.command(&id).await.to_string(), "the command");
    let of_agent = dock.agent.data().parent().expect("a folder").to_owned();
    canary.is_not_below(&[dock.host.scratch().to_owned(), of_agent], "after it");
}
