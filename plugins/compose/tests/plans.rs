//! Exact command lines for each flavour, and what cannot be planned.

use compose::{Down, Logs, PLUGIN, Ps, Up};
use viworks_sdk::failure::Code;
use viworks_sdk::json::{Value, json};
use viworks_sdk::step::Plan;
use viworks_sdk::{Context, Verb, test};

fn machine(compose: Option<&str>) -> Context {
    let mut context = test::context();
    context.profile.compose = compose.map(str::to_owned);
    context
}

#[track_caller]
fn plan<V: Verb>(compose: &str, args: Value) -> Plan {
    let planned = test::plan_on::<V>(&machine(Some(compose)), args);
    let plan = planned.unwrap_or_else(|failure| panic!("{compose}: {failure}"));
    // What is planned is what the plugin asks the operator for.
    PLUGIN.manifest().grants.permit(&plan).unwrap_or_else(|denied| panic!("{compose}: {denied}"));
    plan
}

fn lines(plan: &Plan) -> Vec<String> {
    plan.steps.iter().map(|step| format!("{} {}", step.program, step.args.join(" "))).collect()
}

#[track_caller]
fn refused<V: Verb>(compose: &str, args: Value, code: Code, said: &str) {
    let failure = test::plan_on::<V>(&machine(Some(compose)), args).map(|plan| lines(&plan)).expect_err("refused");
    assert_eq!(failure.code, code, "{failure}");
    assert!(failure.to_string().contains(said), "{failure}");
}

const FILE: &str = "services: { web: { image: nginx } }";

#[test]
fn a_host_would_load_this_plugin() {
    test::check(&PLUGIN);
}

#[test]
fn up_says_everything_it_was_told() {
    let args = json!({
        "project": "shop", "file": FILE, "services": ["web"], "profiles": ["a", "b"], "build": true, "pull": "always",
        "recreate": "always", "remove_orphans": true, "wait": true, "wait_timeout_s": 30, "stop_timeout_s": 5,
        "scale": { "web": 2, "db": 0 }, "env": { "A": "1" },
    });
    let up = "up --detach --build --pull=always --force-recreate --remove-orphans --wait --wait-timeout=30 --timeout=5 \
              --scale=db=0 --scale=web=2 -- web";
    for (flavour, begin) in [("v2", "docker compose"), ("v2-standalone", "docker-compose")] {
        let plan = plan::<Up>(flavour, args.clone());
        let common = format!("{begin} --ansi=never --project-name=shop");
        assert_eq!(
            lines(&plan),
            [
                format!("{common} --profile=a --profile=b --file=- {up}"),
                format!("{common} ps --all --no-trunc --format=json"),
            ]
        );
        assert_eq!(plan.steps[0].stdin.as_deref(), Some("{\"services\": {\"web\": {\"image\": nginx}}}\n"));
        assert_eq!(plan.steps[0].env.get("VIWORKS_VAR_A").map(String::as_str), Some("1"));
        assert_eq!((plan.steps[1].stdin.as_deref(), plan.steps[1].env.len()), (None, 0));
        assert_eq!(plan.locks, ["compose:shop"]);
    }
}

#[test]
fn up_on_the_old_compose_pulls_in_a_step_of_its_own() {
    let args = json!({ "project": "shop", "file": FILE, "pull": "always", "services": ["web"], "recreate": "never" });
    let plan = plan::<Up>("v1", args);
    let found = lines(&plan);
    assert_eq!(found[0], "docker-compose --ansi=never --project-name=shop --file=- pull -- web");
    assert_eq!(found[1], "docker-compose --ansi=never --project-name=shop --file=- up --detach --no-recreate -- web");
    let list = "docker ps --all --no-trunc --filter=label=com.docker.compose.project=shop";
    assert!(found[2].starts_with(list), "{}", found[2]);
    assert_eq!(plan.steps[0].stdin, plan.steps[1].stdin);
    assert!(plan.steps[1].stdin.is_some());
}

