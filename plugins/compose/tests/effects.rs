//! Which compose files are `change` and which are `host`, and what the plan says of the reason. Each row
//! is a file, or one line of a service in it.

use compose::{Down, Up};
use viworks_sdk::Effect;
use viworks_sdk::json::{Value, json};
use viworks_sdk::test;

/// A file with one service that has these lines.
fn service(lines: &str) -> String {
    let lines: String = lines.lines().map(|line| format!("    {line}\n")).collect();
    format!("services:\n  web:\n    image: nginx\n{lines}")
}

/// What the plan's sentence names as the reason for `host`; `None` when the effect is `change`.
#[track_caller]
fn raised(file: &str) -> Option<String> {
    let plan = test::plan::<Up>(json!({ "project": "p", "file": file }));
    let plan = plan.unwrap_or_else(|failure| panic!("{file}\n{failure}"));
    let why = plan.summary.strip_prefix("start project p from the given file; host because ").map(str::to_owned);
    assert_eq!(plan.effect, if why.is_some() { Effect::Host } else { Effect::Change }, "{file}\n{}", plan.summary);
    why
}

#[track_caller]
fn rows(rows: &[(&str, &str)], file: impl Fn(&str) -> String) {
    for (text, expected) in rows {
        let file = file(text);
        let found = raised(&file);
        match (*expected, found) {
            ("", None) => {}
            ("", Some(why)) => panic!("should be change, is host because {why}:\n{file}"),
            (expected, Some(why)) => assert!(why.starts_with(expected), "`{why}` is not `{expected}`:\n{file}"),
            (expected, None) => panic!("should be host because {expected}, is change:\n{file}"),
        }
    }
}

