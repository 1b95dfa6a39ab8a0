//! Compose projects on a real engine, with every flavour of compose that this machine has.

use std::path::{Path, PathBuf};

use domain::attempt::State;
use serde_json::{Value, json};
use servers::docker::Engine;
use servers::need;
use tests::client::state_of;
use tests::dock::{Dock, MACHINE, body, summary};
use tests::wait::until;

use crate::secrets::Canary;

/// Names compose 2's program when it lies elsewhere than where docker looks for its plugins.
const V2: &str = "VIWORKS_COMPOSE_V2";

const SHOP: &str = r#"
x-box: &box
  image: box:1
  network_mode: none
services:
  web:
    <<: *box
    command: [sh, -c, 'echo "hello $$WHO"; echo oops >&2; trap "exit 0" TERM; while :; do sleep 0.1; done']
    environment: [WHO]
    volumes: ["data:/data"]
    healthcheck: { test: [CMD, test, -d, /data], interval: 1s, timeout: 5s }
  job: { <<: *box, command: [sh, -c, "exit ${CODE}"] }
volumes:
  data:
"#;

/// A machine with docker-compose 1.x, or `None` after saying that there is none.
async fn old(engine: &Engine) -> Option<Dock> {
    if let Err(why) = need::find("docker-compose", "docker-compose") {
        need::skipped(&why);
        return None;
    }
    let dock = Dock::with(&engine.endpoint(), &["compose"], None).await;
    let flavour = flavour(&dock).await;
    if !flavour.starts_with("v1 ") {
        need::skipped(&format!("compose is `{flavour}` here, not docker-compose 1.x"));
        return None;
    }
    Some(dock)
}

/// A machine with compose 2 as docker's plugin, or `None` after saying that there is none. Debian 12 has
/// no package of it, so that `CI=true` does not ask for it.
async fn new(engine: &Engine, folder: &Path) -> Option<Dock> {
    let places = ["/usr/libexec/docker", "/usr/lib/docker", "/usr/local/lib/docker", "/usr/local/libexec/docker"];
    let places = places.map(|place| Path::new(place).join("cli-plugins/docker-compose"));
    let found = std::env::var_os(V2).map(PathBuf::from).into_iter().chain(places).find(|path| path.is_file());
    let Some(program) = found else {
        eprintln!("skipped: no compose 2 here; install docker's compose plugin, or name its file in {V2}");
        return None;
    };
    let plugins = folder.join("cli-plugins");
    std::fs::create_dir(&plugins).expect("a folder for plugins");
    std::os::unix::fs::symlink(program, plugins.join("docker-compose")).expect("a link");
    let dock = Dock::with(&engine.endpoint(), &["compose"], Some(folder)).await;
    let flavour = flavour(&dock).await;
    assert!(flavour.starts_with("v2 "), "{flavour}");
    Some(dock)
}

/// What the machine says of its compose.
async fn flavour(dock: &Dock) -> String {
    let agent = dock.admin.get(&format!("/api/v1/agents/{MACHINE}")).await.expect(200);
    let capabilities = agent["capabilities"].as_array().expect("a list");
    assert!(capabilities.contains(&json!("compose")), "{agent:#}");
    agent["compose"].as_str().unwrap_or_default().to_owned()
}

/// The ids of a project's containers of one service, sorted.
fn ids(list: &Value, service: &str) -> Vec<String> {
    let items = list.as_array().expect("a list").iter().filter(|container| container["service"] == service);
    let mut ids: Vec<String> = items.filter_map(|container| container["id"].as_str()).map(str::to_owned).collect();
    ids.sort();
    ids
}