#[test]
fn a_file_on_the_machine_is_named_and_gets_its_variables_as_they_are() {
    let args = json!({ "project": "shop", "path": "/srv/a b/compose.yaml", "env": { "TAG": "1" } });
    let plan = plan::<Up>("v2", args);
    assert_eq!(plan.steps[0].args[3], "--file=/srv/a b/compose.yaml");
    assert_eq!(plan.steps[0].stdin, None);
    assert_eq!(plan.steps[0].env.keys().collect::<Vec<_>>(), ["TAG"]);
    for name in ["LD_PRELOAD", "DOCKER_HOST", "COMPOSE_FILE", "PYTHONPATH", "PATH", "HOME"] {
        let mut args = json!({ "project": "shop", "path": "/srv/compose.yaml", "env": {} });
        args["env"][name] = "x".into();
        refused::<Up>("v2", args, Code::InvalidArgs, name);
    }
}

#[test]
fn secrets_are_variables_of_the_file_and_stand_nowhere_but_in_composes_environment() {
    let file = "services: { web: { image: nginx, environment: { TOKEN: '${TOKEN}', DEBUG: '${DEBUG}' } } }";
    let secret = "{viworks-secret:0}";
    for (flavour, path) in
        [("v1", None), ("v2", None), ("v1", Some("/srv/compose.yaml")), ("v2", Some("/srv/compose.yaml"))]
    {
        let mut args = json!({ "project": "shop", "env": { "DEBUG": "1" }, "secret_env": { "TOKEN": secret } });
        match path {
            Some(path) => args["path"] = path.into(),
            None => args["file"] = file.into(),
        }
        let name = if path.is_some() { "TOKEN" } else { "VIWORKS_VAR_TOKEN" };
        for plan in [plan::<Up>(flavour, args.clone()), plan::<Down>(flavour, args.clone())] {
            let shown =
                |step: &viworks_sdk::step::Step| format!("{:?} {:?} {:?}", step.args, step.cwd, step.env.keys());
            assert!(!plan.steps.iter().any(|step| shown(step).contains(secret)), "{plan:?}");
            assert!(plan.steps.iter().any(|step| step.env.get(name).is_some_and(|value| value == secret)), "{plan:?}");
        }
    }
    let mut twice =
        json!({ "project": "shop", "file": file, "env": { "TOKEN": "x" }, "secret_env": { "TOKEN": secret } });
    refused::<Up>("v2", twice.clone(), Code::InvalidArgs, "/secret_env/TOKEN");
    twice.as_object_mut().expect("an object").remove("file");
    twice["env"] = json!({});
    refused::<Down>("v2", twice.clone(), Code::InvalidArgs, "/secret_env");
    for name in ["LD_PRELOAD", "DOCKER_HOST", "PATH"] {
        let args = json!({ "project": "shop", "path": "/srv/compose.yaml", "secret_env": { name: secret } });
        refused::<Up>("v2", args, Code::InvalidArgs, name);
    }
    // A mount that a secret names is judged as one that nobody knows.
    let mount = "services: { web: { image: nginx, volumes: ['${DIR}:/data'] } }";
    let args = json!({ "project": "shop", "file": mount, "secret_env": { "DIR": secret } });
    assert_eq!(plan::<Up>("v2", args).effect, viworks_sdk::Effect::Host);
}

#[test]
fn down_looks_before_and_after() {
    let plan = plan::<Down>("v2", json!({ "project": "shop", "volumes": true, "images": "all", "stop_timeout_s": 0 }));
    let found = lines(&plan);
    assert_eq!(found.len(), 7);
    assert_eq!(found[0], "docker ps --all --filter=label=com.docker.compose.project=shop --format={{json .Names}}");
    assert_eq!(found[1], "docker network ls --filter=label=com.docker.compose.project=shop --format={{json .Name}}");
    assert_eq!(found[2], "docker volume ls --filter=label=com.docker.compose.project=shop --format={{json .Name}}");
    assert_eq!(found[3], "docker compose --ansi=never --project-name=shop down --volumes --rmi=all --timeout=0");
    assert_eq!(found[4..], found[..3]);
    let said = "take down project shop with its volumes and all data in them, and all images it uses";
    assert_eq!(plan.summary, said);
}