#[test]
fn what_a_service_may_say() {
    rows(
        &[
            // Harmless.
            ("command: sh -c 'rm -rf /'\nuser: root\ntty: true\ninit: true", ""),
            ("environment: { PRIVILEGED: 'true', A: null }\nlabels: [a=b]", ""),
            ("ports: ['80:80', '127.0.0.1:8080:80/udp', { target: 80, published: 80 }]", ""),
            ("restart: unless-stopped\nmem_limit: 1g\ncpus: 0.5\nulimits: { nofile: 1024 }", ""),
            ("healthcheck: { test: [CMD, 'true'], interval: 5s }\ndepends_on: [db]", ""),
            ("cap_drop: [ALL]\nread_only: true\ntmpfs: [/run, '/tmp:size=1m']", ""),
            ("deploy: { replicas: 2, resources: { limits: { memory: 1g }, reservations: { cpus: '1' } } }", ""),
            ("logging: { driver: json-file, options: { max-size: 10m } }", ""),
            ("networks: { default: { aliases: [a] } }\nextra_hosts: ['a:1.2.3.4']", ""),
            ("secrets: [a, { source: b, target: c, mode: 0400 }]", ""),
            ("x-anything: { privileged: true }", ""),
            // Privileged, in the spellings both flavours read.
            ("privileged: true", "/services/web/privileged gives the container every capability"),
            ("privileged: True", "/services/web/privileged"),
            ("privileged: yes", "/services/web/privileged"),
            ("privileged: on", "/services/web/privileged"),
            ("privileged: y", "/services/web/privileged"),
            ("privileged: 'true'", "/services/web/privileged"),
            ("privileged: \"tr\\u0075e\"", "/services/web/privileged"),
            ("privileged: 1", "/services/web/privileged"),
            ("privileged: ${P}", "/services/web/privileged"),
            ("privileged: ${P:-false}", "/services/web/privileged"),
            ("privileged: { a: b }", "/services/web/privileged"),
            ("\"privileg\\x65d\": true", "/services/web/privileged"),
            ("privileged: false", ""),
            ("privileged: No", ""),
            ("privileged: 'false'", ""),
            ("privileged:", ""),
            ("Privileged: true", "/services/web/Privileged is not known to be harmless"),
            // Namespaces.
            ("network_mode: host", "/services/web/network_mode joins the machine's own network"),
            ("network_mode: 'host'", "/services/web/network_mode"),
            ("network_mode: container:abc", "/services/web/network_mode"),
            ("network_mode: ${MODE}", "/services/web/network_mode"),
            ("network_mode: service:${S}", "/services/web/network_mode"),
            ("network_mode: none", ""),
            ("network_mode: bridge", ""),
            ("network_mode: service:db", ""),
            ("pid: host", "/services/web/pid"),
            ("pid: container:abc", "/services/web/pid"),
            ("pid: service:db", ""),
            ("ipc: host", "/services/web/ipc"),
            ("ipc: shareable", ""),
            ("uts: host", "/services/web/uts"),
            ("userns_mode: host", "/services/web/userns_mode"),
            ("cgroup: host", "/services/web/cgroup"),
            ("cgroup: private", ""),
            ("cgroup_parent: /", "/services/web/cgroup_parent"),
            ("runtime: nvidia", "/services/web/runtime"),
            ("runtime: runc", ""),
            ("isolation: process", "/services/web/isolation"),
            // Devices, capabilities, confinement.
            ("devices: [/dev/sda]", "/services/web/devices gives devices"),
            ("devices: ${D}", "/services/web/devices"),
            ("devices: []", ""),
            ("device_cgroup_rules: ['c 1:3 mr']", "/services/web/device_cgroup_rules"),
            ("gpus: all", "/services/web/gpus"),
            (
                "deploy: { resources: { reservations: { devices: [{ capabilities: [gpu] }] } } }",
                "/services/web/deploy/resources/reservations/devices",
            ),
            ("cap_add: [SYS_ADMIN]", "/services/web/cap_add adds capabilities"),
            ("cap_add:\n- NET_ADMIN", "/services/web/cap_add"),
            ("cap_add: []", ""),
            ("security_opt: [seccomp:unconfined]", "/services/web/security_opt/0 loosens"),
            ("security_opt: [no-new-privileges:true, 'apparmor=unconfined']", "/services/web/security_opt/1"),
            ("security_opt: ['no-new-privileges:true']", ""),
            ("credential_spec: { file: a.json }", "/services/web/credential_spec"),
            ("oom_kill_disable: true", "/services/web/oom_kill_disable"),
            ("use_api_socket: true", "/services/web/use_api_socket"),
            ("provider: { type: model }", "/services/web/provider runs a program of the machine"),
            ("post_start: [{ command: id, privileged: true }]", "/services/web/post_start"),
            ("logging: { driver: fluentd }", "/services/web/logging/driver"),
            // Other files and directories.
            ("env_file: .env", "/services/web/env_file reads a file"),
            ("env_file: [{ path: a.env, required: false }]", "/services/web/env_file"),
            ("label_file: a", "/services/web/label_file"),
            ("extends: { file: base.yml, service: web }", "/services/web/extends brings in another file"),
            ("extends: { service: db }", ""),
            ("extends: db", ""),
            ("build: .", "/services/web/build builds from a directory"),
            ("build: { context: /srv }", "/services/web/build/context"),
            ("build: { context: ../x }", "/services/web/build/context"),
            ("build: { dockerfile_inline: FROM scratch }", "/services/web/build builds from a directory"),
            ("build: 'https://github.com/a/b.git#main'", ""),
            ("build: { context: 'https://github.com/a/b.git', args: { A: 1 }, target: t }", ""),
            ("build: { context: 'https://github.com/a/b.git', network: host }", "/services/web/build/network"),
            ("build: { context: 'https://github.com/a/b.git', privileged: true }", "/services/web/build/privileged"),
            ("build: { context: 'https://github.com/a/b.git', ssh: [default] }", "/services/web/build/ssh"),
            (
                "build: { context: 'https://github.com/a/b.git', dockerfile: /etc/passwd }",
                "/services/web/build/dockerfile",
            ),
            (
                "build: { context: 'https://github.com/a/b.git', additional_contexts: { a: / } }",
                "/services/web/build/additional_contexts",
            ),
            ("build: ${CONTEXT}", "/services/web/build"),
            // What this page has never heard of.
            ("brand_new_power: 9000", "/services/web/brand_new_power is not known to be harmless"),
        ],
        service,
    );
}