/// Up, ps, logs, up again, down, down with data.
async fn a_life(dock: &Dock, project: &str) {
    let up = json!({
        "project": project, "file": SHOP, "env": { "WHO": "Ann  Ø", "CODE": "3" }, "scale": { "web": 2 },
        "stop_timeout_s": 5,
    });
    let first = dock.result("compose.up", &up).await;
    let web = json!({ "name": "web", "containers": 2, "running": 2, "unhealthy": 0 });
    assert_eq!((&first["services"][0]["name"], &first["services"][1]), (&json!("job"), &web), "{first:#}");
    assert_eq!(first["containers"].as_array().map(Vec::len), Some(3), "{first:#}");

    let ps = json!({ "project": project, "all": true });
    let listed = until("its containers are healthy, or have ended", async || {
        let listed = dock.result("compose.ps", &ps).await;
        let done = listed.as_array()?.iter().all(|c| c["health"] == "healthy" || c["state"] == "exited");
        done.then_some(listed)
    })
    .await;
    let job = listed.as_array().expect("a list").iter().find(|c| c["service"] == "job").expect("the job");
    assert_eq!((&job["state"], &job["exit_code"], &job["ports"]), (&json!("exited"), &json!(3), &json!([])), "{job:#}");
    assert_eq!((ids(&listed, "web").len(), ids(&listed, "job")), (2, ids(&first["containers"], "job")));
    let running = dock.result("compose.ps", &json!({ "project": project, "services": ["web", "job"] })).await;
    assert_eq!(ids(&running, "web"), ids(&listed, "web"));
    assert_eq!(running.as_array().map(Vec::len), Some(2), "{running:#}");

    let read = json!({ "project": project, "services": ["web", "job"], "tail": 5, "timestamps": true });
    let written = dock.result("compose.logs", &read).await;
    let lines = written["lines"].as_array().expect("lines");
    let said: Vec<&Value> = lines.iter().filter(|line| line["text"] == "hello Ann  Ø").collect();
    assert_eq!((said.len(), lines.len()), (2, 4), "{written:#}");
    for line in said {
        assert_eq!(line["service"], "web", "{line:#}");
        assert!(
            line["timestamp"].as_str().is_some_and(|time| time.starts_with("20") && time.ends_with('Z')),
            "{line:#}"
        );
    }

    // Nothing changed: the same containers. Made anew: others.
    let again = dock.result("compose.up", &up).await;
    assert_eq!(ids(&again["containers"], "web"), ids(&listed, "web"));
    let mut anew = up.clone();
    anew["recreate"] = "always".into();
    anew["services"] = json!(["web"]);
    let anew = dock.result("compose.up", &anew).await;
    assert!(ids(&anew["containers"], "web").iter().all(|id| !ids(&listed, "web").contains(id)), "{anew:#}");

    // The job has left the file.
    let less = json!({
        "project": project, "file": "services: { web: { image: 'box:1', network_mode: none, command: sleep 600, stop_signal: KILL } }",
        "remove_orphans": true, "stop_timeout_s": 5,
    });
    let less = dock.result("compose.up", &less).await;
    assert_eq!(less["containers"].as_array().map(Vec::len), Some(1), "{less:#}");
    assert_eq!(less["services"], json!([{ "name": "web", "containers": 1, "running": 1, "unhealthy": 0 }]));

    let mut down = json!({ "project": project, "file": SHOP, "env": { "CODE": "0" }, "stop_timeout_s": 5 });
    let gone = dock.result("compose.down", &down).await;
    assert_eq!(gone["removed"]["containers"].as_array().map(Vec::len), Some(1), "{gone:#}");
    assert_eq!(gone["left"], json!({ "containers": [], "networks": [], "volumes": [format!("{project}_data")] }));
    down["volumes"] = true.into();
    let gone = dock.result("compose.down", &down).await;
    assert_eq!(gone["removed"]["volumes"], json!([format!("{project}_data")]));
    assert_eq!(gone["left"]["volumes"], json!([]));
    assert_eq!(dock.result("compose.ps", &ps).await, json!([]));
}

/// What is judged is what compose makes of a file, through anchors and variables.
async fn judged(dock: &Dock, engine: &Engine, project: &str) {
    let privileged = |name: &str| {
        let id =
            engine.run(&["ps", "--all", "--quiet", "--filter", &format!("label=com.docker.compose.service={name}")]);
        engine.run(&["inspect", "--format", "{{.HostConfig.Privileged}}", &id.expect("its id")]).expect("inspected")
    };
    let (plain, strong) = (format!("{project}-plain"), format!("{project}-strong"));
    let file = format!(
        "x-all: &all {{ image: 'box:1', network_mode: none, command: sleep 600, stop_signal: KILL, privileged: yes }}\n\
         services:\n  {plain}: {{ <<: *all, privileged: no }}\n"
    );
    let up = json!({ "project": project, "file": file });
    let id = dock.submit("compose.up", &up).await;
    let ended = dock.admin.ended(&id, MACHINE).await;
    assert_eq!(state_of(&ended), State::Succeeded, "{ended:#}");
    let said = dock.admin.command(&id).await["summary"].as_str().unwrap_or_default().to_owned();
    assert_eq!((said.contains("host because"), privileged(&plain).as_str()), (false, "false"), "{said}");

    // Some machines refuse to run it, but only after compose has made it.
    let up = json!({ "project": project, "file": format!("{file}  {strong}: {{ <<: *all }}\n") });
    let id = dock.submit("compose.up", &up).await;
    dock.admin.ended(&id, MACHINE).await;
    let said = dock.admin.command(&id).await["summary"].as_str().unwrap_or_default().to_owned();
    let expected = format!("host because /services/{strong}/privileged");
    assert_eq!((said.contains(&expected), privileged(&strong).as_str()), (true, "true"), "{said}");
    dock.result("compose.down", &up).await;
}