#[test]
fn the_old_compose_is_told_what_it_cannot_find_out() {
    let found = lines(&plan::<Down>("v1", json!({ "project": "shop", "file": FILE, "remove_orphans": true })));
    assert_eq!(found[3], "docker-compose --ansi=never --project-name=shop --file=- down --remove-orphans");
    let plan = plan::<Logs>("v1", json!({ "project": "shop", "services": ["web", "db", "web"], "follow": true }));
    let logs =
        "docker-compose --ansi=never --project-name=shop --file=- logs --no-color --tail=1000 --follow -- web db web";
    assert_eq!(lines(&plan)[1], logs);
    let names = "{\"services\": {\"web\": {\"image\": \"none\"}, \"db\": {\"image\": \"none\"}}}\n";
    assert_eq!(plan.steps[1].stdin.as_deref(), Some(names));
}

#[test]
fn reading_needs_no_file_with_the_new_compose() {
    let found = lines(&plan::<Ps>("v2", json!({ "project": "shop" })));
    assert_eq!(found, ["docker compose --ansi=never --project-name=shop ps --no-trunc --format=json"]);
    let args =
        json!({ "project": "shop", "tail": 5, "since": "10m", "until": "2026-01-31T12:00:00Z", "timestamps": true });
    let found = lines(&plan::<Logs>("v2", args));
    let logs = "docker compose --ansi=never --project-name=shop logs --no-color --tail=5 --since=10m \
                --until=2026-01-31T12:00:00Z --timestamps";
    assert_eq!(found[1], logs);
}

#[test]
fn what_a_machine_cannot_do_is_refused_for_that_machine_only() {
    let up = |key: &str, value: Value| {
        let mut args = json!({ "project": "p", "file": FILE });
        args[key] = value;
        args
    };
    refused::<Up>("v1", up("wait", true.into()), Code::Unsupported, "cannot wait");
    refused::<Up>("v1", up("pull", "never".into()), Code::Unsupported, "`pull` is `policy` or `always`");
    refused::<Logs>("v1", json!({ "project": "p", "services": ["a"], "since": "1m" }), Code::Unsupported, "`since`");
    refused::<Logs>("v1", json!({ "project": "p" }), Code::InvalidArgs, "/services");
    refused::<Down>("v1", json!({ "project": "p" }), Code::InvalidArgs, "/file");
    refused::<Ps>("v3", json!({ "project": "p" }), Code::Unsupported, "compose is `v3`");
    let failure = test::plan_on::<Ps>(&machine(None), json!({ "project": "p" })).expect_err("refused");
    assert_eq!(failure.code, Code::Unsupported);
    assert!(failure.message.contains("has no compose"), "{failure}");
}

#[test]
fn arguments_that_cannot_go_together_are_refused_where_they_are() {
    refused::<Up>("v2", json!({ "project": "p" }), Code::InvalidArgs, "/file");
    refused::<Up>("v2", json!({ "project": "p", "file": FILE, "path": "/x" }), Code::InvalidArgs, "/path");
    refused::<Up>(
        "v2",
        json!({ "project": "p", "file": FILE, "wait_timeout_s": 3 }),
        Code::InvalidArgs,
        "/wait_timeout_s",
    );
    refused::<Up>("v2", json!({ "project": "p", "path": "/srv/../etc/x" }), Code::InvalidArgs, "/path");
    refused::<Down>("v2", json!({ "project": "p", "env": { "A": "1" } }), Code::InvalidArgs, "/env");
    refused::<Up>("v2", json!({ "project": "-p", "file": FILE }), Code::InvalidArgs, "/project");
    refused::<Up>(
        "v2",
        json!({ "project": "p", "file": FILE, "services": ["--help"] }),
        Code::InvalidArgs,
        "/services/0",
    );
    refused::<Up>("v2", json!({ "project": "p", "file": FILE, "scale": { "-a": 1 } }), Code::InvalidArgs, "/scale/-a");
    refused::<Logs>("v2", json!({ "project": "p", "since": "-v" }), Code::InvalidArgs, "/since");
    refused::<Up>(
        "v2",
        json!({ "project": "p", "file": "services: {a: {image: \"\0\"}}" }),
        Code::InvalidArgs,
        "/file",
    );
}

#[test]
fn recorded_answers_of_real_engines_mean_what_they_meant() {
    test::golden(&PLUGIN, env!("CARGO_MANIFEST_DIR"));
}

#[test]
fn hostile_text_is_refused_where_it_stands_or_stays_one_harmless_argument() {
    let tried = test::injections(&PLUGIN);
    println!("{tried:?}");
    assert!(tried.places >= 20 && tried.refused >= 100 && tried.planned > 0, "{tried:?}");
}