#[test]
fn which_mounts_show_the_machine() {
    let mount = |item: &str| service(&format!("volumes:\n- {item}"));
    rows(
        &[
            ("data:/data", ""),
            ("data:/data:ro", ""),
            ("'my-data.2:/data:rw,nocopy'", ""),
            ("/data", ""),
            ("{ type: volume, source: data, target: /data, volume: { nocopy: true } }", ""),
            ("{ type: volume, target: /data }", ""),
            ("{ type: tmpfs, target: /run, tmpfs: { size: 1000 } }", ""),
            ("/etc:/host", "/services/web/volumes/0 mounts a path of the machine"),
            ("/:/host:ro", "/services/web/volumes/0 mounts a path"),
            ("./src:/src", "/services/web/volumes/0 mounts a path"),
            ("../src:/src", "/services/web/volumes/0 mounts a path"),
            (".:/src", "/services/web/volumes/0 mounts a path"),
            ("~/x:/x", "/services/web/volumes/0 mounts a path"),
            ("~:/x", "/services/web/volumes/0 mounts a path"),
            ("/var/run/docker.sock:/var/run/docker.sock", "/services/web/volumes/0 mounts a path"),
            ("'${SRC}:/x'", "/services/web/volumes/0 may mount"),
            ("'$SRC:/x'", "/services/web/volumes/0 may mount"),
            ("'data:${DST}'", "/services/web/volumes/0 may mount"),
            ("'${BOTH}'", "/services/web/volumes/0 may mount"),
            ("data:/x:rshared", "/services/web/volumes/0 may mount"),
            ("data:x:/y:ro", "/services/web/volumes/0 may mount"),
            ("'C:\\\\x:/x'", "/services/web/volumes/0 may mount"),
            ("'C:/x:/x'", "/services/web/volumes/0 may mount"),
            ("{ type: bind, source: /etc, target: /host }", "/services/web/volumes/0/type mounts a path"),
            ("{ type: 'bind', source: ., target: /host }", "/services/web/volumes/0/type mounts a path"),
            ("{ type: npipe, source: x, target: y }", "/services/web/volumes/0/type"),
            ("{ type: '${T}', source: x, target: y }", "/services/web/volumes/0/type"),
            ("{ source: /etc, target: /x }", "/services/web/volumes/0/type"),
            ("{ type: volume, source: /etc, target: /x }", "/services/web/volumes/0/source"),
            ("{ type: volume, source: '${S}', target: /x }", "/services/web/volumes/0/source"),
            (
                "{ type: volume, source: d, target: /x, bind: { propagation: shared } }",
                "/services/web/volumes/0/source",
            ),
            (
                "{ type: volume, source: data, target: /x, bind: { create_host_path: true } }",
                "/services/web/volumes/0/bind",
            ),
        ],
        mount,
    );
    rows(
        &[
            ("volumes: ${V}", "/services/web/volumes"),
            ("volumes: { a: /b }", "/services/web/volumes"),
            ("volumes_from: ['container:x']", "/services/web/volumes_from/0 takes the mounts"),
            ("volumes_from: [db]", ""),
        ],
        service,
    );
}

#[test]
fn what_stands_beside_services() {
    let beside = |text: &str| format!("services: {{ web: {{ image: nginx }} }}\n{text}\n");
    rows(
        &[
            ("version: '3.8'\nname: shop", ""),
            ("volumes: { data: }", ""),
            ("volumes: { data: { name: other, labels: [a=b] }, ext: { external: true } }", ""),
            ("volumes: { data: { driver: local } }", ""),
            (
                "volumes: { data: { driver: local, driver_opts: { type: none, o: bind, device: /etc } } }",
                "/volumes/data/driver_opts may mount",
            ),
            ("volumes: { data: { driver_opts: { o: '${O}' } } }", "/volumes/data/driver_opts"),
            ("volumes: { data: { driver: sshfs } }", "/volumes/data/driver"),
            ("volumes: { data: { name: /etc } }", "/volumes/data/name may mount"),
            ("volumes: { data: { name: '${N}' } }", "/volumes/data/name"),
            ("volumes: { data: { external: { name: /etc } } }", "/volumes/data/external/name"),
            ("volumes: { x-data: { driver_opts: { o: bind } } }", "/volumes/x-data/driver_opts"),
            ("networks: { a: { internal: true, ipam: { config: [{ subnet: 10.9.0.0/24 }] } } }", ""),
            ("networks: { a: { external: true } }", ""),
            ("networks: { a: { external: true, name: host } }", "/networks/a/name may be the machine's own network"),
            ("networks: { host: { external: true } }", "/networks/host/external"),
            ("networks: { host: {} }", ""),
            ("networks: { a: { external: { name: host } } }", "/networks/a/external"),
            ("networks: { a: { name: '${N}' } }", "/networks/a/name"),
            ("networks: { a: { driver: host } }", "/networks/a/driver"),
            ("networks: { a: { driver: macvlan, driver_opts: { parent: eth0 } } }", "/networks/a/driver"),
            ("networks: { a: { driver_opts: { x: y } } }", "/networks/a/driver_opts"),
            ("configs: { c: { content: hi }, d: { external: true } }", ""),
            ("configs: { c: { file: ./c } }", "/configs/c/file puts a file of the machine"),
            ("secrets: { s: { environment: TOKEN } }", ""),
            ("secrets: { s: { file: /etc/shadow } }", "/secrets/s/file"),
            ("secrets: { s: { driver: vault } }", "/secrets/s/driver"),
            ("include: [other.yml]", "/include brings in another file"),
            ("models: { m: { model: x } }", "/models is not known to be harmless"),
            ("x-top: { privileged: true }", ""),
            // Without `services` above them, these would be services to docker-compose 1.x.
            ("version: { image: nginx, privileged: true }", "/version is not known to be harmless"),
            ("web2: { privileged: true }", "/web2 is not known to be harmless"),
        ],
        beside,
    );
    assert!(raised("services: { x-web: { image: a, privileged: true } }").is_some());
    assert!(raised("services: { web: }").is_some());
    assert!(raised("services: { web: '${WEB}' }").is_some());
}

