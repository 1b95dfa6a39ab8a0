use viworks_sdk::test;

use super::*;

#[track_caller]
fn planned(args: Value) -> viworks_sdk::step::Plan {
    test::plan::<Run>(args).expect("accepted")
}

#[test]
fn everything_stands_before_the_image_and_the_command_behind_it() {
    let plan = planned(json!({
        "image": "nginx:1.27", "command": ["-g", "daemon off;", "--privileged"], "name": "web", "rm": true,
        "pull": "always", "platform": "linux/amd64", "env": { "A": "-b", "TZ": "UTC" }, "labels": { "a.b/c": "d=e" },
        "entrypoint": "", "user": "1000:1000", "workdir": "/srv", "hostname": "web-1", "init": true, "read_only": true,
        "ports": ["127.0.0.1:8080:80"], "volumes": ["data:/data:ro"], "tmpfs": ["/run:size=1m"], "network": "front",
        "network_aliases": ["www"], "extra_hosts": { "db": "10.0.0.1" }, "dns": ["1.1.1.1"], "memory": "512m",
        "cpus": 1.5, "pids_limit": 50, "shm_size": "64m", "ulimits": { "nofile": "1024:2048" },
        "log_driver": "json-file", "log_opts": { "max-size": "1m" }, "stop_signal": "SIGINT", "stop_timeout": 3,
        "cap_drop": ["ALL"], "security_opt": ["no-new-privileges"], "ipc": "private", "cgroupns": "private",
        "healthcheck": { "command": "test -f /ok", "interval": "5s", "timeout": "1s", "start_period": "1m", "retries": 3 },
    }));
    assert_eq!(
        plan.steps[0].args,
        [
            "run",
            "--detach",
            "--rm",
            "--init",
            "--read-only",
            "--env=A=-b",
            "--env=TZ=UTC",
            "--label=a.b/c=d=e",
            "--ulimit=nofile=1024:2048",
            "--log-opt=max-size=1m",
            "--name=web",
            "--platform=linux/amd64",
            "--entrypoint=",
            "--user=1000:1000",
            "--workdir=/srv",
            "--hostname=web-1",
            "--publish=127.0.0.1:8080:80",
            "--volume=data:/data:ro",
            "--tmpfs=/run:size=1m",
            "--network=front",
            "--network-alias=www",
            "--add-host=db:10.0.0.1",
            "--dns=1.1.1.1",
            "--memory=512m",
            "--cpus=1.5",
            "--pids-limit=50",
            "--shm-size=64m",
            "--log-driver=json-file",
            "--stop-signal=SIGINT",
            "--stop-timeout=3",
            "--cap-drop=ALL",
            "--security-opt=no-new-privileges",
            "--ipc=private",
            "--cgroupns=private",
            "--pull=always",
            "--health-cmd=test -f /ok",
            "--health-interval=5s",
            "--health-timeout=1s",
            "--health-start-period=1m",
            "--health-retries=3",
            "--",
            "nginx:1.27",
            "-g",
            "daemon off;",
            "--privileged",
        ]
    );
    assert_eq!(plan.effect, Effect::Change);
}

#[test]
fn what_hands_the_machine_over_is_the_hosts() {
    for (extra, option) in [
        (json!({ "privileged": true }), "--privileged"),
        (json!({ "network": "host" }), "--network=host"),
        (json!({ "network": "container:db" }), "--network=container:db"),
        (json!({ "pid": "host" }), "--pid=host"),
        (json!({ "pid": "container:db" }), "--pid=container:db"),
        (json!({ "ipc": "host" }), "--ipc=host"),
        (json!({ "ipc": "container:db" }), "--ipc=container:db"),
        (json!({ "uts": "host" }), "--uts=host"),
        (json!({ "userns": "host" }), "--userns=host"),
        (json!({ "cgroupns": "host" }), "--cgroupns=host"),
        (json!({ "devices": ["/dev/sda:/dev/xvda:r"] }), "--device=/dev/sda:/dev/xvda:r"),
        (json!({ "gpus": "all" }), "--gpus=all"),
        (json!({ "cap_add": ["SYS_ADMIN"] }), "--cap-add=SYS_ADMIN"),
        (json!({ "security_opt": ["seccomp=unconfined"] }), "--security-opt=seccomp=unconfined"),
        (json!({ "security_opt": ["no-new-privileges", "apparmor=x"] }), "--security-opt=apparmor=x"),
        (json!({ "security_opt": ["no-new-privileges:false"] }), "--security-opt=no-new-privileges:false"),
        (json!({ "volumes": ["/:/host"] }), "--volume=/:/host"),
        (json!({ "volumes": ["data:/d", "/etc/x:/x:ro"] }), "--volume=/etc/x:/x:ro"),
        (
            json!({ "volumes": ["/var/run/docker.sock:/var/run/docker.sock"] }),
            "--volume=/var/run/docker.sock:/var/run/docker.sock",
        ),
    ] {
        let mut args = json!({ "image": "a" });
        let (Value::Object(into), Value::Object(from)) = (&mut args, extra) else { panic!("objects") };
        into.extend(from);
        let plan = planned(args.clone());
        assert_eq!(plan.effect, Effect::Host, "{args}");
        assert!(plan.steps[0].args.iter().any(|arg| arg == option), "{args}: {:?}", plan.steps[0].args);
    }
}

