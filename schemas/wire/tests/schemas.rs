//! Holds `schemas/json/wire` against the types, both ways: a field that is on one side only, or is
//! required on one side only, fails here.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use plan::effect::Effect;
use plan::envelope::{Envelope, RunLimits, SignedEnvelope};
use plan::keyring::Turn;
use plan::outcome::{End, Outcome, RejectCause, StepEnd, Stream, StreamEnd};
use plan::secret::KeyText;
use plan::step::{Plan, Step};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use wire::facts::Facts;
use wire::frame::{
    AgentFrame, Cancel, Challenge, Command, Fault, Gone, Goodbye, Have, Hello, HostFrame, NewKey, NextKey, Output,
    Unfinished, Welcome,
};
use wire::join::{Join, Joined};
use wire::sample::{AgentHealth, Container, Disk, Network, Sample, Service, Usage};

const ID: &str = "0193f2a4-7c1e-7abc-8def-0123456789ab";

fn id<T: std::str::FromStr>() -> T {
    ID.parse().ok().expect("an id")
}

fn attempt() -> plan::id::AttemptKey {
    format!("{ID}/1").parse().expect("an attempt key")
}

fn trace() -> Option<String> {
    Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into())
}

fn schema(name: &str) -> Value {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("../json/wire/{name}.json"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Holds one fully populated sample against the schema called `name`.
#[track_caller]
fn agree<T: Serialize + DeserializeOwned>(name: &str, full: &T) {
    let schema = schema(name);
    let validator = jsonschema::draft202012::new(&schema).unwrap_or_else(|error| panic!("{name}: {error}"));
    let value = serde_json::to_value(full).expect("serializes");
    if let Some(error) = validator.iter_errors(&value).next() {
        panic!("{name}: {} at {}", error, error.instance_path());
    }
    let check = |changed: &Value, what: &str| {
        let read = serde_json::from_value::<T>(changed.clone()).is_ok();
        let valid = validator.is_valid(changed);
        assert_eq!(valid, read, "{name}: {what}: the schema says {valid}, the type says {read}");
    };
    walk(name, &schema, &schema, &value, &mut Vec::new(), &mut |path, key, part| {
        let mut without = value.clone();
        let object = at(&mut without, path);
        object.remove(key);
        check(&without, &format!("without `{key}` at /{}", path.join("/")));
        if let Some(text) = part.as_str().filter(|text| text.contains(ID)) {
            let mut loud = value.clone();
            at(&mut loud, path).insert(key.to_owned(), text.to_uppercase().into());
            // The answer to a join is read as text first: its ids are parsed by whoever keeps them.
            if name != "joined" {
                check(&loud, &format!("`{key}` in upper case at /{}", path.join("/")));
            }
            assert!(!validator.is_valid(&loud), "{name}: `{key}` has one form");
        }
        // Nothing here takes null, nor a list where there is something else.
        for wrong in [Value::Null, Value::Array(vec![Value::Bool(true)])] {
            if key != "type" && key != "kind" {
                let mut changed = value.clone();
                at(&mut changed, path).insert(key.to_owned(), wrong);
                let read = serde_json::from_value::<T>(changed.clone()).is_ok();
                let valid = validator.is_valid(&changed);
                assert!(!valid, "{name}: `{key}` is {part} but the schema takes something else");
                // An absent option may be written as null; the schema is the stricter of the two.
                assert!(
                    !read
                        || changed.pointer(&format!("/{}", [path, &[key.to_owned()]].concat().join("/")))
                            == Some(&Value::Null)
                );
            }
        }
    });
}

/// Visits every property of every object in `value`, and checks that schema and value name the same ones.
fn walk(
    name: &str,
    root: &Value,
    schema: &Value,
    value: &Value,
    path: &mut Vec<String>,
    visit: &mut impl FnMut(&[String], &str, &Value),
) {
    let mut schema = schema;
    while let Some(reference) = schema["$ref"].as_str() {
        schema = root.pointer(reference.trim_start_matches('#')).expect("a definition");
    }
    if let Some(kinds) = schema["oneOf"].as_array() {
        let is_it = |kind: &&Value| kind["properties"]["kind"]["const"] == value["kind"];
        schema = kinds.iter().find(is_it).unwrap_or_else(|| panic!("{name}: no kind {}", value["kind"]));
    }
    match value {
        Value::Object(object) => {
            let Some(properties) = schema["properties"].as_object() else { return };
            let said: BTreeSet<&String> = properties.keys().collect();
            let found: BTreeSet<&String> = object.keys().collect();
            assert_eq!(said, found, "{name}: properties at /{}", path.join("/"));
            for (key, part) in object {
                visit(path, key, part);
                path.push(key.clone());
                walk(name, root, &properties[key], part, path, visit);
                path.pop();
            }
        }
        Value::Array(items) => {
            assert!(!items.is_empty(), "{name}: the sample at /{} is not full", path.join("/"));
            for (index, item) in items.iter().enumerate() {
                path.push(index.to_string());
                walk(name, root, &schema["items"], item, path, visit);
                path.pop();
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn at<'a>(value: &'a mut Value, path: &[String]) -> &'a mut Map<String, Value> {
    let pointer: String = path.iter().map(|part| format!("/{part}")).collect();
    value.pointer_mut(&pointer).and_then(Value::as_object_mut).expect("an object")
}

fn strings(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn outcome(end: End) -> Outcome {
    // One step that exited and one that was killed would each lack a field; the sample has both.
    let step = StepEnd { exit_code: Some(1), signal: Some(9), duration_ms: 1, stdout_bytes: 2, stderr_bytes: 3 };
    let stream = StreamEnd { bytes: 3, head: 2, tail: 1, sha256: "0".repeat(64) };
    Outcome { end, steps: vec![step], stdout: stream.clone(), stderr: stream, duration_ms: 4 }
}

#[test]
fn frames_of_the_host_are_as_their_schemas_say() {
    let cancel = Cancel { attempt: attempt(), grace_ms: Some(5000) };
    agree(
        "challenge",
        &HostFrame::Challenge(Challenge {
            nonce: "A".repeat(43),
            cluster_id: id(),
            cluster_epoch: 1,
            epoch_signature: Some("A".repeat(86)),
            keys: vec![Turn { version: 2, key: "A".repeat(43), at_ms: 1, signature: "A".repeat(86) }],
            versions: vec![1],
        }),
    );
    agree("pending", &HostFrame::Pending { message: "m".into() });
    agree(
        "welcome",
        &HostFrame::Welcome(Welcome {
            session_epoch: 1,
            now_ms: 1,
            heartbeat_ms: 1,
            telemetry_ms: 1,
            telemetry_jitter_ms: Some(1),
            max_concurrency: 1,
            send: vec![attempt()],
            cancel: vec![cancel],
            forget: vec![attempt()],
            run: vec![attempt()],
            have: vec![Have { attempt: attempt(), stdout: 1, stderr: 2 }],
        }),
    );
    agree(
        "command",
        &HostFrame::Command(Command {
            attempt: attempt(),
            start_within_ms: 1,
            kill_after_ms: Some(1),
            finish_within_ms: Some(1),
            envelope: SignedEnvelope { signed: "e30".into(), signature: "A".repeat(86) },
            secret_key: Some(KeyText("A".repeat(43))),
            traceparent: trace(),
        }),
    );
    agree("result_ack", &HostFrame::ResultAck { attempt: attempt() });
    agree("rotate_key", &HostFrame::RotateKey);
    agree("certificate", &HostFrame::Certificate { certificate: "c".into() });
    agree("key_ack", &HostFrame::KeyAck { public_key: "A".repeat(43) });
    agree("cancel", &HostFrame::Cancel(cancel));
    agree("error", &HostFrame::Error(Fault { code: "cut".into(), message: "m".into() }));
    agree("goodbye", &HostFrame::Goodbye(Goodbye { reason: "r".into(), retry_after_ms: Some(1) }));
}

#[test]
fn frames_of_the_agent_are_as_their_schemas_say() {
    let facts = Facts {
        version: "0.1.0".into(),
        os: "linux".into(),
        kernel: "6.1".into(),
        arch: "x86_64".into(),
        hostname: "h".into(),
        container_engine: Some("docker 28".into()),
        compose: Some("v1".into()),
        capabilities: strings(&["exec"]),
        labels: BTreeMap::from([("role".into(), "web".into())]),
        boot_id: "b".into(),
    };
    agree(
        "hello",
        &AgentFrame::Hello(Hello {
            protocol: 1,
            agent_id: id(),
            signature: "A".repeat(86),
            facts,
            next_key: Some(NextKey { public_key: "A".repeat(43), signature: "A".repeat(86) }),
            unfinished: vec![Unfinished { attempt: attempt(), started: true }],
            unacknowledged: vec![attempt()],
        }),
    );
    agree("ack", &AgentFrame::Ack { attempt: attempt() });
    agree("started", &AgentFrame::Started { attempt: attempt(), pid: 1, traceparent: trace() });
    for stream in [Stream::Stdout, Stream::Stderr] {
        agree(
            "output",
            &AgentFrame::Output(Output {
                attempt: attempt(),
                stream,
                offset: 9,
                data: "aGk=".into(),
                gone: Some(Gone { from: 3, until: 7 }),
            }),
        );
    }
    let usage = Usage { used_bytes: 1, total_bytes: 2 };
    let sample = Sample {
        at_ms: 1,
        cpu_percent: Some(1.5),
        cores_percent: vec![1.5],
        cpu_limit_cores: Some(1.5),
        load: Some([0.1, 0.2, 0.3]),
        memory: Some(usage),
        swap: Some(usage),
        disks: vec![Disk { mount: "/".into(), usage }],
        networks: vec![Network { interface: "eth0".into(), rx_bytes_per_s: 1.5, tx_bytes_per_s: 1.5 }],
        containers: Some(vec![Container {
            name: "web".into(),
            state: "running".into(),
            health: Some("healthy".into()),
            restarts: Some(1),
            exit_code: Some(1),
            cpu_percent: Some(1.5),
            memory_bytes: Some(1),
        }]),
        services: vec![Service { unit: "nginx.service".into(), state: "active".into() }],
        missing: vec!["services: no systemctl".into()],
        agent: AgentHealth { rss_bytes: 1, attempts: 1, spool_bytes: 1 },
    };
    agree("telemetry", &AgentFrame::Telemetry { sample });
    let new_key = NewKey { public_key: "A".repeat(43), signature: "A".repeat(86), new_signature: "A".repeat(86) };
    agree("new_key", &AgentFrame::NewKey(new_key));
    agree("heartbeat", &AgentFrame::Heartbeat { attempts: 1 });
    agree("error", &AgentFrame::Error(Fault { code: "stale_epoch".into(), message: "m".into() }));
    agree("goodbye", &AgentFrame::Goodbye(Goodbye { reason: "r".into(), retry_after_ms: Some(1) }));
}

#[test]
fn every_kind_of_end_is_as_its_schema_says() {
    let causes = [
        RejectCause::Signature,
        RejectCause::Stale,
        RejectCause::Policy,
        RejectCause::Plan,
        RejectCause::Busy,
        RejectCause::Spawn,
    ];
    let rejected = causes.map(|cause| End::Rejected { cause, message: "m".into() });
    let others = [
        End::Exited,
        End::TimedOut,
        End::Cancelled { started: true },
        End::Expired,
        End::Interrupted { message: "m".into() },
    ];
    for end in rejected.into_iter().chain(others) {
        agree("result", &AgentFrame::Result { attempt: attempt(), outcome: outcome(end), traceparent: trace() });
    }
}

#[test]
fn the_signed_envelope_is_as_its_schema_says() {
    let step = Step {
        program: "docker".into(),
        args: strings(&["ps"]),
        env: BTreeMap::from([("LANG".into(), "C".into())]),
        cwd: Some("/srv".into()),
        stdin: Some("x".into()),
        timeout_ms: Some(1),
    };
    for effect in Effect::ALL {
        agree(
            "envelope",
            &Envelope {
                cluster_id: id(),
                epoch: 1,
                command_id: id(),
                agent_id: id(),
                verb: "docker.ps".into(),
                plugin_digest: "0".repeat(64),
                plan: Plan {
                    steps: vec![step.clone()],
                    effect,
                    locks: strings(&["compose:shop"]),
                    summary: "s".into(),
                },
                limits: RunLimits { run_timeout_ms: 1, output_bytes: 1, grace_ms: 1 },
                not_after_ms: 1,
                max_attempts: 1,
                submitter: "admin".into(),
                secrets: None,
            },
        );
    }
}

#[test]
fn joining_is_as_its_schemas_say() {
    let token = format!("vwj_{}_{}_{}", "0".repeat(32), "a".repeat(64), "b".repeat(16));
    agree("join", &Join { token, name: "web-1".into(), public_key: "A".repeat(43), proof: "A".repeat(86) });
    agree(
        "joined",
        &Joined {
            agent_id: ID.into(),
            cluster_id: ID.into(),
            cluster_key: "A".repeat(43),
            ws_url: "ws://127.0.0.1:9090/ws/agent".into(),
            certificate: Some("-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n".into()),
        },
    );
}