#[test]
fn anchors_aliases_and_merge_keys_hide_nothing() {
    rows(
        &[
            ("x-a: &a { privileged: true }\nservices: { web: *a }", "/services/web/privileged"),
            ("x-a: &a { privileged: true }\nservices: { web: { <<: *a, image: x } }", "/services/web/privileged"),
            (
                "x-a: &a { privileged: true }\nx-b: &b { <<: *a }\nservices: { web: { <<: *b } }",
                "/services/web/privileged",
            ),
            ("x-a: &a { tty: true }\nx-b: &b { pid: host }\nservices: { web: { <<: [*a, *b] } }", "/services/web/pid"),
            ("x-a: &a { pid: host }\nservices: { web: { image: x, <<: *a } }", "/services/web/pid"),
            ("x-v: &v [/etc:/etc]\nservices: { web: { image: x, volumes: *v } }", "/services/web/volumes/0"),
            ("x-v: &v /etc:/etc\nservices: { web: { image: x, volumes: [*v] } }", "/services/web/volumes/0"),
            ("x-t: &t true\nservices: { web: { privileged: *t } }", "/services/web/privileged"),
            ("services: { a: &a { image: x, cap_add: [ALL] }, b: { <<: *a, cap_add: [] } }", "/services/a/cap_add"),
            // What a mapping says itself wins over what it merges, and of two merged ones the first.
            ("x-a: &a { privileged: true }\nservices: { web: { <<: *a, privileged: false } }", ""),
            ("x-a: &a { pid: '' }\nx-b: &b { pid: host }\nservices: { web: { <<: [*a, *b] } }", ""),
            // The last anchor of a name before an alias is meant.
            ("x-a: &a false\nx-b: &a true\nservices: { web: { privileged: *a } }", "/services/web/privileged"),
            ("x-a: &a true\nx-b: &a false\nservices: { web: { privileged: *a } }", ""),
        ],
        str::to_owned,
    );
}

#[test]
fn several_reasons_are_counted_and_the_first_is_told() {
    let why = raised(&service("privileged: true\npid: host\ncap_add: [ALL]"));
    let expected = "/services/web/privileged gives the container every capability and device, and 2 more";
    assert_eq!(why.as_deref(), Some(expected));
}

#[test]
fn a_file_of_the_machine_is_host_whatever_is_in_it() {
    let args = json!({ "project": "p", "path": "/srv/p/compose.yaml" });
    let plan = test::plan::<Up>(args.clone()).expect("accepted");
    let sentence = "start project p from /srv/p/compose.yaml; host because nobody here sees what is in it";
    assert_eq!((plan.effect, plan.summary.as_str()), (Effect::Host, sentence));
    assert_eq!(test::plan::<Down>(args).expect("accepted").effect, Effect::Host);
}

#[test]
fn taking_down_is_change_unless_data_goes_or_something_unseen_is_read() {
    let down = |more: Value| {
        let mut args = json!({ "project": "p" });
        let object = args.as_object_mut().expect("an object");
        object.extend(more.as_object().cloned().unwrap_or_default());
        test::plan::<Down>(args).expect("accepted").effect
    };
    assert_eq!(down(json!({})), Effect::Change);
    assert_eq!(down(json!({ "remove_orphans": true, "stop_timeout_s": 3 })), Effect::Change);
    assert_eq!(down(json!({ "volumes": true })), Effect::Destroy);
    assert_eq!(down(json!({ "images": "local" })), Effect::Destroy);
    assert_eq!(down(json!({ "file": service("privileged: true") })), Effect::Change);
    assert_eq!(down(json!({ "file": service("env_file: /etc/passwd") })), Effect::Host);
    assert_eq!(down(json!({ "file": service("provider: { type: x }"), "volumes": true })), Effect::Host);
}