#[test]
fn what_does_not_hand_it_over_is_a_change() {
    for extra in [
        json!({}),
        json!({ "user": "root" }),
        json!({ "volumes": ["data:/var/run/docker.sock", "/anonymous"] }),
        json!({ "ports": ["80:80"] }),
        json!({ "network": "none" }),
        json!({ "network": "bridge" }),
        json!({ "security_opt": ["no-new-privileges:true"] }),
        json!({ "cap_drop": ["ALL"] }),
        json!({ "ipc": "none" }),
        json!({ "restart": "always" }),
    ] {
        let mut args = json!({ "image": "a" });
        let (Value::Object(into), Value::Object(from)) = (&mut args, extra) else { panic!("objects") };
        into.extend(from);
        assert_eq!(planned(args.clone()).effect, Effect::Change, "{args}");
    }
}

#[test]
fn what_docker_would_refuse_is_refused_where_it_is_wrong() {
    for (args, pointers) in [
        (json!({}), &["/image"][..]),
        (json!({ "image": "-it" }), &["/image"]),
        (json!({ "image": "a", "rm": true, "restart": "always" }), &["/rm"]),
        (json!({ "image": "a", "stdin": "x" }), &["/stdin"]),
        (json!({ "image": "a", "ports": ["80", "x"] }), &["/ports/1"]),
        (
            json!({ "image": "a", "volumes": ["./x:/x", "~/y:/y"], "tmpfs": ["run"] }),
            &["/volumes/0", "/volumes/1", "/tmpfs/0"],
        ),
        (json!({ "image": "a", "network": "host", "ports": ["80"] }), &["/ports"]),
        (json!({ "image": "a", "network": "container:b", "hostname": "c" }), &["/hostname"]),
        (json!({ "image": "a", "healthcheck": { "command": "x" }, "no_healthcheck": true }), &["/no_healthcheck"]),
        (json!({ "image": "a", "healthcheck": {} }), &["/healthcheck/command"]),
        (json!({ "image": "a", "cpus": 0 }), &["/cpus"]),
        (json!({ "image": "a", "uts": "private" }), &["/uts"]),
        (json!({ "image": "a", "command": ["x\u{0}"] }), &["/command/0"]),
    ] {
        let failure = test::plan::<Run>(args.clone()).expect_err("refused");
        let found: Vec<&str> = failure.issues.iter().map(|issue| issue.pointer.as_str()).collect();
        assert_eq!(found, pointers, "{args}");
    }
}

#[test]
fn what_docker_could_not_do_is_not_the_programs_failure() {
    let args = json!({ "image": "a", "detach": false });
    let said = "docker: Error response from daemon: failed to create shim task: OCI runtime create failed: runc create \
                failed: unable to start container process: exec: \"nosuch\": executable file not found in $PATH: unknown.\n\
                time=\"2026-11-24T04:09:56Z\" level=error msg=\"error waiting for container: context canceled\"\n";
    let answer = test::interpret::<Run>(args.clone(), &test::exited(127).with_stderr(said)).expect("judged");
    assert_eq!(
        (&answer.result, answer.summary.as_str()),
        (&Value::Null, "there is no program `nosuch` in the container")
    );
    for code in [1, 125, 126, 127] {
        let answer = test::interpret::<Run>(args.clone(), &test::exited(code).with_stderr("no\n")).expect("read");
        assert_eq!(answer.result["ended"]["exit_code"], code);
        assert_eq!(answer.summary, format!("exited with {code}: no"));
    }
}