/// A file on the machine, and what is told when things go wrong.
async fn elsewhere_and_wrong(dock: &Dock, engine: &Engine, project: &str) {
    let folder = tempfile::tempdir_in(engine.dir()).expect("a folder");
    let path = folder.path().join("compose.yaml");
    std::fs::write(&path, "services: { a: { image: '${BOX}', network_mode: none, command: echo from the file } }")
        .expect("written");
    let path = path.display().to_string();
    let args = json!({ "project": project, "path": path, "env": { "BOX": "box:1" } });
    let up = dock.result("compose.up", &args).await;
    assert_eq!(up["containers"][0]["service"], "a", "{up:#}");
    let read = json!({ "project": project, "services": ["a"] });
    let written = until("it has written", async || {
        let written = dock.result("compose.logs", &read).await;
        written["lines"].as_array().is_some_and(|lines| !lines.is_empty()).then_some(written)
    })
    .await;
    assert_eq!(written["lines"][0]["text"], "from the file", "{written:#}");
    let gone = dock.result("compose.down", &args).await;
    assert_eq!(gone["removed"]["containers"].as_array().map(Vec::len), Some(1), "{gone:#}");

    let missing = json!({ "project": project, "path": format!("{path}.nowhere") });
    let failed = dock.failure("compose.up", &missing).await;
    assert!(failed["stderr"].as_str().is_some_and(|text| text.contains("compose.yaml.nowhere")), "{failed:#}");
    let file = "services: { a: { image: '127.0.0.1:1/missing', network_mode: none } }";
    let failed = dock.failure("compose.up", &json!({ "project": project, "file": file })).await;
    assert!(summary(&failed).contains("connection refused"), "{failed:#}");
    let file = "services: { a: { image: 'box:1', network_mode: none, ports: { no: list } } }";
    let failed = dock.failure("compose.up", &json!({ "project": project, "file": file })).await;
    assert!(summary(&failed).starts_with("exited with "), "{failed:#}");

    // Following ends with the run timeout, and keeps what was written until then.
    let file = "services: { a: { image: 'box:1', network_mode: none, command: [sh, -c, 'echo first; sleep 600'], stop_signal: KILL } }";
    let args = json!({ "project": project, "file": file });
    dock.result("compose.up", &args).await;
    let mut follow = body("compose.logs", &json!({ "project": project, "services": ["a"], "follow": true }));
    for ms in [5_000, 20_000, 80_000] {
        follow["run_timeout_ms"] = ms.into();
        let id = dock.admin.submit(&follow).await;
        let ended = dock.admin.ended(&id, MACHINE).await;
        assert_eq!(state_of(&ended), State::TimedOut, "{ended:#}");
        // A busy machine may need longer to begin.
        if ended["stdout"].as_str().is_some_and(|text| text.contains("first")) {
            break;
        }
        assert!(ms < 80_000, "{ended:#}");
    }
    dock.result("compose.down", &args).await;
}

/// A secret of a project reaches its container, and stands nowhere but there.
async fn secret(dock: &Dock, project: &str) {
    let canary = Canary::new();
    let file = "services: { web: { image: 'box:1', network_mode: none, stop_signal: KILL, environment: { TOKEN: '${TOKEN:?}' }, \
                command: [sh, -c, 'printf %s \"$$TOKEN\" | sha256sum; sleep 600'] } }";
    let args = json!({ "project": project, "file": file, "secret_env": { "TOKEN": canary.secret } });
    let id = dock.submit("compose.up", &args).await;
    let ended = dock.admin.ended(&id, MACHINE).await;
    assert_eq!(state_of(&ended), State::Succeeded, "{ended:#}");
    let written = until("it has said what it was given", async || {
        let written = dock.result("compose.logs", &json!({ "project": project, "services": ["web"] })).await;
        written["lines"].as_array().is_some_and(|lines| !lines.is_empty()).then_some(written)
    })
    .await;
    assert!(written["lines"][0]["text"].as_str().is_some_and(|text| text.starts_with(&canary.sha256())), "{written:#}");
    dock.result("compose.down", &args).await;
    canary.is_not_in(&dock.admin.command(&id).await.to_string(), "the command");
    let of_agent = dock.agent.data().parent().expect("a folder").to_owned();
    canary.is_not_below(&[dock.host.scratch().to_owned(), of_agent], "after it");
}

#[tokio::test]
async fn the_old_compose_takes_a_project_through_its_life() {
    let Some(engine) = Engine::shared() else { return };
    engine.busybox().expect("a base image");
    let Some(dock) = old(engine).await else { return };
    a_life(&dock, "old").await;
    judged(&dock, engine, "oldjudged").await;
    elsewhere_and_wrong(&dock, engine, "oldfile").await;
    secret(&dock, "oldsecret").await;
}

#[tokio::test]
async fn the_new_compose_takes_a_project_through_its_life() {
    let Some(engine) = Engine::shared() else { return };
    engine.busybox().expect("a base image");
    let folder = tempfile::tempdir_in(engine.dir()).expect("a folder");
    let Some(dock) = new(engine, folder.path()).await else { return };
    a_life(&dock, "new").await;
    judged(&dock, engine, "newjudged").await;
    elsewhere_and_wrong(&dock, engine, "newfile").await;
    secret(&dock, "newsecret").await;
}