#[test]
fn an_engine_that_went_away_is_not_the_programs_end() {
    let args = json!({ "image": "a", "detach": false });
    let said = "tick\ntime=\"2026-11-24T04:07:41Z\" level=error msg=\"error waiting for container: unexpected EOF\"\n";
    let answer =
        test::interpret::<Run>(args, &test::exited(125).with_stdout("tick\n").with_stderr(said)).expect("judged");
    let words =
        "the docker engine went away meanwhile (unexpected EOF): what became of it is to be seen when it is back";
    assert_eq!((answer.succeeded, answer.result, answer.summary.as_str()), (false, Value::Null, words));
}

#[test]
fn secrets_pass_through_dockers_own_environment() {
    let plan =
        planned(json!({ "image": "a", "env": { "TZ": "UTC" }, "secret_env": { "TOKEN": "{viworks-secret:0}" } }));
    assert_eq!(plan.steps[0].args, ["run", "--detach", "--env=TZ=UTC", "--env=TOKEN", "--", "a"]);
    assert_eq!(plan.steps[0].env, BTreeMap::from([("TOKEN".to_owned(), "{viworks-secret:0}".to_owned())]));
    for name in ["DOCKER_HOST", "LD_PRELOAD", "PATH", "https_proxy", "TZ"] {
        let args = json!({ "image": "a", "env": { "TZ": "UTC" }, "secret_env": { name: "x" } });
        let failure = test::plan::<Run>(args).expect_err("docker's own, or given twice");
        assert_eq!(failure.issues[0].pointer, format!("/secret_env/{name}"), "{failure}");
    }
}

#[test]
fn a_container_that_was_created_and_not_started_is_told() {
    let id = "0c5ec12825cd09cbca79090b8ca168618c64ce7dbb4f4a8bbf36f9d7fd044fa3";
    let out = test::exited(125).with_stdout(format!("{id}\n")).with_stderr(
        "docker: Error response from daemon: driver failed programming external connectivity on endpoint web (1f): Bind \
         for 0.0.0.0:80 failed: port is already allocated.\n",
    );
    let answer = test::interpret::<Run>(json!({ "image": "a" }), &out).expect("read");
    assert_eq!((answer.succeeded, &answer.result["container_id"]), (false, &json!(id)));
    assert_eq!(
        answer.summary,
        "container 0c5ec12825cd was created and is left; it did not start: port 0.0.0.0:80 of the machine is already in \
         use: publish another, or stop what has it"
    );
}

#[test]
fn a_detached_run_answers_with_the_id_and_warnings() {
    let id = "ca093569f0f8121881f847c0e6f4ad7a0c54a37a8892052a02eea97e4d2c0bb2";
    let out = test::exited(0).with_stdout(format!("{id}\n")).with_stderr(
        "Unable to find image 'a:1' locally\n1: Pulling from a\nStatus: Downloaded newer image for a:1\n\
         WARNING: Published ports are discarded when using host network mode\n",
    );
    let answer = test::interpret::<Run>(json!({ "image": "a:1" }), &out).expect("read");
    let warnings = json!(["Published ports are discarded when using host network mode"]);
    assert_eq!(answer.result, json!({ "container_id": id, "warnings": warnings }));
    assert_eq!(answer.summary, "started container ca093569f0f8");
    let taken = "docker: Error response from daemon: Conflict. The container name \"/web\" is already in use by container \
                 \"ffe46f765ccbee34f8ce8a79a592232f6b88aa7172f4b71b1809f45f61d75520\". You have to remove (or rename) that \
                 container to be able to reuse that name.\nSee 'docker run --help'.\n";
    let answer =
        test::interpret::<Run>(json!({ "image": "a" }), &test::exited(125).with_stderr(taken)).expect("judged");
    assert_eq!(answer.summary, "the name `web` is taken by container ffe46f765ccb: remove it or choose another name");
}
